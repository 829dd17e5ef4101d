"""One NATS connection: what nats-py does differently from what its callers need."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bridge.embedded import NatsServer
from bridge.legs.nats import NatsConnection, NatsOptions

pytestmark = pytest.mark.server


async def test_a_cancel_that_comes_with_the_answer_is_not_forgotten(nats_server: NatsServer) -> None:
    async with NatsConnection(NatsOptions((nats_server.url,))) as nats:
        await nats.api("INFO")  # from here on the inbox of requests is there
        asking = asyncio.create_task(nats.api("INFO"))
        async with asyncio.timeout(20):
            while not nats.replies._waiting:
                await asyncio.sleep(0)
            ((answer, _),) = nats.replies._waiting.values()
            while not answer.done.done():
                await asyncio.sleep(0)
        assert asking.cancel()  # it has not heard of the answer yet
        with pytest.raises(asyncio.CancelledError):
            await asking


async def test_what_is_answered_in_time_counts_and_the_rest_is_none(nats_server: NatsServer) -> None:
    async with NatsConnection(NatsOptions((nats_server.url,))) as nats:
        client = await nats.live()

        async def echo(message: Any) -> None:
            await message.respond(message.data)

        await client.subscribe("answers", cb=echo)
        await client.subscribe("silent")
        asked = [("answers", b"1", b""), ("silent", b"2", b""), ("answers", b"3", b"")]
        replies = await nats.replies.ask(asked, 0.5)
        assert [reply and reply.data for reply in replies] == [b"1", None, b"3"]


async def test_more_than_there_is_room_for_at_once_is_asked_all_the_same(nats_server: NatsServer) -> None:
    async with NatsConnection(NatsOptions((nats_server.url,))) as nats:
        client = await nats.live()

        async def count(message: Any) -> None:
            await message.respond(b"%d" % len(message.data))

        await client.subscribe("counts", cb=count)
        asked = [("counts", b"x" * 500_000, b"")] * 12
        assert not client.has_room([("counts", "", b"", payload) for _, payload, _ in asked])
        replies = await nats.replies.ask(asked, 20)
        assert [reply and reply.data for reply in replies] == [b"500000"] * 12
