"""Text from outside made safe to display: nothing in it moves a cursor, hides, or starts a line of its own.

Names of queues and buckets, subjects, ids, header values and errors may quote text from any publisher. Printed as it
is, an ESC sets a terminal's title or clears it, a newline forges a line of a log, and U+202E turns a name around.
Law (tests/core/test_plain.py): what comes out is printable by Python's own rule, and printable text is left as it is.
May not: know where it is shown. JSON does not need it: its writer escapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def plain(text: str) -> str:
    """`text` with every character escaped that is not printable, like \\x1b or \\u202e: controls of ASCII and C1,
    newlines and tabs, direction marks, zero-width characters, and surrogates."""
    if text.isprintable():
        return text
    return "".join([each if each.isprintable() else _escaped(each) for each in text])


def plain_lines(text: str) -> list[str]:
    """The same line by line, for text whose own lines may stay lines, where something else marks them as its own."""
    return [plain(line) for line in text.replace("\r\n", "\n").split("\n")]


def plain_document(value: Any) -> Any:
    """A JSON document with every text in it plain, names of members too. Numbers and the rest stay as they are."""
    match value:
        case str():
            return plain(value)
        case Mapping():
            return {plain(str(name)): plain_document(each) for name, each in value.items()}
        case list() | tuple():
            return [plain_document(each) for each in value]
        case _:
            return value


def _escaped(character: str) -> str:
    known = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character)
    if known is not None:
        return known
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
