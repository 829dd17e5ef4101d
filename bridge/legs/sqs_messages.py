"""Messages as ReceiveMessage returns them, and attributes as SQS and SNS take them.

A malformed message is not guessed at: what can be read of it is kept, with the reason why it must be parked, and the
other messages of its batch are not affected.
May not: make a call. Source: SQS API reference, ReceiveMessage, Message, MessageAttributeValue.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from bridge.core.errors import BridgeError, Unmappable
from bridge.core.models import NONE, Attribute, SqsMessage
from bridge.legs.aws_errors import unreadable
from bridge.legs.aws_shapes import LARGEST, listed, number, record, text
from bridge.legs.queues import Queue

new: Any = tuple.__new__  # makes a NamedTuple at half the cost of calling it, which pays for the type checks
NUMBERS = ("SentTimestamp", "ApproximateReceiveCount", "ApproximateFirstReceiveTimestamp")


Received = tuple[SqsMessage, str, float, int, BridgeError | None]
"""A message, its receipt handle, when it was sent in seconds since the epoch (0 if SQS does not say), how often it
was received, and why it can only be parked, if so. A plain tuple: made ten times a receive."""


class Batch(NamedTuple):
    """`lost` counts those without a receipt handle: they can be neither deleted nor given back."""

    messages: Sequence[Received]
    lost: int


def received(answer: Any, queue: Queue) -> Batch:
    """The messages of one answer. Raises Unavailable if it is not from SQS."""
    found = listed(answer.get("Messages"))
    if found is None:
        raise unreadable(f"queue {queue.name}", "Messages is not a list")
    messages = [message for each in found if (message := _well_formed(each, queue) or _kept(each, queue)) is not None]
    return Batch(messages, len(found) - len(messages))


def sqs_message(message: Any, queue: Queue) -> SqsMessage:
    """One message as ReceiveMessage returns it. Raises Unmappable for a malformed one."""
    found = _well_formed(message, queue)
    if found is None:
        raise Unmappable("message", _complaint(message))
    return found[0]


def _well_formed(message: Any, queue: Queue) -> Received | None:
    """The message, if all of it is of the right type. On the hot path: types are compared, nothing is converted
    needlessly."""
    try:
        name, handle, body = message["MessageId"], message["ReceiptHandle"], message["Body"]
        system = message.get("Attributes") or NONE
        "".join(system.values())  # raises TypeError unless all are texts, at half the cost of checking each
        attributes: Mapping[str, Attribute] = NONE
        if found := message.get("MessageAttributes"):
            attributes = {}
            for key, each in found.items():
                if "BinaryValue" in each:
                    attributes[key] = _attribute(each)
                    continue
                kind, value = each["DataType"], each["StringValue"]
                if not type(kind) is type(value) is str:
                    return None
                attributes[key] = new(Attribute, (kind, value))
        sent = float(system.get("SentTimestamp", 0))
        attempt = int(system.get("ApproximateReceiveCount", 1))
        if not (type(name) is type(handle) is type(body) is str and name and handle and 0 <= sent < LARGEST):
            return None
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None
    if attempt < 0:
        return None
    read = new(SqsMessage, (name, body, queue.name, queue.arn, attributes, system))
    return read, handle, sent / 1000, attempt, None


def _attribute(found: Any) -> Attribute:
    """Raises TypeError, AttributeError or KeyError for anything else."""
    kind = found["DataType"]
    if found.get("BinaryValue") is None:
        value: Any = found.get("StringValue", "")
        if type(value) is not str or type(kind) is not str:
            raise TypeError
        return Attribute(kind, value)
    value = found["BinaryValue"]
    if type(value) is not bytes or type(kind) is not str:  # a text: it was not base64
        raise TypeError
    return Attribute(kind, value)


def _kept(message: Any, queue: Queue) -> Received | None:
    """A malformed message: valid except for nulls and numbers, or what can be read of it. None without a receipt
    handle."""
    if not isinstance(message, dict) or (handle := text(message.get("ReceiptHandle"))) is None:
        return None
    found, system = message.get("MessageAttributes"), message.get("Attributes")
    reduced: dict[str, Any] = {
        **message,
        "MessageAttributes": {key: _without_null(each) for key, each in found.items() if each is not None}
        if isinstance(found, dict)
        else found,
        "Attributes": _texts(system) if record(system) else system,
    }
    if (sound := _well_formed(reduced, queue)) is not None:
        return sound
    digest = hashlib.sha256(handle.encode(errors="replace")).hexdigest()
    name = text(message.get("MessageId")) or f"unnamed-{digest[:32]}"
    system = {key: each for key, each in _texts(system).items() if isinstance(each, str)}
    system = {key: each for key, each in system.items() if key not in NUMBERS or number(each) is not None}
    attributes: dict[str, Attribute] = {}
    for key, each in (record(reduced["MessageAttributes"]) or {}).items():
        with suppress(KeyError, TypeError, AttributeError):
            attributes[key] = _attribute(each)
    body = message.get("Body")
    shown = body if isinstance(body, str) else "" if body is None else _json(body)
    kept = SqsMessage(name, shown, queue.name, queue.arn, attributes, system)
    sent, attempt = number(system.get("SentTimestamp")) or 0.0, number(system.get("ApproximateReceiveCount")) or 1
    return kept, handle, sent / 1000, int(attempt), Unmappable("message", _complaint(message))


def _without_null(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    found = {key: each for key, each in value.items() if each is not None}
    return found if "BinaryValue" in found else {"StringValue": "", **found}


def _texts(value: Any) -> dict[str, Any]:
    """System attributes: nulls are absent, and numbers are the texts AWS writes them as."""
    return {
        key: str(each) if type(each) in (int, float) else each
        for key, each in (record(value) or {}).items()
        if each is not None
    }


def _complaint(message: Any) -> str:
    """What is wrong with it, without quoting it."""
    if not isinstance(message, dict):
        return "not an SQS message"
    wrong = [name for name in ("MessageId", "ReceiptHandle", "Body") if not isinstance(message.get(name), str)]
    named = f"{', '.join(wrong)} is missing or not a text" if wrong else "its attributes are malformed"
    return f"not an SQS message: {named}"


def _json(value: Any) -> str:
    try:
        return json.dumps(value, default=str)
    except (ValueError, RecursionError):
        return ""


def attribute_entries(attributes: Mapping[str, Attribute]) -> dict[str, dict[str, str | bytes]]:
    """Attributes as SQS and SNS take them."""
    return {
        name: {"DataType": kind, ("BinaryValue" if isinstance(value, bytes) else "StringValue"): value}
        for name, (kind, value) in attributes.items()
    }
