"""What a command prints, and nothing else prints: text from outside is shown and does nothing to the terminal.

Every file of verbs/, cli.py and demo/ prints through `say` and `console` (tests/test_architecture.py), and both escape
what is not printable, whoever wrote it. Who shows a field that may hold a newline escapes it before, with
core/plain.py: only the field's own place knows that it is one line.
May not: decide what is said.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from bridge.core.plain import plain, plain_lines


class PlainConsole(Console):
    """A console whose styles and cursor are its own, and whose texts are printable."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            text = segment.text
            if segment.control or text.isprintable() or text == "\n":
                yield segment
            else:
                yield Segment("\n".join(map(plain, text.split("\n"))), segment.style)


def console(**options: Any) -> Console:
    """As rich's Console; without markup, highlighting and emoji unless asked for: what is printed is seldom ours."""
    return PlainConsole(**{"markup": False, "highlight": False, "emoji": False, **options})


def say(text: str = "", *, nl: bool = True) -> None:
    """Prints lines to stdout."""
    typer.echo("\n".join(plain_lines(text)), nl=nl)
