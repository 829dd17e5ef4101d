"""SNS as a destination: PublishBatch, entry by entry.

May not: create a topic (CreateTopic would, so a name is looked up in the list), log, or decide what follows a failure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bridge.core.errors import BridgeError, Failed, NotUsable, Refused
from bridge.core.mapping.sizes import sns_bytes
from bridge.core.models import Out, SnsOut
from bridge.core.route import Receipt
from bridge.legs.aws import AwsConnection
from bridge.legs.aws_batch import ENTRIES, Answer, Entry, send
from bridge.legs.gather import LINGER, Gather
from bridge.legs.sqs import attribute_entries


@dataclass(frozen=True, slots=True)
class Topic:
    """What the leg must know of a topic. `max_message_size` in bytes."""

    arn: str
    name: str
    fifo: bool
    max_message_size: int


def create_topic_command(name: str) -> str:
    """How an operator would create it."""
    fifo = " --attributes FifoTopic=true" if name.endswith(".fifo") else ""
    return f"aws sns create-topic --name {name}{fifo}"


async def open_topic(aws: AwsConnection, topic: str) -> Topic:
    """Looks up a topic by name (needs sns:ListTopics) or ARN. Raises NotUsable with the creating command."""
    name = topic.rpartition(":")[2]
    create = create_topic_command(name)
    arn = topic if topic.startswith("arn:") else await _arn_of(aws, name, create)
    answer = await aws.call("sns", "get_topic_attributes", about=name, missing=create, TopicArn=arn)
    # 256 KiB is the default of a topic that does not say.
    size = int(answer.get("Attributes", {}).get("MaximumMessageSize", 262_144))
    return Topic(arn, name, name.endswith(".fifo"), size)


async def _arn_of(aws: AwsConnection, name: str, create: str) -> str:
    token: dict[str, Any] = {}
    while True:
        try:
            answer = await aws.call("sns", "list_topics", about=name, **token)
        except NotUsable as error:
            raise NotUsable(
                str(error.args[0]), hint="write the topic's ARN in the route, or allow sns:ListTopics"
            ) from error
        for each in answer.get("Topics") or ():
            arn = str(each["TopicArn"])
            if arn.rpartition(":")[2] == name:
                return arn
        if not answer.get("NextToken"):
            raise NotUsable(f"there is no SNS topic {name} in this account and region", hint=create)
        token = {"NextToken": answer["NextToken"]}


async def subscribers(aws: AwsConnection, arn: str) -> tuple[str, ...] | None:
    """The ARNs of the queues subscribed to a topic, or None where we may not look."""
    return queues_among(await subscriptions(aws, arn))


def queues_among(found: Sequence[tuple[str, str]] | None) -> tuple[str, ...] | None:
    return None if found is None else tuple(endpoint for protocol, endpoint in found if protocol == "sqs")


async def subscriptions(aws: AwsConnection, arn: str) -> Sequence[tuple[str, str]] | None:
    """Protocol and endpoint of each subscription that was confirmed, or None where we may not look."""
    found: list[tuple[str, str]] = []
    token: dict[str, Any] = {}
    while True:
        try:
            answer = await aws.call("sns", "list_subscriptions_by_topic", about=arn, TopicArn=arn, **token)
        except BridgeError:
            return None  # a permission the bridge itself does not need
        found += [
            (str(each["Protocol"]), str(each.get("Endpoint")))
            for each in answer.get("Subscriptions") or ()
            if each.get("SubscriptionArn") not in ("PendingConfirmation", "Deleted")
        ]
        if not answer.get("NextToken"):
            return found
        token = {"NextToken": answer["NextToken"]}


class SnsDestination:
    """A Destination over one topic. At least once: when the answer to a publish is lost, a standard topic may deliver
    the message twice."""

    def __init__(self, aws: AwsConnection, topic: Topic) -> None:
        self.topic = topic
        self._aws = aws
        self._missing = create_topic_command(topic.name)
        self._sends = Gather(self._send, most=ENTRIES, linger=LINGER)

    async def close(self) -> None:
        """Holds nothing open: connections are shared, and closed by who made them."""

    async def publish(self, messages: Sequence[Out]) -> Sequence[Receipt | BridgeError]:
        answers: list[Receipt | BridgeError] = [Failed("not sent")] * len(messages)
        entries: list[Entry] = []
        places: list[int] = []
        limit = self.topic.max_message_size
        for place, out in enumerate(messages):
            assert isinstance(out, SnsOut)
            size = sns_bytes(out)
            if size > limit:
                text = f"{size:,} bytes with attributes; topic {self.topic.name} takes {limit:,}"
                answers[place] = Refused(text, hint="raise the topic's MaximumMessageSize, or park it")
            else:
                entries.append(Entry(self._entry(out), size, out.group if self.topic.fifo else None))
                places.append(place)
        for place, answer in zip(places, await self._sends.ask(entries), strict=True):
            answers[place] = answer if isinstance(answer, BridgeError) else Receipt(str(answer["MessageId"]))
        return answers

    async def _send(self, entries: Sequence[Entry]) -> list[Answer]:
        return await send(entries, self._call, limit=self.topic.max_message_size)

    def fits(self, out: Out) -> bool:
        """Whether the topic takes a message of this size."""
        assert isinstance(out, SnsOut)
        return sns_bytes(out) <= self.topic.max_message_size

    def _entry(self, out: SnsOut) -> dict[str, Any]:
        entry: dict[str, Any] = {"Message": out.message}
        if out.attributes:
            entry["MessageAttributes"] = attribute_entries(out.attributes)
        if out.subject:
            entry["Subject"] = out.subject
        if self.topic.fifo:
            entry |= {"MessageGroupId": out.group, "MessageDeduplicationId": out.dedup_id}
        return entry

    async def _call(self, entries: list[dict[str, Any]]) -> Any:
        return await self._aws.call(
            "sns",
            "publish_batch",
            about=self.topic.name,
            missing=self._missing,
            TopicArn=self.topic.arn,
            PublishBatchRequestEntries=entries,
        )
