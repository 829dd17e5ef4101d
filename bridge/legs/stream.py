"""JetStream as a destination: whole batches published, every PubAck awaited.

May not: create or change a stream, log, or decide what to do after a failure.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from bridge.core.advice import add_stream, add_subjects, in_words
from bridge.core.errors import BridgeError, Failed, Full, NotUsable, Refused, Unavailable
from bridge.core.mapping.sizes import publish_block
from bridge.core.mapping.subject import encode_token
from bridge.core.models import JetStreamOut, Out
from bridge.core.route import Receipt
from bridge.legs.nats import NatsConnection, place_of, stream_info
from bridge.legs.wire import Reply

SOONEST = 0.5  # seconds ahead; what is due sooner is published at once, for a schedule takes a while itself
PUBLISH_SECONDS = 5.0  # how long a PubAck may take before the message is published again under the same id
HEADER_LIMIT = 65_535  # JetStream's own limit on a header block (err_code 10097); core NATS has none
LINE_LIMIT = 4_000  # the server cuts the connection at a control line of 4,096 bytes: subject, reply and two sizes


async def open_destination(
    nats: NatsConnection, *, pattern: str, stream: str | None, ttl: bool = False, schedules: str | None = None
) -> JetStreamDestination:
    """Sees that what `pattern` (`*` for what a template fills in) publishes would be kept, with `ttl` that messages may
    have a life of their own, and that the stream of `schedules` delivers later. Raises NotUsable."""
    name = stream or pattern.replace("*", "").strip(".").split(".")[0].upper() or "ORDERS"
    create = add_stream(name, pattern)
    names = (await nats.api("STREAM.NAMES", {"subject": pattern})).get("streams") or []
    if stream is not None:
        about = await nats.api(f"STREAM.INFO.{stream}", missing=create)
        if stream not in names:
            raise NotUsable(
                f"stream {stream} captures nothing of {pattern}",
                hint=add_subjects(stream, about["config"].get("subjects") or (), pattern),
            )
    if not names:
        raise NotUsable(f"no stream captures {pattern}", hint=create)
    if schedules is not None:
        await _see_schedules(nats, names if stream is None else [stream], schedules)
    places = []
    for each in [stream] if stream else names:
        info = await nats.api(f"STREAM.INFO.{each}")
        places.append(place_of(info))
        # A server before 2.11 takes the setting, forgets it, and never lets a message expire.
        if ttl and not info["config"].get("allow_msg_ttl"):
            raise NotUsable(
                f"stream {each} lets no message have a time to live, and the route asks for ttl",
                hint=f"nats stream edit {each} --allow-msg-ttl (nats-server 2.11), or leave destination.ttl out",
            )
        if info["config"].get("retention") == "interest" and not info["state"].get("consumer_count"):
            # The server answers such a publish with a good PubAck and keeps nothing.
            raise NotUsable(
                f"stream {each} has interest retention and no consumer: it would drop every message",
                hint=f"create its consumers first, with nats consumer add {each}",
            )
    return JetStreamDestination(
        nats,
        pattern=pattern,
        stream=stream,
        places=frozenset(places),
        schedules=schedules,
        streams=(stream,) if stream else tuple(names),
    )


async def subjects_of(nats: NatsConnection, stream: str) -> tuple[str, ...]:
    """What a stream captures; nothing, for a mirror."""
    info = await stream_info(nats, stream)
    return tuple(info["config"].get("subjects") or ())


async def _see_schedules(nats: NatsConnection, names: Sequence[str], schedules: str) -> None:
    keeping = (await nats.api("STREAM.NAMES", {"subject": f"{schedules}.*"})).get("streams") or []
    info = await nats.api(f"STREAM.INFO.{names[0]}")
    if list(names) != keeping:
        # A schedule delivers within its own stream only.
        raise NotUsable(
            f"{schedules}.* is not in the one stream that takes the route's messages",
            hint=add_subjects(names[0], info["config"].get("subjects") or (), f"{schedules}.*"),
        )
    if not info["config"].get("allow_msg_schedules"):
        # A server before 2.12 takes the setting and the schedule, and never delivers.
        raise NotUsable(
            f"stream {names[0]} delivers nothing later, and the route asks for deliver_at",
            hint=f"nats stream edit {names[0]} --allow-schedules (nats-server 2.12), or leave deliver_at out",
        )


class JetStreamDestination:
    """A Destination that publishes whole batches and awaits every PubAck. A message is published again under the same
    Nats-Msg-Id, so an answer that got lost costs a duplicate ack, not a duplicate message."""

    def __init__(
        self,
        nats: NatsConnection,
        *,
        pattern: str,
        stream: str | None = None,
        places: frozenset[str] = frozenset(),
        schedules: str | None = None,
        streams: tuple[str, ...] = (),
    ) -> None:
        self.streams = streams
        self._schedules = schedules
        self.places = places
        self._nats = nats
        self._pattern = pattern
        self._expected = [("Nats-Expected-Stream", stream)] if stream else []

    def fits(self, out: Out) -> bool:
        """Whether the server takes a message of this size, as far as it is known."""
        assert isinstance(out, JetStreamOut)
        limit = self._nats.max_payload
        if not limit or len(out.payload) + HEADER_LIMIT <= limit:
            return True
        block = publish_block(out, self._more(out))
        return _too_large(out, block, limit) is None

    async def publish(self, messages: Sequence[Out]) -> Sequence[Receipt | BridgeError]:
        client = await self._nats.live()
        max_payload = int(client.max_payload)
        answers: list[Receipt | BridgeError] = [Failed("not published")] * len(messages)
        requests: list[tuple[str, bytes, bytes]] = []
        places: list[int] = []
        for place, out in enumerate(messages):
            assert isinstance(out, JetStreamOut)
            out = self._scheduled(out)
            block = publish_block(out, self._more(out))
            if (error := _too_large(out, block, max_payload)) is not None:
                answers[place] = error
            else:
                requests.append((out.subject, out.payload, block))
                places.append(place)
        replies = await self._nats.replies.ask(requests, PUBLISH_SECONDS)
        for place, request, reply in zip(places, requests, replies, strict=True):
            answers[place] = self._receipt(request[0], reply)
        if any(isinstance(answer, NotUsable) for answer in answers):
            answers = await self._whose_fault(messages, answers)
        return answers

    def _more(self, out: JetStreamOut) -> list[tuple[str, str]]:
        """The headers that are not the message's own."""
        return self._expected if out.expires_at is None else [*self._expected, *_life(out)]

    def _scheduled(self, out: JetStreamOut) -> JetStreamOut:
        """A message due later goes to a subject of its own, from which the server delivers it. Source: ADR-51."""
        if self._schedules is None or out.due_at is None or out.due_at - time.time() < SOONEST:
            return out
        at = datetime.fromtimestamp(out.due_at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        headers = {**out.headers, "Nats-Schedule": f"@at {at}", "Nats-Schedule-Target": out.subject}
        subject = f"{self._schedules}.{encode_token(out.msg_id)}"
        if out.expires_at is not None:
            left = max(1, int(out.expires_at - out.due_at))
            headers["Nats-Schedule-TTL"] = str(left)
        return out._replace(subject=subject, headers=headers, expires_at=None)

    def _receipt(self, subject: str, reply: Reply | None) -> Receipt | BridgeError:
        if reply is None:
            if denied := self._nats.denied(subject):
                return NotUsable(denied, hint=f"allow this user to publish {subject}")
            return Unavailable(f"no PubAck within {PUBLISH_SECONDS:g} s")
        if reply.status == "503":
            return NotUsable(f"no stream captures {subject}")
        try:
            ack = orjson.loads(reply.data)
            if error := ack.get("error"):
                return publish_error(error)
            return Receipt(f"{ack['stream']}:{ack['seq']}", bool(ack.get("duplicate")))
        except (ValueError, KeyError, AttributeError):
            return Failed(f"what answered the publish to {subject} was no PubAck: does another subscriber reply there?")

    async def _whose_fault(
        self, messages: Sequence[Out], answers: Sequence[Receipt | BridgeError]
    ) -> list[Receipt | BridgeError]:
        """No stream took a subject. Where streams do capture others of the route's subjects, it is this message that is
        wrong, and holding it would stop the rest; where none does, a human must act and every message waits."""
        try:
            known = (await self._nats.api("STREAM.NAMES", {"subject": self._pattern})).get("streams") or []
        except BridgeError:
            return list(answers)  # not to be found out now: they are held, and asked again
        create = add_stream("NAME", self._pattern)
        return [
            answer
            if not isinstance(answer, NotUsable) or "no stream captures" not in answer.args[0]
            else Refused(answer.args[0], hint=in_words(known[0], str(getattr(out, "subject", "it"))))
            if known and "*" in self._pattern and self._pattern != getattr(out, "subject", None)
            else NotUsable(answer.args[0], hint=create)
            for out, answer in zip(messages, answers, strict=True)
        ]


def _too_large(out: JetStreamOut, block: bytes, max_payload: int) -> Refused | None:
    # Found out by the server, each of these cuts the connection and takes every other message's ack with it.
    total = len(block) + len(out.payload)
    if total <= max_payload and len(block) <= HEADER_LIMIT and len(out.subject) * 4 <= LINE_LIMIT - 200:
        return None
    if total > max_payload:
        return Refused(
            f"{total:,} bytes with headers; the server takes {max_payload:,} (max_payload)",
            hint="raise max_payload in the server's configuration (8MB is safe)",
        )
    if len(block) > HEADER_LIMIT:
        return Refused(f"its headers take {len(block):,} bytes; JetStream takes {HEADER_LIMIT:,}")
    if len(out.subject.encode()) > LINE_LIMIT - 200:  # the reply subject and the sizes share the line
        return Refused(f"its subject takes {len(out.subject.encode()):,} bytes, too long for the server")
    return None


def _life(out: JetStreamOut) -> list[tuple[str, str]]:
    """What is left of its life, in whole seconds: less than one is refused, and none is no reason to lose it."""
    return [] if out.expires_at is None else [("Nats-TTL", str(max(1, int(out.expires_at - time.time()))))]


def publish_error(error: Mapping[str, Any]) -> BridgeError:
    """The error of a PubAck as ours, by err_code. Source: nats-server, server/errors.json."""
    number = int(error.get("err_code", 0))
    text = f"{error.get('description', 'refused')} (err_code {number})"
    match number:
        case 10060:
            return Refused(text, hint="another stream captures this subject than destination.stream says")
        case 10165 | 10166:  # the stream no longer takes a time to live
            return NotUsable(text, hint="nats stream edit STREAM --allow-msg-ttl, or leave destination.ttl out")
        case 10054 | 10097:  # message or headers larger than the stream takes
            return Refused(text, hint="raise max_msg_size of the stream, or park it")
        case 10077 if "per subject" in text:  # max_msgs_per_subject with discard_new_per_subject: others still pass
            return Full(f"the subject is full: {text}")
        case 10077:  # discard new, and full: the same class as an outage, and nothing is wrong with the message
            return Unavailable(f"the stream is full: {text}")
        case 10047 | 10023 | 10002 | 10118 | 10194 | 10158:  # no room, offline, or the same id is being stored just now
            return Unavailable(text)
        case _:
            return Unavailable(text) if int(error.get("code", 0)) >= 500 else Failed(text)
