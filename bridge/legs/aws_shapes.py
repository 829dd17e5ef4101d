"""Reads AWS's answers with type checks: null means absent, and a value of the wrong type is not an answer from AWS.

An emulator, a proxy or a fault at the other end may answer with any JSON. In every case the reader returns the expected
type or None, and the caller decides whether the peer is down or one message cannot be read.
May not: know an operation, or convert between types beyond digits to numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from bridge.legs.aws_errors import unreadable

PAGES = 1000  # of a list: one with more is taken for endless
LARGEST = 1e15  # a larger number is not a valid time, size or count


def text(value: Any) -> str | None:
    """A text that is not empty, or None."""
    return value if isinstance(value, str) and value else None


def number(value: Any) -> float | None:
    """Digits, or a number: AWS writes all numbers as texts, emulators do not. Not negative."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if 0 <= found < LARGEST else None


def record(value: Any) -> Mapping[str, Any] | None:
    """A structure or a map."""
    return value if isinstance(value, dict) else None


def listed(value: Any) -> list[Any] | None:
    """A list; an absent one is empty."""
    return [] if value is None else value if isinstance(value, list) else None


class Facts:
    """The attributes of a queue or topic, as texts. Raises Unavailable for anything else: garbage is an outage."""

    def __init__(self, answer: Any, about: str, service: str = "SQS") -> None:
        found = record((record(answer) or {}).get("Attributes"))
        if found is None:
            raise unreadable(about, "no attributes", service)
        self._found = found
        self._about = about
        self._service = service

    def __contains__(self, name: str) -> bool:
        return self._found.get(name) is not None

    def text(self, name: str) -> str:
        """Empty if it is absent."""
        value = self._found.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise unreadable(self._about, f"{name} is not a text", self._service)
        return value

    def number(self, name: str, default: float) -> float:
        value = self._found.get(name)
        if value is None:
            return default
        found = number(value)
        if found is None:
            raise unreadable(self._about, f"{name} is not a number", self._service)
        return found


def pages(answer: Any, name: str, token: str, seen: set[str]) -> tuple[Iterator[Mapping[str, Any]], str | None]:
    """The structures in the list `name` of one page, and the token of the next. A repeated token, or too many
    pages, ends the list. Empty for anything that is not a list."""
    found = record(answer) or {}
    following = text(found.get(token))
    if following in seen or len(seen) >= PAGES:
        following = None
    if following is not None:
        seen.add(following)
    return (each for each in listed(found.get(name)) or () if isinstance(each, dict)), following


def is_url(value: str | None) -> bool:
    """Whether it can be a queue's URL."""
    try:
        return value is not None and urlsplit(value).scheme in ("http", "https")
    except ValueError:
        return False
