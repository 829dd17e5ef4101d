"""Ordered routes in a bad hour: FIFO messages in groups, two replicas, calls that fail, SIGKILLs. What comes out must
be all of it, once, each group in order. A small one runs with the tests, a large one with `make endurance`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from bridge.core.errors import BridgeError
from bridge.embedded import NatsServer
from bridge.legs.nats import NatsConnection, NatsOptions
from tests.conftest import MinistackServer
from tests.legs.aws_world import world
from tests.system.hold import Gate
from tests.system.process import Bridge, until
from tests.system.world import Aws, Nats

Unrest = Callable[[str, str], AbstractContextManager[object]]
"""What goes on around a stream while its messages are carried: takes the URL of a server, and the stream's name."""


def quiet(_url: str, _stream: str) -> AbstractContextManager[object]:
    return nullcontext()


LEASE = 6  # seconds: what a killed replica held comes back after it


def into_jetstream(
    folder: Path,
    aws_server: MinistackServer,
    nats_server: NatsServer,
    *,
    messages: int,
    groups: int,
    kills: int,
    copies: int = 1,
    unrest: Unrest = quiet,
) -> None:
    """A FIFO queue to a stream. Raises AssertionError."""
    aws, nats, name = Aws(aws_server.url), Nats(nats_server.url), f"in{random.randrange(10**9)}"
    url = aws.queue(f"{name}.fifo", VisibilityTimeout=str(LEASE))
    nats.stream(name, f"{name}.>", num_replicas=copies)
    asyncio.run(_fill(aws.url, url, messages, groups))
    route = {
        "name": "in",
        "source": {"kind": "sqs", "queue": f"{name}.fifo", "wait_seconds": 1},
        "destination": {"kind": "jetstream", "subject": f"{name}.{{group}}"},
    }
    with _replicas(folder, route, aws_server, nats_server) as replicas, unrest(nats_server.url, name):
        stored = _or_nothing(lambda: nats.count(name))
        _kill(replicas, kills, stored, messages)
        until(lambda: stored() >= messages, "all carried")
        until(lambda: aws.counts(url) == (0, 0), "the queue is empty")
    _judge(nats.bodies(name), messages, groups)


def out_of_jetstream(
    folder: Path,
    aws_server: MinistackServer,
    nats_server: NatsServer,
    *,
    messages: int,
    groups: int,
    kills: int,
    copies: int = 1,
    unrest: Unrest = quiet,
) -> None:
    """A stream to a FIFO queue. Raises AssertionError."""
    aws, nats, name = Aws(aws_server.url), Nats(nats_server.url), f"out{random.randrange(10**9)}"
    url = aws.queue(f"{name}.fifo")
    nats.stream(name, f"{name}.>", num_replicas=copies)
    nats.consumer(
        name,
        "bridge",
        ack_wait=LEASE * 10**9,
        priority_groups=["bridge"],
        priority_policy="pinned_client",
        priority_timeout=2 * 10**9,
    )
    asyncio.run(_publish(nats.url, name, messages, groups))
    route = {
        "name": "out",
        "source": {"kind": "jetstream", "stream": name, "consumer": "bridge"},
        "destination": {"kind": "sqs", "queue": f"{name}.fifo", "group": "{subject.2}"},
    }

    @_or_nothing
    def acked() -> int:
        return int(nats.api(f"CONSUMER.INFO.{name}.bridge")["ack_floor"].get("stream_seq", 0))

    with _replicas(folder, route, aws_server, nats_server) as replicas, unrest(nats_server.url, name):
        _kill(replicas, kills, acked, messages)
        until(lambda: acked() >= messages, "all carried")
    _judge([each["Body"] for each in asyncio.run(_empty(aws.url, url, messages))], messages, groups)


def _or_nothing(count: Callable[[], int]) -> Callable[[], int]:
    """0 while no leader answers."""

    def counted() -> int:
        try:
            return count()
        except BridgeError:
            return 0

    return counted


@contextmanager
def _replicas(
    folder: Path, route: dict[str, Any], aws_server: MinistackServer, nats_server: NatsServer
) -> Iterator[list[Bridge]]:
    with ExitStack() as stack:
        gate = stack.enter_context(Gate(aws_server.url))
        gate.fail_one_in(50)  # from the first call on: a route may have carried everything before anybody looks
        replicas = []
        for number in range(2):
            (place := folder / f"{route['name']}{number}").mkdir(parents=True)
            replicas.append(stack.enter_context(Bridge(place, [route], nats=nats_server.url, aws=gate.url)))
        for replica in replicas:
            until(lambda replica=replica: replica.state(route["name"]) == "running", "running")  # type: ignore[misc]
        yield replicas
        assert all(gate.failed.values()), f"not every way to fail was met, so not all was proven: {gate.failed}"
        assert gate.given_up, "every call that failed was repeated with success, and no route had to deal with one"


def _kill(replicas: list[Bridge], kills: int, count: Callable[[], int], messages: int) -> None:
    """Kills one replica after the other, at the same share of the work, and starts it again."""
    for number in range(kills):
        goal = messages * (number + 1) // (kills + 2)
        until(lambda goal=goal: count() >= goal, f"{goal} carried")  # type: ignore[misc]
        replica = max(replicas, key=lambda each: sum(each.status(each.route).get("messages", {}).values()))
        replica.kill()
        replica.start()


async def _fill(aws: str, url: str, messages: int, groups: int) -> None:
    async with world(aws) as found:
        for start in range(0, messages, 10):
            entries = [
                {"Id": str(n), "MessageBody": f"{n % groups}:{n}"}
                | {"MessageGroupId": f"g{n % groups}", "MessageDeduplicationId": str(n)}
                for n in range(start, min(start + 10, messages))
            ]
            assert not (await found.sqs.send_message_batch(QueueUrl=url, Entries=entries)).get("Failed")


async def _publish(nats: str, name: str, messages: int, groups: int) -> None:
    async with NatsConnection(NatsOptions((nats,))) as connection:
        for start in range(0, messages, 500):
            span = range(start, min(start + 500, messages))
            requests = [(f"{name}.g{n % groups}", f"{n % groups}:{n}".encode(), b"") for n in span]
            assert None not in await connection.replies.ask(requests, 10)


async def _empty(aws: str, url: str, count: int) -> list[Any]:
    async with world(aws) as found:
        taken: list[Any] = []
        while True:
            answer = await found.sqs.receive_message(
                QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=0 if len(taken) < count else 1
            )
            if not (messages := answer.get("Messages")):
                return taken
            taken += messages
            entries = [{"Id": str(n), "ReceiptHandle": each["ReceiptHandle"]} for n, each in enumerate(messages)]
            await found.sqs.delete_message_batch(QueueUrl=url, Entries=entries)


def _judge(bodies: list[str], messages: int, groups: int) -> None:
    numbers: dict[int, list[int]] = {}
    for body in bodies:
        name, _, number = body.partition(":")
        numbers.setdefault(int(name), []).append(int(number))
    assert len(bodies) == messages, f"{len(bodies)} of {messages} came out"
    for group in range(groups):
        assert numbers[group] == list(range(group, messages, groups)), f"group {group}: {numbers[group]}"
