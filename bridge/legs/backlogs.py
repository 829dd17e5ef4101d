"""Reads backlogs: of consumers and queues, the bridge's own and those of others.

Counts of a consumer come from its leader, which alone answers CONSUMER.INFO and its part of CONSUMER.LIST; those of a
queue from GetQueueAttributes, and its age from CloudWatch where that is allowed.
May not: receive, acknowledge or change anything; judge what it sees (core/lag.py does).
Source: ADR-1 (JetStream API), ADR-31 (next_by_subj); SQS API reference, GetQueueAttributes; SQS CloudWatch metrics.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import inf
from typing import Any, Literal, Protocol

from bridge.core.advice import connection_for
from bridge.core.errors import BridgeError, NotUsable
from bridge.core.regions import name_of, queue_place
from bridge.core.route import Backlog
from bridge.legs.answers import Answer, retention
from bridge.legs.aws import AwsConnection
from bridge.legs.aws_errors import unreadable
from bridge.legs.aws_shapes import Facts, is_url, listed, number, record, text
from bridge.legs.nats import NatsConnection

Side = Literal["bridge", "legacy", "new", "dead_letter"]
"""Who reads the backlog: our own source, the legacy consumers, the new ones; or it is a dead-letter queue."""

COUNTS = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed")
CLOUDWATCH_SECONDS = 60.0  # its metrics have one value a minute
CLOUDWATCH_STALE = timedelta(minutes=15)
CLOCKS_APART = timedelta(
    hours=2
)  # asked for beyond our clock, which may be wrong: the newest value is used in any case
PAGES = 8  # of 256 consumers each


@dataclass(frozen=True, slots=True)
class Seen:
    """One backlog as it was read. `retention` is how long a message is kept, in seconds; `exact`: its counts are exact
    and current."""

    name: str
    backlog: Backlog | BridgeError
    retention: float = inf
    exact: bool = True


class Watched(Protocol):
    """Backlogs that others read. Never raises: one that cannot be read is a Seen with the error."""

    @property
    def side(self) -> Side: ...
    @property
    def system(self) -> Literal["sqs", "jetstream"]: ...
    @property
    def calls(self) -> int:
        """AWS calls one `look` costs."""
        ...

    async def look(self) -> Sequence[Seen]: ...


class ConsumerLook:
    """The backlog of one consumer, with the age of what is not acknowledged: the store time of the first message above
    its ack floor. Read again only when the floor has moved, because that read fetches the whole message."""

    def __init__(self, nats: NatsConnection, stream: str, consumer: str) -> None:
        self._nats = nats
        self._stream = stream
        self._consumer = consumer
        self._floor = -1
        self._oldest: float | None = None

    async def backlog(self) -> Backlog:
        """Raises Unavailable, NotUsable."""
        return await self.read(await self._nats.api(f"CONSUMER.INFO.{self._stream}.{self._consumer}"))

    async def read(self, info: Answer) -> Backlog:
        """The same from a consumer's info that was already read."""
        pending, in_flight = info.number("num_pending", 0), info.number("num_ack_pending", 0)
        floor, delivered, config = info.part("ack_floor"), info.part("delivered"), info.part("config")
        oldest = None
        if pending or in_flight:
            oldest = await self._first_above(floor.number("stream_seq", 0), config)
        return Backlog(
            pending=pending,
            in_flight=in_flight,
            oldest=oldest,
            active_at=None if floor.get("last_active") is None else floor.moment("last_active"),
            done=max(0, delivered.number("consumer_seq", 0) - in_flight),
            redelivered=info.number("num_redelivered", 0),
            readers=None if config.text("deliver_subject", "") else info.number("num_waiting", 0),
        )

    async def _first_above(self, floor: int, config: Answer) -> float | None:
        if floor == self._floor and self._oldest is not None:
            return self._oldest
        filters = config.texts("filter_subjects") or [config.text("filter_subject", "") or ">"]
        found = [await self._stored(floor + 1, subject) for subject in filters]
        times = [each for each in found if each is not None]
        self._floor, self._oldest = floor, min(times) if times else None
        return self._oldest

    async def _stored(self, sequence: int, subject: str) -> float | None:
        try:
            answer = await self._nats.api(f"STREAM.MSG.GET.{self._stream}", {"seq": sequence, "next_by_subj": subject})
            return answer.part("message").moment("time")
        except BridgeError:
            return None  # gone meanwhile, or not permitted: the age is unknown, and the counts are still valid


class WatchedConsumers:
    """Consumers of one stream: the one that is named, or all durable ones except `ours`. An ephemeral consumer is only
    a temporary reader (`nats sub`, a KV watch), and after Ctrl-C it stays for a while without one."""

    system: Literal["jetstream"] = "jetstream"
    calls = 0

    def __init__(
        self,
        nats: NatsConnection,
        stream: str,
        consumer: str | None = None,
        *,
        ours: frozenset[str] = frozenset(),
        most: int = 20,
        side: Side = "new",
    ) -> None:
        self.side: Side = side
        self._nats = nats
        self._stream = stream
        self._consumer = consumer
        self._ours = ours
        self._most = most
        self._looks: dict[str, ConsumerLook] = {}

    async def look(self) -> Sequence[Seen]:
        try:
            about = await self._nats.api(f"STREAM.INFO.{self._stream}")
            infos, kept = await self._infos(), retention(about.part("config"))
        except BridgeError as error:
            # Without the list, the consumers seen before are reported as unreadable.
            names = [self._consumer] if self._consumer else list(self._looks)
            return [Seen(f"{self._stream}/{name}", error) for name in names]
        self._looks = {name: self._looks.get(name) or self._new(name) for name in infos}
        return [await self._one(name, info, kept) for name, info in infos.items()]

    def _new(self, name: str) -> ConsumerLook:
        return ConsumerLook(self._nats, self._stream, name)

    async def _one(self, name: str, info: Answer, kept: float) -> Seen:
        seen: Backlog | BridgeError
        try:
            seen = await self._looks[name].read(info)
        except BridgeError as error:
            seen = error
        return Seen(f"{self._stream}/{name}", seen, kept)

    async def _infos(self) -> dict[str, Answer]:
        if self._consumer is not None:
            return {self._consumer: await self._nats.api(f"CONSUMER.INFO.{self._stream}.{self._consumer}")}
        named: dict[str, Answer] = {}
        seen = 0
        for _ in range(PAGES):
            page = await self._nats.api(f"CONSUMER.LIST.{self._stream}", {"offset": seen})
            found = page.parts("consumers")
            shown = [(info.text("name"), info) for info in found if info.part("config").get("durable_name")]
            named |= {name: info for name, info in shown if name not in self._ours}
            seen += len(found)
            if not found or seen >= page.number("total", 0):
                break
        # Watching more would flood the bridge's metrics.
        return {name: named[name] for name in sorted(named)[: self._most]}


class WatchedQueue:
    """A queue others read: its counts, and its age if CloudWatch may be used."""

    system: Literal["sqs"] = "sqs"
    calls = 1

    def __init__(self, aws: AwsConnection, queue: str, *, side: Side = "legacy", cloudwatch: bool = False) -> None:
        self.side: Side = side
        self._aws = aws
        self._queue = queue
        self._name = name_of(queue)
        self._url = queue.rstrip("/") if queue.startswith(("http://", "https://")) else ""
        self._same = False
        self._age = CloudWatchAge(aws, self._name) if cloudwatch else None

    async def look(self) -> Sequence[Seen]:
        try:
            return [await self._look()]
        except BridgeError as error:
            return [Seen(self._name, error, exact=False)]

    async def _look(self) -> Seen:
        if not self._url:
            self._url = await queue_url(self._aws, self._queue)
        answer = await self._aws.call(
            "sqs",
            "get_queue_attributes",
            about=self._name,
            QueueUrl=self._url,
            AttributeNames=[*COUNTS, "MessageRetentionPeriod", "QueueArn"],
        )
        pending, in_flight, delayed = counts_of(answer, self._name)
        facts = Facts(answer, self._name)
        if not self._same and (arn := facts.text("QueueArn")):
            await same_queue(self._aws, self._queue, arn)
            self._same = True
        oldest = await self._age.oldest() if self._age is not None and (pending or in_flight) else None
        retention = facts.number("MessageRetentionPeriod", 345_600)
        return Seen(self._name, Backlog(pending, in_flight, delayed, oldest=oldest), retention, exact=False)


def counts_of(answer: Mapping[str, Any], queue: str) -> tuple[int, int, int]:
    """COUNTS in an answer of GetQueueAttributes. Raises Unavailable if they are missing or not numbers: a queue
    that was not counted is not empty."""
    facts = Facts(answer, f"queue {queue}")
    if COUNTS[0] not in facts:
        raise unreadable(f"queue {queue}", "no counts")
    pending, in_flight, delayed = (int(facts.number(name, 0)) for name in COUNTS)
    return pending, in_flight, delayed


class CloudWatchAge:
    """ApproximateAgeOfOldestMessage of one queue, read once a minute. It leaves out messages received three times or
    more, so it hides poison messages; it is the only age AWS reports without a receive."""

    def __init__(self, aws: AwsConnection, queue: str) -> None:
        self._aws = aws
        self._queue = queue
        self._asked = -CLOUDWATCH_SECONDS
        self._oldest: float | None = None

    async def oldest(self) -> float | None:
        """When the oldest message was sent, in seconds since the epoch; None if CloudWatch does not report it."""
        now = asyncio.get_running_loop().time()
        if now - self._asked >= CLOUDWATCH_SECONDS:
            self._asked = now
            self._oldest = await self._ask()
        return self._oldest

    async def _ask(self) -> float | None:
        end = datetime.now(UTC)
        try:
            answer = await self._aws.call(
                "cloudwatch",
                "get_metric_statistics",
                about=self._queue,
                Namespace="AWS/SQS",
                MetricName="ApproximateAgeOfOldestMessage",
                Dimensions=[{"Name": "QueueName", "Value": self._queue}],
                StartTime=end - CLOUDWATCH_STALE,
                EndTime=end + CLOCKS_APART,
                Period=60,
                Statistics=["Maximum"],
            )
        except BridgeError:
            return None  # not permitted: the age stays unknown, and the counts are still valid
        points = [
            (each["Timestamp"].timestamp(), maximum)
            for each in listed(answer.get("Datapoints")) or ()
            if record(each) and isinstance(each.get("Timestamp"), datetime)
            if (maximum := number(each.get("Maximum"))) is not None
        ]
        return max(points)[0] - max(points)[1] if points else None


async def queue_url(aws: AwsConnection, queue: str, *, missing: str = "") -> str:
    """The URL of a queue given by name or ARN. Raises NotUsable, with the hint `missing` if there is none, and for an
    ARN of another region: a queue of the same name here is another queue."""
    arguments: dict[str, Any] = {"QueueName": queue}
    if queue.startswith("arn:"):
        region, account, name = queue.split(":")[3:6]
        if (here := await aws.region()) != region:
            raise _elsewhere(f"queue {name} is in {region}", here, region)
        arguments = {"QueueName": name, "QueueOwnerAWSAccountId": account}
    answer = await aws.call("sqs", "get_queue_url", about=arguments["QueueName"], missing=missing, **arguments)
    url = text(answer.get("QueueUrl"))
    if url is None or not is_url(url):
        raise unreadable(f"queue {arguments['QueueName']}", "no URL of a queue")
    return url


async def same_queue(aws: AwsConnection, asked: str, arn: str) -> None:
    """Raises NotUsable unless `arn`, as AWS answered it, is the queue that was asked for by name, URL or ARN; and
    Unavailable if it is not a queue's ARN."""
    parts = arn.split(":")
    name = name_of(asked)
    if len(parts) != 6 or parts[0] != "arn":
        raise unreadable(f"queue {name}", "no QueueArn")
    if asked.startswith("arn:") and asked != arn:
        raise NotUsable(
            f"{asked} was asked for, and {arn} answered", hint="check the account and region of this connection"
        )
    if parts[5] != name:
        raise NotUsable(f"queue {name} was asked for, and {arn} answered", hint="check aws.endpoint_url")
    wanted = queue_place(asked)
    if wanted is not None and wanted[0] != parts[3]:
        raise _elsewhere(f"queue {name} is in {wanted[0]}", parts[3], wanted[0])
    if wanted is not None and wanted[1] and wanted[1] != parts[4]:
        raise NotUsable(f"queue {name} of account {wanted[1]} was asked for, and {arn} answered")
    if aws.options.endpoint_url is None and parts[3] != (here := await aws.region()):
        raise _elsewhere(f"queue {name} is in {parts[3]}", here, parts[3])


def _elsewhere(what: str, here: str, there: str) -> NotUsable:
    return NotUsable(f"{what}, and this connection is for {here}", hint=connection_for(there))
