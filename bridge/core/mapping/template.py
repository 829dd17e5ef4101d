"""Templates of text with {placeholders}: parsed once at start, filled for every message.

    {attributes.NAME}  {group}  {queue}  {topic}  {body.PATH}  {x|default}      subject templates
    {subject}  {subject.N}  {headers.NAME}  {body.PATH}  {x|default}            group templates

A pipe of JMESPath's own goes into parentheses, since a bar outside them starts the default: {body.(a || b)|none}.
May not: know what the result is for, or put a message's values into an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bridge.core.errors import ConfigError, Unmappable
from bridge.core.mapping.paths import Path, compiled, document_of

Lookup = Callable[[str, str], str | None]
"""From a kind and its argument (the NAME, empty for none) to its value for one message."""

_ATTRIBUTE = re.compile(r"(?!\.)(?!.*\.\.)[A-Za-z0-9_.-]{1,256}(?<!\.)")
_HEADER = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_EXPRESSION = re.compile(r"[\[\]()@*&!'`\"{}]")  # no default has these, and nearly every pipe does

Body = Callable[[], object]
"""The JSON document of one message's body; None if it is none. Called at most once a message."""


@dataclass(frozen=True, slots=True)
class Placeholder:
    """`kind` is the word before the first dot, `argument` what follows it, `path` the JMESPath of a body."""

    text: str
    kind: str
    argument: str
    default: str | None
    path: Path | None = None


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
        own = f"{{body.({argument.strip()} |{default})}}" if default.startswith("|") else "{body.(a | b)|x}"
        raise ConfigError(
            f"{{{inside}}} in {text!r} has two bars", hint=f"put a bar of JMESPath's own into parentheses: {own}"
        )
    if kind == "attributes" and not _ATTRIBUTE.fullmatch(argument):
        raise ConfigError(
            f"{{{inside}}} in {text!r} names no attribute SQS could hold",
            hint="its names are letters, digits, - _ and .",
        )
    if kind == "headers" and not _HEADER.fullmatch(argument):
        raise ConfigError(
            f"{{{inside}}} in {text!r} names no header", hint="its names are letters, digits, - and _ and the like"
        )
    path = None
    if kind == "body":
        if bar:
            _refuse_pipe(name.partition(".")[2], default, text)
        try:
            path = compiled(argument)
        except ConfigError as error:
            raise ConfigError(f"{{{inside}}} in {text!r} {error.args[0]}", hint=error.hint) from error
    return Placeholder(inside, kind, argument, default.strip() if bar else None, path)


def _refuse_pipe(argument: str, default: str, text: str) -> None:
    """A bar starts the default, and a pipe of JMESPath has the same form: what could be a pipe is refused."""
    given = default.strip()
    if argument == argument.rstrip() and default == default.lstrip() and not _EXPRESSION.search(given):
        return
    pipe = f"{{body.({argument.strip()} | {given})}}"
    if _EXPRESSION.search(given):
        raise ConfigError(
            f"{text!r} has a pipe of JMESPath, which starts a default here", hint=f"put it into parentheses: {pipe}"
        )
    raise ConfigError(
        f"{text!r} has a bar with spaces around it, which could be a default or a pipe of JMESPath",
        hint=f"write {{body.{argument.strip()}|{given}}} for a default, {pipe} for a pipe",
    )


def fill(parts: tuple[Part, ...], lookup: Lookup, body: Body, *, field: str, encode: Callable[[str], str]) -> str:
    """The parts put together, each value encoded. Raises Unmappable naming `field` and the placeholder without a value;
    an empty value is none."""
    filled = []
    for part in parts:
        if isinstance(part, str):
            filled.append(part)
            continue
        value = (lookup(part.kind, part.argument) if part.path is None else part.path.scalar(body())) or part.default
        if value is None:
            raise _lacking(part, body, field)
        filled.append(encode(value))
    return "".join(filled)


def _lacking(part: Placeholder, body: Body, field: str) -> Unmappable:
    found = None if part.path is None else part.path.find(body())
    if isinstance(found, list | dict) and found:
        kind = "a list" if isinstance(found, list) else "an object"
        return Unmappable(
            field,
            f"{{{part.text}}} is {kind} in this message where a text, a number or a boolean is needed",
            hint=f"name what is inside it, or give it a default: {{{part.text}|unknown}}",
        )
    return Unmappable(
        field, f"{{{part.text}}} has no value in this message", hint=f"give it a default: {{{part.text}|unknown}}"
    )


def json_of(text: str | bytes) -> Body:
    """The body's document, parsed when first asked for."""
    known: list[object] = []

    def body() -> object:
        if not known:
            known.append(document_of(text))
        return known[0]

    return body
