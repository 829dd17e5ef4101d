"""`schema`: the configuration for editors (JSON Schema) and for people (Markdown). May not: read a file."""

from __future__ import annotations

import json

import typer

from bridge.config import json_schema, reference


def schema(*, markdown: bool) -> int:
    """Prints; returns 0."""
    typer.echo(reference() if markdown else json.dumps(json_schema(), indent=2), nl=not markdown)
    return 0
