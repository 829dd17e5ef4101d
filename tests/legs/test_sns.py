"""SNS, on two implementations: the exam through a subscribed queue, and what is SNS's own."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from bridge.core.errors import NotUsable
from bridge.core.models import Attribute, Out, SnsOut
from bridge.core.route import Receipt
from bridge.legs.aws import AwsConnection, AwsOptions
from bridge.legs.inventory import topic_facts
from bridge.legs.sns import SnsDestination, open_topic, subscribers, subscriptions
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


async def test_a_subscription_nobody_confirmed_gets_nothing() -> None:
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
