"""An OTLP/HTTP collector as a test needs one: decodes what it is sent with the protocol's own schema, and keeps it."""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


class Collector:
    """Runs in a thread of its own. `silent`: it takes connections and never answers."""

    def __init__(self, *, silent: bool = False) -> None:
        self.silent = silent
        self.asked = 0
        self.spans: list[Any] = []
        self.resource: dict[str, str] = {}
        self.headers: dict[str, str] = {}
        self.url = ""
        self._ready = threading.Event()
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def of(self, route: str) -> list[Any]:
        """The spans of one route."""
        return [span for span in self.spans if facts(span)["nats_sqs_bridge.route"] == route]

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()

        async def traces(request: web.Request) -> web.Response:
            self.asked += 1
            if self.silent:
                assert self._stop is not None
                await self._stop.wait()
            sent = ExportTraceServiceRequest.FromString(await request.read())
            self.headers = dict(request.headers)
            for each in sent.resource_spans:
                self.resource = {pair.key: pair.value.string_value for pair in each.resource.attributes}
                for scope in each.scope_spans:
                    self.spans += scope.spans
            return web.Response(
                body=ExportTraceServiceResponse().SerializeToString(), content_type="application/x-protobuf"
            )

        app = web.Application()
        app.router.add_post("/v1/traces", traces)
        runner = web.AppRunner(app, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()


def facts(span: Any) -> dict[str, Any]:
    """Its attributes."""
    return {pair.key: pair.value.string_value or pair.value.int_value for pair in span.attributes}
