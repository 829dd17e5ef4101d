"""Every backlog of one route: its own source, and the queues and consumers it watches.

May not: sample, or judge; it keeps the backlogs separate, and logs when the verdict of one changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from bridge.core.lag import Track
from bridge.core.route import Backlog
from bridge.observe.logs import CHANGES, Quota
from bridge.observe.metrics import Metrics
from bridge.observe.place import PlaceObservation

ORDER = {"legacy": 0, "dead_letter": 1, "new": 2}


class Waiting:
    """`own` is None until the route has opened once; `watched` is by side, system and name."""

    def __init__(self, route: str, log: Any, metrics: Metrics) -> None:
        self.own: PlaceObservation | None = None
        self.watched: dict[tuple[str, str, str], PlaceObservation] = {}
        self.log = log
        self._route = route
        self._metrics = metrics
        self._quota = Quota(*CHANGES)

    def opened(self, source: str, *, every: float, exact: bool, retention: float) -> None:
        """`source` is `system name`. A new source starts with an empty history."""
        system, _, name = source.partition(" ")
        if self.own is None or self.own.name != name:
            if self.own is not None:
                self.own.forget()
            of: Literal["sqs", "jetstream"] = "sqs" if system == "sqs" else "jetstream"
            self.own = PlaceObservation(self._route, "bridge", of, name, self._metrics)
        track = self.own.track
        track.every, track.exact, track.retention, track.finishing = every, exact, retention, "carried"

    def looked(self, backlog: Backlog) -> None:
        """A sample of the route's own source."""
        assert self.own is not None
        if backlog.retention is not None:
            self.own.track.retention = backlog.retention
        self.own.looked(backlog)

    def not_looked(self, why: str) -> None:
        if self.own is not None:
            self.own.not_looked(why)

    def watches(
        self, side: str, system: Literal["sqs", "jetstream"], before: Iterable[str], seen: Mapping[str, Track]
    ) -> None:
        """The backlogs there are now, by name, each with a new track; those of `before` keep theirs, or are removed."""
        for name in before:
            if name not in seen and (gone := self.watched.pop((side, system, name), None)):
                gone.forget()
        for name, track in seen.items():
            key = (side, system, name)
            if key not in self.watched:
                self.watched[key] = PlaceObservation(self._route, side, system, name, self._metrics, track)

    def watches_nothing(self) -> None:
        """From now on the route watches other queues and consumers."""
        for place in self.watched.values():
            place.forget()
        self.watched.clear()

    def judge(self, *, trouble: str, stopped: str) -> None:
        """Judges every backlog again. `trouble` and `stopped` are the route's own."""
        if self.own is not None and self.own.judge(trouble=trouble, stopped=stopped):
            self._changed(self.own)
        for place in self.watched.values():
            if place.judge():
                self._changed(place)

    def places(self) -> list[PlaceObservation]:
        """The route's own source first, then those watched, legacy before new."""
        others = sorted(self.watched.values(), key=lambda place: (ORDER.get(place.side, 3), place.name))
        return [*([self.own] if self.own is not None else []), *others]

    def _changed(self, place: PlaceObservation) -> None:
        judged = place.judged
        if (more := self._quota.unlogged(f"{place.side} {place.name}")) is not None:
            level = self.log.info if judged.verdict == "OK" else self.log.warning
            level("verdict", verdict=judged.verdict, side=place.side, place=place.name, reason=judged.reason, **more)
