"""What a route says of itself between two lives: on purpose, and in trouble."""

from __future__ import annotations

import pytest

from bridge.core.errors import NotUsable
from bridge.core.route import Backlog
from bridge.observe import Observation, RouteObservation


def opened() -> tuple[Observation, RouteObservation]:
    observation = Observation()
    route = observation.route("r")
    route.opened("sqs q", "jetstream s")
    route.sampled(Backlog(0))
    observation.judge()
    assert route.judged.verdict == "OK"
    return observation, route


@pytest.mark.parametrize("how", ["resumed", "restarting"])
def test_a_route_that_is_opened_anew_on_purpose_is_not_stalled(how: str) -> None:
    """It would wake somebody: the alert on STALLED waits for nothing."""
    observation, route = opened()
    route.pausing()
    observation.judge()
    assert route.snapshot()["verdict"] == "STOPPED"
    route.resumed(carrying=False) if how == "resumed" else route.restarting()
    observation.judge()
    judged = route.judged
    assert (judged.verdict, judged.reason) == ("STOPPED", "it is being opened; pending 0")
    assert route.unready() == "not opened yet"
    route.opened("sqs q", "jetstream s")
    observation.judge()
    assert route.judged.verdict == "OK"


def test_a_route_that_cannot_be_opened_says_why() -> None:
    observation, route = opened()
    route.restarting()
    route.not_open(NotUsable("there is no queue q", hint="aws sqs create-queue"), 1.0)
    observation.judge()
    assert route.judged.verdict == "STOPPED"
    assert route.judged.reason.startswith("there is no queue q (aws sqs create-queue)")
    assert "there is no queue q" in (route.unready() or "")


def test_before_it_has_opened_once_nothing_is_known() -> None:
    observation = Observation()
    route = observation.route("r")
    observation.judge()
    assert (route.judged.verdict, route.unready()) == ("UNKNOWN", "not opened yet")
