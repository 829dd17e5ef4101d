"""Messages of SQS, SNS and NATS made of hostile values; and genuine ones of the bridge's own, changed in one place."""

from __future__ import annotations

import base64
import hashlib
import json
from random import Random
from typing import Any, NamedTuple

from bridge.core.errors import BridgeError
from bridge.core.mapping.nats_to_sqs import nats_to_sqs
from bridge.core.mapping.provenance import Passage
from bridge.core.mapping.sizes import header_pairs
from bridge.core.mapping.sqs_to_nats import sqs_to_nats
from bridge.core.mapping.subject import SubjectTemplate
from bridge.core.models import Attribute, JetStreamMessage, JetStreamOut, SqsMessage, SqsOut
from bridge.core.route import Mapped
from tests.fuzz import hostile
from tests.fuzz.ends import QUEUE_ARN, TOPIC_ARN

STREAM = "jetstream:ORDERS@2026-01-01T00:00:00Z"
IN = Passage("in", QUEUE_ARN, frozenset([STREAM]))
OUT = Passage("out", STREAM, frozenset(["arn:aws:sqs:eu-west-1:123456789012:legacy"]))
UUID = "5759e988-bd86-2e3f-e1be-46a994272793"
SYSTEM = (
    *("SentTimestamp", "ApproximateReceiveCount", "ApproximateFirstReceiveTimestamp", "SenderId", "MessageGroupId"),
    *("MessageDeduplicationId", "SequenceNumber", "DeadLetterQueueSourceArn", "AWSTraceHeader"),
)
TYPES = (
    *("String", "Number", "Binary", "String.Array", "Number.int", "Binary.png", "String.", "binary", "STRING", "", "x"),
    *("String.a b", "String.ä", "Number.\r\nNats-Rollup: all", "String.\0", "Binary.\ud800", "StringList", "Strings.x"),
)
_FORWARD = sqs_to_nats(SubjectTemplate.parse("orders.genuine"), passage=IN)
_BACK = nats_to_sqs(fifo=False, passage=OUT)


class Stored(NamedTuple):
    """A message as a stream holds it. `first` and `last` stand around its header lines in the block."""

    subject: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    payload: bytes = b""
    sequence: int = 7
    timestamp: float = 1.7e9
    delivered: int = 1
    first: bytes = b"NATS/1.0\r\n"
    last: bytes = b"\r\n"

    @property
    def block(self) -> bytes:
        if not self.headers and self.first == b"NATS/1.0\r\n":
            return b""
        return self.first + b"".join([name + b": " + value + b"\r\n" for name, value in self.headers]) + self.last


# -- SQS


def sqs_message(rng: Random) -> SqsMessage:
    """What a queue may bring: mostly what anyone can send, now and then what only a broken AWS would."""
    at = rng.random()
    if at < 0.25:
        return enveloped(rng)
    if at < 0.5:
        return forged_in_sqs(rng)
    return SqsMessage(
        identity(rng),
        body(rng),
        "orders",
        QUEUE_ARN,
        attributes(rng, _count(rng)),
        system(rng, hostile.chance(rng, 0.1)),
    )


def identity(rng: Random) -> str:
    return UUID if rng.random() < 0.95 else hostile.text(rng)


def body(rng: Random) -> str:
    return hostile.good_text(rng) if rng.random() < 0.7 else hostile.text(rng)


def _count(rng: Random) -> int:
    at = rng.random()
    return rng.randrange(4) if at < 0.8 else rng.randrange(12) if at < 0.995 else 300


def attributes(rng: Random, count: int) -> dict[str, Attribute]:
    return {hostile.name(rng): attribute(rng) for _ in range(count)}


def attribute(rng: Random) -> Attribute:
    kind = rng.choice(TYPES[:6]) if rng.random() < 0.8 else rng.choice(TYPES)
    if kind.partition(".")[0] == "Binary":
        return Attribute(kind, hostile.payload(rng))
    if kind.startswith("Number") and rng.random() < 0.7:
        return Attribute(kind, rng.choice(hostile.NUMERALS))
    return Attribute(kind, hostile.text(rng))


def system(rng: Random, broken: bool = False) -> dict[str, str]:
    """System attributes. Of them a sender chooses group, deduplication id and trace header."""
    found = {"SentTimestamp": "1700000000000", "ApproximateReceiveCount": rng.choice(("1", "1", "2"))}
    found["SenderId"] = "AIDAEXAMPLE"
    if rng.random() < 0.3:
        found["MessageGroupId"] = "".join([chr(rng.randrange(33, 127)) for _ in range(rng.choice((1, 5, 128)))])
    if rng.random() < 0.2:
        found["MessageDeduplicationId"] = rng.choice(("d", "x" * 128, "=~*>."))
    if rng.random() < 0.25:
        found["AWSTraceHeader"] = trace(rng)
    if broken:
        for name in rng.sample(SYSTEM, rng.randrange(1, 4)):
            found[name] = hostile.text(rng)
        if rng.random() < 0.2:
            found[hostile.name(rng)] = hostile.text(rng)
    return found


def trace(rng: Random) -> str:
    genuine = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
    return genuine if rng.random() < 0.4 else str(hostile.wrong(rng, genuine))


def envelope(rng: Random) -> dict[str, Any]:
    """An SNS envelope as AWS writes it."""
    found: dict[str, Any] = {
        "Type": "Notification",
        "MessageId": UUID,
        "TopicArn": TOPIC_ARN,
        "Message": hostile.good_text(rng),
        "Timestamp": "2026-01-01T00:00:00.000Z",
        "SignatureVersion": "1",
        "Signature": "AAAA",
        "SigningCertURL": "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0000.pem",
        "UnsubscribeURL": "https://sns.eu-west-1.amazonaws.com/?Action=Unsubscribe",
    }
    if rng.random() < 0.4:
        found["Subject"] = hostile.text(rng)
    if rng.random() < 0.2:
        found["SequenceNumber"] = rng.choice(("10000000000000000000", "1"))
    if rng.random() < 0.5:
        found["MessageAttributes"] = {
            hostile.name(rng): {"Type": rng.choice(TYPES), "Value": hostile.text(rng)} for _ in range(_count(rng))
        }
    if rng.random() < 0.05:
        found |= {"Type": "SubscriptionConfirmation", "Token": hostile.text(rng), "SubscribeURL": hostile.text(rng)}
    return found


def enveloped(rng: Random) -> SqsMessage:
    """A body that is an envelope, or says so: anyone may write one."""
    document: Any = envelope(rng)
    for _ in range(rng.choice((0, 1, 1, 2))):
        document = hostile.mutated(rng, document)
    text = json.dumps(document, ensure_ascii=rng.random() < 0.6)
    beside = attributes(rng, 1) if rng.random() < 0.15 else {}
    return SqsMessage(UUID, text, "orders", QUEUE_ARN, beside, system(rng))


def forged_in_sqs(rng: Random) -> SqsMessage:
    """What the bridge itself writes into a queue, changed in one place."""
    match rng.randrange(6):
        case 0:
            text, given = hostile.good_text(rng), {}
        case 1:
            text, given = heartbeat(rng), {"Bridge-Heartbeat": Attribute("String", "in")}
        case 2:
            text, given = pointer(rng)
        case 3:
            text = rng.choice((hostile.almost_base64(rng), "{}", ""))
            marker = rng.choice(("base64", "empty", "Base64", hostile.text(rng)))
            given = {"nats.encoding": Attribute(rng.choice(TYPES[:2]), marker)}
        case _:
            return _returned(rng)
    given = {**given, **attributes(rng, rng.randrange(2))}
    if rng.random() < 0.4:
        given["nats.message"] = Attribute("String", note(rng, text))
    return SqsMessage(UUID, text, "orders", QUEUE_ARN, given, system(rng))


def note(rng: Random, text: str) -> str:
    document: Any = {
        "subject": "orders.x",
        "stream": "ORDERS",
        "seq": 7,
        "via": [STREAM],
        "of": hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8].hex(),
        "headers": [[hostile.name(rng), hostile.text(rng)] for _ in range(rng.randrange(4))],
        "attributes": {hostile.name(rng): ["String", hostile.text(rng)]},
    }
    if rng.random() < 0.6:
        document = hostile.mutated(rng, document)
    return json.dumps(document)


def heartbeat(rng: Random) -> str:
    genuine = f'{{"heartbeat":"in","from":"{IN.mark}","id":"{"0" * 32}","sent":1764000000.125}}'
    return genuine if rng.random() < 0.3 else str(hostile.wrong(rng, genuine))


def pointer(rng: Random) -> tuple[str, dict[str, Attribute]]:
    """A claim check: the body and its mark."""
    document: Any = rng.choice(
        (
            ["software.amazon.payloadoffloading.PayloadS3Pointer", {"s3BucketName": "claims", "s3Key": "k"}],
            ["com.amazon.sqs.javamessaging.MessageS3Pointer", {"s3BucketName": "claims", "s3Key": "k"}],
            ["nats.object_store", {"bucket": "claims", "name": "k"}],
        )
    )
    if rng.random() < 0.6:
        document = hostile.mutated(rng, document)
    mark = rng.choice(("ExtendedPayloadSize", "SQSLargePayloadSize", "nats.claim"))
    return json.dumps(document), {mark: Attribute("Number", rng.choice(("300000", *hostile.NUMERALS)))}


def _returned(rng: Random) -> SqsMessage:
    out = _of(_BACK, arrived_plainly(stored(rng, plain=True)))
    if not isinstance(out, SqsOut):
        return SqsMessage(UUID, "x", "orders", QUEUE_ARN)
    changed: dict[str, list[Any]] = {name: list(each) for name, each in out.attributes.items()}
    if "nats.message" in changed and rng.random() < 0.7:
        known = json.loads(str(changed["nats.message"][1]))
        changed["nats.message"][1] = json.dumps(hostile.mutated(rng, known))
    text = out.body if rng.random() < 0.8 else body(rng)
    given = {name: Attribute(kind, value) for name, (kind, value) in changed.items()}
    return SqsMessage(UUID, text, "orders", QUEUE_ARN, given, system(rng))


def _of(mapping: Any, message: Any) -> Any:
    """What a mapping makes of it, or None: a genuine message to start from, where there is one."""
    try:
        mapped = mapping(message)
    except (BridgeError, ValueError):
        return None
    return mapped.out if isinstance(mapped, Mapped) else None


# -- JetStream


def stored(rng: Random, *, plain: bool = False) -> Stored:
    """What a stream may hold: any bytes for subject, headers and payload."""
    if not plain and rng.random() < 0.3:
        return forged_in_jetstream(rng)
    count = rng.randrange(5) if rng.random() < 0.85 else rng.randrange(14) if rng.random() < 0.98 else 300
    found = Stored(
        subject(rng),
        tuple((_line(rng, hostile.name(rng)), _line(rng, hostile.text(rng))) for _ in range(count)),
        hostile.payload(rng),
        rng.choice((1, 7, 2**63, 2**64 - 1)),
        rng.choice((1.7e9, 1.7e9, 0.0, 1e-9, 253402300799.9, 1.8e10)),
        rng.choice((1, 1, 2, 1000)),
    )
    if not plain and rng.random() < 0.05:
        found = found._replace(
            first=rng.choice(
                (b"NATS/1.0 503\r\n", b"NATS/1.0 409 x\r\n", b"", b"\r\n", b"NATS/2.0\r\n", b"NATS/1.0\n")
            ),
            last=rng.choice((b"\r\n", b"", b"\n", b"\r\n\r\n", b"\r", b"x")),
        )
    return found


def subject(rng: Random) -> bytes:
    """Any that the server lets through: no blank, tab or line break; tokens that are not empty."""
    if rng.random() < 0.7:
        return rng.choice((b"orders.paid", b"orders.x.y", b"orders", b"orders.=2E", "orders.ü".encode()))
    odd = rng.choice(
        (b"\xff", b"\x0b", b"\x0c", b"\x85", b"\x1f", b"\xe2\x80\xa8", b"\xed\xa0\x80", b"\x7f", b"*x", b"$", b"'\"")
    )
    return b"orders." + odd + rng.choice((b"", b".x", b"7", b"y" * 300, "é".encode()))


def _line(rng: Random, text: str) -> bytes:
    """A part of a header line: any bytes but the line's end."""
    raw = text.encode("utf-8", "surrogatepass")
    if rng.random() < 0.05:
        raw += rng.choice((b"\xff", b"\xc3", b"\xed\xa0\x80", b"\x80"))
    return raw.replace(b"\r\n", b"\r").strip(b"\r\n" if rng.random() < 0.5 else b"\n")


def forged_in_jetstream(rng: Random) -> Stored:
    """What the bridge itself writes into a stream, changed in one place."""
    if rng.random() < 0.2:
        beside = ((b"traceparent", b"x"),) if rng.random() < 0.3 else ()
        route = (
            b"out" if rng.random() < 0.8 else hostile.text(rng).encode("utf-8", "surrogatepass").replace(b"\r\n", b"")
        )
        text = heartbeat(rng).replace('"in"', '"out"').replace(IN.mark, OUT.mark)
        return Stored(b"orders.h", ((b"Bridge-Heartbeat", route), *beside), text.encode("utf-8", "surrogatepass"))
    if rng.random() < 0.25:
        return packed(rng)
    if rng.random() < 0.2:
        text, given = pointer(rng)
        marks = tuple((name.encode(), str(each.value).encode()) for name, each in given.items())
        return Stored(b"orders.c", marks, text.encode("utf-8", "surrogatepass"))
    message = SqsMessage(UUID, hostile.good_text(rng), "orders", QUEUE_ARN, good_attributes(rng, 4), system(rng))
    out = _of(_FORWARD, message)
    if not isinstance(out, JetStreamOut):
        return Stored(b"orders.f")
    pairs = [[name.encode("utf-8", "replace"), value.encode("utf-8", "replace")] for name, value in header_pairs(out)]
    for _ in range(rng.choice((0, 1, 1, 2))):
        at = rng.randrange(len(pairs))
        match rng.randrange(5):
            case 0:
                del pairs[at]
            case 1:
                pairs.append([pairs[at][0], _line(rng, hostile.text(rng))])
            case 2:
                pairs[at][0] = _line(rng, hostile.name(rng))
            case _:
                pairs[at][1] = _line(rng, str(hostile.wrong(rng, pairs[at][1].decode("utf-8", "replace"))))
        if not pairs:
            break
    return Stored(out.subject.encode(), tuple((name, value) for name, value in pairs), out.payload)


def packed(rng: Random) -> Stored:
    """`Sqs-Packed`: a payload of body and attributes."""
    document: Any = {
        "body": rng.choice((hostile.text(rng), base64.b64encode(b"\xff").decode())),
        "attributes": {
            hostile.name(rng): [rng.choice(TYPES), rng.choice((hostile.text(rng), hostile.almost_base64(rng)))]
            for _ in range(rng.randrange(13))
        },
    }
    if rng.random() < 0.4:
        document["encoding"] = rng.choice(("base64", "empty", None, 1))
    if rng.random() < 0.5:
        document = hostile.mutated(rng, document)
    beside = ((_line(rng, hostile.name(rng)), _line(rng, hostile.text(rng))),) if rng.random() < 0.5 else ()
    return Stored(b"orders.p", ((b"Sqs-Packed", b"1"), *beside), json.dumps(document).encode())


def arrived_plainly(found: Stored) -> JetStreamMessage:
    """The message of a well-formed Stored, without a parser."""
    pairs = tuple(
        (name.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape").strip(" \t"))
        for name, value in found.headers
        if b":" not in name
    )
    text = found.subject.decode("utf-8", "surrogateescape")
    return JetStreamMessage(text, found.payload, "ORDERS", found.sequence, found.timestamp, found.delivered, pairs)


def deliverable(kept: Stored) -> bool:
    """Whether a server would ever send it: it splits on blank and tab, and takes no empty token."""
    return all(kept.subject.split(b".")) and not any(
        each in kept.subject for each in (b" ", b"\t", b"\r", b"\n", b"\0")
    )


def total(message: SqsMessage) -> int:
    """Bytes, about."""
    texts: list[str | bytes] = [message.body, *message.system.values()]
    texts += [each for name, pair in message.attributes.items() for each in (name, *pair)]
    return sum(len(each) if isinstance(each, bytes) else len(each.encode("utf-8", "surrogatepass")) for each in texts)


# -- what must come back


def good_attributes(rng: Random, most: int = 11) -> dict[str, Attribute]:
    """At most ten that SQS takes."""
    found = {}
    for _ in range(min(10, rng.randrange(most))):
        label = rng.choice(("", "", ".int", ".a-b_c.d"))
        match rng.randrange(3):
            case 0:
                each = Attribute(f"Binary{label}", hostile.payload(rng) or b"\0")
            case 1:
                each = Attribute(f"Number{label}", rng.choice(("0", "-1.5", "1.10", "1e3", "00")))
            case _:
                each = Attribute(f"String{label}", hostile.good_text(rng))
        found[hostile.good_name(rng)] = each
    return found


def good_headers(rng: Random) -> tuple[tuple[bytes, bytes], ...]:
    """Headers a producer's own client may write; values as a client leaves them."""
    found = []
    for _ in range(rng.randrange(6) if rng.random() < 0.9 else rng.randrange(14)):
        name = hostile.name(rng)
        if not name or not all(33 <= ord(each) < 127 and each != ":" for each in name) or name.lower()[:4] == "sqs-":
            name = rng.choice(("k1", "K1", "x!y", "a|b~"))
        found.append((name.encode(), _line(rng, hostile.text(rng)).strip(b" \t\r")))
    return tuple(found)
