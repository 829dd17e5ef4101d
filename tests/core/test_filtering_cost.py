"""What a hostile message may cost: time linear in its size, whatever the policy, and no depth that ends it.

The time is counted, not measured: lines of the filter's own code that run, which no busy machine changes. What the
lines call (str.find and the JSON parser) is linear by itself, or bounded by the policy's size, not the message's.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import pytest

from bridge.core import bodies, filtering, patterns
from bridge.core.filtering import FilterPolicy
from bridge.core.models import Attribute

OURS = {module.__file__ for module in (bodies, filtering, patterns)}


def lines_of(work: Callable[[], object]) -> int:
    """How many lines of the filter run."""
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal count
        if frame.f_code.co_filename not in OURS:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


KEYS = "bcdefgh"
RECORDS: dict[str, Any] = {"a": {key: ["x"] for key in KEYS}}  # 2 to the power of 7 combinations


def records(size: int) -> Any:
    """Each has half of what is wanted, and each another half."""
    return {"a": [{key: "x" for at, key in enumerate(KEYS) if (number >> at) & 1} for number in range(size)]}


def nested(size: int) -> Any:
    inner: Any = {"b": "x"}
    for number in range(size):
        inner = [inner, {KEYS[number % 6]: "x"}]
    return {"a": inner}


def siblings(size: int) -> Any:
    return {key: [{"k": "x" if number else "y"} for number in range(size)] for key in "abcde"}


CASES: dict[str, tuple[Any, Callable[[int], Any]]] = {
    "records": (RECORDS, records),
    "nested arrays": (RECORDS, nested),
    "sibling arrays": ({key: {"k": ["z", "x"]} for key in "ab"} | {"c": {"j": ["z"]}}, siblings),
    "wide": ({"a": [{"wildcard": "*x*y*z*"}, {"anything-but": ["x", "y"]}]}, lambda size: {"a": ["x", "y"] * size}),
    "choices": (
        {"$or": [{"a": {"b": [f"{n}"], "c": ["x"]}} for n in range(30)]},
        lambda size: {"a": [{"b": f"{n}"} for n in range(size)] + [{"c": "x"}] * size},
    ),
    "lacks": (
        {"a": {"b": ["x"], "c": [{"exists": False}], "d": ["x"]}},
        lambda size: {"a": [{"b": "x", "c": 1}, {"d": "x"}] * size},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_no_body_costs_more_than_its_size(name: str) -> None:
    policy, make = CASES[name]
    accepts = FilterPolicy.parse(policy, "MessageBody").accepts
    sizes = (150, 600)
    small, large = (lines_of(partial(accepts, {}, json.dumps(make(size)).encode())) for size in sizes)
    assert large < 1.5 * small * sizes[1] / sizes[0]


@pytest.mark.parametrize("wildcard", ["*a*b*c*", "*a*a*a*a*b", "a*a*a*c*a", "*ab*ab*ab*c*"])
@pytest.mark.parametrize("letters", ["a", "ab", "abc"])
def test_a_wildcard_looks_for_each_piece_once(wildcard: str, letters: str) -> None:
    accepts = FilterPolicy.parse({"k": [{"wildcard": wildcard}]}).accepts
    small, large = (
        lines_of(partial(accepts, {"k": Attribute("String", letters * size)}, b"")) for size in (50, 100_000)
    )
    assert large == small


@pytest.mark.parametrize(
    "value",
    [
        {"equals-ignore-case": "aß" * 20},
        {"prefix": {"equals-ignore-case": "sß" * 20 + "?"}},
        {"suffix": {"equals-ignore-case": "sß" * 20}},
        {"cidr": "10.0.0.0/8"},
        "10.0.0.1",
        {"numeric": ["=", 5]},
    ],
)
@pytest.mark.parametrize("letter", ["s", "S", ":", "1", "1.", "ß"])
def test_a_long_text_is_answered(value: Any, letter: str) -> None:
    """At more than linear cost each would take minutes."""
    accepts = FilterPolicy.parse({"k": [value]}).accepts
    assert not accepts({"k": Attribute("String", letter * 500_000 + "!")}, b"")
    assert not accepts({"k": Attribute("Number", letter * 500_000)}, b"")


DEEP = 20_000  # the JSON parser of the standard library gives up at a thousand or so


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (f'{{"a": {"[" * DEEP}"x"{"]" * DEEP}}}', True),
        (f'{{"a": {"[" * DEEP}"y"{"]" * DEEP}}}', False),
        (f'{{"b": {"[" * DEEP}{"]" * DEEP}, "a": "x"}}', True),
        ('{"b": ' * DEEP + "1" + "}" * DEEP, False),
        ('{"a": ' * DEEP + '"x"' + "}" * DEEP, False),
        ('{"a": "x", "b": ' + '[1, {"c": ' * DEEP + "null" + "}]" * DEEP + "}", True),
        ('{"a": ' + '["y", [], ' * DEEP + '"x"' + "]" * DEEP + "}", True),
        ('{"a": "x", "b": ' + "[" * DEEP + "}", False),
        ('{"a": "x", "b": ' + "[" * DEEP + "]" * (DEEP - 1) + "}", False),
        (f'{{"a": "x", "b": {"9" * 10_000}}}', True),
        (f'{{"a": "x", "b": -{"9" * 10_000}.5e-3, "c": {"[" * DEEP}{"]" * DEEP}}}', True),
    ],
)
def test_any_depth_is_decided_by_the_policy(body: str, expected: bool) -> None:
    assert FilterPolicy.parse({"a": ["x"]}, "MessageBody").accepts({}, body.encode()) is expected


def test_an_attribute_of_any_depth_is_decided_by_the_policy() -> None:
    accepts = FilterPolicy.parse({"a": ["x"]}).accepts
    for inner, expected in (('"x"', True), ('"y"', False), ("", False)):
        assert accepts({"a": Attribute("String.Array", "[" * DEEP + inner + "]" * DEEP)}, b"") is expected


@pytest.mark.parametrize(
    "text",
    [
        *(
            '{"a": 1}',
            '{"a": [1, {"b": "\\u00e9\\"", "b": [true, false, null]}], "c": {}}',
            "[]",
            '"x"',
            " 1 ",
            "-0.5e3",
        ),
        *('{"a" 1}', '{"a": }', "[1,]", '{"a": 1,}', "{1: 2}", "[1 2]", "]", "", "nul", '["a', "[1]]", '{"a": 1} x'),
    ],
)
def test_the_two_parsers_read_alike(text: str) -> None:
    def read(parse: Callable[[str], Any]) -> Any:
        try:
            return parse(text)
        except ValueError:
            return "refused"

    assert read(bodies.parsed) == read(bodies._parsed_deep)
