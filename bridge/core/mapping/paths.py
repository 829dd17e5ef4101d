"""JMESPath into a body: what an expression can give is worked out at load, and a number is given as written.

Each node of an expression is followed with the JSON types its value can have, and whether it depends on the message. An
expression that gives the same for every message, or never a text, number or boolean, is refused with what to write
instead. May not: refuse one that gives a value for some message, or round a number.
Source: jmespath.org, specification; the functions and their types are those of the library itself.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple

import jmespath
import jmespath.exceptions
from jmespath.functions import Functions, signature
from jmespath.visitor import TreeInterpreter

from bridge.core.errors import ConfigError

Types = frozenset[str]

_NULL: Types = frozenset({"null"})
_SCALARS: Types = frozenset({"string", "number", "boolean"})
_ANY: Types = _SCALARS | {"array", "object", "null"}
_FALSY: Types = frozenset(
    {"boolean", "null", "array", "object"}
)  # what `a && b` can give of a; empty text counts as none

_RESULTS: Mapping[str, str] = {
    "abs": "number", "avg": "number null", "ceil": "number", "contains": "boolean", "ends_with": "boolean",
    "floor": "number", "join": "string", "keys": "array", "length": "number", "map": "array",
    "max": "number string null", "merge": "object", "min": "number string null", "reverse": "string array",
    "sort": "array", "sort_by": "array", "starts_with": "boolean", "sum": "number", "to_array": "array",
    "to_number": "number null", "to_string": "string", "type": "string", "values": "array",
}  # fmt: skip
"""What each function gives; the others give anything."""

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_STEP = re.compile(r"([^\"'`\[\](){}|&,<>=!*?\\]+)((?:\[-?\d+\])*)")


class Written(float):
    """A number with a point or an exponent, and how it was written: `1.10` is not `1.1` to a subscriber."""

    __slots__ = ("text",)
    text: str

    @classmethod
    def of(cls, text: str) -> Written:
        number = cls(text)
        number.text = text
        return number


Written.__name__ = "float"  # the library knows the types of JSON by their names


def document_of(text: str | bytes) -> object:
    """The JSON document, its numbers as written; None if it is none. Total."""
    try:
        if isinstance(text, bytes):
            text = text.decode(json.detect_encoding(text), "surrogatepass")
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        return None


def _integer(text: str) -> int | Written:
    # int() refuses 4,301 digits and more, and forgets the sign of a zero.
    return Written.of(text) if text == "-0" or len(text) > 4_000 else int(text)


_DECODER = json.JSONDecoder(parse_float=Written.of, parse_int=_integer)


class _AsWritten(Functions):
    """The functions of JMESPath, but numbers pass through texts unchanged."""

    @signature({"types": []})
    def _func_to_string(self, found: object) -> str:
        return found if isinstance(found, str) else as_written(found)

    @signature({"types": []})
    def _func_to_number(self, found: object) -> object:
        if isinstance(found, bool) or not isinstance(found, int | float | str):
            return None
        try:
            return _integer(found) if isinstance(found, str) and _digits(found) else _number(found)
        except ValueError:
            return None


def _digits(text: str) -> bool:
    return text.isascii() and text.removeprefix("-").isdecimal()


def _number(found: float | str) -> float:
    return Written.of(found) if isinstance(found, str) else found


def as_written(found: object) -> str:
    """A value of `document_of` as JSON, without blanks. Raises RecursionError for one nested too deep."""
    match found:
        case Written():
            return found.text
        case list():
            return f"[{','.join(map(as_written, found))}]"
        case dict():
            return f"{{{','.join(f'{json.dumps(key)}:{as_written(each)}' for key, each in found.items())}}}"
        case _:
            return json.dumps(found)


_INTERPRETER = TreeInterpreter(jmespath.Options(custom_functions=_AsWritten()))  # keeps no data of a document


class Path(NamedTuple):
    """A compiled expression."""

    text: str
    parsed: Any  # a node of the syntax tree

    def find(self, document: object) -> object:
        """What is there; None for nothing, and where a function gets what it does not take. Total."""
        try:
            found: object = _INTERPRETER.visit(self.parsed, document)
            return found
        except (jmespath.exceptions.JMESPathError, ArithmeticError, ValueError, TypeError, RecursionError):
            return None

    def scalar(self, document: object) -> str | None:
        """What is there as text, numbers as they were written; None where it is neither text, number nor boolean."""
        found = self.find(document)
        return found if isinstance(found, str) else as_written(found) if isinstance(found, bool | int | float) else None


def compiled(text: str) -> Path:
    """Raises ConfigError for what can never be right: a predicate of the placeholder, and in its hint what to write."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of a constant that is not JSON
            parsed = jmespath.compile(text).parsed
    except (jmespath.exceptions.JMESPathError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0].removesuffix(":")
        raise ConfigError(f"is not valid JMESPath: {reason}", hint=_quoted_hint(text)) from error
    given = _Reader().read(parsed, _Given(_ANY, constant=False))
    if given.constant:
        raise ConfigError("is the same for every message", hint=_constant_hint(text))
    if not given.types & _SCALARS:
        kinds = " or ".join(sorted(given.types - _NULL)) or "nothing"
        raise ConfigError(f"never gives a text, a number or a boolean, but {kinds}", hint=_scalar_hint(text, given))
    return Path(text, parsed)


def _quoted_hint(text: str) -> str:
    steps = [_STEP.fullmatch(step.strip()) for step in text.split(".")]
    if not text or not all(steps):
        return "see jmespath.org"
    names = [(step[1].strip(), step[2]) for step in steps if step is not None]
    path = ".".join((name if _IDENTIFIER.fullmatch(name) else f'"{name}"') + at for name, at in names)
    return f"a name with other characters than letters, digits and _ needs double quotes: '{{body.{path}}}'"


def _constant_hint(text: str) -> str:
    inside = text.strip().strip("'`")
    if re.fullmatch(r"[^'\"`()\[\]{}|&]+", inside) and text.strip() != inside:
        return f"single quotes and backticks make a constant, a name goes into double quotes: '{{body.\"{inside}\"}}'"
    return "write what is constant outside the braces, and name a field of the body inside"


def _scalar_hint(text: str, given: _Given) -> str:
    inside = text.strip()
    if inside.startswith("{") or (inside.startswith("[") and "," in inside):
        return "write a placeholder for each value: {body.a}.{body.b}"
    if "array" in given.types:
        return f"take one element of the list: {{body.({inside} | [0])}}"
    if "object" in given.types:
        return f"name a field of the object: {{body.({inside}).name}}"
    return "name a field of the body: {body.name}"


class _Given(NamedTuple):
    """The types a value can have, and whether it is the same for every message."""

    types: Types
    constant: bool


class _Reader:
    """Reads the nodes of one expression. Raises ConfigError for a call that fails on every message."""

    def read(self, node: Mapping[str, Any], value: _Given) -> _Given:
        """What the node gives when it is asked of `value`."""
        children: list[Any] = node.get("children", [])
        match node["type"]:
            case "field":
                return self._part("object", value)
            case "index":
                return self._part("array", value)
            case "slice":
                return _Given(_NULL | (value.types & {"array"}), value.constant)
            case "subexpression" | "index_expression" | "pipe":
                for child in children:
                    value = self.read(child, value)
                return value
            case "projection" | "flatten" | "filter_projection" | "value_projection" as kind:
                return self._projection(kind, children, value)
            case "multi_select_list" | "multi_select_dict" as kind:
                parts = [self.read(child, value) for child in children]
                made = _NULL & value.types | {"array" if kind == "multi_select_list" else "object"}
                return _Given(made, value.constant or all(part.constant for part in parts))
            case "or_expression":
                return self._either(children, value)
            case "and_expression":
                left, right = (self.read(child, value) for child in children)
                return _Given(left.types & _FALSY | right.types, left.constant and right.constant)
            case "comparator" | "not_expression":
                parts = [self.read(child, value) for child in children]
                return _Given(frozenset({"boolean", "null"}), all(part.constant for part in parts))
            case "literal":
                return _Given(frozenset({_type(node["value"])}), constant=True)
            case "expref":
                self.read(children[0], _Given(_ANY, constant=False))
                return _Given(frozenset({"expref"}), constant=True)
            case "key_val_pair":
                return self.read(children[0], value)
            case "function_expression":
                return self._call(node["value"], [self.read(child, value) for child in children])
            case _:  # current, identity
                return value

    @staticmethod
    def _part(of: str, value: _Given) -> _Given:
        return _Given(_ANY if of in value.types else _NULL, value.constant)

    def _projection(self, kind: str, children: list[Any], value: _Given) -> _Given:
        base = self.read(children[0], value)
        for child in children[1:]:
            self.read(child, _Given(_ANY, constant=False))
        needed = "object" if kind == "value_projection" else "array"
        return _Given(_NULL | ({"array"} if needed in base.types else frozenset()), base.constant)

    def _either(self, children: list[Any], value: _Given) -> _Given:
        left, right = (self.read(child, value) for child in children)
        if children[0]["type"] == "literal":
            return left if children[0]["value"] not in ("", None, False, [], {}) else right
        return _Given(left.types - _NULL | right.types, left.constant and right.constant)

    def _call(self, name: str, arguments: list[_Given]) -> _Given:
        known: Mapping[str, Any] = Functions.FUNCTION_TABLE
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"
            raise ConfigError(f"calls {name}(), which JMESPath does not have", hint=hint)
        wanted = known[name]["signature"]
        variadic = bool(wanted[-1].get("variadic"))
        if len(arguments) < len(wanted) or (len(arguments) > len(wanted) and not variadic):
            raise ConfigError(f"calls {name}() with {len(arguments)} arguments", hint=f"it takes {len(wanted)}")
        for argument, each in zip(arguments, wanted, strict=False):
            types = frozenset(kind.partition("-")[0] for kind in each["types"])
            if types and not types & argument.types:
                raise ConfigError(
                    f"gives {name}() {' or '.join(sorted(argument.types))}, which it never takes",
                    hint=f"it takes {' or '.join(sorted(types))}",
                )
        gives = frozenset(_RESULTS[name].split()) if name in _RESULTS else _ANY
        if name == "not_null":
            gives = frozenset[str]().union(*(argument.types for argument in arguments))
        return _Given(gives, all(argument.constant for argument in arguments))


_TYPES: tuple[tuple[Callable[[Any], bool], str], ...] = (
    (lambda value: isinstance(value, bool), "boolean"),
    (lambda value: isinstance(value, str), "string"),
    (lambda value: isinstance(value, int | float), "number"),
    (lambda value: isinstance(value, list), "array"),
    (lambda value: isinstance(value, dict), "object"),
)


def _type(value: object) -> str:
    return next((kind for is_one, kind in _TYPES if is_one(value)), "null")
