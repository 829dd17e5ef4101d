"""The floor: what any Python program must at least do to carry messages. Into JetStream: receive, publish, await the
PubAcks, delete. Back: pull, send, ack and await it. No mapping, no leases, no metrics, no signature. The bridge is
measured against it.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
from typing import Any

import aiohttp
import uvloop
from nats.aio.client import Client

PULL = 200


class Floor:
    def __init__(self, sqs: str, client: Client, session: aiohttp.ClientSession) -> None:
        self.sqs = sqs
        self.client = client
        self.session = session
        self.inbox = client.new_inbox()
        self.serial = itertools.count()
        self.waiting: dict[str, list[Any]] = {}

    async def start(self) -> None:
        await self.client.subscribe(f"{self.inbox}.*", cb=self.acked)

    async def acked(self, message: Any) -> None:
        batch = self.waiting.pop(message.subject)
        batch[0] -= 1
        if not batch[0]:
            batch[1].set_result(None)

    def reply(self, batch: list[Any]) -> str:
        reply = f"{self.inbox}.{next(self.serial)}"
        self.waiting[reply] = batch
        return reply

    async def call(self, operation: str, body: dict[str, Any]) -> Any:
        headers = {"X-Amz-Target": f"AmazonSQS.{operation}", "Content-Type": "application/x-amz-json-1.0"}
        async with self.session.post(self.sqs, data=json.dumps(body), headers=headers) as answer:
            return json.loads(await answer.read())

    async def carry(self) -> None:
        ask = {"QueueUrl": "q", "MaxNumberOfMessages": 10, "WaitTimeSeconds": 1}
        while messages := (await self.call("ReceiveMessage", ask)).get("Messages"):
            batch: list[Any] = [len(messages), asyncio.get_running_loop().create_future()]
            for message in messages:
                headers = {"Nats-Msg-Id": message["MessageId"]}
                await self.client.publish(
                    "bench.in", message["Body"].encode(), reply=self.reply(batch), headers=headers
                )
            await batch[1]
            entries = [{"Id": str(n), "ReceiptHandle": each["ReceiptHandle"]} for n, each in enumerate(messages)]
            await self.call("DeleteMessageBatch", {"QueueUrl": "q", "Entries": entries})

    async def carry_back(self) -> None:
        """Two of these side by side, as the bridge pulls."""
        pulled: asyncio.Queue[Any] = asyncio.Queue()
        inbox = self.client.new_inbox()
        await self.client.subscribe(inbox, cb=pulled.put)
        ask = json.dumps({"batch": PULL, "expires": 10**9}).encode()
        while True:
            await self.client.publish("$JS.API.CONSUMER.MSG.NEXT.BENCH.back", ask, reply=inbox)
            messages: list[Any] = []
            while len(messages) < PULL and (message := await pulled.get()).reply:
                messages.append(message)
            async with asyncio.TaskGroup() as group:
                for start in range(0, len(messages), 10):
                    entries = [
                        {"Id": str(n), "MessageBody": each.data.decode()}
                        for n, each in enumerate(messages[start : start + 10])
                    ]
                    group.create_task(self.call("SendMessageBatch", {"QueueUrl": "q", "Entries": entries}))
            if messages:
                batch: list[Any] = [len(messages), asyncio.get_running_loop().create_future()]
                for message in messages:
                    await self.client.publish(message.reply, b"+ACK", reply=self.reply(batch))
                await batch[1]


async def main(sqs: str, nats: str, direction: str, workers: int) -> None:
    client = Client()
    await client.connect(nats)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        floor = Floor(sqs, client, session)
        await floor.start()
        async with asyncio.TaskGroup() as group:
            for _ in range(workers if direction == "in" else 2):
                group.create_task(floor.carry() if direction == "in" else floor.carry_back())
    await client.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sqs", required=True)
    parser.add_argument("--nats", required=True)
    parser.add_argument("--direction", choices=["in", "back"], default="in")
    parser.add_argument("--workers", type=int, default=32)
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(options.sqs, options.nats, options.direction, options.workers))
