"""The timer beside a route: puts a canary into the route's own source at intervals, to prove that an idle route works.

Only one is in flight at a time, so that an outage does not fill the source with them. May not: carry one (the pump
does, like any message), delay the route, or know SQS or NATS.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from bridge.core import walls
from bridge.core.errors import BridgeError
from bridge.core.models import Canary, Out
from bridge.core.route import Destination


@dataclass(frozen=True, slots=True)
class Heart:
    """Where the canaries of one route go in, and how they are written there. `origin` is the mark of the source; `out`
    may raise NotUsable."""

    route: str
    origin: str
    every: float
    source: Destination
    out: Callable[[Canary], Out]


class Pulse(Protocol):
    """Called with what became of the canaries. Never raises, never waits."""

    def expected(self, every: float | None) -> None:
        """So many seconds apart; None for a route without heartbeats."""
        ...

    def wanted(self) -> bool:
        """Whether one may be sent now: the route runs, and none is in flight."""
        ...

    def sent(self, canary: Canary) -> None: ...
    def not_sent(self, error: BridgeError) -> None: ...


async def beat(heart: Heart | None, pulse: Pulse) -> None:
    """Runs until cancelled; returns at once when the route has no heartbeat."""
    pulse.expected(None if heart is None else heart.every)
    if heart is None:
        return
    while True:
        if pulse.wanted():
            canary = Canary(heart.route, heart.origin, uuid.uuid4().hex, time.time())
            pulse.sent(canary)  # reported first: it may arrive before its receipt does
            if (error := await _sent(heart, canary)) is not None:
                pulse.not_sent(error)
        await asyncio.sleep(heart.every)


async def _sent(heart: Heart, canary: Canary) -> BridgeError | None:
    try:
        (answer,) = await heart.source.publish([heart.out(canary)])
    except BridgeError as error:
        return error
    except Exception as error:  # noqa: BLE001 - the wall
        return walls.unexpected(error)
    return answer if isinstance(answer, BridgeError) else None
