"""What happened on one route, one method per event: log line, metric and snapshot together, so that they agree.

May not: decide, wait, or write a payload, an attribute's value or a secret anywhere.
"""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Literal

from bridge.core.errors import BridgeError, Unavailable
from bridge.core.lag import Judgement, Track
from bridge.core.route import Backlog, Delivery, Receipt, Skip
from bridge.observe.logs import Repeats
from bridge.observe.metrics import Metrics
from bridge.observe.place import PlaceObservation

State = Literal["starting", "running", "holding", "down", "draining", "stopped"]
OUTCOMES = ("carried", "duplicate", "retried", "parked", "rejected", "filtered", "echo")
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
        self.connection = ""
        self.own: PlaceObservation | None = None
        self.watched: dict[tuple[str, str, str], PlaceObservation] = {}
        self.last_received = time.monotonic()
        self.heals = 0
        self._healed = 0.0
        self._leases_lost = 0
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
        self._metrics = metrics
        self._up = metrics.up.labels(name)
        self._blocked = metrics.blocked.labels(name)
        self._settle_failures = metrics.settle_failures.labels(name)
        self._heals = metrics.heals.labels(name)
        self._leases = metrics.leases_lost.labels(name)
        self._pending.set(float("nan"))
        self._up.set(0)

    # -- the daemon's events

    def opened(
        self, source: str, destination: str, *, every: float = 5.0, exact: bool = True, retention: float = inf
    ) -> None:
        """`source` and `destination` are `system name`; the rest is about the source, as in core/lag.py's Track."""
        self.source, self.destination = source, destination
        system, _, place = source.partition(" ")
        if self.own is None or self.own.name != place:
            if self.own is not None:
                self.own.forget()
            self.own = PlaceObservation(
                self.name, "bridge", "sqs" if system == "sqs" else "jetstream", place, self._metrics
            )
        self.own.track.every, self.own.track.exact = every, exact
        self.own.track.retention, self.own.track.finishing = retention, "carried"
        self._clear("open")
        self.log.info("route_up", source=source, destination=destination)

    def not_open(self, error: BridgeError, after: float) -> None:
        self._in_trouble("open", error, "route_down", again_in=round(after, 1))

    def sampled(self, backlog: Backlog) -> None:
        """The route's own source was looked at."""
        assert self.own is not None
        self._pending.set(backlog.pending)
        if backlog.leases_lost > self._leases_lost:
            self._leases.inc(backlog.leases_lost - self._leases_lost)
            self.log.warning("leases_lost", count=backlog.leases_lost - self._leases_lost, meaning="they come again")
        self._leases_lost = backlog.leases_lost
        # What was finished is known better here than there, and so is whether anything was.
        self.own.looked(replace(backlog, done=self.finished, active_at=None))

    def not_sampled(self, error: BridgeError) -> None:
        self._pending.set(float("nan"))  # unknown is a value, never zero
        if self.own is not None:
            self.own.not_looked(str(error))
        if self._repeats.first("sample"):
            self.log.warning("backlog_unknown", error=str(error))

    def watches(
        self, side: str, system: Literal["sqs", "jetstream"], before: Iterable[str], seen: Mapping[str, Track]
    ) -> None:
        """The places there are now, by name, each with a fresh track; those there were `before` keep theirs, or go."""
        for name in before:
            if name not in seen and (gone := self.watched.pop((side, system, name), None)):
                gone.forget()
        for name, track in seen.items():
            key = (side, system, name)
            if key not in self.watched:
                self.watched[key] = PlaceObservation(self.name, side, system, name, self._metrics, track)

    def deaf(self, patience: float) -> bool:
        """Whether messages have been waiting for `patience` seconds, and none arrived though nothing is in the way.
        Each time nobody could mend it, patience doubles."""
        backlog = self.own.track.backlog if self.own is not None else None
        if backlog is None or not backlog.pending or self.on_loan or self.state != "running" or self._trouble:
            return False
        assert self.own is not None
        quiet = min(time.monotonic() - self.last_received, time.time() - self.own.track.idle_since)
        return quiet > patience and time.monotonic() - self._healed > patience * 2 ** min(self.heals, 6)

    def healed(self) -> None:
        """The route listens anew."""
        self.heals += 1
        self._healed = time.monotonic()
        self._heals.inc()
        self.log.warning(
            "listening_anew",
            quiet_seconds=round(time.monotonic() - self.last_received, 1),
            meaning="messages wait at the source and none arrived; subscriptions and connections are made anew",
        )

    def connected(self) -> None:
        self._clear("nats")

    def disconnected(self, detail: str) -> None:
        self._in_trouble("nats", Unavailable(f"NATS is not connected: {detail or 'no server answers'}"), "disconnected")

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
            self.last_received = time.monotonic()
            self.heals = 0
            self.log.debug("received", count=len(deliveries))

    def receive_failed(self, error: BridgeError, after: float) -> None:
        self._in_trouble("source", error, "receive_failed", again_in=round(after, 1))

    def carried(self, carried: Sequence[tuple[Delivery, Receipt]]) -> None:
        now, now_monotonic = time.time(), time.monotonic()
        duplicates = sum([receipt.duplicate for _, receipt in carried])
        self._transit.observe([max(0.0, now - delivery.sent_at) for delivery, _ in carried])
        self._publish.observe([now_monotonic - delivery.received_at for delivery, _ in carried])
        self._count("carried", len(carried) - duplicates)
        self._count("duplicate", duplicates)
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
        if trouble := self._standing():
            return trouble
        judged = self.judged
        return judged.reason if judged.verdict == "STALLED" else None

    def judge(self) -> None:
        """Judges every place anew."""
        if self.own is not None and self.own.judge(trouble=self._standing(), stopped=self._stopped()):
            self._judged("bridge", self.own)
        for place in self.watched.values():
            if place.judge():
                self._judged(place.side, place)

    def _judged(self, side: str, place: PlaceObservation) -> None:
        level = self.log.info if place.judged.verdict == "OK" else self.log.warning
        level("verdict", verdict=place.judged.verdict, side=side, place=place.name, reason=place.judged.reason)

    @property
    def judged(self) -> Judgement:
        """The route's own verdict."""
        if self.own is not None:
            return self.own.judged
        stopped = self._stopped()
        return Judgement("STOPPED" if stopped else "UNKNOWN", stopped or "not opened yet")

    @property
    def finished(self) -> int:
        """Messages the source need not lend again."""
        return sum(self.counts[outcome] for outcome in OUTCOMES if outcome not in ("retried", "rejected"))

    def _standing(self) -> str:
        """The trouble that is no passing one, empty without any."""
        for side, trouble in self._trouble.items():
            if side == "open" or time.monotonic() - trouble.since > GRACE_SECONDS:
                return trouble.error
        return ""

    def _stopped(self) -> str:
        """Why the route does not run at all, empty if it does."""
        match self.state:
            case "down":
                return self._trouble["open"].error if "open" in self._trouble else "down"
            case "draining":
                return "the bridge is stopping"
            case "stopped":
                return "stopped"
            case _:
                return ""

    def snapshot(self) -> dict[str, Any]:
        backlog = self.own.track.backlog if self.own is not None else None
        judged, own = self.judged, self.own.snapshot() if self.own is not None else {}
        return {
            "state": self.state,
            "verdict": judged.verdict,
            "reason": judged.reason,
            "verdict_since": own.get("since"),
            "source": self.source,
            "destination": self.destination,
            "trouble": [trouble.error for trouble in self._trouble.values()],
            "source_pending_messages": backlog.pending if backlog else None,
            "source_in_flight_messages": backlog.in_flight if backlog else None,
            "source_delayed_messages": backlog.delayed if backlog else None,
            "in_flight_messages": self.on_loan,
            "messages": {outcome: self.counts[outcome] for outcome in OUTCOMES},
            "lag_messages": own.get("lag_messages"),
            "lag_seconds": own.get("lag_seconds"),
            "pace_per_second": own.get("pace_per_second"),
            "growth_per_second": own.get("growth_per_second"),
            "drain_seconds": own.get("drain_seconds"),
            "retention_headroom_seconds": own.get("retention_headroom_seconds"),
            "last_carried": self.last_carried,
            "blocked": dict(self.blocking),
            "failures": list(self.failures),
            "places": [place.snapshot() for place in self.places()],
        }

    def places(self) -> list[PlaceObservation]:
        """The route's own source first, then those watched, old before new."""
        order = {"legacy": 0, "dead_letter": 1, "new": 2}
        others = sorted(self.watched.values(), key=lambda place: (order.get(place.side, 3), place.name))
        return [*([self.own] if self.own is not None else []), *others]

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
            self.state = "down" if "open" in self._trouble else "holding"
        self._up.set(0)
        if self._repeats.first(f"{event}:{type(error).__name__}"):
            self.log.warning(event, error=str(error), **facts)
