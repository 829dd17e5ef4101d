"""The ledger: which messages a route has carried, in a JetStream Key-Value bucket whose entries expire by themselves.

A stream forgets message ids after its duplicate window, SQS after five minutes or at once. The ledger remembers for as
long as its bucket's TTL. It is asked only about messages the source lends again, and written before the source is told:
what is left open is a kill between the PubAck and the write, followed by an absence longer than the window.
May not: create a bucket, or call a message carried that is not durable at the destination.
Source: ADR-8 (Key-Value), ADR-31 (direct get).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from bridge.core.errors import BridgeError, NotUsable, Unavailable
from bridge.core.mapping.subject import encode_token
from bridge.core.models import JetStreamOut, Out, SnsOut, SqsOut
from bridge.core.route import Destination, Receipt
from bridge.legs.nats import NatsConnection

SECONDS = 5.0


async def open_ledger(nats: NatsConnection, bucket: str, *, source: str, destinations: Sequence[str]) -> Ledger:
    """The ledger of what is carried from one place to others: both are part of every key, for a stream that was made
    anew numbers its messages anew. Raises NotUsable."""
    create = f"nats kv add {bucket} --ttl 24h"
    info = await nats.api(f"STREAM.INFO.KV_{bucket}", missing=create)
    if not info["config"].get("allow_direct"):
        raise NotUsable(f"KV_{bucket} allows no direct get", hint=f"nats stream edit KV_{bucket} --allow-direct")
    passage = " ".join([source, *sorted(destinations)])
    return Ledger(nats, bucket, hashlib.sha256(passage.encode()).hexdigest()[:16])


class Ledger:
    def __init__(self, nats: NatsConnection, bucket: str, prefix: str) -> None:
        self._nats = nats
        self._bucket = bucket
        self._prefix = f"$KV.{bucket}.{prefix}."

    async def known(self, ids: Sequence[str]) -> list[str | None]:
        """What was noted of each, or None. Raises Unavailable when that cannot be known now."""
        domain = self._nats.options.domain
        api = f"$JS.{domain}.API" if domain else "$JS.API"
        requests = [(f"{api}.DIRECT.GET.KV_{self._bucket}.{self._subject(each)}", b"", b"") for each in ids]
        answers = await self._nats.replies.ask(requests, SECONDS)
        found: list[str | None] = []
        for answer in answers:
            status = "timeout" if answer is None else answer.status
            if answer is None or status not in ("", "404"):
                raise Unavailable(f"the ledger {self._bucket} does not answer: {status}")
            found.append(None if status == "404" else answer.data.decode("utf-8", "replace"))
        return found

    async def note(self, carried: Sequence[tuple[str, str]]) -> list[bool]:
        """Writes (id, ref) of each; whether it is written for certain."""
        requests = [(self._subject(each), ref.encode(), b"") for each, ref in carried]
        answers = await self._nats.replies.ask(requests, SECONDS)
        return [answer is not None and b'"error"' not in answer.data and b'"seq"' in answer.data for answer in answers]

    def _subject(self, message_id: str) -> str:
        return self._prefix + encode_token(message_id)


class Ledgered:
    """A Destination in front of another. What is noted is a duplicate and is not published; what is published is noted
    before its Receipt is given, so that the source is told only of what the ledger knows."""

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
        fresh = [place for place, answer in enumerate(answers) if answer is None]
        if fresh:
            for place, answer in zip(fresh, await self._inner.publish([messages[p] for p in fresh]), strict=True):
                answers[place] = answer
        return await self._noted(messages, [answer for answer in answers if answer is not None], noted)

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
                del self._unnoted[_id(messages[at])]
            else:
                answers[at] = Unavailable("it is carried, and the ledger cannot be written now")
        return answers


def _id(out: Out) -> str:
    match out:
        case JetStreamOut(msg_id=found):
            return found
        case SqsOut(dedup_id=found) | SnsOut(dedup_id=found):
            return found or ""
