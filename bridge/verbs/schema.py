"""`schema`: the configuration for editors (JSON Schema) and for people (Markdown), and the metrics (Markdown).

May not: read a file.
"""

from __future__ import annotations

import json

from bridge.config import SamplingConfig, json_schema, reference
from bridge.observe import metrics_reference
from bridge.verbs.printed import say


def schema(*, markdown: bool, metrics: bool) -> int:
    """Prints; returns 0."""
    if metrics:
        say(metrics_reference(SamplingConfig().every), nl=False)
    else:
        say(reference() if markdown else json.dumps(json_schema(), indent=2), nl=not markdown)
    return 0
