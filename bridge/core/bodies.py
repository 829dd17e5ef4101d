"""A message's body as a filter policy sees it: the scalars under the paths a policy names, and which element of which
array each stands in.

The paths of body and policy are flattened alike, so that {"a": {"b": 1}} and {"a.b": 1} are one. What a policy takes
from one array it takes from one of its elements, as event-ruler does (its README, "Recognizing array structure").
Everything here takes time linear in the body, whatever its shape and depth, and recurses nowhere.
May not: raise anything but ValueError, or know an operator.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from json.decoder import WHITESPACE, scanstring  # type: ignore[attr-defined]  # not in the stubs
from json.scanner import NUMBER_RE
from typing import Any, NamedTuple

from bridge.core.patterns import Leaf, exists

_DIGITS = 400  # more of them in one number are infinity, and Python refuses to read a few thousand


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=tuple, parse_constant=_refused)


def parsed(text: str) -> Any:
    """JSON, an object as a tuple of its pairs: a name that comes twice has both values. Raises ValueError."""
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError:
        raise
    except (ValueError, RecursionError):  # a number of thousands of digits; thousands of brackets
        return _parsed_deep(text)


def _parsed_deep(text: str) -> Any:
    """The same for any depth, with a stack of its own."""
    space, end = WHITESPACE.match, len(text)
    open_: list[tuple[list[Any], str | None, bool]] = []  # the containers we are in: items, name to come, is an object
    items: list[Any] = []
    name: str | None = None
    is_object = False
    at = 0
    while True:
        at = space(text, at).end()
        mark = text[at : at + 1]
        value: Any
        if mark in ("{", "["):
            open_.append((items, name, is_object))
            items, name, is_object = [], None, mark == "{"
            at = space(text, at + 1).end()
            if text[at : at + 1] != ("}" if is_object else "]"):
                if is_object:
                    name, at = _name(text, at)
                continue
            value = () if is_object else []
            items, name, is_object = open_.pop()
            at += 1
        else:
            value, at = _scalar(text, at, mark)
        while True:
            if not open_:
                if space(text, at).end() != end:
                    raise ValueError("something follows the JSON")
                return value
            items.append((name, value) if is_object else value)
            at = space(text, at).end()
            mark = text[at : at + 1]
            at += 1
            if mark == ",":
                if is_object:
                    name, at = _name(text, space(text, at).end())
                break
            if mark != ("}" if is_object else "]"):
                raise ValueError("the JSON is not well-formed")
            value = tuple(items) if is_object else items
            items, name, is_object = open_.pop()


def _name(text: str, at: int) -> tuple[str, int]:
    if text[at : at + 1] != '"':
        raise ValueError("a name is missing")
    name, at = scanstring(text, at + 1, True)
    at = WHITESPACE.match(text, at).end()
    if text[at : at + 1] != ":":
        raise ValueError("a colon is missing")
    return name, at + 1


def _scalar(text: str, at: int, mark: str) -> tuple[Any, int]:
    if mark == '"':
        value, at = scanstring(text, at + 1, True)
        return value, at
    for word, meaning in (("null", None), ("true", True), ("false", False)):
        if text.startswith(word, at):
            return meaning, at + len(word)
    number = NUMBER_RE.match(text, at)
    if number is None:
        raise ValueError("a value is missing")
    whole, fraction, exponent = number.groups()
    if fraction is None and exponent is None and len(whole) > _DIGITS:
        return float("-inf" if whole[0] == "-" else "inf"), number.end()
    return float(number.group()), number.end()


# -- what a policy sees of it


class Path(NamedTuple):
    """What a policy names at one path: `leaves` and their bits; `bit` is its own where a rule wants it missing, else 0;
    `below`: longer paths exist below it."""

    leaves: tuple[tuple[int, Leaf], ...]
    bit: int
    below: bool


class Key(NamedTuple):
    """One condition of a rule: the bits of its leaf and its path, and whether a missing key satisfies it."""

    leaf: int
    path: int
    absent: bool


@dataclass(slots=True)
class _Node:
    """Scalars no array sets apart from each other: the bits of the leaves they satisfy, and of the paths that exist.
    `arrays` are those with objects or arrays in them; of each, one element at most is chosen."""

    found: int = 0
    present: int = 0
    arrays: list[list[_Node]] = field(default_factory=list)


class View:
    """A body, seen through the paths of one policy."""

    def __init__(self, document: tuple[tuple[str, Any], ...], paths: Mapping[str, Path]) -> None:
        self._nodes = _nodes(document, paths)
        self._root = self._nodes[0]
        self._anywhere = self._root.found
        if len(self._nodes) > 1:
            for node in reversed(self._nodes):  # those below stand behind those above
                self._anywhere |= node.found
                if node.arrays:
                    _settle(node)

    def satisfies(self, rule: Sequence[Key]) -> bool:
        """Whether one choice of elements satisfies every key. `rule` is ordered by path."""
        anywhere = self._anywhere
        for leaf, _, absent in rule:
            if not anywhere & leaf and not absent:
                return False
        root = self._root
        if not root.arrays:
            return all(root.found & leaf or (absent and not root.present & path) for leaf, path, absent in rule)
        return self._chosen(rule)

    def _chosen(self, rule: Sequence[Key]) -> bool:
        """For each node, from below: which sets of keys one choice of elements satisfies, and which of the keys that
        must be missing are present there. Their number depends on the rule alone.

        As in event-ruler, keys are asked in the order of their names: what an earlier key took from an array has
        chosen the element; where none has, every element counts as there.
        """
        choices: dict[int, set[tuple[int, int]]] = {}
        there: dict[int, int] = {}
        for node in reversed(self._nodes):
            found = there_too = 0
            for index, (leaf, path, _) in enumerate(rule):
                found |= bool(node.found & leaf) << index
                there_too |= bool(node.present & path) << index
            sets = {(found, there_too)}
            everywhere = there_too
            for elements in node.arrays:
                anyone = 0
                for element in elements:
                    anyone |= there[id(element)]
                options = {(0, anyone)}
                for element in elements:
                    for taken, blocked in choices.pop(id(element)):
                        until = ((taken & -taken) << 1) - 1  # the first key taken here, and those before it
                        if taken:
                            options.add((taken, (blocked & ~until) | (anyone & until)))
                options = _best(options)
                sets = _best({(one | other, here | below) for one, here in sets for other, below in options})
                everywhere |= anyone
            choices[id(node)] = sets
            there[id(node)] = everywhere
        lacks = sum(1 << index for index, key in enumerate(rule) if key.absent)
        wanted = (1 << len(rule)) - 1
        return any(found | (lacks & ~blocked) == wanted for found, blocked in choices[id(self._root)])


def _best(options: set[tuple[int, int]]) -> set[tuple[int, int]]:
    """Without those that another one equals or beats."""
    if len(options) < 2:
        return options
    kept: list[tuple[int, int]] = []
    for found, blocked in sorted(options, key=lambda each: (-each[0].bit_count(), each[1].bit_count())):
        if not any(found & ~more == 0 and less & ~blocked == 0 for more, less in kept):
            kept.append((found, blocked))
    return set(kept)


def _nodes(document: tuple[tuple[str, Any], ...], paths: Mapping[str, Path]) -> list[_Node]:
    root = _Node()
    nodes = [root]
    waiting: list[tuple[Any, str | None, _Node]] = [(document, None, root)]
    while waiting:
        container, above, node = waiting.pop()
        if type(container) is tuple:
            for name, value in container:
                at = name if above is None else f"{above}.{name}"
                path = paths.get(at)
                if path is None:
                    continue
                if type(value) is tuple:
                    if path.below:
                        waiting.append((value, at, node))
                elif type(value) is list:
                    waiting.append((value, at, node))
                else:
                    if value is not None and value != "":
                        node.present |= path.bit
                    for bit, leaf in path.leaves:
                        if not node.found & bit and leaf.matches(value):
                            node.found |= bit
            continue
        assert above is not None
        path = paths[above]
        scalars = [each for each in container if type(each) is not tuple and type(each) is not list]
        if scalars:
            _look(node, path, scalars)
            if len(scalars) == len(container):
                continue
        inner = [each for each in container if type(each) is list or (path.below and type(each) is tuple)]
        if len(inner) == 1:  # no choice
            waiting.append((inner[0], above, node))
        elif inner:
            elements = [_Node() for _ in inner]
            nodes += elements
            node.arrays.append(elements)
            waiting.extend((each, above, element) for each, element in zip(inner, elements, strict=True))
    return nodes


def _look(node: _Node, path: Path, scalars: Sequence[Any]) -> None:
    if path.bit and any(map(exists, scalars)):
        node.present |= path.bit
    for bit, leaf in path.leaves:
        if not node.found & bit and leaf.among(scalars):
            node.found |= bit


def _settle(node: _Node) -> None:
    """Elements without anything a rule asks about are not a choice, and neither is a single one."""
    arrays: list[list[_Node]] = []
    for elements in node.arrays:
        live = [each for each in elements if each.found or each.present or each.arrays]
        if len(live) == 1:
            (only,) = live
            node.found |= only.found
            node.present |= only.present
            inner, only.arrays = only.arrays, []
            if len(inner) > len(arrays):  # the shorter list moves, or a long one would move at every depth
                arrays, inner = inner, arrays
            arrays += inner
        elif live:
            arrays.append(live)
    node.arrays = arrays
