"""What a JetStream source keeps of each message in flight and of each pull.

May not: send or subscribe to anything. The source does.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass

from bridge.core.route import Delivery
from bridge.legs.wire import WireClient


@dataclass(slots=True, eq=False)
class Loan:
    """One unacknowledged message. `reply` is the newest ack subject, empty for one that ran out of deliveries; `until`
    is loop time. `lapsed`: another reader has the pin, and may get the message when its ack wait is over. `stored`:
    when the stream stored it; `stale`: the stream was created again, and its sequence is now another message's."""

    reply: str
    until: float
    sequence: int
    tended: bool = True
    lapsed: bool = False
    stored: float = 0.0
    stale: bool = False


class Pull:
    """One inbox for one pull at a time. A delivered message carries its own subject, not the inbox's, so
    concurrent pulls each need their own subscription: `number`, of `client`."""

    def __init__(self, inbox: str, client: WireClient) -> None:
        self.inbox = inbox
        self.client = client
        self.number = 0
        self.arrived: list[Delivery] = []
        self._serial = itertools.count()
        self._reply = ""
        self._limit = 0
        self._ended: asyncio.Future[tuple[str, str]] | None = None

    def begin(self, limit: int) -> tuple[str, asyncio.Future[tuple[str, str]]]:
        """A fresh reply subject, so that the late status of an earlier pull is recognised; and a future of the status
        this one ends with, empty when it delivered its full batch."""
        self._reply, self._limit = f"{self.inbox}.{next(self._serial):x}", limit
        self._ended = asyncio.get_running_loop().create_future()
        return self._reply, self._ended

    def brought(self, delivery: Delivery) -> None:
        self.arrived.append(delivery)
        if len(self.arrived) >= self._limit:
            self._end("", "")

    def ended(self, reply: str, code: str, text: str) -> None:
        if reply == self._reply:
            self._end(code, text)

    def _end(self, code: str, text: str) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result((code, text))

    def take(self, limit: int) -> list[Delivery]:
        taken, self.arrived = self.arrived[:limit], self.arrived[limit:]
        return taken
