"""The results of a route's heartbeats: gauges, snapshot and log. May not: send one, or count one as a message."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from bridge.core.errors import BridgeError
from bridge.core.models import Canary
from bridge.core.route import Delivery, Receipt
from bridge.observe import clock
from bridge.observe.logs import Repeats
from bridge.observe.metrics import Metrics

REMEMBERED = 32  # canaries under way: those sent before a restart of the route may still arrive
LOST_AFTER = 10  # periods without news of the last one, until another is sent anyway


class Heartbeats:
    """The Pulse of one route, and the arrivals its pump reports. Times in seconds since the epoch; `running` returns
    whether the route receives. Only a canary that was sent from here counts, once, and by the time it was sent here:
    its form can be copied, and its own claims are not trusted. `unknown` counts the others, including those of another
    replica."""

    def __init__(self, name: str, log: Any, metrics: Metrics, running: Callable[[], bool]) -> None:
        self.every: float | None = None
        self.last_sent: float | None = None
        self.last_arrived: float | None = None
        self.transit: float | None = None
        self.failed = 0
        self.unknown = 0
        self._sent: dict[str, float] = {}  # by id, on a clock that never goes back
        self._name = name
        self.log = log
        self._metrics = metrics
        self._running = running
        self._under_way = False
        self._sent_at = 0.0  # the last one
        self._repeats = Repeats()

    # -- reported by the timer

    def expected(self, every: float | None) -> None:
        self.every = every
        self._under_way = False  # what was sent before a restart of the route may be lost
        for gauge in (self._metrics.heartbeat, self._metrics.heartbeat_at):
            if every is None:
                gauge.remove_by_labels({"route": self._name})
            elif self.last_arrived is None:
                gauge.labels(self._name).set(float("nan"))  # none has arrived: unknown is a value, never zero

    def restarting(self) -> None:
        """The restarted route may have none; if it has, `expected` is called again."""
        self.every, self._under_way = None, False
        for gauge in (self._metrics.heartbeat, self._metrics.heartbeat_at):
            gauge.remove_by_labels({"route": self._name})

    def wanted(self) -> bool:
        if not self._running() or self.every is None:
            return False
        return not self._under_way or clock.now() - self._sent_at >= LOST_AFTER * self.every

    def sent(self, canary: Canary) -> None:
        self.last_sent = canary.sent
        self._sent_at = self._sent[canary.id] = clock.now()
        if len(self._sent) > REMEMBERED:
            del self._sent[next(iter(self._sent))]
        self._under_way = True

    def not_sent(self, error: BridgeError) -> None:
        self._under_way = False
        self._failed("heartbeat_not_sent", error)

    # -- reported by the pump

    def without_canaries(self, carried: Sequence[tuple[Delivery, Receipt]]) -> Sequence[tuple[Delivery, Receipt]]:
        """The messages among what is durable now; notes the arrival of the canaries."""
        messages = [each for each in carried if each[0].canary is None]
        if len(messages) < len(carried):
            for delivery, _ in carried:
                if delivery.canary is not None:
                    self._arrived(delivery.canary)
        return messages

    def dropped(self, delivery: Delivery, reason: BridgeError) -> None:
        """One could not be carried."""
        self._under_way = False
        self._failed("heartbeat_failed", reason, id=delivery.id)

    def _arrived(self, canary: Canary) -> None:
        self._under_way = False  # from any replica: the route carries, and the next may be sent
        if (sent_at := self._sent.pop(canary.id, None)) is None:
            self.unknown += 1
            self.log.debug("heartbeat_unknown")
            return
        self.last_arrived = time.time()
        self.transit = clock.now() - sent_at
        self._metrics.heartbeat.labels(self._name).set(self.transit)
        self._metrics.heartbeat_at.labels(self._name).set(self.last_arrived)
        self.log.debug("heartbeat", transit=round(self.transit, 3))

    def _failed(self, event: str, error: BridgeError, **facts: str) -> None:
        self.failed += 1
        if self._repeats.first(f"{event}:{type(error).__name__}"):
            self.log.warning(event, error=str(error), meaning="the route itself continues", **facts)

    def snapshot(self) -> dict[str, Any] | None:
        """As /status has it; None for a route without heartbeats."""
        if self.every is None:
            return None
        return {
            "every": self.every,
            "last_sent": self.last_sent,
            "last_arrived": self.last_arrived,
            "transit": self.transit,
            "failed": self.failed,
            "unknown": self.unknown,
        }
