"""Looks at consumers and queues: what waits, how old it is, and what cannot be seen."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from math import inf
from typing import Any

import pytest

from bridge.core.errors import BridgeError, NotUsable
from bridge.core.route import Ack, Backlog, Retry, Settlement
from bridge.embedded import MotoServer, NatsServer
from bridge.legs.aws import AwsConnection, AwsOptions
from bridge.legs.backlogs import ConsumerLook, WatchedConsumers, WatchedQueue
from bridge.legs.consumer import open_consumer
from bridge.legs.jetstream import JetStreamSource
from bridge.legs.nats import NatsConnection, NatsOptions
from bridge.legs.sqs import SqsSource, open_queue
from tests.legs.aws_world import REGION, World
from tests.legs.exam import take
from tests.legs.test_jetstream import add_consumer, add_stream

pytestmark = pytest.mark.server


class Clock:
    """The clocks of a module, standing still."""

    def __init__(self, wall: float, monotonic: float) -> None:
        self.time = lambda: wall
        self.monotonic = lambda: monotonic


@pytest.fixture
async def nats(nats_server: NatsServer) -> AsyncIterator[NatsConnection]:
    async with NatsConnection(NatsOptions((nats_server.url,))) as connection:
        yield connection


async def publish(nats: NatsConnection, *subjects: str) -> list[float]:
    """One message each; returns when the server stored them."""
    stored = []
    for subject in subjects:
        (reply,) = await nats.replies.ask([(subject, b"x", b"")], 5)
        assert reply is not None
        stored.append(time.time())
    return stored


class TestConsumer:
    async def test_the_age_is_that_of_the_first_not_acknowledged(self, nats: NatsConnection, name: str) -> None:
        await add_stream(nats, name)
        await add_consumer(nats, name, "c", ack_wait=30 * 10**9)
        stored = await publish(nats, *[f"{name}.{n}" for n in range(3)])
        look = ConsumerLook(nats, name, "c")
        backlog = await look.backlog()
        assert (backlog.pending, backlog.in_flight, backlog.done) == (3, 0, 0)
        assert backlog.oldest == pytest.approx(stored[0], abs=1)
        assert backlog.active_at is None
        source = JetStreamSource(nats, await open_consumer(nats, name, "c"))
        lent = await take(source, 3)
        await source.settle([Settlement(lent[0], Ack()), Settlement(lent[2], Ack())])
        after = await look.backlog()
        assert (after.pending, after.in_flight, after.done) == (0, 1, 2)
        second = await nats.api(f"STREAM.MSG.GET.{name}", {"seq": 2})
        assert after.oldest == datetime.fromisoformat(second["message"]["time"]).timestamp()
        assert after.active_at == pytest.approx(time.time(), abs=30)
        # Delivered again it is no younger.
        await source.settle([Settlement(lent[1], Retry(0))])
        (again,) = await take(source, 1)
        assert again.attempt == 2
        redelivered = await look.backlog()
        assert (redelivered.oldest, redelivered.redelivered) == (after.oldest, 1)

    @pytest.mark.parametrize("config", [{"filter_subject": "{}.b"}, {"filter_subjects": ["{}.b", "{}.c"]}])
    async def test_messages_it_does_not_ask_for_have_no_age(
        self, nats: NatsConnection, name: str, config: dict[str, Any]
    ) -> None:
        await add_stream(nats, name)
        filters = {
            key: value.format(name) if isinstance(value, str) else [each.format(name) for each in value]
            for key, value in config.items()
        }
        await add_consumer(nats, name, "c", **filters)
        await publish(nats, f"{name}.a", f"{name}.a")
        look = ConsumerLook(nats, name, "c")
        assert (await look.backlog()).oldest is None
        await publish(nats, f"{name}.b", f"{name}.c")
        third = await nats.api(f"STREAM.MSG.GET.{name}", {"seq": 3})
        backlog = await look.backlog()
        assert backlog.oldest == datetime.fromisoformat(third["message"]["time"]).timestamp()
        assert backlog.pending == len(filters.get("filter_subjects", "b"))

    async def test_all_of_a_stream_but_our_own_and_no_more_than_asked_for(
        self, nats: NatsConnection, name: str
    ) -> None:
        await add_stream(nats, name, max_age=3600 * 10**9)
        for consumer in ("a", "b", "ours", "z"):
            await add_consumer(nats, name, consumer)
        watched = WatchedConsumers(nats, name, ours=frozenset({"ours"}), most=2)
        seen = await watched.look()
        assert [(each.name, each.retention) for each in seen] == [(f"{name}/a", 3600.0), (f"{name}/b", 3600.0)]
        await nats.api(f"CONSUMER.DELETE.{name}.a")
        assert [each.name for each in await watched.look()] == [f"{name}/b", f"{name}/z"]

    async def test_what_someone_left_by_ctrl_c_is_no_service_that_is_down(
        self, nats: NatsConnection, name: str
    ) -> None:
        """Ephemeral and ordered consumers, more of them than a page of the list has; by name each can be watched."""
        await add_stream(nats, name)
        client = await nats.live()
        ordered = await client.jetstream().subscribe(f"{name}.>", ordered_consumer=True)

        async def ephemeral(number: int) -> None:
            config = {"name": f"a-{number:03}", "ack_policy": "none", "inactive_threshold": 60 * 10**9}
            body = {"stream_name": name, "config": config}
            await nats.api(f"CONSUMER.CREATE.{name}.a-{number:03}", body)

        await asyncio.gather(*[ephemeral(number) for number in range(257)])
        await add_consumer(nats, name, "z-durable")
        await add_consumer(nats, name, "z-push", deliver_subject=f"push.{name}")
        seen = await WatchedConsumers(nats, name).look()
        assert [each.name for each in seen] == [f"{name}/z-durable", f"{name}/z-push"]
        (named,) = await WatchedConsumers(nats, name, "a-007").look()
        assert isinstance(named.backlog, Backlog)
        await ordered.unsubscribe()

    async def test_one_that_is_not_there_is_unknown_and_not_empty(self, nats: NatsConnection, name: str) -> None:
        await add_stream(nats, name)
        (seen,) = await WatchedConsumers(nats, name, "nobody").look()
        assert seen.name == f"{name}/nobody"
        assert isinstance(seen.backlog, NotUsable)
        await add_consumer(nats, name, "c")
        watched = WatchedConsumers(nats, name)
        assert isinstance((await watched.look())[0].backlog, Backlog)
        await nats.api(f"STREAM.DELETE.{name}")
        (gone,) = await watched.look()
        assert isinstance(gone.backlog, BridgeError)

    async def test_a_stalled_source_resubscribes(self, nats: NatsConnection, name: str) -> None:
        """The server has lost our interest in the pull's inbox: every pull ends empty though messages wait."""
        await add_stream(nats, name)
        await add_consumer(nats, name, "c")
        source = JetStreamSource(nats, await open_consumer(nats, name, "c"))
        await publish(nats, f"{name}.a")
        (first,) = await take(source, 1)
        await source.settle([Settlement(first, Ack())])
        client = await nats.live()
        for sid, subscription in list(client._subs.items()):
            if subscription.subject.startswith("_INBOX.") and any(
                pull.inbox in subscription.subject for pull in source._idle
            ):
                await client._send_unsubscribe(sid)
        await publish(nats, f"{name}.b")
        assert list(await source.receive(10)) == []
        assert (await source.backlog()).pending == 1
        await source.resubscribe()
        (second,) = await take(source, 1)
        assert second.id == f"{name}:2"
        # When that did not help, it gets a connection of its own: the shared one serves other routes.
        before = nats.generation
        await source.resubscribe()
        assert await nats.live() is client
        await source.settle([Settlement(second, Ack())])
        await publish(nats, f"{name}.c")
        assert (await take(source, 1))[0].id == f"{name}:3"
        assert nats.generation == before
        assert source._nats is not nats
        await source.close()
        assert not source._nats.is_connected


class TestQueue:
    async def test_the_age_of_a_source_is_sampled_from_what_it_lends(
        self, aws_world: World, aws: AwsConnection, name: str
    ) -> None:
        url = await aws_world.queue(name)
        source = SqsSource(aws, await open_queue(aws, name), wait_seconds=1)
        await aws_world.send(url, "a", "b")
        waiting = await source.backlog()
        assert (waiting.pending, waiting.oldest) == (2, None)  # nothing came yet: unknown, and not zero
        lent = await take(source, 2)
        held = await source.backlog()
        assert held.oldest == min(each.sent_at for each in lent)
        # Handed back it waits for its next delivery, and is as old as ever.
        await source.settle([Settlement(lent[0], Retry(30)), Settlement(lent[1], Ack())])
        assert (await source.backlog()).oldest == lent[0].sent_at

    async def test_what_was_carried_and_comes_again_is_no_lag(
        self, aws_world: World, aws: AwsConnection, name: str
    ) -> None:
        """A redelivery is as old as its message, and the message has long been carried."""
        url = await aws_world.queue(name, VisibilityTimeout="30")
        await aws_world.send(url, "old")
        other = SqsSource(aws, await open_queue(aws, name), wait_seconds=1)
        (lost,) = await take(other, 1)
        await other.release([lost])
        source = SqsSource(aws, await open_queue(aws, name), wait_seconds=1)
        (again,) = await take(source, 1)
        assert again.attempt == 2
        assert (await source.backlog()).oldest is None

    async def test_an_empty_receive_bounds_the_age_of_what_comes_next(
        self, aws_world: World, aws: AwsConnection, name: str
    ) -> None:
        url = await aws_world.queue(name)
        source = SqsSource(aws, await open_queue(aws, name), wait_seconds=1)
        began = time.time()
        assert not await source.receive(10)
        await aws_world.send(url, "a")
        backlog = await source.backlog()
        assert backlog.pending == 1
        assert backlog.oldest is not None
        assert began <= backlog.oldest <= time.time()

    async def test_a_clock_that_is_set_back_makes_nothing_younger(
        self, aws_world: World, aws: AwsConnection, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        url = await aws_world.queue(name)
        source = SqsSource(aws, await open_queue(aws, name), wait_seconds=0)
        assert not await source.receive(10)
        await aws_world.send(url, "a")
        before = await source.backlog()
        assert before.oldest is not None
        age = time.time() - before.oldest
        # As the time of one leg: what signs requests has to keep AWS's.
        monkeypatch.setattr("bridge.legs.sqs.time", Clock(time.time() - 3600, time.monotonic() + 30))
        after = await source.backlog()
        assert after.oldest is not None
        assert time.time() - 3600 - after.oldest == pytest.approx(age + 30, abs=2)

    async def test_a_queue_of_others_is_counted(self, aws_world: World, aws: AwsConnection, name: str) -> None:
        url = await aws_world.queue(name, MessageRetentionPeriod="3600")
        await aws_world.send(url, "a", "b")
        for given in (name, url):
            (seen,) = await WatchedQueue(aws, given).look()
            assert seen.name == name
            assert seen.backlog == Backlog(2)
            assert (seen.retention, seen.exact) == (3600.0, False)
        (missing,) = await WatchedQueue(aws, f"{name}-no").look()
        assert isinstance(missing.backlog, NotUsable)
        assert missing.retention == inf

    async def test_a_dead_letter_queue_is_known(self, aws_world: World, aws: AwsConnection, name: str) -> None:
        dead = f"arn:aws:sqs:{REGION}:{'0' * 12}:{name}-dead"
        await aws_world.queue(f"{name}-dead")
        facts = (await open_queue(aws, f"{name}-dead")).arn or dead
        await aws_world.queue(name, RedrivePolicy=f'{{"deadLetterTargetArn": "{facts}", "maxReceiveCount": "3"}}')
        queue = await open_queue(aws, name)
        assert queue.dead_letter == facts
        (seen,) = await WatchedQueue(aws, queue.dead_letter, side="dead_letter").look()
        assert seen.backlog == Backlog(0)
        assert seen.name == f"{name}-dead"


async def test_cloudwatch_shows_the_age_where_it_may_be_asked(moto_server: MotoServer, name: str) -> None:
    async with AwsConnection(AwsOptions(region=REGION, endpoint_url=moto_server.url)) as aws:
        await aws.call("sqs", "create_queue", about=name, QueueName=name)
        url = (await aws.call("sqs", "get_queue_url", about=name, QueueName=name))["QueueUrl"]
        await aws.call("sqs", "send_message", about=name, QueueUrl=url, MessageBody="a")
        watched = WatchedQueue(aws, name, cloudwatch=True)
        (unknown,) = await watched.look()
        assert isinstance(unknown.backlog, Backlog)
        assert unknown.backlog.oldest is None
        point = {
            "MetricName": "ApproximateAgeOfOldestMessage",
            "Dimensions": [{"Name": "QueueName", "Value": name}],
            "Timestamp": datetime.now(UTC) - timedelta(minutes=2),  # a minute is told when it is over
            "Value": 77.0,
        }
        # moto takes what AWS keeps to itself: values in a namespace of AWS's own.
        await aws.call("cloudwatch", "put_metric_data", about=name, Namespace="AWS/SQS", MetricData=[point])
        fresh = WatchedQueue(aws, name, cloudwatch=True)

        (seen,) = await fresh.look()
        assert isinstance(seen.backlog, Backlog)
        assert seen.backlog.oldest == pytest.approx(time.time() - 120 - 77, abs=60)
