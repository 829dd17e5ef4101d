"""Head of the line: what waits for reasons of its own never takes the credits of all the rest. On memory legs."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.credits import Credits
from bridge.core.errors import BridgeError, Failed, Full, NotUsable, Refused, Throttled, Unavailable
from bridge.core.models import Out
from bridge.core.settle import Policy, returned
from bridge.legs.memory import MemoryDestination, MemorySource
from bridge.rounds import Parking
from tests.test_pump import Running, body, message, park, payloads, until

PATIENT = Policy(first=0.001, longest=0.05, attempts=1_000_000)


def faulty(error: BridgeError, mark: str = "x") -> MemoryDestination:
    return MemoryDestination(lambda out, tries: error if body(out).startswith(mark) else None)


@pytest.mark.parametrize("error", [Full("the subject is full"), Failed("nobody knows why")])
async def test_many_messages_that_only_fail_themselves_let_every_good_one_pass(error: BridgeError) -> None:
    source, destination = MemorySource(), faulty(error)
    source.put(*(message(f"x{n}") for n in range(120)), *(message(f"g{n}") for n in range(40)))
    async with Running(source, destination, credits=50, policy=PATIENT) as running:
        await until(lambda: len(source) == 120)  # settled a moment after they are durable
        running.pump.release()
    assert len(destination.kept) == 40
    assert running.journal.named("handed_back")  # what is beyond the share went back to the source


async def test_a_problem_that_is_a_messages_own_lets_the_others_pass_whatever_it_is() -> None:
    """A bucket of payloads that denies everything, say: first come only messages that need it."""
    denied = NotUsable("the bucket denies everything")
    denied.own = True
    source, destination = MemorySource(), faulty(denied)
    source.put(*(message(f"x{n}") for n in range(120)), *(message(f"g{n}") for n in range(40)))
    async with Running(source, destination, credits=50, policy=PATIENT) as running:
        await until(lambda: len(destination.kept) == 40)
        running.pump.release()


async def test_a_full_parking_place_lets_every_good_message_pass() -> None:
    source, destination = MemorySource(), MemoryDestination(lambda out, tries: _refused(out))
    parking = MemoryDestination(lambda out, tries: Unavailable("the stream is full"))
    source.put(*(message(f"x{n}") for n in range(120)), *(message(f"g{n}") for n in range(40)))
    options = {"credits": 50, "policy": PATIENT, "parking": Parking(parking, park)}
    async with Running(source, destination, **options) as running:
        await until(lambda: len(destination.kept) == 40)
        running.pump.release()
    assert len(source) == 120


def _refused(out: Out) -> BridgeError | None:
    return Refused("too large") if body(out).startswith("x") else None


async def test_one_part_of_a_destination_that_is_down_lets_the_other_pass() -> None:
    """Two streams under one route, say: nothing is known of that but that some pass and some do not."""
    source, destination = MemorySource(), faulty(Unavailable("no answer"))
    names = [f"{'x' if n % 2 else 'g'}{n}" for n in range(200)]
    source.put(*map(message, names))
    async with Running(source, destination, credits=50, policy=PATIENT) as running:
        await until(lambda: len(destination.kept) == 100)
        running.pump.release()


@pytest.mark.parametrize("error", [Unavailable("down"), Throttled("slow down")])
async def test_an_outage_of_the_whole_destination_gives_nothing_back(error: BridgeError) -> None:
    source = MemorySource()
    down = True
    destination = MemoryDestination(lambda out, tries: error if down else None)
    source.put(*(message(str(n)) for n in range(60)))
    async with Running(source, destination, credits=50, policy=PATIENT) as running:
        await until(lambda: len(running.journal.named("held")) > 50)
        down = False
        await until(lambda: not len(source))
    assert (source.retried, running.journal.named("handed_back")) == ([], [])


async def test_a_small_number_of_credits_leaves_something_to_ask_for() -> None:
    source, destination = MemorySource(), faulty(Failed("odd"))
    source.put(*(message(f"x{n}") for n in range(40)), message("good"))
    async with Running(source, destination, credits=10, share=0.9, policy=PATIENT) as running:
        await until(lambda: payloads(destination) == ["good"])
        running.pump.release()


async def test_what_the_source_would_never_lend_again_stays_here_where_it_cannot_be_parked() -> None:
    source, destination = MemorySource(most=1), faulty(Full("the subject is full"))
    source.put(*(message(f"x{n}") for n in range(20)))
    async with Running(source, destination, credits=20, policy=PATIENT) as running:
        await until(lambda: len(running.journal.named("held")) > 20)
        assert running.journal.named("handed_back") == []
        destination.fault = None
        await until(lambda: not len(source))


@pytest.mark.parametrize(("credits", "batch", "share"), [(10, 10, 0.5), (10, 10, 0.3), (300, 200, 0.5)])
async def test_messages_that_trickle_in_and_wait_do_not_stop_what_comes_behind_them(
    credits: int,  # noqa: A002 - the pump's word
    batch: int,
    share: float,
) -> None:
    """With less than a batch of credits left, the receiver rests; what is kept waiting must wake it."""
    source, destination = MemorySource(batch=batch), faulty(Full("the subject is full"))
    async with Running(source, destination, credits=credits, share=share, policy=PATIENT) as running:
        for n in range(3):
            source.put(message(f"x{n}"))
            await until(lambda: len(running.journal.named("held")) > n)  # noqa: B023 - awaited within the round
        source.put(*(message(f"g{n}") for n in range(6)))
        await until(lambda: len(destination.kept) == 6)
        running.pump.release()


async def test_bytes_have_their_share_too() -> None:
    source, destination = MemorySource(), faulty(Failed("odd"))
    large = 200 * 1024
    source.put(*(message(f"x{n:02}" + "y" * large) for n in range(30)), message("good"))
    options = {"credits": 500, "credit_bytes": 2 * 1024 * 1024, "policy": PATIENT}
    async with Running(source, destination, **options) as running:
        await until(lambda: payloads(destination) == ["good"])
        running.pump.release()


class LockingSource(MemorySource):
    """As a FIFO queue: while one message of a group is out or hidden, no other of the group is lent."""

    locks_groups = True

    def _due(self, limit: int):  # type: ignore[no-untyped-def]
        now = asyncio.get_running_loop().time()
        locked = {
            _group(kept.message.message_id)  # type: ignore[union-attr]
            for kept in self._kept.values()
            if kept.until is not None and kept.until > now
        }
        return [kept for kept in super()._due(10_000) if _group(kept.message.message_id) not in locked][:limit]  # type: ignore[union-attr]


def _group(name: str) -> str:
    return name.partition("-")[0]


async def test_groups_that_wait_go_back_whole_and_none_of_them_is_overtaken() -> None:
    source, destination = LockingSource(batch=10), MemoryDestination()
    stuck = {f"x{n}" for n in range(12)}
    destination.fault = lambda out, tries: Failed("not yet") if _group(body(out)) in stuck else None
    groups = [*sorted(stuck), *(f"g{n}" for n in range(5))]
    source.put(*(message(f"{group}-{n}") for group in groups for n in range(5)))
    async with Running(source, destination, credits=20, policy=PATIENT) as running:
        await until(lambda: len(destination.kept) == 25)
        assert running.journal.named("handed_back")
        stuck.clear()
        await until(lambda: not len(source))
    for group in groups:
        assert [each for each in payloads(destination) if _group(each) == group] == [f"{group}-{n}" for n in range(5)]


async def test_a_blocked_group_is_never_given_back_for_its_share() -> None:
    """Each return counts towards a dead-letter queue, and there its head would be overtaken."""
    source = LockingSource(batch=10)
    destination = MemoryDestination(lambda out, tries: Refused("too large") if body(out)[0] == "x" else None)
    source.put(*(message(f"x{n}-0") for n in range(8)), *(message(f"g{n}-0") for n in range(8)))
    async with Running(source, destination, credits=20, share=0.2, policy=PATIENT, block=True) as running:
        await until(lambda: len(destination.kept) == 8 and len(running.journal.named("blocked")) > 20)
        assert running.journal.named("handed_back") == []
        running.pump.release()
    assert len(source) == 8


@given(st.integers(1, 50), st.integers(10, 1000), st.floats(0, 0.9), st.lists(st.integers(1, 60), max_size=30))
def test_what_is_kept_never_takes_more_than_its_share_and_something_is_always_left(
    batch: int, messages: int, share: float, wanted: list[int]
) -> None:
    account = Credits(messages=messages, size=messages * 1_000_000, batch=batch, share=share)
    kept = 0
    for count in wanted:
        if account.keep(count, count):
            kept += count
        assert kept <= messages * share
    reserved = account.reserve()
    assert reserved is not None
    assert 0 < reserved[0] <= messages - kept
    account.kept(kept, kept)
    account.charge(reserved, 0, 0)
    assert account.keep(int(messages * share), 0)


@given(st.integers(1, 1000))
def test_each_return_is_for_longer_up_to_a_limit(attempt: int) -> None:
    policy = Policy()
    assert policy.longest <= returned(attempt, policy) <= returned(attempt + 1, policy) <= policy.returned
