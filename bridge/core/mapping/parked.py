"""A message that cannot be carried, as the parking place keeps it: original bytes, attributes and why; and back, to be
redriven.

Total: any delivery and any reason give a message, and `parked_in_jetstream` and `parked_in_sqs` give it back as it was.
May not: interpret the body, or depend on why it was parked.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import Any, assert_never

from bridge.core.errors import BridgeError
from bridge.core.mapping.headers import base64_of, packed, sendable, strict_json, unpacked
from bridge.core.mapping.note import ATTRIBUTES, ENCODING, body_of, payload_of
from bridge.core.mapping.sizes import header_bytes
from bridge.core.mapping.subject import fifo_id
from bridge.core.models import Attribute, JetStreamMessage, JetStreamOut, Message, Out, SqsMessage, SqsOut
from bridge.core.route import Delivery, Park

HEADER_ROOM = 60_000  # of the 65,535 bytes JetStream takes; the message id and the frame come on top
REASON_LIMIT = 2_000
LAST_MOMENT = 253_402_300_800  # the year 10000


def park_to_jetstream(*, route: str, source: str, subject: str, secret: str = "") -> Park:
    """Payload: the original bytes. Headers: `Bridge-Parked-Reason`, `-Route`, `-Source`, `-Id`, `-Attempt` and `-Meta`,
    all that was known of the message as JSON. Where the meta does not fit a header, `Bridge-Parked-Format: json` says
    that the payload is one JSON document of body and meta. `secret` is in the id: anyone who can guess an id, and may
    publish to the subject, could make a message of ours look like a duplicate of their own."""

    def park(delivery: Delivery, reason: BridgeError) -> Out:
        meta = json.dumps(_meta(delivery), separators=(",", ":"))
        headers = {
            "Bridge-Parked-Reason": _one_line(str(reason)),
            "Bridge-Parked-Route": _one_line(route),
            "Bridge-Parked-Source": _one_line(source),
            "Bridge-Parked-Id": _one_line(delivery.id),
            "Bridge-Parked-Attempt": str(delivery.attempt),
            "Bridge-Parked-Format": "plain",
            "Bridge-Parked-Meta": meta,
        }
        payload = _payload(delivery)
        if header_bytes(headers) > HEADER_ROOM:
            del headers["Bridge-Parked-Meta"]
            headers["Bridge-Parked-Format"] = "json"
            document = {"body": base64_of(payload), "body_encoding": "base64", "meta": _meta(delivery)}
            payload = json.dumps(document, separators=(",", ":")).encode("ascii")
        return JetStreamOut(
            subject, payload, _msg_id(f"parked:{route}:{_unique(delivery)}{secret and f':{secret}'}"), headers
        )

    return park


def park_to_sqs(*, route: str, source: str, fifo: bool) -> Park:
    """Body: the original, in base64 where SQS does not take it (attribute `nats.encoding`). Attributes: those of the
    message as far as there is room, and `bridge.parked`, a JSON object of the reason and everything else."""

    def park(delivery: Delivery, reason: BridgeError) -> Out:
        body, attributes = body_of(_payload(delivery))
        meta = _meta(delivery)
        if isinstance(delivery.message, SqsMessage):
            fitting = {
                name: each
                for name, each in delivery.message.attributes.items()
                if sendable(name, each) and name not in ("nats.encoding", "bridge.parked")
            }
            kept = dict(list(fitting.items())[: ATTRIBUTES - 1 - len(attributes)])
            meta["attributes"] = {name: each for name, each in meta["attributes"].items() if name not in kept}
            attributes |= kept
        note = {
            "reason": str(reason)[:REASON_LIMIT],
            "route": route,
            "source": source,
            "id": delivery.id,
            "attempt": delivery.attempt,
            "meta": meta,
        }
        attributes["bridge.parked"] = Attribute("String", json.dumps(note, separators=(",", ":")))
        return SqsOut(
            body,
            attributes,
            group=fifo_id(route) if fifo else None,
            dedup_id=fifo_id(f"{route}:{_unique(delivery)}") if fifo else None,
        )

    return park


@dataclass(frozen=True, slots=True)
class Parked:
    """What a parking place holds. `message` is the original, as the route got it; `attempt` counts its deliveries. All
    of it is untrusted: anyone who may write to the parking place may have written it."""

    message: Message
    id: str
    route: str
    reason: str
    attempt: int


def parked_in_jetstream(kept: JetStreamMessage) -> Parked | None:
    """None for a message that is not ours."""
    try:
        headers = {name: kept.header(f"Bridge-Parked-{name}") or "" for name in ("Id", "Route", "Reason", "Attempt")}
        if kept.header("Bridge-Parked-Format") == "json":
            document = strict_json(kept.payload)
            payload, meta = base64.b64decode(document["body"], validate=True), document["meta"]
        else:
            payload, meta = kept.payload, strict_json(kept.header("Bridge-Parked-Meta") or "")
        attempt = _count(headers["Attempt"])
        return Parked(_original(payload, meta, attempt), headers["Id"], headers["Route"], headers["Reason"], attempt)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def parked_in_sqs(kept: SqsMessage) -> Parked | None:
    """None for a message that is not ours."""
    try:
        note = strict_json(str(kept.attributes["bridge.parked"].value))
        payload = payload_of(kept.body, kept.attributes.get(ENCODING))
        meta = note["meta"]
        if meta["kind"] == "sqs":
            beside = {name: each for name, each in kept.attributes.items() if name not in (ENCODING, "bridge.parked")}
            meta = {**meta, "attributes": {**meta["attributes"], **packed(beside)}}
        payload = kept.body.encode() if payload is None else payload
        attempt = _count(str(note["attempt"]))
        original = _original(payload, meta, attempt)
        return Parked(original, _text(note["id"]), _text(note["route"]), _text(note["reason"]), attempt)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _original(payload: bytes, meta: Any, attempt: int) -> Message:
    if meta["kind"] == "sqs":
        arn = _text(meta["queue_arn"])
        return SqsMessage(
            message_id=_text(meta["message_id"]),
            body=payload.decode("utf-8", "surrogatepass"),
            queue=arn.rpartition(":")[2],
            queue_arn=arn,
            attributes=unpacked(meta["attributes"]),
            system={_text(name): _text(value) for name, value in meta["system"].items()},
        )
    if meta["kind"] != "jetstream":
        raise ValueError("no such kind")
    return JetStreamMessage(
        subject=_text(meta["subject"]),
        payload=payload,
        stream=_text(meta["stream"]),
        sequence=_count(str(meta["seq"])),
        timestamp=_moment(meta["timestamp"]),
        delivered=attempt,
        headers=tuple((_text(name), _text(value)) for name, value in meta["headers"]),
    )


def _text(found: object) -> str:
    if not isinstance(found, str):
        raise TypeError("not a text")
    return found


def _count(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 20:
        raise ValueError("not a count")
    return int(text)


def _moment(found: object) -> float:
    """Seconds since the epoch, as a date has them."""
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found < LAST_MOMENT:
        raise ValueError("not a time")
    return float(found)


def _payload(delivery: Delivery) -> bytes:
    match delivery.message:
        case SqsMessage(body=body):
            # Half a surrogate pair is not UTF-8; encoded like this it can be distinguished and read back.
            return body.encode("utf-8", "surrogatepass")
        case JetStreamMessage(payload=payload):
            return payload
        case _:
            assert_never(delivery.message)


def _meta(delivery: Delivery) -> dict[str, Any]:
    match delivery.message:
        case SqsMessage() as message:
            return {
                "kind": "sqs",
                "message_id": message.message_id,
                "queue_arn": message.queue_arn,
                "system": dict(message.system),
                "attributes": packed(message.attributes),
            }
        case JetStreamMessage() as message:
            return {
                "kind": "jetstream",
                "subject": message.subject,
                "stream": message.stream,
                "seq": message.sequence,
                "timestamp": message.timestamp,
                "headers": [list(pair) for pair in message.headers],
            }
        case _:
            assert_never(delivery.message)


def _one_line(text: str) -> str:
    """`text` as one printable ASCII line: a header must carry it unchanged."""
    line = text[:REASON_LIMIT].replace("\n", " ").replace("\r", " ")
    if not (line.isascii() and line.isprintable()):
        line = "".join([each if each.isprintable() else ascii(each)[1:-1] for each in line])
        line = line.encode("ascii", "backslashreplace").decode("ascii")
    return line.strip()


def _unique(delivery: Delivery) -> str:
    """A name no other message has: a stream that was created again has the same sequences."""
    if isinstance(delivery.message, JetStreamMessage):
        return f"{delivery.id}:{int(delivery.message.timestamp * 1000)}"
    return delivery.id


def _msg_id(text: str) -> str:
    """`text`, and a digest behind it where one line does not hold it: two messages are never parked under one id."""
    line = _one_line(text)
    if line == text:
        return line
    return f"{line} {hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"
