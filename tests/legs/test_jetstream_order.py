"""JetStream read in order: the exam once more, handovers between readers, and messages that ran out of deliveries."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from bridge.core.errors import NotUsable
from bridge.core.models import JetStreamMessage
from bridge.core.route import Ack, Delivery, Retry, Settlement
from bridge.legs.consumer import open_consumer
from bridge.legs.jetstream import JetStreamSource
from bridge.legs.nats import NatsConnection
from tests.legs.exam import SourceExam, settlements, take, until
from tests.legs.test_jetstream import JetStreamSourceCandidate, add_consumer, add_stream, nats

pytestmark = pytest.mark.server

__all__ = ["nats"]


class TestOrderedJetStreamSource(SourceExam):
    @pytest.fixture
    async def candidate(
        self, nats: NatsConnection, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> JetStreamSourceCandidate:
        monkeypatch.setattr("bridge.legs.jetstream.POLL_SECONDS", 0.3)
        await add_stream(nats, name)
        await add_consumer(nats, name, "c", ack_wait=2 * 10**9)
        consumer = await open_consumer(nats, name, "c", ordered=True)
        return JetStreamSourceCandidate(nats, name, JetStreamSource(nats, consumer, ordered=True), 2.0)


def numbers(deliveries: Sequence[Delivery]) -> list[int]:
    return [each.message.sequence for each in deliveries if isinstance(each.message, JetStreamMessage)]


async def reader(nats: NatsConnection, name: str) -> JetStreamSource:
    return JetStreamSource(nats, await open_consumer(nats, name, "c"), ordered=True)


async def test_what_a_dead_reader_held_is_delivered_before_anything_newer(
    nats: NatsConnection, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.legs.jetstream.POLL_SECONDS", 0.3)
    await add_stream(nats, name)
    await add_consumer(nats, name, "c", ack_wait=2 * 10**9)
    await JetStreamSourceCandidate(nats, name, await reader(nats, name), 2.0).put(30)
    dead = await reader(nats, name)
    held = await take(dead, 10)  # and never a word of it again
    await dead.settle(settlements(held[:4], Ack()))
    heir = await reader(nats, name)
    assert numbers(await take(heir, 26)) == list(range(5, 31))


async def test_a_reader_that_gives_back_hands_over_at_once(
    nats: NatsConnection, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.legs.jetstream.POLL_SECONDS", 0.3)
    await add_stream(nats, name)
    await add_consumer(nats, name, "c", ack_wait=600 * 10**9)  # nobody waits for that here
    await JetStreamSourceCandidate(nats, name, await reader(nats, name), 600.0).put(20)
    leaving = await reader(nats, name)
    await leaving.release(await take(leaving, 10))
    assert numbers(await take(await reader(nats, name), 20)) == list(range(1, 21))


async def test_pauses_and_reloads_do_not_starve_a_handover(
    nats: NatsConnection, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dead reader held more than is kept back, and each new one is there for less than an ack wait."""
    monkeypatch.setattr("bridge.legs.jetstream.POLL_SECONDS", 0.3)
    monkeypatch.setattr("bridge.legs.jetstream.KEPT", 20)
    await add_stream(nats, name)
    await add_consumer(nats, name, "c", ack_wait=4 * 10**9)
    dead = await reader(nats, name)
    await JetStreamSourceCandidate(nats, name, dead, 4.0).put(400)
    await take(dead, 120)  # and never a word of it again
    got: list[Delivery] = []
    async with asyncio.timeout(15):
        while not got:
            heir = await reader(nats, name)
            tending = asyncio.create_task(heir.tend())
            resting = asyncio.get_running_loop().time() + 2.0
            while not got and asyncio.get_running_loop().time() < resting:
                got = list(await heir.receive(200))
            tending.cancel()
            await asyncio.gather(tending, return_exceptions=True)
            await heir.close()
    assert numbers(got) == list(range(1, len(got) + 1))


async def test_two_readers_side_by_side_are_noticed(
    nats: NatsConnection, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.legs.jetstream.APART_SECONDS", 0)
    await add_stream(nats, name)
    await add_consumer(nats, name, "c")
    mine, other = await reader(nats, name), await reader(nats, name)
    pulling = asyncio.create_task(other.receive(1))
    await until(lambda: other._pulls == 1)
    for _ in range(2):
        info = await nats.api(f"CONSUMER.INFO.{name}.c")
        assert info["num_waiting"] == 1
        await mine.backlog()
    with pytest.raises(NotUsable, match="has another reader"):
        await mine.receive(1)
    await JetStreamSourceCandidate(nats, name, other, 2.0).put(1)
    await pulling
    await mine.backlog()
    assert mine._intruded == 0


async def test_a_message_that_runs_out_while_we_run_is_delivered_once_more_to_be_parked(
    nats: NatsConnection, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.legs.jetstream.POLL_SECONDS", 0.3)
    await add_stream(nats, name)
    await add_consumer(nats, name, "c", ack_wait=10**9, max_deliver=2)
    consumer = await open_consumer(nats, name, "c")
    source = JetStreamSource(nats, consumer, exhausted=True)
    assert list(await source.receive(1)) == []  # it listens from its first receive on
    await JetStreamSourceCandidate(nats, name, source, 1.0).put(1)
    (first,) = await take(source, 1)
    await source.settle([Settlement(first, Retry(0))])
    (second,) = await take(source, 1)
    assert (first.last, second.last) == (False, True)
    await source.settle([Settlement(second, Retry(0))])
    (given_up,) = await take(source, 1)
    assert isinstance(given_up.hopeless, Exception)
    assert "delivered 2 times" in str(given_up.hopeless)
    message = given_up.message
    assert isinstance(message, JetStreamMessage)
    assert (message.payload, message.sequence, message.delivered) == (b"0", 1, 2)
    assert list(await source.settle([Settlement(given_up, Ack())])) == [None]
    info = await nats.api(f"STREAM.INFO.{name}")
    assert info["state"]["messages"] == 1  # not a work queue: others may read it yet
    assert list(await source.receive(1)) == []
