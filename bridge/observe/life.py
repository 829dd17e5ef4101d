"""The state of a route, as operators and errors change it, and what stands in its way.

May not: decide, wait, or know a message.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Literal

from bridge.core.emptiness import Emptiness
from bridge.core.errors import BridgeError, Unexpected
from bridge.observe import clock
from bridge.observe.logs import CHANGES, Quota, Repeats
from bridge.observe.trouble import Trouble, Troubles

State = Literal[
    "starting", "running", "holding", "down", "pausing", "paused", "draining", "drained", "stopping", "stopped"
]
AT_REST: tuple[State, ...] = ("pausing", "paused", "drained", "stopping", "stopped")  # deliberately: no trouble shows
RESTARTS_SECONDS = 300.0
FEWEST_RESTARTS = 2  # within RESTARTS_SECONDS: a single one may be a coincidence
DRAIN_TOLD_SECONDS = 60.0  # how often a drain that goes on is logged


class RouteLife:
    """Each method is an event; the state follows from them. `up` is the gauge that shows whether it can carry."""

    def __init__(self, name: str, log: Any, up: Any) -> None:
        self.name = name
        self.log: Any = log
        self._state: State = "starting"
        self.state_since = clock.now()
        self._resuming = False  # a pause was cancelled, and the receive it waited for has not ended yet
        self.drain: dict[str, Any] | None = None
        self._drain_told = 0.0
        self._trouble = self._unopened()
        self._repeats = Repeats()
        self._quota = Quota()
        self._changes = Quota(*CHANGES)
        self._failed_at: deque[float] = deque(maxlen=20)
        self._up = up
        self._up.set(0)

    @property
    def state(self) -> State:
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        if state != self._state:
            self._state, self.state_since = state, clock.now()

    def restarting(self) -> None:
        """The route restarts; its counters continue."""
        self.drain = None
        self._trouble = Troubles()  # the restarted route may use another connection
        self._begin()

    def _begin(self) -> None:
        self.state = "starting"
        self._trouble = self._unopened(self._lasting())

    def _unopened(self, lasting: Troubles | None = None) -> Troubles:
        found = Troubles() if lasting is None else lasting
        found.began("open", "not opened yet", "", clock.now())
        return found

    def _lasting(self) -> Troubles:
        """Trouble that does not belong to one pump."""
        found = Troubles()
        found.update({side: trouble for side, trouble in self._trouble.items() if side in ("open", "nats")})
        return found

    def asked(self, action: str, by: str) -> None:
        """An operator requested an action on the route."""
        self.log.info("asked", action=action, by=by)

    def pausing(self) -> None:
        self._rest("pausing")

    def paused(self) -> None:
        if self.state != "paused":
            self._rest("paused")
            self.log.info("paused")

    def resumed(self, *, carrying: bool) -> None:
        """`carrying`: it never stopped; else it reopens first, once the current receive has ended."""
        self.drain = None
        self._resuming = not carrying and self.state == "pausing"
        if carrying:
            self.state = "running"
            self._derive()
        else:
            self._begin()
        self.log.info("resumed")

    def emptying(self, needed_seconds: float) -> None:
        """From now on it carries until its source is empty."""
        self.state = "draining"
        self.drain = {
            "since": clock.now(),
            "reads": 0,
            "empty_since": None,
            "needed_seconds": needed_seconds,
            "message": "not read yet",
        }
        self._drain_told = clock.now()
        self.log.info("drain_began", needed_seconds=needed_seconds)

    def drain_progress(self, proof: Emptiness, message: str) -> None:
        if self.drain is None:
            return
        since = None if proof.empty_since is None else clock.now() - proof.empty_for
        self.drain |= {"reads": proof.reads, "empty_since": since, "message": message}
        if clock.now() - self._drain_told >= DRAIN_TOLD_SECONDS:
            self._drain_told = clock.now()
            self.log.info("drain_progress", message=message)

    def drained(self) -> None:
        self._rest("drained")
        self.log.info(
            "drained", **{key: value for key, value in (self.drain_now() or {}).items() if key != "empty_since"}
        )

    def drain_now(self) -> dict[str, Any] | None:
        """The drain as /status has it."""
        if self.drain is None:
            return None
        moments = {key: self.drain[key] for key in ("since", "empty_since")}
        return {**self.drain, **{key: None if at is None else clock.wall(at) for key, at in moments.items()}}

    def stopping(self) -> None:
        self.state = "stopping"

    def abandoned(self, seconds: float) -> None:
        self.log.error(
            "route_abandoned",
            after=seconds,
            meaning="messages in flight are redelivered when their leases expire; duplicates are possible",
        )

    def stopped(self) -> None:
        self._rest("stopped")

    def _rest(self, state: State) -> None:
        self.state = state
        self._up.set(0)
        if state != "pausing":  # its messages in flight may still be in trouble
            self._trouble = self._lasting()

    def _clear(self, side: str) -> None:
        """A success on one side. Usually there was no trouble, and this is called for every batch."""
        if side in self._trouble and self._trouble.worked(side, clock.now()):
            self._recovered(side)

    def _recovered(self, side: str) -> None:
        if side != "open" and (more := self._changes.unlogged(side)) is not None:
            self.log.info("recovered", side=side, **more)
        self._rederive()

    def contained(self, error: Unexpected) -> None:
        """An unexpected error affected only its own message, or was temporary."""
        if self._repeats.first(f"contained {error.signature}"):
            self.log.error("unexpected_error", error=error.kind, where=error.where, hint=error.hint)

    def _fails_again_and_again(self) -> None:
        """A route that fails after every start is in trouble all the time, not only between two starts."""
        recent = [at for at in self._failed_at if clock.now() - at < RESTARTS_SECONDS]
        if len(recent) < FEWEST_RESTARTS:
            if self._trouble.pop("restarts", None):
                self._rederive()
        elif "restarts" not in self._trouble:
            text = f"failed {len(recent)} times in {RESTARTS_SECONDS / 60:.0f} minutes, and restarts each time"
            self._trouble["restarts"] = Trouble(text, recent[0], "look for route_failed in the log")
            self._derive()

    def _review(self, *, held: bool, idle_since: float | None) -> None:
        """Ends trouble that is over, though nothing was carried or received to show it."""
        for side in list(self._trouble.over(clock.now(), held=held, idle_since=idle_since)):
            self._recovered(side)
        self._rederive()

    def _rederive(self) -> None:
        if self.state != "starting" or "open" not in self._trouble:  # else it is only being opened
            self._derive()

    def _derive(self) -> None:
        """Derives the state of a route that should carry from what stands in its way."""
        if self.state in AT_REST:
            return
        now = clock.now()
        down = [side for side, trouble in self._trouble.items() if not trouble.is_partial(now)]
        self._up.set(0 if down else 1)
        if self.state != "draining":
            self.state = "running" if not down else "down" if "open" in down else "holding"

    def _in_trouble(self, side: str, error: BridgeError, event: str, **facts: Any) -> None:
        self._trouble.began(side, str(error), error.hint, clock.now(), facts.get("again_in", 0.0))
        self._derive()
        if self._repeats.first(f"{event}:{type(error).__name__}"):
            self.log.warning(event, error=str(error), **facts)
