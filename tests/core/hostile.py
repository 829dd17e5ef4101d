"""Messages as somebody writes them who means harm: any text anywhere, forged envelopes, notes, marks and documents."""

from __future__ import annotations

import json
import re
from typing import Any

from hypothesis import strategies as st

from bridge.core.errors import Unmappable
from bridge.core.mapping.headers import base64_of, packed
from bridge.core.mapping.heartbeat import HEADER, mark_of, written
from bridge.core.mapping.note import ENCODING, MESSAGE
from bridge.core.mapping.provenance import digest_of
from bridge.core.mapping.sizes import publish_block
from bridge.core.models import Attribute, Canary, JetStreamMessage, JetStreamOut, Message, SnsOut, SqsMessage, SqsOut
from bridge.core.route import Mapped, Mapping
from bridge.legs.wire import header_pairs_of

QUEUE = "arn:aws:sqs:eu-west-1:123456789012:orders"
STREAM = "jetstream:ORDERS@2026-01-01T00:00:00Z"
TOPIC = "arn:aws:sns:eu-west-1:123456789012:payments"

NASTY = st.sampled_from(
    [
        *(
            "x\r\nNats-Rollup: all",
            "\n",
            "\r",
            "\0",
            "\ud800",
            "a\udcffb",
            " ",
            "\t",
            " x ",
            "x\tNats-TTL: 1",
            "",
            "%s",
        ),
        *(
            "\u2028",
            "\x0b",
            "\x0c",
            "\x7f",
            "\x85",
            "\ufffe",
            "\x1b]0;pwn\x07",
            ":",
            "~",
            "*.>",
            "$JS.API.>",
            "ä" * 300,
        ),
        *("x:5", "id\r\n\r\nPUB a 1\r\nx", "9" * 5_000, "²", "1e999", "[" * 3_000, '{"a":' * 2_000, "x" * 20_000),
    ]
)
TEXT = st.one_of(
    st.text(st.characters(exclude_categories=[]), max_size=12),
    NASTY,
    st.sampled_from([QUEUE, STREAM, TOPIC, "1700000000000", "0b2c8a9e-5f6d-4e7f-8a9b-0c1d2e3f4a5b"]),
)
NAMES = st.one_of(
    TEXT,
    st.sampled_from(
        [
            *(
                "Nats-Rollup",
                "nats-msg-id",
                "Nats-Expected-Stream",
                "Status",
                "Sqs-Attr-x",
                "Sqs-Type-x",
                "Sqs-Encoding-x",
            ),
            *(
                "Sqs-Attributes",
                "Sqs-Packed",
                "Bridge-Via",
                "X-Amzn-Trace-Id",
                "Sns-Subject",
                "AWS.x",
                "a",
                "A",
                "é",
                HEADER,
            ),
            *(
                "ExtendedPayloadSize",
                "nats.claim",
                "traceparent",
                MESSAGE,
                ENCODING,
                "Sqs-Queue-Arn-Encoding",
                "a b",
                "a:b",
            ),
        ]
    ),
)
ODD = st.one_of(st.none(), st.booleans(), st.just(10**400), st.just(float("nan")), st.just([]), st.just({}), TEXT)
"""What stands where a text should."""

DATA_TYPES = st.sampled_from(["String", "Number", "Binary", "String.Array", "Number.int"]) | TEXT


def _attribute(kind: str, value: str) -> Attribute:
    binary = kind.partition(".")[0] == "Binary"
    return Attribute(kind, value.encode("utf-8", "surrogatepass") if binary else value)


ATTRIBUTES = st.builds(_attribute, DATA_TYPES, TEXT)
PAIRS = st.lists(st.tuples(NAMES, TEXT), max_size=4)


def _doubled(document: dict[str, Any], twice: bool) -> str:
    text = json.dumps(document)
    return text if not twice or len(document) < 1 else f'{text[:-1]}, "{next(iter(document))}": "again"}}'


@st.composite
def notes(draw: st.DrawFn, body: str) -> Attribute:
    places = st.lists(TEXT, max_size=9) | st.sampled_from([[STREAM], [QUEUE, STREAM]])
    document: dict[str, Any] = {
        "subject": draw(TEXT),
        "stream": draw(TEXT),
        "seq": draw(st.integers(0, 99) | ODD),
        "via": draw(places | ODD),
        "of": draw(st.just(digest_of(body)) | ODD),
        "to": draw(st.just(QUEUE) | ODD),
        "headers": draw(PAIRS | ODD),
        "attributes": draw(st.dictionaries(TEXT, ATTRIBUTES, max_size=3).map(packed) | ODD),
    }
    for name in draw(st.sets(st.sampled_from([*document]), max_size=2)):
        del document[name]
    return Attribute("String", _doubled(document, draw(st.booleans()) and bool(document)))


@st.composite
def _attributes(draw: st.DrawFn, body: str) -> dict[str, Attribute]:
    found = draw(st.dictionaries(NAMES, ATTRIBUTES, max_size=4))
    if draw(st.booleans()):
        found[MESSAGE] = draw(notes(body))
    if draw(st.integers(0, 5)) == 0:
        found[ENCODING] = Attribute("String", draw(st.sampled_from(["base64", "empty", "x"])))
    return found


def _canary(route: str) -> str:
    return written(Canary(route, "0" * 8, "0" * 32, 9e10))


BODIES = st.one_of(
    TEXT,
    st.builds(lambda bucket, key: json.dumps(["nats.object_store", {"bucket": bucket, "name": key}]), ODD, ODD),
    st.just(_canary("in")),
    st.binary(max_size=9).map(base64_of),
)


@st.composite
def _envelopes(draw: st.DrawFn) -> str:
    body = draw(BODIES)
    entries: Any = {
        name: {"Type": each.data_type, "Value": base64_of(each.value) if isinstance(each.value, bytes) else each.value}
        for name, each in draw(_attributes(body)).items()
    }
    document: dict[str, Any] = {
        "Type": "Notification",
        "MessageId": draw(TEXT | ODD),
        "TopicArn": draw(TEXT.map(lambda text: f"arn:{text}") | st.just(TOPIC)),
        "Message": body,
        "Timestamp": draw(TEXT),
        "SignatureVersion": "1",
        "Signature": "",
        "SigningCertURL": "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-1.pem",
        "Subject": draw(TEXT | ODD),
        "SequenceNumber": draw(TEXT | ODD),
        "MessageAttributes": draw(st.just(entries) | ODD | st.dictionaries(TEXT, ODD, max_size=2)),
    }
    return json.dumps(document)


SYSTEM = st.dictionaries(
    st.sampled_from(
        [
            *(
                "SentTimestamp",
                "ApproximateReceiveCount",
                "ApproximateFirstReceiveTimestamp",
                "SenderId",
                "AWSTraceHeader",
            ),
            *("MessageGroupId", "MessageDeduplicationId", "SequenceNumber", "DeadLetterQueueSourceArn"),
        ]
    ),
    TEXT,
    max_size=4,
)


@st.composite
def sqs_messages(draw: st.DrawFn) -> SqsMessage:
    enveloped = draw(st.booleans())
    body = draw(_envelopes() if enveloped else BODIES)
    attributes = {} if enveloped else draw(_attributes(body))
    if body == _canary("in") and draw(st.booleans()):
        attributes = mark_of(Canary("in", "", "", 0.0))
    return SqsMessage(draw(TEXT), body, "orders", draw(st.just(QUEUE) | TEXT), attributes, draw(SYSTEM))


@st.composite
def _packed(draw: st.DrawFn) -> bytes:
    attributes = draw(st.dictionaries(NAMES, ATTRIBUTES, max_size=3).map(packed) | ODD)
    document: dict[str, Any] = {"body": draw(TEXT | ODD), "attributes": attributes}
    if draw(st.booleans()):
        document[draw(st.sampled_from(["encoding", "x"]))] = draw(st.just("base64") | ODD)
    return _doubled(document, draw(st.booleans())).encode("utf-8", "surrogatepass")


@st.composite
def jetstream_messages(draw: st.DrawFn) -> JetStreamMessage:
    """As the wire client gives them: header values are single lines, and bytes that are no UTF-8 lone surrogates."""
    payload = draw(st.binary(max_size=20) | BODIES.map(lambda text: text.encode("utf-8", "surrogatepass")) | _packed())
    headers = draw(st.lists(st.tuples(NAMES, TEXT), max_size=14))
    if draw(st.booleans()):
        headers.append(("Sqs-Packed", "1"))
    for name in draw(
        st.sets(st.sampled_from(["Sns-Message-Id", "Sns-Topic-Arn", "Sns-Subject", "Sqs-Message-Group-Id"]))
    ):
        headers.append((name, draw(TEXT)))
        if draw(st.booleans()):
            headers.append((f"{name}-Encoding", draw(st.sampled_from(["base64", "x"]))))
    if draw(st.booleans()):
        headers += [("Nats-Msg-Id", "m"), ("Bridge-Via", f"m {QUEUE} {draw(TEXT)}")]
    if draw(st.booleans()):
        headers.append(
            ("Sqs-Attributes", draw(TEXT | _packed().map(lambda raw: raw.decode("utf-8", "surrogateescape"))))
        )
    if draw(st.integers(0, 5)) == 0:
        headers.append(("Sqs-Delay-Seconds", draw(TEXT | st.just("60"))))
    lines = tuple((re.sub(r"[\r\n:]", "", name), _from_the_wire(value)) for name, value in headers)
    subject = draw(TEXT.map(lambda text: re.sub(r"[\r\n\t ]", "", text)) | st.just("orders.paid"))
    return JetStreamMessage(subject, payload, "ORDERS", draw(st.integers(1, 2**63)), 1700000000.0, 1, lines)


def _from_the_wire(value: str) -> str:
    raw = re.sub(r"[\r\n]", "", value).strip(" \t").encode("utf-8", "surrogatepass")
    return raw.decode("utf-8", "surrogateescape")


_XML = re.compile("[\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]*")
_NAME = re.compile(r"(?!\.)(?!.*\.\.)[A-Za-z0-9_.-]{1,256}(?<!\.)")
_ID = re.compile(r"[!-~]{1,128}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def refused(out: SqsOut | SnsOut, *, fifo: bool) -> str:
    """Why AWS would not take this, or nothing. Source: API references of SQS (SendMessage, MessageAttributeValue) and
    SNS (Publish)."""
    body = out.body if isinstance(out, SqsOut) else out.message
    if not body or not _XML.fullmatch(body):
        return "the body"
    if len(out.attributes) > 10:
        return "more than ten attributes"
    for name, (kind, value) in out.attributes.items():
        amazons = isinstance(out, SqsOut) and name.lower().startswith(("aws.", "amazon."))
        if (
            not _NAME.fullmatch(name)
            or amazons
            or not value
            or not re.fullmatch(r"(String|Number|Binary)(\.[\w.-]+)?", kind, re.ASCII)
        ):
            return f"attribute {name!r}"
        if isinstance(value, bytes) != kind.startswith("Binary"):
            return f"the type of {name!r}"
        if isinstance(value, str) and not _XML.fullmatch(value):
            return f"the text of {name!r}"
        if kind.startswith("Number") and not _NUMBER.fullmatch(str(value)):
            return f"the number of {name!r}"
    if (fifo and not out.group) or (out.group is not None and not _ID.fullmatch(out.group)):
        return "the group"
    if not _ID.fullmatch(out.dedup_id or ""):
        return "the deduplication id"
    if out.trace_header is not None and not re.fullmatch(
        r"Root=1-[0-9a-fA-F]{8}-[0-9a-fA-F]{24}[!-~]*", out.trace_header
    ):
        return "the trace header"
    subject = out.subject if isinstance(out, SnsOut) else None
    if subject is not None and (not 0 < len(subject) < 100 or not subject.isprintable() or subject[0].isspace()):
        return "the subject"
    return ""


def mapped(mapping: Mapping, message: Message) -> Mapped | None:
    """What a mapping gives for a message, if it carries it. Anything but Mapped, Skip or Unmappable is an error."""
    try:
        found = mapping(message)
    except Unmappable:
        return None
    return found if isinstance(found, Mapped) else None


ENVELOPE = {
    "Type": "Notification",
    "MessageId": "0b2c8a9e-5f6d-4e7f-8a9b-0c1d2e3f4a5b",
    "TopicArn": TOPIC,
    "Message": "m",
    "Timestamp": "2026-01-01T00:00:00.000Z",
    "SignatureVersion": "1",
    "Signature": "c2ln",
    "SigningCertURL": "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-1.pem",
}


def envelope(**fields: object) -> SqsMessage:
    return SqsMessage("sqs-id", json.dumps({**ENVELOPE, **fields}), "orders", QUEUE, {}, {"SentTimestamp": "1"})


def stored(out: JetStreamOut, sequence: int = 7) -> JetStreamMessage:
    return JetStreamMessage(
        out.subject, out.payload, "ORDERS", sequence, 1700000000.0, 1, header_pairs_of(publish_block(out))
    )
