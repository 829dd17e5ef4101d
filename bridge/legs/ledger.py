"""The ledger: which messages a route has carried, in a JetStream Key-Value bucket whose entries expire by themselves.

A stream forgets message ids after its duplicate window, SQS after five minutes or at once. The ledger remembers them
for its bucket's TTL. It is read only for redelivered messages, and written before the source is settled. One gap
remains: a kill between the PubAck and the write, followed by a downtime longer than the window.
May not: create a bucket, or report a message as carried that is not durable at the destination.
Source: ADR-8 (Key-Value), ADR-31 (direct get).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from bridge.core.errors import BridgeError, NotUsable, Unavailable
from bridge.core.mapping.subject import encode_token
from bridge.core.models import JetStreamOut, Out, SnsOut, SqsOut
from bridge.core.route import Destination, Receipt
from bridge.legs.answers import Answer, Captures, last_header, pub_ack
from bridge.legs.nats import NatsConnection
from bridge.legs.wire import NO_RESPONDERS, Reply, header_pairs_of, status_of

SECONDS = 5.0
NOT_FOUND = "404"  # the status of a direct get that found nothing


async def open_ledger(nats: NatsConnection, bucket: str, *, source: str, destinations: Sequence[str]) -> Ledger:
    """The ledger of what is carried from one place to others: both are part of every key, because a stream that
    was recreated numbers its messages from 1 again. Raises NotUsable."""
    create = f"nats kv add {bucket} --ttl 24h"
    info = await nats.api(f"STREAM.INFO.KV_{bucket}", missing=create)
    if not info.part("config").flag("allow_direct"):
        raise NotUsable(f"KV_{bucket} allows no direct get", hint=f"nats stream edit KV_{bucket} --allow-direct")
    passage = " ".join([source, *sorted(destinations)])
    return Ledger(nats, bucket, hashlib.sha256(passage.encode()).hexdigest()[:16], info)


class Ledger:
    """`info` is about the bucket's stream, the only one whose answers count."""

    def __init__(self, nats: NatsConnection, bucket: str, prefix: str, info: Answer) -> None:
        self._nats = nats
        self._bucket = bucket
        self._stream = f"KV_{bucket}"
        self._prefix = f"$KV.{bucket}.{prefix}."
        self._known = {self._stream: Captures.of(info, f"{self._prefix}*")}

    async def known(self, ids: Sequence[str]) -> list[str | None]:
        """What was noted for each, or None. Raises Unavailable if that cannot be read now."""
        subjects = [self._subject(each) for each in ids]
        get = self._nats.api_subject(f"DIRECT.GET.{self._stream}")

        def read(at: int, block: bytes, payload: bytes) -> Reply | None:
            if status := status_of(block)[0] if block else "":
                return Reply(b"", status) if status in (NOT_FOUND, NO_RESPONDERS) else None
            pairs = header_pairs_of(block)
            if any(name == "KV-Operation" for name, _ in pairs):  # the key was deleted
                return Reply(b"", NOT_FOUND)
            # The server writes where a value is from after the headers it was stored with.
            found = last_header(pairs, "Nats-Stream"), last_header(pairs, "Nats-Subject")
            return Reply(payload) if found == (self._stream, subjects[at]) else None

        answers = await self._nats.replies.ask_for([(f"{get}.{each}", b"", b"") for each in subjects], SECONDS, read)
        found: list[str | None] = []
        for answer in answers:
            if answer is None or answer.status == NO_RESPONDERS:
                why = "timeout" if answer is None else answer.status
                raise Unavailable(f"the ledger {self._bucket} does not answer: {why}")
            found.append(None if answer.status == NOT_FOUND else answer.data.decode("utf-8", "replace"))
        return found

    async def note(self, carried: Sequence[tuple[str, str]]) -> list[bool]:
        """Writes (id, ref) of each; returns whether the write is confirmed."""
        subjects = [self._subject(each) for each, _ in carried]
        requests = [
            (self._nats.store_subject(subject), ref.encode(), b"")
            for subject, (_, ref) in zip(subjects, carried, strict=True)
        ]

        def read(at: int, block: bytes, payload: bytes) -> bool | None:
            ack = None if block else pub_ack(payload, subjects[at], self._known)
            if isinstance(ack, tuple):
                return ack[3] is None
            return False if block and status_of(block)[0] == NO_RESPONDERS else None

        return [bool(answer) for answer in await self._nats.replies.ask_for(requests, SECONDS, read)]

    def _subject(self, message_id: str) -> str:
        return self._prefix + encode_token(message_id)


class Ledgered:
    """A Destination in front of another. What is noted is a duplicate and is not published; what is published is noted
    before its Receipt is returned, so that the source settles only what the ledger knows."""

    def __init__(self, inner: Destination, ledger: Ledger) -> None:
        self._inner = inner
        self._ledger = ledger
        self._unnoted: dict[str, Receipt] = {}  # durable, and not noted yet: never published again

    async def publish(self, messages: Sequence[Out]) -> Sequence[Receipt | BridgeError]:
        answers: list[Receipt | BridgeError | None] = [self._unnoted.get(_id(out)) for out in messages]
        asked = [place for place, out in enumerate(messages) if out.again and answers[place] is None]
        if asked:
            for place, ref in zip(asked, await self._ledger.known([_id(messages[p]) for p in asked]), strict=True):
                answers[place] = None if ref is None else Receipt(ref, duplicate=True)
        noted = {place for place in asked if answers[place] is not None}
        # Two messages of a batch may have the same id, chosen by their publisher. What is durable under it counts for
        # both; an error of one does not apply to the other.
        while fresh := _first_of_each(messages, answers):
            found = await self._inner.publish([messages[place] for place in fresh.values()])
            for place, answer in zip(fresh.values(), found, strict=True):
                answers[place] = answer
            for place, known in enumerate(answers):
                first = answers[fresh.get(_id(messages[place]), place)]
                if known is None and isinstance(first, Receipt):
                    answers[place] = first._replace(duplicate=True)
        return await self._noted(messages, [answer for answer in answers if answer is not None], noted)

    async def close(self) -> None:
        await self._inner.close()

    async def _noted(
        self, messages: Sequence[Out], answers: list[Receipt | BridgeError], noted: set[int]
    ) -> list[Receipt | BridgeError]:
        places = [at for at, answer in enumerate(answers) if isinstance(answer, Receipt) and at not in noted]
        receipts = {at: answer for at, answer in enumerate(answers) if isinstance(answer, Receipt)}
        self._unnoted |= {_id(messages[at]): receipts[at] for at in places}
        try:
            written = (
                await self._ledger.note([(_id(messages[at]), receipts[at].ref) for at in places]) if places else []
            )
        except BridgeError:
            written = [False] * len(places)
        for at, good in zip(places, written, strict=True):
            if good:
                self._unnoted.pop(_id(messages[at]), None)  # two of a batch may have the same id
            else:
                answers[at] = Unavailable("the message is published, but the ledger cannot be written now")
        return answers


def _first_of_each(messages: Sequence[Out], answers: Sequence[Receipt | BridgeError | None]) -> dict[str, int]:
    """By id, the first place that has no answer yet."""
    places: dict[str, int] = {}
    for place, answer in enumerate(answers):
        if answer is None:
            places.setdefault(_id(messages[place]), place)
    return places


def _id(out: Out) -> str:
    match out:
        case JetStreamOut(msg_id=found):
            return found
        case SqsOut(dedup_id=found) | SnsOut(dedup_id=found):
            return found or ""
