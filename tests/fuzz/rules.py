"""What each side takes, by its own documents, written down apart from the bridge's code: the oracle.

Source: nats-server's parser (control lines), ADR-4 (headers), ADR-6 (subjects); SQS API reference, SendMessage and
MessageAttributeValue; SNS API reference, Publish. May not: import anything that decides in the bridge.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from bridge.core.models import SqsMessage

HEADER_LIMIT, LINE_LIMIT = 65_535, 4_096
_TOKEN = re.compile(rb"[!-9;-~]+")
_XML = re.compile("[\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]*")
_ATTRIBUTE = re.compile(r"[A-Za-z0-9_.-]{1,256}")
_ID = re.compile(r"[!-~]{1,128}")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_SYSTEM = ("$JS.", "$SYS.", "$KV.", "$O.", "_INBOX.")
OURS = frozenset(
    {"Nats-Msg-Id", "Nats-Expected-Stream", "Nats-TTL", "Nats-Schedule", "Nats-Schedule-Target", "Nats-Schedule-TTL"}
)
"""Headers NATS acts on that the bridge sets itself, each at most once."""


class Violation(AssertionError):
    """A rule is broken. `rule` names it; the text says how."""

    def __init__(self, rule: str, text: str = "") -> None:
        super().__init__(f"{rule}: {text}" if text else rule)
        self.rule = rule


def must(holds: object, rule: str, text: object = "") -> None:
    if not holds:
        raise Violation(rule, str(text)[:400])


def typed_message(message: Any) -> None:
    """Every field of a message has the type its class says."""
    if isinstance(message, SqsMessage):
        for name in ("message_id", "body", "queue", "queue_arn"):
            must(isinstance(getattr(message, name), str), f"type of {name}", type(getattr(message, name)).__name__)
        must(
            all(isinstance(each, str) for pair in message.system.items() for each in pair), "type of system attributes"
        )
        for name, (kind, value) in message.attributes.items():
            types = (type(name), type(kind), type(value))
            must(types in ((str, str, str), (str, str, bytes)), "type of an attribute", types)
        return
    must(isinstance(message.subject, str), "type of a subject", type(message.subject).__name__)
    must(isinstance(message.stream, str), "type of a stream", type(message.stream).__name__)
    must(isinstance(message.payload, bytes), "type of a payload")
    must(type(message.sequence) is int and message.sequence >= 0, "type of a sequence", message.sequence)
    moment = message.timestamp
    must(type(moment) is float and math.isfinite(moment), "type of a time", moment)
    must(all(isinstance(each, str) for pair in message.headers for each in pair), "type of headers")


class Published(NamedTuple):
    """One PUB or HPUB as the server reads it."""

    subject: bytes
    reply: bytes
    block: bytes
    payload: bytes


def published(data: bytes) -> list[Published]:
    """What nats-server makes of these bytes. Raises Violation where it would close the connection or see something
    else than whole messages."""
    found = []
    at = 0
    while at < len(data):
        end = data.find(b"\r\n", at)
        must(end >= 0, "control line", data[at : at + 80])
        line = data[at:end]
        must(len(line) <= LINE_LIMIT, "control line of more than 4,096 bytes", len(line))
        must(not re.search(rb"[\r\n\0]", line), "break in a control line", line[:80])
        verb, *words = re.split(rb"[ \t]+", line.strip(b" \t"))
        headers = verb == b"HPUB"
        must(headers or verb == b"PUB", "not a PUB", line[:80])
        sizes = 2 if headers else 1
        must(len(words) in (sizes + 1, sizes + 2), "words of a control line", line[:80])
        must(all(each.isdigit() for each in words[-sizes:]), "sizes of a control line", line[:80])
        total, start = int(words[-1]), end + 2
        header = int(words[-2]) if headers else 0
        must(data[start + total : start + total + 2] == b"\r\n", "size of a message", line[:80])
        reply = words[1] if len(words) == sizes + 2 else b""
        found.append(Published(words[0], reply, data[start : start + header], data[start + header : start + total]))
        at = start + total + 2
    return found


def lines_of(block: bytes) -> list[tuple[bytes, bytes]]:
    """Names and values of a header block, as a strict reader has them. Raises Violation."""
    must(block.startswith(b"NATS/1.0\r\n"), "first line of a block", block[:40])
    must(block.endswith(b"\r\n\r\n") or block == b"NATS/1.0\r\n\r\n", "end of a block", block[-40:])
    must(len(block) <= HEADER_LIMIT, "block of more than 64 KiB", len(block))
    pairs = []
    for line in block[len(b"NATS/1.0\r\n") : -2].split(b"\r\n")[:-1]:
        name, colon, value = line.partition(b":")
        must(colon and _TOKEN.fullmatch(name), "name of a header", line[:80])
        must(not re.search(rb"[\r\n\0]", value), "break in a header", line[:80])
        must(value[:1] == b" ", "header without its blank", line[:80])
        value = value[1:]
        must(value == value.strip(b" \t"), "header a client would strip", line[:80])
        pairs.append((name, value))
    return pairs


def block_holds(block: bytes, meant: Sequence[tuple[str, str]]) -> None:
    """The block says what was meant: nothing more, nothing else, in order; and nothing NATS acts on but ours."""
    pairs = lines_of(block)
    wanted = [
        (name.encode("utf-8", "surrogateescape"), value.encode("utf-8", "surrogateescape")) for name, value in meant
    ]
    must(len(pairs) == len(wanted), "number of headers", f"{len(pairs)} in place of {len(wanted)}")
    must(pairs == wanted, "headers", next((pair for pair in zip(pairs, wanted, strict=True) if pair[0] != pair[1]), ""))
    no_foreign([name.decode("ascii") for name, _ in pairs])


def no_foreign(names: Iterable[str]) -> None:
    """No header has a meaning to NATS or its clients unless the bridge gave it that."""
    seen: set[str] = set()
    for name in names:
        lowered = name.lower()
        must(lowered not in ("status", "description"), "header a client takes for the server's word", name)
        if lowered.startswith("nats-"):
            must(name in OURS, "foreign header NATS acts on", name)
            must(name not in seen, "header of ours twice", name)
            seen.add(name)


def subject_legal(subject: bytes) -> None:
    must(subject, "empty subject")
    must(not re.search(rb"[\x00-\x20\x7f]", subject), "control character in a subject", subject[:80])
    tokens = subject.split(b".")
    must(all(tokens), "empty token", subject[:80])
    must(not any(each in (b"*", b">") for each in tokens), "wildcard in a subject", subject[:80])
    must(not subject.decode("utf-8", "replace").startswith(_SYSTEM), "subject of NATS's own", subject[:80])


def is_xml(text: str) -> bool:
    return _XML.fullmatch(text) is not None


def entry_legal(entry: Mapping[str, Any], *, fifo: bool, limit: int, sns: bool = False) -> None:
    """One entry of SendMessageBatch or PublishBatch, decoded as AWS decodes it."""
    body = entry["Message" if sns else "MessageBody"]
    must(isinstance(body, str) and body, "empty body")
    must(is_xml(body), "character in a body", ascii(body[:60]))
    attributes: Mapping[str, Any] = entry.get("MessageAttributes") or {}
    must(len(attributes) <= 10, "more than ten attributes", len(attributes))
    size = len(body.encode())
    for name, each in attributes.items():
        _attribute_name(name, sns=sns)
        size += len(name) + _attribute(name, each, sns=sns)
    must(size <= limit, "larger than the other side takes", f"{size:,} of {limit:,}")
    if fifo:
        must(_ID.fullmatch(str(entry.get("MessageGroupId"))), "group id", ascii(entry.get("MessageGroupId")))
        must(_ID.fullmatch(str(entry.get("MessageDeduplicationId"))), "deduplication id")
    elif "MessageGroupId" in entry:
        must(_ID.fullmatch(str(entry["MessageGroupId"])), "group id", ascii(entry["MessageGroupId"]))
    if "DelaySeconds" in entry:
        delay = entry["DelaySeconds"]
        must(type(delay) is int and 0 <= delay <= 900, "delay", delay)
        must(not fifo, "delay in a FIFO queue", delay)
    for name, each in (entry.get("MessageSystemAttributes") or {}).items():
        must(name == "AWSTraceHeader" and each["DataType"] == "String", "system attribute", name)
        must(each["StringValue"] and is_xml(each["StringValue"]), "trace header", ascii(each["StringValue"])[:80])
    if "Subject" in entry:
        subject = entry["Subject"]
        must(0 < len(subject) < 100, "length of a Subject", len(subject))
        must(is_xml(subject) and subject.isprintable(), "character in a Subject", ascii(subject))


def _attribute_name(name: str, *, sns: bool) -> None:
    must(_ATTRIBUTE.fullmatch(name), "name of an attribute", ascii(name[:80]))
    must(name[0] != "." and name[-1] != "." and ".." not in name, "dots in the name of an attribute", name[:80])
    if not sns:
        must(not name.lower().startswith(("aws.", "amazon.")), "name of an attribute kept by AWS", name[:80])


def _attribute(name: str, each: Mapping[str, Any], *, sns: bool) -> int:
    kind = each["DataType"]
    must(is_xml(kind) and 0 < len(kind) <= 256, "type of an attribute", ascii(kind[:80]))
    first = kind.partition(".")[0]
    must(first in ("String", "Number", "Binary"), "type of an attribute", ascii(kind[:80]))
    if first == "Binary":
        value = each.get("BinaryValue")
        must(isinstance(value, bytes) and value, "empty attribute", name)
        assert isinstance(value, bytes)
        return len(kind.encode()) + len(value)
    text = each.get("StringValue")
    must(isinstance(text, str) and text, "empty attribute", name)
    assert isinstance(text, str)
    must(is_xml(text), "character in an attribute", ascii(text[:60]))
    if first == "Number":
        must(_NUMBER.fullmatch(text), "Number that is none", ascii(text[:60]))
    return len(kind.encode()) + len(text.encode())
