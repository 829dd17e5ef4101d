"""What the daemon shows over HTTP: /metrics /healthz /readyz /status.

May not: decide anything, or ask a broker while answering; it reads what bridge.observe holds. Loopback unless the
configuration says otherwise. Nothing here changes anything, so there is nothing to protect but the numbers.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from bridge.core.errors import ConfigError
from bridge.observe import Observation


def application(observation: Observation) -> web.Application:
    async def metrics(request: web.Request) -> web.Response:
        body, content_type = observation.exposition(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def healthz(request: web.Request) -> web.Response:
        """Answering at all is the proof: the loop is alive."""
        return web.Response(text="ok\n")

    async def readyz(request: web.Request) -> web.Response:
        """200 while every route is moving or idle; else 503 and why, one line each."""
        reasons = observation.unready()
        return web.Response(text="".join(f"{reason}\n" for reason in reasons) or "ok\n", status=503 if reasons else 200)

    async def status(request: web.Request) -> web.Response:
        return web.json_response(observation.snapshot(), dumps=lambda value: json.dumps(value, indent=2))

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/status", status)
    return app


@asynccontextmanager
async def serve(observation: Observation, host: str, port: int) -> AsyncIterator[str]:
    """Listens on `host` and `port` (0: any free one); yields the URL. Raises ConfigError when it cannot."""
    runner = web.AppRunner(application(observation), access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as error:
            raise ConfigError(
                f"http: cannot listen on {host}:{port}: {error.strerror or error}", hint="set http.port to a free port"
            ) from error
        name = f"[{host}]" if ":" in host else host
        yield f"http://{name}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
