# Two stages: the first installs, the second only runs. Nothing is written at run time, so --read-only works.
FROM python:3.13-slim AS build
WORKDIR /src
RUN python -m venv --without-pip /opt/bridge
COPY requirements/run.txt requirements/run.txt
RUN pip --python /opt/bridge install --no-cache-dir --require-hashes -r requirements/run.txt
COPY pyproject.toml README.md LICENSE ./
COPY bridge bridge
RUN pip --python /opt/bridge install --no-cache-dir --no-deps . \
    && /opt/bridge/bin/python -m compileall -q /opt/bridge/lib

FROM python:3.13-slim
COPY --from=build /opt/bridge /opt/bridge
ENV PATH=/opt/bridge/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /etc/nats-sqs-bridge
USER 65532:65532
EXPOSE 9108
# HTTP is on loopback unless BRIDGE_HTTP__HOST opens it; the check asks from inside. Another port than 9108 is set with
# BRIDGE_HTTP__PORT, not in the file, for the check cannot read the file.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["python", "-c", \
    "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ.get(\"BRIDGE_HTTP__PORT\", 9108)}/healthz', timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["nats-sqs-bridge"]
CMD ["run", "--config", "/etc/nats-sqs-bridge/bridge.yaml"]
