"""Queues and topics for the tests, made with the SDK on whichever SQS implementation is under examination."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiobotocore.session import get_session

REGION = "eu-west-1"


@dataclass
class World:
    """`sqs` and `sns` are plain clients, as a team's own services would use them."""

    url: str
    sqs: Any
    sns: Any

    async def queue(self, name: str, **attributes: str) -> str:
        """Creates a queue; returns its URL."""
        if name.endswith(".fifo"):
            attributes["FifoQueue"] = "true"
        return str((await self.sqs.create_queue(QueueName=name, Attributes=attributes))["QueueUrl"])

    async def send(self, url: str, *bodies: str, group: str | None = None) -> None:
        for at, body in enumerate(bodies):
            fifo = {"MessageGroupId": group, "MessageDeduplicationId": f"{group}-{at}-{body}"[:128]} if group else {}
            await self.sqs.send_message(QueueUrl=url, MessageBody=body, **fifo)

    async def drain(self, url: str, count: int) -> list[Any]:
        """Receives and deletes until `count` messages came, or none comes for two seconds."""
        found: list[Any] = []
        while True:
            answer = await self.sqs.receive_message(
                QueueUrl=url,
                MaxNumberOfMessages=10,
                WaitTimeSeconds=0 if len(found) >= count else 2,
                MessageAttributeNames=["All"],
                MessageSystemAttributeNames=["All"],
            )
            messages = answer.get("Messages", [])
            if not messages:
                return found
            for message in messages:
                found.append(message)
                await self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])

    async def counts(self, url: str) -> tuple[int, int]:
        """(visible, in flight)."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        facts = (await self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names))["Attributes"]
        return int(facts[names[0]]), int(facts[names[1]])

    async def topic(self, name: str, *, feeds: str | None = None, raw: bool = False) -> str:
        """Creates a topic, subscribes the queue with the URL `feeds`; returns the topic's ARN."""
        attributes = {"FifoTopic": "true"} if name.endswith(".fifo") else {}
        arn = str((await self.sns.create_topic(Name=name, Attributes=attributes))["TopicArn"])
        if feeds is not None:
            facts = await self.sqs.get_queue_attributes(QueueUrl=feeds, AttributeNames=["QueueArn"])
            await self.sns.subscribe(
                TopicArn=arn,
                Protocol="sqs",
                Endpoint=facts["Attributes"]["QueueArn"],
                Attributes={"RawMessageDelivery": json.dumps(raw)},
            )
        return arn


@asynccontextmanager
async def world(url: str) -> AsyncIterator[World]:
    session = get_session()
    async with (
        session.create_client("sqs", region_name=REGION, endpoint_url=url) as sqs,
        session.create_client("sns", region_name=REGION, endpoint_url=url) as sns,
    ):
        yield World(url, sqs, sns)
