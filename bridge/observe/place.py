"""One backlog of a route, as metrics and snapshot: the route's own source, or a queue or consumer it watches.

May not: sample, or judge (core/lag.py does); it keeps the two together and sets the gauges.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import isinf
from typing import Any, Literal

from bridge.core.lag import VERDICTS, Judgement, Track
from bridge.core.plain import plain
from bridge.core.route import Backlog
from bridge.observe import clock
from bridge.observe.metrics import Metrics

NAN = float("nan")
STATES = ("pending", "in_flight", "delayed")


@dataclass(slots=True)
class PlaceObservation:
    """`side` is bridge, legacy, new or dead_letter. Moments as in observe/clock.py."""

    route: str
    side: str
    system: Literal["sqs", "jetstream"]
    name: str
    metrics: Metrics
    track: Track = field(default_factory=Track)
    judged: Judgement = field(default_factory=lambda: Judgement("UNKNOWN", "not sampled yet"))
    since: float = field(default_factory=clock.now)
    _oldest: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        self._set(None)

    @property
    def labels(self) -> tuple[str, str, str, str]:
        return (self.route, self.side, self.system, plain(self.name))

    def looked(self, backlog: Backlog) -> None:
        if backlog.oldest is not None:
            backlog = replace(backlog, oldest=self._moment(backlog.oldest))
        self.track.looked(clock.now(), backlog)
        self._set(backlog)

    def _moment(self, oldest: float) -> float:
        # While it is the same message, its known age stays valid, whatever the wall clock does.
        if self._oldest is None or self._oldest[0] != oldest:
            self._oldest = (oldest, clock.moment(oldest))
        return self._oldest[1]

    def not_looked(self, why: str) -> None:
        self.track.not_looked(clock.now(), why)
        self._set(None)

    def judge(self, *, trouble: str = "", stopped: str = "") -> bool:
        """Judges again. Returns whether the verdict changed."""
        now = clock.now()
        judged = self.track.judge(now, trouble=trouble, stopped=stopped)
        changed = judged.verdict != self.judged.verdict
        if changed:
            self.since = now
        self.judged = judged
        metrics, labels = self.metrics, self.labels
        metrics.lag_messages.labels(*labels).set(_number(judged.messages))
        age_known = not judged.bound or judged.verdict not in ("OK", "SLOW")
        metrics.lag_seconds.labels(*labels).set(_number(judged.seconds if age_known else None))
        metrics.headroom.labels(*labels).set(_number(judged.headroom))
        metrics.drain.labels(*labels).set(_number(judged.eta))
        metrics.verdict.labels(*labels).set(VERDICTS.index(judged.verdict))
        return changed

    def forget(self) -> None:
        """It no longer exists: removes its time series."""
        for gauge in self.metrics.of_places:
            gauge.remove(*self.labels)
        for state in STATES:
            self.metrics.backlog.remove(*self.labels, state)

    def snapshot(self) -> dict[str, Any]:
        backlog, judged = self.track.backlog, self.judged
        return {
            "side": self.side,
            "system": self.system,
            "name": self.name,
            "verdict": judged.verdict,
            "reason": judged.reason,
            "since": clock.wall(self.since),
            "pending": backlog.pending if backlog else None,
            "in_flight": backlog.in_flight if backlog else None,
            "delayed": backlog.delayed if backlog else None,
            "readers": backlog.readers if backlog else None,
            "lag_messages": judged.messages,
            "lag_seconds": _rounded(judged.seconds),
            "lag_is_bound": judged.bound,
            "growth_per_second": _rounded(judged.growth),
            "pace_per_second": _rounded(judged.pace),
            "empty_in_seconds": _rounded(judged.eta),
            "retention_headroom_seconds": _rounded(judged.headroom),
            "retention_unlimited": backlog is not None and isinf(self.track.retention),
        }

    def _set(self, backlog: Backlog | None) -> None:
        for state in STATES:
            value = NAN if backlog is None else getattr(backlog, state)  # unknown is a value, never zero
            self.metrics.backlog.labels(*self.labels, state).set(value)


def _number(value: float | None) -> float:
    return NAN if value is None else value


def _rounded(value: float | None) -> float | None:
    """JSON knows no infinity: what never happens is null, like what is unknown."""
    return None if value is None or isinf(value) else round(value, 1)
