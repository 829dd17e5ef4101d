"""What the whole process knows about itself: its routes, its connections, its start and end. May not: decide, wait, or
know a message."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

import structlog

from bridge import __version__
from bridge.core.errors import Unexpected
from bridge.observe import clock
from bridge.observe.logs import CHANGES, Quota, Repeats
from bridge.observe.metrics import Metrics
from bridge.observe.route import RouteObservation


class Observation:
    """Everything the daemon knows about itself: the registry, the routes and the log of the process."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.log: Any = structlog.get_logger()
        self.started = clock.now()
        self.draining = False
        self.routes: dict[str, RouteObservation] = {}
        self.connections: dict[str, str] = {}
        self.failed_reload: dict[str, Any] | None = None  # the last one, until one succeeds
        self._rejected: dict[str, tuple[int, float | None]] = {}  # by route: how many at the last check, when it grew
        self._repeats = Repeats()
        self._quota = Quota(*CHANGES)

    def route(self, name: str) -> RouteObservation:
        """The observation of one route; the same for the same name."""
        if name not in self.routes:
            self.routes[name] = RouteObservation(name, self.log, self.metrics)
        return self.routes[name]

    def forget(self, name: str) -> None:
        """The route is no longer configured: removes its status and its series."""
        self.routes.pop(name, None)
        self._rejected.pop(name, None)
        self.metrics.forget(name)

    def forget_connection(self, name: str) -> None:
        self.connections.pop(name, None)

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """The metrics and their content type, as an Accept header asks for them."""
        return self.metrics.exposition(accept)

    def connection(self, name: str, event: str, detail: str) -> None:
        """Notices of a NATS connection: connected, disconnected, reconnected, closed, error."""
        if event == "error":
            if self._repeats.first(f"{name}:{detail}") and (more := self._quota.unlogged("nats_error")) is not None:
                self.log.warning("nats_error", connection=name, error=detail, **more)
            return
        # How it became connected is for the log; an outage last week is not a state.
        self.connections[name] = "connected" if event == "reconnected" else event
        for route in self.routes.values():
            if route.connection == name:
                if event in ("connected", "reconnected"):
                    route.connected()
                else:
                    route.disconnected(detail)
        if (more := self._quota.unlogged(f"nats_{event} {name}")) is not None:
            level = self.log.info if event in ("connected", "reconnected") else self.log.warning
            level(f"nats_{event}", connection=name, **({"detail": detail} if detail else {}), **more)

    def aws_reported(self, name: str, event: str, detail: str) -> None:
        """Notices of an AWS connection: credentials that were renewed, messages that cannot be read."""
        if self._repeats.first(f"{name}:{event}:{detail}"):
            self.log.warning("aws_notice", connection=name, about=event, detail=detail)

    def aws_call_repeated(self, operation: str) -> None:
        """A failed call to AWS is retried."""
        self.metrics.aws_call_retries.labels(operation).inc()
        self.log.debug("aws_call_repeated", operation=operation)

    def starting(self, routes: int, url: str) -> None:
        self._loaded()
        self.log.info("starting", version=__version__, routes=routes, http=url)

    def _loaded(self) -> None:
        self.failed_reload = None
        self.metrics.reload_successful.set(1)
        self.metrics.reload_timestamp.set(time.time())

    def relog(self) -> None:
        """Recreates loggers: those made before `configure_logs` keep their old level."""
        self.log = structlog.get_logger()
        for route in self.routes.values():
            route.log = route.waiting.log = self.log.bind(route=route.name)

    def reload_began(self, by: str) -> None:
        self.log.info("reload_began", by=by)

    def reloaded(self, by: str, **facts: Any) -> None:
        self._loaded()
        self.log.info("reloaded", by=by, **facts)

    def reload_failed(self, by: str, complaints: Sequence[str]) -> None:
        self.failed_reload = {"failed_at": clock.now(), "complaints": list(complaints)}
        self.metrics.reload_successful.set(0)
        self.log.error(
            "reload_failed",
            by=by,
            complaints=list(complaints),
            meaning="nothing has changed; the previous configuration stays in use",
        )

    def reload_refused(self, by: str, reason: str) -> None:
        self.log.warning("reload_refused", by=by, reason=reason)

    def control_open(self, host: str) -> None:
        """Actions are allowed, and not only on loopback."""
        self.log.warning(
            "control_exposed",
            host=host,
            meaning="the token crosses the network in clear text; put a TLS proxy in front and admit only the proxy",
        )

    def control_denied(self, by: str, why: str) -> None:
        if self._repeats.first(f"denied {by}") and (more := self._quota.unlogged("control_denied")) is not None:
            self.log.warning("control_denied", by=by, why=why, **more)

    def drain_began(self, timeout: float) -> None:
        self.draining = True
        self.log.info("draining", shutdown_timeout=timeout)

    def release_began(self) -> None:
        self.log.warning("releasing", reason="three quarters of shutdown_timeout have passed")

    def stopped(self, *, abandoned: bool) -> None:
        if abandoned:
            self.log.error(
                "abandoned",
                meaning="messages in flight are redelivered when their leases expire; duplicates are possible",
            )
        else:
            self.log.info("stopped")

    def crashed(self, error: BaseException) -> None:
        """Logs where it happened and its type. Not its text, which may quote a message."""
        for each in _leaves(error):
            frames = traceback.extract_tb(each.__traceback__)
            stack = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
            # Not `stack`: the console format gives that key a meaning of its own.
            self.log.error("crashed", error=type(each).__name__, frames=stack)

    def contained(self, error: Unexpected) -> None:
        """An unexpected error of the process, not of one route, was contained where it happened."""
        if self._repeats.first(f"contained {error.signature}"):
            self.log.error("unexpected_error", error=error.kind, where=error.where, hint=error.hint)

    def unready(self) -> list[str]:
        """Why the process is not ready, one sentence each; empty when every route is moving or idle."""
        if self.draining:
            return ["draining"]
        return [f"{name}: {reason}" for name, route in self.routes.items() if (reason := route.unready())]

    def judge(self) -> None:
        """Judges every backlog of every route again. Called every few seconds, so that verdicts are never older."""
        for name, route in self.routes.items():
            route.judge()
            known, grew = self._rejected.get(name, (0, None))
            count = route.counts["rejected"]
            self._rejected[name] = (count, clock.now() if count > known else grew)

    def history(self, route: str) -> dict[tuple[str, str, str], list[tuple[float, int | None, float | None]]]:
        """The history of the backlogs of one route."""
        return self.routes[route].history()

    def snapshot(self) -> dict[str, Any]:
        """What /status shows."""
        return {
            "version": __version__,
            "uptime_seconds": round(clock.now() - self.started, 1),
            "at": clock.wall(clock.now()),
            "draining": self.draining,
            "connections": dict(self.connections),
            "reload": self.failed_reload
            and {**self.failed_reload, "failed_at": clock.wall(self.failed_reload["failed_at"])},
            "routes": {
                name: {**route.snapshot(), "last_rejected": _walled(self._rejected.get(name, (0, None))[1])}
                for name, route in self.routes.items()
            },
        }


def _walled(moment: float | None) -> float | None:
    return None if moment is None else clock.wall(moment)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error
