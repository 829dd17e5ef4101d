"""Writes HTML and SVG so that nothing from outside can become markup: every text is escaped unless this room wrote it.

    el("p", "pending ", el("b", 3), class_="lag")   ->   <p class="lag">pending <b>3</b></p>

Law (tests/page/test_html.py): whatever text goes in as a child or a value comes out of a parser as the same text,
and as nothing else. An f-string or a `+` with Markup in it is plain text again, so it is escaped too.
May not: know what is written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from html import escape
from typing import TypeAlias

VOID = frozenset({"br", "hr", "img", "link", "meta"})
NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9:-]*")
# Characters that no XML or HTML document may contain, however they are escaped,
# and characters that a reader does not see, but that reverse the text around them or hide in a name.
FORBIDDEN = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff"
    r"\ufff9-\ufffb\ufffe\uffff\U000e0000-\U000e007f]"
)
REMARKABLE = re.compile(r"[&<>\"']|" + FORBIDDEN.pattern)
SHOWN = "\ufffd"


class Markup(str):
    """Markup that was written by `el`, and is safe to stand as it is."""

    __slots__ = ()


Child: TypeAlias = "str | int | float | Iterable[Child] | None"
Value: TypeAlias = str | int | float | bool | None


def el(tag: str, *children: Child, **attributes: Value) -> Markup:
    """One element. None, as a child or a value, is nothing; True is an attribute without a value.

    `class_` is class, and `data_label` data-label."""
    written = "".join(_attributes(attributes))
    _check(tag)
    if tag in VOID:
        assert not children
        return Markup(f"<{tag}{written}>")
    return Markup(f"<{tag}{written}>{''.join(_texts(children))}</{tag}>")


@cache
def _check(tag: str) -> None:
    if not NAME.fullmatch(tag):
        raise ValueError(f"not the name of an element: {tag!r}")


def join(*children: Child) -> Markup:
    """Children without an element around them."""
    return Markup("".join(_texts(children)))


def document(root: Markup) -> Markup:
    """The whole document."""
    return Markup(f"<!doctype html>\n{root}\n")


def _attributes(attributes: dict[str, Value]) -> Iterator[str]:
    for given, value in attributes.items():
        name = _attribute(given)
        if value is None or value is False:
            continue
        yield f" {name}" if value is True else f' {name}="{_escaped(value) if isinstance(value, str) else value}"'


@cache
def _attribute(given: str) -> str:
    name = given.rstrip("_").replace("_", "-")
    if not NAME.fullmatch(name) or name.startswith("on") or name == "style":
        raise ValueError(f"not an attribute we allow: {given!r}")  # scripts and styles have files of their own
    return name


def _texts(children: Iterable[Child]) -> Iterator[str]:
    for child in children:
        if child is None:
            continue
        if isinstance(child, Markup):
            yield child
        elif isinstance(child, str):
            yield _escaped(child)
        elif isinstance(child, int | float):
            yield str(child)
        else:
            yield from _texts(child)


def _escaped(text: str) -> str:
    return escape(FORBIDDEN.sub(SHOWN, text), quote=True) if REMARKABLE.search(text) else text
