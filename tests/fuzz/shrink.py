"""A failing case made small: greedily, as long as it fails in the same way. Cases are plain values, of any kind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

TRIES = 1_500


async def shrunk(case: Any, fails: Callable[[Any], Awaitable[bool]], tries: int = TRIES) -> Any:
    """The smallest case found that still fails, within so many tries."""
    left = tries
    found = True
    while found and left > 0:
        found = False
        for smaller in candidates(case):
            left -= 1
            if await fails(smaller):
                case, found = smaller, True
                break
            if left <= 0:
                break
    return case


def candidates(value: Any) -> Iterator[Any]:
    """Values a little smaller, the boldest first."""
    match value:
        case dict():
            for key in value:
                yield {name: each for name, each in value.items() if name != key}
            for key, each in value.items():
                for smaller in candidates(each):
                    yield {**value, key: smaller}
        case tuple() if hasattr(value, "_fields"):
            yield from _parts(value, lambda parts: type(value)(*parts))
        case list() | tuple():
            kind = type(value)
            if len(value) > 3:
                yield kind(value[: len(value) // 2])
                yield kind(value[len(value) // 2 :])
            for at in range(len(value)):
                yield kind([*value[:at], *value[at + 1 :]])
            yield from _parts(value, kind)
        case str() | bytes():
            yield from _texts(value)
        case bool() | None:
            return
        case int() | float():
            if value not in (0, 1):
                yield 0
                yield 1
        case _:
            return


def _parts(value: Any, make: Callable[[list[Any]], Any]) -> Iterator[Any]:
    for at, each in enumerate(value):
        for smaller in candidates(each):
            parts = list(value)
            parts[at] = smaller
            yield make(parts)


def _texts(value: Any) -> Iterator[Any]:
    size = len(value)
    if not size:
        return
    yield value[:0]
    if size > 1:
        yield value[: size // 2]
        yield value[size // 2 :]
    step = max(1, size // 16)
    for at in range(0, size, step):
        if size > 1:
            yield value[:at] + value[at + step :]
    if size > 16:
        yield value[:-1]
        yield value[1:]
