"""Parses JetStream's answers and the metadata it sends with a message. They are not trusted: anyone who may subscribe
to a subject of its API can answer in its place.

Null means absent. An answer whose shape is not JetStream's raises Unavailable: it did not come from JetStream, so the
outcome of the request is unknown. May not: ask anything.
Source: ADR-1 (JetStream API), nats-server, server/stream.go (JSPubAckResponse), server/jetstream_api.go.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import inf
from typing import Any

import orjson

from bridge.core.errors import BridgeError, Failed, NotUsable, Unavailable
from bridge.core.subjects import covers
from bridge.legs.wire import NO_RESPONDERS, Reply, status_of

KINDS = "io.nats.jetstream.api."  # how the type of every answer of the API begins
PIN_HEADER = b"Nats-Pin-Id: "
MOST = 2**64  # JetStream has no larger numbers
CONFIRMED = Reply(b"")  # one is given for every ack


class Answer(dict[str, Any]):
    """An object out of an answer; `about` is the subject that was asked."""

    def __init__(self, content: Mapping[str, Any], about: str) -> None:
        super().__init__(content)
        self.about = about

    def text(self, name: str, default: str | None = None) -> str:
        """Without a default it is required; the same goes for the other readers."""
        return str(self._one(name, str, default))

    def number(self, name: str, default: int | None = None) -> int:
        found = self._one(name, int, default)
        if isinstance(found, bool) or not -MOST < found < MOST:
            raise self.odd(name)
        return int(found)

    def seconds(self, name: str, default: int | None = None) -> float:
        """A duration, which JetStream writes in nanoseconds; the default is in nanoseconds too."""
        return self.number(name, default) / 1e9

    def flag(self, name: str) -> bool:
        return bool(self._one(name, bool, False))

    def part(self, name: str) -> Answer:
        """An object in it; an empty one if it is absent."""
        return Answer(self._one(name, dict, {}), self.about)

    def parts(self, name: str) -> list[Answer]:
        return [Answer(each, self.about) for each in self._all(name, dict)]

    def texts(self, name: str) -> list[str]:
        return [str(each) for each in self._all(name, str)]

    def numbers(self, name: str) -> list[int]:
        return [Answer({name: each}, self.about).number(name) for each in self._all(name, int)]

    def content(self, name: str) -> bytes:
        """Bytes, written in base64; empty if absent."""
        try:
            return base64.b64decode(self.text(name, ""), validate=True)
        except (binascii.Error, ValueError):
            raise self.odd(name) from None

    def moment(self, name: str, default: float | None = None) -> float:
        """A time, as RFC 3339 with nanoseconds, in seconds since the epoch."""
        if default is not None and self.get(name) is None:
            return default
        try:
            return datetime.fromisoformat(self.text(name)).timestamp()
        except (ValueError, OverflowError, OSError):
            raise self.odd(name) from None

    def odd(self, name: str) -> Unavailable:
        return Unavailable(f"what answered {self.about} is not JetStream: {name} is missing or has the wrong type")

    def _one(self, name: str, kind: type, default: Any) -> Any:
        found = self.get(name)
        if found is None and default is not None:
            return default
        if not isinstance(found, kind):
            raise self.odd(name)
        return found

    def _all(self, name: str, kind: type) -> list[Any]:
        found = self._one(name, list, [])
        if not all(isinstance(each, kind) for each in found):
            raise self.odd(name)
        return list(found)


def api_answer(payload: bytes, subject: str) -> Answer | None:
    """What the JetStream API answered to `subject`, or None: the answer is not JetStream's."""
    found = _document(payload)
    kind = found.get("type") if found is not None else None
    return Answer(found, subject) if found is not None and isinstance(kind, str) and kind.startswith(KINDS) else None


def api_error(error: Answer, doing: str, *, missing: str = "") -> BridgeError:
    """A JetStream API error as ours. `err_code` decides, for `code` is 503 for a full stream and for an outage."""
    code, number = error.number("code", 0), error.number("err_code", 0)
    text = f"{doing}: {error.text('description', 'no description')} (err_code {number})"
    match number:
        case 10059 | 10014:  # stream, consumer not found
            return NotUsable(text, hint=missing)
        case 10039 | 10076:  # JetStream not enabled for this account, on this server
            return NotUsable(text, hint="enable JetStream, or point nats.servers or nats.domain at where it runs")
        case _:
            return Unavailable(text) if code >= 500 else Failed(text)


@dataclass(frozen=True, slots=True)
class Captures:
    """What one stream captures. `whole`: everything that is asked about, so that no subject has to be compared.
    `domain` is empty if it is unknown."""

    subjects: tuple[str, ...]
    domain: str = ""
    whole: bool = False

    @classmethod
    def of(cls, info: Answer, pattern: str) -> Captures:
        """From a STREAM.INFO, for what is published under `pattern`."""
        subjects = tuple(info.part("config").texts("subjects"))
        return cls(subjects, info.text("domain", ""), any(covers(each, pattern) for each in subjects))

    def take(self, subject: str, domain: object) -> bool:
        if domain is not None and domain != self.domain and domain and self.domain:
            return False
        return self.whole or any(covers(each, subject) for each in self.subjects)


PubAck = tuple[str, int, bool, Answer | None]
"""A stream's answer to a publish: its name, where it is stored, whether it is a duplicate, or the error. A plain tuple:
one is made for each message."""


def pub_ack(payload: bytes, subject: str, known: Mapping[str, Captures]) -> PubAck | str | None:
    """The answer of a stream in `known` that captures `subject`; the name of a stream that is not, or does not; None
    for anything that is not a PubAck. Errors name their stream as well."""
    try:
        found = orjson.loads(payload)
        stream, sequence = found["stream"], found["seq"]
        captures = known.get(stream)
    except (ValueError, KeyError, TypeError, IndexError):
        return None
    refused = None
    if (error := found.get("error")) is not None:
        if type(error) is not dict or type(error.get("code")) is not int:
            return None
        if type(error.get("err_code", 0)) is not int and error["err_code"] is not None:
            return None
        refused = Answer(error, subject)
    elif sequence.__class__ is not int or sequence < 1:
        return None
    if captures is None or not captures.take(subject, found.get("domain")):
        return str(stream) if type(stream) is str else None
    return stream, sequence, found.get("duplicate") is True, refused


def retention(config: Answer) -> float:
    """How long a stream keeps a message, in seconds; infinite without max_age."""
    return config.seconds("max_age", 0) or inf


def ack_reply(_: int, block: bytes, payload: bytes) -> Reply | None:
    """The server confirms an ack with an empty message. Source: nats-server, server/consumer.go (sendAckReply)."""
    if block:
        return Reply(b"", NO_RESPONDERS) if status_of(block)[0] == NO_RESPONDERS else None
    return None if payload else CONFIRMED


def last_header(pairs: Sequence[tuple[str, str]], name: str) -> str:
    """The last value of a header: the server writes those it adds after the message's own."""
    return next((value for key, value in reversed(pairs) if key == name), "")


AckSubject = tuple[str, str, int, int, int, float]
"""Stream, consumer, deliveries, sequence in the stream, sequence of the consumer, and when the stream stored it, in
seconds since the epoch. A plain tuple: one is made for each message."""


def parse_ack_subject(reply: str) -> AckSubject | None:
    """The delivery `$JS.ACK…` describes, or None. v1 has 9 tokens, v2 adds domain and account hash. Source: ADR-15."""
    if not reply.startswith("$JS.ACK."):
        return None
    tokens = reply.split(".")
    if len(tokens) >= 11:
        tokens = tokens[:2] + tokens[4:]
    try:
        delivered, sequence, number, at = int(tokens[4]), int(tokens[5]), int(tokens[6]), int(tokens[7])
    except (IndexError, ValueError):
        return None
    # Counted from 1 by the server; 2^63 nanoseconds are the year 2262.
    if delivered < 1 or sequence < 1 or number < 1 or not 0 <= at < 2**63:
        return None
    return tokens[2], tokens[3], delivered, sequence, number, at / 1e9


def pin_of(block: bytes) -> tuple[str, bytes]:
    """The pin the server appended to a message's own headers, and those headers. A message may itself have a header of
    that name: only the last one is the server's. Source: nats-server, server/client.go (genHeader)."""
    own, mark, pin = block.rpartition(PIN_HEADER)
    return (pin.decode("ascii", "replace").strip(), own + b"\r\n") if mark else ("", block)


def _document(payload: bytes) -> dict[str, Any] | None:
    try:
        found = orjson.loads(payload)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
