"""The messages of the three systems, byte-faithful: what the source gave us, and what a destination is given.

May not: interpret. A body is kept as received; meaning is given in mapping/.

What exists once per message is a NamedTuple: as immutable as a frozen dataclass, and created in a third of the time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

NONE: Mapping[str, Any] = MappingProxyType({})


class Attribute(NamedTuple):
    """One SQS or SNS message attribute.

    `data_type` is `String`, `Number`, `Binary` or one of these with a `.custom` label (SNS adds `String.Array`);
    `value` is bytes for Binary types and text for all others.
    Source: SQS API reference, MessageAttributeValue.
    """

    data_type: str
    value: str | bytes

    @property
    def is_binary(self) -> bool:
        return isinstance(self.value, bytes)


@dataclass(frozen=True, slots=True)
class Claim:
    """Where a payload is that travels as a pointer: a key in an S3 bucket, or a name in an Object Store bucket."""

    store: Literal["s3", "object_store"]
    bucket: str
    key: str


@dataclass(frozen=True, slots=True)
class Canary:
    """A heartbeat: the route it proves alive, the mark of the source it was put into, its id, and when it was sent in
    seconds since the epoch."""

    route: str
    origin: str
    id: str
    sent: float


class SqsMessage(NamedTuple):
    """One message as ReceiveMessage returned it. `system` holds the SQS system attributes as SQS spells them."""

    message_id: str
    body: str
    queue: str
    queue_arn: str
    attributes: Mapping[str, Attribute] = NONE
    system: Mapping[str, str] = NONE

    @property
    def size(self) -> int:
        """Its approximate size: the characters of its body and attributes, plus overhead."""
        total = 512 + len(self.body)
        for _, value in self.attributes.values():
            total += len(value)
        return total


class SnsNotification(NamedTuple):
    """The SNS envelope found in an SQS body (RawMessageDelivery off), `document` as it was. Source: SNS developer
    guide, message formats."""

    message_id: str
    topic_arn: str
    message: str
    timestamp: str
    subject: str | None = None
    sequence_number: str | None = None
    attributes: Mapping[str, Attribute] = NONE
    document: Mapping[str, Any] = NONE

    @property
    def topic(self) -> str:
        """The topic's name: the last part of its ARN."""
        return self.topic_arn.rsplit(":", 1)[-1]


@dataclass(frozen=True, slots=True)
class SignedEnvelope:
    """What the signature of an SNS envelope covers, and what it takes to check it. `version` is 1 or 2."""

    text: bytes = field(repr=False)
    signature: bytes
    version: str
    certificate_url: str
    topic_arn: str


class JetStreamMessage(NamedTuple):
    """One message as a consumer delivered it.

    `headers` keeps every value of a repeated name, in wire order. `timestamp` is the time the stream stored it, in
    seconds since the epoch; `delivered` starts at 1.
    """

    subject: str
    payload: bytes
    stream: str
    sequence: int
    timestamp: float
    delivered: int = 1
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def size(self) -> int:
        """Its approximate size: payload and headers, plus overhead."""
        return 512 + len(self.payload) + sum([len(name) + len(value) for name, value in self.headers])

    def header(self, name: str) -> str | None:
        """The first value of `name` (header names are case-sensitive, ADR-4), or None."""
        for key, value in self.headers:
            if key == name:
                return value
        return None


class JetStreamOut(NamedTuple):
    """One message to publish. `headers` are ready for the wire, `repeated` holds those of several values; `msg_id`
    becomes Nats-Msg-Id. At `expires_at` (seconds since the epoch) the stream may forget it; before `due_at` it should
    not be delivered. With a `claim`, the payload is the pointer to one that may be fetched. `again`: it is a
    redelivery."""

    subject: str
    payload: bytes
    msg_id: str
    headers: Mapping[str, str] = NONE
    repeated: tuple[tuple[str, str], ...] = ()
    expires_at: float | None = None
    due_at: float | None = None
    claim: Claim | None = None
    signed: SignedEnvelope | None = None
    again: bool = False


class SqsOut(NamedTuple):
    """One SendMessageBatch entry. `dedup_id` is the message's own id, sent to a FIFO queue together with `group`. It
    stays hidden until `due_at`, seconds since the epoch. With a `claim`, the body is a pointer (see JetStreamOut)."""

    body: str
    attributes: Mapping[str, Attribute] = NONE
    group: str | None = None
    dedup_id: str | None = None
    trace_header: str | None = None
    due_at: float | None = None
    claim: Claim | None = None
    again: bool = False


class SnsOut(NamedTuple):
    """One PublishBatch entry; `dedup_id`, `claim` and `again` as in SqsOut. `trace_header` is never sent, as SNS
    takes none: it says which trace the message belongs to."""

    message: str
    attributes: Mapping[str, Attribute] = NONE
    subject: str | None = None
    group: str | None = None
    dedup_id: str | None = None
    trace_header: str | None = None
    claim: Claim | None = None
    again: bool = False


Message = SqsMessage | JetStreamMessage
Out = JetStreamOut | SqsOut | SnsOut
