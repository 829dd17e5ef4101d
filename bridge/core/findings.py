"""What `check` finds: facts about queues, topics, streams and consumers in, findings for a human out.

May not: look anything up. legs/inventory.py gathers the facts; every rule here is one function of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bridge.core.advice import add_stream, add_subjects, filters
from bridge.core.emptiness import SQS_SETTLES_SECONDS
from bridge.core.facts import ConsumerFacts, RouteFacts, StreamFacts, World
from bridge.core.findings_aws import Finding, Level, senders, shared_ids, stuck, unverified
from bridge.core.mapping.heartbeat import NO_SUBJECT
from bridge.core.pointers import pointers
from bridge.core.subjects import covers, overlap

__all__ = ["Finding", "Level", "findings", "window_needed"]

HEADER_ROOM = 65_535  # the most JetStream takes in headers, beside the body
SETTLE_SECONDS = 10.0  # one publish timeout (5 s), one settle with a repeat, and some reserve
SENDS_AT_ONCE = 20  # concurrent batches of ten to SQS or SNS


def findings(world: World) -> list[Finding]:
    """All findings, errors of a route first; a route without any gets one `ok`."""
    found: list[Finding] = []
    for route in world.routes:
        mine = [*_errors(route), *_windows(route), *_sizes(route), *_streams(route), *_leases(route), *_redrive(route)]
        mine += [*_keeps(route), *_parking(route), *_heartbeats(route), *_watches(route), *_rights(route)]
        mine += [*senders(route), *stuck(route)]
        found += [*_told(route), *unverified(route)]
        found += mine or [Finding("ok", route.name, "route", "everything it needs is there and usable")]
    found += shared_ids(world)
    found += _loops(world)
    found += [Finding(*each) for each in pointers(world)]
    return found


def _errors(route: RouteFacts) -> Iterator[Finding]:
    for what, error in route.errors:
        yield Finding("error", route.name, what, str(error.args[0]), error.hint)


def _windows(route: RouteFacts) -> Iterator[Finding]:
    if route.queue is None:
        return
    if route.ledger:
        return
    needed = window_needed(route)
    for stream in route.destinations:
        if stream.duplicate_window < needed:
            yield Finding(
                "warning",
                route.name,
                f"stream {stream.name}",
                f"its duplicate window ({stream.duplicate_window:g} s) is shorter than the route needs "
                f"({_sum(route)}): a message redelivered after an outage is stored twice",
                f"nats stream edit {stream.name} --dupe-window {needed:.0f}s, lower longest_outage, or set `ledger`",
            )
        elif stream.retention != "limits":
            yield Finding(
                "warning",
                route.name,
                f"stream {stream.name}",
                f"it has {stream.retention} retention: a restarted nats-server no longer knows the ids of "
                "consumed messages, and a message redelivered then is stored twice",
                "use limits retention, or set `ledger` on the route",
            )


def window_needed(route: RouteFacts) -> float:
    """Seconds a destination must recognise ids: what was published and not yet deleted is redelivered when its lease is
    over and the bridge is back, and is published again at most a settle later."""
    lease = route.queue.visibility_timeout if route.queue is not None else 0.0
    return lease + route.longest_outage + SETTLE_SECONDS


def _sum(route: RouteFacts) -> str:
    lease = route.queue.visibility_timeout if route.queue is not None else 0.0
    parts = (
        f"longest_outage {route.longest_outage:g} s + visibility timeout {lease:g} s + {SETTLE_SECONDS:g} s to settle"
    )
    return f"{window_needed(route):g} s: {parts}"


def _told(route: RouteFacts) -> Iterator[Finding]:
    """What is worth knowing although nothing is wrong."""
    if route.queue is not None and route.destinations:
        windows = ", ".join(f"{stream.name} has {stream.duplicate_window:g} s" for stream in route.destinations)
        text = f"it needs a duplicate window of {_sum(route)}; {windows}"
        # Where one is too short, the warning has all of this.
        if route.ledger or all(stream.duplicate_window >= window_needed(route) for stream in route.destinations):
            yield Finding("ok", route.name, "window", f"{text}; a ledger covers more" if route.ledger else text)
    if route.heartbeat is not None:
        where = ", ".join(each for each in (route.heartbeat_from, route.heartbeat_to) if each)
        yield Finding(
            "ok",
            route.name,
            "heartbeat",
            f"every {route.heartbeat:g} s consumers on both sides see a message of the bridge's own"
            f"{f' on {where}' if where else ''}",
            "let them leave out what has the header or attribute Bridge-Heartbeat",
        )
    fifo = (route.to_queue is not None and route.to_queue.fifo) or (route.to_topic is not None and route.to_topic.fifo)
    if fifo and route.consumer is not None:
        one = "its consumer is pinned: replicas stand by" if route.consumer.pinned else "run one bridge for it"
        yield Finding(
            "ok",
            route.name,
            "order",
            f"groups keep their order; {one}",
            "" if route.consumer.pinned else "replicas need a consumer with --pinned-groups (nats-server 2.11)",
        )


def _sizes(route: RouteFacts) -> Iterator[Finding]:
    if route.queue is None:
        return
    needed = route.queue.max_message_size + HEADER_ROOM
    if route.max_payload and route.max_payload < needed:
        yield Finding(
            "warning",
            route.name,
            "nats-server",
            f"max_payload is {route.max_payload:,} bytes; a full message of {route.queue.name} needs up to {needed:,} "
            "with its headers, and larger ones would be parked",
            "set max_payload: 8MB in the server's configuration",
        )
    for stream in route.destinations:
        if 0 < stream.max_msg_size < needed:
            yield Finding(
                "warning",
                route.name,
                f"stream {stream.name}",
                f"max_msg_size is {stream.max_msg_size:,} bytes; "
                f"a full message of {route.queue.name} needs up to {needed:,}",
                f"nats stream edit {stream.name} --max-msg-size {needed}",
            )


def _streams(route: RouteFacts) -> Iterator[Finding]:
    for stream in route.destinations:
        pattern = route.pattern or ""
        if not any(covers(subject, pattern) for subject in stream.subjects) and len(route.destinations) == 1:
            yield Finding(
                "warning",
                route.name,
                f"stream {stream.name}",
                f"it captures {', '.join(stream.subjects)}, which is only a part of {pattern}: "
                "a message with another subject would be parked",
                add_subjects(stream.name, stream.subjects, pattern),
            )
        if stream.discard == "old" and stream.limited:
            yield Finding(
                "warning",
                route.name,
                f"stream {stream.name}",
                "it is limited and discards old messages when full: messages not consumed yet may be lost",
                f"nats stream edit {stream.name} --discard new, so that the bridge waits instead",
            )
        if stream.retention == "interest" and not any(_wants(consumer, pattern) for consumer in stream.consumers):
            yield Finding(
                "warning",
                route.name,
                f"stream {stream.name}",
                f"it has interest retention, and no consumer of it asks for all of {pattern}: the server "
                "acknowledges a message no consumer asks for, and drops it",
                f"nats consumer add {stream.name} NAME --pull{filters((pattern,))} --defaults, or use limits retention",
            )
        if stream.retention == "workqueue" and len(stream.consumers) > 1:
            yield _shared_work_queue(route, stream, stream.consumers)
    if route.stream is not None and route.consumer is not None and route.stream.retention == "workqueue":
        others = tuple(other for other in route.stream.consumers if other.name != route.consumer.name)
        if others:
            yield _shared_work_queue(route, route.stream, others)


def _wants(consumer: ConsumerFacts, pattern: str) -> bool:
    return not consumer.filters or any(covers(subject, pattern) for subject in consumer.filters)


def _shared_work_queue(route: RouteFacts, stream: StreamFacts, others: Sequence[ConsumerFacts]) -> Finding:
    names = ", ".join(consumer.name for consumer in others)
    return Finding(
        "warning",
        route.name,
        f"stream {stream.name}",
        f"it is a work queue that others consume too ({names}): each message goes to one of them only, "
        "so old and new consumers do not see the same messages",
        "use limits or interest retention while both sides run",
    )


def _leases(route: RouteFacts) -> Iterator[Finding]:
    if route.consumer is not None:
        stream_name = route.stream.name if route.stream else "STREAM"
        rounds = -(-route.batch // (10 * SENDS_AT_ONCE))
        needed = SETTLE_SECONDS + 2.0 * rounds
        if route.consumer.ack_wait < needed:
            yield Finding(
                "warning",
                route.name,
                f"consumer {route.consumer.name}",
                f"its ack wait is {route.consumer.ack_wait:g} s; a batch of {route.batch} can take {needed:g} s, "
                "and what is not acknowledged by then is redelivered",
                f"nats consumer edit {stream_name} {route.consumer.name} --wait 60s",
            )
    if route.queue is not None and route.queue.visibility_timeout < SETTLE_SECONDS:
        yield Finding(
            "warning",
            route.name,
            f"queue {route.queue.name}",
            f"its visibility timeout is {route.queue.visibility_timeout:g} s; publishing and deleting can take "
            f"{SETTLE_SECONDS:g} s, and what is not deleted by then is redelivered",
            "set a visibility timeout of 30 s or more",
        )
    if route.queue is not None and route.drain_seconds is not None and route.drain_seconds < SQS_SETTLES_SECONDS:
        yield Finding(
            "warning",
            route.name,
            f"queue {route.queue.name}",
            f"its counts settle only a minute after the last send; drain_seconds is {route.drain_seconds:g}, "
            "so a drain may end while messages still wait",
            "leave drain_seconds out, or set 60 or more",
        )


def _heartbeats(route: RouteFacts) -> Iterator[Finding]:
    if route.heartbeat is None:
        return
    if route.stream is not None and route.consumer is not None and route.heartbeat_from is None:
        yield Finding(
            "warning",
            route.name,
            "heartbeat",
            NO_SUBJECT.format(stream=route.stream.name, consumer=route.consumer.name),
            "let the filter and the stream's subjects meet (a mirror has none), or leave `heartbeat` out",
        )
    to = route.heartbeat_to
    if to is not None and route.destinations and not any(stream.captures(to) for stream in route.destinations):
        stream = route.destinations[0]
        yield Finding(
            "warning",
            route.name,
            "heartbeat",
            f"heartbeats come out on {to}, which stream {stream.name} does not capture: none would arrive",
            add_subjects(stream.name, stream.subjects, to),
        )


def _keeps(route: RouteFacts) -> Iterator[Finding]:
    """Whether messages are kept until they are carried, and afterwards until a subscriber has them."""
    queue, topic = route.queue, route.to_topic
    if queue is not None and queue.retention < route.longest_outage:
        yield Finding(
            "warning",
            route.name,
            f"queue {queue.name}",
            f"it keeps a message for {queue.retention:g} s, and longest_outage is {route.longest_outage:g} s: in an "
            "outage that long SQS deletes messages that were not carried yet",
            "set its MessageRetentionPeriod to more (at most 1209600, 14 days), or lower longest_outage",
        )
    if topic is not None and topic.subscriptions == 0:
        yield Finding(
            "warning",
            route.name,
            f"topic {topic.name}",
            "it has no subscription: SNS accepts what is published, and no one receives it",
            f"aws sns subscribe --topic-arn {topic.arn} --protocol sqs --notification-endpoint QUEUE_ARN",
        )


def _parking(route: RouteFacts) -> Iterator[Finding]:
    """Parked messages in one of the route's own streams are read as if they were its messages."""
    subject = route.parking_subject
    if subject is None:
        return
    for stream in {stream.name: stream for stream in (*route.destinations, route.stream) if stream}.values():
        readers = [each.name for each in stream.consumers if _reads(each, subject)]
        if not stream.captures(subject) or (stream.consumers and not readers):
            continue
        who = f"its consumers ({', '.join(readers)}) are" if readers else "a consumer without a filter would be"
        yield Finding(
            "warning",
            route.name,
            f"parking {subject}",
            f"it lies inside stream {stream.name}: {who} given parked messages like any others",
            f"park outside of {', '.join(stream.subjects)}, in a stream of its own: "
            f"{add_stream('PARKED', 'parked.>')}, and parking.subject: parked.{route.name}",
        )


def _reads(consumer: ConsumerFacts, subject: str) -> bool:
    return not consumer.filters or any(overlap(each, subject) for each in consumer.filters)


def _rights(route: RouteFacts) -> Iterator[Finding]:
    if route.rights_unknown:
        yield Finding(
            "warning",
            route.name,
            "permissions",
            "the server does not say what this NATS user may do, so a denied subject is found only at run time",
            "allow the user to publish $SYS.REQ.USER.INFO, and check again",
        )


def _watches(route: RouteFacts) -> Iterator[Finding]:
    for what, error in route.unwatched:
        yield Finding("warning", route.name, what, f"{error.args[0]}; its lag will be unknown", error.hint)


def _redrive(route: RouteFacts) -> Iterator[Finding]:
    if route.parked_elsewhere:
        return
    if route.queue is not None and not route.queue.redrives:
        yield Finding(
            "warning",
            route.name,
            f"queue {route.queue.name}",
            "it has no redrive policy and the route no parking: what can never be carried is redelivered forever",
            "set `parking` on the route",
        )
    if route.consumer is not None:
        fate = (
            "is redelivered forever"
            if route.consumer.max_deliver < 1
            else f"is no longer delivered after {route.consumer.max_deliver} times, and stays in the stream unseen"
        )
        yield Finding(
            "warning",
            route.name,
            f"consumer {route.consumer.name}",
            f"the route has no parking: a message that can never be carried {fate}",
            "set `parking` on the route",
        )


def _loops(world: World) -> Iterator[Finding]:
    """Routes that feed each other: what one publishes, the next one reads, until it is back at the start."""
    feeds = {one.name: [other.name for other in world.routes if _feeds(one, other)] for one in world.routes}
    reported: set[frozenset[str]] = set()
    for start in feeds:
        for path in _paths_back(start, feeds):
            if frozenset(path) in reported:
                continue
            reported.add(frozenset(path))
            way = " -> ".join([*path, start])
            if any(route.carries_echo for route in world.routes if route.name in path):
                advice = "remove `echo: carry`, or send the way back to a destination that the way in does not read"
                yield Finding("error", start, "loop", f"messages would loop forever: {way}", advice)
            else:
                text = f"{way} form a loop: what came from the other side is not carried back (echo: skip)"
                yield Finding("ok", start, "loop", text)


def _paths_back(start: str, feeds: dict[str, list[str]]) -> Iterator[list[str]]:
    stack = [[start]]
    while stack:
        path = stack.pop()
        for following in feeds[path[-1]]:
            if following == start:
                yield path
            elif following not in path:
                stack.append([*path, following])


def _feeds(one: RouteFacts, other: RouteFacts) -> bool:
    """Whether something `one` publishes is read by `other`."""
    if one.pattern is not None and other.stream is not None and other.consumer is not None:
        reads = other.consumer.filters or other.stream.subjects
        kept = any(stream.name == other.stream.name for stream in one.destinations)
        return kept and any(overlap(one.pattern, subject) for subject in reads)
    if other.queue is None:
        return False
    if one.to_queue is not None:
        return one.to_queue.arn == other.queue.arn
    return one.to_topic is not None and other.queue.arn in (one.to_topic.feeds or ())
