"""What one SQS call costs on each road: botocore, aiohttp, and the connections of our own. Receives of ten and their
deletes against the canned SQS, in turn. `python -m benchmarks.calls`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from benchmarks.processes import canned, end_in_order
from bridge.legs.aws import AwsConnection, AwsOptions
from bridge.legs.aws_lean import LeanCalls
from bridge.legs.http import Answer
from bridge.verbs import loop_factory

WORKERS = 8
RECEIVE = {"MaxNumberOfMessages": 10, "WaitTimeSeconds": 1, "MessageSystemAttributeNames": ["All"]}


class Aiohttp:
    """The road before ours: the same signature, sent by aiohttp."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=50))

    async def post(self, headers: Any, body: bytes, limit: int) -> Answer:  # noqa: ARG002 - a Road's
        async with self.session.post(self.url, data=body, headers=headers) as answer:
            return Answer(answer.status, {}, await answer.read())

    async def close(self) -> None:
        await self.session.close()


async def work(call: Callable[..., Awaitable[Any]]) -> None:
    async def carry() -> None:
        while messages := (await call("receive_message", QueueUrl="q", **RECEIVE)).get("Messages"):
            entries = [{"Id": str(n), "ReceiptHandle": each["ReceiptHandle"]} for n, each in enumerate(messages)]
            await call("delete_message_batch", QueueUrl="q", Entries=entries)

    async with asyncio.TaskGroup() as group:
        for _ in range(WORKERS):
            group.create_task(carry())


async def measure(road: str, messages: int) -> None:
    with canned(messages=messages) as sqs:
        options = AwsOptions(region="eu-west-1", endpoint_url=sqs.url, lean=road != "botocore")
        async with AwsConnection(options) as aws:

            async def call(operation: str, **arguments: Any) -> Any:
                return await aws.call("sqs", operation, about="q", **arguments)

            await call("change_message_visibility_batch", QueueUrl="q", Entries=[])
            lean = aws._clients.lean  # noqa: SLF001 - a benchmark looks inside
            if road == "aiohttp" and isinstance(lean, LeanCalls):
                await lean._road.close()  # noqa: SLF001
                lean._road = Aiohttp(f"http://{urlsplit(sqs.url).netloc}/")  # noqa: SLF001
            began, at = time.process_time(), time.perf_counter()
            await work(call)
            used, took = time.process_time() - began, time.perf_counter() - at - 1
        calls = messages / 5
        print(f"{road:9} {1e6 * used / calls:6.0f} us CPU a call, {calls / took:8,.0f} calls a second")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    end_in_order()
    os.environ |= {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench"}
    for _ in range(options.rounds):
        for each in ("botocore", "aiohttp", "ours"):
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                runner.run(measure(each, options.messages))
