"""What happened, one method per event: log line, metric and snapshot together, so that they cannot disagree.

The only module that imports prometheus_client or structlog. May not: decide, wait, or write a payload, an attribute's
value or a secret anywhere. Label values come from closed sets: route names from the configuration, outcomes below.
"""

from __future__ import annotations

import logging
import platform
import sys
import time
import traceback
from collections import Counter as Tally
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.process_collector import ProcessCollector

from bridge import __version__
from bridge.core.errors import BridgeError
from bridge.core.route import Backlog, Delivery, Receipt, Skip

State = Literal["starting", "running", "holding", "down", "draining", "stopped"]
OUTCOMES = ("carried", "duplicate", "retried", "parked", "rejected", "filtered", "echo")
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600)
REPEAT_SECONDS = 10.0  # the same trouble of a route is logged once in this time; the metrics count every one
FAILURES_KEPT = 20
GRACE_SECONDS = 5.0  # how long a route may be in trouble before /readyz says so


def configure_logs(format: str, level: str) -> None:  # noqa: A002 - the key's name in the configuration
    """`format` is json, console or auto (console on a terminal). Logs go to stderr."""
    console = format == "console" or (format == "auto" and sys.stderr.isatty())
    number = logging.getLevelNamesMapping()[level.upper()]
    render: Any = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()) if console else structlog.processors.JSONRenderer()
    )
    common: list[Any] = [structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso", utc=True)]
    # Libraries speak through logging: in the same format, and only when something is wrong.
    theirs = logging.StreamHandler(sys.stderr)
    theirs.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *common],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[theirs], force=True)
    structlog.configure(
        processors=[*common, render],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


class Observation:
    """Everything the daemon knows of itself: the registry, the routes and the log of the process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.log: Any = structlog.get_logger()
        self.started = time.time()
        self.draining = False
        self.routes: dict[str, RouteObservation] = {}
        self.connections: dict[str, str] = {}
        self._repeats = _Repeats()
        prefix = "nats_sqs_bridge_"
        self.messages = Counter(
            f"{prefix}messages", "Messages by what became of them.", ["route", "outcome"], registry=self.registry
        )
        self.in_flight = Gauge(
            f"{prefix}in_flight_messages", "Messages on loan from the source.", ["route"], registry=self.registry
        )
        self.transit = Histogram(
            f"{prefix}transit_seconds",
            "From the source's timestamp to durable at the destination.",
            ["route"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.publish = Histogram(
            f"{prefix}publish_seconds",
            "From received to durable at the destination.",
            ["route"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.pending = Gauge(
            f"{prefix}source_pending_messages",
            "Messages waiting at the source, not on loan to anyone. NaN while unknown.",
            ["route"],
            registry=self.registry,
        )
        self.up = Gauge(
            f"{prefix}route_up",
            "1 while the route can carry: both sides open, no trouble.",
            ["route"],
            registry=self.registry,
        )
        self.blocked = Gauge(
            f"{prefix}blocked_groups",
            "Message groups that wait behind a message that cannot be carried.",
            ["route"],
            registry=self.registry,
        )
        self.settle_failures = Counter(
            f"{prefix}settle_failures",
            "Carried messages the source would not let go: it may lend them again.",
            ["route"],
            registry=self.registry,
        )
        Info(f"{prefix}build", "The version that runs.", registry=self.registry).info(
            {"version": __version__, "python": platform.python_version()}
        )
        ProcessCollector(registry=self.registry)

    def route(self, name: str) -> RouteObservation:
        """The observation of one route; the same for the same name."""
        if name not in self.routes:
            self.routes[name] = RouteObservation(name, self)
        return self.routes[name]

    def exposition(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self.registry)

    def connection(self, name: str, event: str, detail: str) -> None:
        """Notices of a NATS connection: connected, disconnected, reconnected, closed, error."""
        if event == "error":
            if self._repeats.first(f"{name}:{detail}"):
                self.log.warning("nats_error", connection=name, error=detail)
            return
        self.connections[name] = event
        level = self.log.info if event in ("connected", "reconnected") else self.log.warning
        level(f"nats_{event}", connection=name, **({"detail": detail} if detail else {}))

    def starting(self, routes: int, url: str) -> None:
        self.log.info("starting", version=__version__, routes=routes, http=url)

    def drain_began(self, timeout: float) -> None:
        self.draining = True
        self.log.info("draining", shutdown_timeout=timeout)
        for route in self.routes.values():
            route.draining()

    def release_began(self) -> None:
        self.log.warning("releasing", reason="three quarters of shutdown_timeout are over")

    def stopped(self, *, abandoned: bool) -> None:
        if abandoned:
            self.log.error(
                "abandoned", meaning="what was on loan comes back when its lease expires; duplicates are possible"
            )
        else:
            self.log.info("stopped")

    def crashed(self, error: BaseException) -> None:
        """Where it happened and what kind it was. Not its text: a stranger's error may quote a message."""
        for each in _leaves(error):
            frames = traceback.extract_tb(each.__traceback__)
            stack = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
            self.log.error("crashed", error=type(each).__name__, stack=stack)

    def unready(self) -> list[str]:
        """Why the process is not ready, one sentence each; empty when every route is moving or idle."""
        if self.draining:
            return ["draining"]
        return [f"{name}: {reason}" for name, route in self.routes.items() if (reason := route.unready())]

    def snapshot(self) -> dict[str, Any]:
        """What /status shows."""
        return {
            "version": __version__,
            "uptime_seconds": round(time.time() - self.started, 1),
            "draining": self.draining,
            "connections": dict(self.connections),
            "routes": {name: route.snapshot() for name, route in self.routes.items()},
        }


@dataclass(slots=True)
class _Trouble:
    """What stands in the way on one side of a route, and since when (monotonic)."""

    error: str
    since: float


class RouteObservation:
    """The pump's Observer for one route, and what the daemon says of the route."""

    def __init__(self, name: str, whole: Observation) -> None:
        self.name = name
        self.log: Any = whole.log.bind(route=name)
        self.state: State = "starting"
        self.source = self.destination = ""
        self.backlog: Backlog | None = None
        self.on_loan = 0
        self.counts: Tally[str] = Tally()
        self.last_carried: float | None = None
        self.blocking: dict[str, str] = {}
        self.failures: deque[Mapping[str, Any]] = deque(maxlen=FAILURES_KEPT)
        self._trouble: dict[str, _Trouble] = {"open": _Trouble("not opened yet", time.monotonic())}
        self._repeats = _Repeats()
        self._outcomes = {outcome: whole.messages.labels(name, outcome) for outcome in OUTCOMES}
        self._in_flight = whole.in_flight.labels(name)
        self._transit = whole.transit.labels(name)
        self._publish = whole.publish.labels(name)
        self._pending = whole.pending.labels(name)
        self._up = whole.up.labels(name)
        self._blocked = whole.blocked.labels(name)
        self._settle_failures = whole.settle_failures.labels(name)
        self._pending.set(float("nan"))
        self._up.set(0)

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
        for delivery, receipt in carried:
            duplicates += receipt.duplicate
            self._transit.observe(max(0.0, now - delivery.sent_at))
            self._publish.observe(now_monotonic - delivery.received_at)
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


class _Repeats:
    """Which troubles were logged lately."""

    def __init__(self) -> None:
        self._logged: dict[str, float] = {}

    def first(self, key: str) -> bool:
        """Whether `key` was not logged within REPEAT_SECONDS."""
        now = time.monotonic()
        if now - self._logged.get(key, -REPEAT_SECONDS) < REPEAT_SECONDS:
            return False
        if len(self._logged) > 1000:
            self._logged.clear()
        self._logged[key] = now
        return True


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error
