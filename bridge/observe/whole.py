"""What the whole process knows of itself: its routes, its connections, its beginning and end."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from typing import Any

import structlog

from bridge import __version__
from bridge.observe.logs import Repeats
from bridge.observe.metrics import Metrics
from bridge.observe.route import RouteObservation


class Observation:
    """Everything the daemon knows of itself: the registry, the routes and the log of the process."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.log: Any = structlog.get_logger()
        self.started = time.time()
        self.draining = False
        self.routes: dict[str, RouteObservation] = {}
        self.connections: dict[str, str] = {}
        self._repeats = Repeats()

    def route(self, name: str) -> RouteObservation:
        """The observation of one route; the same for the same name."""
        if name not in self.routes:
            self.routes[name] = RouteObservation(name, self.log, self.metrics)
        return self.routes[name]

    def exposition(self, *, openmetrics: bool = False) -> bytes:
        """The Prometheus text format, or OpenMetrics."""
        return self.metrics.exposition(openmetrics=openmetrics)

    def connection(self, name: str, event: str, detail: str) -> None:
        """Notices of a NATS connection: connected, disconnected, reconnected, closed, error."""
        if event == "error":
            if self._repeats.first(f"{name}:{detail}"):
                self.log.warning("nats_error", connection=name, error=detail)
            return
        self.connections[name] = event
        for route in self.routes.values():
            if route.connection == name:
                if event in ("connected", "reconnected"):
                    route.connected()
                else:
                    route.disconnected(detail)
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

    def judge(self) -> None:
        """Every place of every route anew. Called every few seconds, so that a verdict is never older than that."""
        for route in self.routes.values():
            route.judge()

    def snapshot(self) -> dict[str, Any]:
        """What /status shows."""
        return {
            "version": __version__,
            "uptime_seconds": round(time.time() - self.started, 1),
            "draining": self.draining,
            "connections": dict(self.connections),
            "routes": {name: route.snapshot() for name, route in self.routes.items()},
        }


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error
