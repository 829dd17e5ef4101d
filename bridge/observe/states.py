"""The closed sets a route is told of in: its states, what becomes of its messages, and what stands in its way.

May not: hold what happened.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal[
    "starting", "running", "holding", "down", "pausing", "paused", "draining", "drained", "stopping", "stopped"
]
AT_REST: tuple[State, ...] = ("pausing", "paused", "drained", "stopping", "stopped")  # deliberately: no trouble shows
OUTCOMES = (
    *("carried", "duplicate", "retried", "parked", "rejected", "filtered", "echo"),
    *("heartbeat", "heartbeat_failed"),
)


@dataclass(slots=True)
class Trouble:
    """What stands in the way on one side of a route, and since when (monotonic)."""

    error: str
    since: float
