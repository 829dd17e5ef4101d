"""The floor: what any Python program must at least do to carry messages from SQS into JetStream. Receive, publish,
await the PubAcks, delete; no mapping, no leases, no metrics, no signature. The bridge is measured against it.
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

    async def call(self, operation: str, body: dict[str, Any]) -> Any:
        headers = {"X-Amz-Target": f"AmazonSQS.{operation}", "Content-Type": "application/x-amz-json-1.0"}
        async with self.session.post(self.sqs, data=json.dumps(body), headers=headers) as answer:
            return json.loads(await answer.read())

    async def carry(self) -> None:
        ask = {"QueueUrl": "q", "MaxNumberOfMessages": 10, "WaitTimeSeconds": 1}
        while messages := (await self.call("ReceiveMessage", ask)).get("Messages"):
            batch: list[Any] = [len(messages), asyncio.get_running_loop().create_future()]
            for message in messages:
                reply = f"{self.inbox}.{next(self.serial)}"
                self.waiting[reply] = batch
                headers = {"Nats-Msg-Id": message["MessageId"]}
                await self.client.publish("bench.in", message["Body"].encode(), reply=reply, headers=headers)
            await batch[1]
            entries = [{"Id": str(n), "ReceiptHandle": each["ReceiptHandle"]} for n, each in enumerate(messages)]
            await self.call("DeleteMessageBatch", {"QueueUrl": "q", "Entries": entries})


async def main(sqs: str, nats: str, workers: int) -> None:
    client = Client()
    await client.connect(nats)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        floor = Floor(sqs, client, session)
        await floor.start()
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(floor.carry())
    await client.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sqs", required=True)
    parser.add_argument("--nats", required=True)
    parser.add_argument("--workers", type=int, default=32)
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(options.sqs, options.nats, options.workers))
