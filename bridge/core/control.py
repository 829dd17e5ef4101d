"""What an operator may ask of a running route, what the route is to do then, and the answer.

    action   carrying     emptying          paused      drained      stopping
    pause    -> paused    -> paused         no change   refused      refused
    resume   no change    -> carrying       -> carrying -> carrying  refused
    drain    -> emptying  no change         refused     no change    refused

May not: do any of it, or know HTTP.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Literal, assert_never

Action = Literal["pause", "resume", "drain"]
ACTIONS: tuple[Action, ...] = ("pause", "resume", "drain")

Aim = Literal["carry", "empty", "pause", "drained", "stop"]
"""The aim of a route: carry; carry until the source is provably empty; receive nothing; receive nothing because the
source is empty; end."""

Kind = Literal["done", "closed", "denied", "unknown", "refused", "invalid"]


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of an action, with a sentence for a human. `facts` are further members of the JSON answer."""

    kind: Kind
    message: str
    route: str | None = None
    state: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        route = {"route": self.route, "state": self.state} if self.route is not None else {}
        return {**route, "message": self.message, **self.facts}


@dataclass(frozen=True, slots=True)
class Decision:
    """Where an action takes a route. `aim` is None when nothing changes."""

    kind: Literal["done", "refused"]
    message: str
    aim: Aim | None = None


def decide(action: Action, aim: Aim) -> Decision:
    """The table above."""
    if aim == "stop":
        return Decision("refused", "the route is stopping or being restarted; try again in a moment")
    match action:
        case "pause":
            return _pause(aim)
        case "resume":
            return _resume(aim)
        case "drain":
            return _drain(aim)
        case _:
            assert_never(action)


def _pause(aim: Aim) -> Decision:
    if aim == "pause":
        return Decision("done", "it is paused already")
    if aim == "drained":
        return Decision("refused", "it is drained and receives nothing; resume starts it again")
    what = "the drain ends; " if aim == "empty" else ""
    return Decision("done", f"{what}it receives nothing more, and finishes or gives back what it holds", "pause")


def _resume(aim: Aim) -> Decision:
    if aim == "carry":
        return Decision("done", "it is running already")
    what = "the drain ends, and it continues" if aim == "empty" else "it continues"
    return Decision("done", what, "carry")


def _drain(aim: Aim) -> Decision:
    if aim == "empty":
        return Decision("done", "it is draining already")
    if aim == "drained":
        return Decision("done", "it is drained already")
    if aim == "pause":
        return Decision("refused", "it is paused, so its source never becomes empty; resume it first")
    return Decision("done", "it carries until the source is provably empty, then stops", "empty")


def unknown_route(name: str, known: Iterable[str]) -> Answer:
    routes = sorted(known)
    near = get_close_matches(name, routes, 1)
    hint = f"did you mean {near[0]}?" if near else f"there is {', '.join(routes) or 'none'}"
    return Answer("unknown", f"there is no route {name}; {hint}")
