"""One NATS connection: what nats-py does differently from what its callers need."""

from __future__ import annotations

import asyncio

import pytest

from bridge.embedded import NatsServer
from bridge.legs.nats import NatsConnection, NatsOptions

pytestmark = pytest.mark.server


async def test_a_cancel_that_comes_with_the_answer_is_not_forgotten(nats_server: NatsServer) -> None:
    async with NatsConnection(NatsOptions((nats_server.url,))) as nats:
        client = await nats.live()
        await nats.api("INFO")  # from here on the inbox of requests is there
        asking = asyncio.create_task(nats.api("INFO"))
        async with asyncio.timeout(20):
            while not client._resp_map:
                await asyncio.sleep(0)
            (answer,) = client._resp_map.values()
            while not answer.done():
                await asyncio.sleep(0)
        assert asking.cancel()  # it has not heard of the answer yet
        with pytest.raises(asyncio.CancelledError):
            await asking
