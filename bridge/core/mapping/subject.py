"""Subject templates (SQS to JetStream), group templates (JetStream to FIFO) and the encoding of a value as one token.

May not: give an illegal subject or group id, or put a message's values into an error.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from bridge.core.errors import ConfigError, Unmappable
from bridge.core.mapping.template import Part, Placeholder, fill, json_of, parse
from bridge.core.models import Attribute, JetStreamMessage, SnsNotification, SqsMessage

TOKEN_LIMIT = 200
SUBJECT_LIMIT = 2_000  # the server's control line of 4,096 bytes also holds a reply subject and two sizes
GROUP_LIMIT = 128
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
_GROUP = _PLAIN | frozenset("!\"#$%&'()*+,./:;<=>?@[\\]^`{|}~")
_RESERVED = ("$JS.", "$SYS.", "$KV.", "$O.", "_INBOX.")


def encode_token(text: str) -> str:
    """`text` as one legal subject token: letters, digits, `_` and `-` stay, each other UTF-8 byte becomes `=XX`.

    Different texts give different tokens. One longer than 200 characters is cut and ends in `=~` and 32 hex digits of
    its SHA-256. The caller treats an empty text as missing: an empty token is not legal.
    """
    # What is remembered is bounded in bytes too: a long text is the message's own, and does not come again.
    return _encoded(text) if len(text) <= TOKEN_LIMIT else _encoded.__wrapped__(text)


@lru_cache(maxsize=4096)
def _encoded(text: str) -> str:
    if _PLAIN.issuperset(text):
        token = text
    else:
        token = "".join(
            chr(byte) if chr(byte) in _PLAIN else f"={byte:02X}" for byte in text.encode("utf-8", "surrogatepass")
        )
    if len(token) <= TOKEN_LIMIT:
        return token
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return f"{token[: TOKEN_LIMIT - 34]}=~{digest}"


def legal_subject(subject: str) -> str | None:
    """Why `subject` cannot be published to, or None. Source: ADR-6."""
    if not subject:
        return "it is empty"
    if " " in subject or not subject.isprintable():
        return "it has a space, a control character or invalid UTF-8"
    if _bytes(subject) > SUBJECT_LIMIT:
        return f"it takes more than {SUBJECT_LIMIT:,} bytes"
    tokens = subject.split(".")
    if not all(tokens):
        return "it has an empty token: a dot at an end, or two in a row"
    if any("*" in token or ">" in token for token in tokens):
        return "it has a wildcard"
    if subject.startswith(_RESERVED):
        return "NATS keeps this subject for itself"
    return None


@dataclass(frozen=True, slots=True)
class SubjectTemplate:
    """A subject with placeholders, each filled with one encoded token."""

    text: str
    parts: tuple[Part, ...]

    @classmethod
    def parse(cls, text: str) -> SubjectTemplate:
        """Raises ConfigError with what is wrong and what to write."""
        kinds = {"attributes": True, "group": False, "queue": False, "topic": False, "body": True}
        parts = parse(text, kinds)
        reason = legal_subject("".join("x" if isinstance(part, Placeholder) else part for part in parts))
        if reason is not None:
            raise ConfigError(
                f"{text!r} gives no legal subject: {reason}", hint="write one like orders.{attributes.NAME}"
            )
        return cls(text, parts)

    @property
    def pattern(self) -> str:
        """The subjects it can give, as NATS would subscribe to them: `*` for a token with a placeholder in it."""
        shape = "".join("{" if isinstance(part, Placeholder) else part for part in self.parts)
        return ".".join("*" if "{" in token else token for token in shape.split("."))

    def render(
        self,
        attributes: Mapping[str, Attribute],
        payload: bytes,
        message: SqsMessage,
        notification: SnsNotification | None = None,
    ) -> str:
        """The subject for this message, whose attributes and payload are those of its envelope if it came in one.
        Raises Unmappable naming the placeholder that has no value."""
        if len(self.parts) == 1 and isinstance(self.parts[0], str):
            return self.parts[0]

        subject = self._of_attributes(attributes)
        if subject is None:
            subject = self._filled(attributes, payload, message, notification)
        if (size := _bytes(subject)) > SUBJECT_LIMIT:
            raise Unmappable("destination.subject", f"{size:,} bytes; {SUBJECT_LIMIT:,} are allowed")
        return subject

    def _of_attributes(self, attributes: Mapping[str, Attribute]) -> str | None:
        """The subject, where text attributes that are there are all it takes: most templates, at half the cost."""
        filled = []
        for part in self.parts:
            if isinstance(part, str):
                filled.append(part)
                continue
            found = attributes.get(part.argument) if part.kind == "attributes" else None
            if found is None or not found.value or isinstance(found.value, bytes):
                return None
            filled.append(encode_token(found.value))
        return "".join(filled)

    def _filled(
        self,
        attributes: Mapping[str, Attribute],
        payload: bytes,
        message: SqsMessage,
        notification: SnsNotification | None,
    ) -> str:
        def lookup(kind: str, name: str) -> str | None:
            if kind == "attributes":
                found = attributes.get(name)
                return found.value if found is not None and isinstance(found.value, str) else None
            if kind == "group":
                return message.system.get("MessageGroupId")
            if kind == "queue":
                return message.queue
            return notification.topic if notification else None

        return fill(self.parts, lookup, json_of(payload), field="destination.subject", encode=encode_token)


@dataclass(frozen=True, slots=True)
class GroupTemplate:
    """A MessageGroupId for a FIFO queue or topic, out of a JetStream message."""

    text: str
    parts: tuple[Part, ...]

    @classmethod
    def parse(cls, text: str) -> GroupTemplate:
        """Raises ConfigError with what is wrong and what to write."""
        parts = parse(text, {"subject": None, "headers": True, "body": True})
        for part in parts:
            if not isinstance(part, Placeholder) or part.kind != "subject" or not part.argument:
                continue
            if not part.argument.isdecimal() or int(part.argument) < 1:
                raise ConfigError(
                    f"{{{part.text}}} in {text!r} is not a token of a subject", hint="{subject.1} is the first token"
                )
        if not parts:
            raise ConfigError("a group template cannot be empty", hint="write one like {subject.2}")
        return cls(text, parts)

    def render(self, message: JetStreamMessage) -> str:
        """The group id. Raises Unmappable naming the placeholder that has no value."""

        def lookup(kind: str, argument: str) -> str | None:
            if kind == "headers":
                return message.header(argument)
            return _at(message.subject.split("."), int(argument) - 1) if argument else message.subject

        body = json_of(message.payload)
        return fifo_id(fill(self.parts, lookup, body, field="destination.group", encode=str))


@dataclass(frozen=True, slots=True)
class DueTemplate:
    """When a message is to be delivered, out of an SQS message: RFC 3339, or seconds or milliseconds of the epoch."""

    parts: tuple[Part, ...]

    @classmethod
    def parse(cls, text: str) -> DueTemplate:
        """Raises ConfigError with what is wrong and what to write."""
        parts = parse(text, {"attributes": True, "body": True})
        if len(parts) != 1 or not isinstance(parts[0], Placeholder) or parts[0].default is not None:
            raise ConfigError(f"{text!r} is not one placeholder alone", hint="write one like {attributes.deliverAt}")
        return cls(parts)

    def render(self, attributes: Mapping[str, Attribute], payload: bytes) -> float | None:
        """Seconds since the epoch; None where the message does not say. Raises Unmappable for what is not a time."""

        def attribute(_: str, name: str) -> str | None:
            found = attributes.get(name)
            return found.value if found is not None and isinstance(found.value, str) else None

        try:
            text = fill(self.parts, attribute, json_of(payload), field="", encode=str)
        except Unmappable:
            return None
        try:
            number = float(text)
            at = number / 1000 if number >= 1e11 else number  # so many seconds are the year 5138
        except ValueError:
            try:
                moment = datetime.fromisoformat(text)
            except ValueError:
                raise Unmappable("destination.deliver_at", "what the message has there is not a time") from None
            if moment.tzinfo is None:
                raise Unmappable("destination.deliver_at", "the message's time has no zone") from None
            at = moment.timestamp()
        if not 0 <= at < 253_402_300_800:  # the year 10000
            raise Unmappable("destination.deliver_at", "what the message has there is not a time")
        return at


def fifo_id(text: str) -> str:
    """`text` as a legal MessageGroupId or MessageDeduplicationId: itself where SQS takes it, else `sha256:` and a hash.

    Source: SQS API reference, SendMessage: at most 128 letters, digits and ASCII punctuation.
    """
    if 0 < len(text) <= GROUP_LIMIT and _GROUP.issuperset(text):
        return text
    return f"sha256:{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


def _bytes(subject: str) -> int:
    return len(subject) if subject.isascii() else len(subject.encode("utf-8", "surrogatepass"))


def _at(tokens: Sequence[str], place: int) -> str | None:
    return tokens[place] if place < len(tokens) else None
