"""What happened on one route, one method per event: log line, metric and snapshot together, so that they agree.

May not: decide, wait, or write a payload, an attribute's value or a secret anywhere.
"""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bridge.core.errors import BridgeError
from bridge.core.route import Backlog, Delivery, Receipt, Skip
from bridge.observe.heartbeat import Heartbeats
from bridge.observe.logs import Repeats
from bridge.observe.metrics import Metrics

State = Literal["starting", "running", "holding", "down", "draining", "stopped"]
OUTCOMES = (
    "carried",
    "duplicate",
    "retried",
    "parked",
    "rejected",
    "filtered",
    "echo",
    "heartbeat",
    "heartbeat_failed",
)
FAILURES_KEPT = 20
GRACE_SECONDS = 5.0  # how long a route may be in trouble before /readyz says so


@dataclass(slots=True)
class _Trouble:
    """What stands in the way on one side of a route, and since when (monotonic)."""

    error: str
    since: float


class RouteObservation:
    """The pump's Observer for one route, and what the daemon says of the route."""

    def __init__(self, name: str, log: Any, metrics: Metrics) -> None:
        self.name = name
        self.log: Any = log.bind(route=name)
        self.state: State = "starting"
        self.source = self.destination = ""
        self.backlog: Backlog | None = None
        self.on_loan = 0
        self.counts: Tally[str] = Tally()
        self.last_carried: float | None = None
        self.blocking: dict[str, str] = {}
        self.failures: deque[Mapping[str, Any]] = deque(maxlen=FAILURES_KEPT)
        self._trouble: dict[str, _Trouble] = {"open": _Trouble("not opened yet", time.monotonic())}
        self._repeats = Repeats()
        self._outcomes = {outcome: metrics.messages.labels(name, outcome) for outcome in OUTCOMES}
        self._in_flight = metrics.in_flight.labels(name)
        self._transit = metrics.transit.labels(name)
        self._publish = metrics.publish.labels(name)
        self._pending = metrics.pending.labels(name)
        self._up = metrics.up.labels(name)
        self._blocked = metrics.blocked.labels(name)
        self._settle_failures = metrics.settle_failures.labels(name)
        self._pending.set(float("nan"))
        self._up.set(0)
        self.heartbeats = Heartbeats(name, self.log, metrics, lambda: self.state in ("running", "holding"))

    # -- the daemon's events

    def opened(self, source: str, destination: str) -> None:
        self.source, self.destination = source, destination
        self._clear("open")
        self.log.info("route_up", source=source, destination=destination)

    def not_open(self, error: BridgeError, after: float) -> None:
        self._in_trouble("open", error, "route_down", again_in=round(after, 1))

    def sampled(self, backlog: Backlog) -> None:
        self.backlog = backlog
        self._pending.set(backlog.pending)

    def not_sampled(self, error: BridgeError) -> None:
        self.backlog = None
        self._pending.set(float("nan"))  # unknown is a value, never zero
        if self._repeats.first("sample"):
            self.log.warning("backlog_unknown", error=str(error))

    def draining(self) -> None:
        self.state = "draining"

    def stopped(self) -> None:
        self.state = "stopped"
        self._up.set(0)
        self.log.info("route_stopped", **self.counts)

    # -- the pump's events

    def received(self, deliveries: Sequence[Delivery]) -> None:
        self._clear("source")
        if deliveries:
            self.log.debug("received", count=len(deliveries))

    def receive_failed(self, error: BridgeError, after: float) -> None:
        self._in_trouble("source", error, "receive_failed", again_in=round(after, 1))

    def carried(self, carried: Sequence[tuple[Delivery, Receipt]]) -> None:
        now, now_monotonic = time.time(), time.monotonic()
        duplicates = 0
        messages = self.heartbeats.without_canaries(carried)
        for delivery, receipt in messages:
            duplicates += receipt.duplicate
            exemplar = {"trace_id": receipt.trace} if receipt.trace else None
            self._transit.observe(max(0.0, now - delivery.sent_at), exemplar)
            self._publish.observe(now_monotonic - delivery.received_at, exemplar)
        self._count("carried", len(messages) - duplicates)
        self._count("duplicate", duplicates)
        self._count("heartbeat", len(carried) - len(messages))
        if messages:
            self.last_carried = now
        if self.blocking:
            self._unblocked(delivery for delivery, _ in carried)
        self._clear("destination")
        self.log.debug("carried", count=len(carried), duplicates=duplicates)

    def held(self, deliveries: Sequence[Delivery], error: BridgeError, after: float) -> None:
        self._count("retried", len(deliveries))
        self._in_trouble(
            "destination", error, "held", messages=len(deliveries), id=deliveries[0].id, again_in=round(after, 1)
        )

    def skipped(self, delivery: Delivery, skip: Skip) -> None:
        self._count(skip.why, 1)
        self.log.debug("skipped", id=delivery.id, why=skip.why)

    def handed_back(self, delivery: Delivery, error: BridgeError, after: float) -> None:
        self._count("retried", 1)
        self._keep("handed_back", delivery, error)
        self.log.warning(
            "handed_back", id=delivery.id, attempt=delivery.attempt, error=str(error), after=round(after, 1)
        )

    def parked(self, delivery: Delivery, reason: BridgeError, receipt: Receipt) -> None:
        self._count("parked", 1)
        self._keep("parked", delivery, reason)
        self.log.warning("parked", id=delivery.id, attempt=delivery.attempt, reason=str(reason), at=receipt.ref)

    def rejected(self, delivery: Delivery, reason: BridgeError, after: float) -> None:
        self._count("rejected", 1)
        self._keep("rejected", delivery, reason)
        self.log.error(
            "rejected",
            id=delivery.id,
            attempt=delivery.attempt,
            reason=str(reason),
            again_in=round(after, 1),
            advice="left to the source's own redrive policy; set `parking` on the route to keep it with its reason",
        )

    def blocked(self, delivery: Delivery, reason: BridgeError, after: float) -> None:
        if delivery.id not in self.blocking:
            self._keep("blocked", delivery, reason)
            self.log.error(
                "blocked",
                id=delivery.id,
                reason=str(reason),
                again_in=round(after, 1),
                meaning="its group waits behind it; set `cannot_carry: park` on the route to go on",
            )
        self.blocking[delivery.id] = str(reason)
        self._blocked.set(len(self.blocking))

    def _unblocked(self, deliveries: Iterable[Delivery]) -> None:
        for delivery in deliveries:
            self.blocking.pop(delivery.id, None)
        self._blocked.set(len(self.blocking))

    def heartbeat_failed(self, delivery: Delivery, reason: BridgeError) -> None:
        self._count("heartbeat_failed", 1)
        self.heartbeats.dropped(delivery, reason)

    def unsettled(self, delivery: Delivery, error: BridgeError) -> None:
        self._settle_failures.inc()
        self._keep("unsettled", delivery, error)
        if self._repeats.first("unsettled"):
            self.log.warning("unsettled", id=delivery.id, error=str(error), meaning="the source may lend it again")

    def released(self, deliveries: Sequence[Delivery]) -> None:
        if deliveries:
            self._unblocked(deliveries)
            self.log.info("released", count=len(deliveries))

    def in_flight(self, count: int) -> None:
        self.on_loan = count
        self._in_flight.set(count)

    # -- what it makes of them

    def unready(self) -> str | None:
        """Why the route is neither moving nor idle, or None."""
        for side, trouble in self._trouble.items():
            if side == "open" or time.monotonic() - trouble.since > GRACE_SECONDS:
                return trouble.error
        return None

    def snapshot(self) -> dict[str, Any]:
        backlog = self.backlog
        return {
            "state": self.state,
            "source": self.source,
            "destination": self.destination,
            "trouble": [trouble.error for trouble in self._trouble.values()],
            "source_pending_messages": backlog.pending if backlog else None,
            "source_in_flight_messages": backlog.in_flight if backlog else None,
            "source_delayed_messages": backlog.delayed if backlog else None,
            "in_flight_messages": self.on_loan,
            "messages": {outcome: self.counts[outcome] for outcome in OUTCOMES},
            "last_carried": self.last_carried,
            "blocked": dict(self.blocking),
            "heartbeat": self.heartbeats.snapshot(),
            "failures": list(self.failures),
        }

    def _count(self, outcome: str, count: int) -> None:
        if count:
            self.counts[outcome] += count
            self._outcomes[outcome].inc(count)

    def _keep(self, what: str, delivery: Delivery, error: BridgeError) -> None:
        self.failures.append({"at": time.time(), "what": what, "id": delivery.id, "error": str(error)})

    def _clear(self, side: str) -> None:
        if self._trouble.pop(side, None) and side != "open":
            self.log.info("recovered", side=side)
        if not self._trouble and self.state in ("starting", "holding", "down"):
            self.state = "running"
            self._up.set(1)

    def _in_trouble(self, side: str, error: BridgeError, event: str, **facts: Any) -> None:
        known = self._trouble.get(side)
        self._trouble[side] = _Trouble(str(error), known.since if known else time.monotonic())
        if self.state not in ("draining", "stopped"):
            self.state = "down" if side == "open" else "holding"
        self._up.set(0)
        if self._repeats.first(f"{event}:{type(error).__name__}"):
            self.log.warning(event, error=str(error), **facts)
