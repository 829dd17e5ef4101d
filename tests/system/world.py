"""Both sides as a test sees them, in plain blocking calls: queues through the SDK, streams through the bridge's own
connection, each call on a loop of its own."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from aiobotocore.session import get_session

from bridge.core.mapping.sizes import header_block
from bridge.legs.nats import Headers, NatsConnection, NatsOptions
from tests.legs.aws_world import REGION, World, world

T = TypeVar("T")


class Aws:
    def __init__(self, url: str) -> None:
        self.url = url

    def do(self, work: Callable[[World], Awaitable[T]]) -> T:
        async def scene() -> T:
            async with world(self.url) as found:
                return await work(found)

        return asyncio.run(scene())

    def queue(self, name: str, **attributes: str) -> str:
        return self.do(lambda found: found.queue(name, **attributes))

    def send(self, url: str, bodies: list[str], **attributes: str) -> None:
        given = {name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()}

        async def work(found: World) -> None:
            for start in range(0, len(bodies), 10):
                entries = [
                    {"Id": str(at), "MessageBody": body, "MessageAttributes": given}
                    for at, body in enumerate(bodies[start : start + 10])
                ]
                answer = await found.sqs.send_message_batch(QueueUrl=url, Entries=entries)
                assert not answer.get("Failed"), answer

        self.do(work)

    def bucket(self, name: str) -> None:
        """A bucket in S3."""

        async def work() -> None:
            session = get_session()
            async with session.create_client("s3", region_name=REGION, endpoint_url=self.url) as s3:
                await s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})

        asyncio.run(work())

    def drain(self, url: str, count: int) -> list[Any]:
        return self.do(lambda found: found.drain(url, count))

    def counts(self, url: str) -> tuple[int, int]:
        return self.do(lambda found: found.counts(url))


class Nats:
    def __init__(self, url: str) -> None:
        self.url = url

    def api(self, call: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        async def scene() -> dict[str, Any]:
            async with NatsConnection(NatsOptions((self.url,))) as nats:
                return await nats.api(call, body)

        return asyncio.run(scene())

    def stream(self, name: str, subjects: str, **config: Any) -> None:
        self.api(
            f"STREAM.CREATE.{name}",
            {"name": name, "subjects": [subjects], "duplicate_window": 600 * 10**9, "storage": "file", **config},
        )

    def consumer(self, stream: str, name: str, **config: Any) -> None:
        body = {"durable_name": name, "ack_policy": "explicit", "max_ack_pending": 5000, **config}
        self.api(f"CONSUMER.CREATE.{stream}.{name}", {"stream_name": stream, "config": body})

    def count(self, stream: str) -> int:
        return int(self.api(f"STREAM.INFO.{stream}")["state"]["messages"])

    def publish(self, subject: str, bodies: list[str], headers: Mapping[str, str] | None = None) -> None:
        block = header_block((headers or {}).items()) if headers else b""

        async def scene() -> None:
            async with NatsConnection(NatsOptions((self.url,))) as nats:
                for start in range(0, len(bodies), 500):
                    requests = [(subject, body.encode(), block) for body in bodies[start : start + 500]]
                    assert None not in await nats.replies.ask(requests, 10)

        asyncio.run(scene())

    def bucket(self, name: str) -> None:
        """A Key-Value bucket."""

        async def scene() -> None:
            async with NatsConnection(NatsOptions((self.url,))) as nats:
                await (await nats.live()).jetstream().create_key_value(bucket=name, ttl=600, direct=True)

        asyncio.run(scene())

    def headers(self, stream: str, sequence: int) -> dict[str, str]:
        found = self.api(f"STREAM.MSG.GET.{stream}", {"seq": sequence})["message"]
        return dict(Headers.parse(base64.b64decode(found["hdrs"])))

    def take(self, stream: str, consumer: str, count: int) -> None:
        """Pulls so many and leaves them unacknowledged."""

        async def scene() -> None:
            async with NatsConnection(NatsOptions((self.url,))) as nats:
                client = await nats.live()
                subscription = await client.jetstream().pull_subscribe_bind(consumer, stream)
                taken = 0
                while taken < count:
                    taken += len(await subscription.fetch(count - taken, timeout=20))

        asyncio.run(scene())

    def bodies(self, stream: str) -> list[str]:
        """Every payload in the stream, in order."""

        async def scene() -> list[str]:
            async with NatsConnection(NatsOptions((self.url,))) as nats:
                info = await nats.api(f"STREAM.INFO.{stream}")
                expected = int(info["state"]["messages"])
                client = await nats.live()
                subscription = await client.jetstream().pull_subscribe(info["config"]["subjects"][0], stream=stream)
                found: list[str] = []
                while len(found) < expected:
                    for message in await subscription.fetch(500, timeout=10):
                        found.append(message.data.decode())
                        await message.ack()  # an ephemeral consumer, and 1,000 unacknowledged are its limit
                return found

        return asyncio.run(scene())
