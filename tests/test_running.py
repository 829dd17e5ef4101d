"""The life of a route, on memory legs: whatever is asked of it in whatever order, and whatever dies underneath."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from math import inf
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.config import Config
from bridge.core.control import ACTIONS, Action
from bridge.core.errors import NotUsable
from bridge.core.mapping.heartbeat import into_queue
from bridge.core.models import JetStreamOut, Message, SqsMessage
from bridge.core.route import Mapped
from bridge.daemon import Daemon
from bridge.heartbeats import Heart
from bridge.legs.aws import AwsConnection, AwsOptions
from bridge.legs.memory import MemoryDestination, MemorySource
from bridge.legs.nats import NatsConnection, NatsOptions
from bridge.observe import Observation
from bridge.pump import STRIKES
from bridge.routes import OpenRoute
from bridge.running import RunningRoute


def config(*names: str, **more: Any) -> Config:
    routes = [
        {"name": name, "source": {"kind": "sqs", "queue": name}, "destination": {"kind": "jetstream", "subject": "s"}}
        for name in names
    ]
    found = Config.model_validate({"routes": routes, "http": {"port": 0}, "sampling": {"every": 1}, **more})
    quick = [route.model_copy(update={"drain_seconds": 0.02}) for route in found.routes]
    return found.model_copy(update={"routes": quick})


def message(name: str) -> SqsMessage:
    return SqsMessage(message_id=name, body=name, queue="q", queue_arn="arn:aws:sqs:eu-west-1:1:q")


def mapping(one: Message) -> Mapped:
    assert isinstance(one, SqsMessage)
    return Mapped(JetStreamOut("s", one.body.encode(), one.message_id))


class World:
    """Both sides of a route. `opening` fails so many times before it opens."""

    def __init__(self) -> None:
        self.source = MemorySource(wait=0.01)
        self.destination = MemoryDestination()
        self.opening = 0
        self.sent = 0

    def send(self, count: int) -> None:
        self.source.put(*(message(f"m{self.sent + n}") for n in range(count)))
        self.sent += count

    async def open(self, *_: object, **__: object) -> OpenRoute:
        await asyncio.sleep(0)
        if self.opening:
            self.opening -= 1
            raise NotUsable("it is not there yet")
        return OpenRoute(
            self.source,
            self.destination,
            mapping,
            None,
            2,
            "sqs q",
            "jetstream s",
            AsyncExitStack(),
            inf,
            "sqs",
            [],
            "",
        )


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)


STEPS = st.lists(
    st.one_of(
        st.sampled_from(ACTIONS),
        st.sampled_from(["shut", "open", "settle"]),
        st.integers(1, 15),
    ),
    max_size=20,
)


@given(STEPS, st.integers(0, 1), st.booleans())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_asked_in_whatever_order_nothing_is_lost_or_carried_twice(
    monkeypatch: pytest.MonkeyPatch, steps: list[Action | str | int], opening: int, stopped: bool
) -> None:
    async def scene() -> None:
        world, whole = World(), config("in")
        world.opening = opening
        monkeypatch.setattr("bridge.running.open_route", world.open)
        monkeypatch.setattr("bridge.running.backoff", lambda *_: 0.001)
        observation = Observation().route("in")
        route = RunningRoute(
            whole.routes[0],
            NatsConnection(NatsOptions(("nats://127.0.0.1:1",))),
            AwsConnection(AwsOptions()),
            observation,
            whole=whole,
            longest_poll=1.0,
            patience=0.05,
        )
        life = asyncio.create_task(route.run())
        for step in steps:
            match step:
                case int():
                    world.send(step)
                case "shut":  # the destination answers no more
                    world.destination.gate.clear()
                case "open":
                    world.destination.gate.set()
                case "settle":
                    with suppress(TimeoutError):
                        async with asyncio.timeout(0.3):
                            await until(lambda: observation.state in ("paused", "drained"))
                case "pause" | "resume" | "drain":
                    route.act(step, "test")
                case _:
                    raise AssertionError(step)
            await asyncio.sleep(0.002)
            if observation.state in ("paused", "drained"):
                carried = len(world.destination.kept)
                assert observation.in_flight_messages == 0
                await asyncio.sleep(0.02)
                assert len(world.destination.kept) == carried  # at rest, it carries nothing
                assert observation.unready() is None
        world.destination.gate.set()
        if stopped:
            route.stop()
            await asyncio.wait_for(life, 30)
            assert observation.state == "stopped"
            assert (await world.source.backlog()).in_flight == 0
            assert len(world.source) + len(world.destination.kept) == world.sent
            return
        assert route.act("resume", "test").kind == "done"
        await until(lambda: len(world.destination.kept) == world.sent)
        await until(lambda: not len(world.source))
        route.act("drain", "test")
        await until(lambda: observation.state == "drained")
        assert sorted(world.source.acked) == sorted(f"m{n}" for n in range(world.sent))
        route.stop()
        await asyncio.wait_for(life, 30)

    asyncio.run(scene())


async def test_a_pause_waits_for_no_patience_when_all_goes_well(monkeypatch: pytest.MonkeyPatch) -> None:
    world, whole = World(), config("in")
    monkeypatch.setattr("bridge.running.open_route", world.open)
    observation = Observation().route("in")
    nats, aws = NatsConnection(NatsOptions(("nats://127.0.0.1:1",))), AwsConnection(AwsOptions())
    route = RunningRoute(whole.routes[0], nats, aws, observation, whole=whole, longest_poll=1.0, patience=3600.0)
    life = asyncio.create_task(route.run())
    world.send(5)
    await until(lambda: len(world.destination.kept) == 5)
    route.act("pause", "test")
    await until(lambda: observation.state == "paused")
    route.stop()
    await asyncio.wait_for(life, 30)


class Broken(MemorySource):
    """Fails as no one expected, so many times."""

    def __init__(self, times: int) -> None:
        super().__init__(wait=0.01)
        self.times = times

    async def receive(self, limit: int) -> Any:
        if self.times:
            self.times -= 1
            raise ZeroDivisionError("card 4111")
        return await super().receive(limit)


def opening(worlds: dict[str, World]) -> Any:
    async def opened(route: Any, *rest: object, **more: object) -> OpenRoute:
        return await worlds[route.name].open()

    return opened


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.running.backoff", lambda *_: 0.01)
    monkeypatch.setattr("bridge.pump.pause", lambda *_: 0.001)


def restarts(observation: Observation, route: str) -> float:
    text = observation.exposition()[0].decode()
    (line,) = re.findall(rf'^nats_sqs_bridge_route_restarts_total{{route="{route}"}} (.+)$', text, re.MULTILINE)
    return float(line)


@pytest.mark.usefixtures("impatient")
async def test_a_route_that_fails_starts_again_and_another_does_not_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    worlds = {"bad": World(), "good": World()}
    worlds["bad"].source = Broken(3 * STRIKES)
    monkeypatch.setattr("bridge.running.open_route", opening(worlds))
    observation, whole = Observation(), config("bad", "good")
    daemon = Daemon(whole, observation, lambda: whole)
    running = asyncio.create_task(daemon.run())
    for world in worlds.values():
        world.send(5)
    await until(lambda: len(worlds["good"].destination.kept) == 5)
    await until(lambda: len(worlds["bad"].destination.kept) == 5)
    assert (restarts(observation, "bad"), restarts(observation, "good")) == (3, 0)
    bad = observation.route("bad")
    observation.judge()
    await until(lambda: bad.state == "holding")  # it failed three times within five minutes: that is no passing trouble
    assert "failed 3 times in 5 minutes" in str(bad.snapshot()["trouble"])
    assert "4111" not in str(observation.snapshot())
    assert observation.route("good").state == "running"
    daemon.signalled()
    assert await running == 0


@pytest.mark.usefixtures("impatient")
async def test_a_route_that_always_fails_stops_when_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.source = Broken(10**9)
    monkeypatch.setattr("bridge.running.open_route", world.open)
    observation, whole = Observation(), config("in")
    daemon = Daemon(whole, observation, lambda: whole)
    running = asyncio.create_task(daemon.run())
    await until(lambda: "in" in observation.routes and restarts(observation, "in") > 2)
    assert any("unexpected ZeroDivisionError" in str(each) for each in [observation.route("in").snapshot()["trouble"]])
    daemon.signalled()
    assert await asyncio.wait_for(running, 30) == 0


async def test_a_look_a_heartbeat_and_the_judging_that_raise_stop_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()

    class Unseeable(MemorySource):
        async def backlog(self) -> Any:
            raise ZeroDivisionError

    class Silent(MemoryDestination):
        async def publish(self, messages: Any) -> Any:
            raise ZeroDivisionError

    world.source = Unseeable(wait=0.01)

    async def opened(*_: object, **__: object) -> OpenRoute:
        heart = Heart("in", "", 0.01, Silent(), into_queue)
        return dataclasses.replace(await world.open(), heart=heart)

    monkeypatch.setattr("bridge.running.open_route", opened)
    monkeypatch.setattr("bridge.sampling.JUDGE_SECONDS", 0.01)
    monkeypatch.setattr(Observation, "judge", lambda self: 1 / 0)
    observation, whole = Observation(), config("in")
    daemon = Daemon(whole, observation, lambda: whole)
    running = asyncio.create_task(daemon.run())
    await until(lambda: "in" in observation.routes and observation.route("in").waiting.own is not None)
    await until(lambda: observation.route("in").snapshot()["places"] != [])
    world.send(5)
    await until(lambda: len(world.destination.kept) == 5)
    assert restarts(observation, "in") == 0
    daemon.signalled()
    assert await running == 0


async def test_whatever_goes_wrong_with_the_new_file_what_runs_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    monkeypatch.setattr("bridge.running.open_route", world.open)
    observation = Observation()

    def load() -> Config:
        raise RecursionError

    daemon = Daemon(config("in"), observation, load)
    running = asyncio.create_task(daemon.run())
    await until(lambda: "in" in observation.routes and observation.route("in").state == "running")
    answer = await daemon.reload("test")
    assert (answer.kind, answer.facts["complaints"]) == ("invalid", ["the file cannot be read: RecursionError"])
    world.send(3)
    await until(lambda: len(world.destination.kept) == 3)
    daemon.signalled()
    assert await running == 0
    assert (await daemon.reload("test")).kind == "refused"


async def test_a_route_that_does_not_stop_in_time_is_abandoned_by_a_reload(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    monkeypatch.setattr("bridge.running.open_route", world.open)
    observation = Observation()
    daemon = Daemon(
        config("in", shutdown_timeout=1), observation, lambda: config("in", shutdown_timeout=1, nats={"domain": "x"})
    )
    running = asyncio.create_task(daemon.run())
    world.destination.gate.clear()
    world.send(2)
    await until(lambda: world.destination.entered.is_set())  # a publish that never returns
    answer = await daemon.reload("test")
    assert (answer.kind, answer.facts["restarted"]) == ("done", ("in",))
    world.destination.gate.set()
    assert observation.route("in").in_flight_messages == 0
    world.send(1)
    await until(lambda: len(world.destination.kept) >= 1)  # the next life carries; the two come back with their lease
    daemon.signalled()
    assert await running == 0


async def test_a_signal_before_anything_ran_ends_the_daemon_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.running.open_route", World().open)
    daemon = Daemon(config("in"), Observation(), lambda: config("in"))
    running = asyncio.create_task(daemon.run())
    while daemon._deadline is None:
        await asyncio.sleep(0)
    assert daemon._main is None
    daemon.signalled()
    assert await asyncio.wait_for(running, 30) == 0
