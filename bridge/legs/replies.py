"""Requests to NATS in bulk, and who may answer them.

May not: know JetStream, open a connection, or decide what a missing answer means.
"""

from __future__ import annotations

import asyncio
import os
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from nats import errors

from bridge.legs.wire import NO_RESPONDERS, Reply, status_of

if TYPE_CHECKING:
    from bridge.legs.nats import NatsConnection

T = TypeVar("T")

AFTER_503_SECONDS = 1.0  # how long an answer is awaited that a 503 denied: a genuine 503 means that none will come

Read = Callable[[int, bytes, bytes], T]
"""Takes the request's number, and the header block and payload that came. None: it was not sent by the peer that was
asked, and the answer is still awaited. May not raise."""

Confirm = Callable[[list[int]], Awaitable[Sequence[int]]]
"""Takes the requests that got a 503; returns those that may still be answered, for AFTER_503_SECONDS at most."""


@dataclass(slots=True)
class _Asked(Generic[T]):
    read: Read[T]
    answers: list[T | None]
    missing: int
    done: asyncio.Future[None]
    no_responders: dict[int, T] = field(default_factory=dict)
    late: bool = False

    def arrived(self, at: int, block: bytes, payload: bytes) -> bool:
        """Whether it was the answer."""
        answer = self.read(at, block, payload)
        if answer is None:
            return False
        if block and status_of(block)[0] == NO_RESPONDERS:
            # The server's 503 comes at once, but any client may send one: a later answer from the right one counts.
            self.no_responders.setdefault(at, answer)
        else:
            self.answers[at] = answer
            self.missing -= 1
            self.no_responders.pop(at, None)
        if self.missing <= len(self.no_responders):
            self.end()
        return at not in self.no_responders

    def end(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def too_late(self) -> None:
        """Answers that arrive from now on do not count."""
        self.late = True
        self.end()

    def wait_on(self, places: Sequence[int]) -> asyncio.Future[None]:
        for at in places:
            self.no_responders.pop(at, None)
        self.done = asyncio.get_running_loop().create_future()
        if self.late or self.missing <= len(self.no_responders):
            self.end()
        return self.done


class Replies:
    """Requests in bulk: one wildcard inbox for all of them and one future per batch, where nats-py's own request takes
    a task, a future and a timer for each message. Each request has its own reply subject that cannot be guessed,
    and only what comes to exactly that subject is an answer: a client that sees one request cannot answer another."""

    def __init__(self, connection: NatsConnection) -> None:
        self._connection = connection
        self._waiting: dict[str, tuple[_Asked[Any], int]] = {}
        self._prefix = ""
        self._generation = 0

    async def ask(self, requests: Sequence[tuple[str, bytes, bytes]], timeout: float) -> list[Reply | None]:
        """`ask_for` where any reply is the answer."""
        return await self.ask_for(requests, timeout, _as_it_came)

    async def ask_for(
        self,
        requests: Sequence[tuple[str, bytes, bytes]],
        timeout: float,
        read: Read[T],
        confirm: Confirm | None = None,
    ) -> list[T | None]:
        """Each request is (subject, payload, header block or nothing). Returns what `read` made of each answer, in
        order; None if none came within `timeout` seconds: the request may still have been executed. An answer
        overrides a 503 (no responders); `confirm` is called before a 503 counts. Raises what `live()` and `confirm`
        raise."""
        client = await self._connection.live()
        if self._generation != self._connection.generation:
            self._generation, inbox = self._connection.generation, client.new_inbox()
            self._prefix = f"{inbox}."
            await client.listen(f"{inbox}.*", self._arrived)
        if not requests:
            return []
        loop, waiting, prefix = asyncio.get_running_loop(), self._waiting, self._prefix
        asked: _Asked[T] = _Asked(read, [None] * len(requests), len(requests), loop.create_future())
        tokens = urlsafe_b64encode(os.urandom(12 * len(requests))).decode()  # 16 characters each
        messages = []
        for place, (subject, payload, block) in enumerate(requests):
            reply = prefix + tokens[16 * place : 16 * place + 16]
            waiting[reply] = asked, place
            messages.append((subject, reply, block, payload))
        # Not asyncio.timeout, which costs ten times a timer: only a write that waits for room needs it.
        timer = loop.call_later(timeout, asked.too_late)
        try:
            if client.has_room(messages):
                await client.send(messages)
            else:
                async with asyncio.timeout(timeout):
                    await client.send(messages)
            await asked.done
            if asked.no_responders and confirm is not None:
                answered_yet = asked.wait_on(await confirm(list(asked.no_responders)))
                timer.cancel()
                timer = loop.call_later(AFTER_503_SECONDS, asked.too_late)
                await answered_yet
        except (TimeoutError, errors.Error, OSError):
            pass  # the answers that came count; the rest stay None
        finally:
            timer.cancel()
            if asked.missing:
                for _, reply, _, _ in messages:
                    waiting.pop(reply, None)
        for at, answer in asked.no_responders.items():
            asked.answers[at] = answer
        return asked.answers

    def give_up(self) -> None:
        """The connection is lost: no request that waits is answered any more."""
        for asked, _ in list(self._waiting.values()):
            asked.too_late()

    def _arrived(self, subject: str, _: str, block: bytes, payload: bytes) -> None:
        found = self._waiting.get(subject)
        if found is not None:  # else it is too late, or forged
            asked, at = found
            if asked.arrived(at, block, payload):
                self._waiting.pop(subject, None)


def _as_it_came(_: int, block: bytes, payload: bytes) -> Reply:
    return Reply(payload, status_of(block)[0] if block else "")
