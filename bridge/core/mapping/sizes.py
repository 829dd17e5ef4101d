"""How large a message is as each side counts it, headers and attributes included. Found out before sending: the server
answers an oversized publish by cutting the connection, and SQS by refusing the whole batch.

May not: judge. The legs know the limits.
"""

from __future__ import annotations

from collections.abc import Mapping

from bridge.core.models import Attribute, JetStreamOut, SnsOut, SqsOut

_FRAME = len("NATS/1.0\r\n") + len("\r\n")
_MSG_ID = len("Nats-Msg-Id: \r\n")


def header_bytes(headers: Mapping[str, str]) -> int:
    """The header block on the wire: the version line, `name: value` lines, a blank line. Source: ADR-4."""
    return _FRAME + sum(_bytes(name) + _bytes(value) + 4 for name, value in headers.items())


def jetstream_bytes(out: JetStreamOut) -> tuple[int, int]:
    """(header block, header block and payload), Nats-Msg-Id included: both count against max_payload."""
    block = header_bytes(out.headers) + _MSG_ID + _bytes(out.msg_id)
    return block, block + len(out.payload)


def sqs_bytes(out: SqsOut) -> int:
    """Body and every attribute's name, type and value, in UTF-8 bytes. The trace header does not count."""
    return _bytes(out.body) + attribute_bytes(out.attributes)


def sns_bytes(out: SnsOut) -> int:
    """Message and every attribute's name, type and value, in UTF-8 bytes."""
    return _bytes(out.message) + attribute_bytes(out.attributes)


def attribute_bytes(attributes: Mapping[str, Attribute]) -> int:
    return sum(_bytes(name) + _bytes(each.data_type) + _bytes(each.value) for name, each in attributes.items())


def _bytes(value: str | bytes) -> int:
    if isinstance(value, bytes):
        return len(value)
    # ASCII, known to the interpreter, needs no encoding to be counted.
    return len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
