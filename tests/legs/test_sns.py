"""SNS, on two implementations: the exam through a subscribed queue, and what is SNS's own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from bridge.core.errors import NotUsable
from bridge.core.models import Attribute, Out, SnsOut
from bridge.core.route import Receipt
from bridge.legs.aws import AwsConnection, AwsOptions
from bridge.legs.inventory import topic_facts
from bridge.legs.sns import SnsDestination, Topic, open_topic, subscribers, subscriptions
from tests.legs.aws_world import REGION, World
from tests.legs.exam import DestinationExam

pytestmark = pytest.mark.server


@dataclass
class SnsDestinationCandidate:
    world: World
    url: str
    destination: SnsDestination
    limit: int
    recognises: bool = False

    def out(self, number: int, *, size: int = 10) -> Out:
        return SnsOut(str(number).ljust(size, "_"))

    async def arrived(self, count: int) -> list[int]:
        return [int(json.loads(m["Body"])["Message"].rstrip("_")) for m in await self.world.drain(self.url, count)]


class TestSnsDestination(DestinationExam):
    @pytest.fixture
    async def candidate(self, aws_world: World, aws: AwsConnection, name: str) -> SnsDestinationCandidate:
        url = await aws_world.queue(name)
        await aws_world.topic(name, feeds=url)
        topic = await open_topic(aws, name)
        # Half of what a topic takes: an envelope around a full message does not fit every implementation's queue.
        topic = type(topic)(topic.arn, topic.name, topic.fifo, topic.max_message_size // 2)
        return SnsDestinationCandidate(aws_world, url, SnsDestination(aws, topic), topic.max_message_size)

    async def test_subject_and_attributes_arrive(self, candidate: SnsDestinationCandidate) -> None:
        out = SnsOut("hello", {"kind": Attribute("String", "greeting")}, subject="A subject")
        (answer,) = await candidate.destination.publish([out])
        assert isinstance(answer, Receipt)
        (message,) = await candidate.world.drain(candidate.url, 1)
        envelope = json.loads(message["Body"])
        assert (envelope["Message"], envelope["Subject"]) == ("hello", "A subject")
        assert envelope["MessageAttributes"]["kind"] == {"Type": "String", "Value": "greeting"}
        assert envelope["MessageId"] == answer.ref


async def test_a_topic_opens_by_name_and_arn(aws_world: World, aws: AwsConnection, name: str) -> None:
    arn = await aws_world.topic(name)
    by_name = await open_topic(aws, name)
    assert (by_name.arn, by_name.fifo, by_name.max_message_size) == (arn, False, 262_144)
    assert await open_topic(aws, arn) == by_name


async def test_opening_says_what_is_missing(aws: AwsConnection, name: str) -> None:
    with pytest.raises(NotUsable, match=f"aws sns create-topic --name {name}"):
        await open_topic(aws, name)
    with pytest.raises(NotUsable, match="create-topic"):
        await open_topic(aws, f"arn:aws:sns:{REGION}:000000000000:{name}")


async def test_fifo_topics_keep_the_order_of_a_group(aws_world: World, aws: AwsConnection, name: str) -> None:
    url = await aws_world.queue(f"{name}.fifo")
    await aws_world.topic(f"{name}.fifo", feeds=url, raw=True)
    destination = SnsDestination(aws, await open_topic(aws, f"{name}.fifo"))
    outs = [SnsOut(f"g{n}", group="g", dedup_id=f"d{n}") for n in range(5)]
    assert all(isinstance(answer, Receipt) for answer in await destination.publish(outs))
    assert [each["Body"] for each in await aws_world.drain(url, 5)] == [f"g{n}" for n in range(5)]


async def test_only_confirmed_subscriptions_count(aws_world: World, aws: AwsConnection, name: str) -> None:
    url = await aws_world.queue(name)
    bare, fed = await aws_world.topic(f"{name}-bare"), await aws_world.topic(name, feeds=url)
    assert await subscriptions(aws, bare) == []
    assert (await topic_facts(aws, bare))[0].subscriptions == 0
    (facts, _) = await topic_facts(aws, fed)
    assert (facts.subscriptions, [arn.rpartition(":")[2] for arn in facts.feeds or ()]) == (1, [name])
    assert await subscribers(aws, fed) == facts.feeds


def listing(arn: str, token: str = "") -> str:
    entry = (
        f"<member><Protocol>sqs</Protocol><Endpoint>arn:q</Endpoint><SubscriptionArn>{arn}</SubscriptionArn></member>"
    )
    inside = f"<Subscriptions>{entry}</Subscriptions>{token and f'<NextToken>{token}</NextToken>'}"
    answer = f"<ListSubscriptionsByTopicResult>{inside}</ListSubscriptionsByTopicResult>"
    return f"<ListSubscriptionsByTopicResponse>{answer}</ListSubscriptionsByTopicResponse>"


async def test_a_subscription_no_one_confirmed_gets_nothing() -> None:
    pages = [listing("PendingConfirmation", "next"), listing("arn:s")]

    async def reply(_: web.Request) -> web.Response:
        return web.Response(text=pages.pop(0), content_type="text/xml")

    app = web.Application()
    app.router.add_post("/", reply)
    async with (
        TestServer(app) as server,
        AwsConnection(AwsOptions(region=REGION, endpoint_url=str(server.make_url("/")))) as aws,
    ):
        assert await subscriptions(aws, "arn:t") == [("sqs", "arn:q")]
    assert pages == []


@dataclass
class Publishes:
    """SNS that answers a PublishBatch once `gate` is open. `batches` are the messages of each, `entered` says that one
    has come."""

    batches: list[list[str]] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    entered: asyncio.Event = field(default_factory=asyncio.Event)

    async def reply(self, request: web.Request) -> web.Response:
        form = dict(parse_qsl(await request.text()))
        assert form["Action"] == "PublishBatch"
        entries = "PublishBatchRequestEntries.member"
        places = range(1, 1 + sum(key.startswith(entries) and key.endswith(".Message") for key in form))
        self.batches.append([form[f"{entries}.{place}.Message"] for place in places])
        self.entered.set()
        await self.gate.wait()
        members = "".join(
            f"<member><Id>{form[f'{entries}.{place}.Id']}</Id>"
            f"<MessageId>id-{form[f'{entries}.{place}.Message']}</MessageId></member>"
            for place in places
        )
        result = f"<PublishBatchResult><Successful>{members}</Successful></PublishBatchResult>"
        return web.Response(text=f"<PublishBatchResponse>{result}</PublishBatchResponse>", content_type="text/xml")


@asynccontextmanager
async def publishing(name: str) -> AsyncIterator[tuple[Publishes, SnsDestination]]:
    publishes = Publishes()
    app = web.Application()
    app.router.add_post("/", publishes.reply)
    async with (
        TestServer(app) as server,
        AwsConnection(AwsOptions(region=REGION, endpoint_url=str(server.make_url("/")))) as aws,
    ):
        topic = Topic(f"arn:aws:sns:{REGION}:1:{name}", name, name.endswith(".fifo"), 262_144)
        yield publishes, SnsDestination(aws, topic)
        publishes.gate.set()


def single(destination: SnsDestination, body: str, group: str) -> asyncio.Task[object]:
    """One message, published by itself, as a pump does that gets them one by one."""

    async def publish() -> object:
        (answer,) = await destination.publish([SnsOut(body, group=group, dedup_id=body)])
        assert isinstance(answer, Receipt)
        return answer.ref

    return asyncio.create_task(publish())


async def test_an_idle_topic_publishes_at_once_and_what_comes_meanwhile_goes_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bridge.legs.sns.LINGER", 60)
    async with publishing("t") as (publishes, destination), asyncio.timeout(20):
        tasks = [single(destination, "m0", "g")]
        await publishes.entered.wait()  # with nothing under way it waits for nobody, else this would take a minute
        tasks += [single(destination, f"m{n}", "g") for n in range(1, 8)]
        await asyncio.sleep(0)
        publishes.gate.set()
        assert await asyncio.gather(*tasks) == [f"id-m{n}" for n in range(8)]
    assert publishes.batches == [["m0"], [f"m{n}" for n in range(1, 8)]]


async def test_ten_that_gathered_wait_for_no_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.legs.sns.LINGER", 60)
    async with publishing("t") as (publishes, destination), asyncio.timeout(20):
        tasks = [single(destination, "m0", "g")]
        await publishes.entered.wait()
        publishes.entered.clear()
        tasks += [single(destination, f"m{n}", "g") for n in range(1, 11)]
        await publishes.entered.wait()  # the first is still not answered
        assert publishes.batches == [["m0"], [f"m{n}" for n in range(1, 11)]]
        publishes.gate.set()
        await asyncio.gather(*tasks)


async def test_what_gathers_for_a_fifo_topic_keeps_the_order_of_each_group() -> None:
    async with publishing("t.fifo") as (publishes, destination), asyncio.timeout(20):
        tasks = [single(destination, "m", "other")]
        await publishes.entered.wait()
        tasks += [single(destination, f"{group}{n}", group) for n in range(4) for group in "ab"]
        await asyncio.sleep(0)
        publishes.gate.set()
        await asyncio.gather(*tasks)
    sent = [body for batch in publishes.batches for body in batch]
    for group in "ab":
        assert [body for body in sent if body[0] == group] == [f"{group}{n}" for n in range(4)]
    # Two of a group never share a batch: one that fails alone would let the other overtake it.
    assert all(len({body[0] for body in batch}) == len(batch) for batch in publishes.batches)
    assert len(publishes.batches) == 5
