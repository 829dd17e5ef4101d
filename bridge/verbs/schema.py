"""`schema`: the configuration for editors (JSON Schema) and for people (Markdown), and the metrics (Markdown).

May not: read a file.
"""

from __future__ import annotations

import json

import typer

from bridge.config import SamplingConfig, json_schema, reference
from bridge.observe import metrics_reference


def schema(*, markdown: bool, metrics: bool) -> int:
    """Prints; returns 0."""
    if metrics:
        typer.echo(metrics_reference(SamplingConfig().every), nl=False)
    else:
        typer.echo(reference() if markdown else json.dumps(json_schema(), indent=2), nl=not markdown)
    return 0
