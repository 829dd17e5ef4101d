"""Heartbeats in the pump, beside the route and in what is observed of them."""

from __future__ import annotations

import asyncio
import time

import pytest

from bridge.core.errors import BridgeError, Failed, Refused, Unavailable
from bridge.core.mapping.heartbeat import into_queue
from bridge.core.models import Canary, JetStreamOut, Message, SqsMessage, SqsOut
from bridge.core.route import Delivery, Mapped, Receipt, Skip
from bridge.heartbeats import Heart, beat
from bridge.legs.memory import MemoryDestination, MemorySource
from bridge.observe import Observation, RouteObservation
from bridge.rounds import Parking
from tests.test_pump import Running, body, message, park, payloads, until
from tests.test_pump import mapping as pumped


def mapping(one: Message) -> Mapped | Skip:
    assert isinstance(one, SqsMessage)
    if one.body.startswith("other"):
        return Skip("heartbeat")
    if one.body.startswith("canary"):
        out = JetStreamOut("s", one.body.encode(), f"sqs:{one.message_id}")
        return Mapped(out, "beat", Canary("r", "", one.body, 0.0))
    return pumped(one)


@pytest.mark.parametrize("error", [Refused("no stream captures it"), Failed("nobody knows why")])
@pytest.mark.parametrize("block", [False, True])
async def test_a_canary_that_cannot_be_carried_is_dropped_and_told(error: BridgeError, block: bool) -> None:
    source, parking = MemorySource(), MemoryDestination()
    destination = MemoryDestination(lambda out, tries: error if "canary" in body(out) else None)
    source.put(message("canary"), message("beat-1"), message("a"))
    async with Running(source, destination, mapping=mapping, parking=Parking(parking, park), block=block) as running:
        await until(lambda: not len(source))
    assert running.journal.named("heartbeat_failed") == ["canary"]
    assert sorted(payloads(destination)) == ["a", "beat-1"]
    assert not parking.kept
    assert source.retried == []


async def test_a_canary_sits_out_an_outage_like_any_message() -> None:
    source = MemorySource()
    destination = MemoryDestination(lambda out, tries: Unavailable("down") if tries < 6 else None)
    source.put(message("canary"))
    async with Running(source, destination, mapping=mapping) as running:
        await until(lambda: not len(source))
    assert payloads(destination) == ["canary"]
    assert running.journal.named("heartbeat_failed") == []


async def test_canaries_that_ran_out_of_deliveries_are_not_parked() -> None:
    source, destination, parking = MemorySource(), MemoryDestination(), MemoryDestination()
    source.hopeless = {name: Refused("delivered 5 times") for name in ("canary", "other", "real")}
    source.put(message("canary"), message("other"), message("real"))
    async with Running(source, destination, mapping=mapping, parking=Parking(parking, park)) as running:
        await until(lambda: not len(source))
    assert payloads(parking) == ["real"]
    assert running.journal.named("heartbeat_failed") == ["canary"]
    assert running.journal.named("heartbeat") == ["other"]


def running_route() -> tuple[Observation, RouteObservation]:
    observation = Observation()
    route = observation.route("r")
    route.opened("sqs q", "jetstream s")
    return observation, route


def arrived(route: RouteObservation, canary: Canary) -> None:
    delivery = Delivery(message("m"), "m", 1, time.time(), time.monotonic(), canary=canary)
    real = Delivery(message("n"), "n", 1, time.time(), time.monotonic())
    route.carried([(delivery, Receipt("1")), (real, Receipt("2"))])


def canary_of(out: object) -> str:
    assert isinstance(out, SqsOut)
    assert out.dedup_id
    return out.dedup_id


async def test_one_is_under_way_at_a_time_and_the_next_follows_it() -> None:
    observation, route = running_route()
    into = MemoryDestination()
    heart = Heart("r", "", 0.005, into, into_queue)
    async with asyncio.TaskGroup() as group:
        beating = group.create_task(beat(heart, route.heartbeats))
        await until(lambda: len(into.kept) == 1)
        for number in range(2, 5):
            assert not route.heartbeats.wanted()
            arrived(route, Canary("r", "", canary_of(into.kept[-1]), 9e9))  # what it says of itself is not believed
            await until(lambda many=number: len(into.kept) >= many)  # type: ignore[misc]  # bound in the loop
        route.emptying(75.0)
        assert not route.heartbeats.wanted()
        beating.cancel()
    assert len({canary_of(out) for out in into.kept}) == len(into.kept)
    assert (route.counts["heartbeat"], route.counts["carried"]) == (3, 3)
    shown = route.snapshot()["heartbeat"]
    assert 0 <= shown["transit"] < 3600
    assert shown["last_sent"] <= time.time() >= shown["last_arrived"]
    metrics = observation.exposition()[0].decode()
    assert 'nats_sqs_bridge_heartbeat_timestamp_seconds{route="r"} 1' in metrics
    assert 'nats_sqs_bridge_transit_seconds_count{route="r"} 3.0' in metrics  # canaries are no messages


def test_only_a_heartbeat_that_was_sent_from_here_counts_and_only_once() -> None:
    observation, route = running_route()
    beats = route.heartbeats
    beats.expected(30.0)
    own = Canary("r", "", "a" * 32, time.time())
    beats.sent(own)
    for forged in (Canary("r", "", "b" * 32, 0.0), Canary("r", "", "b" * 32, 99999999999.0)):
        arrived(route, forged)
    shown = route.snapshot()["heartbeat"]
    assert (shown["last_arrived"], shown["transit"], shown["unknown"]) == (None, None, 2)
    assert 'nats_sqs_bridge_heartbeat_seconds{route="r"} NaN' in observation.exposition()[0].decode()
    beats.restarting()  # of an earlier life of the route, and still its own
    beats.expected(30.0)
    arrived(route, own)
    at, transit = beats.last_arrived, beats.transit
    assert at is not None
    assert transit is not None
    arrived(route, own)  # read where it landed, and copied
    assert (beats.last_arrived, beats.transit, beats.unknown) == (at, transit, 3)


def test_what_is_remembered_of_heartbeats_is_bounded() -> None:
    _, route = running_route()
    for number in range(100):
        route.heartbeats.sent(Canary("r", "", f"{number:032x}", 0.0))
    arrived(route, Canary("r", "", f"{0:032x}", 0.0))
    assert route.heartbeats.unknown == 1
    arrived(route, Canary("r", "", f"{99:032x}", 0.0))
    assert route.heartbeats.last_arrived is not None


async def test_one_that_got_lost_does_not_silence_the_heart_for_good() -> None:
    _, route = running_route()
    into = MemoryDestination()
    async with asyncio.TaskGroup() as group:
        beating = group.create_task(beat(Heart("r", "", 0.002, into, into_queue), route.heartbeats))
        await until(lambda: len(into.kept) == 3)
        beating.cancel()


async def test_a_source_that_takes_none_is_reported_and_tried_again() -> None:
    observation, route = running_route()
    into = MemoryDestination(lambda out, tries: Unavailable("down"))
    async with asyncio.TaskGroup() as group:
        beating = group.create_task(beat(Heart("r", "", 0.002, into, into_queue), route.heartbeats))
        await until(lambda: into.calls == 4)
        beating.cancel()
    shown = route.snapshot()["heartbeat"]
    assert shown["failed"] >= 3
    assert shown["last_arrived"] is None
    assert route.unready() is None
    assert 'nats_sqs_bridge_heartbeat_seconds{route="r"} NaN' in observation.exposition()[0].decode()


def test_a_route_without_heartbeats_shows_none() -> None:
    observation, route = running_route()
    assert route.snapshot()["heartbeat"] is None
    assert "nats_sqs_bridge_heartbeat_seconds{" not in observation.exposition()[0].decode()


async def test_a_route_that_loses_its_heartbeat_at_a_reload_stops_showing_it() -> None:
    observation, route = running_route()
    heart = Heart("r", "", 0.002, MemoryDestination(), into_queue)
    async with asyncio.TaskGroup() as group:
        beating = group.create_task(beat(heart, route.heartbeats))
        await until(lambda: route.heartbeats.last_sent is not None)
        beating.cancel()
    arrived(route, Canary("r", "", "0" * 32, time.time()))
    assert 'nats_sqs_bridge_heartbeat_seconds{route="r"}' in observation.exposition()[0].decode()
    await beat(None, route.heartbeats)
    assert route.snapshot()["heartbeat"] is None
    assert "nats_sqs_bridge_heartbeat_seconds{" not in observation.exposition()[0].decode()
