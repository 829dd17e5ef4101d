"""The grammar of headers and attributes (docs/wire-format.md): how an attribute becomes headers, and back.

    attribute k          header k                    where NATS and its clients leave the name alone
                         header Sqs-Attr-k           where they do not, or two names differ only in case
    its type             header Sqs-Type-k           unless it is plain String
    a text that a        header Sqs-Encoding-k       `base64`
      header changes
    another fact of a    header h in base64,         where a header would change it or cannot hold it
      message (h)        header h-Encoding
    a name that is not   header Sqs-Attributes       one JSON object {name: [type, value]}, Binary in base64
      a header name

May not: let a foreign name become a header that NATS acts on, or drop anything.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from bridge.core.models import Attribute, JetStreamMessage

OURS = ("nats-", "sqs-", "sns-", "bridge-")  # prefixes, in any case: what NATS and the bridge give a meaning
_ALONE = frozenset({"status", "description", "x-amzn-trace-id"})  # a client takes `Status` for a status of the server
PACKED = "Sqs-Attributes"
TRACE = "X-Amzn-Trace-Id"
ODD_TRACE = "Sqs-Trace-Header"  # for a value that is not a trace header: readers of traces must not see it
REMEMBERED = 4_096  # characters of names that are worth remembering
ENCODED = "-Encoding"  # behind the name of a header of ours: its value is in base64
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # as nats-py sends it
_ATTRIBUTE_NAME = re.compile(r"(?!\.)(?!.*\.\.)[A-Za-z0-9_.-]{1,256}(?<!\.)")
_AMAZONS = re.compile(r"(?:aws|amazon)\.", re.IGNORECASE)  # SQS refuses these, SNS gives some a meaning
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_DATA_TYPE = re.compile(r"(?:String|Number|Binary)(?:\.[A-Za-z0-9_.-]{1,249})?")
_NUMBER = re.compile(r"[+-]?(?=\.?[0-9])([0-9]*)\.?([0-9]*)(?:[eE]([+-]?[0-9]{1,3}))?")
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

Pairs = Iterable[tuple[str, str]]


def reserved(name: str) -> bool:
    """Whether a header of this name means something to NATS, its clients or the bridge."""
    lowered = name.lower()
    return lowered.startswith(OURS) or lowered in _ALONE


def header_name(name: str) -> bool:
    """Whether a header can have this name: as nats-py sends it."""
    return _HEADER_NAME.fullmatch(name) is not None


def _header_name(name: str) -> str | None:
    """The header an attribute travels in when no other name collides with it; None when it can be no header."""
    if not _HEADER_NAME.fullmatch(name):
        return None
    return f"Sqs-Attr-{name}" if reserved(name) else name


@lru_cache(maxsize=256)
def _header_names(names: tuple[str, ...]) -> tuple[str | None, ...]:
    """The header of each attribute of a message, None for what can be no header. Most messages of a queue have the
    same attributes."""
    twins = Counter(name.lower() for name in names)
    return tuple(
        f"Sqs-Attr-{name}" if header is not None and twins[name.lower()] > 1 else header
        for name, header in ((name, _header_name(name)) for name in names)
    )


def header_safe(value: str) -> bool:
    """Whether a header carries `value` unchanged: clients strip blanks and replace line breaks; control characters and
    empty values are not safe either."""
    if value.isprintable():
        return value != "" and value[0] != " " and value[-1] != " "
    return value == value.strip() and _CONTROL.search(value) is None


def base64_of(value: str | bytes) -> str:
    raw = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
    return base64.b64encode(raw).decode("ascii")


def text_of(encoded: str) -> str:
    """Raises ValueError for what `base64_of` cannot have written."""
    return base64.b64decode(encoded, validate=True).decode("utf-8", "surrogatepass")


def set_field(headers: dict[str, str], header: str, value: str) -> None:
    """Adds a header of ours. A value that a header would change is written in base64, with a header that says so. An
    empty value adds none."""
    if value.isalnum() or header_safe(value):
        headers[header] = value
    elif value:
        if header == TRACE:
            header = ODD_TRACE
        headers |= {header: base64_of(value), f"{header}{ENCODED}": "base64"}


def field_of(message: JetStreamMessage, name: str) -> str | None:
    """The value of a header that `set_field` may have encoded; None where there is none, or where `set_field`
    cannot have written it."""
    text = message.header(name)
    if text is None or message.header(f"{name}{ENCODED}") is None:
        return text
    try:
        return text_of(text) if message.header(f"{name}{ENCODED}") == "base64" else None
    except ValueError:
        return None


def strict_json(text: str | bytes) -> Any:
    """A JSON document of which nothing is lost by reading it: names in an object differ, and numbers are JSON's own.
    Raises ValueError for anything else, one nested too deeply included."""
    try:
        return _strict(text if isinstance(text, str) else text.decode())
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name comes twice")
    return found


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is not a JSON number")


_strict = json.JSONDecoder(object_pairs_hook=_distinct, parse_constant=_no_number).decode


def to_headers(attributes: Mapping[str, Attribute]) -> dict[str, str]:
    """The headers of these attributes. Total: every name and value is carried."""
    headers: dict[str, str] = {}
    odd: dict[str, Attribute] = {}
    names = tuple(attributes)
    # What is remembered is bounded in bytes too: a name in an SNS envelope may be as long as its writer likes.
    known = _header_names if len("".join(names)) <= REMEMBERED else _header_names.__wrapped__
    for (name, attribute), header in zip(attributes.items(), known(names), strict=True):
        kind, value = attribute
        if header is None or (kind != "String" and not header_safe(kind)):
            odd[name] = attribute
            continue
        if isinstance(value, bytes):
            headers[header] = base64_of(value)
        elif header_safe(value):
            headers[header] = value
        else:
            headers[header] = base64_of(value)
            headers[f"Sqs-Encoding-{name}"] = "base64"
        if kind != "String":
            headers[f"Sqs-Type-{name}"] = kind
    if odd:
        headers[PACKED] = json.dumps(packed(odd), separators=(",", ":"))
    return headers


def packed(attributes: Mapping[str, Attribute]) -> dict[str, list[str]]:
    """Attributes as JSON keeps them: {name: [type, value]}, Binary in base64. Lone surrogates stay as JSON escapes."""
    return {
        name: [each.data_type, base64_of(each.value) if isinstance(each.value, bytes) else each.value]
        for name, each in attributes.items()
    }


def unpacked(document: object) -> dict[str, Attribute]:
    """What `packed` packed. Raises ValueError for anything else."""
    try:
        return {
            name: _typed(kind, value)
            for name, (kind, value) in document.items()  # type: ignore[attr-defined]  # anything else raises, as it should
        }
    except (AttributeError, TypeError) as error:
        raise ValueError("not packed attributes") from error


class Shape(NamedTuple):
    """What the names of a message's headers show; they are the same for most messages of a stream. `described` are the
    headers that may represent an attribute, in wire order: its position, the attribute's name (empty for PACKED), and
    the positions of the headers with its type and its encoding, or -1. `amazons`: one of them may be an attribute of a
    name SQS refuses (`sqs_name`)."""

    names: frozenset[str]
    described: tuple[tuple[int, str, int, int], ...]
    amazons: bool


def shape_of(pairs: Sequence[tuple[str, str]]) -> Shape:
    return _shape(tuple([name for name, _ in pairs]))


def from_headers(
    pairs: Sequence[tuple[str, str]], shape: Shape | None = None
) -> tuple[dict[str, Attribute], list[tuple[str, str]]]:
    """The attributes these headers represent, and the headers that represent none, in wire order. `shape` is theirs,
    where it is known already.

    A native producer's own header becomes a String attribute where SNS takes its name and value; SQS takes the same but
    for a few names (`sqs_name`). Whatever cannot be restored exactly (several values, a bad encoding, a name both
    refuse) stays a header: the caller carries it packed.
    """
    attributes: dict[str, Attribute] = {}
    used: set[int] = set()
    for at, name, typed, encoded in (shape or shape_of(pairs)).described:
        value = pairs[at][1]
        if not name:
            found = _fitting(value)
            if found is not None:
                attributes |= found[0]
                if found[1]:
                    used.add(at)
            continue
        if name in attributes:
            continue  # the bridge never writes both `k` and `Sqs-Attr-k`: the first one is the attribute
        kind = "String" if typed < 0 else pairs[typed][1]
        if encoded < 0 and _plain(value) and (kind == "String" or takes(kind, value)):
            attributes[name] = Attribute(kind, value)  # the most common case, and the fastest to check
        else:
            attribute = _odd(kind, value, "" if encoded < 0 else pairs[encoded][1])
            if attribute is None:
                continue
            attributes[name] = attribute
        used.add(at)
        if typed >= 0:
            used.add(typed)
        if encoded >= 0:
            used.add(encoded)
    if len(used) == len(pairs):
        return attributes, []
    return attributes, [pair for at, pair in enumerate(pairs) if at not in used]


def _fitting(text: str) -> tuple[dict[str, Attribute], bool] | None:
    """Those of the packed attributes that SNS takes, and whether these are all; None if nothing is packed here."""
    try:
        found = unpacked(strict_json(text))
    except ValueError:
        return None
    fitting = {name: each for name, each in found.items() if _attribute_name(name) and _value_sendable(each)}
    return fitting, len(fitting) == len(found)


def _odd(kind: str, value: str, encoding: str) -> Attribute | None:
    """The attribute of a header that is not plain text, or None where it cannot be one."""
    if encoding not in ("", "base64"):
        return None
    try:
        attribute = _typed(kind, text_of(value) if encoding else value)
    except ValueError:
        return None
    # What is not safe would be encoded on its way back, and not read like this again.
    return attribute if header_safe(value) and _value_sendable(attribute) else None


@lru_cache(maxsize=256)
def _shape(names: tuple[str, ...]) -> Shape:
    times = Counter(names)
    folded = Counter(name.removeprefix("Sqs-Attr-").lower() for name in times)
    # A producer's own `A` and `a` are two headers and must return as such: as attributes they would be renamed.
    single = {
        name: at for at, name in enumerate(names) if times[name] == 1 and (reserved(name) or folded[name.lower()] == 1)
    }
    described = []
    for header, at in single.items():
        if header == PACKED:
            described.append((at, "", -1, -1))
        elif header.startswith("Sqs-Attr-") or not reserved(header):
            name = header.removeprefix("Sqs-Attr-")
            if _attribute_name(name):
                described.append((at, name, single.get(f"Sqs-Type-{name}", -1), single.get(f"Sqs-Encoding-{name}", -1)))
    return Shape(frozenset(names), tuple(described), any(not name or not sqs_name(name) for _, name, _, _ in described))


def _typed(kind: object, value: object) -> Attribute:
    if not isinstance(kind, str) or not isinstance(value, str):
        raise TypeError
    if kind.partition(".")[0] != "Binary":
        return Attribute(kind, value)
    try:
        return Attribute(kind, base64.b64decode(value, validate=True))
    except (binascii.Error, ValueError) as error:
        raise ValueError("not base64") from error


def carriable(name: str, value: str) -> bool:
    """Whether this foreign pair may be written as a header: its name has no special meaning, and nothing in its value
    would be changed by a header, ends the line or is not UTF-8."""
    if reserved(name) or not _HEADER_NAME.fullmatch(name) or value != value.strip(" \t"):
        return False
    if value.isprintable():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return not ("\r" in value or "\n" in value or "\0" in value)


def _attribute_name(name: str) -> bool:
    return _ATTRIBUTE_NAME.fullmatch(name) is not None


def sqs_name(name: str) -> bool:
    """Whether SQS takes an attribute of this name, which SNS does. Source: SQS API reference, SendMessage: it must not
    start with AWS. or Amazon., in any case."""
    return name[:1] not in "aA" or _AMAZONS.match(name) is None


def sendable(name: str, attribute: Attribute) -> bool:
    """Whether SQS takes this attribute. Source: SQS API reference, MessageAttributeValue."""
    return _attribute_name(name) and sqs_name(name) and _value_sendable(attribute)


def _value_sendable(attribute: Attribute) -> bool:
    kind, value = attribute
    return value != "" and value != b"" and takes(kind, value) and (isinstance(value, bytes) or xml_text(value))


@lru_cache(maxsize=64)
def _data_type(kind: str) -> str | None:
    """String, Number or Binary; None for what is not a data type. Source: SQS developer guide, message metadata."""
    return kind.partition(".")[0] if _DATA_TYPE.fullmatch(kind) else None


def takes(kind: str, value: str | bytes) -> bool:
    """Whether SQS takes a value as this data type: one that it cannot read as a number fails the whole batch.

    Source: SQS developer guide, message metadata: 38 digits, between 1e-128 and 1e126.
    """
    plain = _data_type(kind) if len(kind) <= 256 else None
    if isinstance(value, bytes):
        return plain == "Binary"
    if plain != "Number":
        return plain == "String"
    if len(value) <= 38 and value.isascii() and value.isdecimal():
        return True
    found = _NUMBER.fullmatch(value) if len(value) <= 300 else None
    if found is None:
        return False
    digits = (found[1] + found[2]).strip("0")
    # Position of the first digit that is not zero, counted from the decimal point.
    ahead = len(found[1].lstrip("0")) or len(found[2].lstrip("0")) - len(found[2])
    return len(digits) <= 38 and (not digits or -128 < ahead + int(found[3] or 0) <= 126)


def _plain(value: str) -> bool:
    """Printable ASCII without blanks around it."""
    return value.isascii() and value.isprintable() and value != "" and value[0] != " " and value[-1] != " "


def xml_text(text: str) -> bool:
    """Whether SQS takes `text` as it is. Source: SQS API reference, SendMessage: the characters of XML 1.0."""
    # Most texts are printable ASCII, which the interpreter recognises at once.
    return (text.isascii() and text.isprintable()) or _NOT_XML.search(text) is None
