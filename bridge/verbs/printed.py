"""The only way a command prints: text from outside is shown and cannot control the terminal.

Every file of verbs/, cli.py and demo/ prints through `say` and `console` (tests/test_architecture.py), and both escape
what is not printable, no matter who wrote it. A caller that shows a field that may hold a newline escapes it before,
with core/plain.py: only the caller knows that the field is one line.
May not: decide what is printed.
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
    """As rich's Console; without markup, highlighting and emoji unless asked for: most printed text is external."""
    return PlainConsole(**{"markup": False, "highlight": False, "emoji": False, **options})


def say(text: str = "", *, nl: bool = True) -> None:
    """Prints lines to stdout."""
    typer.echo("\n".join(plain_lines(text)), nl=nl)
