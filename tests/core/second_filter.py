"""A second, naive filter, written from SNS's documentation and event-ruler's README by another method, to be compared
with the bridge's: it spells a message out as a list of fields, a policy as a list of rules, and then tries every field
for every key in turn. Exponential, and fit only for small messages that SNS would take."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from ipaddress import ip_address, ip_network
from typing import Any, NamedTuple

from bridge.core.models import Attribute

Elements = Mapping[int, int]
"""In which element of which array: a number for each array, and the index in it."""


class Field(NamedTuple):
    path: str
    value: Any
    elements: Elements


def accepts(policy: Mapping[str, Any], attributes: Mapping[str, Attribute], body: str | None) -> bool:
    """`body` None: the policy is about the attributes."""
    fields = list(_of_attributes(attributes)) if body is None else list(_of_body(body))
    if body is None and all(each.is_binary for each in attributes.values()):
        return False
    return any(_holds(sorted(rule.items()), fields, {}) for rule in _spelled_out(policy))


# -- messages


def _of_attributes(attributes: Mapping[str, Attribute]) -> Iterator[Field]:
    for name, (kind, text) in attributes.items():
        if isinstance(text, bytes):
            continue
        found = json.loads(text) if kind == "String.Array" else [Decimal(text) if kind.startswith("Number") else text]
        while any(isinstance(each, list) for each in found):
            found = [inner for each in found for inner in (each if isinstance(each, list) else [each])]
        for each in found:
            yield Field(name, json.dumps(each, ensure_ascii=False)[1:-1] if isinstance(each, str) else each, {})


class _Object(list[Any]):
    """The pairs of an object: a name may come twice."""


def _of_body(body: str) -> Iterator[Field]:
    numbers = iter(range(10**9))

    def walk(value: Any, path: tuple[str, ...], elements: dict[int, int]) -> Iterator[Field]:
        if isinstance(value, _Object):
            for name, inner in value:
                yield from walk(inner, (*path, name), elements)
        elif isinstance(value, list):
            array = next(numbers)
            for index, inner in enumerate(value):
                apart = {array: index} if isinstance(inner, list) else {}
                yield from walk(inner, path, {**elements, **apart})
        else:
            yield Field(".".join(path), value, elements)

    yield from walk(json.loads(body, object_pairs_hook=_Object), (), {})


# -- policies


def _spelled_out(policy: Mapping[str, Any], above: str = "") -> list[dict[str, list[Any]]]:
    rules: list[dict[str, list[Any]]] = [{}]
    for name, found in policy.items():
        if name == "$or":
            more = [rule for each in found for rule in _spelled_out(each, above)]
        elif isinstance(found, dict):
            more = _spelled_out(found, f"{above}{name}.")
        else:
            more = [{f"{above}{name}": found}]
        rules = [{**rule, **other} for rule in rules for other in more]
    return rules


def _holds(keys: list[tuple[str, list[Any]]], fields: list[Field], chosen: dict[int, int]) -> bool:
    if not keys:
        return True
    (path, values), *rest = keys
    here = [
        each
        for each in fields
        if each.path == path and all(chosen.get(array, index) == index for array, index in each.elements.items())
    ]
    there = [each for each in here if each.value is not None and each.value != ""]
    if {"exists": False} in values and not there and _holds(rest, fields, chosen):
        return True
    return any(
        _holds(rest, fields, {**chosen, **each.elements})
        for each in here
        if any(_satisfies(value, each.value) for value in values)
    )


def _satisfies(wanted: Any, found: Any) -> bool:
    match wanted:
        case {"exists": present}:
            return bool(present) and found is not None and found != ""
        case {"anything-but": dict(inner)}:
            ((operator, texts),) = inner.items()
            return not any(_satisfies({operator: text}, found) for text in _listed(texts))
        case {"anything-but": values}:
            return not any(_plainly(value, found) for value in _listed(values))
        case {"numeric": list(comparisons)}:
            pairs = zip(comparisons[::2], comparisons[1::2], strict=True)
            return _number(found) is not None and all(_compared(_number(found), *pair) for pair in pairs)
        case {"cidr": network}:
            address, mask = network.split("/")
            start = _address(address)
            assert start is not None
            other = _address(found) if isinstance(found, str) else None
            if other is None or other.version != start.version:
                return False
            return bool(other in ip_network(f"{start}/{mask}", strict=False))
        case {"prefix": {"equals-ignore-case": text}}:
            return isinstance(found, str) and any(_same(text, found[:end]) for end in range(len(found) + 1))
        case {"suffix": {"equals-ignore-case": text}}:
            return isinstance(found, str) and any(_same(text, found[start:]) for start in range(len(found) + 1))
        case {"prefix": text}:
            return isinstance(found, str) and found[: len(text)] == text
        case {"suffix": text}:
            return isinstance(found, str) and found[max(0, len(found) - len(text)) :] == text
        case {"equals-ignore-case": text}:
            return isinstance(found, str) and _same(text, found)
        case {"wildcard": text}:
            return isinstance(found, str) and _fits(text, found)
        case str() if isinstance(found, str) and (one := _address(wanted)) is not None:
            return bool(one == _address(found))
    return _plainly(wanted, found)


def _listed(values: Any) -> list[Any]:
    return values if isinstance(values, list) else [values]


def _plainly(wanted: Any, found: Any) -> bool:
    if _number(wanted) is not None:
        return _number(found) is not None and _compared(_number(found), "=", wanted)
    return type(wanted) is type(found) and bool(wanted == found)


def _number(found: Any) -> Decimal | None:
    return None if isinstance(found, bool) or not isinstance(found, int | float | Decimal) else Decimal(str(found))


def _compared(found: Any, sign: str, limit: Any) -> bool:
    order = (found > Decimal(str(limit))) - (found < Decimal(str(limit)))
    return bool({"=": order == 0, "<": order < 0, "<=": order <= 0, ">": order > 0, ">=": order >= 0}[sign])


def _same(wanted: str, found: str) -> bool:
    """Each letter in lower or upper case."""
    if not wanted:
        return not found
    spellings = {wanted[0], wanted[0].lower(), wanted[0].upper()}
    return any(found.startswith(each) and _same(wanted[1:], found[len(each) :]) for each in spellings)


def _fits(wanted: str, found: str) -> bool:
    if not wanted:
        return not found
    if wanted[0] == "*":
        return any(_fits(wanted[1:], found[start:]) for start in range(len(found) + 1))
    letter, rest = (wanted[1], wanted[2:]) if wanted[0] == "\\" else (wanted[0], wanted[1:])
    return found[:1] == letter and _fits(rest, found[1:])


def _address(text: str) -> Any:
    parts = text.split(".")
    if len(parts) == 4 and all(part.isascii() and part.isdigit() and len(part) < 4 for part in parts):
        text = ".".join(str(int(part)) for part in parts)
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if address.version == 4 or "." in text:
        return address if address.version == 4 else None
    return address.ipv4_mapped or address
