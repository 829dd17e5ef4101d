"""One value of an SNS filter policy: what it is compared with, and whether a scalar of a message satisfies it.

A scalar is a text, a number, true, false or None (null); a number that cannot be read as one is a NaN. Every test takes
time linear in the text it examines: nothing here backtracks.
Source: SNS developer guide, "String value matching", "Numeric value matching", "Key matching"; where it is silent,
AWS's own event-ruler, which SNS's answers to wrong policies quote.
May not: be laxer or stricter than SNS, or put a message's values into an error.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from bridge.core.errors import ConfigError

Test = Callable[[Any], bool]
"""Whether one scalar of a message satisfies one value of a policy."""

OPERATORS = ("prefix", "suffix", "anything-but", "equals-ignore-case", "wildcard", "numeric", "exists", "cidr")
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    # SNS promises five digits after the point. What only a sixth one decides may go either way there; here it is
    # carried, because what a filter leaves out is lost.
    "=": lambda x, y: x == y or round(x, 5) == round(y, 5),
    "<": lambda x, y: x < y,
    "<=": lambda x, y: x <= y or round(x, 5) == round(y, 5),
    ">": lambda x, y: x > y,
    ">=": lambda x, y: x >= y or round(x, 5) == round(y, 5),
}
_IPV4 = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")
_IPV6 = re.compile(r"[0-9a-fA-F:]{2,39}")
_MASK = re.compile(r"\+?[0-9]{1,3}")


@dataclass(frozen=True, slots=True)
class Leaf:
    """The list of values under one key: any of them will do. `texts` are those that are plain texts; `absent`: so will
    a missing key."""

    texts: frozenset[str]
    tests: tuple[Test, ...]
    absent: bool
    values: int

    @classmethod
    def parse(cls, values: Sequence[Any], at: str) -> Leaf:
        """`at` names the key in an error. Raises ConfigError for what SNS would refuse."""
        texts: set[str] = set()
        tests: list[Test] = []
        absent = False
        for value in values:
            match value:
                case str():
                    texts.add(value)
                    if (address := _address(value)) is not None:
                        tests.append(_same_address(address))
                case {"exists": bool(wanted)} if len(value) == 1:
                    if wanted:
                        tests.append(exists)
                    absent = absent or not wanted
                case {"exists": _} if len(value) == 1:
                    raise ConfigError(f"{at}: exists is true or false")
                case _:
                    tests.append(_test(value, at))
        return cls(frozenset(texts), tuple(tests), absent, len(values))

    def matches(self, found: Any) -> bool:
        """Whether one of the values matches this scalar."""
        if type(found) is str and found in self.texts:
            return True
        for test in self.tests:  # noqa: SIM110 - this is the hot path, and a generator costs more than its tests
            if test(found):
                return True
        return False

    def among(self, found: Iterable[Any]) -> bool:
        """An array matches by any of its elements."""
        return any(map(self.matches, found))


def exists(found: Any) -> bool:
    """A key exists when it has a value that is neither null nor empty. Source: "Key matching"."""
    return found is not None and found != ""


def _test(value: Any, at: str) -> Test:
    if not isinstance(value, dict):
        return _equal(value, at)
    if len(value) != 1:
        raise ConfigError(f"{at}: an operator stands alone in its object", hint='write {"prefix": "pay"}')
    ((operator, wanted),) = value.items()
    match operator:
        case "prefix" | "suffix" if isinstance(wanted, dict):
            return _ignoring_case(operator, wanted, at)
        case "prefix" | "suffix" | "equals-ignore-case" | "wildcard":
            return _text_test(operator, wanted, at)
        case "cidr":
            return _cidr(wanted, at)
        case "numeric":
            return _numeric(wanted, at)
        case "anything-but":
            return _anything_but(wanted, at)
        case _:
            near = get_close_matches(str(operator), OPERATORS, 1)
            hint = f"did you mean {near[0]}?" if near else f"SNS knows {', '.join(OPERATORS)}"
            raise ConfigError(f"{at}: {operator} is not an operator", hint=hint)


def _equal(value: Any, at: str) -> Test:
    match value:
        case bool() | None:
            return lambda found: found is value
        case int() | float() if _in_range(value):
            number, compare = float(value), _COMPARE["="]
            return lambda found: _is_number(found) and compare(found, number)
        case _:
            raise ConfigError(f"{at}: a value is a text, true, false, null or a number from -1e9 to 1e9")


# -- texts


def _text_test(operator: str, wanted: Any, at: str) -> Test:
    if not isinstance(wanted, str):
        raise ConfigError(f"{at}: {operator} takes a text")
    match operator:
        case "prefix":
            return lambda found: type(found) is str and found.startswith(wanted)
        case "suffix":
            return lambda found: type(found) is str and found.endswith(wanted)
        case "wildcard":
            return _wildcard(wanted, at)
        case _:
            matches = re.compile(_either_case(wanted)).fullmatch
            return lambda found: type(found) is str and matches(found) is not None


def _wildcard(wanted: str, at: str) -> Test:
    """Each piece is searched for once, from where the one before it ended: the first place it fits leaves the most room
    for those behind it, so there is nothing to go back to."""
    pieces = list(_pieces(wanted, at))
    if len(pieces) == 1:
        (whole,) = pieces
        return lambda found: type(found) is str and found == whole
    first, *middle, last = pieces
    shortest = len(first) + len(last)

    def test(found: Any) -> bool:
        if type(found) is not str or len(found) < shortest or not found.startswith(first) or not found.endswith(last):
            return False
        start, end = len(first), len(found) - len(last)
        for piece in middle:
            start = found.find(piece, start, end)
            if start < 0:
                return False
            start += len(piece)
        return True

    return test


def _pieces(wanted: str, at: str) -> Iterator[str]:
    r"""The texts between the wildcards; \* and \\ are an asterisk and a backslash."""
    piece, escaped, before = "", False, ""
    for letter in wanted:
        if escaped:
            if letter not in "*\\":
                raise ConfigError(f"{at}: in a wildcard a backslash stands before * or another backslash")
            piece, escaped, before = piece + letter, False, ""
        elif letter == "\\":
            escaped = True
        elif letter == "*":
            if before == "*":
                raise ConfigError(f"{at}: a wildcard has no two * in a row", hint="write one")
            yield piece
            piece, before = "", "*"
        else:
            piece, before = piece + letter, ""
    if escaped:
        raise ConfigError(f"{at}: in a wildcard a backslash stands before * or another backslash")
    yield piece


def _either_case(wanted: str, *, backwards: bool = False) -> str:
    """A pattern of each letter in lower and in upper case, as event-ruler compares: letter by letter, so that no
    folding makes "ss" of "ß". The spellings of a letter differ in how they begin, so nothing is tried twice."""
    letters = []
    for letter in wanted:
        spellings = dict.fromkeys((letter, letter.lower(), letter.upper()))
        escaped = [re.escape(each[::-1] if backwards else each) for each in spellings]
        letters.append(escaped[0] if len(escaped) == 1 else f"(?:{'|'.join(escaped)})")
    return "".join(reversed(letters) if backwards else letters)


def _ignoring_case(operator: str, wanted: dict[str, Any], at: str) -> Test:
    if list(wanted) != ["equals-ignore-case"] or not isinstance(text := wanted["equals-ignore-case"], str):
        raise ConfigError(
            f"{at}: {operator} takes a text", hint=f'or write {{"{operator}": {{"equals-ignore-case": "x"}}}}'
        )
    if operator == "prefix":
        begins = re.compile(_either_case(text)).match
        return lambda found: type(found) is str and begins(found) is not None
    ends = re.compile(_either_case(text, backwards=True)).match
    longest = 3 * len(text)  # a letter has at most three in its other case
    return lambda found: type(found) is str and ends(found[: -longest - 1 : -1]) is not None


# -- numbers and addresses


def _numeric(wanted: Any, at: str) -> Test:
    pairs = list(zip(wanted[::2], wanted[1::2], strict=False)) if isinstance(wanted, list) else []
    legal = len(pairs) in (1, 2) and len(wanted) == 2 * len(pairs)
    if not legal or not all(isinstance(sign, str) and sign in _COMPARE and _in_range(limit) for sign, limit in pairs):
        raise ConfigError(
            f"{at}: numeric takes one or two comparisons with numbers from -1e9 to 1e9",
            hint='write {"numeric": [">", 0, "<=", 150]}',
        )
    if len(pairs) == 2:
        (lower, bottom), (upper, top) = pairs
        if lower not in (">", ">=") or upper not in ("<", "<=") or bottom >= top:
            raise ConfigError(
                f"{at}: a numeric range goes from > or >= a smaller number to < or <= a larger one",
                hint='write {"numeric": [">", 0, "<=", 150]}',
            )
    checks = [(_COMPARE[sign], float(limit)) for sign, limit in pairs]
    if len(checks) == 1:
        ((compare, limit),) = checks
        return lambda found: _is_number(found) and compare(found, limit)
    return lambda found: _is_number(found) and all(compare(found, limit) for compare, limit in checks)


def _is_number(found: Any) -> bool:
    return type(found) is float or type(found) is int


def _in_range(value: Any) -> bool:
    return _is_number(value) and -1e9 <= value <= 1e9


def _cidr(wanted: Any, at: str) -> Test:
    address, slash, bits = wanted.partition("/") if isinstance(wanted, str) else ("", "", "")
    found = _address(address)
    if found is None or not slash or not _MASK.fullmatch(bits) or int(bits) >= found[0]:
        raise ConfigError(
            f"{at}: cidr takes a network, with a mask of 0 to 31 bits, or 127 for IPv6",
            hint='write {"cidr": "10.0.0.0/24"}, and a single address as a plain text',
        )
    width, number = found
    shift = width - int(bits)
    network = (width, number >> shift)

    def test(found: Any) -> bool:
        other = _address(found) if type(found) is str else None
        return other is not None and (other[0], other[1] >> shift) == network

    return test


def _same_address(address: tuple[int, int]) -> Test:
    """event-ruler compares an address as what it is: 2001:db8::1 is 2001:DB8:0::1."""
    return lambda found: type(found) is str and _address(found) == address


def _address(text: str) -> tuple[int, int] | None:
    """Its bits and its number; None where the text is not an address. IPv4 inside IPv6 counts as IPv4."""
    if len(text) > 39:
        return None
    if _IPV4.fullmatch(text):
        parts = [int(part) for part in text.split(".")]
        return (32, int.from_bytes(bytes(parts), "big")) if max(parts) < 256 else None
    if ":" not in text or not _IPV6.fullmatch(text):
        return None
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return None
    inside = address.ipv4_mapped
    return (128, int(address)) if inside is None else (32, int(inside))


# -- anything but


def _anything_but(wanted: Any, at: str) -> Test:
    """A scalar of another kind is something else too, and so is null; a missing key is not."""
    match wanted:
        case dict():
            return _none_of(_nested(wanted, at))
        case str() | list() if wanted != []:
            values = wanted if isinstance(wanted, list) else [wanted]
        case _ if _is_number(wanted):
            values = [wanted]
        case _:
            raise ConfigError(f"{at}: anything-but takes a text, a number or a list of either")
    if all(isinstance(each, str) for each in values):
        texts = frozenset(values)
        return lambda found: type(found) is not str or found not in texts
    if not all(map(_in_range, values)):
        raise ConfigError(f"{at}: anything-but takes texts or numbers from -1e9 to 1e9, and not both in one list")
    numbers = frozenset(map(float, values))
    return lambda found: not _is_number(found) or found not in numbers


def _nested(wanted: dict[str, Any], at: str) -> list[Test]:
    operator, texts = next(iter(wanted.items()), ("", []))
    if len(wanted) != 1 or operator not in ("prefix", "suffix", "wildcard", "equals-ignore-case"):
        raise ConfigError(f"{at}: anything-but takes values, or one of prefix, suffix, wildcard and equals-ignore-case")
    texts = texts if isinstance(texts, list) else [texts]
    if not texts or (operator in ("prefix", "suffix") and "" in texts):
        raise ConfigError(f"{at}: anything-but {operator} takes a text or a list of them, none empty")
    return [_text_test(operator, text, at) for text in texts]


def _none_of(tests: list[Test]) -> Test:
    return lambda found: not any(test(found) for test in tests)
