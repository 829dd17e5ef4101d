"""JetStream as a destination: whole batches published, every PubAck awaited.

May not: create or change a stream, log, or decide what to do after a failure.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime

from bridge.core.advice import add_stream, add_subjects, in_words
from bridge.core.errors import BridgeError, Failed, Full, NotUsable, Refused, Unavailable
from bridge.core.mapping.sizes import publish_block
from bridge.core.mapping.subject import encode_token
from bridge.core.models import JetStreamOut, Out
from bridge.core.route import Receipt
from bridge.core.subjects import covers
from bridge.legs.answers import Answer, Captures, pub_ack
from bridge.legs.nats import MOST_BYTES, NatsConnection, place_of, stream_info
from bridge.legs.terms import Term, term_of
from bridge.legs.wire import NO_RESPONDERS, Reply, status_of

SOONEST = 0.5  # seconds ahead; what is due sooner is published at once, because a schedule itself takes a while
PUBLISH_SECONDS = 5.0  # how long a PubAck may take before the message is published again under the same id
HEADER_LIMIT = 65_535  # JetStream's own limit on a header block (err_code 10097); core NATS has none
CONFIRM_SECONDS = 2.0  # how long the API may take to list the streams of a subject that got a 503
STRANGE = 16  # how many names of unknown streams are looked up after one batch
LINE_LIMIT = 4_000  # the server cuts the connection at a control line of 4,096 bytes: subject, reply and two sizes


async def open_destination(
    nats: NatsConnection, *, pattern: str, stream: str | None, ttl: bool = False, schedules: str | None = None
) -> JetStreamDestination:
    """Checks that messages published under `pattern` (`*` for what a template fills in) would be kept, with `ttl` that
    the stream allows a TTL for each message, and that the stream of `schedules` allows scheduled delivery. Raises
    NotUsable."""
    name = stream or pattern.replace("*", "").strip(".").split(".")[0].upper() or "ORDERS"
    create = add_stream(name, pattern)
    names = (await nats.api("STREAM.NAMES", {"subject": pattern})).texts("streams")
    if stream is not None:
        about = await nats.api(f"STREAM.INFO.{stream}", missing=create)
        if stream not in names:
            raise NotUsable(
                f"stream {stream} captures no subject matching {pattern}",
                hint=add_subjects(stream, about.part("config").texts("subjects"), pattern),
            )
    if not names:
        raise NotUsable(f"no stream captures {pattern}", hint=create)
    if schedules is not None:
        await _see_schedules(nats, names if stream is None else [stream], schedules)
    places, terms = [], []
    known = {}
    for each in [stream] if stream else names:
        info = await nats.api(f"STREAM.INFO.{each}")
        _see_stream(each, info, ttl=ttl)
        places.append(place_of(info))
        terms.append(term_of(info))
        known[each] = Captures.of(info, pattern)
    return JetStreamDestination(
        nats,
        pattern=pattern,
        known=known,
        stream=stream,
        places=frozenset(places),
        schedules=schedules,
        streams=(stream,) if stream else tuple(names),
        ttl=ttl,
        terms=tuple(terms),
    )


def _see_stream(name: str, info: Answer, *, ttl: bool) -> None:
    """Raises NotUsable for a stream that would not keep what is published."""
    # A server before 2.11 accepts the setting, ignores it, and never lets a message expire.
    if ttl and not info.part("config").flag("allow_msg_ttl"):
        raise NotUsable(
            f"stream {name} does not allow per-message TTLs, and the route sets ttl",
            hint=f"nats stream edit {name} --allow-msg-ttl (nats-server 2.11), or remove destination.ttl",
        )
    config = info.part("config")
    for flag, what in (
        ("sealed", "is sealed: it takes no message any more"),
        ("no_ack", "acknowledges no publish (no_ack), so nothing would ever count as stored"),
        ("allow_msg_counter", "is a stream of counters: it takes only increments"),
    ):
        if config.flag(flag):
            raise NotUsable(f"stream {name} {what}", hint="publish to another stream, or change this one's settings")
    if config.text("retention", "") == "interest" and not info.part("state").number("consumer_count", 0):
        # The server answers such a publish with a normal PubAck and stores nothing.
        raise NotUsable(
            f"stream {name} has interest retention and no consumer: it would drop every message",
            hint=f"create its consumers first, with nats consumer add {name}",
        )


async def subjects_of(nats: NatsConnection, stream: str) -> tuple[str, ...]:
    """The subjects a stream captures; none for a mirror."""
    info = await stream_info(nats, stream)
    return tuple(info.part("config").texts("subjects"))


async def _see_schedules(nats: NatsConnection, names: Sequence[str], schedules: str) -> None:
    keeping = (await nats.api("STREAM.NAMES", {"subject": f"{schedules}.*"})).texts("streams")
    config = (await nats.api(f"STREAM.INFO.{names[0]}")).part("config")
    if list(names) != keeping:
        # A schedule delivers within its own stream only.
        raise NotUsable(
            f"{schedules}.* is not in the one stream that takes the route's messages",
            hint=add_subjects(names[0], config.texts("subjects"), f"{schedules}.*"),
        )
    if not config.flag("allow_msg_schedules"):
        # A server before 2.12 accepts the setting and the schedule, and never delivers.
        raise NotUsable(
            f"stream {names[0]} does not allow scheduled delivery, and the route sets deliver_at",
            hint=f"nats stream edit {names[0]} --allow-schedules (nats-server 2.12), or remove deliver_at",
        )


class JetStreamDestination:
    """A Destination that publishes whole batches and awaits every PubAck. A message is published again under the same
    Nats-Msg-Id, so a lost answer costs a duplicate ack, not a duplicate message.

    Only answers from a stream in `known` that captures the subject are accepted. Anything else on a reply subject is
    ignored, as anyone may subscribe to what is published: the stream's own answer is awaited."""

    def __init__(
        self,
        nats: NatsConnection,
        *,
        pattern: str,
        known: Mapping[str, Captures],
        stream: str | None = None,
        places: frozenset[str] = frozenset(),
        schedules: str | None = None,
        streams: tuple[str, ...] = (),
        ttl: bool = False,
        terms: tuple[Term, ...] = (),
    ) -> None:
        self.streams = streams
        self.terms = terms
        sizes = [size for term in terms if type(size := term.config.get("max_msg_size")) is int and size > 0]
        self._largest = min(sizes, default=MOST_BYTES)  # of a message, as the streams themselves limit it
        self._schedules = schedules
        self.places = places
        self._nats = nats
        self._pattern = pattern
        self._known = dict(known)
        # Whether the configured stream captures only some of the subjects the route may publish to.
        self._partial = stream is not None and stream in known and not known[stream].whole
        self._stream = stream
        self._ttl = ttl
        self._strange: set[str] = set()  # streams that answered and are unknown, or do not capture that subject

    def fits(self, out: Out) -> bool:
        """Whether the server takes a message of this size, as far as it is known."""
        assert isinstance(out, JetStreamOut)
        limit = min(self._nats.max_payload, self._largest)
        if not limit or len(out.payload) + HEADER_LIMIT <= limit:
            return True
        try:
            block = publish_block(out, _life(out))
        except Refused:
            return True  # its size is not the problem
        return _too_large(out, block, limit) is None

    async def publish(self, messages: Sequence[Out]) -> Sequence[Receipt | BridgeError]:
        await self._nats.live()
        max_payload = self._nats.max_payload
        answers: list[Receipt | BridgeError] = [Failed("not published")] * len(messages)
        requests: list[tuple[str, bytes, bytes]] = []
        places: list[int] = []
        for place, out in enumerate(messages):
            assert isinstance(out, JetStreamOut)
            if not _writable(out.subject):
                answers[place] = Refused("its subject has a space, a line break or an incomplete character in it")
                continue
            try:
                if self._partial:
                    await self._see_captured(out.subject)
                out, schedule = self._scheduled(out)
                block = publish_block(out, [*schedule, *_life(out)])
            except BridgeError as error:
                answers[place] = error
                continue
            if (refused := _too_large(out, block, max_payload)) is not None:
                answers[place] = refused
            else:
                requests.append((out.subject, out.payload, block))
                places.append(place)
        silent: dict[str, BridgeError] = {}
        replies = await self._asked(requests, silent)
        for place, (subject, _, _), reply in zip(places, requests, replies, strict=True):
            answers[place] = reply if reply is not None else silent.get(subject) or self._unanswered(subject)
        if self._strange:
            await self._learn()
        if any(isinstance(answer, NotUsable) for answer in answers):
            answers = await self._whose_fault(messages, answers)
        return answers

    async def _see_captured(self, subject: str) -> None:
        """Refuses a subject that another stream captures, before it is published: a header that names the expected
        stream would be stored, and NATS would refuse a service that publishes again with the headers it received."""
        if self._stream is None or any(covers(each, subject) for each in self._known[self._stream].subjects):
            return
        names = (await self._nats.api("STREAM.NAMES", {"subject": subject})).texts("streams")
        if names and self._stream not in names:
            raise Refused(
                f"stream {names[0]} captures {subject}, and destination.stream is {self._stream}",
                hint=f"remove destination.stream, or add the subject to {self._stream}",
            )
        if names:  # it captures more than before
            self._known[self._stream] = Captures.of(await self._nats.api(f"STREAM.INFO.{self._stream}"), self._pattern)

    def _scheduled(self, out: JetStreamOut) -> tuple[JetStreamOut, list[tuple[str, str]]]:
        """A message due later goes to its own schedule subject, from which the server delivers it, with headers that
        say so. Source: ADR-51."""
        if self._schedules is None or out.due_at is None or out.due_at - time.time() < SOONEST:
            return out, []
        at = datetime.fromtimestamp(out.due_at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        schedule = [("Nats-Schedule", f"@at {at}"), ("Nats-Schedule-Target", out.subject)]
        subject = f"{self._schedules}.{encode_token(out.msg_id)}"
        if out.expires_at is not None:
            left = int(out.expires_at - out.due_at)
            if left > 0:  # what is due after its TTL ends is delivered, and kept as long as the stream keeps it
                schedule.append(("Nats-Schedule-TTL", str(left)))
        return out._replace(subject=subject, expires_at=None), schedule

    async def _asked(
        self, requests: Sequence[tuple[str, bytes, bytes]], silent: dict[str, BridgeError]
    ) -> list[Receipt | BridgeError | None]:
        """What each was answered; None for no answer. `silent` gets, by subject, why there was none, where that is
        known."""
        known = self._known

        def read(at: int, block: bytes, payload: bytes) -> Receipt | BridgeError | None:
            subject = requests[at][0]
            if block:  # a PubAck has no headers
                return NotUsable(f"no stream captures {subject}") if status_of(block)[0] == NO_RESPONDERS else None
            ack = pub_ack(payload, subject, known)
            if ack.__class__ is tuple:
                stream, sequence, duplicate, error = ack
                if error is not None:
                    return publish_error(error)
                return Receipt(f"{stream}:{sequence}", duplicate)
            if ack is not None and len(self._strange) < STRANGE:
                self._strange.add(str(ack))
            return None

        async def confirm(places: list[int]) -> list[int]:
            """Those whose subject a stream captures, or may: a stream without a leader does not answer either, and any
            client can forge a 503."""
            subjects = list({requests[at][0]: None for at in places})
            names = self._nats.api_subject("STREAM.NAMES")
            calls = [(names, {"subject": each}) for each in subjects]
            found = await self._nats.ask_api(calls, CONFIRM_SECONDS)
            silent.update(
                {subject: _leaderless(subject, answer) for subject, answer in zip(subjects, found, strict=True)}
            )
            uncaptured = {subject for subject, answer in zip(subjects, found, strict=True) if _none_there(answer)}
            return [at for at in places if requests[at][0] not in uncaptured]

        return await self._nats.replies.ask_for(requests, PUBLISH_SECONDS, read, confirm)

    def _unanswered(self, subject: str) -> BridgeError:
        if denied := self._nats.denied(subject):
            return NotUsable(denied, hint=f"allow this user to publish {subject}")
        hint = ""
        if self._strange:
            who = ", ".join(sorted(self._strange))
            hint = f"an unexpected stream answered: {who}; does it capture this subject now, or is nats.domain wrong?"
        return Unavailable(f"no PubAck within {PUBLISH_SECONDS:g} s", hint=hint)

    async def _learn(self) -> None:
        """Checks whether a stream that answered captures the route's subjects by now. Its answer is not lost: the
        message is published again, and recognised by its id."""
        strange, self._strange = self._strange, set()
        with suppress(BridgeError):  # then it stays unknown, and its answers are not accepted
            for each in (await self._nats.api("STREAM.NAMES", {"subject": self._pattern})).texts("streams"):
                if each in strange and self._stream in (None, each):
                    info = await self._nats.api(f"STREAM.INFO.{each}")
                    _see_stream(each, info, ttl=self._ttl)
                    self._known[each] = Captures.of(info, self._pattern)

    async def close(self) -> None:
        """Holds nothing open: the reply subjects belong to the connection."""

    async def _whose_fault(
        self, messages: Sequence[Out], answers: Sequence[Receipt | BridgeError]
    ) -> list[Receipt | BridgeError]:
        """No stream accepted a subject. If streams do capture other subjects of the route, this message is at fault,
        and holding it would stop the rest; if none does, an operator must act and every message waits."""
        try:
            known = (await self._nats.api("STREAM.NAMES", {"subject": self._pattern})).texts("streams")
        except BridgeError:
            return list(answers)  # cannot be checked now: they are held and retried
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
    # If the server detects one of these, it closes the connection, and the acks of all other messages are lost.
    total = len(block) + len(out.payload)
    if total <= max_payload and len(block) <= HEADER_LIMIT and len(out.subject) * 4 <= LINE_LIMIT - 200:
        return None
    if total > max_payload:
        return Refused(
            f"{total:,} bytes with headers; the server takes at most {max_payload:,} (max_payload)",
            hint="raise max_payload in the server's configuration (8MB is safe), or set claim_check on the route",
        )
    if len(block) > HEADER_LIMIT:
        return Refused(f"its headers have {len(block):,} bytes; JetStream takes at most {HEADER_LIMIT:,}")
    line = len(out.subject.encode("utf-8", "surrogateescape"))
    if line > LINE_LIMIT - 200:  # the reply subject and the sizes share the line
        return Refused(f"its subject has {line:,} bytes, too long for the server")
    return None


def _life(out: JetStreamOut) -> list[tuple[str, str]]:
    """What is left of its TTL, in whole seconds. If nothing is left (it was parked for long, say), it is kept as
    long as the stream keeps messages: less than a second is refused, and a second is too short to be read."""
    left = 0 if out.expires_at is None else int(out.expires_at - time.time())
    return [("Nats-TTL", str(left))] if left > 0 else []


def _writable(subject: str) -> bool:
    """Whether it is one word of a control line, whatever else it holds."""
    if subject.isprintable() and " " not in subject:
        return bool(subject)
    try:
        return not set(subject.encode("utf-8", "surrogateescape")) & set(b" \t\r\n")
    except UnicodeEncodeError:
        return False


def _none_there(answer: Answer | Reply | None) -> bool:
    """Whether the server said for certain that no stream captures a subject."""
    if not isinstance(answer, Answer) or answer.get("error") is not None:
        return False
    try:
        return not answer.texts("streams")
    except Unavailable:
        return False


def _leaderless(subject: str, answer: Answer | Reply | None) -> Unavailable:
    """Why a subject that may be captured has no responder."""
    try:
        names = answer.texts("streams") if isinstance(answer, Answer) and answer.get("error") is None else []
    except Unavailable:
        names = []
    if names:
        hint = f"the cluster elects one once most of the stream's servers are up: nats stream info {names[0]}"
        return Unavailable(f"stream {names[0]} has no leader: it captures {subject} and does not answer", hint=hint)
    hint = "is the leaf node's link up, and has the cluster a meta leader? nats server report jetstream shows it"
    return Unavailable(f"nothing answers on {subject}, and the JetStream API does not say why", hint=hint)


def publish_error(error: Answer) -> BridgeError:
    """The error of a PubAck as ours, by err_code: only those about a message's content or size are its own, whatever
    else a stream refuses holds the route. Source: nats-server, server/errors.json."""
    number, said = error.number("err_code", 0), error.get("description")
    text = f"{said if isinstance(said, str) else 'refused'} (err_code {number})"
    match number:
        case 10060:
            return Refused(text, hint="a stream other than destination.stream captures this subject")
        case 10165 | 10166:  # the stream no longer allows TTLs
            return NotUsable(text, hint="nats stream edit STREAM --allow-msg-ttl, or remove destination.ttl")
        case 10190:  # the target of a schedule is not a subject of the stream
            return Refused(text, hint="the stream must capture the subject of the scheduled message")
        case 10054 | 10097:  # message or headers larger than the stream allows
            return Refused(text, hint="raise max_msg_size of the stream, or park it")
        case 10077 if "per subject" in text:  # max_msgs_per_subject with discard_new_per_subject: others still pass
            return Full(f"the subject is full: {text}")
        case 10077:  # discard new, and full: the same class as an outage, and nothing is wrong with the message
            return Unavailable(f"the stream is full: {text}")
        case 10047 | 10023 | 10002 | 10118 | 10194 | 10158:  # no space, offline, or the same id is just being stored
            return Unavailable(text)
        case 10109:
            return NotUsable(text, hint="the stream is sealed and takes nothing more: publish to another one")
        case _:
            hint = "it is the stream's settings that refuse this, not the message: nats stream info shows them"
            return Unavailable(text) if error.number("code", 0) >= 500 else NotUsable(text, hint=hint)
