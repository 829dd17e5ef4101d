"""SNS filter policies: which messages a route carries, in the syntax of a subscription's own policy, so that it moves
over unchanged.

Source: SNS developer guide, "Amazon SNS subscription filter policies" and the pages below it (string, numeric and key
matching, AND/OR logic, policy constraints).
May not: be laxer or stricter than SNS, or put a message's values into an error.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from math import prod
from typing import Any, Literal

from bridge.core.errors import ConfigError
from bridge.core.models import Attribute

Scope = Literal["MessageAttributes", "MessageBody"]
Test = Callable[[Any], bool]
"""Whether one scalar of a message satisfies one value of a policy."""

KEYS, COMBINATIONS, BYTES = 5, 150, 256 * 1024
OPERATORS = ("prefix", "suffix", "anything-but", "equals-ignore-case", "wildcard", "numeric", "exists", "cidr")
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "=": lambda x, y: round(x, 5) == round(y, 5),  # five digits after the point is what SNS compares
    "<": lambda x, y: x < y,
    "<=": lambda x, y: x <= y,
    ">": lambda x, y: x > y,
    ">=": lambda x, y: x >= y,
}


@dataclass(frozen=True, slots=True)
class _Leaf:
    """The list of values under one key: any of them will do. `exists` holds the values of its exists operators."""

    tests: tuple[Test, ...]
    exists: tuple[bool, ...]

    def accepts(self, values: Sequence[Any], *, alone: bool) -> bool:
        """`values` are the scalars the message has under this key. `alone`: the message has no key at all, and then
        even `exists: false` does not match."""
        present = any(value is not None and value != "" for value in values)
        if any((present if wanted else not present and not alone) for wanted in self.exists):
            return True
        return any(test(value) for value in values for test in self.tests)


@dataclass(frozen=True, slots=True)
class _Node:
    """Every key must accept, and one of each `$or`."""

    leaves: tuple[tuple[str, _Leaf], ...]
    nodes: tuple[tuple[str, _Node], ...]
    ors: tuple[tuple[_Node, ...], ...]

    def accepts(self, document: Mapping[str, Any]) -> bool:
        return (
            all(
                leaf.accepts(_scalars(document[key]) if key in document else (), alone=not document)
                for key, leaf in self.leaves
            )
            and all(any(node.accepts(each) for each in _objects(document.get(key))) for key, node in self.nodes)
            and all(any(node.accepts(document) for node in alternatives) for alternatives in self.ors)
        )

    def counts(self, depth: int = 1) -> Iterator[int]:
        """For each key, its number of values times its depth."""
        for _, leaf in self.leaves:
            yield depth * (len(leaf.tests) + len(leaf.exists))
        for _, node in self.nodes:
            yield from node.counts(depth + 1)


def _scalars(found: Any) -> list[Any]:
    """An array matches by any of its elements."""
    if isinstance(found, list):
        return [scalar for each in found for scalar in _scalars(each)]
    return [] if isinstance(found, dict) else [found]


def _objects(found: Any) -> list[Mapping[str, Any]]:
    """The objects a nested policy is asked of, one at a time: one of them has to satisfy the whole of it. Where there
    is none, `exists: false` below may still match."""
    if isinstance(found, list):
        return [each for some in found for each in _objects(some)]
    return [found] if isinstance(found, dict) else [{"": None}]


@dataclass(frozen=True, slots=True)
class FilterPolicy:
    """A subscription's FilterPolicy and FilterPolicyScope."""

    scope: Scope
    root: _Node

    @classmethod
    def parse(cls, document: object, scope: Scope = "MessageAttributes") -> FilterPolicy:
        """Raises ConfigError for what SNS would refuse, with what to write instead."""
        if not isinstance(document, dict) or not document:
            raise ConfigError("a filter policy is an object of keys", hint='write one like {"eventType": ["paid"]}')
        if len(json.dumps(document, ensure_ascii=False).encode("utf-8", "replace")) > BYTES:
            raise ConfigError(f"the filter policy is larger than {BYTES // 1024} KiB", hint="SNS takes no larger one")
        root = _node(document, nested=scope == "MessageBody", place="")
        for alternative in _alternatives(root):
            counts = list(alternative)
            if len(counts) > KEYS:
                raise ConfigError(f"the filter policy has {len(counts)} keys", hint=f"SNS takes {KEYS}")
            if prod(counts) > COMBINATIONS:
                raise ConfigError(
                    f"the filter policy has {prod(counts)} combinations of values", hint=f"SNS takes {COMBINATIONS}"
                )
        return cls(scope, root)

    def accepts(self, attributes: Mapping[str, Attribute], payload: bytes) -> bool:
        """Whether the subscription would get this message. Total: a body that is no JSON object matches nothing."""
        if self.scope == "MessageAttributes":
            return self.root.accepts({name: _value(each) for name, each in attributes.items() if not each.is_binary})
        try:
            document = json.loads(payload)
        except (ValueError, RecursionError):
            return False
        return isinstance(document, dict) and self.root.accepts(document)


def _alternatives(node: _Node) -> Iterator[list[int]]:
    """The counts of a policy's keys, once for each choice its `$or` leave."""
    choices = [list(node.counts())]
    for alternatives in node.ors:
        choices = [[*one, *other] for one in choices for each in alternatives for other in _alternatives(each)]
    yield from choices


def _value(attribute: Attribute) -> Any:
    """Only String, String.Array and Number are compared; an array that cannot be read is like a plain String."""
    text = attribute.value
    kind, _, label = attribute.data_type.partition(".")
    try:
        if label == "Array":
            found = json.loads(text)
            return found if isinstance(found, list) else [found]
        return float(text) if kind == "Number" else text
    except (ValueError, RecursionError):
        return text


def _node(document: Mapping[str, Any], *, nested: bool, place: str) -> _Node:
    leaves, nodes, ors = [], [], []
    for key, found in document.items():
        at = f"{place}.{key}" if place else str(key)
        match found:
            case list() if key == "$or" and len(found) > 1 and all(isinstance(each, dict) for each in found):
                ors.append(tuple(_node(each, nested=nested, place=at) for each in found))
            case list() if key == "$or":
                raise ConfigError(f"{at} takes a list of two objects or more")
            case list() if found:
                leaves.append((key, _leaf(found, at)))
            case dict() if nested and found:
                nodes.append((key, _node(found, nested=True, place=at)))
            case dict() if found:
                raise ConfigError(f"{at} is nested", hint="filter_scope: MessageBody takes nested policies")
            case _:
                raise ConfigError(f"{at} is no list of values", hint=f'write {{"{key}": ["value"]}}')
    return _Node(tuple(leaves), tuple(nodes), tuple(ors))


def _leaf(values: Sequence[Any], at: str) -> _Leaf:
    tests: list[Test] = []
    exists: list[bool] = []
    for value in values:
        if isinstance(value, dict) and list(value) == ["exists"]:
            if not isinstance(value["exists"], bool):
                raise ConfigError(f"{at}: exists is true or false")
            exists.append(value["exists"])
        else:
            tests.append(_test(value, at))
    return _Leaf(tuple(tests), tuple(exists))


def _test(value: Any, at: str) -> Test:
    if not isinstance(value, dict):
        return _equal(value, at)
    if len(value) != 1:
        raise ConfigError(f"{at}: an operator stands alone in its object", hint='write {"prefix": "pay"}')
    ((operator, wanted),) = value.items()
    match operator:
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
            raise ConfigError(f"{at}: {operator} is no operator", hint=hint)


def _equal(value: Any, at: str) -> Test:
    match value:
        case bool() | None:
            return lambda found: found is value
        case str():
            return lambda found: isinstance(found, str) and found == value
        case int() | float() if _in_range(value):
            number = float(value)
            return lambda found: _is_number(found) and _COMPARE["="](found, number)
        case _:
            raise ConfigError(f"{at}: a value is a text, true, false, null or a number from -1e9 to 1e9")


def _text_test(operator: str, wanted: Any, at: str) -> Test:
    if not isinstance(wanted, str) or not wanted:
        raise ConfigError(f"{at}: {operator} takes a text")
    match operator:
        case "prefix":
            return lambda found: isinstance(found, str) and found.startswith(wanted)
        case "suffix":
            return lambda found: isinstance(found, str) and found.endswith(wanted)
        case "wildcard":
            pattern = re.compile(".*".join(map(re.escape, wanted.split("*"))), re.DOTALL)
            return lambda found: isinstance(found, str) and pattern.fullmatch(found) is not None
        case _:
            folded = wanted.casefold()
            return lambda found: isinstance(found, str) and found.casefold() == folded


def _cidr(wanted: Any, at: str) -> Test:
    try:
        network = ipaddress.ip_network(wanted, strict=False)
    except (ValueError, TypeError):
        raise ConfigError(f"{at}: cidr takes a network", hint='write {"cidr": "10.0.0.0/24"}') from None

    def test(found: Any) -> bool:
        try:
            return isinstance(found, str) and ipaddress.ip_address(found) in network
        except ValueError:
            return False

    return test


def _numeric(wanted: Any, at: str) -> Test:
    pairs = list(zip(wanted[::2], wanted[1::2], strict=False)) if isinstance(wanted, list) else []
    legal = len(pairs) in (1, 2) and len(wanted) == 2 * len(pairs)
    if not legal or not all(sign in _COMPARE and _in_range(limit) for sign, limit in pairs):
        raise ConfigError(
            f"{at}: numeric takes one or two comparisons with numbers from -1e9 to 1e9",
            hint='write {"numeric": [">", 0, "<=", 150]}',
        )
    checks = [(_COMPARE[sign], float(limit)) for sign, limit in pairs]
    return lambda found: _is_number(found) and all(compare(found, limit) for compare, limit in checks)


def _anything_but(wanted: Any, at: str) -> Test:
    """An array matches when any element is something else."""
    tests: list[Test]
    match wanted:
        case dict() if len(wanted) == 1 and next(iter(wanted)) in ("prefix", "suffix", "wildcard"):
            ((operator, texts),) = wanted.items()
            tests = [_text_test(operator, text, at) for text in (texts if isinstance(texts, list) else [texts])]
        case dict():
            raise ConfigError(f"{at}: anything-but takes values, or one of prefix, suffix and wildcard")
        case list() if wanted:
            tests = [_equal(each, at) for each in wanted]
        case _:
            tests = [_equal(wanted, at)]
    return lambda found: found is not None and not any(test(found) for test in tests)


def _is_number(found: Any) -> bool:
    return isinstance(found, int | float) and not isinstance(found, bool)


def _in_range(value: Any) -> bool:
    return _is_number(value) and -1e9 <= value <= 1e9
