"""Acks to a consumer, each awaited, and what to do when the server does not allow them.

May not: decide what is acknowledged, or receive.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from bridge.core.errors import BridgeError, LeaseLost, NotUsable, Unavailable
from bridge.legs.answers import ack_reply
from bridge.legs.consumer import Consumer
from bridge.legs.nats import NatsConnection
from bridge.legs.pulls import Loan
from bridge.legs.wire import NO_RESPONDERS

ACK_SECONDS = 2.0  # how long one awaited ack may take before it is sent again
PROBE_SECONDS = 30.0  # between two tries while acks are denied


class Acks:
    """The acks of one source."""

    def __init__(self, nats: NatsConnection, consumer: Consumer) -> None:
        self.nats = nats
        self._consumer = consumer
        self._refusal: NotUsable | None = None
        self.probe_at = 0.0

    def limit(self, limit: int) -> int:
        """How many messages may be received now. Raises NotUsable while acks are denied, but for one message now and
        then, which shows whether they are allowed by now."""
        if self._refusal is None:
            return limit
        if (now := asyncio.get_running_loop().time()) < self.probe_at:
            raise self._refusal
        self.probe_at = now + PROBE_SECONDS
        return 1

    async def tell(self, loans: Sequence[Loan], words: Sequence[bytes], *, repeat: bool) -> list[BridgeError | None]:
        """Awaited acks, repeated until the ack wait is over: an ack without an answer may never have arrived."""
        loop = asyncio.get_running_loop()
        answers: list[BridgeError | None] = [Unavailable("the ack was not answered")] * len(loans)
        todo = [at for at, loan in enumerate(loans) if not loan.stale]
        if len(todo) < len(loans):
            recreated = LeaseLost(f"stream {self._consumer.stream} was deleted and created again")
            answers = [recreated if loan.stale else answer for loan, answer in zip(loans, answers, strict=True)]
        while todo:
            try:
                requests = [(loans[i].reply, words[i], b"") for i in todo]
                replies = await self.nats.replies.ask_for(requests, ACK_SECONDS, ack_reply)
            except BridgeError as error:
                for i in todo:
                    answers[i] = error
                if repeat:
                    await asyncio.sleep(0.2)
            else:
                for i, reply in zip(todo, replies, strict=True):
                    if reply is None:
                        answers[i] = Unavailable(f"no answer to an ack within {ACK_SECONDS:g} s")
                    elif reply.status == NO_RESPONDERS:
                        answers[i] = LeaseLost(f"consumer {self._consumer.name} is gone or has no leader")
                    else:
                        answers[i] = None
                silent = [loans[i].reply for i in todo if answers[i] is not None]
                if (silent or self._refusal is not None) and (denied := self._denied_by(silent)):
                    return [denied if answer is not None else None for answer in answers]
            todo = [i for i in todo if repeat and answers[i] is not None and loans[i].until > loop.time()]
        return answers

    def _denied_by(self, unanswered: Sequence[str]) -> NotUsable | None:
        """The server's refusal to take our acks, if that is why they are not answered. Every message would come again
        when its ack wait is over, and be carried again: nothing more is received until it is allowed."""
        text = next((found for each in unanswered if (found := self.nats.denied(each))), None)
        if text is None:
            self._refusal = None if not unanswered else self._refusal
            return None
        allow = f"allow this user to publish $JS.ACK.{self._consumer.stream}.{self._consumer.name}.>"
        self._refusal = NotUsable(f"acks are denied: {text}", hint=allow)
        self.probe_at = asyncio.get_running_loop().time() + PROBE_SECONDS
        return self._refusal


def nak(after: float) -> bytes:
    return b'-NAK {"delay": %d}' % int(after * 1e9) if after > 0 else b"-NAK"
