"""Templates of text with {placeholders}: parsed once at start, filled for every message.

    {attributes.NAME}  {group}  {queue}  {topic}  {body.PATH}  {x|default}      subject templates
    {subject}  {subject.N}  {headers.NAME}  {body.PATH}  {x|default}            group templates

A pipe of JMESPath's own goes into parentheses, for a bar outside of them starts the default: {body.(a || b)|none}.
May not: know what the result is for, or put a message's values into an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jmespath
import jmespath.exceptions

from bridge.core.errors import ConfigError, Unmappable

Lookup = Callable[[str, str], str | None]
"""From a kind and its argument (the NAME, empty for none) to its value for one message."""

_ATTRIBUTE = re.compile(r"[A-Za-z0-9_.-]{1,256}")

Body = Callable[[], object]
"""The JSON document of one message's body; None if it is none. Called at most once a message."""


@dataclass(frozen=True, slots=True)
class Placeholder:
    """`kind` is the word before the first dot, `argument` what follows it, `path` the compiled JMESPath of a body."""

    text: str
    kind: str
    argument: str
    default: str | None
    path: jmespath.parser.ParsedResult | None = None


Part = str | Placeholder


def parse(text: str, kinds: Mapping[str, bool | None]) -> tuple[Part, ...]:
    """Literals and placeholders in turn. `kinds` are the known words: True takes an argument, False none, None may.

    Raises ConfigError with what to write instead.
    """
    parts: list[Part] = []
    rest = text
    while rest:
        literal, brace, rest = rest.partition("{")
        if "}" in literal:
            raise ConfigError(f"{text!r} has a }} without a {{")
        if literal:
            parts.append(literal)
        if not brace:
            break
        inside, closed, rest = _to_closing(rest)
        if not closed:
            raise ConfigError(f"{text!r} has a {{ without a }}")
        parts.append(_placeholder(inside, text, kinds))
    return tuple(parts)


def _to_closing(text: str) -> tuple[str, bool, str]:
    """Up to the closing brace; a JMESPath may hold braces of its own."""
    depth = 1
    for at, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return text[:at], True, text[at + 1 :]
    return text, False, ""


def _to_bar(text: str) -> tuple[str, str, str]:
    """Splits at the first bar outside of parentheses, brackets and quotes."""
    depth, quote = 0, ""
    for at, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'`\"":
            quote = character
        elif character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif character == "|" and depth == 0:
            return text[:at], "|", text[at + 1 :]
    return text, "", ""


def _placeholder(inside: str, text: str, kinds: Mapping[str, bool | None]) -> Placeholder:
    name, bar, default = _to_bar(inside)
    kind, dot, argument = name.strip().partition(".")
    known = ", ".join(f"{{{each}.…}}" if takes else f"{{{each}}}" for each, takes in kinds.items())
    if kind not in kinds:
        raise ConfigError(f"{text!r} has an unknown placeholder {{{inside}}}", hint=f"known are {known}")
    takes = kinds[kind]
    if takes and not argument:
        raise ConfigError(f"{{{inside}}} in {text!r} lacks a name", hint=f"write {{{kind}.NAME}}")
    if takes is False and dot:
        raise ConfigError(f"{{{inside}}} in {text!r} takes no name", hint=f"write {{{kind}}}")
    if bar and not default.strip():
        raise ConfigError(f"{{{inside}}} in {text!r} has an empty default", hint=f"write {{{name}|something}}")
    if "|" in default:
        raise ConfigError(
            f"{{{inside}}} in {text!r} has two bars",
            hint="put a pipe of JMESPath's own into parentheses: {body.(a | b)|x}",
        )
    if kind == "attributes" and not _ATTRIBUTE.fullmatch(argument):
        raise ConfigError(
            f"{{{inside}}} in {text!r} names no attribute SQS could hold",
            hint="its names are letters, digits, - _ and .",
        )
    path = None
    if kind == "body":
        try:
            path = jmespath.compile(argument)
        except jmespath.exceptions.JMESPathError as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(f"{{{inside}}} in {text!r} is no JMESPath: {reason}", hint="see jmespath.org") from error
    return Placeholder(inside, kind, argument, default.strip() if bar else None, path)


def fill(parts: tuple[Part, ...], lookup: Lookup, body: Body, *, field: str, encode: Callable[[str], str]) -> str:
    """The parts put together, each value encoded. Raises Unmappable naming `field` and the placeholder without a value;
    an empty value is none."""
    filled = []
    for part in parts:
        if isinstance(part, str):
            filled.append(part)
            continue
        value = _value_of(part, lookup, body) or part.default
        if value is None:
            raise Unmappable(
                field,
                f"{{{part.text}}} has no value in this message",
                hint=f"give it a default: {{{part.text}|unknown}}",
            )
        filled.append(encode(value))
    return "".join(filled)


def _value_of(part: Placeholder, lookup: Lookup, body: Body) -> str | None:
    if part.path is None:
        return lookup(part.kind, part.argument)
    try:
        return _scalar(part.path.search(body()))
    except jmespath.exceptions.JMESPathError:
        return None  # a function got a type it does not take: this message has no such value


def _scalar(found: object) -> str | None:
    match found:
        case bool():
            return "true" if found else "false"
        case str():
            return found
        case int() | float():
            return json.dumps(found)
        case _:
            return None


def json_of(text: str | bytes) -> Body:
    """The body's document, parsed when first asked for."""
    known: list[object] = []

    def body() -> object:
        if not known:
            try:
                known.append(json.loads(text))
            except (ValueError, RecursionError):
                known.append(None)
        return known[0]

    return body
