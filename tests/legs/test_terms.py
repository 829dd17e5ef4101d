"""Streams and consumers that are created again or edited while a route runs: what was read when it opened is compared,
and nothing is taken for what had the same name or number before."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bridge.core.errors import LeaseLost, NotUsable, Refused, Unavailable
from bridge.core.mapping.nats_to_sqs import nats_to_sqs
from bridge.core.mapping.parked import park_to_jetstream, park_to_sqs
from bridge.core.models import JetStreamMessage, JetStreamOut, SqsOut
from bridge.core.route import Ack, Delivery, Mapped, Settlement
from bridge.embedded import NatsServer
from bridge.legs.consumer import open_consumer
from bridge.legs.jetstream import JetStreamSource
from bridge.legs.nats import NatsConnection, NatsOptions
from bridge.legs.stream import open_destination
from bridge.legs.terms import changed
from tests.legs.test_jetstream import add_consumer, add_stream

pytestmark = pytest.mark.server


@pytest.fixture
async def nats(nats_server: NatsServer) -> AsyncIterator[NatsConnection]:
    async with NatsConnection(NatsOptions((nats_server.url,))) as connection:
        yield connection


async def edit(nats: NatsConnection, stream: str, **settings: Any) -> None:
    config = (await nats.api(f"STREAM.INFO.{stream}"))["config"]
    await nats.api(f"STREAM.UPDATE.{stream}", {**config, **settings})


async def edit_consumer(nats: NatsConnection, stream: str, name: str, **settings: Any) -> None:
    config = {**(await nats.api(f"CONSUMER.INFO.{stream}.{name}"))["config"], **settings}
    await nats.api(f"CONSUMER.CREATE.{stream}.{name}", {"stream_name": stream, "config": config})


async def put(nats: NatsConnection, stream: str, *payloads: bytes) -> None:
    client = await nats.live()
    await client.send([(f"{stream}.x", "", b"", each) for each in payloads])
    await client.flush()


async def taken(source: JetStreamSource, count: int) -> list[Delivery]:
    found: list[Delivery] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            found += await source.receive(count)
    return found


def payload(delivery: Delivery) -> bytes:
    assert isinstance(delivery.message, JetStreamMessage)
    return delivery.message.payload


async def test_a_stream_created_again_has_new_messages_under_old_numbers(nats: NatsConnection, name: str) -> None:
    """Before: the new message was taken for a redelivery of the old one, dropped, and acknowledged with it."""
    await add_stream(nats, name)
    await add_consumer(nats, name, "c")
    source = JetStreamSource(nats, await open_consumer(nats, name, "c"))
    await put(nats, name, b"old-1", b"old-2")
    old = await taken(source, 2)
    await nats.api(f"STREAM.DELETE.{name}")
    await add_stream(nats, name)
    await add_consumer(nats, name, "c")
    await put(nats, name, b"new-1", b"new-2", b"new-3")
    new = await taken(source, 3)
    assert [payload(each) for each in new] == [b"new-1", b"new-2", b"new-3"]
    answers = await source.settle([Settlement(each, Ack()) for each in old])
    assert [type(each) for each in answers] == [LeaseLost, LeaseLost]
    assert (await nats.api(f"CONSUMER.INFO.{name}.c"))["num_ack_pending"] == 3
    assert await source.settle([Settlement(each, Ack()) for each in new]) == [None] * 3
    assert (await nats.api(f"CONSUMER.INFO.{name}.c"))["num_ack_pending"] == 0
    await source.close()


async def test_what_a_widened_filter_brings_is_not_carried(nats: NatsConnection, name: str) -> None:
    await add_stream(nats, name)
    await add_consumer(nats, name, "c", filter_subject=f"{name}.public")
    source = JetStreamSource(nats, await open_consumer(nats, name, "c"))
    await edit_consumer(nats, name, "c", filter_subject=f"{name}.>")
    client = await nats.live()
    await client.send([(f"{name}.private", "", b"", b"no"), (f"{name}.public", "", b"", b"yes")])
    assert [payload(each) for each in await taken(source, 1)] == [b"yes"]
    assert (await nats.api(f"CONSUMER.INFO.{name}.c"))["num_ack_pending"] == 2
    await source.close()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("again", "was deleted and created again"),
        ("gone", "stream {name} was deleted"),
        ("stream", "stream {name} was edited: max_msgs"),
        ("consumer", "consumer c of {name} was edited: ack_wait"),
        ("consumer again", "consumer c of {name} was deleted and created again"),
        ("consumer gone", "consumer c of {name} was deleted"),
    ],
)
async def test_every_change_is_found_and_named(nats: NatsConnection, name: str, change: str, why: str) -> None:
    await add_stream(nats, name)
    await add_consumer(nats, name, "c")
    terms = (await open_consumer(nats, name, "c")).terms
    assert await changed(nats, terms) is None
    match change:
        case "again":
            await nats.api(f"STREAM.DELETE.{name}")
            await add_stream(nats, name)
            await add_consumer(nats, name, "c")
        case "gone":
            await nats.api(f"STREAM.DELETE.{name}")
        case "stream":
            await edit(nats, name, max_msgs=1000)
        case "consumer":
            await edit_consumer(nats, name, "c", ack_wait=7 * 10**9)
        case "consumer again":
            await nats.api(f"CONSUMER.DELETE.{name}.c")
            await add_consumer(nats, name, "c")
        case _:
            await nats.api(f"CONSUMER.DELETE.{name}.c")
    assert why.format(name=name) in str(await changed(nats, terms))


async def test_the_last_consumer_of_an_interest_stream(nats: NatsConnection, name: str) -> None:
    await add_stream(nats, name, retention="interest")
    await add_consumer(nats, name, "c")
    destination = await open_destination(nats, pattern=f"{name}.*", stream=None)
    assert await changed(nats, destination.terms) is None
    await nats.api(f"CONSUMER.DELETE.{name}.c")
    assert "keeps nothing without one" in str(await changed(nats, destination.terms))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"headers_only": True}, "headers only"),
        ({"inactive_threshold": 60 * 10**9}, "is deleted after 60 s without a reader"),
        ({"max_expires": 10**7}, "may wait 0.01 s"),
    ],
)
async def test_a_consumer_that_would_lose_messages_is_refused(
    nats: NatsConnection, name: str, settings: dict[str, Any], words: str
) -> None:
    await add_stream(nats, name)
    await add_consumer(nats, name, "c", **settings)
    with pytest.raises(NotUsable, match=words) as raised:
        await open_consumer(nats, name, "c")
    assert raised.value.hint


async def test_a_pull_of_large_messages_is_bounded_in_bytes(nats: NatsConnection, name: str) -> None:
    """All at once, the server would cut a connection that does not take them in time, and every one comes again."""
    await add_stream(nats, name, storage="file")
    await add_consumer(nats, name, "c", max_ack_pending=1000)
    source = JetStreamSource(nats, await open_consumer(nats, name, "c"))
    await nats.replies.ask([(f"{name}.x", b"x" * 900_000, b"")] * 40, 20)
    found: list[Delivery] = []
    async with asyncio.timeout(20):
        while len(found) < 40:
            more = await source.receive(200)
            assert sum(len(payload(each)) for each in more) <= 16_777_216
            found += more
    assert {each.attempt for each in found} == {1}
    await source.settle([Settlement(each, Ack()) for each in found])
    await source.close()


async def test_a_consumer_that_limits_the_bytes_of_a_pull(nats: NatsConnection, name: str) -> None:
    await add_stream(nats, name)
    await add_consumer(nats, name, "c", max_bytes=100_000)
    source = JetStreamSource(nats, await open_consumer(nats, name, "c"))
    await put(nats, name, b"x", b"y")
    assert len(await taken(source, 2)) == 2
    await source.close()


async def test_pulls_are_as_long_as_the_consumer_allows(nats: NatsConnection, name: str) -> None:
    await add_stream(nats, name)
    await add_consumer(nats, name, "c", max_expires=10**9)
    source = JetStreamSource(nats, await open_consumer(nats, name, "c"))
    assert await source.receive(1) == []
    await put(nats, name, b"x")
    assert len(await taken(source, 1)) == 1
    await source.close()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"no_ack": True}, "acknowledges no publish"),
        ({"sealed": True}, "is sealed"),
        ({"allow_msg_counter": True, "allow_direct": True}, "stream of counters"),
    ],
)
async def test_a_stream_that_takes_no_messages_is_refused(
    nats: NatsConnection, name: str, settings: dict[str, Any], words: str
) -> None:
    await add_stream(nats, name, **{key: each for key, each in settings.items() if key != "sealed"})
    if "sealed" in settings:
        await edit(nats, name, sealed=True)
    with pytest.raises(NotUsable, match=words):
        await open_destination(nats, pattern=f"{name}.*", stream=None)


# -- names that no other message has


def message(stored: float) -> JetStreamMessage:
    return JetStreamMessage("orders.x", b"x", "ORDERS", 5, stored)


def test_the_same_number_in_a_stream_created_again_is_another_id() -> None:
    """A FIFO queue would drop the new message for a duplicate, and so would the ledger, whose key it is."""

    def dedup_id(stored: float) -> str | None:
        mapped = nats_to_sqs(fifo=True)(message(stored))
        assert isinstance(mapped, Mapped)
        assert isinstance(mapped.out, SqsOut)
        return mapped.out.dedup_id

    assert dedup_id(1_700_000_000.0) != dedup_id(1_700_000_000.5)
    assert dedup_id(1_700_000_000.5) == dedup_id(1_700_000_000.5)


def test_it_is_parked_under_another_id_as_well() -> None:
    def ids(stored: float) -> tuple[str, str | None]:
        delivery, why = Delivery(message(stored), "ORDERS:5", 1, stored, 0.0), Refused("no")
        stream = park_to_jetstream(route="r", source="s", subject="p")(delivery, why)
        queue = park_to_sqs(route="r", source="s", fifo=True)(delivery, why)
        assert isinstance(stream, JetStreamOut)
        assert isinstance(queue, SqsOut)
        return stream.msg_id, queue.dedup_id

    first, second = ids(1_700_000_000.0), ids(1_700_000_000.5)
    assert first[0] != second[0]
    assert first[1] != second[1]


# -- acks that are denied


async def test_denied_acks_stop_the_route_before_it_floods_the_other_side(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.legs.acks.ACK_SECONDS", 0.3)
    rights = 'publish: {{allow: ["$JS.API.>", "{0}.>"{1}]}}'
    config = "authorization {{ users = [ {{ user: bridge, password: b, permissions: {{ {0} }} }} ] }}"
    server = NatsServer(tmp_path / "nats", config=config.format(rights.format(name, "")))
    with server:
        url = server.url.replace("nats://", "nats://bridge:b@")
        async with NatsConnection(NatsOptions((url,))) as nats:
            await add_stream(nats, name)
            await add_consumer(nats, name, "c", ack_wait=10**9)
            source = JetStreamSource(nats, await open_consumer(nats, name, "c"))
            await put(nats, name, b"a", b"b", b"c")
            first = await taken(source, 3)
            answers = await source.settle([Settlement(each, Ack()) for each in first])
            assert all("acks are denied" in str(each) for each in answers)
            with pytest.raises(NotUsable, match=rf"allow this user to publish \$JS.ACK.{name}.c.>"):
                await source.receive(10)
            source._acks.probe_at = 0.0
            (probe,) = await taken(source, 1)  # and no more than one
            server.config = config.format(rights.format(name, ', "$JS.ACK.>"'))
            server.command()  # writes its file
            os.kill(server.pid, signal.SIGHUP)
            async with asyncio.timeout(20):
                while (answer := (await source.settle([Settlement(probe, Ack())]))[0]) is not None:
                    assert isinstance(answer, NotUsable | Unavailable | LeaseLost), answer
                    source._acks.probe_at = 0.0
                    (probe,) = await taken(source, 1)
            assert len(await taken(source, 2)) == 2
            await source.close()
