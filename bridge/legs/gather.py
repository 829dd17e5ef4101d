"""Joins small batches: items that arrive while a call is under way go together in the next one.

With no call under way a batch is sent at once, so an idle route adds no delay; a full batch never waits. May not: know
what is in a batch, or hold one longer than `linger` seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

from bridge.core.errors import BridgeError, Unavailable

LINGER = 0.01  # seconds a few deletes or sends wait for others while another such call is under way

T = TypeVar("T")
A = TypeVar("A")


class _Joined(Generic[T, A]):
    """One batch being gathered. The caller that started it sends it; the others wait for `answers`."""

    def __init__(self, items: Sequence[T]) -> None:
        self.items = list(items)
        self.ready = asyncio.Event()
        self.answers: asyncio.Future[list[A]] | None = None


class Gather(Generic[T, A]):
    """`send` takes a batch and returns one answer each, in order; `most` is a full batch."""

    def __init__(self, send: Callable[[Sequence[T]], Awaitable[list[A]]], *, most: int, linger: float) -> None:
        self._send = send
        self._most = most
        self._linger = linger
        self._flying = 0
        self._joined: _Joined[T, A] | None = None

    async def ask(self, items: Sequence[T]) -> list[A]:
        """One answer each, in order. Raises what `send` raises."""
        joined = self._joined
        if joined is not None and len(joined.items) + len(items) <= self._most:
            return await self._join(joined, items)
        if len(items) >= self._most or not self._flying:
            return await self._fly(items)
        if joined is not None:
            joined.ready.set()  # these do not fit: it is sent as it is
        return await self._lead(items)

    async def _join(self, joined: _Joined[T, A], items: Sequence[T]) -> list[A]:
        start = len(joined.items)
        joined.items += items
        if joined.answers is None:
            joined.answers = asyncio.get_running_loop().create_future()
        if len(joined.items) == self._most:
            self._go(joined)
        answers = await asyncio.shield(joined.answers)
        return answers[start : start + len(items)]

    async def _lead(self, items: Sequence[T]) -> list[A]:
        joined = self._joined = _Joined[T, A](items)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._linger):
                    await joined.ready.wait()
            self._go(joined)
            answers = await self._fly(joined.items)
        except BaseException as error:
            self._go(joined)
            if joined.answers is not None and not joined.answers.done():
                joined.answers.set_exception(error if isinstance(error, BridgeError) else Unavailable("given up"))
            raise
        if joined.answers is not None:
            joined.answers.set_result(answers)
        return answers[: len(items)]

    def _go(self, joined: _Joined[T, A]) -> None:
        joined.ready.set()
        if self._joined is joined:
            self._joined = None

    async def _fly(self, items: Sequence[T]) -> list[A]:
        self._flying += 1
        try:
            return await self._send(items)
        finally:
            self._flying -= 1
            if not self._flying and self._joined is not None:
                self._joined.ready.set()
