"""The span around a batch, and what metrics make of it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import NoOpTracer, SpanKind, StatusCode
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from bridge.core.errors import BridgeError, Refused, Unavailable
from bridge.core.models import JetStreamOut, Out
from bridge.core.route import Delivery, Receipt
from bridge.legs.memory import Fault, MemoryDestination
from bridge.observe import Observation
from bridge.tracing import Traced, Tracing
from tests.test_pump import message

OWN = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"
AWS = f"Root=1-{'3' * 8}-{'3' * 24};Parent={'4' * 16};Sampled=1"


class Inner(MemoryDestination):
    """Takes what has a traceparent only where `roomy`; `down`: takes nothing."""

    def __init__(self, fault: Fault | None = None) -> None:
        super().__init__(fault)
        self.down: BridgeError | None = None

    def fits(self, out: Out) -> bool:
        return True

    async def publish(self, messages: Sequence[Out]) -> Sequence[Receipt | BridgeError]:
        if self.down is not None:
            raise self.down
        return await super().publish(messages)


class Scene:
    def __init__(self, inner: Inner, *, sampled: bool = True) -> None:
        self._memory = InMemorySpanExporter()
        provider = TracerProvider(sampler=None if sampled else ALWAYS_OFF, shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._memory))
        tracing = Tracing(provider.get_tracer("test"))
        self.traced: Traced = tracing.around(inner, route="in", system="nats", to="orders.*")

    def span(self) -> ReadableSpan:
        (span,) = self._memory.get_finished_spans()
        return span

    def spans(self) -> int:
        return len(self._memory.get_finished_spans())


def outs(*headers: dict[str, str]) -> list[Out]:
    return [JetStreamOut("orders.a", b"x", f"id{at}", each) for at, each in enumerate(headers)]


async def test_a_span_shows_a_batch_and_links_to_each_message() -> None:
    inner = Inner()
    scene = Scene(inner)
    answers = await scene.traced.publish(outs({"traceparent": OWN}, {"X-Amzn-Trace-Id": AWS}, {}, {}))
    span = scene.span()
    assert (span.name, span.kind, span.status.status_code) == ("send orders.*", SpanKind.PRODUCER, StatusCode.UNSET)
    assert dict(span.attributes or {}) == {
        "messaging.system": "nats",
        "messaging.destination.template": "orders.*",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.batch.message_count": 4,
        "nats_sqs_bridge.route": "in",
    }
    assert {f"{link.context.trace_id:032x}" for link in span.links} == {"1" * 32, "3" * 32}
    assert span.parent is None
    assert span.context is not None
    trace = f"{span.context.trace_id:032x}"
    hop = f"00-{trace}-{span.context.span_id:016x}-01"
    sent = [out.headers["traceparent"] for out in inner.kept if isinstance(out, JetStreamOut)]
    assert sent == [OWN, f"00-{'3' * 32}-{'4' * 16}-01", hop, hop]
    assert all(isinstance(answer, Receipt) and answer.trace == trace for answer in answers)


async def test_a_failure_is_the_span_s_too() -> None:
    inner = Inner(lambda out, tries: Unavailable("the stream is full"))
    scene = Scene(inner)
    answers = await scene.traced.publish(outs({}, {}))
    assert all(isinstance(answer, Unavailable) for answer in answers)
    span = scene.span()
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "the stream is full"
    assert span.attributes is not None
    assert (span.attributes["error.type"], span.attributes["nats_sqs_bridge.failed_message_count"]) == (
        "Unavailable",
        2,
    )


async def test_a_batch_that_raises_ends_its_span_and_raises() -> None:
    inner = Inner()
    inner.down = Unavailable("no server")
    scene = Scene(inner)
    with pytest.raises(Unavailable):
        await scene.traced.publish(outs({}))
    assert scene.span().status.status_code is StatusCode.ERROR


async def test_what_is_refused_with_a_context_is_sent_as_it_came() -> None:
    """A few bytes more may be too many; tracing must park nothing."""

    def full(out: Out, tries: int) -> BridgeError | None:
        assert isinstance(out, JetStreamOut)
        return Refused("too large") if "traceparent" in out.headers and out.msg_id == "id1" else None

    inner = Inner(full)
    scene = Scene(inner)
    answers = await scene.traced.publish(outs({}, {}, {}))
    assert all(isinstance(answer, Receipt) for answer in answers)
    plain = [out.msg_id for out in inner.kept if isinstance(out, JetStreamOut) and "traceparent" not in out.headers]
    assert plain == ["id1"]
    assert scene.span().status.status_code is StatusCode.UNSET


async def test_what_is_refused_for_its_own_sake_stays_refused() -> None:
    inner = Inner(lambda out, tries: Refused("too large"))
    (answer,) = await Scene(inner).traced.publish(outs({"traceparent": OWN}))
    assert isinstance(answer, Refused)
    assert inner.calls == 1


async def test_a_trace_no_one_samples_is_passed_on_as_such_and_is_no_exemplar() -> None:
    inner = Inner()
    scene = Scene(inner, sampled=False)
    (answer,) = await scene.traced.publish(outs({}))
    assert scene.spans() == 0
    assert isinstance(answer, Receipt)
    assert answer.trace == ""
    (sent,) = inner.kept
    assert isinstance(sent, JetStreamOut)
    assert sent.headers["traceparent"].endswith("-00")


async def test_a_disabled_sdk_changes_no_message() -> None:
    """OTEL_SDK_DISABLED gives a tracer like this one."""
    inner = Inner()
    traced = Tracing(NoOpTracer()).around(inner, route="in", system="nats", to="orders")
    await traced.publish(outs({}, {"X-Amzn-Trace-Id": AWS}))
    assert inner.kept == outs({}, {"X-Amzn-Trace-Id": AWS})


@pytest.mark.parametrize("accept", ["application/openmetrics-text;version=1.0.0,text/plain;q=0.5", "text/plain", ""])
def test_exemplars_are_reported_to_who_understands_them(accept: str) -> None:
    observation = Observation()
    route = observation.route("r")
    delivery = Delivery(message("m"), "m", 1, time.time() - 2.0, time.monotonic())
    route.carried([(delivery, Receipt("1", trace="a" * 32))])
    body, content_type = observation.exposition(accept)
    text = body.decode()
    assert 'nats_sqs_bridge_messages_total{outcome="carried",route="r"} 1.0' in text
    if "openmetrics" not in accept:
        assert content_type == "text/plain; version=0.0.4; charset=utf-8"
        assert "trace_id" not in text
        return
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    parsed = text_string_to_metric_families(text)  # type: ignore[no-untyped-call]  # it has no annotations
    families = {family.name: family for family in parsed}
    for name in ("transit", "publish"):
        samples = families[f"nats_sqs_bridge_{name}_seconds"].samples
        exemplars = [sample.exemplar for sample in samples if sample.exemplar is not None]
        assert [exemplar.labels for exemplar in exemplars] == [{"trace_id": "a" * 32}]


def test_without_tracing_nothing_of_it_is_imported() -> None:
    """All that the daemon imports; tests/system/test_tracing.py asks a daemon that has run."""
    code = (
        "import sys, bridge.daemon, bridge.verbs.run, bridge.verbs.check, bridge.verbs.parked\n"
        "print([name for name in sys.modules if name.startswith(('opentelemetry', 'google', 'bridge.tracing'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "[]\n", done.stderr
