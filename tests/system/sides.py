"""A small company in full swing, to be disturbed: a producer, an old consumer on a queue, a new one on a stream, and
the bridge's own queue beside them. Each can be stopped and started again.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError
from nats import errors as nats_errors

from bridge.core.errors import BridgeError
from bridge.legs.nats import NatsConnection, NatsOptions
from tests.legs.aws_world import REGION

BEAT = 0.1  # seconds between two sends of the producer


class Worker:
    """A coroutine on a thread and a loop of its own, run again and again until stopped; what fails is tried again."""

    def __init__(self, work: Callable[[], Awaitable[None]]) -> None:
        self._work = work
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._stopped.clear()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Returns when it works no more."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(30)

    @property
    def wanted(self) -> bool:
        return not self._stopped.is_set()

    def _run(self) -> None:
        while self.wanted:
            with suppress(ClientError, BotoCoreError, BridgeError, nats_errors.Error, OSError, TimeoutError):
                asyncio.run(self._work())  # type: ignore[arg-type]
            self._stopped.wait(0.2)


class Sides:
    """`queue` is the bridge's, `legacy` the old consumer's, `stream` the new one's, who reads as `consumer`."""

    def __init__(self, aws: str, nats: str, *, queue: str, legacy: str, stream: str, consumer: str) -> None:
        self.aws, self.nats = aws, nats
        self.queue, self.legacy, self.stream, self.consumer = queue, legacy, stream, consumer
        self.producer = Worker(self._produce)
        self.old = Worker(self._read_queue)
        self.new = Worker(self._read_stream)

    def __enter__(self) -> Self:
        for each in (self.old, self.new, self.producer):
            each.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in (self.producer, self.old, self.new):
            each.stop()

    def _sqs(self) -> Any:
        return get_session().create_client("sqs", region_name=REGION, endpoint_url=self.aws)

    async def _produce(self) -> None:
        async with self._sqs() as sqs:
            urls = [(await sqs.get_queue_url(QueueName=name))["QueueUrl"] for name in (self.queue, self.legacy)]
            while self.producer.wanted:
                for url in urls:
                    entries = [{"Id": str(number), "MessageBody": "payment"} for number in range(2)]
                    await sqs.send_message_batch(QueueUrl=url, Entries=entries)
                await asyncio.sleep(BEAT)

    async def _read_queue(self) -> None:
        async with self._sqs() as sqs:
            url = (await sqs.get_queue_url(QueueName=self.legacy))["QueueUrl"]
            while self.old.wanted:
                answer = await sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1)
                if found := answer.get("Messages"):
                    entries = [{"Id": str(n), "ReceiptHandle": each["ReceiptHandle"]} for n, each in enumerate(found)]
                    await sqs.delete_message_batch(QueueUrl=url, Entries=entries)

    async def _read_stream(self) -> None:
        async with NatsConnection(NatsOptions((self.nats,))) as nats:
            client = await nats.live()
            subscription = await client.jetstream().pull_subscribe_bind(self.consumer, self.stream)
            while self.new.wanted:
                for message in await subscription.fetch(20, timeout=1):
                    await message.ack_sync()
