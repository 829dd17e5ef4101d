"""What an operator is told first, and to do what: documents as the daemon's own observation makes them."""

from __future__ import annotations

import time
from typing import Any

import pytest

from bridge.core.errors import NotUsable, Unavailable, Unmappable
from bridge.core.filtering import LEFT_OUT
from bridge.core.route import Backlog, Receipt, Skip
from bridge.observe import Observation
from bridge.page.story import NOTE, WARNING, Finding, findings, headline, well, worst_first
from tests.page.documents import abandoned, carried, delivery, opened, watched


def told(observation: Observation) -> dict[str, Any]:
    observation.judge()
    return observation.snapshot()


def test_all_is_well() -> None:
    observation = Observation()
    opened(observation, "a")
    watched(opened(observation, "b"), "new", "jetstream", "PAYMENTS/validation")
    found = headline(told(observation))
    assert (found.verdict, found.title, found.advice) == ("OK", "All is well on 2 routes", "")
    assert findings(observation.snapshot()) == []


def test_a_route_that_cannot_open_says_what_to_do() -> None:
    observation = Observation()
    opened(observation, "fine")
    missing = NotUsable(
        "queue payments-bridge does not exist", hint="aws sqs create-queue --queue-name payments-bridge"
    )
    observation.route("in").not_open(missing, 1.0)
    status = told(observation)
    found = headline(status)
    assert (found.verdict, found.title) == ("STOPPED", "in is STOPPED")
    assert found.reason == "queue payments-bridge does not exist"
    assert found.advice == "aws sqs create-queue --queue-name payments-bridge"
    assert worst_first(status) == ["in", "fine"]
    assert [well(status["routes"][name]) for name in ("in", "fine")] == [False, True]


def test_routes_that_stand_before_the_same_obstacle_are_reported_as_one() -> None:
    observation = Observation()
    for name in ("a", "b", "c"):
        observation.route(name).not_open(Unavailable("NATS is not connected: connection refused"), 1.0)
    opened(observation, "d")
    found = headline(told(observation))
    assert found.title == "3 of 4 routes are STOPPED: a, b, c"
    assert found.reason == "NATS is not connected: connection refused"
    assert "Nothing is lost" in found.advice


NATS_DOWN = "NATS connection default (127.0.0.1:4222) is down, reconnecting: no server"
AWS_DOWN = 'sqs get_queue_url q: Could not connect to the endpoint URL: "http://10.0.0.7:4566/"'


@pytest.mark.parametrize(
    ("error", "without"),
    [
        (NATS_DOWN, " without NATS connection default (127.0.0.1:4222)"),
        (AWS_DOWN, " without AWS at 10.0.0.7:4566"),
        ("sqs receive_message: Cannot connect to host 10.0.0.7:4566 ssl:default", " without AWS at 10.0.0.7:4566"),
        ("queue payments-bridge does not exist", ""),
    ],
)
def test_an_outage_names_the_side_that_does_not_answer(error: str, without: str) -> None:
    observation = Observation()
    observation.route("a").not_open(Unavailable(error), 1.0)
    assert headline(told(observation)).title == f"a is STOPPED{without}"
    observation.route("b").not_open(Unavailable(error), 1.0)
    assert headline(told(observation)).title == f"2 of 2 routes are STOPPED{without}: a, b"
    observation.route("c").not_open(Unavailable("something else"), 1.0)
    assert headline(told(observation)).title == "3 of 3 routes are STOPPED: a, b, c"


def test_a_connection_that_is_lost_is_named_by_who_uses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.observe.route.GRACE_SECONDS", -1.0)
    observation = Observation()
    route = opened(observation, "a")
    assert route.waiting.own is not None
    abandoned(route.waiting.own)
    observation.connection("default", "disconnected", "")
    route.held([delivery(1)], Unavailable(NATS_DOWN), 1.0)
    found = headline(told(observation))
    assert (found.title, found.reason) == ("a is STALLED without NATS connection default (127.0.0.1:4222)", NATS_DOWN)


def test_a_trouble_that_stands_names_its_hint_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.observe.route.GRACE_SECONDS", -1.0)
    observation = Observation()
    route = opened(observation, "a", pending=3)
    route.receive_failed(Unavailable("AWS throttles ReceiveMessage", hint="raise the quota"), 1.0)
    time.sleep(0)
    status = told(observation)
    assert status["routes"]["a"]["hint"] == "raise the quota"
    assert "(raise the quota)" in status["routes"]["a"]["reason"]
    found = findings(status)[0]
    assert (found.advice, "raise the quota" in found.reason) == ("raise the quota", False)


def test_new_consumers_that_stop_are_not_the_bridges_fault() -> None:
    observation = Observation()
    route = opened(observation, "in")
    abandoned(watched(route, "new", "jetstream", "PAYMENTS/validation"))
    status = told(observation)
    found = headline(status)
    assert (found.verdict, found.title) == ("STALLED", "Consumer PAYMENTS/validation is not acknowledging messages")
    assert "no client is reading" in found.reason
    assert found.advice.startswith("The bridge is not affected.")
    assert found.command == "nats consumer info PAYMENTS validation"
    assert well(status["routes"]["in"])


def test_a_failing_route_comes_before_failing_consumers_and_those_before_unknown_ones() -> None:
    observation = Observation()
    route = opened(observation, "a")
    watched(route, "legacy", "sqs", "hidden", NotUsable("access denied"))
    abandoned(watched(route, "new", "jetstream", "S/c"))
    observation.route("down").not_open(NotUsable("no such queue"), 1.0)
    titles = [each.title for each in findings(told(observation))]
    assert titles == ["down is STOPPED", "Consumer S/c is not acknowledging messages", "The lag of hidden is unknown"]


def test_dead_letters_and_parked_messages_are_notes_and_raise_no_alarm() -> None:
    observation = Observation()
    route = opened(observation, "in")
    watched(route, "dead_letter", "sqs", "payments-dlq", Backlog(4))
    route.parked(delivery(1), Unmappable("subject", "the attribute eventType is missing"), Receipt("PARKED:1"))
    status = told(observation)
    assert headline(status).verdict == "OK"
    notes = findings(status)
    assert {each.rank for each in notes} == {NOTE}
    assert any("4 messages in the dead-letter queue payments-dlq" in each.title for each in notes)
    parked = next(each for each in notes if "parked" in each.title)
    assert "the attribute eventType is missing" in parked.reason
    assert parked.title == "1 message of in parked since the start"
    assert parked.reason.startswith("`nats-sqs-bridge parked list` shows what is parked now.")
    assert parked.command == "nats-sqs-bridge parked list --route in"


@pytest.mark.parametrize("how", ["dropped", "parked"])
def test_a_filter_that_matches_nothing_is_reported_until_it_does(how: str, capsys: pytest.CaptureFixture[str]) -> None:
    observation = Observation()
    route = opened(observation, "in")

    def left_out(number: int) -> None:
        if how == "dropped":
            route.skipped(delivery(number), Skip("filtered"))
        else:
            route.parked(delivery(number), Unmappable(*LEFT_OUT), Receipt("PARKED:1"))

    def said() -> Finding | None:
        return next((each for each in findings(told(observation)) if "filter" in each.title), None)

    assert told(observation)["routes"]["in"]["filter_matched_none"] is False
    left_out(1)
    found = said()
    assert found is not None
    assert (found.rank, found.title) == (NOTE, "in: its filter has left out 1 message since the start")
    for number in range(2, 13):
        left_out(number)
    found = headline(told(observation))
    assert found.verdict == WARNING
    assert found.title == "in: its filter has left out all 12 messages since the start"
    assert ("deleted" if how == "dropped" else "parked") in found.reason
    assert told(observation)["routes"]["in"]["filter_matched_none"] is True
    assert "left out all 10 messages" in capsys.readouterr().out
    carried(route, 1)
    assert said() is None
    assert told(observation)["routes"]["in"]["filter_matched_none"] is False


def test_messages_that_never_met_the_filter_are_no_sign_that_it_works_or_does_not() -> None:
    observation = Observation()
    route = opened(observation, "in")
    route.parked(delivery(1), Unmappable("subject", "the attribute eventType is missing"), Receipt("PARKED:1"))
    route.skipped(delivery(2), Skip("echo"))
    assert told(observation)["routes"]["in"]["filter_matched_none"] is False


def test_what_is_left_to_the_source_comes_before_what_others_fail_at_for_an_hour() -> None:
    observation = Observation()
    route = opened(observation, "in")
    abandoned(watched(route, "new", "jetstream", "S/c"))
    assert headline(told(observation)).verdict == "STALLED"
    for number in range(3):
        route.rejected(delivery(number), Unmappable("subject", "the attribute eventType is missing"), 1.0)
    for number in range(30):  # other failures push it out of the last ones
        route.handed_back(delivery(number), Unavailable("no answer"), 1.0)
    status = told(observation)
    found = headline(status)
    assert (found.verdict, found.title) == (
        "WARNING",
        "in: 3 times since the start a message could be neither carried nor parked",
    )
    assert "redrive policy, or to its retention" in found.reason
    assert "`parking`" in found.advice
    assert well(status["routes"]["in"])
    again = told(observation)  # nothing has grown since
    assert again["routes"]["in"]["last_rejected"] == status["routes"]["in"]["last_rejected"]
    late = {**status, "at": status["at"] + 3601}
    assert headline(late).title == "Consumer S/c is not acknowledging messages"
    assert found.title in {each.title for each in findings(late) if each.rank == NOTE}
    observation.route("down").not_open(NotUsable("no such queue"), 1.0)
    assert headline(told(observation)).title == "down is STOPPED"


def test_what_someone_stopped_on_purpose_is_no_failure() -> None:
    observation = Observation()
    route = opened(observation, "in", pending=5)
    route.paused()
    status = told(observation)
    assert status["routes"]["in"]["verdict"] == "STOPPED"
    assert well(status["routes"]["in"])
    found = headline(status)
    assert found.verdict == "AT REST"
    since = time.strftime("%H:%M", time.gmtime(status["routes"]["in"]["verdict_since"]))
    assert found.title == f"1 route is paused since {since} UTC; 5 wait"
    assert found.command == "nats-sqs-bridge resume in"
    assert [each.title for each in findings(status)] == ["in is paused"]


def test_routes_at_rest_are_counted_by_how_they_came_to_rest_and_a_failure_comes_first() -> None:
    observation = Observation()
    for name, pending in (("a", 3), ("b", 4)):
        opened(observation, name, pending=pending).paused()
    opened(observation, "c").drained()
    observation.route("never-looked-at").paused()
    title = headline(told(observation)).title
    assert title.startswith("3 routes are paused since ")
    assert ", 1 route is drained since " in title
    assert title.endswith("; at least 7 wait")
    observation.route("down").not_open(NotUsable("no such queue"), 1.0)
    assert headline(told(observation)).title == "down is STOPPED"


def test_a_destination_that_never_answers_is_named() -> None:
    observation = Observation()
    route = opened(observation, "in")
    route.in_flight(204)
    now = time.time()
    assert route.waiting.own is not None
    for second in range(20, -1, -2):
        route.waiting.own.track.looked(now - second, Backlog(0, 204, done=7, held=204))
    found = headline(told(observation))
    assert found.reason.startswith("pending 0, 204 in flight, nothing carried for")
    assert found.advice.startswith("Check the destination, jetstream payments.{attributes.eventType}")


def test_a_blocked_group_is_reported() -> None:
    observation = Observation()
    route = opened(observation, "in")
    route.blocked(delivery(1), Unmappable("body", "it is too large"), 5.0)
    found = headline(told(observation))
    assert found.title == "in: 1 group blocked by a message"
    assert "too large" in found.reason


def test_a_bridge_that_drains_says_so() -> None:
    observation = Observation()
    carried(opened(observation, "in"), 3)
    observation.drain_began(30.0)
    assert headline(told(observation)).title == "The bridge is stopping"
