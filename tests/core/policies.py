"""Filter policies and messages of every shape, few enough names and values that they meet often: for the comparison
with a second implementation on every run, and with AWS's event-ruler in `make policies`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random
from typing import Any

from bridge.core.models import Attribute

NAMES: tuple[str, ...] = ("a", "b", "c", "a.b", "b.c", "a.b.c")
TEXTS = [
    *("", "a", "b", "ab", "aba", "abab", "A", "Ab", "ß", "SS", "ss", "é", "É", "\u0131", "\u212a", "x" * 30),
    *("1", "5", "true", "null", "a*b", "a\\b", 'a"b', "10.0.0.1", "10.0.0.200", "010.0.0.1", "10.0.0.256"),
    *("2001:db8::1", "2001:0DB8:0::1", "::ffff:10.0.0.1", "::ffff:a00:1"),
]
NUMBERS = [
    *("0", "-0", "1", "-1", "5", "5.0", "5e0", "0.5E1", "301.8", "3.018e2", "-1e9", "1000000000", "0.00001", "1e-5"),
    *("2", "150", "99.99", "-0.5"),
]
OPERATORS = ("prefix", "suffix", "equals-ignore-case", "wildcard", "cidr", "numeric", "anything-but", "exists")


def policy(random: Random, *, nested: bool) -> dict[str, Any]:
    """Most of them SNS takes."""
    return _conditions(random, nested=nested, depth=0)


def _conditions(random: Random, *, nested: bool, depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(random.choice((1, 1, 1, 2, 2, 3))):
        name = random.choice(NAMES)
        if nested and depth < 2 and random.random() < 0.35:
            found[name] = _conditions(random, nested=True, depth=depth + 1)
        else:
            found[name] = values(random)
    if random.random() < 0.15:
        found["$or"] = [_conditions(random, nested=nested, depth=depth + 1) for _ in range(random.choice((2, 2, 3)))]
    return found


def values(random: Random) -> list[Any]:
    return [value(random) for _ in range(random.choice((1, 1, 1, 2, 3)))]


def value(random: Random) -> Any:
    kind = random.random()
    if kind < 0.3:
        return random.choice(TEXTS)
    if kind < 0.4:
        return json.loads(random.choice(NUMBERS))
    if kind < 0.47:
        return random.choice((True, False, None))
    if kind < 0.475:
        return random.choice(([], ["a"], {}, {"prefix": "a", "suffix": "b"}, {"is": "a"}, {"exists": None}))
    operator = random.choice(OPERATORS)
    return {operator: _operand(random, operator)}


def _operand(random: Random, operator: str) -> Any:
    text = random.choice(TEXTS)
    match operator:
        case "exists":
            return random.choice((True, False))
        case "prefix" | "suffix":
            return {"equals-ignore-case": text} if random.random() < 0.3 else text
        case "equals-ignore-case":
            return text
        case "wildcard":
            return _wildcard(random)
        case "cidr":
            wrong = (
                "10.0.0.1",
                "10.0.0.1/32",
                "2001:db8::/128",
                "a/8",
                "10.0.0.0/x",
                "::ffff:10.0.0.1/8",
                "10.0.0.0/-1",
            )
            right = ("10.0.0.0/24", "10.0.0.77/31", "8.0.0.0/5", "2001:db8::/32", "2001:db8::1/127", "::ffff:a00:1/24")
            return random.choice(wrong if random.random() < 0.1 else right)
        case "numeric":
            return _comparisons(random)
        case _:
            return _exception(random)


def _wildcard(random: Random) -> str:
    pieces = [random.choice(("*", "*", "a", "b", "ab", "x", "\\*", "\\\\")) for _ in range(random.choice((1, 3, 5)))]
    text = "".join(pieces)
    return (
        text
        if random.random() < 0.05
        else text.replace("\\*", "é").replace("**", "*").replace("**", "*").replace("é", "\\*")
    )


def _comparisons(random: Random) -> Any:
    numbers = [json.loads(random.choice(NUMBERS)) for _ in range(2)]
    kind = random.random()
    if kind < 0.5:
        return [random.choice(("<", "<=", "=", ">", ">=")), numbers[0]]
    if kind < 0.97:
        numbers.sort()
        return [random.choice((">", ">=")), numbers[0], random.choice(("<", "<=")), numbers[1]]
    return random.choice(([], [">"], ["<", 5, ">", 1], ["~", 1], [">", "5"], [1, 2], [">", 1, "<", 5, "<", 9], 5))


def _exception(random: Random) -> Any:
    texts = [random.choice(TEXTS) for _ in range(random.choice((1, 2)))]
    kind = random.random()
    if kind < 0.3:
        return texts if random.random() < 0.6 else texts[0]
    if kind < 0.5:
        numbers = [json.loads(random.choice(NUMBERS)) for _ in range(2)]
        return numbers if random.random() < 0.6 else numbers[0]
    if kind < 0.97:
        operator = random.choice(("prefix", "suffix", "equals-ignore-case", "wildcard"))
        return {operator: texts if random.random() < 0.5 else texts[0]}
    return random.choice(([], None, True, ["a", 1], [None], {}, {"cidr": "10.0.0.0/8"}, {"prefix": 1}))


def likely(random: Random, found: Any) -> Iterator[tuple[str, str]]:
    """For each list of values in a policy: the path to it, and a scalar, as JSON, that may satisfy it."""
    for name, inner in found.items():
        if isinstance(inner, dict):
            yield from ((f"{name}.{path}", each) for path, each in likely(random, inner))
        elif name == "$or":
            for each in inner:
                yield from likely(random, each)
        elif inner:
            yield name, _instance(random, random.choice(inner))


def _instance(random: Random, value: Any) -> str:
    if isinstance(value, dict):
        ((operator, operand),) = list(value.items())[:1] or [("", "")]
        if operator in ("exists", "anything-but"):
            return scalar(random)
        if operator == "cidr":
            return json.dumps(str(operand).partition("/")[0])
        if operator == "numeric" and isinstance(operand, list):
            return str(random.choice([each for each in operand if isinstance(each, int | float)] or [0]))
        text = next(iter(operand.values()), "") if isinstance(operand, dict) else operand
        text = text if isinstance(text, str) else ""
        text = random.choice((text, text.upper(), text.lower())) if "case" in str(value) else text
        around = random.choice(TEXTS)
        spelled = {"prefix": text + around, "suffix": around + text, "wildcard": text.replace("*", around)}
        return json.dumps(spelled.get(operator, text), ensure_ascii=False)
    return json.dumps(value, ensure_ascii=False) if not isinstance(value, list) else scalar(random)


def body(random: Random, policy: Any) -> str:
    """A JSON object as text, which the policy often takes: names may come twice, and be one name or several."""
    pairs = [_placed(random, path, each) for path, each in likely(random, policy) if random.random() < 0.85]
    if random.random() < 0.6 or not pairs:
        pairs += _pairs(random, 0, [each for _, each in likely(random, policy)])
    random.shuffle(pairs)
    return "{" + ", ".join(pairs) + "}"


def _placed(random: Random, path: str, value: str) -> str:
    name, *rest = path.split(".")
    while rest and random.random() < 0.3:
        name += "." + rest.pop(0)
    inner = "{" + _placed(random, ".".join(rest), value) + "}" if rest else value
    while random.random() < 0.3:
        others = [_any(random, 3, [value]) for _ in range(random.choice((0, 1, 1)))]
        inner = "[" + ", ".join(random.sample([*others, inner], len(others) + 1)) + "]"
    return f"{json.dumps(name)}: {inner}"


def _pairs(random: Random, depth: int, known: list[str]) -> list[str]:
    return [
        f"{json.dumps(random.choice(NAMES))}: {_any(random, depth + 1, known)}"
        for _ in range(random.choice((0, 1, 2, 2, 3) if depth else (1, 2, 3, 4)))
    ]


def _any(random: Random, depth: int, known: list[str]) -> str:
    kind = random.random()
    if depth < 4 and kind < 0.3:
        return "{" + ", ".join(_pairs(random, depth, known)) + "}"
    if depth < 5 and kind < 0.55:
        return "[" + ", ".join(_any(random, depth + 1, known) for _ in range(random.choice((0, 1, 2, 2, 3)))) + "]"
    return random.choice(known) if known and random.random() < 0.5 else scalar(random)


def scalar(random: Random) -> str:
    kind = random.random()
    if kind < 0.6:
        return json.dumps(random.choice(TEXTS), ensure_ascii=False)
    if kind < 0.85:
        return random.choice(NUMBERS)
    return random.choice(("true", "false", "null"))


def attributes(random: Random, policy: Any) -> dict[str, Attribute]:
    """A message's attributes, which the policy often takes."""
    found = {random.choice(NAMES): attribute(random, scalar(random)) for _ in range(random.choice((0, 1, 2)))}
    found |= {path: attribute(random, each) for path, each in likely(random, policy) if random.random() < 0.85}
    return found


def attribute(random: Random, known: str) -> Attribute:
    value = json.loads(known)
    if random.random() < 0.05:
        return Attribute("Binary", b"a")
    if random.random() < 0.3 or value in ("", None) or isinstance(value, bool):
        items = [known, *(scalar(random) for _ in range(random.choice((0, 1, 2))))]
        if random.random() < 0.15:
            items.append(f"[{scalar(random)}]")
        return Attribute("String.Array", "[" + ", ".join(random.sample(items, len(items))) + "]")
    if isinstance(value, str):
        return Attribute(random.choice(("String", "String.label")), value)
    return Attribute(random.choice(("Number", "Number.int")), known)
