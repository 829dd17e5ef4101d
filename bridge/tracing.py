"""Spans: one for each batch a route publishes, linked to the contexts of its messages, exported over OTLP/HTTP.

Needs the extra: pip install 'nats-sqs-bridge[otel]'. Imported only where the configuration has `tracing`. The exporter
has a thread of its own; when it cannot keep up or reach its collector, spans are dropped and messages are not.
May not: hold up a batch, or let a message be refused for what tracing adds to it.
Source: OpenTelemetry semantic conventions, messaging spans.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags, Tracer

from bridge import __version__
from bridge.core.errors import BridgeError, Refused
from bridge.core.mapping.trace import TraceContext, carried_by, passed_on
from bridge.core.models import Out
from bridge.core.route import Destination, Receipt

PATH = "/v1/traces"
LINKS = 1000  # one for each message of the largest batch; the SDK's own limit is 128
FLUSH = 5.0  # seconds; an unreachable collector must not make every restart take its full time
NAME = "nats-sqs-bridge"


class Sized(Destination, Protocol):
    def fits(self, out: Out) -> bool: ...


@asynccontextmanager
async def tracing(endpoint: str | None, ratio: float | None, within: Callable[[], float]) -> AsyncIterator[Tracing]:
    """Arguments left out are taken from the OTEL_* variables. On exit, spans not exported yet are exported, within
    `within()` seconds and FLUSH at most."""
    limits = SpanLimits() if os.environ.get("OTEL_SPAN_LINK_COUNT_LIMIT") else SpanLimits(max_links=LINKS)
    # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES take precedence.
    own = Resource.create({"service.name": NAME, "service.version": __version__})
    provider = TracerProvider(
        sampler=None if ratio is None else ParentBasedTraceIdRatio(ratio),
        resource=own.merge(OTELResourceDetector().detect()),
        shutdown_on_exit=False,
        span_limits=limits,
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=_url(endpoint))))
    try:
        yield Tracing(provider.get_tracer(NAME, __version__))
    finally:
        await _flushed(provider, min(FLUSH, within()))


def _url(endpoint: str | None) -> str | None:
    """As OTEL_EXPORTER_OTLP_ENDPOINT: the path is added to a URL that has none."""
    if endpoint is None or urlsplit(endpoint).path not in ("", "/"):
        return endpoint
    return endpoint.rstrip("/") + PATH


async def _flushed(provider: TracerProvider, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    def flush() -> None:
        provider.shutdown()
        with suppress(RuntimeError):  # the loop may be closed by then
            loop.call_soon_threadsafe(done.set)

    # A thread that is not joined: a collector that does not answer must not keep the process running.
    threading.Thread(target=flush, name="flush spans", daemon=True).start()
    with suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, seconds)):
            await done.wait()


@dataclass(frozen=True, slots=True)
class Tracing:
    """Puts a span around the destination of a route."""

    tracer: Tracer

    def around(self, inner: Sized, *, route: str, system: str, to: str, enveloped: bool = False) -> Traced:
        """`system` as the semantic conventions call it; `to` is a queue, a topic or a subject, `*` for what is filled
        in."""
        where = "template" if "*" in to else "name"
        facts = {
            "messaging.system": system,
            f"messaging.destination.{where}": to,
            "messaging.operation.name": "send",
            "messaging.operation.type": "send",
            "nats_sqs_bridge.route": route,
        }
        return Traced(inner, self.tracer, f"send {to}", facts, enveloped=enveloped)


class Traced:
    """A Destination in front of another: a span for each batch, and its context for messages that have none."""

    def __init__(
        self, inner: Sized, tracer: Tracer, name: str, facts: dict[str, str], *, enveloped: bool = False
    ) -> None:
        self._inner = inner
        self._tracer = tracer
        self._name = name
        self._facts = facts
        self._enveloped = enveloped

    def fits(self, out: Out) -> bool:
        return self._inner.fits(out)

    async def close(self) -> None:
        await self._inner.close()

    async def publish(self, messages: Sequence[Out]) -> Sequence[Receipt | BridgeError]:
        contexts = [context for out in messages if (context := carried_by(out).context) is not None]
        facts: dict[str, Any] = {**self._facts, "messaging.batch.message_count": len(messages)}
        links = [Link(_remote(context)) for context in dict.fromkeys(contexts)]
        # A root of its own: a batch has as many parents as messages, and links can represent several.
        span = self._tracer.start_span(self._name, Context(), kind=SpanKind.PRODUCER, links=links, attributes=facts)
        try:
            answers = await self._publish(messages, span)
        except BridgeError as error:
            _failed(span, error, len(messages))
            raise
        finally:
            span.end()
        return answers

    async def _publish(self, messages: Sequence[Out], span: Span) -> Sequence[Receipt | BridgeError]:
        hop = _context(span)
        if hop is None:  # OTEL_SDK_DISABLED
            return await self._inner.publish(messages)
        outs = [passed_on(out, hop, enveloped=self._enveloped) for out in messages]
        answers = list(await self._inner.publish(outs))
        # The added bytes may exceed a limit: what was refused is sent again unchanged.
        again = [
            place
            for place, answer in enumerate(answers)
            if isinstance(answer, Refused) and outs[place] is not messages[place]
        ]
        if again:
            plain = await self._inner.publish([messages[place] for place in again])
            for place, answer in zip(again, plain, strict=True):
                answers[place] = answer
        if errors := [answer for answer in answers if isinstance(answer, BridgeError)]:
            _failed(span, errors[0], len(errors))
        if hop.sampled:
            return [
                Receipt(answer.ref, answer.duplicate, hop.trace_id) if isinstance(answer, Receipt) else answer
                for answer in answers
            ]
        return answers


def _failed(span: Span, error: BridgeError, count: int) -> None:
    span.set_attribute("error.type", type(error).__name__)
    span.set_attribute("nats_sqs_bridge.failed_message_count", count)
    span.set_status(Status(StatusCode.ERROR, str(error)))


def _context(span: Span) -> TraceContext | None:
    found = span.get_span_context()
    if not found.is_valid:
        return None
    return TraceContext(f"{found.trace_id:032x}", f"{found.span_id:016x}", found.trace_flags.sampled)


def _remote(context: TraceContext) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED if context.sampled else TraceFlags.DEFAULT)
    return SpanContext(int(context.trace_id, 16), int(context.span_id, 16), is_remote=True, trace_flags=flags)
