"""JetStream to SQS and to SNS: a JetStreamMessage as an SqsOut or SnsOut. The wire format is docs/wire-format.md.

Total and deterministic. Attributes come back as they were; what has no place of its own goes into one JSON attribute,
the note (note.py). May not: drop anything.
"""

from __future__ import annotations

from typing import NamedTuple

from bridge.core.errors import Unmappable
from bridge.core.filtering import LEFT_OUT, FilterPolicy
from bridge.core.mapping.claims import claim_of
from bridge.core.mapping.envelope import enveloped, subject_of
from bridge.core.mapping.headers import from_headers, reserved, shape_of, sqs_name, xml_text
from bridge.core.mapping.heartbeat import OPENING_BYTES, TOKEN, canary_in_stream, mark_of, own, written
from bridge.core.mapping.note import ENCODING, MESSAGE, Note, body_of
from bridge.core.mapping.packing import MARK, unfitted
from bridge.core.mapping.provenance import NOWHERE, VIA, Passage, digest_of, via_of
from bridge.core.mapping.subject import GroupTemplate, fifo_id
from bridge.core.models import Attribute, Canary, Claim, JetStreamMessage, Message, SnsOut, SqsOut
from bridge.core.route import Lane, Mapped, Mapping, Skip

ATTRIBUTES = 10  # SQS takes no more; SNS with raw delivery silently discards a message with more
LONGEST_DELAY = 900
DELAY = "Sqs-Delay-Seconds"
TRACE = "X-Amzn-Trace-Id"


def nats_to_sqs(
    *,
    fifo: bool,
    group: GroupTemplate | None = None,
    envelope: str | None = None,
    passage: Passage = NOWHERE,
    policy: FilterPolicy | None = None,
    park_filtered: bool = False,
) -> Mapping:
    """A Mapping for one route. `fifo`: the queue is a FIFO queue; `group` overrides where its group ids come from;
    `envelope`: the ARN of the topic to name in an SNS envelope around the message. `policy`: what it does not accept is
    skipped, or with `park_filtered` Unmappable."""

    mark, first = passage.mark, passage.on(())

    def mapping(message: Message) -> Mapped | Skip:
        assert isinstance(message, JetStreamMessage)
        if message.payload.startswith(OPENING_BYTES) and (canary := canary_in_stream(message)) is not None:
            return to_queue(message, canary) if own(canary, passage) else Skip("heartbeat")
        parts = _taken_apart(message)
        left_out = policy is not None and not policy.accepts(parts.attributes, parts.payload)
        if left_out and not park_filtered:
            return Skip("filtered")
        if passage.echo(parts.via):
            return Skip("echo")
        try:
            lane = _group(message, group) if fifo else None
        except Unmappable as error:
            error.lane = fifo_id(message.subject)
            raise
        dedup_id = _id(message, mark)
        body, marker = body_of(parts.payload)
        try:
            if left_out:
                raise Unmappable(*LEFT_OUT)
            note = _note(message, parts, body, passage, first)
            due_at = _due_at(message, fifo=fifo) if DELAY in parts.names else None
        except Unmappable as error:
            error.lane = lane
            raise
        attributes: dict[str, Attribute]
        if envelope is not None:
            body, attributes = enveloped(message, body, parts.all(note, marker), topic_arn=envelope, mark=mark), {}
        else:
            attributes = parts.ten(note, marker, amazons=not parts.amazons)
        trace = _trace_header(message) if TRACE in parts.names else None
        claim = _object_claim(body, attributes)
        again = message.delivered > 1
        return Mapped(SqsOut(body, attributes, lane, dedup_id, trace, due_at, claim, again), lane)

    def to_queue(message: JetStreamMessage, canary: Canary) -> Mapped:
        body, attributes, lane = written(canary), mark_of(canary), TOKEN if fifo else None
        if envelope is not None:
            body, attributes = enveloped(message, body, attributes, topic_arn=envelope, mark=mark), {}
        again = message.delivered > 1
        return Mapped(SqsOut(body, attributes, lane, _id(message, mark), again=again), lane, canary)

    return mapping


def nats_to_sns(
    *,
    fifo: bool,
    group: GroupTemplate | None = None,
    passage: Passage = NOWHERE,
    policy: FilterPolicy | None = None,
    park_filtered: bool = False,
) -> Mapping:
    """A Mapping for one route. `fifo`: the topic is a FIFO topic; `group` overrides where its group ids come from.
    `policy`: what it does not accept is skipped, or with `park_filtered` Unmappable."""

    mark, first = passage.mark, passage.on(())

    def mapping(message: Message) -> Mapped | Skip:
        assert isinstance(message, JetStreamMessage)
        if message.payload.startswith(OPENING_BYTES) and (canary := canary_in_stream(message)) is not None:
            return to_topic(message, canary) if own(canary, passage) else Skip("heartbeat")
        parts = _taken_apart(message)
        left_out = policy is not None and not policy.accepts(parts.attributes, parts.payload)
        if left_out and not park_filtered:
            return Skip("filtered")
        if passage.echo(parts.via):
            return Skip("echo")
        try:
            lane = _group(message, group) if fifo else None
        except Unmappable as error:
            error.lane = fifo_id(message.subject)
            raise
        body, marker = body_of(parts.payload)
        try:
            if left_out:
                raise Unmappable(*LEFT_OUT)
            note = _note(message, parts, body, passage, first)
        except Unmappable as error:
            error.lane = lane
            raise
        attributes = parts.ten(note, marker)
        claim = _object_claim(body, attributes)
        trace = _trace_header(message) if TRACE in parts.names else None
        again = message.delivered > 1
        out = SnsOut(body, attributes, _subject(message), lane, _id(message, mark), trace, claim, again)
        return Mapped(out, lane)

    def to_topic(message: JetStreamMessage, canary: Canary) -> Mapped:
        lane = TOKEN if fifo else None
        again = message.delivered > 1
        out = SnsOut(written(canary), mark_of(canary), None, lane, _id(message, mark), again=again)
        return Mapped(out, lane, canary)

    return mapping


class _Parts(NamedTuple):
    """`attributes` are those it had in SQS, or those its own headers make; `rest` are the headers that make none, and
    `names` those of all its headers. `amazons`: some attributes may have names SQS refuses."""

    names: frozenset[str]
    payload: bytes
    attributes: dict[str, Attribute]
    rest: tuple[tuple[str, str], ...]
    via: tuple[str, ...]
    amazons: bool

    def all(self, note: Note, marker: dict[str, Attribute]) -> dict[str, Attribute]:
        """The attributes where any number is taken: in an SNS envelope. `marker` says how the body stands for the
        payload."""
        return {**self.attributes, **marker, MESSAGE: note.attribute()}

    def ten(self, note: Note, marker: dict[str, Attribute], *, amazons: bool = True) -> dict[str, Attribute]:
        """At most ten attributes; the others are packed into the note. Not `amazons`: those with names that only SNS
        takes are among the others."""
        kept, room = self.attributes, ATTRIBUTES - len(marker)
        if not amazons:
            kept = {name: each for name, each in kept.items() if sqs_name(name)}
            if len(kept) < room and len(kept) < len(self.attributes):
                packed = {name: each for name, each in self.attributes.items() if name not in kept}
                return {**kept, **marker, MESSAGE: note._replace(attributes=packed).attribute()}
        if len(kept) >= room:
            if len(self.attributes) == room and all(reserved(name) for name, _ in self.rest):
                # Ten attributes came out of SQS and ten go back; only what the bridge itself noted stays behind.
                return {**kept, **marker}
            kept = dict(list(kept.items())[: room - 1])
            note = note._replace(attributes={name: each for name, each in self.attributes.items() if name not in kept})
        return {**kept, **marker, MESSAGE: note.attribute()}


def _taken_apart(message: JetStreamMessage) -> _Parts:
    payload, headers = message.payload, message.headers
    shape = shape_of(headers)
    names = shape.names
    large: dict[str, Attribute] = {}
    if MARK in names and message.header(MARK) and (unpacked := unfitted(payload)) is not None:
        payload, large = unpacked
        headers = tuple(pair for pair in headers if pair[0] != MARK)
        shape = shape_of(headers)
    restored, rest = from_headers(headers, shape)
    if large:
        restored |= large
    for name in (ENCODING, MESSAGE):  # of an earlier crossing: kept, but not as what is true now
        if name in restored:
            rest.append((name, str(restored.pop(name).value)))
    return _Parts(
        names, payload, restored, tuple(rest), via_of(message) if VIA in names else (), shape.amazons or bool(large)
    )


def _note(message: JetStreamMessage, parts: _Parts, body: str, passage: Passage, first: tuple[str, ...]) -> Note:
    via = passage.on(parts.via) if parts.via else first
    return Note(message.subject, message.stream, message.sequence, via, parts.rest, None, digest_of(body))


def _due_at(message: JetStreamMessage, *, fifo: bool) -> float | None:
    """When a producer asked, in the header DELAY, for the message to be seen. Source: SQS API reference,
    SendMessage, DelaySeconds: up to 900, and for a FIFO queue only on the queue."""
    asked = message.header(DELAY)
    if asked is None:
        return None
    if not asked.isascii() or not asked.isdecimal() or int(asked) > LONGEST_DELAY:
        raise Unmappable(DELAY, f"it is no number of seconds from 0 to {LONGEST_DELAY}")
    if fifo:
        raise Unmappable(DELAY, "a FIFO queue delays all its messages or none", hint="leave it out")
    return message.timestamp + int(asked)


def _trace_header(message: JetStreamMessage) -> str | None:
    trace = message.header(TRACE)
    return trace if trace and trace.startswith("Root=") and xml_text(trace) else None


def _object_claim(body: str, attributes: dict[str, Attribute]) -> Claim | None:
    """The payload to fetch. A pointer into S3 is what legacy consumers read; one into an Object Store they cannot
    follow."""
    claim = claim_of(body, attributes)
    return claim if claim is not None and claim.store == "object_store" else None


def _id(message: JetStreamMessage, mark: str) -> str:
    """The same for every delivery of a message, and no other message's: a stream made anew numbers anew."""
    return fifo_id(f"{message.stream}-{message.sequence}{f'-{mark}' if mark else ''}")


def lane_rule(template: GroupTemplate | None) -> Lane:
    """The lane of a message towards a FIFO queue or topic, also where the template finds none in it: by its subject."""

    def rule(message: Message) -> str:
        assert isinstance(message, JetStreamMessage)
        try:
            return _group(message, template)
        except Unmappable:
            return fifo_id(message.subject)

    return rule


def _group(message: JetStreamMessage, template: GroupTemplate | None) -> str:
    """Template, else the group it had in SQS, else its subject."""
    if template is not None:
        return template.render(message)
    return fifo_id(message.header("Sqs-Message-Group-Id") or message.subject)


def _subject(message: JetStreamMessage) -> str | None:
    """The SNS subject it once had, where SNS takes it. Source: SNS API reference, Publish: under 100 characters."""
    text = subject_of(message)
    return text if text and len(text) < 100 and text.isprintable() and not text[0].isspace() else None
