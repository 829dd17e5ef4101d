"""The lag of one backlog: from readings of it to messages, seconds, a verdict and its reason.

A backlog is that of a queue or a consumer: the bridge's own source, or one that others read. No threshold has to be
chosen: a backlog is judged against its own past (Burrow's idea), by these rules, the first that holds:

    STOPPED   an operator stopped it, or it cannot run at all
    UNKNOWN   it cannot be read
    STALLED   messages wait and none is finished, for longer than it usually takes, or something stands in the way
    SLOW      over a minute, every reading of the later half shows more waiting than any of the earlier, and it grows
    OK        everything else

Laws (tests/core/test_lag.py): unknown is never zero; what is empty is OK; what is finished steadily is never STALLED;
every verdict has a reason.
May not: ask a queue or consumer, or read a clock. Times are passed in, in seconds on one clock that never goes back;
Backlog.oldest too.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import inf
from statistics import median
from typing import Literal

from bridge.core.route import Backlog

Verdict = Literal["OK", "SLOW", "STALLED", "STOPPED", "UNKNOWN"]
VERDICTS: tuple[Verdict, ...] = ("OK", "SLOW", "STALLED", "STOPPED", "UNKNOWN")
"""In this order they are numbers in the metrics."""

WINDOW_SECONDS = 60.0  # what growth and pace are measured over
FEWEST_LOOKS = 6  # fewer do not show a trend
SETTLING_SECONDS = 75.0  # SQS counts may be a minute old: a backlog is believed at once only if it grows
SHORTEST_PATIENCE = 6.0
STEADY = 0.05  # messages a second: less is not a trend
GAPS_KEPT = 20
POINT_SECONDS = 10.0
POINTS_KEPT = 360  # an hour


@dataclass(frozen=True, slots=True)
class Look:
    """One reading of the backlog."""

    at: float
    backlog: Backlog


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a plot. None is unknown; an age of which only an upper bound is known is unknown too."""

    at: float
    messages: int | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Judgement:
    """What an operator sees of a backlog. None always means unknown.

    `messages` wait or are in flight; `seconds` is the age of the oldest of them, with `bound` its upper bound;
    `growth` and `pace` (finished) are in messages a second; `eta` is in seconds until nothing waits, at this pace;
    `headroom` in seconds until the oldest is lost to retention, infinite where none ever is.
    """

    verdict: Verdict
    reason: str
    messages: int | None = None
    seconds: float | None = None
    bound: bool = False
    growth: float | None = None
    pace: float | None = None
    eta: float | None = None
    headroom: float | None = None


@dataclass(slots=True)
class Track:
    """The history of one backlog. `every` is the time between readings; `exact`: its counts are true at once;
    `retention` is how long a message is kept; `finishing` is the word for what its reader does."""

    every: float = 5.0
    exact: bool = True
    retention: float = inf
    finishing: str = "acknowledged"
    history: deque[Point] = field(default_factory=lambda: deque(maxlen=POINTS_KEPT))
    _looks: deque[Look] = field(default_factory=deque)
    _failure: str = "no reading yet"
    _moved_at: float = 0.0
    _empty_at: float | None = None
    _gaps: deque[float] = field(default_factory=lambda: deque(maxlen=GAPS_KEPT))

    def looked(self, at: float, backlog: Backlog) -> None:
        """A reading succeeded and returned `backlog`."""
        if self._failure:
            # What happened while readings failed is unknown; it may be another queue or consumer of the same name.
            self._looks.clear()
            self._gaps.clear()
        before = self._looks[-1] if self._looks else None
        if _busy(backlog) and before is not None and _busy(before.backlog):
            if _moved(before.backlog, backlog):
                self._gaps.append(at - self._moved_at)
                self._moved_at = at
        else:
            self._moved_at = at  # until now there was nothing to finish
        if not backlog.pending and not backlog.in_flight:
            self._empty_at = at
        self._failure = ""
        self._looks.append(Look(at, backlog))
        while self._looks[0].at < at - WINDOW_SECONDS:
            self._looks.popleft()
        seconds, bound = self._age(at)
        # A bound grows with time whatever happens: in a plot it would look like a reader that falls behind.
        self._remember(Point(at, backlog.pending + backlog.in_flight, None if bound else seconds))

    def not_looked(self, at: float, why: str) -> None:
        """A reading failed."""
        self._failure = why
        self._remember(Point(at, None, None))

    @property
    def backlog(self) -> Backlog | None:
        """The newest reading, None while unknown."""
        return self._looks[-1].backlog if self._looks and not self._failure else None

    @property
    def idle_since(self) -> float:
        """When something was last finished, or there was nothing to finish."""
        return self._moved_at

    def judge(self, now: float, *, trouble: str = "", stopped: str = "") -> Judgement:
        """`trouble` is what stands in the way, `stopped` why it does not run at all; both empty if nothing does."""
        backlog = self.backlog
        if backlog is None:
            verdict: Verdict = "STOPPED" if stopped else "STALLED" if trouble else "UNKNOWN"
            return Judgement(verdict, stopped or trouble or f"cannot be read: {self._failure}")
        growth, pace = self._growth(), self._pace()
        seconds, bound = self._age(now)
        messages = backlog.pending + backlog.in_flight
        verdict, reason = self._verdict(backlog, growth, trouble, stopped)
        eta = 0.0 if not messages else messages / -growth if growth is not None and growth < 0 else None
        headroom: float | None = inf if self.retention == inf else None
        # While a reader keeps up, an upper bound of the oldest age means little: messages are finished and others come.
        if seconds is not None and self.retention != inf and not (bound and verdict in ("OK", "SLOW")):
            headroom = self.retention - seconds
        return Judgement(verdict, reason, messages, seconds, bound, growth, pace, eta, headroom)

    def _verdict(self, backlog: Backlog, growth: float | None, trouble: str, stopped: str) -> tuple[Verdict, str]:
        counts = f"pending {backlog.pending:,}" + (f", {backlog.in_flight:,} in flight" if backlog.in_flight else "")
        trend = _trend(growth) if backlog.pending else ""
        idle = self._looks[-1].at - self._moved_at
        if stopped:
            return "STOPPED", f"{stopped}; {counts}{trend}"
        if growth is not None and growth < 0 and idle >= self.every:
            trend = ""  # shrinking before it stopped does not describe now
        for_so_long = f", nothing {self.finishing} for {spelled(idle)}" if idle >= self.every else ""
        if trouble:
            stuck = not _busy(backlog) or idle >= self.every
            return ("STALLED" if stuck else "SLOW"), f"{counts}{trend}{for_so_long}: {trouble}"
        if _busy(backlog) and idle >= self._patience():
            grew = backlog.pending > self._pending_at(self._moved_at)
            if self.exact or grew or idle >= SETTLING_SECONDS:
                return "STALLED", f"{counts}{trend}{for_so_long}{_why(backlog)}"
        if self._grows() and growth is not None and growth > STEADY:
            return "SLOW", f"{counts}{trend}: more arrives than is {self.finishing}"
        if not backlog.pending and not backlog.in_flight:
            return "OK", f"nothing waits, {backlog.delayed:,} are delayed" if backlog.delayed else "nothing waits"
        return "OK", f"{counts}{trend}"

    def _patience(self) -> float:
        usual = median(self._gaps) if self._gaps else 0.0
        return max(SHORTEST_PATIENCE, 2 * self.every, 2 * usual)

    def _pending_at(self, moment: float) -> int:
        return next((look.backlog.pending for look in self._looks if look.at >= moment), 0)

    def _grows(self) -> bool:
        pending = [look.backlog.pending for look in self._looks]
        half = len(pending) // 2
        spans = bool(self._looks) and self._looks[-1].at - self._looks[0].at >= WINDOW_SECONDS / 2
        return len(pending) >= FEWEST_LOOKS and spans and min(pending[half:]) > max(pending[:half])

    def _growth(self) -> float | None:
        first, last = self._looks[0], self._looks[-1]
        span = last.at - first.at
        return (_waiting(last.backlog) - _waiting(first.backlog)) / span if span > 0 else None

    def _pace(self) -> float | None:
        first, last = self._looks[0], self._looks[-1]
        span = last.at - first.at
        if span <= 0 or first.backlog.done is None or last.backlog.done is None:
            return None
        return max(0.0, (last.backlog.done - first.backlog.done) / span)

    def _age(self, now: float) -> tuple[float | None, bool]:
        """Of the oldest message, in seconds, and whether that is only an upper bound."""
        backlog = self.backlog
        if backlog is None:
            return None, False
        if not backlog.pending and not backlog.in_flight:
            return 0.0, False
        if backlog.oldest is not None:
            return max(0.0, now - backlog.oldest), False
        # All that is there now came after it was last empty.
        return (None, False) if self._empty_at is None else (max(0.0, now - self._empty_at), True)

    def _remember(self, point: Point) -> None:
        """Keeps the worst of every ten seconds, so that a plot hides no peak."""
        if not self.history or point.at - self.history[-1].at >= POINT_SECONDS:
            self.history.append(point)
            return
        kept = self.history[-1]
        messages = max((each for each in (kept.messages, point.messages) if each is not None), default=None)
        seconds = max((each for each in (kept.seconds, point.seconds) if each is not None), default=None)
        self.history[-1] = Point(kept.at, messages, seconds)


def _busy(backlog: Backlog) -> bool:
    """Whether its reader has something to finish. What is only in flight counts as being worked on, unless it was
    delivered before, or this process is the one that works on it."""
    return backlog.pending > 0 or backlog.redelivered > 0 or backlog.held > 0


def _waiting(backlog: Backlog) -> int:
    return backlog.pending + backlog.in_flight


def _moved(before: Backlog, now: Backlog) -> bool:
    """Whether something was finished in between."""
    if before.active_at is not None or now.active_at is not None:
        return before.active_at != now.active_at
    if before.done is not None and now.done is not None:
        return before.done != now.done
    # In a queue that others read, nothing counts finished messages; more in flight, or fewer in all, takes a reader.
    return now.in_flight > before.in_flight or _waiting(now) < _waiting(before)


def _why(backlog: Backlog) -> str:
    if backlog.readers == 0:
        return ": no client is reading"
    if backlog.redelivered and not backlog.pending:
        return f": {backlog.redelivered:,} redelivered repeatedly"
    return ""


def _trend(growth: float | None) -> str:
    if growth is None or abs(growth) < STEADY:
        return ""
    pace = f"{abs(growth):,.0f}" if abs(growth) >= 10 else f"{abs(growth):.1f}"
    return f" and {'growing' if growth > 0 else 'shrinking'} {pace}/s"


def spelled(seconds: float) -> str:
    """`90 s`, `12 min`, `3.5 h`, `4.0 days`; `forever` where it never ends."""
    if seconds == inf:
        return "forever"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"
