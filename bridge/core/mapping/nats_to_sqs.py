"""JetStream to SQS and to SNS: a JetStreamMessage as an SqsOut or SnsOut. The wire format is docs/wire-format.md.

Total and deterministic. Attributes come back as they were; what has no place of its own goes into one JSON attribute,
`nats.message`. May not: drop anything.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

from bridge.core.mapping.headers import from_headers, packed, reserved, text_of, xml_text
from bridge.core.mapping.subject import GroupTemplate, fifo_id
from bridge.core.models import Attribute, JetStreamMessage, Message, SnsOut, SqsOut
from bridge.core.route import Mapped, Mapping

ATTRIBUTES = 10  # SQS takes no more; SNS with raw delivery silently discards a message with more
EMPTY = "{}"  # SQS takes no empty body


def nats_to_sqs(*, fifo: bool, group: GroupTemplate | None = None) -> Mapping:
    """A Mapping for one route. `fifo`: the queue is a FIFO queue; `group` overrides where its group ids come from."""

    def mapping(message: Message) -> Mapped:
        assert isinstance(message, JetStreamMessage)
        trace = message.header("X-Amzn-Trace-Id")
        trace = trace if trace and trace.startswith("Root=") and xml_text(trace) else None
        parts = _taken_apart(message)
        lane = _group(message, group) if fifo else None
        dedup_id = fifo_id(f"{message.stream}-{message.sequence}") if fifo else None
        return Mapped(SqsOut(parts.body, parts.attributes, lane, dedup_id, trace), lane)

    return mapping


def nats_to_sns(*, fifo: bool, group: GroupTemplate | None = None) -> Mapping:
    """A Mapping for one route. `fifo`: the topic is a FIFO topic; `group` overrides where its group ids come from."""

    def mapping(message: Message) -> Mapped:
        assert isinstance(message, JetStreamMessage)
        parts = _taken_apart(message)
        lane = _group(message, group) if fifo else None
        dedup_id = fifo_id(f"{message.stream}-{message.sequence}") if fifo else None
        return Mapped(SnsOut(parts.body, parts.attributes, _subject(message), lane, dedup_id), lane)

    return mapping


@dataclass(frozen=True, slots=True)
class _Parts:
    body: str
    attributes: dict[str, Attribute]


def _taken_apart(message: JetStreamMessage) -> _Parts:
    body, attributes = body_of(message.payload)
    restored, rest = from_headers(message.headers)
    for name in ("nats.encoding", "nats.message"):  # of an earlier crossing: kept, but not as what is true now
        if name in restored:
            rest.append((name, str(restored.pop(name).value)))
    envelope: dict[str, Any] = {"subject": message.subject, "stream": message.stream, "seq": message.sequence}
    room = ATTRIBUTES - len(attributes)
    if len(restored) == room and all(reserved(name) for name, _ in rest):
        # Ten attributes came out of SQS and ten go back; only what the bridge itself noted stays behind.
        return _Parts(body, attributes | restored)
    if rest:
        envelope["headers"] = rest
    kept = dict(list(restored.items())[: room - 1])
    if over := {name: each for name, each in restored.items() if name not in kept}:
        envelope["attributes"] = packed(over)
    attributes |= kept
    attributes["nats.message"] = Attribute("String", json.dumps(envelope, separators=(",", ":")))
    return _Parts(body, attributes)


def body_of(payload: bytes) -> tuple[str, dict[str, Attribute]]:
    """The payload as a body SQS takes, and the marker attribute that says how to read it back, if it needs one."""
    if not payload:
        return EMPTY, {"nats.encoding": Attribute("String", "empty")}
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        text = None
    if text is None or not xml_text(text):
        return base64.b64encode(payload).decode("ascii"), {"nats.encoding": Attribute("String", "base64")}
    return text, {}


def _group(message: JetStreamMessage, template: GroupTemplate | None) -> str:
    """Template, else the group it had in SQS, else its subject."""
    if template is not None:
        return template.render(message)
    return fifo_id(message.header("Sqs-Message-Group-Id") or message.subject)


def _subject(message: JetStreamMessage) -> str | None:
    """The SNS subject it once had, where SNS takes it. Source: SNS API reference, Publish: under 100 characters."""
    text = message.header("Sns-Subject")
    if text and message.header("Sns-Subject-Encoding") == "base64":
        try:
            text = text_of(text)
        except ValueError:
            return None
    return text if text and len(text) < 100 and text.isprintable() and not text[0].isspace() else None
