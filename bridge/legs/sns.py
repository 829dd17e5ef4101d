"""SNS as a destination: PublishBatch, entry by entry.

May not: create a topic (CreateTopic would, so a name is looked up in the list), log, or decide what follows a failure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from bridge.core.advice import connection_for
from bridge.core.errors import BridgeError, Failed, NotUsable, Refused
from bridge.core.mapping.sizes import sns_bytes
from bridge.core.models import Out, SnsOut
from bridge.core.regions import arn_place
from bridge.core.route import Receipt
from bridge.legs.aws import AwsConnection
from bridge.legs.aws_batch import ENTRIES, Answer, Entry, send
from bridge.legs.aws_shapes import Facts, pages, text
from bridge.legs.gather import LINGER, Gather
from bridge.legs.queues import Limit
from bridge.legs.sqs_messages import attribute_entries

DEFAULT_SIZE = 262_144  # bytes, if the topic has no MaximumMessageSize


@dataclass(frozen=True, slots=True)
class Topic:
    """What the leg must know about a topic. `max_message_size` in bytes."""

    arn: str
    name: str
    fifo: bool
    max_message_size: int
    kms_key: str = ""


def create_topic_command(name: str) -> str:
    """How an operator would create it."""
    fifo = " --attributes FifoTopic=true" if name.endswith(".fifo") else ""
    return f"aws sns create-topic --name {name}{fifo}"


async def open_topic(aws: AwsConnection, topic: str) -> Topic:
    """Looks up a topic by name (needs sns:ListTopics) or ARN. Raises NotUsable with the creating command, and for an
    ARN of another region: SNS answers only for its own."""
    name = topic.rpartition(":")[2]
    create = create_topic_command(name)
    if (place := arn_place(topic)) is not None and (here := await aws.region()) != place[1]:
        raise NotUsable(
            f"topic {name} is in {place[1]}, and this connection is for {here}", hint=connection_for(place[1])
        )
    arn = topic if topic.startswith("arn:") else await _arn_of(aws, name, create)
    return await _read(aws, Topic(arn, name, name.endswith(".fifo"), DEFAULT_SIZE), create)


async def _read(aws: AwsConnection, topic: Topic, create: str) -> Topic:
    answer = await aws.call("sns", "get_topic_attributes", about=topic.name, missing=create, TopicArn=topic.arn)
    facts = Facts(answer, f"topic {topic.name}", "SNS")
    size = int(facts.number("MaximumMessageSize", topic.max_message_size)) or topic.max_message_size
    return replace(topic, max_message_size=size, kms_key=facts.text("KmsMasterKeyId"))


async def _arn_of(aws: AwsConnection, name: str, create: str) -> str:
    token: dict[str, Any] = {}
    seen: set[str] = set()
    while True:
        try:
            answer = await aws.call("sns", "list_topics", about=name, **token)
        except NotUsable as error:
            raise NotUsable(
                str(error.args[0]), hint="use the topic's ARN in the route, or allow sns:ListTopics"
            ) from error
        topics, following = pages(answer, "Topics", "NextToken", seen)
        for each in topics:
            arn = text(each.get("TopicArn"))
            if arn is not None and arn.rpartition(":")[2] == name:
                return arn
        if following is None:
            raise NotUsable(f"there is no SNS topic {name} in this account and region", hint=create)
        token = {"NextToken": following}


async def subscribers(aws: AwsConnection, arn: str) -> tuple[str, ...] | None:
    """The ARNs of the queues subscribed to a topic, or None without the permission to list them."""
    return queues_among(await subscriptions(aws, arn))


def queues_among(found: Sequence[tuple[str, str]] | None) -> tuple[str, ...] | None:
    return None if found is None else tuple(endpoint for protocol, endpoint in found if protocol == "sqs")


async def subscriptions(aws: AwsConnection, arn: str) -> Sequence[tuple[str, str]] | None:
    """Protocol and endpoint of each confirmed subscription, or None without the permission to list them."""
    found: list[tuple[str, str]] = []
    token: dict[str, Any] = {}
    seen: set[str] = set()
    while True:
        try:
            answer = await aws.call("sns", "list_subscriptions_by_topic", about=arn, TopicArn=arn, **token)
        except BridgeError:
            return None  # a permission the bridge itself does not need
        subscribed, following = pages(answer, "Subscriptions", "NextToken", seen)
        found += [
            (protocol, endpoint)
            for each in subscribed
            if each.get("SubscriptionArn") not in ("PendingConfirmation", "Deleted")
            if (protocol := text(each.get("Protocol"))) and (endpoint := text(each.get("Endpoint")))
        ]
        if following is None:
            return found
        token = {"NextToken": following}


class SnsDestination:
    """A Destination over one topic. At least once: when the answer to a publish is lost, a standard topic may deliver
    the message twice."""

    def __init__(self, aws: AwsConnection, topic: Topic) -> None:
        self.topic = topic
        self._aws = aws
        self._missing = create_topic_command(topic.name)
        self._limit = Limit(topic.max_message_size, self._read_limit)
        self._sends = Gather(self._send, most=ENTRIES, linger=LINGER)

    async def close(self) -> None:
        """Holds nothing open: connections are shared, and closed by their owner."""

    async def publish(self, messages: Sequence[Out]) -> Sequence[Receipt | BridgeError]:
        outs = [_out(out) for out in messages]
        sizes = [sns_bytes(out) for out in outs]
        if max(sizes, default=0) > self._limit.size:
            await self._limit.read()  # it may have been raised, as the error's hint advises
        answers: list[Receipt | BridgeError] = [Failed("not sent")] * len(messages)
        entries: list[Entry] = []
        places: list[int] = []
        for place, (out, size) in enumerate(zip(outs, sizes, strict=True)):
            if size > self._limit.size:
                refused = f"{size:,} bytes with attributes; topic {self.topic.name} takes at most {self._limit.size:,}"
                hint = "raise the topic's MaximumMessageSize, set claim_check on the route, or park it"
                answers[place] = Refused(refused, hint=hint)
            else:
                entries.append(Entry(self._entry(out), size, out.group if self.topic.fifo else None))
                places.append(place)
        for place, answer in zip(places, await self._sends.ask(entries), strict=True):
            answers[place] = answer if isinstance(answer, BridgeError) else Receipt(answer["MessageId"])
        return await self._limit.judged(answers, sizes)

    async def _send(self, entries: Sequence[Entry]) -> list[Answer]:
        return await send(entries, self._call, limit=self._limit.size, named=True, key=self.topic.kms_key)

    async def _read_limit(self) -> int:
        self.topic = await _read(self._aws, self.topic, self._missing)
        return self.topic.max_message_size

    def fits(self, out: Out) -> bool:
        """Whether the topic takes a message of this size."""
        return sns_bytes(_out(out)) <= self._limit.size

    def _entry(self, out: SnsOut) -> dict[str, Any]:
        entry: dict[str, Any] = {"Message": out.message}
        if out.attributes:
            entry["MessageAttributes"] = attribute_entries(out.attributes)
        if out.subject:
            entry["Subject"] = out.subject
        if self.topic.fifo:
            entry |= {"MessageGroupId": out.group, "MessageDeduplicationId": out.dedup_id}
        elif out.group:
            entry["MessageGroupId"] = out.group  # passed on to subscribed fair queues
        return entry

    async def _call(self, entries: list[dict[str, Any]]) -> Any:
        return await self._aws.call(
            "sns",
            "publish_batch",
            about=self.topic.name,
            missing=self._missing,
            key=self.topic.kms_key,
            TopicArn=self.topic.arn,
            PublishBatchRequestEntries=entries,
        )


def _out(out: Out) -> SnsOut:
    assert isinstance(out, SnsOut)
    return out
