"""What exists in AWS and NATS, for `check`: facts about queues, topics, streams and consumers, read-only.

Permissions are tried with calls that change nothing: a delete of an invalid handle, an empty batch. AWS checks the
permission before it checks the arguments.
May not: judge (core/findings.py does), or touch a message.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import orjson

from bridge.core.advice import those_here
from bridge.core.errors import BridgeError, NotUsable, Unavailable
from bridge.core.facts import ConsumerFacts, QueueFacts, StreamFacts, TopicFacts
from bridge.core.regions import arn_place
from bridge.core.subjects import permitted
from bridge.legs.answers import Answer
from bridge.legs.aws import AwsConnection
from bridge.legs.aws_shapes import pages, text
from bridge.legs.nats import NatsConnection, stream_info
from bridge.legs.sns import open_topic, queues_among, subscriptions
from bridge.legs.sqs import Queue, open_queue

LISTED_PAGES = 50  # of a hundred subscriptions; beyond that they are not read
NO_HANDLE = "nats-sqs-bridge-check"


async def queue_facts(aws: AwsConnection, name: str) -> QueueFacts:
    """Raises NotUsable or Unavailable."""
    queue = await open_queue(aws, name)
    return QueueFacts(
        name=queue.name,
        arn=queue.arn,
        fifo=queue.fifo,
        visibility_timeout=queue.visibility_timeout,
        max_message_size=queue.max_message_size,
        redrives=queue.redrives,
        retention=queue.retention,
        policy=queue.policy,
    )


async def topics_of(aws: AwsConnection, queue_arn: str) -> tuple[str, ...] | None:
    """The ARNs of the topics a queue is subscribed to, or None without the permission to list them."""
    found: list[str] = []
    token: dict[str, Any] = {}
    seen: set[str] = set()
    while True:
        try:
            answer = await aws.call("sns", "list_subscriptions", about=queue_arn, **token)
        except BridgeError:
            return None  # a permission the bridge itself does not need
        subscribed, following = pages(answer, "Subscriptions", "NextToken", seen)
        ours = [each for each in subscribed if each.get("Endpoint") == queue_arn]
        found += [topic for each in ours if (topic := text(each.get("TopicArn"))) is not None]
        if following is None:
            return tuple(found)
        if len(seen) >= LISTED_PAGES:
            return None
        token = {"NextToken": following}


async def feeds_of(aws: AwsConnection, topic: TopicFacts) -> tuple[QueueFacts, ...]:
    """The queues subscribed to a topic in its own region and account, as far as we may read them."""
    found = []
    for arn in topic.feeds or ():
        if arn_place(arn) == arn_place(topic.arn):
            with suppress(BridgeError):  # its lag is reported as unknown elsewhere
                found.append(await queue_facts(aws, arn))
    return tuple(found)


async def may_consume(aws: AwsConnection, name: str) -> list[BridgeError]:
    """Which of receiving, deleting and extending are not permitted. A receive for zero messages is an error on servers
    that check the number, and returns none on the others."""
    queue = await open_queue(aws, name)
    handle = [{"Id": "0", "ReceiptHandle": NO_HANDLE}]
    hidden = [{**handle[0], "VisibilityTimeout": 0}]
    return await _denied(
        aws,
        queue,
        ("sqs", "receive_message", {"MaxNumberOfMessages": 0, "VisibilityTimeout": 0, "WaitTimeSeconds": 0}),
        ("sqs", "delete_message_batch", {"Entries": handle}),
        ("sqs", "change_message_visibility_batch", {"Entries": hidden}),
    )


async def may_send(aws: AwsConnection, name: str) -> list[BridgeError]:
    """Whether we may send: an empty batch sends nothing."""
    queue = await open_queue(aws, name)
    return await _denied(aws, queue, ("sqs", "send_message_batch", {"Entries": []}))


async def _denied(aws: AwsConnection, queue: Queue, *calls: tuple[str, str, dict[str, Any]]) -> list[BridgeError]:
    found: list[BridgeError] = []
    for service, operation, arguments in calls:
        try:
            await aws.call(service, operation, about=queue.name, QueueUrl=queue.url, **arguments)
        except BridgeError as error:
            if isinstance(error, NotUsable):
                found.append(error)
    return found


async def topic_facts(aws: AwsConnection, name: str) -> tuple[TopicFacts, list[BridgeError]]:
    """The topic, and the publish permissions that are missing."""
    topic = await open_topic(aws, name)
    denied: list[BridgeError] = []
    try:
        await aws.call("sns", "publish_batch", about=topic.name, TopicArn=topic.arn, PublishBatchRequestEntries=[])
    except BridgeError as error:
        if isinstance(error, NotUsable):
            denied.append(error)
    found = await subscriptions(aws, topic.arn)
    count = None if found is None else len(found)
    return TopicFacts(topic.name, topic.arn, topic.fifo, queues_among(found), count), denied


PAGES = 400  # of 256 consumers; a list that never ends is not followed


async def stream_facts(nats: NatsConnection, name: str) -> StreamFacts:
    """Raises NotUsable or Unavailable."""
    info = await stream_info(nats, name)
    config = info.part("config")
    consumers: list[ConsumerFacts] = []
    for _ in range(PAGES):
        page = await nats.api(f"CONSUMER.LIST.{name}", {"offset": len(consumers)})
        known = {each.name for each in consumers}
        found = [each for each in map(_consumer, page.parts("consumers")) if each.name not in known]
        consumers += found
        if len(consumers) >= page.number("total", 0) or not found:
            break
    return StreamFacts(
        name=name,
        subjects=tuple(config.texts("subjects")),
        retention=config.text("retention", ""),
        discard=config.text("discard", ""),
        limited=config.number("max_msgs", -1) > 0 or config.number("max_bytes", -1) > 0,
        duplicate_window=config.seconds("duplicate_window", 0),
        max_msg_size=config.number("max_msg_size", -1),
        consumers=tuple(consumers),
    )


async def see_watched(nats: NatsConnection, stream: str, consumer: str | None) -> None:
    """Raises NotUsable if there is no such stream, or no such consumer in it, and lists what exists instead."""
    await stream_info(nats, stream)
    if consumer is None:
        return
    try:
        await nats.api(f"CONSUMER.INFO.{stream}.{consumer}")
    except NotUsable as error:
        if error.hint:
            raise
        names = (await nats.api(f"CONSUMER.NAMES.{stream}")).texts("consumers")
        raise NotUsable(str(error.args[0]), hint=those_here(f"consumers of {stream}", names)) from error


def _consumer(info: Answer) -> ConsumerFacts:
    config = info.part("config")
    filters = config.texts("filter_subjects") or [each for each in [config.text("filter_subject", "")] if each]
    return ConsumerFacts(
        name=info.text("name"),
        filters=tuple(filters),
        ack_wait=config.seconds("ack_wait", 30 * 10**9),
        max_deliver=config.number("max_deliver", -1),
        pinned=config.text("priority_policy", "") == "pinned_client",
    )


async def streams_for(nats: NatsConnection, pattern: str) -> list[str]:
    """The names of the streams that capture some of `pattern`."""
    return (await nats.api("STREAM.NAMES", {"subject": pattern})).texts("streams")


async def max_payload(nats: NatsConnection) -> int:
    """The server's limit on headers and payload together, in bytes."""
    await nats.live()
    return nats.max_payload


async def not_permitted(nats: NatsConnection, *, publish: list[str], subscribe: list[str]) -> list[BridgeError] | None:
    """The subjects our user may not use, as the server reports them. None if it reports nothing: it is unknown."""
    (reply,) = await nats.replies.ask([("$SYS.REQ.USER.INFO", b"", b"")], 2)
    try:
        answer = Answer({"answer": orjson.loads(reply.data if reply else b"")}, "$SYS.REQ.USER.INFO").part("answer")
        permissions = answer.part("data").part("permissions")
        rules = {verb: permissions.part(verb) for verb in ("publish", "subscribe")}
        lists = {verb: (rule.texts("allow"), rule.texts("deny")) for verb, rule in rules.items()}
    except (ValueError, Unavailable):  # old servers, and users who may not ask
        return None
    found: list[BridgeError] = []
    for verb, subjects in (("publish", publish), ("subscribe", subscribe)):
        allow, deny = lists[verb]
        found += [
            NotUsable(f"the NATS user may not {verb} {subject}", hint=f"allow it: {verb}: {subject}")
            for subject in subjects
            if not permitted(subject, allow, deny)
        ]
    return found
