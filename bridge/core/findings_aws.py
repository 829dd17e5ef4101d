"""What `check` finds about queues and topics: who may send, copies under one id, and messages too large for everything.

May not: look anything up. legs/inventory.py gathers the facts; every rule here is one function of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from bridge.core.facts import QueueFacts, RouteFacts, StreamFacts, World

Level = Literal["error", "warning", "ok"]

PARKED_ROOM = 4096  # bytes of what parking adds to a message: the reason, the route, what was known of it


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the table. `advice` is what to do about it, empty when nothing is to be done."""

    level: Level
    route: str
    what: str
    text: str
    advice: str = ""


def senders(route: RouteFacts) -> Iterator[Finding]:
    """Topics that cannot deliver, and queues that accept messages from anyone."""
    queue, topic = route.queue, route.to_topic
    if queue is not None:
        for arn in dict.fromkeys([*(queue.topics or ()), *(route.verified or ())]):
            if not _delivers(queue, arn):
                yield _undelivered(route, queue, arn)
        if queue.policy is not None and queue.policy.anyone:
            forged = (
                "and an SNS envelope can be forged, message ids included: a forged id makes a real message a duplicate"
                if route.envelopes and route.verified is None
                else "and fill it"
            )
            yield Finding(
                "warning",
                route.name,
                f"queue {queue.name}",
                f"its policy lets anyone send to it (Principal * without a condition), {forged}",
                "let only the topic send (Condition ArnEquals aws:SourceArn), and set `verify` on the source",
            )
    if topic is not None:
        for feed in route.feeds:
            if not _delivers(feed, topic.arn):
                yield _undelivered(route, feed, topic.arn)


def unverified(route: RouteFacts) -> Iterator[Finding]:
    """Worth knowing about a queue that a topic feeds: any other sender can imitate the topic's messages."""
    queue = route.queue
    if queue is None or not route.envelopes or route.verified is not None or not queue.topics:
        return
    if queue.policy is None or not queue.policy.anyone:
        unsigned = any(topic.endswith(".fifo") for topic in queue.topics)
        yield Finding(
            "ok",
            route.name,
            f"queue {queue.name}",
            "envelopes are not verified: anyone who may send to the queue can forge one, message ids included",
            "SNS does not sign messages of a FIFO topic: let no role or user send to the queue (sqs:SendMessage), "
            "only the topic"
            if unsigned
            else "set `verify` to the topic's ARN, or let no role or user send to the queue, only the topic",
        )


def _delivers(queue: QueueFacts, topic: str) -> bool:
    return queue.policy is not None and queue.policy.lets(topic)


def _undelivered(route: RouteFacts, queue: QueueFacts, topic: str) -> Finding:
    return Finding(
        "error",
        route.name,
        f"queue {queue.name}",
        f"its policy does not let {topic} send to it: SNS drops what is published there, and reports it to no one",
        "allow Principal {Service: sns.amazonaws.com} the Action sqs:SendMessage on "
        f"{queue.arn} with Condition {{ArnEquals: {{aws:SourceArn: {topic}}}}}",
    )


def shared_ids(world: World) -> Iterator[Finding]:
    """Two queues of one topic hold the same SNS message ids; in one stream the second copy counts as a duplicate."""
    seen: dict[str, list[RouteFacts]] = {}
    for route in world.routes:
        if not route.sns_ids or route.queue is None:
            continue
        for stream in route.destinations:
            for first in seen.setdefault(stream.name, []):
                if first.queue is not None and _may_share(first.queue, route.queue):
                    yield _copies(first, route, stream)
                    break
            seen[stream.name].append(route)


def _may_share(one: QueueFacts, other: QueueFacts) -> bool:
    """Whether one topic may feed both: not if all that feeds them is known, and differs."""
    if one.topics is not None and other.topics is not None:
        return not set(one.topics).isdisjoint(other.topics)
    if one.policy is not None and other.policy is not None and not (one.policy.others or other.policy.others):
        return one.policy.may_share(other.policy)
    return True


def _copies(first: RouteFacts, route: RouteFacts, stream: StreamFacts) -> Finding:
    where = f"stream {stream.name}"
    if (first.subject or first.pattern) != (route.subject or route.pattern):
        return Finding(
            "error",
            route.name,
            where,
            f"route {first.name} publishes into it too, under another subject: where both queues are subscribed to one "
            "topic, only one copy of a message is stored, and which subject it gets is not predictable",
            "set `id_scope: queue` on both destinations, or give each queue its own stream",
        )
    return Finding(
        "warning",
        route.name,
        where,
        f"route {first.name} publishes into it too: where both queues are subscribed to one topic, "
        "the second copy of a message is a duplicate and is not stored",
        "give each queue its own stream, set `id_scope: queue`, or `envelope: never` on one of the routes",
    )


def stuck(route: RouteFacts) -> Iterator[Finding]:
    """Messages that neither the destination nor the parking queue takes: they stay at the source."""
    parking = route.parking_queue
    if route.claim_check or parking is None:
        return
    room = parking.max_message_size - PARKED_ROOM
    if route.queue is not None:
        # As large as the queue takes them; the stream takes less.
        needed, limits = route.queue.max_message_size, [route.max_payload or route.queue.max_message_size]
        limits += [stream.max_msg_size for stream in route.destinations if stream.max_msg_size > 0]
        if needed > min(limits) and needed > room:
            yield _stuck(route, f"a message of {needed:,} bytes, which queue {route.queue.name} takes,", parking)
        return
    to = route.to_queue.max_message_size if route.to_queue is not None else None
    stream = route.stream
    if stream is None or to is None or not route.max_payload:
        return
    largest = min(route.max_payload, stream.max_msg_size) if stream.max_msg_size > 0 else route.max_payload
    fits = max(to, room)
    if largest * 4 // 3 > fits:
        yield _stuck(
            route,
            f"stream {stream.name} takes messages of {largest:,} bytes; one of more than {fits:,} "
            f"(binary: {fits * 3 // 4:,}, because of base64)",
            parking,
        )


def _stuck(route: RouteFacts, which: str, parking: QueueFacts) -> Finding:
    return Finding(
        "warning",
        route.name,
        f"parking {parking.name}",
        f"{which} is too large for the destination and for its parking queue, which takes "
        f"{parking.max_message_size:,} with what is added: it would stay at the source",
        "set `claim_check` on the route, or park into JetStream",
    )
