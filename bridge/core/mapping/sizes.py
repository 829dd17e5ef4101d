"""The gate for headers, and how large a message is as each side counts it, headers and attributes included.

A header block is written here and nowhere else: no name or value in it can end a line, and the headers NATS acts on are
ours alone. Sizes are found out before sending: the server answers an oversized publish by cutting the connection, and
SQS by refusing the whole batch. May not: know the limits of a server. The legs do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from bridge.core.errors import Refused
from bridge.core.mapping.headers import header_name
from bridge.core.models import Attribute, JetStreamOut, SnsOut, SqsOut

_FRAME = len("NATS/1.0\r\n") + len("\r\n")


def header_bytes(headers: Mapping[str, str]) -> int:
    """The header block on the wire: the version line, `name: value` lines, a blank line. Source: ADR-4."""
    return _FRAME + pair_bytes(headers.items())


def pair_bytes(pairs: Iterable[tuple[str, str]]) -> int:
    """Header lines without the frame around them."""
    return sum([_bytes(name) + _bytes(value) + 4 for name, value in pairs])


def header_pairs(out: JetStreamOut) -> list[tuple[str, str]]:
    """Every header of `out` as it goes on the wire, Nats-Msg-Id last."""
    return [*out.headers.items(), *out.repeated, ("Nats-Msg-Id", out.msg_id)]


def publish_block(out: JetStreamOut, more: Sequence[tuple[str, str]] = ()) -> bytes:
    """The header block of `out` on the wire, with `more` at its end, the headers a leg asks NATS to act on.

    The one way to a header block: raises Refused for a value with a line break, NUL or half a surrogate pair in it, for
    what is not a header name, and for a header of `out` that NATS would act on.
    """
    names, values = tuple(out.headers), [*out.headers.values(), out.msg_id]
    if out.repeated:
        names += tuple([name for name, _ in out.repeated])
        values[-1:] = [*[value for _, value in out.repeated], out.msg_id]
    if more:
        values += [value for _, value in more]
    return _written(_frame(names, tuple([name for name, _ in more]) if more else ()), values)


def header_block(pairs: Iterable[tuple[str, str]]) -> bytes:
    """The header block of these pairs on the wire. Its length and the payload's count against max_payload together.
    Raises Refused as `publish_block` does, but whose header it is does not matter. Source: ADR-4."""
    pairs = tuple(pairs)
    return _written(_between(tuple([name for name, _ in pairs])), [value for _, value in pairs])


@lru_cache(maxsize=256)
def _frame(names: tuple[str, ...], more: tuple[str, ...]) -> tuple[str, ...]:
    """Most messages of a route have the same names: the text around the values is built and checked once."""
    for name in names:
        if name[:5].lower() == "nats-":
            raise Refused("a header of the message has a name that NATS acts on")
    return _between((*names, "Nats-Msg-Id", *more))


def _between(names: tuple[str, ...]) -> tuple[str, ...]:
    """The text before, between and behind the values, with an empty text for each value."""
    if not all(header_name(name) for name in names):
        raise Refused("a header of the message has a name NATS does not take")
    text = "NATS/1.0"
    parts: list[str] = []
    for name in names:
        parts += (f"{text}\r\n{name}: ", "")
        text = ""
    return (*parts, f"{text}\r\n\r\n")


def _written(frame: tuple[str, ...], values: list[str]) -> bytes:
    """The block in bytes. Whatever the values are, it has the intended lines, or is refused."""
    parts, text = list(frame), "".join(values)
    if "\n" in text or "\r" in text or "\0" in text:
        raise _refused(frame, values)
    parts[1::2] = values
    try:
        return "".join(parts).encode()
    except UnicodeEncodeError:
        raise _refused(frame, values) from None


def _refused(frame: tuple[str, ...], values: list[str]) -> Refused:
    """Which header it is, by its name: a value may be private."""
    names = [part.rpartition("\n")[2].removesuffix(": ") for part in frame[::2]]
    guilty = next(name for name, value in zip(names, values, strict=False) if not _writable(value))
    return Refused(f"header {guilty}: its value has a line break, NUL or half a surrogate pair in it")


def _writable(value: str) -> bool:
    try:
        return not {10, 13, 0} & set(value.encode())
    except UnicodeEncodeError:
        return False


def jetstream_bytes(out: JetStreamOut) -> tuple[int, int]:
    """(header block, header block and payload), Nats-Msg-Id included."""
    block = _FRAME + pair_bytes(header_pairs(out))
    return block, block + len(out.payload)


def sqs_bytes(out: SqsOut) -> int:
    """Body and every attribute's name, type and value, in UTF-8 bytes. The trace header does not count."""
    return _bytes(out.body) + attribute_bytes(out.attributes)


def sns_bytes(out: SnsOut) -> int:
    """Message and every attribute's name, type and value, in UTF-8 bytes."""
    return _bytes(out.message) + attribute_bytes(out.attributes)


def attribute_bytes(attributes: Mapping[str, Attribute]) -> int:
    total = 0
    for name, (kind, value) in attributes.items():
        if isinstance(value, str):
            text = f"{name}{kind}{value}"
        else:
            text = f"{name}{kind}"
            total += len(value)
        total += len(text) if text.isascii() else _bytes(text)
    return total


def _bytes(value: str | bytes) -> int:
    if isinstance(value, bytes):
        return len(value)
    # ASCII, known to the interpreter, needs no encoding to be counted.
    return len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
