"""How much may be in flight: a number of messages and a number of bytes. A sans-I/O account.

A receive cannot know beforehand how large its messages will be, so it reserves the recent size of this route's
messages, and is charged their real size once they are there.

Laws (tests/core/test_credits.py):
  1. No more messages than `messages` are ever reserved or in flight.
  2. While messages keep their size, no more bytes than `size` are in flight; and where one grows, nothing is asked for
     until there is room again.
  3. With nothing in flight there is always something to ask for: a message larger than `size` is carried alone.
  4. What was reserved or charged comes back in full.
  5. Messages larger than LARGE are received in smaller batches.
  6. What is kept waiting for reasons of its own (`keep`) takes at most `share` of the messages and of the bytes; with
     all of that taken there is still something to ask for.
May not: wait, or know what a message is.
"""

from __future__ import annotations

FIRST_GUESS = 65_536  # bytes of a message, until one was seen
LARGE = 104_858  # bytes of a message from which on fewer are received at once: 1 MiB in a receive of ten. What is read
# and parsed in one go takes many times its size, and SQS counts a receive of more than 64 KiB as several anyway.
COPIES = 4  # most copies in memory of a message in flight: as received, as sent, and on the wire on either side


class Credits:
    """`batch` is the most one receive returns; `share` is from 0 to 1."""

    def __init__(self, *, messages: int, size: int, batch: int, share: float = 0.5) -> None:
        self._all = self._messages = messages
        self._size = self._bytes = size
        self._batch = min(batch, messages)
        self._typical = FIRST_GUESS
        self._share = share
        self._kept = self._kept_bytes = 0

    @property
    def batch(self) -> int:
        return self._batch

    def reserve(self) -> tuple[int, int] | None:
        """(messages, bytes) of a whole batch, or of as much as the bytes allow; None while there is no room for it.
        Receiving message by message would cost a call each."""
        most, room = min(self._batch, self._all - self._kept), self._size - self._kept_bytes
        count = max(1, min(most, room // self._typical, self._batch * LARGE // self._typical))
        size = count * self._typical
        alone = self._messages == self._all - self._kept
        if self._messages < count or (self._bytes < size and not alone):
            return None
        self._messages -= count
        self._bytes -= size
        return count, size

    def charge(self, reserved: tuple[int, int], count: int, size: int) -> None:
        """The receive brought `count` messages of `size` bytes in all."""
        self._messages += reserved[0] - count
        self._bytes += reserved[1] - size
        if count:
            # Adapts to larger sizes at once, to smaller ones gradually.
            self._typical = max(1, -(-size // count), self._typical * 7 // 8)

    def keep(self, count: int, size: int) -> bool:
        """Whether so much more of what is in flight may be kept waiting for reasons of its own; if so, counts it."""
        fits = self._kept + count <= self._all * self._share and self._kept_bytes + size <= self._size * self._share
        if fits:
            self._kept += count
            self._kept_bytes += size
        return fits

    def kept(self, count: int, size: int) -> None:
        """So much is no longer kept waiting."""
        self._kept -= count
        self._kept_bytes -= size

    def back(self, count: int, size: int) -> None:
        """So much is no longer in flight."""
        self._messages += count
        self._bytes += size
