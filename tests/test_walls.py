"""Walls: an exception no one expected, raised at every point of a route, stays where it came up. On memory legs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core import walls
from bridge.core.errors import BridgeError, Failed, Unavailable, Unexpected
from bridge.core.models import JetStreamOut, Message, Out, SqsMessage
from bridge.core.route import Delivery, Mapped, Receipt, Settlement, Skip
from bridge.core.settle import Policy
from bridge.legs.memory import MemoryDestination, MemorySource
from bridge.pump import STRIKES, Pump
from bridge.rounds import Parking
from tests.test_pump import QUICK, Journal, Running, body, mapping, message, park, payloads, until

SECRET = "card 4111-1111"


class Faulty(RuntimeError):
    """Its text quotes a message."""

    def __init__(self) -> None:
        super().__init__(SECRET)


def raise_for(poison: str) -> Any:
    def fault(out: Out, tries: int) -> BridgeError | None:
        if body(out).endswith(poison):
            raise Faulty
        return None

    return fault


async def test_a_message_whose_publish_raises_is_parked_and_the_others_of_its_batch_are_carried() -> None:
    source, destination, parking = MemorySource(), MemoryDestination(raise_for("poison")), MemoryDestination()
    source.put(*map(message, ["a", "poison", "b", "c"]))
    async with Running(source, destination, parking=Parking(parking, park)) as running:
        await until(lambda: not len(source))
    assert sorted(payloads(destination)) == ["a", "b", "c"]
    assert payloads(parking) == ["poison"]
    (kept,) = parking.kept
    assert isinstance(kept, JetStreamOut)
    assert kept.headers["Reason"].startswith("unexpected Faulty at legs/memory.py:")
    assert SECRET not in kept.headers["Reason"]
    assert "Faulty" in running.journal.named("contained")


async def test_a_lone_message_whose_publish_raises_waits_until_others_pass_and_is_then_parked() -> None:
    """Alone it cannot be told from an outage that shows itself as an odd exception."""
    source, destination, parking = MemorySource(), MemoryDestination(raise_for("poison")), MemoryDestination()
    source.put(message("poison"))
    options = {"parking": Parking(parking, park), "policy": Policy(first=0.001, longest=0.02, attempts=10_000)}
    async with Running(source, destination, **options) as running:
        await until(lambda: len(running.journal.named("held")) > 3)
        assert payloads(parking) == []
        source.put(message("good"))
        await until(lambda: not len(source))
    assert (payloads(destination), payloads(parking)) == (["good"], ["poison"])


async def test_an_exception_that_hits_every_message_parks_none_and_ends_the_pump_with_all_given_back() -> None:
    source, destination, parking = MemorySource(), MemoryDestination(raise_for("")), MemoryDestination()
    source.put(*map(message, "abcdef"))
    pump = Pump(source, destination, mapping, Journal(), policy=QUICK, parking=Parking(parking, park))
    with pytest.raises(Unexpected, match="Faulty"):
        async with asyncio.timeout(20):
            await pump.run()
    assert (payloads(parking), source.acked, pump.in_flight) == ([], [], 0)
    assert (await source.backlog()).in_flight == 0


async def test_an_exception_that_passes_costs_nothing() -> None:
    source, parking = MemorySource(), MemoryDestination()
    bad = QUICK.attempts - 1

    def fault(out: Out, tries: int) -> BridgeError | None:
        nonlocal bad
        if bad:
            bad -= 1
            raise Faulty
        return None

    destination = MemoryDestination(fault)
    source.put(message("a"))
    async with Running(source, destination, parking=Parking(parking, park)):
        await until(lambda: not len(source))
    assert (payloads(destination), payloads(parking)) == (["a"], [])


class Points(MemorySource):
    """Raises at one point, `times` times."""

    def __init__(self, point: str, times: int) -> None:
        super().__init__(visibility=0.6)
        self.point = point
        self.times = times

    def _strike(self, point: str) -> None:
        if point == self.point and self.times:
            self.times -= 1
            raise Faulty

    async def receive(self, limit: int) -> Sequence[Delivery]:
        self._strike("receive")
        return await super().receive(limit)

    async def settle(self, settled: Sequence[Settlement]) -> Sequence[BridgeError | None]:
        self._strike("settle")
        return await super().settle(settled)

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        self._strike("release")
        await super().release(deliveries)

    async def tend(self) -> None:
        self._strike("tend")
        await super().tend()


@pytest.mark.parametrize("point", ["receive", "settle", "tend", "release"])
async def test_a_source_that_raises_a_few_times_loses_nothing(point: str) -> None:
    source, destination = Points(point, STRIKES - 2), MemoryDestination()
    source.put(*(message(str(n)) for n in range(30)))
    async with Running(source, destination) as running:
        await until(lambda: not len(source))
        assert not running.task.done()
    assert sorted(payloads(destination), key=int) == [str(n) for n in range(30)]


async def test_renewals_that_fail_now_and_then_do_not_end_a_route() -> None:
    """Strikes are counted in a row: ten failures, each after a while of working, are not five at once."""

    class NowAndThen(MemorySource):
        failures = 0

        async def tend(self) -> None:
            await asyncio.sleep(2 * QUICK.longest)
            self.failures += 1
            raise Faulty

    source, destination = NowAndThen(), MemoryDestination()
    async with Running(source, destination) as running:
        await until(lambda: source.failures > 2 * STRIKES)
        source.put(message("late"))
        await until(lambda: payloads(destination) == ["late"])
        assert not running.task.done()


async def test_what_another_reader_may_have_by_now_is_never_sent() -> None:
    """As after a freeze: the lease is over, nothing renewed it, and the destination takes messages again."""

    class Frozen(MemorySource):
        over: frozenset[str] = frozenset()

        def lapsed(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
            return [each for each in deliveries if each.id in self.over]

    down = True
    source = Frozen()
    destination = MemoryDestination(lambda out, tries: Unavailable("down") if down else None)
    source.put(*map(message, ["a", "b", "c"]))
    async with Running(source, destination) as running:
        await until(lambda: len(running.journal.named("held")) >= 3)
        source.over, down = frozenset("b"), False
        await until(lambda: len(payloads(destination)) == 2)
        await until(lambda: "b" in source.released)
        assert sorted(payloads(destination)) == ["a", "c"]
        source.over = frozenset()
        await until(lambda: sorted(payloads(destination)) == ["a", "b", "c"])  # delivered again


async def test_a_defect_of_the_loop_gives_each_message_back_once() -> None:
    """Also those it was carrying apart, for they wait for reasons of their own."""

    class Defect(Journal):
        def held(self, deliveries: Sequence[Delivery], error: BridgeError, after: float) -> None:
            super().held(deliveries, error, after)
            if len(self.named("held")) > 3:
                raise Faulty

    def fault(out: Out, tries: int) -> BridgeError:
        return Failed("odd") if body(out).startswith("own") else Unavailable("down")

    source, destination = MemorySource(), MemoryDestination(fault)
    source.put(*map(message, ["own-1", "own-2", "all-1"]))
    slow = Policy(first=60.0, longest=60.0, outage=0.001)
    pump = Pump(source, destination, mapping, Defect(), policy=slow)
    with pytest.raises(Unexpected, match="Faulty"):
        async with asyncio.timeout(20):
            await pump.run()
    assert (set(source.released), pump.in_flight) == ({"all-1", "own-1", "own-2"}, 0)


@pytest.mark.parametrize("point", ["receive", "tend"])
async def test_a_source_that_always_raises_ends_the_pump_with_all_given_back(point: str) -> None:
    source, destination = Points(point, 10_000), MemoryDestination()
    source.put(*(message(str(n)) for n in range(3)))
    pump = Pump(source, destination, mapping, Journal(), policy=QUICK)
    with pytest.raises(Unexpected):
        async with asyncio.timeout(20):
            await pump.run()
    assert (await source.backlog()).in_flight == 0
    assert len(source) + len(destination.kept) >= 3


async def test_a_settle_that_raises_for_one_message_settles_the_others() -> None:
    class Odd(MemorySource):
        async def settle(self, settled: Sequence[Settlement]) -> Sequence[BridgeError | None]:
            if any(each.delivery.id == "odd" for each in settled):
                raise Faulty
            return await super().settle(settled)

    source, destination = Odd(), MemoryDestination()
    source.put(*map(message, ["a", "odd", "b"]))
    async with Running(source, destination) as running:
        await until(lambda: bool(running.journal.named("unsettled")))
        await until(lambda: len(source.acked) == 2)
        await until(lambda: "odd" in running.journal.named("duplicate"))  # it came again: the source had forgotten it
    assert sorted(source.acked) == ["a", "b"]


async def test_a_parking_place_that_raises_leaves_the_message_to_the_source_with_both_reasons() -> None:
    source, destination = MemorySource(), MemoryDestination()
    parking = MemoryDestination(raise_for(""))
    source.put(message("bad"), message("good"))
    reasons: list[str] = []

    class Reasons(Journal):
        def rejected(self, delivery: Delivery, reason: BridgeError, after: float) -> None:
            reasons.append(str(reason))
            super().rejected(delivery, reason, after)

    async with Running(source, destination, parking=Parking(parking, park)) as running:
        running.pump._observer = running.pump._rounds._observer = Reasons()
        await until(lambda: bool(reasons))
    assert payloads(destination) == ["good"]
    assert "body: it is bad; and it cannot be parked: unexpected Faulty" in reasons[0]


async def test_a_parked_message_that_cannot_be_made_leaves_the_others_parked() -> None:
    def picky(delivery: Delivery, reason: BridgeError) -> Out:
        if delivery.id == "bad-1":
            raise Faulty
        return park(delivery, reason)

    source, destination, parking = MemorySource(), MemoryDestination(), MemoryDestination()
    source.put(*map(message, ["bad-1", "bad-2", "bad-3", "good"]))
    async with Running(source, destination, parking=Parking(parking, picky)) as running:
        await until(lambda: bool(running.journal.named("rejected")) and len(parking.kept) == 2)
    assert sorted(payloads(parking)) == ["bad-2", "bad-3"]
    assert running.journal.named("rejected")[0] == "bad-1"


async def test_a_mapping_that_raises_keeps_the_message_in_its_lane() -> None:
    """With `cannot_carry: block` it would else be overtaken by those behind it."""

    def odd(one: Message) -> Mapped | Skip:
        assert isinstance(one, SqsMessage)
        if one.body == "a-odd":
            raise Faulty
        return mapping(one)

    def lane(one: Message) -> str | None:
        assert isinstance(one, SqsMessage)
        return one.body.split("-")[0]

    source, destination, parking = MemorySource(), MemoryDestination(), MemoryDestination()
    source.put(*map(message, ["a-1", "a-odd", "a-2", "b-1"]))
    options = {"parking": Parking(parking, park), "block": True, "mapping": odd, "lane": lane}
    async with Running(source, destination, **options) as running:
        await until(lambda: bool(running.journal.named("blocked")))
        await until(lambda: sorted(payloads(destination)) == ["a-1", "b-1"])
        running.pump.release()
    assert (payloads(parking), len(source)) == ([], 2)


def test_a_lane_that_cannot_be_found_is_one_of_its_own() -> None:
    def lane(one: Message) -> str | None:
        raise Faulty

    assert walls.lane_of(message("a"), lane) == walls.UNKNOWN_LANE
    assert walls.lane_of(message("a"), None) is None


async def test_answers_that_are_too_few_are_no_answers() -> None:
    class Short(MemoryDestination):
        async def publish(self, messages: Sequence[Out]) -> Sequence[Receipt | BridgeError]:
            return (await super().publish(messages))[1:]

    out = JetStreamOut("s", b"x", "id")
    answers = await walls.publish(Short(), [out, out])
    assert [type(each) for each in answers] == [Unexpected, Unexpected]


@given(
    script=st.lists(st.booleans(), max_size=40),
    lanes=st.lists(st.sampled_from("ab "), min_size=1, max_size=20),
    odd=st.sets(st.integers(0, 19), max_size=4),
)
def test_whatever_raises_each_message_ends_in_one_place_and_lanes_keep_their_order(
    script: list[int], lanes: list[str], odd: set[int]
) -> None:
    """`script` are passing faults of the destination, `odd` messages it never takes."""

    async def scene() -> None:
        faults = iter(script)

        def fault(out: Out, tries: int) -> BridgeError | None:
            if int(body(out).rpartition("-")[2]) in odd:
                raise Faulty
            if next(faults, False):
                raise Faulty
            return None

        source, parking, destination = MemorySource(wait=0.01), MemoryDestination(), MemoryDestination(fault)
        names = [f"{lane}-{n}" if lane != " " else f"{n}" for n, lane in enumerate(lanes)]
        source.put(*map(message, [*names, "99"]))
        policy = Policy(first=0.0001, longest=0.001, attempts=10_000)
        async with Running(source, destination, policy=policy, parking=Parking(parking, park)):
            for turn in range(100, 200):  # others pass now and then, which is what tells the odd ones from an outage
                source.put(message(str(turn)))
                await asyncio.sleep(0.001)
                if not len(source):
                    break
            await until(lambda: not len(source))
        carried = [each for each in payloads(destination) if int(each.rpartition("-")[2]) < 99]
        parked = [each for each in payloads(parking) if int(each.rpartition("-")[2]) < 99]
        assert sorted({*carried, *parked}) == sorted(names)  # one that was stored as the others failed may be in both
        assert len(set(carried)) == len(carried)
        for lane in "ab":
            expected = [name for name in names if name.startswith(lane) and name in carried]
            assert [name for name in carried if name.startswith(lane)] == expected

    asyncio.run(scene())
