"""What a route says of itself between two lives: on purpose, and in trouble."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import structlog

from bridge.core.errors import Failed, NotUsable, Refused, Throttled, Unavailable
from bridge.core.lag import Track
from bridge.core.models import Canary
from bridge.core.route import Backlog, Receipt, Skip
from bridge.observe import Observation, RouteObservation, clock
from tests.page.documents import delivery


class Clocks:
    """Both clocks of the machine, in the test's hands."""

    def __init__(self) -> None:
        self.monotonic_now, self.time_now = 10_000.0, 1.7e9

    def monotonic(self) -> float:
        return self.monotonic_now

    def time(self) -> float:
        return self.time_now

    def passes(self, seconds: float) -> None:
        self.monotonic_now += seconds
        self.time_now += seconds


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    both = Clocks()
    for module in ("clock", "logs", "heartbeat"):
        monkeypatch.setattr(f"bridge.observe.{module}.time", both)
    return both


def opened() -> tuple[Observation, RouteObservation]:
    observation = Observation()
    route = observation.route("r")
    route.opened("sqs q", "jetstream s")
    route.sampled(Backlog(0))
    observation.judge()
    assert route.judged.verdict == "OK"
    return observation, route


@pytest.mark.parametrize("how", ["resumed", "restarting"])
def test_a_route_that_is_opened_again_on_purpose_is_not_stalled(how: str) -> None:
    """It would wake somebody: the alert on STALLED waits for nothing."""
    observation, route = opened()
    route.pausing()
    observation.judge()
    assert route.snapshot()["verdict"] == "STOPPED"
    route.resumed(carrying=False) if how == "resumed" else route.restarting()
    observation.judge()
    judged = route.judged
    assert judged.verdict == "STOPPED"
    if how == "resumed":  # the pause waits for a receive that is under way, and so does the opening
        assert judged.reason.startswith("resuming: it reopens when the current receive ends")
        assert "not opened" not in (route.unready() or "")
    else:
        assert (judged.reason, route.unready()) == ("it is being opened; pending 0", "not opened yet")
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


# -- trouble that is over


def shown(observation: Observation, route: RouteObservation) -> tuple[str, str | None]:
    observation.judge()
    return route.snapshot()["verdict"], route.unready()


def in_trouble(clocks: Clocks, error: Exception | None = None) -> tuple[Observation, RouteObservation]:
    """A route whose one message was not taken for longer than the grace."""
    observation, route = opened()
    route.received([delivery(1)])
    route.in_flight(1)
    for _ in range(4):
        route.held([delivery(1)], error or Unavailable("the topic does not answer", hint="look at it"), 2.0)  # type: ignore[arg-type]
        clocks.passes(2.0)
        route.sampled(Backlog(0, 1))
    assert shown(observation, route)[0] == "STALLED"
    assert "the topic does not answer" in (route.unready() or "")
    return observation, route


ENDS = {
    "carried": lambda route: route.carried([(delivery(1), Receipt("M"))]),
    "parked": lambda route: route.parked(delivery(1), Refused("too large"), Receipt("P:1")),
    "rejected": lambda route: route.rejected(delivery(1), Refused("too large"), 30.0),
    "skipped": lambda route: route.skipped(delivery(1), Skip("filtered")),
    "heartbeat_failed": lambda route: route.heartbeat_failed(
        replace(delivery(1), canary=Canary("r", "", "c", 0.0)), Failed("x")
    ),
    "unsettled": lambda route: route.unsettled(delivery(1), Unavailable("lost")),
    "released": lambda route: route.released([delivery(1)]),
}


@pytest.mark.parametrize("how", ENDS)
def test_trouble_ends_with_the_last_message_it_was_about(how: str, clocks: Clocks) -> None:
    """Whatever became of it: on an idle route nothing else would say so, ever."""
    observation, route = in_trouble(clocks)
    ENDS[how](route)
    route.in_flight(0)
    clocks.passes(1.0)
    route.sampled(Backlog(0))
    assert shown(observation, route) == ("OK", None)
    assert (route.snapshot()["hint"], route.snapshot()["trouble"], route.state) == ("", [], "running")


def test_what_the_destination_did_not_take_and_comes_again_is_no_end(clocks: Clocks) -> None:
    observation, route = in_trouble(clocks)
    route.handed_back(delivery(1), Failed("500 from the topic"), 30.0)
    route.in_flight(0)
    route.sampled(Backlog(0, 1))
    for _ in range(15):
        clocks.passes(2.0)
        assert shown(observation, route)[0] == "STALLED"
    clocks.passes(6.0)  # it has not come again: it was dead-lettered, or another bridge has it
    route.sampled(Backlog(0))
    assert shown(observation, route) == ("OK", None)


def test_a_message_that_blocked_its_group_and_went_back_blocks_it_no_more() -> None:
    """It may go to a dead-letter queue or to another replica, and nothing else would end it here."""
    _, route = opened()
    route.blocked(delivery(1), Refused("too large"), 30.0)
    route.handed_back(delivery(1), Refused("too large"), 30.0)
    assert route.snapshot()["blocked"] == {}
    assert route.blocking == {}


def test_a_look_that_works_does_not_hide_a_destination_that_does_not(clocks: Clocks) -> None:
    observation, route = in_trouble(clocks)
    for _ in range(60):
        clocks.passes(2.0)
        route.sampled(Backlog(0, 1))
        route.received([])
        route.held([delivery(1)], Unavailable("the topic does not answer"), 3.0)
        assert shown(observation, route)[0] == "STALLED"


def test_a_receive_that_hangs_in_its_long_poll_ends_an_outage_where_nothing_waits(clocks: Clocks) -> None:
    """The poll that would say so takes twenty seconds."""
    observation, route = opened()
    for _ in range(5):
        route.receive_failed(Unavailable("SQS does not answer"), 3.0)
        route.not_sampled(Unavailable("SQS does not answer"))
        clocks.passes(3.0)
    assert shown(observation, route)[0] == "STALLED"
    for _ in range(5):
        route.sampled(Backlog(0))
        clocks.passes(2.0)
    assert shown(observation, route) == ("OK", None)


@pytest.mark.parametrize("waiting", [Backlog(0), Backlog(7)])
def test_a_look_that_works_does_not_hide_a_receive_that_is_denied(waiting: Backlog, clocks: Clocks) -> None:
    observation, route = opened()
    route.receive_failed(NotUsable("sqs:ReceiveMessage is denied", hint="allow it"), 30.0)
    clocks.passes(6.0)
    for second in range(120):
        if second % 30 == 29:
            route.receive_failed(NotUsable("sqs:ReceiveMessage is denied", hint="allow it"), 30.0)
        route.sampled(waiting)
        clocks.passes(1.0)
        assert "denied" in (shown(observation, route)[1] or ""), second


def test_a_receive_that_never_answers_is_not_taken_for_a_long_poll_while_messages_wait(clocks: Clocks) -> None:
    observation, route = opened()
    route.receive_failed(Unavailable("read timeout"), 1.0)
    for _ in range(60):
        clocks.passes(1.0)
        route.sampled(Backlog(3))
        observation.judge()
    assert "read timeout" in (route.unready() or "")


# -- calls that fail now and then


def test_flapping_is_one_state_and_one_line(clocks: Clocks) -> None:
    """Twenty failures and twenty successes a second, for ten minutes."""
    with structlog.testing.capture_logs() as lines:
        observation, route = opened()
        route.in_flight(5)
        for tick in range(600 * 4):
            route.held([delivery(1)], Throttled("SNS throttles"), 0.2)
            route.carried([(delivery(2), Receipt("M"))])
            clocks.passes(0.25)
            if tick % 4 == 3:
                route.sampled(Backlog(0, 5))
                observation.judge()
                if tick > 60:
                    assert route.snapshot()["verdict"] == "SLOW"
                    assert "some calls fail: SNS throttles" in route.snapshot()["reason"]
                    assert route.unready() is None  # it moves
        events = [line["event"] for line in lines]
        assert events.count("recovered") <= 2
        assert events.count("held") <= 61
        lines.clear()
        route.in_flight(0)
        for _ in range(12):
            clocks.passes(1.0)
            route.sampled(Backlog(0))
            observation.judge()
        assert shown(observation, route) == ("OK", None)
        assert [line["event"] for line in lines].count("recovered") == 1


def test_an_outage_after_calls_that_failed_now_and_then_is_an_outage(clocks: Clocks) -> None:
    observation, route = opened()
    route.in_flight(5)
    for _ in range(40):
        route.held([delivery(1)], Throttled("SNS throttles"), 0.2)
        route.carried([(delivery(2), Receipt("M"))])
        clocks.passes(0.5)
    for _ in range(6):
        clocks.passes(2.0)
        route.held([delivery(1)], Unavailable("SNS does not answer"), 3.0)
        route.sampled(Backlog(0, 5))
    assert shown(observation, route)[0] == "STALLED"
    assert route.unready() == "SNS does not answer"


def test_a_flood_of_messages_is_no_flood_of_lines(clocks: Clocks) -> None:
    with structlog.testing.capture_logs() as lines:
        observation, route = opened()
        observation.routes["r"].connection = "default"
        for number in range(3000):
            name = f"m-{number}"
            each = replace(delivery(number), id=name)
            route.parked(each, Refused("too large"), Receipt("P:1"))
            route.rejected(each, Refused("too large"), 1.0)
            route.blocked(each, Refused("too large"), 1.0)
            route.handed_back(each, Failed("no"), 1.0)
            route.unsettled(each, Failed("no"))
            route.heartbeat_failed(each, Failed("no"))
            route.released([each])
            route.sampled(Backlog(0, leases_lost=number))
            observation.connection("default", "error", f"error {number}")
            observation.connection("default", "disconnected", "")
            observation.connection("default", "reconnected", "")
            observation.control_denied(f"10.0.{number % 256}.{number // 256}", "wrong")
            clocks.passes(0.01)
        assert len(lines) < 1500
        assert route.counts["parked"] == 3000
        clocks.passes(10.0)
        route.parked(delivery(1), Refused("too large"), Receipt("P:1"))
        assert lines[-1]["event"] == "parked"
        assert sum(1 + line.get("unlogged", 0) for line in lines if line["event"] == "parked") == 3001


def test_a_verdict_that_changes_every_second_is_no_line_every_second(clocks: Clocks) -> None:
    with structlog.testing.capture_logs() as lines:
        observation, route = opened()
        for second in range(600):
            clocks.passes(1.0)
            route.sampled(Backlog(0)) if second % 2 else route.not_sampled(Unavailable("no answer"))
            observation.judge()
    assert sum(line["event"] == "verdict" for line in lines) <= 20 + 61
    assert len(lines) < 200


# -- clocks


@pytest.mark.parametrize("step", [-3600.0, 3600.0, -86_400.0 * 400])
def test_a_clock_that_is_set_changes_no_verdict_and_no_age(step: float, clocks: Clocks) -> None:
    observation, route = opened()
    route.carried([(delivery(1), Receipt("M"))])
    since = clocks.time_now
    for second in range(0, 1800, 4):
        if second == 600:
            clocks.time_now += step
        # What the server says of the oldest message does not change with our clock.
        route.sampled(Backlog(71, oldest=since))
        clocks.passes(4.0)
        observation.judge()
        if second > 100:
            assert route.snapshot()["verdict"] == "STALLED", second
    shot = route.snapshot()
    assert shot["lag_seconds"] == pytest.approx(1800.0, abs=5)
    assert "nothing carried for 30 min" in shot["reason"]
    now = observation.snapshot()["at"]
    assert now == clocks.time_now
    for at in (shot["verdict_since"], shot["last_carried"], shot["places"][0]["since"], shot["state_since"]):
        assert 1500 < now - at < 1900
    assert observation.snapshot()["uptime_seconds"] == pytest.approx(1800.0, abs=5)
    points = next(iter(observation.history("r").values()))
    assert now - points[0][0] == pytest.approx(1800.0, abs=15)
    assert all(first[0] < second[0] for first, second in pairwise(points))


def test_moments_keep_their_spelling_while_the_clock_only_drifts(clocks: Clocks) -> None:
    at = clock.now()
    spelled = clock.wall(at)
    for _ in range(50):
        clocks.passes(1.0)
        clocks.time_now += 0.01
        assert clock.wall(at) == spelled
    clocks.time_now += 7200
    assert clock.wall(at) - spelled == pytest.approx(7200.5)


def test_a_stall_is_measured_on_the_clock_that_runs_on(clocks: Clocks) -> None:
    _, route = opened()
    for _ in range(10):
        clocks.passes(5.0)
        clocks.time_now -= 3600
        route.sampled(Backlog(7))
    assert route.receive_stalled(15.0)
    assert isinstance(route.waiting.own.track if route.waiting.own else None, Track)
