"""The order of a JetStream consumer across its readers: when what arrives has to wait for what went elsewhere.

A consumer numbers its deliveries. A gap means that some went to another reader, or to a connection that is gone: they
are older, and come again only when their ack wait is over. Until then nothing newer may be lent.
Laws (tests/core/test_handover.py): without a gap nothing waits; after a gap nothing is lent before the consumer has
nothing pending but what this reader holds; then all is lent in stream order.
May not: ask the consumer, or wait. The leg does; this says whether, and in which order to lend.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class Handover(Generic[T]):
    """`kept` holds what has arrived and may not be lent yet, by stream sequence."""

    waiting: bool = False
    kept: dict[int, T] = field(default_factory=dict)
    _last: int | None = None

    def numbered(self, consumer_sequence: int) -> None:
        """A delivery with this number arrived. The first one of all follows on deliveries nobody here has seen."""
        if self._last is None or consumer_sequence != self._last + 1:
            self.waiting = True
        self._last = consumer_sequence

    def keep(self, arrived: Iterable[tuple[int, T]]) -> None:
        self.kept.update(arrived)

    def told(self, *, pending: int, held: int) -> None:
        """`pending`: what the consumer says is delivered and not acknowledged; `held`: how much of it surely was here
        when it said so."""
        if pending <= held:
            self.waiting = False

    def lendable(self, limit: int) -> list[T]:
        """Up to `limit` in stream order; none while waiting."""
        if self.waiting:
            return []
        ready = sorted(self.kept)[:limit]
        return [self.kept.pop(sequence) for sequence in ready]
