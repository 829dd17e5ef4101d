"""The services of the demo: one producer and six consumers. Each consumer records what it saw in a `Seen`."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from nats.aio.client import Client

EVENTS = ("authorized", "captured", "refunded")


@dataclass(slots=True)
class Seen:
    """What one consumer saw, by payment number."""

    name: str
    side: str
    payments: Counter[int] = field(default_factory=Counter)

    def missing(self, sent: int) -> int:
        return sent - sum(1 for payment in self.payments if payment < sent)

    @property
    def again(self) -> int:
        """Deliveries beyond the first of each payment: an at-least-once consumer drops them by number."""
        return self.payments.total() - len(self.payments)


@dataclass(slots=True)
class Producer:
    """Publishes payments 0, 1, 2, … to the SNS topic; `sent` counts those SNS accepted."""

    sns: Any
    topic: str
    rate: float
    sent: int = 0

    async def run(self, seconds: float) -> None:
        began = time.monotonic()
        while (elapsed := time.monotonic() - began) < seconds:
            due = min(10, int(elapsed * self.rate) + 1 - self.sent)
            if due < 1:
                await asyncio.sleep(0.01)
                continue
            answer = await self.sns.publish_batch(
                TopicArn=self.topic,
                PublishBatchRequestEntries=[self._entry(self.sent + place) for place in range(due)],
            )
            if answer.get("Failed"):
                raise RuntimeError(f"SNS refused {len(answer['Failed'])} payments")
            self.sent += due

    @staticmethod
    def _entry(number: int) -> dict[str, Any]:
        body = {"payment": number, "account": f"acc-{number % 17}", "amount": f"{number % 1000}.00", "currency": "EUR"}
        return {
            "Id": str(number),
            "Message": json.dumps(body),
            "MessageAttributes": {
                "eventType": {"DataType": "String", "StringValue": EVENTS[number % 3]},
                "retries": {"DataType": "Number", "StringValue": "0"},
            },
        }


def plain(body: str) -> int:
    """The payment's number in a message that is the payment itself."""
    return int(json.loads(body)["payment"])


def enveloped(body: str) -> int:
    """The payment's number in an SNS envelope."""
    return plain(json.loads(body)["Message"])


async def consume_sqs(sqs: Any, url: str, seen: Seen, number_of: Callable[[str], int]) -> None:
    """A legacy consumer: long poll, note, delete."""
    while True:
        answer = await sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1)
        messages = answer.get("Messages", [])
        for message in messages:
            seen.payments[number_of(message["Body"])] += 1
        if messages:
            entries = [{"Id": str(at), "ReceiptHandle": m["ReceiptHandle"]} for at, m in enumerate(messages)]
            await sqs.delete_message_batch(QueueUrl=url, Entries=entries)


async def consume_pull(client: Client, seen: Seen) -> None:
    """A new service: takes payments from a pull consumer and publishes a settlement for each."""
    js = client.jetstream()
    subscription = await js.pull_subscribe_bind("validation", "PAYMENTS")
    task = asyncio.current_task()
    while task is not None and not task.cancelling():  # nats-py's fetch takes a cancellation for a timeout
        with suppress(TimeoutError):
            for message in await subscription.fetch(50, timeout=1):
                payment = json.loads(message.data)
                number = int(payment["payment"])
                settlement = json.dumps({"payment": number, "settled": payment["amount"]}).encode()
                headers = {"Nats-Msg-Id": f"settlement-{number}", "currency": "EUR"}
                await js.publish(f"settlements.{payment['account']}", settlement, headers=headers)
                await message.ack_sync()
                seen.payments[number] += 1


async def consume_push(client: Client, seen: Seen) -> None:
    """A new service with a durable push consumer, which the server feeds."""

    async def note(message: Any) -> None:
        seen.payments[plain(message.data.decode())] += 1
        await message.ack()

    await client.jetstream().subscribe("payments.>", durable="gateway", cb=note, manual_ack=True)


async def consume_core(client: Client, seen: Seen) -> None:
    """A dashboard that only listens: core NATS, at most once."""

    async def note(message: Any) -> None:
        seen.payments[plain(message.data.decode())] += 1

    await client.subscribe("payments.*", cb=note)
