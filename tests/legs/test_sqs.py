"""SQS, on two implementations that differ from each other: the exam, and what is SQS's own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from bridge.core.errors import NotUsable, Refused
from bridge.core.mapping.sizes import sqs_bytes
from bridge.core.models import Attribute, Out, SqsMessage, SqsOut
from bridge.core.route import Ack, Delivery, Receipt, Settlement
from bridge.legs.aws import AwsConnection
from bridge.legs.sqs import Queue, SqsDestination, SqsSource, open_queue
from tests.legs.aws_world import World
from tests.legs.exam import DestinationExam, SourceExam, nothing_left, take, tended

pytestmark = pytest.mark.server


@dataclass
class SqsSourceCandidate:
    world: World
    url: str
    source: SqsSource
    lease: float = 2.0
    ordered: bool = False

    async def put(self, count: int) -> None:
        for start in range(0, count, 10):
            entries = [{"Id": str(n), "MessageBody": str(n)} for n in range(start, min(start + 10, count))]
            await self.world.sqs.send_message_batch(QueueUrl=self.url, Entries=entries)

    def number(self, delivery: Delivery) -> int:
        assert isinstance(delivery.message, SqsMessage)
        return int(delivery.message.body)


class TestSqsSource(SourceExam):
    @pytest.fixture
    async def candidate(
        self, aws_world: World, aws: AwsConnection, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> SqsSourceCandidate:
        monkeypatch.setattr("bridge.legs.sqs.SHORT_LEASE", 0)  # a lease short enough to watch it run out
        url = await aws_world.queue(name, VisibilityTimeout="2")
        return SqsSourceCandidate(aws_world, url, SqsSource(aws, await open_queue(aws, name), wait_seconds=1))

    async def test_a_message_arrives_with_all_that_is_known_of_it(self, candidate: SqsSourceCandidate) -> None:
        await candidate.world.sqs.send_message(
            QueueUrl=candidate.url,
            MessageBody="body ☃",
            MessageAttributes={
                "text": {"DataType": "String.custom", "StringValue": " padded "},
                "number": {"DataType": "Number", "StringValue": "1.50"},
                "bytes": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
            },
            MessageSystemAttributes={"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-5759e988"}},
        )
        (lent,) = await take(candidate.source, 1)
        message = lent.message
        assert isinstance(message, SqsMessage)
        assert message.body == "body ☃"
        assert message.attributes == {
            "text": Attribute("String.custom", " padded "),
            "number": Attribute("Number", "1.50"),
            "bytes": Attribute("Binary", b"\x00\xff"),
        }
        assert message.queue_arn.endswith(f":{message.queue}")
        assert message.system["AWSTraceHeader"] == "Root=1-5759e988"
        assert lent.sent_at == pytest.approx(int(message.system["SentTimestamp"]) / 1000)


async def test_a_short_visibility_timeout_is_replaced_by_one_that_can_be_kept(
    aws_world: World, aws: AwsConnection, name: str
) -> None:
    url = await aws_world.queue(name, VisibilityTimeout="1")
    await aws_world.send(url, "a")
    source = SqsSource(aws, await open_queue(aws, name), wait_seconds=1)
    (lent,) = await take(source, 1)
    other = SqsSource(aws, source.queue, wait_seconds=1)
    assert await nothing_left(other, 3)
    assert list(await source.settle([Settlement(lent, Ack())])) == [None]


async def test_many_leases_are_kept_at_once(aws_world: World, aws: AwsConnection, name: str) -> None:
    url = await aws_world.queue(name, VisibilityTimeout="5")
    for start in range(0, 60, 10):
        entries = [{"Id": str(n), "MessageBody": str(n)} for n in range(start, start + 10)]
        await aws_world.sqs.send_message_batch(QueueUrl=url, Entries=entries)
    source = SqsSource(aws, await open_queue(aws, name), wait_seconds=1)
    async with tended(source):
        lent = await take(source, 60)
        other = SqsSource(aws, source.queue, wait_seconds=1)
        assert await nothing_left(other, 11)
        assert list(await source.settle([Settlement(each, Ack()) for each in lent])) == [None] * 60
    assert await aws_world.counts(url) == (0, 0)


async def test_a_released_fifo_group_comes_back_in_order(aws_world: World, aws: AwsConnection, name: str) -> None:
    url = await aws_world.queue(f"{name}.fifo", VisibilityTimeout="30")
    await aws_world.send(url, *"abcdef", group="g")
    source = SqsSource(aws, await open_queue(aws, f"{name}.fifo"), wait_seconds=1)
    lent = await source.receive(10)
    assert [bodies(each) for each in lent] == list("abcdef")
    await source.release(lent)
    again = await source.receive(10)
    assert [bodies(each) for each in again] == list("abcdef")


def bodies(delivery: Delivery) -> str:
    assert isinstance(delivery.message, SqsMessage)
    return delivery.message.body


@dataclass
class SqsDestinationCandidate:
    world: World
    url: str
    destination: SqsDestination
    limit: int
    recognises: bool = False
    seen: list[int] = field(default_factory=list)

    def out(self, number: int, *, size: int = 10) -> Out:
        return SqsOut(str(number).ljust(size, "_"))

    async def arrived(self, count: int) -> list[int]:
        return [int(each["Body"].rstrip("_")) for each in await self.world.drain(self.url, count)]


class TestSqsDestination(DestinationExam):
    @pytest.fixture
    async def candidate(self, aws_world: World, aws: AwsConnection, name: str) -> SqsDestinationCandidate:
        # Well below what either implementation allows: they count differently near the limit of AWS.
        url = await aws_world.queue(name, MaximumMessageSize="65536")
        queue = await open_queue(aws, name)
        return SqsDestinationCandidate(aws_world, url, SqsDestination(aws, queue), queue.max_message_size)

    async def test_batches_are_cut_by_bytes(self, aws_world: World, aws: AwsConnection, name: str) -> None:
        url = await aws_world.queue(name)
        queue = await open_queue(aws, name)
        destination = SqsDestination(aws, queue)
        outs = [SqsOut(str(number).ljust(200_000, "_")) for number in range(12)]  # 2.4 MB: three calls at least
        answers = await destination.publish(outs)
        assert all(isinstance(answer, Receipt) for answer in answers), answers
        found = await aws_world.drain(url, 12)
        assert sorted(int(each["Body"].rstrip("_")) for each in found) == list(range(12))

    async def test_attributes_arrive_as_they_were(self, candidate: SqsDestinationCandidate) -> None:
        attributes = {
            "a": Attribute("String.x", " padded\n"),
            "b": Attribute("Binary", b"\x00"),
            "n": Attribute("Number", "7"),
        }
        out = SqsOut("body", attributes, trace_header="Root=1-5759e988-bd862e3fe1be46a994272793")
        assert sqs_bytes(out) == 4 + (1 + 8 + 8) + (1 + 6 + 1) + (1 + 6 + 1)
        (answer,) = await candidate.destination.publish([out])
        assert isinstance(answer, Receipt)
        (message,) = await candidate.world.drain(candidate.url, 1)
        assert message["MessageAttributes"]["a"]["StringValue"] == " padded\n"
        assert message["MessageAttributes"]["b"]["BinaryValue"] == b"\x00"
        assert answer.ref == message["MessageId"]


async def test_fifo_groups_keep_their_order(aws_world: World, aws: AwsConnection, name: str) -> None:
    url = await aws_world.queue(f"{name}.fifo")
    destination = SqsDestination(aws, await open_queue(aws, f"{name}.fifo"))
    outs = [SqsOut(f"{group}{n}", group=group, dedup_id=f"{group}-{n}") for n in range(4) for group in "abc"]
    assert all(isinstance(answer, Receipt) for answer in await destination.publish(outs))
    found = [each["Body"] for each in await aws_world.drain(url, 12)]
    for group in "abc":
        assert [body for body in found if body.startswith(group)] == [f"{group}{n}" for n in range(4)]


async def test_opening_says_what_is_missing(aws: AwsConnection, name: str) -> None:
    with pytest.raises(NotUsable, match=f"aws sqs create-queue --queue-name {name}") as missing:
        await open_queue(aws, name)
    assert missing.value.hint.startswith("is the name right, and is it in the account and region (")
    assert "a new queue also needs its subscription, its policy and a redrive policy" in missing.value.hint
    with pytest.raises(NotUsable, match="FifoQueue=true"):
        await open_queue(aws, f"{name}.fifo")


async def test_a_queue_opens_by_name_url_and_arn(aws_world: World, aws: AwsConnection, name: str) -> None:
    url = await aws_world.queue(name)
    by_name = await open_queue(aws, name)
    assert await open_queue(aws, url) == by_name
    by_arn = await open_queue(aws, by_name.arn)
    assert (by_arn.name, by_arn.arn) == (by_name.name, by_name.arn)


async def test_a_queue_deleted_meanwhile_is_reported(aws_world: World, aws: AwsConnection, name: str) -> None:
    url = await aws_world.queue(name)
    queue = await open_queue(aws, name)
    await aws_world.sqs.delete_queue(QueueUrl=url)
    with pytest.raises(NotUsable, match="create-queue"):
        await SqsSource(aws, queue, wait_seconds=1).receive(1)
    (answer,) = await SqsDestination(aws, queue).publish([SqsOut("x")])
    assert isinstance(answer, NotUsable)


async def test_an_empty_body_is_refused_before_it_is_sent(aws: AwsConnection) -> None:
    queue = Queue("http://127.0.0.1:1/q", "arn:q", "q", False, 30.0, 1000, 60.0, False)
    (answer,) = await SqsDestination(aws, queue).publish([SqsOut("")])
    assert isinstance(answer, Refused)


async def test_a_slow_settle_does_not_hold_up_another(aws_world: World, aws: AwsConnection, name: str) -> None:
    url = await aws_world.queue(name)
    await aws_world.send(url, "a", "b")
    source = SqsSource(aws, await open_queue(aws, name), wait_seconds=1)
    lent = await take(source, 2)
    answers = await asyncio.gather(*(source.settle([Settlement(each, Ack())]) for each in lent))
    assert [list(each) for each in answers] == [[None], [None]]
    assert await aws_world.counts(url) == (0, 0)
