"""SQS to JetStream: an SqsMessage as a JetStreamOut, the SNS envelope unwrapped. Format: docs/wire-format.md.

Total and deterministic: the same message gives the same subject, payload and Nats-Msg-Id, or Unmappable.
May not: drop anything.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import abc
from functools import lru_cache
from typing import Literal

from bridge.core.errors import Unmappable
from bridge.core.filtering import LEFT_OUT, FilterPolicy
from bridge.core.mapping.claims import claim_of, points
from bridge.core.mapping.envelope import headers_of, notification_of
from bridge.core.mapping.headers import carriable, header_safe, set_field
from bridge.core.mapping.heartbeat import HEADER, OPENING, canary_in, own, subject_of
from bridge.core.mapping.note import ENCODING, MESSAGE, Note, payload_of, read
from bridge.core.mapping.packing import fitted
from bridge.core.mapping.provenance import NOWHERE, Passage, digest_of, marked, place
from bridge.core.mapping.signature import signed
from bridge.core.mapping.subject import DueTemplate, SubjectTemplate
from bridge.core.models import Attribute, JetStreamOut, Message, SqsMessage
from bridge.core.route import Mapped, Mapping, Skip

Attributes = abc.Mapping[str, Attribute]

SYSTEM = {
    "SentTimestamp": "Sqs-Sent-Timestamp",
    "ApproximateReceiveCount": "Sqs-Receive-Count",
    "ApproximateFirstReceiveTimestamp": "Sqs-First-Receive-Timestamp",
    "SenderId": "Sqs-Sender-Id",
    "MessageGroupId": "Sqs-Message-Group-Id",
    "MessageDeduplicationId": "Sqs-Message-Deduplication-Id",
    "SequenceNumber": "Sqs-Sequence-Number",
    "DeadLetterQueueSourceArn": "Sqs-Dead-Letter-Queue-Source-Arn",
    "AWSTraceHeader": "X-Amzn-Trace-Id",
}
"""SQS system attributes and their headers. Timestamps stay epoch milliseconds, as SQS spells them."""

_ID = re.compile(r"[0-9A-Za-z_-]{1,128}")
LONGEST_TIME = 15  # digits of milliseconds since the epoch


def sqs_to_nats(
    template: SubjectTemplate,
    *,
    envelope: Literal["auto", "never"] = "auto",
    fifo: bool = False,
    passage: Passage = NOWHERE,
    policy: FilterPolicy | None = None,
    park_filtered: bool = False,
    life: float | abc.Callable[[], float] | None = None,
    id_scope: Literal["topic", "queue"] = "topic",
    due: DueTemplate | None = None,
    fetch: bool = True,
    verify: bool = False,
) -> Mapping:
    """A Mapping for one route. `fifo`: the source is a FIFO queue, so its message groups are lanes. `life`: seconds
    after which the stream may forget a message, from its sending. `id_scope`: whether the copies of one SNS message in
    several queues share an id (topic), or each has its own (queue). `due`: when it is to be delivered. `fetch`: the
    payload a pointer points to may be fetched; else the pointer is the payload. `verify`: an envelope's signature is
    passed on, to be checked. `policy`: what it does not accept is skipped, or with `park_filtered` Unmappable."""

    heartbeats = subject_of(template)
    own_arn = passage.source if header_safe(passage.source) else ""  # of nearly every message
    source, route = passage.source, passage.route

    @lru_cache(maxsize=64)
    def first(topic: str) -> str:
        """What follows the id in the mark of a message that has been nowhere: the most common case, few topics."""
        return marked("", passage.on((), topic))

    def queued(message: SqsMessage) -> str:
        if id_scope != "queue":
            return ""
        return f"{message.queue}@{hashlib.sha256(message.queue_arn.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}:"

    def mapping(message: Message) -> Mapped | Skip:
        assert isinstance(message, SqsMessage)
        # A group id on a standard queue is a tenant (fair queues), and no promise of order.
        lane = message.system.get("MessageGroupId") if fifo else None
        try:
            return mapped(message, lane)
        except Unmappable as error:
            error.lane = lane
            raise

    def mapped(message: SqsMessage, lane: str | None) -> Mapped | Skip:
        notification = notification_of(message) if envelope == "auto" else None
        body, attributes = message.body, message.attributes
        if notification is not None:
            body, attributes = notification.message, notification.attributes
        if body.startswith(OPENING) and (canary := canary_in(body, attributes)) is not None:
            if not own(canary, passage):
                return Skip("heartbeat")
            headers = {HEADER: canary.route, "Bridge-Route": passage.route}
            expires_at = None if life is None else _expires_at(message, life)
            msg_id = _msg_id("sqs", "Sqs-Message-Id", message.message_id, {})
            return Mapped(JetStreamOut(heartbeats, body.encode(), msg_id, headers, expires_at=expires_at), lane, canary)
        note = None
        payload: bytes | None = None
        if MESSAGE in attributes or ENCODING in attributes:
            note, payload, attributes = _returned(body, attributes)
        if payload is None:
            payload = _encoded(body)
        left_out = policy is not None and not policy.accepts(attributes, payload)
        if left_out and not park_filtered and not (fetch and points(policy, payload, attributes)):
            return Skip("filtered")
        via: tuple[str, ...] = ()
        returned = ""
        if note is not None and note.via and note.of == digest_of(body):
            via = note.via
            if passage.returned(via, note.to):
                # It has been in the stream under its id. SNS signs no note, and a genuine envelope repeated with a
                # forged note must not be carried twice.
                returned = "" if verify else f":{note.sequence}"
            elif passage.echo(via):
                return Skip("echo")
        if left_out:
            raise Unmappable(*LEFT_OUT)
        fixed = {"Sqs-Queue-Arn": own_arn}
        if message.queue_arn != own_arn:
            del fixed["Sqs-Queue-Arn"]
            set_field(fixed, "Sqs-Queue-Arn", message.queue_arn)
        topic = ""
        if notification is None:
            msg_id = _msg_id("sqs", "Sqs-Message-Id", message.message_id, fixed)
        else:
            set_field(fixed, "Sqs-Message-Id", message.message_id)
            topic = notification.topic_arn
            msg_id = f"sns:{queued(message)}{notification.message_id}"
            fixed |= headers_of(notification, message.body)
        if returned:
            msg_id += returned
        system = message.system
        for name, header in _told(tuple(system)):
            value = system[name]
            # Most values are numbers, the fastest to check, and a queue has few senders.
            if value.isalnum() or (name == "SenderId" and place(value)):
                fixed[header] = value
            else:
                set_field(fixed, header, value)
        if source:
            fixed["Bridge-Via"] = marked(msg_id, passage.on(via, topic)) if via else msg_id + first(topic)
            fixed["Bridge-Route"] = route
        repeated: tuple[tuple[str, str], ...] = ()
        if note is not None:
            repeated, fixed["Bridge-Origin"] = _origin(note)
        headers, carried = fitted(attributes, fixed, repeated, payload)
        headers |= fixed
        subject = template.render(attributes, payload, message, notification)
        expires_at = None if life is None else _expires_at(message, life)
        claim = claim_of(payload, attributes) if fetch and carried is payload else None
        again = system.get("ApproximateReceiveCount", "1") != "1"
        due_at = None if due is None else due.render(attributes, payload)
        genuine = signed(notification.document) if verify and notification is not None else None
        out = JetStreamOut(subject, carried, msg_id, headers, repeated, expires_at, due_at, claim, genuine, again)
        return Mapped(out, lane)

    return mapping


def group_of(message: Message) -> str | None:
    """The lane of a message of a FIFO queue."""
    return message.system.get("MessageGroupId") if isinstance(message, SqsMessage) else None


@lru_cache(maxsize=256)
def _told(names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Those of these system attributes that become headers, in the order of SYSTEM: the same few sets come again."""
    return tuple((name, header) for name, header in SYSTEM.items() if name in names)


def _encoded(body: str) -> bytes:
    try:
        return body.encode()
    except UnicodeEncodeError:
        raise Unmappable("body", "it has half a surrogate pair, so it is not valid UTF-8") from None


def _returned(body: str, attributes: Attributes) -> tuple[Note | None, bytes | None, Attributes]:
    """A message that came out of JetStream before: its note, its payload and its attributes. What is not ours stays."""
    note, payload = read(attributes), payload_of(body, attributes.get(ENCODING))
    ours = {name for name, found in ((MESSAGE, note), (ENCODING, payload)) if found is not None}
    kept = {name: each for name, each in attributes.items() if name not in ours}
    if note is not None and note.attributes:
        kept = {**note.attributes, **kept}
    return note, payload, kept


def _origin(note: Note) -> tuple[tuple[tuple[str, str], ...], str]:
    """Its headers that may be headers again; and where it came from, as JSON, with those that may not."""
    again = tuple(pair for pair in note.headers if carriable(*pair))
    rest = [pair for pair in note.headers if not carriable(*pair)]
    document = {"subject": note.subject, "stream": note.stream, "seq": note.sequence}
    return again, json.dumps({**document, "headers": rest} if rest else document, separators=(",", ":"))


def _msg_id(kind: str, header: str, text: str, headers: dict[str, str]) -> str:
    """An id for Nats-Msg-Id, which is written to a header as well. Text that is not an id as SQS makes it is hashed: a
    forged one cannot end a header, and is never the id of another kind or of a message that returned."""
    if _ID.fullmatch(text):
        headers[header] = text
        return f"{kind}:{text}"
    set_field(headers, header, text)
    return f"{kind}:~{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"


def _expires_at(message: SqsMessage, life: float | abc.Callable[[], float]) -> float | None:
    """None where the message does not say when it was sent: then it lives as long as the stream keeps it."""
    sent = message.system.get("SentTimestamp", "0")
    if not (sent.isascii() and sent.isdecimal() and len(sent) <= LONGEST_TIME):
        return None
    return int(sent) / 1000 + (life() if callable(life) else life)
