"""How many receives run side by side: more while they come back full, one when there is nothing, fewer when AWS asks
to slow down.

A FIFO queue without high throughput takes 300 calls a second, which a few long polls use up (SQS developer guide,
quotas). A client that calls more often is throttled, and ends up waiting longer than if it had called less.

Laws (tests/core/test_abreast.py):
  1. Never more than `most`, and never none.
  2. After a refusal, the number that was refused is not reached again until RECOVERY receives came back full.
  3. Once nothing is refused any more, the number returns to `most`.
May not: know what a receive is, or wait.
"""

from __future__ import annotations

RECOVERY = 1_000  # full receives after which one more is tried: at 300 calls a second, every few seconds


class Abreast:
    """`running` counts the receives that run now."""

    def __init__(self, most: int) -> None:
        self.running = 0
        self._most = self._limit = most
        self._full = 0

    def begun(self) -> None:
        self.running += 1

    def ended(self) -> None:
        self.running -= 1

    def full(self) -> bool:
        """A receive came back full. Returns whether to start another."""
        if self._limit < self._most:
            self._full += 1
            if self._full >= RECOVERY:
                self._full = 0
                self._limit += 1
        return self.running < self._limit

    def empty(self) -> bool:
        """A receive came back empty. Returns whether it should end."""
        return self.running > 1

    def throttled(self) -> bool:
        """A receive was refused because too many run. Returns whether it should end."""
        self._full = 0
        self._limit = max(1, min(self._limit, self.running - 1))
        return self.running > 1
