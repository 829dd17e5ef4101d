"""Only the hop that is broken is marked, what may be lost comes first, and each thing is said once."""

from __future__ import annotations

import re
from typing import Any

import pytest

from bridge.core.errors import BridgeError, NotUsable, Unavailable, Unmappable
from bridge.core.lag import Track
from bridge.core.route import Backlog, Receipt
from bridge.observe import Observation, RouteObservation, clock
from bridge.page.story import findings, headline
from tests.page.documents import abandoned, delivery, opened, watched
from tests.page.test_html import Heard
from tests.page.test_page import rendered

DOWN = "NATS connection default (127.0.0.1:4222) is down, reconnecting: no server"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.observe.route.GRACE_SECONDS", -1.0)


def stalled(observation: Observation, name: str = "in", source: str = "sqs q") -> RouteObservation:
    route = observation.route(name)
    route.opened(source, "jetstream s" if source.startswith("sqs") else "sns t", retention=345_600.0)
    route.sampled(Backlog(9))
    assert route.waiting.own is not None
    abandoned(route.waiting.own)
    return route


def crosses(observation: Observation) -> dict[str, list[bool]]:
    """By drawing, whether the way from the source and the one to the destination has a cross."""
    text = rendered(observation)
    found = {}
    for kind in ("wide", "tall"):
        drawn = text.partition(f'<svg class="{kind}"')[2].partition("</svg>")[0]
        found[kind] = [label == "✕" for label in re.findall(r'<text class="pace"[^>]*>([^<]*)<', drawn)]
    return found


def told(observation: Observation) -> dict[str, Any]:
    observation.judge()
    return observation.snapshot()


CASES: list[tuple[str, Any, list[str]]] = [
    ("a send that fails", lambda r: r.held([delivery(1)], Unavailable("the topic is gone"), 1.0), ["destination"]),
    ("a receive that fails", lambda r: r.receive_failed(NotUsable("denied"), 1.0), ["source"]),
    ("NATS, from SQS", lambda r: r.disconnected("gone"), ["destination"]),
    ("no answer to what was sent", lambda r: r.in_flight(9), ["destination"]),
    ("nothing arrives", lambda r: r.in_flight(0), ["source"]),
    ("it does not open, for NATS", lambda r: r.not_open(Unavailable(DOWN), 1.0), ["destination"]),
    ("it does not open, for AWS", lambda r: r.not_open(NotUsable("queue q does not exist"), 1.0), ["source"]),
    ("it does not open", lambda r: r.not_open(NotUsable("a strange thing"), 1.0), []),
    ("it is paused", lambda r: r.paused(), []),
    ("what arrives cannot be carried", lambda r: r.rejected(delivery(1), Unmappable("body", "none"), 30.0), []),
]


@pytest.mark.parametrize(("what", "event", "hops"), CASES, ids=[case[0] for case in CASES])
def test_only_the_hop_that_is_broken_is_marked(what: str, event: Any, hops: list[str]) -> None:
    observation = Observation()
    event(stalled(observation))
    assert told(observation)["routes"]["in"]["broken"] == hops
    marks = ["source" in hops, "destination" in hops]
    assert crosses(observation) == {"wide": marks, "tall": marks}
    said = Heard(rendered(observation)).said
    assert [hop for hop in ("source", "destination") if f"broken between the bridge and its {hop}" in said] == hops


def test_nats_is_the_source_of_a_route_back() -> None:
    observation = Observation()
    stalled(observation, source="jetstream S/c").disconnected("gone")
    assert told(observation)["routes"]["in"]["broken"] == ["source"]
    first = observation.route("new")
    first.systems = ("jetstream", "sqs")
    first.not_open(Unavailable(DOWN), 1.0)
    assert told(observation)["routes"]["new"]["broken"] == ["source"]


def test_a_route_that_carries_has_no_cross() -> None:
    observation = Observation()
    opened(observation, "in")
    assert crosses(observation) == {"wide": [False, False], "tall": [False, False]}


def test_a_message_that_can_never_be_carried_is_the_headline_and_no_restart_is_advised() -> None:
    observation = Observation()
    stalled(observation).rejected(delivery(1), Unmappable("subject", "the attribute kind is missing"), 30.0)
    stalled(observation, "other").receive_failed(NotUsable("denied"), 30.0)
    found = headline(told(observation))
    assert found.title.startswith("in: once since the start a message could be neither carried nor parked")
    assert "the attribute kind is missing" in found.reason
    assert "`parking`" in found.advice
    assert not [each for each in findings(told(observation)) if "restart" in each.advice]


@pytest.mark.parametrize(
    "event",
    [
        lambda r: r.in_flight(0),
        lambda r: r.in_flight(9),
        lambda r: r.blocked(delivery(1), Unmappable("body", "too large"), 30.0),
        lambda r: r.held([delivery(1)], Unavailable("gone"), 1.0),
    ],
)
def test_no_one_is_asked_to_restart_it(event: Any) -> None:
    observation = Observation()
    event(stalled(observation))
    assert all("restart" not in each.advice for each in findings(told(observation)))


@pytest.mark.parametrize(("left", "when"), [(1800.0, "in 30 min"), (-5.0, "now")])
@pytest.mark.parametrize("resting", [False, True])
def test_what_retention_takes_soon_is_the_headline(left: float, when: str, resting: bool) -> None:
    observation = Observation()
    route = stalled(observation)
    assert route.waiting.own is not None
    route.waiting.own.track.retention = left + 40.0
    other = observation.route("down")
    other.not_open(NotUsable("no such queue"), 1.0)
    if resting:
        route.paused()
    else:
        route.receive_failed(NotUsable("denied", hint="allow it"), 1.0)
    found = headline(told(observation))
    assert found.title == f"in loses its oldest message to retention {when}"
    assert found.advice == ("Resume it." if resting else "allow it")


# -- once, and consistently


def judged(track: Track, at: float) -> tuple[str, str]:
    verdict = track.judge(at)
    return verdict.verdict, verdict.reason


def test_what_shrinks_is_not_slow_for_more_arriving() -> None:
    """More is pending at every look, and less in all: what was in flight is finished faster than messages come."""
    track = Track(every=2)
    at = 0.0
    for second in range(0, 60, 2):
        at = 1000.0 + second
        track.looked(at, Backlog(100 + second, 1000 - 10 * second, done=100 * second))
        verdict, reason = judged(track, at)
        assert not (verdict == "SLOW" and "shrinking" in reason), reason
    assert judged(track, at)[0] == "OK"


def test_a_bound_is_not_drawn_and_no_reader_that_keeps_up_runs_out_of_time() -> None:
    observation = Observation()
    place = watched(opened(observation, "in"), "legacy", "sqs", "busy", Backlog(0))
    place.track.retention = 120.0
    place.track.exact = False
    place.track.history.clear()
    now = clock.now()
    for second in range(300, -1, -4):
        place.track.looked(now - second, Backlog(3 + second % 3, second % 2) if second < 296 else Backlog(0))
    observation.judge()
    shot = place.snapshot()
    assert (shot["verdict"], shot["lag_is_bound"]) == ("OK", True)
    assert shot["lag_seconds"] > 290
    assert shot["retention_headroom_seconds"] is None
    assert {point.seconds for point in list(place.track.history)[1:]} == {None}
    text = observation.exposition()[0].decode()
    labels = '{name="busy",route="in",side="legacy",system="sqs"}'
    assert f"nats_sqs_bridge_lag_seconds{labels} NaN" in text
    assert f"nats_sqs_bridge_retention_headroom_seconds{labels} NaN" in text
    place.track.looked(now + 60, Backlog(9, 0))
    for second in range(64, 200, 4):
        place.track.looked(now + second, Backlog(9 + second, 0))
    stuck = place.track.judge(now + 200)
    assert (stuck.verdict, stuck.bound) == ("STALLED", True)
    assert stuck.headroom is not None


def test_zero_is_nothing_waits_and_no_place_is_not_watched() -> None:
    observation = Observation()
    opened(observation, "a")
    watched(opened(observation, "b"), "new", "jetstream", "S/c")
    table = rendered(observation).partition('class="overview"')[2].partition("</table>")[0]
    cells = re.findall(r"<td>([^<]*)</td>", table)
    assert "nothing waits" in cells
    assert "not watched" in cells
    assert not {"none", "none watched"} & set(cells)


def test_paused_since_is_when_it_was_paused(monkeypatch: pytest.MonkeyPatch) -> None:
    observation = Observation()
    route = opened(observation, "in", pending=5)
    route.not_open(NotUsable("queue q does not exist"), 1.0)
    observation.judge()  # STOPPED from here on
    real = clock.now()
    monkeypatch.setattr("bridge.observe.clock.now", lambda: real + 7200.0)
    route.paused()
    status = told(observation)
    route_status = status["routes"]["in"]
    assert route_status["state_since"] - route_status["verdict_since"] == pytest.approx(7200.0, abs=5)
    hour = re.search(r"paused since (\d\d:\d\d)", headline(status).title)
    assert hour is not None
    note = next(each for each in findings(status) if each.title == "in is paused")
    assert note.since == route_status["state_since"]
    assert "STOPPED since" not in Heard(rendered(observation)).said


def test_calls_that_fail_now_and_then_lose_nothing_and_say_so() -> None:
    observation = Observation()
    route = opened(observation, "in", pending=5)
    route.in_flight(3)
    error: BridgeError = Unavailable("SNS throttles")
    for _ in range(3):
        route.held([delivery(1)], error, 0.2)
        route.carried([(delivery(2), Receipt("M"))])
    status = told(observation)
    assert status["routes"]["in"]["verdict"] == "SLOW"
    found = findings(status)[0]
    assert "some calls fail: SNS throttles" in found.reason
    assert found.advice == "Nothing is lost: failed messages are retried."
