"""What a route is at, and what stands in its way: its state, as operators and troubles change it.

May not: decide, wait, or know a message.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal

from bridge.core.emptiness import Emptiness
from bridge.core.errors import BridgeError
from bridge.observe.logs import Repeats

State = Literal[
    "starting", "running", "holding", "down", "pausing", "paused", "draining", "drained", "stopping", "stopped"
]
AT_REST: tuple[State, ...] = ("pausing", "paused", "drained", "stopping", "stopped")  # deliberately: no trouble shows
DRAIN_TOLD_SECONDS = 60.0  # how often a drain that goes on is logged


@dataclass(slots=True)
class Trouble:
    """What stands in the way on one side of a route, and since when (monotonic)."""

    error: str
    since: float
    hint: str = ""


class RouteLife:
    """Each method is an event; the state follows from them. `up` is the gauge that says whether it can carry."""

    def __init__(self, name: str, log: Any, up: Any) -> None:
        self.name = name
        self.log: Any = log
        self.state: State = "starting"
        self.drain: dict[str, Any] | None = None
        self._drain_told = 0.0
        self._trouble: dict[str, Trouble] = {"open": Trouble("not opened yet", time.monotonic())}
        self._repeats = Repeats()
        self._up = up
        self._up.set(0)

    def restarting(self) -> None:
        """The next life of the route begins; its counters go on."""
        self.drain = None
        self._trouble = {}  # the next one may use another connection
        self._begin()

    def _begin(self) -> None:
        self.state = "starting"
        self._trouble = {**self._lasting(), "open": Trouble("not opened yet", time.monotonic())}

    def _lasting(self) -> dict[str, Trouble]:
        """Trouble that is no one pump's own."""
        return {side: trouble for side, trouble in self._trouble.items() if side in ("open", "nats")}

    def asked(self, action: str, by: str) -> None:
        """An operator wants something of the route."""
        self.log.info("asked", action=action, by=by)

    def pausing(self) -> None:
        self._rest("pausing")

    def paused(self) -> None:
        if self.state != "paused":
            self._rest("paused")
            self.log.info("paused")

    def resumed(self, *, carrying: bool) -> None:
        """`carrying`: it never stopped; else it opens anew first."""
        self.drain = None
        if carrying:
            self.state = "running"
            self._derive()
        else:
            self._begin()
        self.log.info("resumed")

    def emptying(self, needed_seconds: float) -> None:
        """From here on it carries until its source is empty."""
        self.state = "draining"
        self.drain = {
            "since": time.time(),
            "reads": 0,
            "empty_since": None,
            "needed_seconds": needed_seconds,
            "message": "not read yet",
        }
        self._drain_told = time.monotonic()
        self.log.info("drain_began", needed_seconds=needed_seconds)

    def drain_progress(self, proof: Emptiness, message: str) -> None:
        if self.drain is None:
            return
        since = None if proof.empty_since is None else time.time() - proof.empty_for
        self.drain |= {"reads": proof.reads, "empty_since": since, "message": message}
        if time.monotonic() - self._drain_told >= DRAIN_TOLD_SECONDS:
            self._drain_told = time.monotonic()
            self.log.info("drain_progress", message=message)

    def drained(self) -> None:
        self._rest("drained")
        self.log.info("drained", **{key: value for key, value in (self.drain or {}).items() if key != "empty_since"})

    def stopping(self) -> None:
        self.state = "stopping"

    def abandoned(self, seconds: float) -> None:
        self.log.error(
            "route_abandoned",
            after=seconds,
            meaning="what was on loan comes back when its lease expires; duplicates are possible",
        )

    def stopped(self) -> None:
        self._rest("stopped")

    def _rest(self, state: State) -> None:
        self.state = state
        self._up.set(0)
        if state != "pausing":  # what it holds may still be in trouble
            self._trouble = self._lasting()

    def _clear(self, side: str) -> None:
        if self._trouble.pop(side, None) and side != "open":
            self.log.info("recovered", side=side)
        if not self._trouble:
            self._derive()

    def _derive(self) -> None:
        """What a route that is to carry looks like, from what stands in its way."""
        if self.state in AT_REST:
            return
        self._up.set(0 if self._trouble else 1)
        if self.state != "draining":
            self.state = "running" if not self._trouble else "down" if "open" in self._trouble else "holding"

    def _in_trouble(self, side: str, error: BridgeError, event: str, **facts: Any) -> None:
        known = self._trouble.get(side)
        self._trouble[side] = Trouble(str(error), known.since if known else time.monotonic(), error.hint)
        self._derive()
        if self._repeats.first(f"{event}:{type(error).__name__}"):
            self.log.warning(event, error=str(error), **facts)
