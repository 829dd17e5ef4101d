"""JetStream to SQS and to SNS: a JetStreamMessage as an SqsOut or SnsOut. The wire format is docs/wire-format.md.

Total and deterministic. Attributes come back as they were; what has no place of its own goes into one JSON attribute,
the note (note.py). May not: drop anything.
"""

from __future__ import annotations

import re
from collections import abc
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

from bridge.core.errors import Unmappable
from bridge.core.filtering import LEFT_OUT, FilterPolicy
from bridge.core.mapping.claims import claim_of, points
from bridge.core.mapping.envelope import enveloped, subject_of
from bridge.core.mapping.headers import TRACE, field_of, from_headers, reserved, sendable, shape_of, sqs_name
from bridge.core.mapping.heartbeat import OPENING_BYTES, TOKEN, canary_in_stream, mark_of, own, written
from bridge.core.mapping.note import ATTRIBUTES, ENCODING, MESSAGE, Note, body_of
from bridge.core.mapping.packing import MARK, unfitted
from bridge.core.mapping.provenance import NOWHERE, VIA, Passage, digest_of, via_of
from bridge.core.mapping.subject import GroupTemplate, fifo_id
from bridge.core.models import NONE, Attribute, Canary, Claim, JetStreamMessage, Message, Out, SnsOut, SqsOut
from bridge.core.route import Lane, Mapped, Mapping, Skip

LONGEST_DELAY = 900
GROUP = "Sqs-Message-Group-Id"
DELAY = "Sqs-Delay-Seconds"
_TRACE = re.compile(r"Root=1-[0-9a-fA-F]{8}-[0-9a-fA-F]{24}(?:;[A-Za-z]{1,32}=[!-:<-~]{1,128}){0,8}")
"""What AWS calls a correctly formatted trace header; any other would fail a batch. Source: X-Ray developer guide."""


def nats_to_sqs(
    *,
    fifo: bool,
    group: GroupTemplate | None = None,
    envelope: str | None = None,
    passage: Passage = NOWHERE,
    policy: FilterPolicy | None = None,
    park_filtered: bool = False,
    keep: Sequence[str] = (),
) -> Mapping:
    """A Mapping for one route. `fifo`: the queue is a FIFO queue; `group` overrides where group ids come from;
    `envelope`: the ARN of the topic to name in an SNS envelope around the message. `policy`: what it does not accept is
    skipped, or with `park_filtered` Unmappable. `keep`: the names of attributes that stay attributes first, where there
    are more than ten."""

    mark = passage.mark

    def out(message: JetStreamMessage, parts: _Parts, note: Note, text: Text, group_id: str | None) -> SqsOut:
        body, marker = text
        due_at = _due_at(message, fifo=fifo) if DELAY in parts.names else None
        attributes: dict[str, Attribute]
        if envelope is not None:
            body = enveloped(message, body, parts.all(note, marker), topic_arn=envelope, mark=mark)
            attributes = {}
        else:
            attributes = parts.ten(note, marker, keep, amazons=not parts.amazons)
        trace = _trace_header(message) if TRACE in parts.names else None
        claim = _object_claim(body, attributes)
        again = message.delivered > 1
        return SqsOut(body, attributes, group_id, _id(message, mark), trace, due_at, claim, again)

    def heartbeat(message: JetStreamMessage, canary: Canary) -> SqsOut:
        body, attributes = written(canary), mark_of(canary)
        if envelope is not None:
            body, attributes = enveloped(message, body, attributes, topic_arn=envelope, mark=mark), {}
        return SqsOut(body, attributes, TOKEN if fifo else None, _id(message, mark), again=message.delivered > 1)

    return _mapping(out, heartbeat, fifo, group, passage, policy, park_filtered)


def nats_to_sns(
    *,
    fifo: bool,
    group: GroupTemplate | None = None,
    passage: Passage = NOWHERE,
    policy: FilterPolicy | None = None,
    park_filtered: bool = False,
    keep: Sequence[str] = (),
) -> Mapping:
    """A Mapping for one route. `fifo`: the topic is a FIFO topic; the others as in `nats_to_sqs`."""

    mark = passage.mark

    def out(message: JetStreamMessage, parts: _Parts, note: Note, text: Text, group_id: str | None) -> SnsOut:
        body, marker = text
        attributes = parts.ten(note, marker, keep)
        claim = _object_claim(body, attributes)
        trace = _trace_header(message) if TRACE in parts.names else None
        again = message.delivered > 1
        return SnsOut(body, attributes, _subject(message), group_id, _id(message, mark), trace, claim, again)

    def heartbeat(message: JetStreamMessage, canary: Canary) -> SnsOut:
        lane, again = TOKEN if fifo else None, message.delivered > 1
        return SnsOut(written(canary), mark_of(canary), None, lane, _id(message, mark), again=again)

    return _mapping(out, heartbeat, fifo, group, passage, policy, park_filtered)


def _mapping(
    out: Callable[[JetStreamMessage, _Parts, Note, Text, str | None], Out],
    heartbeat: Callable[[JetStreamMessage, Canary], Out],
    fifo: bool,
    group: GroupTemplate | None,
    passage: Passage,
    policy: FilterPolicy | None,
    park_filtered: bool,
) -> Mapping:
    """What both destinations share: which messages are carried, in which lane, and what is noted of them. `out` and
    `heartbeat` write what is sent."""

    to = passage.back_to
    on = lru_cache(maxsize=32)(passage.on)  # most messages have been to the same places
    grouped = fifo or group is not None

    def mapping(message: Message) -> Mapped | Skip:
        assert isinstance(message, JetStreamMessage)
        if message.payload.startswith(OPENING_BYTES) and (canary := canary_in_stream(message)) is not None:
            if not own(canary, passage):
                return Skip("heartbeat")
            return Mapped(heartbeat(message, canary), TOKEN if fifo else None, canary)
        parts = _taken_apart(message)
        left_out = policy is not None and not policy.accepts(parts.attributes, parts.payload)
        if left_out and not park_filtered and not points(policy, parts.payload, parts.attributes):
            return Skip("filtered")
        if passage.echo(parts.via):
            return Skip("echo")
        try:
            group_id = _group(message, group, fifo=fifo) if grouped or GROUP in parts.names else None
        except Unmappable as error:
            error.lane = fifo_id(message.subject)
            raise
        lane = group_id if fifo else None
        text = body_of(parts.payload)
        try:
            if left_out:
                raise Unmappable(*LEFT_OUT)
            via, digest = on(parts.via), digest_of(text[0])
            note = Note(message.subject, message.stream, message.sequence, via, parts.rest, None, digest, to)
            return Mapped(out(message, parts, note, text, group_id), lane)
        except Unmappable as error:
            error.lane = lane
            raise

    return mapping


Text = tuple[str, dict[str, Attribute]]
"""A payload as the text of a body, and the attribute that says how it was written, if one must."""


class _Parts(NamedTuple):
    """`attributes` are those it had in SQS, or those its own headers make; `rest` are the headers that make none, and
    `names` those of all its headers. `amazons`: some attributes may have names SQS refuses. `odd` are attributes that
    were packed and that neither SQS nor SNS takes."""

    names: frozenset[str]
    payload: bytes
    attributes: dict[str, Attribute]
    rest: tuple[tuple[str, str], ...]
    via: tuple[str, ...]
    amazons: bool
    odd: abc.Mapping[str, Attribute]

    def all(self, note: Note, marker: dict[str, Attribute]) -> dict[str, Attribute]:
        """The attributes where any number is taken: in an SNS envelope. `marker` says how the body represents the
        payload."""
        if self.odd:
            note = note._replace(attributes=self.odd)
        return {**self.attributes, **marker, MESSAGE: note.attribute()}

    def ten(
        self, note: Note, marker: dict[str, Attribute], keep: Sequence[str], *, amazons: bool = True
    ) -> dict[str, Attribute]:
        """At most ten attributes, those to keep first; the others are packed into the note. Not `amazons`: those with
        names that only SNS takes are among the others."""
        kept, room = self.attributes, ATTRIBUTES - len(marker)
        if not amazons:
            kept = {name: each for name, each in kept.items() if sqs_name(name)}
        if len(kept) >= room:
            if len(self.attributes) == room and not self.odd and all(reserved(name) for name, _ in self.rest):
                # Ten attributes came out of SQS and ten go back; only what the bridge itself noted stays behind.
                return {**kept, **marker}
            names = [name for name in keep if name in kept] if keep else []
            kept = {name: kept[name] for name in list(dict.fromkeys([*names, *kept]))[: room - 1]}
        if self.odd or len(kept) < len(self.attributes):
            others = {name: each for name, each in self.attributes.items() if name not in kept}
            note = note._replace(attributes={**others, **self.odd})
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
    odd: abc.Mapping[str, Attribute] = NONE
    if large:
        odd = {name: each for name, each in large.items() if not sendable(name, each)}
        restored |= {name: each for name, each in large.items() if name not in odd}
    for name in (ENCODING, MESSAGE):  # of an earlier crossing: kept, but not as current values
        if name in restored:
            rest.append((name, str(restored.pop(name).value)))
    amazons = shape.amazons or bool(large)
    return _Parts(names, payload, restored, tuple(rest), via_of(message) if VIA in names else (), amazons, odd)


def _due_at(message: JetStreamMessage, *, fifo: bool) -> float | None:
    """When a producer asked, in the header DELAY, for the message to be seen. Source: SQS API reference,
    SendMessage, DelaySeconds: up to 900, and for a FIFO queue only on the queue."""
    asked = message.header(DELAY)
    if asked is None:
        return None
    if not asked.isascii() or not asked.isdecimal() or len(asked) > 6 or int(asked) > LONGEST_DELAY:
        raise Unmappable(DELAY, f"not a number of seconds from 0 to {LONGEST_DELAY}")
    if fifo:
        raise Unmappable(DELAY, "a FIFO queue delays all its messages or none", hint="leave it out")
    return message.timestamp + int(asked)


def _trace_header(message: JetStreamMessage) -> str | None:
    trace = message.header(TRACE)
    return trace if trace and _TRACE.fullmatch(trace) else None


def _object_claim(body: str, attributes: dict[str, Attribute]) -> Claim | None:
    """The payload to fetch. A pointer into S3 is what legacy consumers read; one into an Object Store they cannot
    follow."""
    claim = claim_of(body, attributes)
    return claim if claim is not None and claim.store == "object_store" else None


def _id(message: JetStreamMessage, mark: str) -> str:
    """The same for every delivery of a message, and no other message's: a recreated stream starts its numbers again, so
    the millisecond it was stored in is part of it."""
    return fifo_id(f"{message.stream}-{message.sequence}-{int(message.timestamp * 1000)}{f'-{mark}' if mark else ''}")


def lane_rule(template: GroupTemplate | None) -> Lane:
    """The lane of a message towards a FIFO queue or topic, also where the template finds none in it: by its subject."""

    def rule(message: Message) -> str | None:
        assert isinstance(message, JetStreamMessage)
        try:
            return _group(message, template, fifo=True)
        except Unmappable:
            return fifo_id(message.subject)

    return rule


def _group(message: JetStreamMessage, template: GroupTemplate | None, *, fifo: bool) -> str | None:
    """Template, else the group it had in SQS, else its subject. A standard queue or topic is shared fairly between
    groups and promises them no order: a message that names none is sent without one."""
    if template is not None:
        try:
            return template.render(message)
        except Unmappable:
            if fifo:
                raise
            return None
    found = field_of(message, GROUP)
    return fifo_id(found or message.subject) if found or fifo else None


def _subject(message: JetStreamMessage) -> str | None:
    """The SNS subject it once had, where SNS takes it. Source: SNS API reference, Publish: under 100 characters."""
    text = subject_of(message)
    return text if text and len(text) < 100 and text.isprintable() and not text[0].isspace() else None
