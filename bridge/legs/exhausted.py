"""Messages that ran out of deliveries at a consumer of ours. JetStream stops delivering them and leaves them in the
stream, where no consumer's count includes them; this module finds them, so that they are parked.

While we run, the server's advisory names each. On a work queue they are also searched for periodically: when nothing is
pending, any message that was delivered and is still there is one. An advisory is an ordinary message, and anyone who
may publish to its subject can forge one: it counts only for a message that was delivered, is still there and, for at
least an ack wait, is not pending elsewhere. A forged one can make an acknowledged message be parked again in a stream
that keeps it; nothing is lost by that. May not: touch a message before it is parked.
Source: nats-server, MAX_DELIVERIES advisory; ADR-31 (direct and by-sequence gets).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from bridge.core.errors import BridgeError, NotUsable, Refused, Unavailable
from bridge.core.models import JetStreamMessage
from bridge.legs.answers import Answer, last_header
from bridge.legs.nats import API_SECONDS, NatsConnection
from bridge.legs.wire import WireClient, header_pairs_of

NOT_FOUND = 10037  # err_code: no message at this sequence
AGAIN_SECONDS = 30.0
MOST_KNOWN = 100_000  # advisories kept: a publisher that floods the subject must not fill the memory
LOOK_SECONDS = 60.0  # between two searches of a work queue for messages without an advisory


@dataclass(slots=True)
class _Exhausted:
    """For one message that is not in flight yet: how often it was delivered, and since when that is known, in loop
    time; minus infinity if a search found it."""

    deliveries: int
    since: float


class Exhausted:
    """`found` returns what ran out, `settle` takes the outcome. `removes`: the stream is a work queue, and would have
    removed the message if it had been acknowledged. `held` are the sequences in flight, which may still be carried;
    `wait` is how long another reader may keep one without an ack or extension, in seconds."""

    def __init__(
        self,
        nats: NatsConnection,
        stream: str,
        consumer: str,
        *,
        removes: bool,
        held: Mapping[int, object],
        wait: float,
    ) -> None:
        self._nats = nats
        self._stream = stream
        self._consumer = consumer
        self._removes = removes
        self._held = held
        self._wait = wait
        self._known: dict[int, _Exhausted] = {}
        self._delivered: dict[int, int] = {}
        self._listening: tuple[WireClient, int] | None = None
        self._again = 0.0
        self._look = 0.0

    async def found(self, limit: int) -> list[tuple[JetStreamMessage, BridgeError]]:
        """Up to `limit` messages and why each must be parked. Never raises: what cannot be read now is retried."""
        now = asyncio.get_running_loop().time()
        if now < self._again:
            return []
        found: list[tuple[JetStreamMessage, BridgeError]] = []
        try:
            await self._listen()
            if self._removes and now >= self._look:
                await self._look_behind()
            for sequence in await self._ripe(limit):
                deliveries = self._known[sequence].deliveries
                message = await self._message(sequence, deliveries)
                del self._known[sequence]
                if message is not None:
                    self._delivered[sequence] = deliveries
                    times = f"{deliveries} times" if deliveries else "as often as its consumer allows"
                    found.append((message, Refused(f"delivered {times}, and never acknowledged")))
        except BridgeError as error:
            self._again = now + AGAIN_SECONDS
            self._nats.report(f"messages that ran out of deliveries cannot be parked: {error}")
        return found

    async def _ripe(self, limit: int) -> list[int]:
        """The sequences that ran out, as far as can be known. A message named by an advisory was delivered, or the
        advisory is forged; while more is pending than we hold, another reader may hold it, or it awaits redelivery."""
        for sequence in [each for each in self._known if each in self._held]:
            del self._known[sequence]
        if not self._known:
            return []
        info = await self._nats.api(f"CONSUMER.INFO.{self._stream}.{self._consumer}")
        most = info.part("delivered").number("stream_seq", 0)
        elsewhere = info.number("num_ack_pending", 0) > len(self._held)
        now = asyncio.get_running_loop().time()
        for sequence in [each for each in self._known if each > most]:
            del self._known[sequence]
        ripe = [each for each, advised in self._known.items() if not elsewhere or now - advised.since > self._wait]
        return ripe[:limit]

    async def settle(self, sequence: int, *, parked: bool) -> BridgeError | None:
        """What could not be parked is found again later."""
        deliveries = self._delivered.pop(sequence, 0)
        if not parked:
            self._known[sequence] = _Exhausted(deliveries, float("-inf"))
            self._again = asyncio.get_running_loop().time() + AGAIN_SECONDS
        elif self._removes:
            try:
                await self._nats.api(f"STREAM.MSG.DELETE.{self._stream}", {"seq": sequence, "no_erase": True})
            except BridgeError as error:
                return error
        return None

    async def close(self) -> None:
        """Ends the subscription to advisories."""
        if self._listening is not None:
            client, number = self._listening
            self._listening = None
            await client.leave(number)

    async def _listen(self) -> None:
        client = await self._nats.live()
        if self._listening is not None and self._listening[0] is client:
            return
        subject = f"$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{self._stream}.{self._consumer}"
        clock = asyncio.get_running_loop().time

        def heard(_to: str, _reply: str, _block: bytes, payload: bytes) -> None:
            advised = self._advised(payload)
            if advised is not None and advised[0] not in self._delivered and len(self._known) < MOST_KNOWN:
                self._known.setdefault(advised[0], _Exhausted(advised[1], clock()))

        self._listening = client, await client.listen(subject, heard)

    def _advised(self, payload: bytes) -> tuple[int, int] | None:
        """Sequence and deliveries out of an advisory; None if it is not about this consumer."""
        try:
            found = orjson.loads(payload)
            advised = Answer(found if isinstance(found, dict) else {}, "an advisory")
            sequence, deliveries = advised.number("stream_seq"), advised.number("deliveries")
            ours = (advised.text("stream"), advised.text("consumer")) == (self._stream, self._consumer)
        except (ValueError, Unavailable):
            return None
        return (sequence, deliveries) if ours and sequence > 0 and deliveries > 0 else None

    async def _look_behind(self) -> None:
        info = await self._nats.api(f"CONSUMER.INFO.{self._stream}.{self._consumer}")
        # The ack floor does not move past a message that ran out, so it does not help. The server gives up a message
        # only during a pull, so right after the start there may still be some pending.
        if info.number("num_ack_pending", 0):
            self._look = asyncio.get_running_loop().time() + 1.0
            return
        self._look = asyncio.get_running_loop().time() + LOOK_SECONDS
        config, delivered = info.part("config"), info.part("delivered").number("stream_seq", 0)
        for subject in config.texts("filter_subjects") or [config.text("filter_subject", "") or ">"]:
            sequence = 1
            while sequence <= delivered:
                found = await self._get({"seq": sequence, "next_by_subj": subject})
                if found is None or not sequence <= (at := found.number("seq")) <= delivered:
                    break
                if at not in self._delivered:
                    self._known.setdefault(at, _Exhausted(0, float("-inf")))
                sequence = at + 1

    async def _message(self, sequence: int, deliveries: int) -> JetStreamMessage | None:
        found = await self._get({"seq": sequence})
        if found is None:
            return None  # gone meanwhile: consumed by another reader, or expired
        block, subject = found.content("hdrs"), found.text("subject")
        if "\ufffd" in subject:  # the API answers in JSON, which cannot hold bytes that are not UTF-8
            subject = await self._true_subject(sequence) or subject
        return JetStreamMessage(
            subject=subject,
            payload=found.content("data"),
            stream=self._stream,
            sequence=sequence,
            timestamp=found.moment("time"),
            delivered=max(1, deliveries),
            headers=header_pairs_of(block) if block else (),
        )

    async def _true_subject(self, sequence: int) -> str:
        """As a direct get returns it, in bytes; empty if the stream does not allow direct gets."""
        subject = self._nats.api_subject(f"DIRECT.GET.{self._stream}")
        (answer,) = await self._nats.replies.ask_for(
            [(subject, orjson.dumps({"seq": sequence}), b"")], API_SECONDS, lambda _at, block, _payload: block or None
        )
        return last_header(header_pairs_of(answer), "Nats-Subject") if answer else ""

    async def _get(self, request: dict[str, Any]) -> Answer | None:
        try:
            answer = await self._nats.api(f"STREAM.MSG.GET.{self._stream}", request)
        except (NotUsable, Unavailable):
            raise
        except BridgeError as error:
            if str(NOT_FOUND) in str(error):
                return None
            raise
        return answer.part("message")
