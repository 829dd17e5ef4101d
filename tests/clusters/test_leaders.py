"""A stream or consumer without a leader is an outage: no message is blamed, no setting, and it is over at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from nats.aio.client import Client

from bridge.core.errors import BridgeError, NotUsable, Unavailable
from bridge.core.models import JetStreamMessage, JetStreamOut
from bridge.core.route import Ack, Receipt, Settlement
from bridge.legs.consumer import open_consumer
from bridge.legs.jetstream import JetStreamSource
from bridge.legs.nats import NatsConnection, NatsOptions
from bridge.legs.stream import JetStreamDestination, open_destination
from tests.clusters.cluster import Cluster, ask, leader_of

BACK = 8.0  # seconds from a leader's return, as far as a test may say: 5 are promised


@pytest.fixture
async def nats(cluster: Cluster) -> AsyncIterator[NatsConnection]:
    async with NatsConnection(NatsOptions(cluster.urls)) as connection:
        yield connection


async def stream(client: Client, name: str, replicas: int) -> None:
    await ask(client, f"STREAM.CREATE.{name}", {"name": name, "subjects": [f"{name}.>"], "num_replicas": replicas})


async def published(destination: JetStreamDestination, out: JetStreamOut) -> Receipt | BridgeError:
    try:
        (answer,) = await destination.publish([out])
    except BridgeError as error:
        return error
    return answer


async def until_published(destination: JetStreamDestination, out: JetStreamOut) -> list[BridgeError]:
    """The errors before it was stored."""
    errors: list[BridgeError] = []
    deadline = time.monotonic() + 60
    while not isinstance(answer := await published(destination, out), Receipt):
        errors.append(answer)
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    return errors


async def test_a_stream_whose_leader_was_killed_is_an_outage(
    cluster: Cluster, client: Client, nats: NatsConnection, name: str
) -> None:
    await stream(client, name, 3)
    destination = await open_destination(nats, pattern=f"{name}.*", stream=None)
    leader = await leader_of(client, name)
    cluster.kill(leader)
    try:
        errors = [
            error
            for n in range(10)
            for error in await until_published(destination, JetStreamOut(f"{name}.x", b"x", str(n)))
        ]
        assert all(isinstance(each, Unavailable) for each in errors), errors
        state = (await ask(client, f"STREAM.INFO.{name}"))["state"]
        assert state["messages"] == 10
    finally:
        cluster.start(leader)


async def test_a_stream_without_any_server_is_named_and_is_back_at_once(
    cluster: Cluster, client: Client, nats: NatsConnection, name: str
) -> None:
    await stream(client, name, 1)
    destination = await open_destination(nats, pattern=f"{name}.*", stream=None)
    only = await leader_of(client, name)
    cluster.kill(only)
    deadline = time.monotonic() + 30
    while f"stream {name} has no leader" not in str(
        error := await published(destination, JetStreamOut(f"{name}.x", b"x", "1"))
    ):
        assert isinstance(error, Unavailable), error
        assert time.monotonic() < deadline, error
        await asyncio.sleep(0.1)  # while it is down, no call waits for anything: the client must come to reconnect
    cluster.start(only)
    await leader_of(client, name)
    began = time.monotonic()
    errors = await until_published(destination, JetStreamOut(f"{name}.x", b"x", "1"))
    assert time.monotonic() - began < BACK
    assert all(isinstance(each, Unavailable) for each in errors), errors


async def test_a_subject_no_stream_captures_is_still_the_messages_own(
    client: Client, nats: NatsConnection, name: str
) -> None:
    await ask(client, f"STREAM.CREATE.{name}", {"name": name, "subjects": [f"{name}.a"], "num_replicas": 3})
    destination = await open_destination(nats, pattern=f"{name}.*", stream=None)
    answer = await published(destination, JetStreamOut(f"{name}.b", b"x", "1"))
    assert "no stream captures" in str(answer)
    assert not isinstance(answer, Unavailable)


async def test_a_consumer_whose_leader_was_killed_is_an_outage(
    cluster: Cluster, client: Client, nats: NatsConnection, name: str
) -> None:
    await stream(client, name, 3)
    config = {"durable_name": "c", "ack_policy": "explicit", "ack_wait": 60 * 10**9}
    await ask(client, f"CONSUMER.CREATE.{name}.c", {"stream_name": name, "config": config})
    for n in range(20):
        await client.publish(f"{name}.x", b"%d" % n)
    source = JetStreamSource(nats, await open_consumer(nats, name, "c"))
    leader = await leader_of(client, name, "c")
    first = await source.receive(5)
    cluster.kill(leader)
    try:
        assert await source.settle([Settlement(each, Ack()) for each in first]) == [None] * len(first)
        got = {each.id for each in first}
        deadline = time.monotonic() + 60
        while len(got) < 20:
            assert time.monotonic() < deadline, got
            try:
                more = await source.receive(5)
            except Unavailable:
                await asyncio.sleep(0.1)
                continue
            await source.settle([Settlement(each, Ack()) for each in more])
            got |= {each.id for each in more}
            assert all(isinstance(each.message, JetStreamMessage) for each in more)
    finally:
        cluster.start(leader)
        await source.close()


async def test_an_api_that_answered_before_is_an_outage_and_one_that_never_did_a_setting(cluster: Cluster) -> None:
    async with NatsConnection(NatsOptions(cluster.urls, domain="elsewhere")) as wrong:
        with pytest.raises(NotUsable, match=r"nothing answers .*is nats.domain right") as raised:
            await wrong.api("INFO")
        assert raised.value.outage  # looked at again within seconds: a link may be down
        wrong._answered = True
        with pytest.raises(Unavailable, match="answered before"):
            await wrong.api("INFO")
