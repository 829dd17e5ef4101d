"""Small batches joined: one answer each, nothing lost, an idle one at once, none longer than it may wait."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.core.errors import Unavailable
from bridge.legs.gather import Gather


class Calls:
    """A send that answers when let; each answer names its item."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.error: Exception | None = None

    async def send(self, items: Sequence[int]) -> list[str]:
        self.batches.append(list(items))
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return [f"a{item}" for item in items]


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_alone_it_goes_at_once_and_a_full_one_never_waits() -> None:
    calls = Calls()
    gather = Gather(calls.send, most=10, linger=60)
    first = asyncio.create_task(gather.ask([1]))
    await turns()
    full = asyncio.create_task(gather.ask(list(range(10))))
    await turns()
    assert calls.batches == [[1], list(range(10))]
    calls.gate.set()
    assert await first == ["a1"]
    assert await full == [f"a{n}" for n in range(10)]


async def test_what_comes_meanwhile_goes_together() -> None:
    calls = Calls()
    gather = Gather(calls.send, most=10, linger=60)
    tasks = [asyncio.create_task(gather.ask([n])) for n in range(6)]
    await turns()
    assert calls.batches == [[0]]
    calls.gate.set()
    assert await asyncio.gather(*tasks) == [[f"a{n}"] for n in range(6)]
    assert calls.batches == [[0], [1, 2, 3, 4, 5]]


async def test_ten_that_gathered_do_not_wait_for_the_call_under_way() -> None:
    calls = Calls()
    gather = Gather(calls.send, most=10, linger=60)
    tasks = [asyncio.create_task(gather.ask([n])) for n in range(11)]
    await turns()
    assert calls.batches == [[0], list(range(1, 11))]
    calls.gate.set()
    await asyncio.gather(*tasks)


async def test_it_lingers_no_longer_than_it_may() -> None:
    calls = Calls()
    gather = Gather(calls.send, most=10, linger=0.05)
    tasks = [asyncio.create_task(gather.ask([n])) for n in range(3)]
    async with asyncio.timeout(5):
        while len(calls.batches) < 2:  # the first call is still not answered
            await asyncio.sleep(0.01)
    assert calls.batches == [[0], [1, 2]]
    calls.gate.set()
    await asyncio.gather(*tasks)


async def test_a_failure_is_everybodys_and_the_next_goes_on() -> None:
    calls = Calls()
    gather = Gather(calls.send, most=10, linger=60)
    calls.error = Unavailable("down")
    tasks = [asyncio.create_task(gather.ask([n])) for n in range(3)]
    await turns()
    calls.gate.set()
    for found in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(found, Unavailable)
    calls.error = None
    assert await gather.ask([7]) == ["a7"]


async def test_one_that_is_cancelled_leaves_the_others_an_answer() -> None:
    calls = Calls()
    gather = Gather(calls.send, most=10, linger=60)
    first, leader, follower = [asyncio.create_task(gather.ask([n])) for n in range(3)]
    await turns()
    leader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leader
    with pytest.raises(Unavailable):
        await follower
    calls.gate.set()
    assert await first == ["a0"]


@settings(deadline=None)
@given(sizes=st.lists(st.integers(1, 12), min_size=1, max_size=30), most=st.integers(1, 10))
def test_every_item_is_sent_once_and_answered(sizes: list[int], most: int) -> None:
    async def scene() -> None:
        seen: list[int] = []

        async def send(items: Sequence[int]) -> list[int]:
            seen.extend(items)
            await asyncio.sleep(0)
            return [-item for item in items]

        gather = Gather(send, most=most, linger=0.01)
        starts = [sum(sizes[:n]) for n in range(len(sizes))]
        asked = [list(range(start, start + size)) for start, size in zip(starts, sizes, strict=True)]
        answers = await asyncio.gather(*(gather.ask(each) for each in asked))
        assert answers == [[-item for item in each] for each in asked]
        assert sorted(seen) == list(range(sum(sizes)))

    asyncio.run(scene())
