"""The looks beside a route: what it is told, and how a route that hears nothing is made to listen anew."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from math import inf
from typing import Literal

import pytest

from bridge import sampling
from bridge.core.errors import Unavailable
from bridge.core.route import Backlog, Delivery
from bridge.legs.backlogs import Seen, Side
from bridge.legs.memory import MemorySource
from bridge.observe import Observation, RouteObservation
from tests.legs.exam import until


class DeafSource(MemorySource):
    """Messages wait in it, and no receive brings one until it listens anew."""

    def __init__(self) -> None:
        super().__init__()
        self.listened = 0
        self.failing = False
        self.pending = 7

    async def receive(self, limit: int) -> Sequence[Delivery]:
        return await super().receive(limit) if self.listened else []

    async def resubscribe(self) -> None:
        self.listened += 1

    async def backlog(self) -> Backlog:
        if self.failing:
            raise Unavailable("no answer")
        return Backlog(self.pending, leases_lost=self.listened)


class Places:
    """What others read, as the test says."""

    system: Literal["jetstream"] = "jetstream"
    side: Side = "new"
    calls = 0

    def __init__(self, *seen: Seen) -> None:
        self.seen = list(seen)
        self.hanging = False

    async def look(self) -> Sequence[Seen]:
        if self.hanging:
            await asyncio.Event().wait()
        return self.seen


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "JETSTREAM_SECONDS", 0.01)
    monkeypatch.setattr(sampling, "STALLED_SECONDS", 0.05)
    monkeypatch.setattr(sampling, "LOOK_SECONDS", 0.2)


def opened() -> tuple[Observation, RouteObservation]:
    observation = Observation()
    route = observation.route("r")
    route.opened("jetstream S/c", "sqs q", every=0.01)
    return observation, route


async def test_a_route_that_hears_nothing_resubscribes_and_less_and_less_often() -> None:
    observation, route = opened()
    source = DeafSource()
    async with asyncio.TaskGroup() as group:
        looking = group.create_task(sampling.sample(source, [], route, "jetstream", lambda: 0.01))
        await until(lambda: source.listened == 3)
        assert route.resubscriptions >= 3
        text = observation.exposition()[0].decode()
        assert 'nats_sqs_bridge_resubscriptions_total{route="r"} ' in text
        route.in_flight(1)  # what is in flight is at work: no missing reader
        before = source.listened
        await asyncio.sleep(0)
        assert not route.receive_stalled(0.0)
        route.in_flight(0)
        route.disconnected("gone")  # the cause is known, and another one's to mend
        assert not route.receive_stalled(0.0)
        assert source.listened == before
        looking.cancel()


async def test_nothing_pending_is_no_stall() -> None:
    _, route = opened()
    source = DeafSource()
    source.pending = 0
    async with asyncio.TaskGroup() as group:
        looking = group.create_task(sampling.sample(source, [], route, "jetstream", lambda: 0.01))
        await until(lambda: route.snapshot()["source_pending_messages"] == 0)
        assert not route.receive_stalled(0.0)
        looking.cancel()
    assert source.listened == 0


async def test_what_cannot_be_seen_is_unknown_until_it_can() -> None:
    observation, route = opened()
    source = DeafSource()
    source.failing = True
    good, bad = Seen("S/good", Backlog(3), 60.0), Seen("S/bad", Unavailable("not permitted"))
    watched = Places(good, bad)
    async with asyncio.TaskGroup() as group:
        looking = group.create_task(sampling.sample(source, [watched], route, "jetstream", lambda: 0.01))

        def verdicts() -> dict[str, str]:
            observation.judge()
            return {each["name"]: each["verdict"] for each in route.snapshot()["places"]}

        await until(lambda: verdicts() == {"S/c": "UNKNOWN", "S/good": "OK", "S/bad": "UNKNOWN"})
        place = next(each for each in route.snapshot()["places"] if each["name"] == "S/bad")
        assert (place["lag_messages"], place["reason"]) == (None, "cannot be read: not permitted")
        assert 'nats_sqs_bridge_lag_messages{name="S/bad",route="r",side="new",system="jetstream"} NaN' in (
            observation.exposition()[0].decode()
        )
        watched.hanging = True  # no answer at all is unknown too
        await until(lambda: verdicts()["S/good"] == "UNKNOWN")
        looking.cancel()


async def test_places_come_and_go_with_their_series() -> None:
    observation, route = opened()
    watched = Places(Seen("S/a", Backlog(1)), Seen("S/b", Backlog(2), inf))
    async with asyncio.TaskGroup() as group:
        looking = group.create_task(sampling.sample(DeafSource(), [watched], route, "jetstream", lambda: 0.01))
        await until(lambda: [each.name for each in route.waiting.places()] == ["S/c", "S/a", "S/b"])
        watched.seen = [Seen("S/b", Backlog(2)), Seen("S/d", Backlog(0))]
        await until(lambda: [each.name for each in route.waiting.places()] == ["S/c", "S/b", "S/d"])
        looking.cancel()
    text = observation.exposition()[0].decode()
    assert 'name="S/a"' not in text
    assert 'name="S/d"' in text


async def test_lost_leases_are_counted_once() -> None:
    observation, route = opened()
    for lost in (0, 2, 2, 3):
        route.sampled(Backlog(1, leases_lost=lost))
    assert 'nats_sqs_bridge_leases_lost_total{route="r"} 3.0' in observation.exposition()[0].decode()
