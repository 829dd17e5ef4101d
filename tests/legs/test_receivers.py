"""How many receives run side by side: they grow while there is much, and one stays when there is nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from bridge.legs.aws import AwsConnection, AwsOptions
from bridge.legs.memory import MemoryDestination
from bridge.legs.sqs import SqsSource, open_queue
from tests.legs.stub_sqs import Fault, Stub, all_good, messages, stub_sqs
from tests.test_pump import Running, until

RECEIVERS = 16
BACKLOG = 600


class Polls:
    """Answers receives: tens out of a backlog, each held back until as many polls are open as there can be; then every
    poll waits as long as it asked for, and brings nothing."""

    def __init__(self) -> None:
        self.left = BACKLOG
        self.open = self.most_open = 0
        self.empty_with: list[int] = []
        """How many others were open when each of the polls began that brought nothing."""
        self.emptied = 0
        self.grown = asyncio.Event()
        self._names: Iterator[int] = count()

    async def __call__(self, body: dict[str, Any]) -> dict[str, Any]:
        others, self.open = self.open, self.open + 1
        self.most_open = max(self.most_open, self.open)
        try:
            if self.left:
                self.left -= 10
                # A poll that comes back full is what makes another begin.
                if self.left < BACKLOG / 2:
                    await self.grown.wait()
                return messages(*(f"m{next(self._names)}" for _ in range(10)))
            self.empty_with.append(others)
            await asyncio.sleep(body["WaitTimeSeconds"])
            self.emptied += 1
            return {}
        finally:
            self.open -= 1


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")


def told(stub: Stub, polls: Polls) -> None:
    stub.replies["ReceiveMessage"] = polls
    stub.replies["DeleteMessageBatch"] = all_good
    stub.replies["GetQueueUrl"] = lambda _: {"QueueUrl": f"{stub.url}/1/q"}
    stub.replies["GetQueueAttributes"] = lambda _: {"Attributes": {"QueueArn": "arn:aws:sqs:eu-west-1:1:q"}}


async def test_sixteen_receivers_become_one_after_a_single_empty_poll_each() -> None:
    polls, destination = Polls(), MemoryDestination()
    async with stub_sqs() as stub, AwsConnection(AwsOptions(region="eu-west-1", endpoint_url=stub.url)) as aws:
        told(stub, polls)
        source = SqsSource(aws, await open_queue(aws, "q"), wait_seconds=1)
        running = Running(source, destination, receivers=RECEIVERS)  # type: ignore[arg-type]  # any Source will do
        async with running:
            await until(lambda: polls.open == RECEIVERS)
            polls.grown.set()
            await until(lambda: polls.emptied >= RECEIVERS + 3)
            assert len(destination.kept) == BACKLOG
    assert polls.most_open == RECEIVERS
    # Sixteen came back with nothing, once each; from then on one poll follows another, with no other beside it.
    assert polls.empty_with[RECEIVERS:] == [0] * len(polls.empty_with[RECEIVERS:])
    assert len(polls.empty_with) >= RECEIVERS + 3


class Quota(Polls):
    """Takes `TAKES` polls at a time, as a queue with a quota does, and refuses any more."""

    TAKES = 3

    def __init__(self) -> None:
        super().__init__()
        self.refused_at: list[int] = []
        """How much was left whenever a poll was refused."""

    async def __call__(self, body: dict[str, Any]) -> dict[str, Any]:
        if self.open >= self.TAKES:
            self.refused_at.append(self.left)
            raise Fault(400, "RequestThrottled")
        self.open += 1
        try:
            await asyncio.sleep(0.01)
            if not self.left:
                return {}
            self.left -= 10
            return messages(*(f"m{next(self._names)}" for _ in range(10)))
        finally:
            self.open -= 1


async def test_a_queue_that_refuses_to_be_asked_so_often_is_asked_less() -> None:
    polls, destination = Quota(), MemoryDestination()
    async with (
        stub_sqs() as stub,
        AwsConnection(AwsOptions(region="eu-west-1", endpoint_url=stub.url), jitter=lambda: 0.0) as aws,
    ):
        told(stub, polls)
        source = SqsSource(aws, await open_queue(aws, "q"), wait_seconds=1)
        async with Running(source, destination, receivers=RECEIVERS):  # type: ignore[arg-type]  # any Source will do
            await until(lambda: len(destination.kept) == BACKLOG)
    assert polls.refused_at
    # Those there were too many of end; the others go on, and are not refused again.
    assert min(polls.refused_at) > BACKLOG / 2
