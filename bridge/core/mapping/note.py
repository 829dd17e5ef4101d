"""The note `nats.message`: what a JetStream message has and an SQS message has no place for, as one JSON attribute; and
the marker `nats.encoding` beside it, which says how the body represents the payload.

    {subject, stream, seq, via: [place], of, to, headers: [[name, value]], attributes: {name: [type, value]}}

Written on the way out of JetStream and read on the way in. May not: trust what it reads. Anyone may send an attribute
of this name; what is not ours stays an ordinary attribute.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from bridge.core.mapping.claims import MARKS
from bridge.core.mapping.headers import packed, strict_json, unpacked, xml_text
from bridge.core.mapping.provenance import digest_of, place
from bridge.core.models import Attribute

MESSAGE = "nats.message"
ENCODING = "nats.encoding"
EMPTY = "{}"  # SQS takes no empty body
ATTRIBUTES = 10  # SQS takes no more; SNS with raw delivery silently discards a message with more

NOT_XML = bytes(set(range(32)) - {9, 10, 13})  # of ASCII, what SQS does not take

Pairs = tuple[tuple[str, str], ...]

_ascii = json.JSONEncoder(separators=(",", ":")).encode


class Note(NamedTuple):
    """`headers` in wire order; `via` are the places the message has been to, oldest first, and `of` is the digest of
    the body they are about. `to` is the queue it was sent back to on purpose, though it had been there."""

    subject: str
    stream: str
    sequence: int
    via: tuple[str, ...] = ()
    headers: Pairs = ()
    attributes: Mapping[str, Attribute] | None = None
    of: str = ""
    to: str = ""

    def attribute(self) -> Attribute:
        """The note as an attribute SQS takes: ASCII, for JSON escapes the rest."""
        document: dict[str, Any] = {"subject": self.subject, "stream": self.stream, "seq": self.sequence}
        if self.via:
            document |= {"via": self.via, "of": self.of}
            if self.to:
                document["to"] = self.to
        if self.headers:
            document["headers"] = self.headers
        if self.attributes:
            document["attributes"] = packed(self.attributes)
        return Attribute("String", compact(document))


def compact(document: dict[str, Any]) -> str:
    """JSON without blanks, all ASCII."""
    try:
        text = orjson.dumps(document)
    except TypeError:  # half a surrogate pair, or a number beyond 64 bits
        return _ascii(document)
    return text.decode() if text.isascii() else _ascii(document)


def read(attributes: Mapping[str, Attribute]) -> Note | None:
    """The note among these attributes, or None if there is none of ours."""
    found = attributes.get(MESSAGE)
    if found is None or not isinstance(found.value, str):
        return None
    try:
        document = strict_json(found.value)
        headers = tuple((name, value) for name, value in document.get("headers", ()))
        via = tuple([each for each in document.get("via", ()) if place(each)])
        subject, stream, sequence = document["subject"], document["stream"], document["seq"]
        of, to = document.get("of", ""), document.get("to", "")
        texts = [subject, stream, of, to, *(text for pair in headers for text in pair)]
        if not all(isinstance(text, str) for text in texts):
            return None
        if type(sequence) is not int or not 0 <= sequence < 2**64:
            return None
        return Note(subject, stream, sequence, via, headers, unpacked(document.get("attributes", {})), of, to)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def rebound(attributes: Mapping[str, Attribute], body: str) -> dict[str, Attribute]:
    """These attributes beside another body, a pointer for a payload or the payload for its pointer: the digest in their
    note is that of the body it travels with, and what is more than SQS takes is packed into it."""
    note = read(attributes)
    if note is None:
        return {**attributes}
    if note.via:
        note = note._replace(of=digest_of(body))
    kept = {**attributes}
    if len(kept) > ATTRIBUTES:
        movable = [name for name in kept if name not in (MESSAGE, ENCODING, *MARKS)]
        moved = {name: kept.pop(name) for name in movable[ATTRIBUTES - len(kept) :]}
        note = note._replace(attributes={**(note.attributes or {}), **moved})
    return {**kept, MESSAGE: note.attribute()}


def body_of(payload: bytes) -> tuple[str, dict[str, Attribute]]:
    """The payload as a body SQS takes, and the marker attribute that says how to read it back, if it needs one."""
    if not payload:
        return EMPTY, {ENCODING: Attribute("String", "empty")}
    if payload.isascii() and len(payload.translate(None, NOT_XML)) == len(payload):
        return payload.decode("ascii"), {}  # the most common case, and the fastest to check
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        text = None
    if text is None or not xml_text(text):
        return base64.b64encode(payload).decode("ascii"), {ENCODING: Attribute("String", "base64")}
    return text, {}


def payload_of(body: str, marker: Attribute | None) -> bytes | None:
    """The payload this body represents, or None if the marker is not ours: the body is then the payload itself."""
    match marker.value if marker is not None else None:
        case "empty" if body == EMPTY:
            return b""
        case "base64":
            try:
                return base64.b64decode(body, validate=True)
            except (binascii.Error, ValueError):
                return None
        case _:
            return None
