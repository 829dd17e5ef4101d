"""Spans and exemplars from the real daemon, as a real collector and a real scrape get them."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from bridge.core.mapping.trace import TraceContext, from_w3c
from tests.legs.aws_world import World
from tests.system.collector import Collector, facts
from tests.system.process import Bridge, until
from tests.system.world import Aws, Nats

pytestmark = pytest.mark.server

OURS = TraceContext("1" * 32, "2" * 16, sampled=True)
THEIRS = TraceContext("5759e988bd862e3fe1be46a994272793", "53995c3f42cd8ad8", sampled=True)


def routes(name: str) -> list[dict[str, Any]]:
    return [
        {
            "name": "in",
            "source": {"kind": "sqs", "queue": name, "wait_seconds": 1},
            "destination": {"kind": "jetstream", "subject": f"{name}.in.{{queue}}"},
        },
        {
            "name": "back",
            "source": {"kind": "jetstream", "stream": f"{name}b", "consumer": "back"},
            "destination": {"kind": "sqs", "queue": f"{name}-legacy"},
        },
    ]


def send(aws: Aws, url: str) -> None:
    """One message with each form of context, and one with none."""

    async def work(found: World) -> None:
        w3c = {"traceparent": {"DataType": "String", "StringValue": OURS.w3c()}}
        header = {"AWSTraceHeader": {"DataType": "String", "StringValue": THEIRS.aws()}}
        await found.sqs.send_message(QueueUrl=url, MessageBody="w3c", MessageAttributes=w3c)
        await found.sqs.send_message(QueueUrl=url, MessageBody="aws", MessageSystemAttributes=header)
        await found.sqs.send_message(QueueUrl=url, MessageBody="none")

    aws.do(work)


def linked(spans: list[Any]) -> set[tuple[str, str]]:
    return {(link.trace_id.hex(), link.span_id.hex()) for span in spans for link in span.links}


def hops(spans: list[Any]) -> set[str]:
    return {f"00-{span.trace_id.hex()}-{span.span_id.hex()}-01" for span in spans}


def test_each_hop_is_a_span_linked_to_the_messages_and_passed_on(
    tmp_path: Path, aws: Aws, nats: Nats, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "payments-bridge")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-api-key=s3cret")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    url, legacy = aws.queue(name), aws.queue(f"{name}-legacy")
    nats.stream(name, f"{name}.in.>")
    nats.stream(f"{name}b", f"{name}.back.>")
    nats.consumer(f"{name}b", "back")
    with (
        Collector() as collector,
        Bridge(tmp_path, routes(name), nats=nats.url, aws=aws.url, tracing={"endpoint": collector.url}) as bridge,
    ):
        send(aws, url)
        nats.publish(f"{name}.back.x", ["w3c"], {"traceparent": OURS.w3c()})
        nats.publish(f"{name}.back.x", ["aws"], {"X-Amzn-Trace-Id": THEIRS.aws()})
        nats.publish(f"{name}.back.x", ["none"])
        until(lambda: bridge.count("in", "carried") == 3 and bridge.count("back", "carried") == 3, "all are carried")
        exposed = scraped(bridge)
        bridge.terminate()
        assert bridge.exit_code() == 0
        spans = {route: collector.of(route) for route in ("in", "back")}  # flushed before the process ended
        assert collector.resource["service.name"] == "payments-bridge"
        assert collector.resource["deployment.environment.name"] == "test"
        assert collector.resource["service.version"]
        assert collector.headers["x-api-key"] == "s3cret"
    assert "s3cret" not in bridge.log.read_text()
    for found in spans.values():
        assert sum(facts(span)["messaging.batch.message_count"] for span in found) == 3
        assert linked(found) == {(each.trace_id, each.span_id) for each in (OURS, THEIRS)}
        assert {span.status.code for span in found} == {0}
    assert {(span.name, facts(span)["messaging.system"]) for span in spans["in"]} == {(f"send {name}.in.*", "nats")}
    assert {span.name for span in spans["back"]} == {f"send {name}-legacy"}
    headers = [nats.headers(name, sequence) for sequence in (1, 2, 3)]
    arrived = {each["traceparent"] for each in headers}
    assert arrived - hops(spans["in"]) == {OURS.w3c(), THEIRS.w3c()}
    assert len(arrived) == 3
    assert THEIRS.aws() in [each.get("X-Amzn-Trace-Id") for each in headers]
    seen = {each["Body"]: each for each in aws.drain(legacy, 3)}
    contexts = {body: each["MessageAttributes"]["traceparent"]["StringValue"] for body, each in seen.items()}
    assert (contexts["w3c"], contexts["aws"]) == (OURS.w3c(), THEIRS.w3c())
    assert contexts["none"] in hops(spans["back"])
    traces = {span.trace_id.hex() for found in spans.values() for span in found}
    assert exposed
    assert exposed <= traces


def scraped(bridge: Bridge) -> set[str]:
    """The trace ids in the exemplars, as a Prometheus that understands OpenMetrics gets them."""
    asked = urllib.request.Request(
        f"http://127.0.0.1:{bridge.port}/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0"}
    )
    with urllib.request.urlopen(asked, timeout=5) as answer:
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
        text = answer.read().decode()
    families = text_string_to_metric_families(text)  # type: ignore[no-untyped-call]  # it has no annotations
    return {
        sample.exemplar.labels["trace_id"]
        for family in families
        for sample in family.samples
        if sample.exemplar is not None
    }


def test_a_collector_that_never_answers_holds_up_nothing(tmp_path: Path, aws: Aws, nats: Nats, name: str) -> None:
    url = aws.queue(name)
    nats.stream(name, f"{name}.in.>")
    with (
        Collector(silent=True) as collector,
        Bridge(
            tmp_path,
            routes(name)[:1],
            nats=nats.url,
            aws=aws.url,
            tracing={"endpoint": collector.url},
            shutdown_timeout=8,
        ) as bridge,
    ):
        aws.send(url, [f"m{n}" for n in range(30)])
        until(lambda: bridge.count("in", "carried") == 30, "all are carried")
        until(lambda: collector.asked, "a span is on its way")
        aws.send(url, [f"n{n}" for n in range(30)])
        until(lambda: bridge.count("in", "carried") == 60, "and those after it")
        began = time.monotonic()
        bridge.terminate()
        assert bridge.exit_code() == 0
        assert time.monotonic() - began < 12  # the deadline of 8 s, and a slow machine


def test_without_tracing_messages_are_as_they_were_and_nothing_is_imported(
    tmp_path: Path, aws: Aws, nats: Nats, name: str
) -> None:
    url = aws.queue(name)
    nats.stream(name, f"{name}.in.>")
    bridge = Bridge(tmp_path, routes(name)[:1], nats=nats.url, aws=aws.url)
    code = (
        "import sys\nfrom pathlib import Path\nfrom bridge.verbs.run import run\n"
        f"code = run(Path({str(bridge.config)!r}), {{}})\n"
        "print(code, [name for name in sys.modules if name.startswith(('opentelemetry', 'bridge.tracing'))])"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        send(aws, url)
        until(lambda: bridge.count("in", "carried") == 3, "all are carried")
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=60)
    assert said == b"0 []\n"
    contexts = [nats.headers(name, sequence).get("traceparent") for sequence in (1, 2, 3)]
    assert sorted(filter(None, contexts)) == [OURS.w3c()]
    assert from_w3c(OURS.w3c()) == OURS
