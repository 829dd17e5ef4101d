"""SNS filter policies: which messages a route carries, in the syntax of a subscription's own policy, so that it moves
over unchanged. Values are in patterns.py, bodies in bodies.py.

Source: SNS developer guide, "Amazon SNS subscription filter policies" and the pages below it (string, numeric and key
matching, AND/OR logic, policy constraints).
May not: be laxer or stricter than SNS, or put a message's values into an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, Literal, NamedTuple

from bridge.core.bodies import Key, Path, View, parsed
from bridge.core.errors import ConfigError
from bridge.core.models import Attribute
from bridge.core.patterns import Leaf

Scope = Literal["MessageAttributes", "MessageBody"]

KEYS, COMBINATIONS, BYTES = 5, 150, 256 * 1024
LEFT_OUT = ("filter", "left out by the route's filter")
"""The reason of what is parked for it: the field and the sentence of an Unmappable."""

OR = "$or"
RESERVED = frozenset(
    {
        *("exactly", "prefix", "suffix", "equals-ignore-case", "anything-but", "exists", "wildcard", "numeric", "cidr"),
        *("=", "<", "<=", ">", ">=", "regex", "not-wildcard", "not-equals-ignore-case"),
        *("date-after", "date-on-or-after", "date-before", "date-on-or-before", "in-date-range"),
        *("ip-address-in-range", "ip-address-not-in-range"),
    }
)
"""Where one of these is a key, SNS takes `$or` for a key like any other. Source: SNS developer guide, "OR operator"."""

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,9})?")


class _Condition(NamedTuple):
    """A list of values, how deep it stands, and the key of the policy's own it stands under."""

    leaf: Leaf
    depth: int
    top: str


Rule = dict[str, _Condition]
"""What has to hold, by path: a policy without `$or` is one rule, and with it one for each choice."""


@dataclass(frozen=True, slots=True)
class FilterPolicy:
    """A subscription's FilterPolicy and FilterPolicyScope."""

    scope: Scope
    rules: tuple[tuple[tuple[str, Leaf], ...], ...]
    paths: Mapping[str, Path] = field(repr=False)
    keys: tuple[tuple[Key, ...], ...] = field(repr=False)

    @classmethod
    def parse(cls, document: object, scope: Scope = "MessageAttributes") -> FilterPolicy:
        """Raises ConfigError for what SNS would refuse, with what to write instead."""
        if not isinstance(document, dict) or not document:
            raise ConfigError("a filter policy is an object of keys", hint='write one like {"eventType": ["paid"]}')
        conditions = _rules(document, [{}], nested=scope == "MessageBody")
        if len(json.dumps(document, ensure_ascii=False).encode("utf-8", "replace")) > BYTES:
            raise ConfigError(f"the filter policy is larger than {BYTES // 1024} KiB", hint="SNS accepts none larger")
        keys = max(len({each.top for each in rule.values()}) for rule in conditions)
        if keys > KEYS:
            raise ConfigError(f"the filter policy has {keys} keys", hint=f"SNS takes {KEYS}")
        combinations = sum(prod(leaf.values * depth for leaf, depth, _ in rule.values()) for rule in conditions)
        if combinations > COMBINATIONS:
            raise _too_complex(combinations)
        # In the order in which event-ruler asks them: that of the UTF-16 of their names.
        rules = tuple(
            tuple(
                (path, rule[path].leaf) for path in sorted(rule, key=lambda each: each.encode("utf-16-be", "replace"))
            )
            for rule in conditions
        )
        return cls(scope, rules, *_indexed(rules))

    def accepts(self, attributes: Mapping[str, Attribute], payload: bytes) -> bool:
        """Whether the subscription would get this message. Total, and linear in the message's size: a body that is
        not a JSON object matches nothing."""
        if self.scope == "MessageAttributes":
            for rule in self.rules:
                for name, leaf in rule:
                    attribute = attributes.get(name)
                    if attribute is None or attribute.is_binary:
                        # Without any attribute, not even a missing one matches ("Key matching").
                        if leaf.absent and not all(each.is_binary for each in attributes.values()):
                            continue
                        break
                    if not _matches(leaf, attribute):
                        break
                else:
                    return True
            return False
        try:
            document = parsed(payload.decode())
        except ValueError:
            return False
        if type(document) is not tuple:
            return False
        view = View(document, self.paths)
        return any(view.satisfies(rule) for rule in self.keys)


def _matches(leaf: Leaf, attribute: Attribute) -> bool:
    """Only String, String.Array and Number are compared. An array that is not JSON matches nothing: SNS counts such a
    message under NumberOfNotificationsFilteredOut-InvalidAttributes."""
    text = str(attribute.value)
    kind, _, label = attribute.data_type.partition(".")
    if label == "Array":
        try:
            found = list(_flat(parsed(text)))
        except ValueError:
            return False
        return leaf.among(found) or (leaf.absent and all(each is None or each == "" for each in found))
    if kind == "Number":
        return leaf.matches(float(text) if _NUMBER.fullmatch(text) else float("nan"))
    return leaf.matches(_escaped(text)) or (leaf.absent and not text)


def _escaped(text: str) -> str:
    r"""As SNS compares an attribute's text: a policy has to escape " and \ twice. Source: "Policy constraints for
    attribute-based filtering"."""
    if "\\" in text or '"' in text:
        return text.replace("\\", "\\\\").replace('"', '\\"')
    return text


def _flat(found: Any) -> Iterator[Any]:
    """The scalars of an array of arrays; anything but an array is its only one. Objects are not compared."""
    waiting = [found]
    while waiting:
        each = waiting.pop()
        if type(each) is list:
            waiting += each
        elif type(each) is str:
            yield _escaped(each)
        elif type(each) is not tuple:
            yield each


# -- parsing


def _too_complex(combinations: int) -> ConfigError:
    return ConfigError(f"the filter policy has {combinations} combinations of values", hint=f"SNS takes {COMBINATIONS}")


def _rules(
    document: Mapping[str, Any], rules: list[Rule], *, nested: bool, place: str = "", depth: int = 1, top: str = ""
) -> list[Rule]:
    """`rules` with what `document`, which stands under the path `place`, adds to each of them. A path that comes twice
    has its last values, as in event-ruler."""
    if depth > COMBINATIONS:
        raise _too_complex(depth)
    for name, found in document.items():
        key = str(name)
        at = f"{place}.{key}" if place else key
        match found:
            case list() if key == OR and _is_or(found):
                rules = [
                    grown
                    for each in found
                    for grown in _rules(each, rules, nested=nested, place=place, depth=depth, top=top)
                ]
                if len(rules) > COMBINATIONS:
                    raise _too_complex(len(rules))
            case list() if key == OR and len(found) < 2 and all(isinstance(each, dict) for each in found):
                raise ConfigError(f"{at} takes a list of two objects or more")
            case list() if found:
                condition = _Condition(Leaf.parse(found, at), depth, top or key)
                rules = [{**rule, at: condition} for rule in rules]
            case dict() if nested and found:
                rules = _rules(found, rules, nested=True, place=at, depth=depth + 1, top=top or key)
            case dict() if found:
                raise ConfigError(f"{at} is nested", hint="filter_scope: MessageBody takes nested policies")
            case _:
                raise ConfigError(f"{at} is not a list of values", hint=f'write {{"{key}": ["value"]}}')
    return rules


def _is_or(found: Sequence[Any]) -> bool:
    return (
        len(found) > 1
        and all(isinstance(each, dict) and each for each in found)
        and not any(RESERVED & each.keys() for each in found)
    )


def _indexed(
    rules: Sequence[Sequence[tuple[str, Leaf]]],
) -> tuple[dict[str, Path], tuple[tuple[Key, ...], ...]]:
    """What is looked up in a body: every path of the rules and those above it, and the rules in bits of them."""
    bits: dict[tuple[str, int], tuple[int, Leaf]] = {}
    names: dict[str, int] = {}  # of paths that a rule wants to be missing
    below: set[str] = set()
    for rule in rules:
        for path, leaf in rule:
            bits.setdefault((path, id(leaf)), (1 << len(bits), leaf))
            if leaf.absent:
                names.setdefault(path, 1 << len(names))
            parts = path.split(".")
            below |= {".".join(parts[:end]) for end in range(1, len(parts))}
    paths = {
        path: Path(tuple(bits[at] for at in bits if at[0] == path), names.get(path, 0), path in below)
        for path in dict.fromkeys([*(path for path, _ in bits), *below])
    }
    keys = tuple(
        tuple(Key(bits[path, id(leaf)][0], names.get(path, 0), leaf.absent) for path, leaf in rule) for rule in rules
    )
    return paths, keys
