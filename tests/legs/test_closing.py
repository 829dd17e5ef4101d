"""Opened and closed a hundred times nothing stays: subscriptions on the server, descriptors, tasks. Each leg, and a
route that is paused and resumed."""

from __future__ import annotations

import asyncio
import gc
import json
import urllib.request
from contextlib import AsyncExitStack
from dataclasses import dataclass
from math import inf
from pathlib import Path

import pytest

from bridge.core.models import JetStreamMessage, JetStreamOut, Message, SnsOut, SqsOut
from bridge.core.route import Ack, Mapped, Receipt
from bridge.embedded import MotoServer, NatsServer, free_port
from bridge.legs.aws import AwsConnection, AwsOptions
from bridge.legs.consumer import open_consumer
from bridge.legs.jetstream import JetStreamSource
from bridge.legs.ledger import Ledgered, open_ledger
from bridge.legs.memory import MemoryDestination
from bridge.legs.nats import NatsConnection, NatsOptions
from bridge.legs.sns import SnsDestination, open_topic
from bridge.legs.sqs import SqsDestination, SqsSource, open_queue
from bridge.legs.stream import open_destination
from bridge.observe import Observation
from bridge.routes import OpenRoute, _closed_together
from bridge.running import RunningRoute
from tests.legs.aws_world import REGION, world
from tests.legs.exam import settlements, take, until
from tests.legs.test_jetstream import add_consumer, add_stream, nats
from tests.test_running import config

pytestmark = pytest.mark.server

__all__ = ["nats"]

CYCLES = 100


@dataclass(frozen=True)
class HeldOpen:
    subscriptions: int
    descriptors: int
    tasks: int


async def held_open(nats: NatsConnection) -> HeldOpen:
    """What is open once everything said so far has arrived."""
    client = await nats.live()
    await client.flush()
    gc.collect()
    assert len(client.sinks) <= len(client._subs)
    return HeldOpen(len(client._subs), descriptors(), len(asyncio.all_tasks()))


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("ordered", [False, True])
async def test_a_jetstream_source(nats: NatsConnection, name: str, ordered: bool) -> None:
    await add_stream(nats, name)
    await add_consumer(nats, name, "c", max_deliver=5)
    client = await nats.live()
    await client.send([(f"{name}.x", "", b"", b"x")] * (CYCLES + 2))
    before: HeldOpen | None = None
    for cycle in range(CYCLES + 2):
        # Not `ordered` at opening, for another reader of ours may have left a pull that has not ended.
        consumer = await open_consumer(nats, name, "c")
        source = JetStreamSource(nats, consumer, ordered=ordered, exhausted=True)
        tending = asyncio.create_task(source.tend())
        (lent,) = await take(source, 1)
        assert await source.settle(settlements([lent], Ack())) == [None]
        if cycle % 10 == 5:
            await source.resubscribe()
        tending.cancel()
        await asyncio.wait([tending])
        await source.close()
        await source.close()
        if cycle == 1:
            before = await held_open(nats)
    assert await held_open(nats) == before


async def test_a_source_that_hears_nothing_leaves_the_connection_of_others_alone(
    nats: NatsConnection, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.legs.jetstream.POLL_SECONDS", 0.1)
    await add_stream(nats, name)
    for consumer in "ab":
        await add_consumer(nats, name, consumer)
    before = await held_open(nats)
    stalled, other = [JetStreamSource(nats, await open_consumer(nats, name, each)) for each in "ab"]
    client = await nats.live()
    await client.publish(f"{name}.x", b"x")
    (held,) = await take(other, 1)
    assert len(await take(stalled, 1)) == 1
    for _ in range(5):
        await stalled.resubscribe()
        await client.publish(f"{name}.x", b"x")
        assert len(await take(stalled, 1)) == 1
    assert await nats.live() is client
    assert await other.settle(settlements([held], Ack())) == [None]
    await stalled.close()
    await other.close()
    assert await held_open(nats) == before


async def test_what_had_come_and_was_not_delivered_is_given_back_at_once(nats: NatsConnection, name: str) -> None:
    await add_stream(nats, name)
    await add_consumer(nats, name, "c", ack_wait=3600 * 10**9)
    source = JetStreamSource(nats, await open_consumer(nats, name, "c"))
    client = await nats.live()
    await client.send([(f"{name}.x", "", b"", b"%d" % number) for number in range(3)])
    lent = await take(source, 3)
    await source.release(lent[1:])
    await until(lambda: source._idle)
    source._idle[0].arrived += lent[2:]  # as if its pull had ended before it came
    source._loans[3] = lent[2].token  # type: ignore[assignment]
    await source.close()
    heir = JetStreamSource(nats, await open_consumer(nats, name, "c"))
    again = await take(heir, 2)
    assert {each.message.payload for each in again if isinstance(each.message, JetStreamMessage)} == {b"1", b"2"}
    await heir.close()


async def test_what_a_client_brought_late_before_it_closed_is_delivered(nats: NatsConnection, name: str) -> None:
    """Its lease is renewed for as long as it is in flight, so it would never come again."""
    await add_stream(nats, name)
    await add_consumer(nats, name, "c", ack_wait=3600 * 10**9)
    source = JetStreamSource(nats, await open_consumer(nats, name, "c"))
    client = await nats.live()
    await client.send([(f"{name}.x", "", b"", b"%d" % number) for number in range(3)])
    lent = await take(source, 3)
    await until(lambda: source._idle)
    source._idle[0].arrived += lent[2:]  # as if its pull had ended before it came
    await client.close()
    assert await source.receive(10) == lent[2:]
    assert await source.settle(settlements(lent, Ack())) == [None] * 3
    await source.close()


async def test_a_jetstream_destination_with_its_ledger(nats: NatsConnection, name: str) -> None:
    await add_stream(nats, name)
    await (await nats.live()).jetstream().create_key_value(bucket=name, ttl=60, direct=True)
    before: HeldOpen | None = None
    for cycle in range(CYCLES + 2):
        inner = await open_destination(nats, pattern=f"{name}.x", stream=None)
        destination = Ledgered(inner, await open_ledger(nats, name, source="a", destinations=["b"]))
        (answer,) = await destination.publish([JetStreamOut(f"{name}.x", b"", str(cycle), again=True)])
        assert isinstance(answer, Receipt)
        await destination.close()
        if cycle == 1:
            before = await held_open(nats)
    assert await held_open(nats) == before


async def test_the_aws_legs(nats: NatsConnection, moto_server: MotoServer, name: str) -> None:
    async with (
        world(moto_server.url) as aws_world,
        AwsConnection(AwsOptions(region=REGION, endpoint_url=moto_server.url)) as aws,
    ):
        url = await aws_world.queue(name)
        topic = await aws_world.topic(name)
        await aws_world.send(url, "x")
        before: HeldOpen | None = None
        for cycle in range(CYCLES + 2):
            source = SqsSource(aws, await open_queue(aws, name), wait_seconds=1)
            to_queue = SqsDestination(aws, source.queue)
            to_topic = SnsDestination(aws, await open_topic(aws, topic))
            assert isinstance((await to_queue.publish([SqsOut("x")]))[0], Receipt)
            assert isinstance((await to_topic.publish([SnsOut("x")]))[0], Receipt)
            (one,) = await take(source, 1)
            assert await source.settle(settlements([one], Ack())) == [None]
            for leg in (source, to_queue, to_topic):
                await leg.close()
            if cycle == 1:
                before = await held_open(nats)
        assert await held_open(nats) == before


def subscriptions_at(port: int) -> int:
    """As the server counts them, over all its connections."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/connz?subs=1", timeout=10) as answer:
        return sum(each["subscriptions"] for each in json.load(answer)["connections"])


async def test_a_route_that_is_paused_and_resumed(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.legs.jetstream.POLL_SECONDS", 0.01)
    whole = config(name)
    destination = MemoryDestination()

    def mapping(one: Message) -> Mapped:
        assert isinstance(one, JetStreamMessage)
        return Mapped(JetStreamOut("s", one.payload, str(one.sequence)))

    async with AsyncExitStack() as stack:
        port = free_port()
        server = stack.enter_context(NatsServer(tmp_path / "nats", config=f"http: 127.0.0.1:{port}"))
        nats = await stack.enter_async_context(NatsConnection(NatsOptions((server.url,))))
        aws = await stack.enter_async_context(AwsConnection(AwsOptions()))
        await add_stream(nats, name)
        await add_consumer(nats, name, "c", max_deliver=5)

        async def opened(*_: object, **__: object) -> OpenRoute:
            source = JetStreamSource(nats, await open_consumer(nats, name, "c"), exhausted=True)
            made = OpenRoute(
                source, destination, mapping, None, 2, "a", "b", AsyncExitStack(), inf, "jetstream", [], ""
            )
            return _closed_together(made)

        monkeypatch.setattr("bridge.running.open_route", opened)
        observation = Observation().route(name)
        route = RunningRoute(whole.routes[0], nats, aws, observation, whole=whole, longest_poll=1.0, patience=3600.0)
        life = asyncio.create_task(route.run())
        client = await nats.live()
        before: tuple[HeldOpen, int] | None = None
        for cycle in range(CYCLES + 3):
            await client.publish(f"{name}.x", b"x")
            await until(lambda: len(destination.kept) == cycle + 1)  # noqa: B023 - awaited within the cycle
            route.act("pause", "test")
            await until(lambda: observation.state == "paused")
            if cycle in (2, CYCLES + 2):
                now = await held_open(nats), await asyncio.to_thread(subscriptions_at, port)
                before = before or now
                assert now == before
            route.act("resume", "test")
        route.stop()
        await asyncio.wait_for(life, 30)
        assert destination.closed
