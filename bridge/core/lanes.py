"""Who may run now: a sans-I/O ordering machine. A lane is an ordering group; an item without a lane is free.

Laws (tests/core/test_lanes.py):
  1. At most one item of a lane runs at a time.
  2. Items of a lane run in the order they were admitted.
  3. No lane delays another; free items delay nothing and wait for nothing.
  4. Every admitted item is finished, or handed out by `abandon`, exactly once.
May not: wait, time or publish anything. The pump does; this only says who is next.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class Lanes(Generic[T]):
    """`lane_of` gives an item's lane, or None for a free item."""

    def __init__(self, lane_of: Callable[[T], str | None]) -> None:
        self._lane_of = lane_of
        self._waiting: dict[str, deque[T]] = {}  # a lane is in here exactly while one of its items runs

    def admit(self, items: Iterable[T]) -> list[T]:
        """Takes items in order; returns those that may run at once."""
        runnable = []
        for item in items:
            lane = self._lane_of(item)
            if lane is None:
                runnable.append(item)
            elif (queue := self._waiting.get(lane)) is None:
                self._waiting[lane] = deque()
                runnable.append(item)
            else:
                queue.append(item)
        return runnable

    def finish(self, item: T) -> T | None:
        """The running `item` is finished; returns the next of its lane, which now runs."""
        lane = self._lane_of(item)
        if lane is None:
            return None
        queue = self._waiting[lane]
        if queue:
            return queue.popleft()
        del self._waiting[lane]
        return None

    def abandon(self, item: T) -> list[T]:
        """The running `item` leaves unfinished and blocks its lane: returns all that waited behind it, in order.
        They must go back to the source too, or they would overtake it."""
        lane = self._lane_of(item)
        return [] if lane is None else list(self._waiting.pop(lane))

    def behind(self, item: T) -> list[T]:
        """All that waits behind the running `item`, in order. They keep waiting."""
        lane = self._lane_of(item)
        return [] if lane is None else list(self._waiting[lane])

    def waiting(self) -> int:
        """Items admitted that do not run yet."""
        return sum(len(queue) for queue in self._waiting.values())
