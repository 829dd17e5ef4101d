"""The exam every leg passes: what core/route.py promises, asked of memory, SQS, SNS and JetStream alike.

A candidate brings a fresh source or destination and a way to look behind it. May not: know which leg it examines.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from bridge.core.errors import LeaseLost, Refused
from bridge.core.models import Out
from bridge.core.route import Ack, Delivery, Destination, Receipt, Retry, Settlement, Source

PATIENCE = 30.0


class SourceCandidate(Protocol):
    """`lease` is how long the source lends, in seconds; `ordered` whether it promises an order."""

    source: Source
    lease: float
    ordered: bool

    async def put(self, count: int) -> None:
        """Puts messages 0 to count - 1, in order."""
        ...

    def number(self, delivery: Delivery) -> int: ...


class DestinationCandidate(Protocol):
    """`recognises`: publishing an id twice gives a duplicate Receipt. `limit` is in bytes."""

    destination: Destination
    recognises: bool
    limit: int

    def out(self, number: int, *, size: int = 10) -> Out: ...

    async def arrived(self, count: int) -> list[int]:
        """The numbers of what is there, once there are `count` (or patience ends)."""
        ...


async def take(source: Source, count: int) -> list[Delivery]:
    """Receives until `count` deliveries are lent."""
    taken: list[Delivery] = []
    async with asyncio.timeout(PATIENCE):
        while len(taken) < count:
            taken += await source.receive(count - len(taken))
    return taken


async def nothing_left(source: Source, seconds: float) -> bool:
    """Whether no receive brings anything for this long."""
    deadline = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < deadline:
        if await source.receive(10):
            return False
    return True


def settlements(deliveries: Sequence[Delivery], outcome: Ack | Retry) -> list[Settlement]:
    return [Settlement(delivery, outcome) for delivery in deliveries]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def tended(source: Source) -> AsyncIterator[None]:
    task = asyncio.create_task(source.tend())
    try:
        yield
    finally:
        task.cancel()


class SourceExam:
    """Subclasses give a fixture `candidate`."""

    async def test_it_lends_up_to_the_limit(self, candidate: SourceCandidate) -> None:
        await candidate.put(5)
        lent = await candidate.source.receive(3)
        assert 1 <= len(lent) <= 3
        rest = await take(candidate.source, 5 - len(lent))
        assert sorted(candidate.number(each) for each in [*lent, *rest]) == [0, 1, 2, 3, 4]
        assert all(each.attempt == 1 for each in [*lent, *rest])

    async def test_an_empty_source_gives_an_empty_answer(self, candidate: SourceCandidate) -> None:
        assert list(await candidate.source.receive(10)) == []

    async def test_order_is_that_of_arrival(self, candidate: SourceCandidate) -> None:
        await candidate.put(10)
        lent = [candidate.number(each) for each in await take(candidate.source, 10)]
        assert sorted(lent) == list(range(10))
        if candidate.ordered:
            assert lent == list(range(10))

    async def test_an_ack_is_for_good(self, candidate: SourceCandidate) -> None:
        await candidate.put(4)
        lent = await take(candidate.source, 4)
        assert list(await candidate.source.settle(settlements(lent, Ack()))) == [None] * 4
        assert await nothing_left(candidate.source, candidate.lease + 1)

    async def test_a_retry_is_delivered_again_with_a_higher_attempt(self, candidate: SourceCandidate) -> None:
        await candidate.put(1)
        (first,) = await take(candidate.source, 1)
        assert list(await candidate.source.settle([Settlement(first, Retry(0))])) == [None]
        (again,) = await take(candidate.source, 1)
        assert candidate.number(again) == 0
        assert again.attempt == first.attempt + 1

    async def test_a_retry_waits_as_long_as_it_is_asked(self, candidate: SourceCandidate) -> None:
        await candidate.put(1)
        (first,) = await take(candidate.source, 1)
        began = asyncio.get_running_loop().time()
        await candidate.source.settle([Settlement(first, Retry(1))])
        await take(candidate.source, 1)
        assert asyncio.get_running_loop().time() - began > 0.9

    async def test_a_mixed_settle_answers_each_in_order(self, candidate: SourceCandidate) -> None:
        await candidate.put(25)
        lent = await take(candidate.source, 25)
        settled = [Settlement(each, Ack() if candidate.number(each) % 2 else Retry(0)) for each in lent]
        assert list(await candidate.source.settle(settled)) == [None] * 25
        again = await take(candidate.source, 13)
        assert sorted(candidate.number(each) for each in again) == list(range(0, 25, 2))

    async def test_released_messages_come_back_at_once_and_in_order(self, candidate: SourceCandidate) -> None:
        await candidate.put(6)
        lent = await take(candidate.source, 6)
        await candidate.source.release(lent)
        again = await take(candidate.source, 6)
        assert sorted(candidate.number(each) for each in again) == list(range(6))
        if candidate.ordered:
            assert [candidate.number(each) for each in again] == list(range(6))

    async def test_what_is_tended_stays_in_flight(self, candidate: SourceCandidate) -> None:
        await candidate.put(12)
        lent = await take(candidate.source, 12)
        async with tended(candidate.source):
            assert await nothing_left(candidate.source, candidate.lease * 2.5)
            answers = await candidate.source.settle(settlements(lent, Ack()))
        assert list(answers) == [None] * 12

    async def test_what_is_held_is_not_delivered_twice_even_when_its_lease_ended(
        self, candidate: SourceCandidate
    ) -> None:
        await candidate.put(1)
        (lent,) = await take(candidate.source, 1)
        assert await nothing_left(candidate.source, candidate.lease + 1)
        assert list(await candidate.source.settle([Settlement(lent, Ack())])) == [None]  # by its newest handle
        assert await nothing_left(candidate.source, candidate.lease + 1)

    async def test_a_lease_that_is_over_is_known_and_its_message_only_forgotten(
        self, candidate: SourceCandidate
    ) -> None:
        await candidate.put(1)
        (lent,) = await take(candidate.source, 1)
        assert list(candidate.source.lapsed([lent])) == []
        await until(lambda: list(candidate.source.lapsed([lent])) == [lent])
        await candidate.source.release([lent])
        (again,) = await take(candidate.source, 1)  # a new delivery, not the old one renewed
        assert again is not lent
        assert list(candidate.source.lapsed([again])) == []
        assert list(await candidate.source.settle([Settlement(again, Ack())])) == [None]

    async def test_a_settle_of_a_lost_lease_never_raises(self, candidate: SourceCandidate) -> None:
        await candidate.put(1)
        (lent,) = await take(candidate.source, 1)
        await candidate.source.settle([Settlement(lent, Ack())])
        (answer,) = await candidate.source.settle([Settlement(lent, Ack())])
        assert answer is None or isinstance(answer, LeaseLost)

    async def test_the_backlog_counts_both_kinds(self, candidate: SourceCandidate) -> None:
        await candidate.put(7)
        lent = await take(candidate.source, 3)
        backlog = await candidate.source.backlog()
        assert (backlog.pending + backlog.in_flight, backlog.in_flight) == (7, len(lent))


class DestinationExam:
    """Subclasses give a fixture `candidate`."""

    async def test_every_receipt_is_true(self, candidate: DestinationCandidate) -> None:
        answers = await candidate.destination.publish([candidate.out(number) for number in range(33)])
        assert all(isinstance(answer, Receipt) and not answer.duplicate for answer in answers)
        assert sorted(await candidate.arrived(33)) == list(range(33))

    async def test_nothing_to_publish_is_no_call(self, candidate: DestinationCandidate) -> None:
        assert list(await candidate.destination.publish([])) == []

    async def test_one_too_large_is_refused_with_the_numbers_and_the_rest_goes(
        self, candidate: DestinationCandidate
    ) -> None:
        outs = [candidate.out(0), candidate.out(1, size=candidate.limit + 1), candidate.out(2)]
        answers = await candidate.destination.publish(outs)
        refused = answers[1]
        assert isinstance(refused, Refused)
        assert f"{candidate.limit:,}" in str(refused)
        assert isinstance(answers[0], Receipt)
        assert isinstance(answers[2], Receipt)
        assert sorted(await candidate.arrived(2)) == [0, 2]

    async def test_the_largest_that_fits_goes(self, candidate: DestinationCandidate) -> None:
        (answer,) = await candidate.destination.publish([candidate.out(0, size=candidate.limit)])
        assert isinstance(answer, Receipt), answer

    async def test_an_id_seen_before_is_recognised(self, candidate: DestinationCandidate) -> None:
        await candidate.destination.publish([candidate.out(0)])
        (answer,) = await candidate.destination.publish([candidate.out(0)])
        assert isinstance(answer, Receipt)
        if candidate.recognises:
            assert answer.duplicate
            assert await candidate.arrived(1) == [0]

    async def test_publishes_side_by_side_keep_their_answers_apart(self, candidate: DestinationCandidate) -> None:
        batches = [[candidate.out(number) for number in range(start, start + 8)] for start in range(0, 40, 8)]
        answers = await asyncio.gather(*(candidate.destination.publish(batch) for batch in batches))
        assert all(isinstance(answer, Receipt) for batch in answers for answer in batch)
        assert sorted(await candidate.arrived(40)) == list(range(40))
