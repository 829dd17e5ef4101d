"""What happened on one route, one method per event: log line, metric and snapshot together, so that they agree.

May not: decide, wait, or write a payload, an attribute's value or a secret anywhere.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import Any

from bridge.core.errors import BridgeError, Unavailable, Unexpected, Unmappable
from bridge.core.lag import Judgement
from bridge.core.route import Backlog, Delivery, Receipt, Skip
from bridge.observe import clock
from bridge.observe.heartbeat import Heartbeats
from bridge.observe.hops import broken
from bridge.observe.life import AT_REST, RouteLife
from bridge.observe.metrics import Metrics
from bridge.observe.trouble import Trouble
from bridge.observe.waiting import Waiting

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
LEFT_OUT_LOGGED = (10, 100, 1_000, 10_000, 100_000)  # after so many messages a filter that matched none is logged
REJECTED_SECONDS = 120.0  # what is rejected is redelivered within this time
GRACE_SECONDS = 5.0  # how long a route may be in trouble before /readyz shows it


class RouteObservation(RouteLife):
    """The pump's Observer for one route, and what the daemon reports about the route."""

    def __init__(self, name: str, log: Any, metrics: Metrics) -> None:
        super().__init__(name, log.bind(route=name), metrics.up.labels(name))
        self.source = self.destination = ""
        self.systems = ("", "")  # of both: sqs, sns or jetstream, known before it opens
        self.connection = ""
        self.last_received = clock.now()
        self.resubscriptions = 0
        self._resubscribed_at = 0.0
        self._rejected_at = -inf
        self._held = False  # whether anything is held that the destination did not take
        self._idle_since: float | None = None  # when a sample found nothing waiting, if the newest one did
        self._leases_lost = 0
        self.in_flight_messages = 0
        self.counts: Tally[str] = Tally()
        self.left_out = 0
        self.last_carried: float | None = None
        self.blocking: dict[str, str] = {}
        self.failures: deque[Mapping[str, Any]] = deque(maxlen=FAILURES_KEPT)
        self._outcomes = {outcome: metrics.messages.labels(name, outcome) for outcome in OUTCOMES}
        self._in_flight = metrics.in_flight.labels(name)
        self._transit = metrics.transit.labels(name)
        self._publish = metrics.publish.labels(name)
        self._pending = metrics.pending.labels(name)
        self.waiting = Waiting(name, self.log, metrics)
        self._blocked = metrics.blocked.labels(name)
        self._at_rest = metrics.at_rest.labels(name)
        self._settle_failures = metrics.settle_failures.labels(name)
        self._resubscriptions = metrics.resubscriptions.labels(name)
        self._leases = metrics.leases_lost.labels(name)
        self._restarts = metrics.restarts.labels(name)
        self._pending.set(float("nan"))
        self.heartbeats = Heartbeats(name, self.log, metrics, lambda: self.state in ("running", "holding"))

    # -- the daemon's events

    def opened(
        self, source: str, destination: str, *, every: float = 5.0, exact: bool = True, retention: float = inf
    ) -> None:
        """`source` and `destination` are `system name`; the rest is about the source, as in core/lag.py's Track."""
        self.source, self.destination = source, destination
        self.systems = (source.partition(" ")[0], destination.partition(" ")[0])
        self.waiting.opened(source, every=every, exact=exact, retention=retention)
        self._clear("open")
        self.log.info("route_up", source=source, destination=destination)

    def failed(self, error: Unexpected, after: float) -> None:
        """The route ended with an unexpected error, and restarts in `after` seconds."""
        self._restarts.inc()
        self._failed_at.append(clock.now())
        self.in_flight(0)
        self._unblocked(list(self.blocking))
        self._trouble = self._lasting()
        self.log.error("route_failed", error=str(error), restarts_in=round(after, 1))
        self._in_trouble("open", error, "route_down", again_in=round(after, 1))

    def reopening(self, difference: str) -> None:
        """Something the route relies on is not what it was when it opened."""
        self.log.warning("reopening", why=difference, meaning="messages in flight are given back, then it opens again")

    def not_open(self, error: BridgeError, after: float) -> None:
        self._in_trouble("open", error, "route_down", again_in=round(after, 1))

    def sampled(self, backlog: Backlog) -> None:
        """The route's own source was sampled."""
        self._pending.set(backlog.pending)
        if backlog.leases_lost > self._leases_lost:
            self._leases.inc(backlog.leases_lost - self._leases_lost)
            self._note(
                "warning",
                "leases_lost",
                count=backlog.leases_lost - self._leases_lost,
                meaning="the source redelivers them",
            )
        self._leases_lost = backlog.leases_lost
        self._idle_since = None if backlog.pending else clock.now()
        # Our own count of finished messages is better than the source's, and so is our record of whether any were.
        # With messages in flight the route may not be asking for more; that is not a missing reader.
        readers = None if self.in_flight_messages else backlog.readers
        # A blocked group is counted separately, and stops no other.
        held = 0 if self.blocking else self.in_flight_messages
        self.waiting.looked(replace(backlog, done=self.finished, active_at=None, readers=readers, held=held))
        if self.state == "drained" and backlog.pending and self._repeats.first("after drain"):
            self.log.warning("not_empty_any_more", pending=backlog.pending, meaning="it arrived after the drain")

    def not_sampled(self, error: BridgeError) -> None:
        self._pending.set(float("nan"))  # unknown is a value, never zero
        self._idle_since = None
        self.waiting.not_looked(str(error))
        if self._repeats.first("sample"):
            self.log.warning("backlog_unknown", error=str(error))

    def restarting(self) -> None:
        super().restarting()
        self.heartbeats.restarting()
        self.in_flight(0)
        self._unblocked(list(self.blocking))

    def stopped(self) -> None:
        super().stopped()
        self.log.info("route_stopped", **self.counts)

    def relog(self, log: Any) -> None:
        """From now on it logs to `log`."""
        self.log = self.waiting.log = self.heartbeats.log = log.bind(route=self.name)

    def receive_stalled(self, patience: float) -> bool:
        """Whether receive has stalled: messages have waited for `patience` seconds and none arrived, without an error.
        Each time resubscribing did not help, patience doubles."""
        own = self.waiting.own
        backlog = own.track.backlog if own is not None else None
        if own is None or backlog is None or not backlog.pending:
            return False
        if self.in_flight_messages or self.state != "running" or self._trouble:
            return False
        now = clock.now()
        quiet = now - max(self.last_received, own.track.idle_since)
        return quiet > patience and now - self._resubscribed_at > patience * 2 ** min(self.resubscriptions, 6)

    def resubscribed(self) -> None:
        """The route resubscribes."""
        self.resubscriptions += 1
        self._resubscribed_at = clock.now()
        self._resubscriptions.inc()
        self.log.warning(
            "resubscribing",
            quiet_seconds=round(clock.now() - self.last_received, 1),
            meaning="messages wait at the source and none arrived; reopening subscriptions and connections",
        )

    def connected(self) -> None:
        self._clear("nats")

    def disconnected(self, detail: str) -> None:
        self._in_trouble("nats", Unavailable(f"NATS is not connected: {detail or 'no server answers'}"), "disconnected")

    # -- the pump's events

    def received(self, deliveries: Sequence[Delivery]) -> None:
        self._clear("source")
        if deliveries:
            self.last_received = clock.now()
            self.resubscriptions = 0
            self.log.debug("received", count=len(deliveries))

    def receive_failed(self, error: BridgeError, after: float) -> None:
        self._in_trouble("source", error, "receive_failed", again_in=round(after, 1))

    def carried(self, carried: Sequence[tuple[Delivery, Receipt]]) -> None:
        now = clock.now()
        wall = clock.wall(now)
        messages = self.heartbeats.without_canaries(carried)
        duplicates = sum([receipt.duplicate for _, receipt in messages])
        trace = messages[-1][1].trace if messages else ""  # they were published together
        self._transit.observe([max(0.0, wall - delivery.sent_at) for delivery, _ in messages], trace)
        self._publish.observe([now - delivery.received_at for delivery, _ in messages], trace)
        self._count("carried", len(messages) - duplicates)
        self._count("duplicate", duplicates)
        self._count("heartbeat", len(carried) - len(messages))
        if messages:
            self.last_carried = now
        if self.blocking:
            self._unblocked(delivery.id for delivery, _ in carried)
        self._clear("destination")
        self.log.debug("carried", count=len(carried), duplicates=duplicates)

    def held(self, deliveries: Sequence[Delivery], error: BridgeError, after: float) -> None:
        self._count("retried", len(deliveries))
        self._held = True
        self._in_trouble(
            "destination", error, "held", messages=len(deliveries), id=deliveries[0].id, again_in=round(after, 1)
        )

    def skipped(self, delivery: Delivery, skip: Skip) -> None:
        self._count(skip.why, 1)
        self.log.debug("skipped", id=delivery.id, why=skip.why)
        if skip.why == "filtered":
            self._left_out()

    def handed_back(self, delivery: Delivery, error: BridgeError, after: float) -> None:
        self._count("retried", 1)
        self._unblocked([delivery.id])  # it no longer waits here
        self._keep("handed_back", delivery, error)
        self._trouble.handed_back(clock.now(), after)
        self._note(
            "warning", "handed_back", id=delivery.id, attempt=delivery.attempt, error=str(error), after=round(after, 1)
        )

    def parked(self, delivery: Delivery, reason: BridgeError, receipt: Receipt) -> None:
        self._count("parked", 1)
        if isinstance(reason, Unmappable) and reason.field == "filter":
            self._left_out()
        self._keep("parked", delivery, reason)
        self._note("warning", "parked", id=delivery.id, attempt=delivery.attempt, reason=str(reason), at=receipt.ref)

    def rejected(self, delivery: Delivery, reason: BridgeError, after: float) -> None:
        self._count("rejected", 1)
        self._rejected_at = clock.now()
        self._keep("rejected", delivery, reason)
        self._note(
            "error",
            "rejected",
            id=delivery.id,
            attempt=delivery.attempt,
            reason=str(reason),
            again_in=round(after, 1),
            advice="left to the source's own redrive policy; "
            + (reason.hint or "set `parking` on the route to keep it with its reason"),
        )

    def blocked(self, delivery: Delivery, reason: BridgeError, after: float) -> None:
        if delivery.id not in self.blocking:
            self._keep("blocked", delivery, reason)
            self._note(
                "error",
                "blocked",
                id=delivery.id,
                reason=str(reason),
                again_in=round(after, 1),
                meaning="its group waits behind it; set `cannot_carry: park` on the route to go on",
            )
        self.blocking[delivery.id] = str(reason)
        self._blocked.set(len(self.blocking))

    def _unblocked(self, ids: Iterable[str]) -> None:
        for name in ids:
            self.blocking.pop(name, None)
        self._blocked.set(len(self.blocking))

    def heartbeat_failed(self, delivery: Delivery, reason: BridgeError) -> None:
        self._count("heartbeat_failed", 1)
        self.heartbeats.dropped(delivery, reason)

    def unsettled(self, delivery: Delivery, error: BridgeError) -> None:
        self._settle_failures.inc()
        self._keep("unsettled", delivery, error)
        if self._repeats.first("unsettled"):
            self.log.warning("unsettled", id=delivery.id, error=str(error), meaning="the source may redeliver it")

    def released(self, deliveries: Sequence[Delivery]) -> None:
        if deliveries:
            self._unblocked(delivery.id for delivery in deliveries)
            self._note("info", "released", count=len(deliveries))

    def in_flight(self, count: int) -> None:
        self.in_flight_messages = count
        self._in_flight.set(count)
        if self._held and count <= len(self.blocking):  # what blocks its group was refused, and waits here
            self._held = False
            self._review(held=False, idle_since=self._idle_since)

    # -- what follows from them

    def unready(self) -> str | None:
        """Why the route is neither moving nor idle, or None. A route at rest was stopped by an operator."""
        if self.state in AT_REST:
            return None
        if self.state == "starting":
            return self._stopped() if self._resuming else "not opened yet"
        if trouble := self._standing(partial=False):
            return trouble
        judged = self.judged
        return judged.reason if judged.verdict == "STALLED" else None

    def judge(self) -> None:
        """Judges every backlog again, and ends trouble that is over."""
        self._fails_again_and_again()
        self._review(held=self._held, idle_since=self._idle_since)
        self._at_rest.set(self.state in ("pausing", "paused", "drained"))
        # Where nothing waits, every failure was made up for.
        busy = self.in_flight_messages > 0 or self._idle_since is None
        self.waiting.judge(trouble=self._standing(partial=busy), stopped=self._stopped())

    @property
    def judged(self) -> Judgement:
        """The route's own verdict."""
        if self.waiting.own is not None:
            return self.waiting.own.judged
        stopped = self._stopped()
        return Judgement("UNKNOWN" if self.state == "starting" else "STOPPED", stopped or "not opened yet")

    @property
    def finished(self) -> int:
        """Messages the source does not redeliver."""
        return sum(self.counts[outcome] for outcome in OUTCOMES if outcome not in ("retried", "rejected"))

    def _standing(self, *, partial: bool) -> str:
        """The trouble that has lasted, empty without any; with `partial` also if some calls work."""
        trouble = self._in_the_way()
        if trouble is None:
            return ""
        if not trouble.is_partial(clock.now()):
            return trouble.error
        return f"some calls fail: {trouble.error}" if partial else ""

    def _in_the_way(self) -> Trouble | None:
        now = clock.now()
        return min(self._not_passing().values(), key=lambda each: each.is_partial(now), default=None)

    def _not_passing(self) -> dict[str, Trouble]:
        if self.state == "starting":
            return {}  # it is only being opened; if it cannot be, it is down
        since = clock.now() - GRACE_SECONDS
        return {side: each for side, each in self._trouble.items() if side == "open" or each.since < since}

    def _broken(self) -> list[str]:
        if self.state in AT_REST or self.state == "starting":
            return []
        held, waiting = self.in_flight_messages - len(self.blocking), self._idle_since is None
        if clock.now() - self._rejected_at < REJECTED_SECONDS:
            waiting = False  # what waits has arrived, could not be carried, and is redelivered
        return broken(self.judged.verdict, self._not_passing(), self.systems, held=held, waiting=waiting)

    def _stopped(self) -> str:
        """Why the route does not run at all, empty if it does."""
        match self.state:
            case "starting" if self._resuming:
                return "resuming: it reopens when the current receive ends (up to 20 s)"
            case "starting":
                return "it is being opened"
            case "down":
                return self._trouble["open"].error if "open" in self._trouble else "down"
            case "pausing" | "paused":
                return f"paused; nats-sqs-bridge resume {self.name} resumes it"
            case "drained":
                return "drained: its source was provably empty"
            case "stopping" | "stopped":
                return "the route is stopping" if self.state == "stopping" else "stopped"
            case _:
                return ""

    def history(self) -> dict[tuple[str, str, str], list[tuple[float, int | None, float | None]]]:
        """Of every backlog, by side, system and name: when, how many messages, how old the oldest. None is unknown."""
        return {
            (place.side, place.system, place.name): [
                (clock.wall(point.at), point.messages, point.seconds) for point in place.track.history
            ]
            for place in self.waiting.places()
        }

    def snapshot(self) -> dict[str, Any]:
        trouble = self._in_the_way()
        judged, own = self.judged, self.waiting.own.snapshot() if self.waiting.own is not None else {}
        return {
            "state": self.state,
            "state_since": clock.wall(self.state_since),
            "verdict": judged.verdict,
            "reason": judged.reason,
            "hint": trouble.hint if trouble and judged.verdict != "OK" else "",
            "verdict_since": own.get("since"),
            "source": self.source,
            "destination": self.destination,
            "broken": self._broken(),
            "trouble": [trouble.error for trouble in self._trouble.values()],
            "source_pending_messages": own.get("pending"),
            "source_in_flight_messages": own.get("in_flight"),
            "source_delayed_messages": own.get("delayed"),
            "in_flight_messages": self.in_flight_messages,
            "drain": self.drain_now(),
            "messages": {outcome: self.counts[outcome] for outcome in OUTCOMES},
            "filter_matched_none": self._filter_matched_none(),
            "lag_messages": own.get("lag_messages"),
            "lag_seconds": own.get("lag_seconds"),
            "pace_per_second": own.get("pace_per_second"),
            "growth_per_second": own.get("growth_per_second"),
            "empty_in_seconds": own.get("empty_in_seconds"),
            "retention_headroom_seconds": own.get("retention_headroom_seconds"),
            "last_carried": None if self.last_carried is None else clock.wall(self.last_carried),
            "blocked": dict(self.blocking),
            "heartbeat": self.heartbeats.snapshot(),
            "failures": [{**each, "at": clock.wall(each["at"])} for each in self.failures],
            "places": [place.snapshot() for place in self.waiting.places()],
        }

    def _note(self, level: str, event: str, **facts: Any) -> None:
        """Logs an event that may happen with every message: a flood of messages must not become a flood of lines."""
        if (more := self._quota.unlogged(event)) is not None:
            getattr(self.log, level)(event, **facts, **more)

    def _count(self, outcome: str, count: int) -> None:
        if count:
            self.counts[outcome] += count
            self._outcomes[outcome].inc(count)

    def _left_out(self) -> None:
        self.left_out += 1
        if self.left_out in LEFT_OUT_LOGGED and self._filter_matched_none():
            self.log.warning(
                "filter_matched_none",
                left_out=self.left_out,
                meaning=f"the filter has left out all {self.left_out} messages since the start",
            )

    def _filter_matched_none(self) -> bool:
        """Whether the filter has left out every message it was applied to since the start."""
        decided = ("filtered", "parked", "carried", "duplicate", "retried", "rejected")
        return 0 < self.left_out == sum(self.counts[outcome] for outcome in decided)

    def _keep(self, what: str, delivery: Delivery, error: BridgeError) -> None:
        self.failures.append({"at": clock.now(), "what": what, "id": delivery.id, "error": str(error)})
