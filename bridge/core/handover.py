"""The order of a JetStream consumer across its readers: when deliveries here must wait for deliveries elsewhere.

A consumer numbers its deliveries. A gap means that some went to another reader, or to a connection that is gone: they
are older, and are redelivered only when their ack wait is over. Until then nothing newer may be passed on.
Laws (tests/core/test_handover.py): without a gap nothing waits; after a gap nothing is passed on until all that is
pending at the consumer is held by this reader, and the consumer knows of every message that arrived here; then all is
passed on in stream order.
May not: ask the consumer, or wait. The leg does; this decides whether to pass messages on, and in which order.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class Handover(Generic[T]):
    """`kept` holds what has arrived and may not be passed on yet, by stream sequence."""

    waiting: bool = False
    kept: dict[int, T] = field(default_factory=dict)
    highest: int = 0
    _last: int | None = None

    def numbered(self, consumer_sequence: int) -> None:
        """A delivery with this number arrived. Deliveries before the first one may be unknown to this reader."""
        if self._last is None or consumer_sequence != self._last + 1:
            self.waiting = True
        self._last = consumer_sequence

    def keep(self, arrived: Iterable[tuple[int, T]]) -> None:
        self.kept.update(arrived)
        self.highest = max(self.highest, *self.kept, 0)

    def counted(self, *, pending: int, held: int, delivered: int) -> None:
        """`pending`: how many messages the consumer reports as delivered and not acknowledged; `held`: how many of them
        were certainly held here at that time; `delivered`: the highest sequence it reports as delivered. A new leader
        may not know yet what the one before it delivered, and one of those messages may never have arrived."""
        if pending <= held and delivered >= self.highest:
            self.waiting = False

    def deliverable(self, limit: int) -> list[T]:
        """Up to `limit` in stream order; none while waiting."""
        if self.waiting:
            return []
        ready = sorted(self.kept)[:limit]
        return [self.kept.pop(sequence) for sequence in ready]
