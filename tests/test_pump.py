"""The pump's promises, proven on memory legs with faults."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.errors import BridgeError, Failed, NotUsable, Refused, Throttled, Unavailable, Unexpected, Unmappable
from bridge.core.models import JetStreamOut, Message, Out, SqsMessage
from bridge.core.route import Delivery, Mapped, Receipt, Skip
from bridge.core.settle import Policy
from bridge.legs.memory import MemoryDestination, MemorySource
from bridge.pump import Pump
from bridge.rounds import Parking

QUICK = Policy(first=0.001, longest=0.02, attempts=4)


class Journal:
    """An Observer that remembers."""

    def __init__(self) -> None:
        self.events: list[tuple[str, object]] = []
        self.now_in_flight = 0
        self.most_in_flight = 0

    def received(self, deliveries: Sequence[Delivery]) -> None:
        self._note("received", [d.id for d in deliveries])

    def receive_failed(self, error: BridgeError, after: float) -> None:
        self._note("receive_failed", str(error))

    def carried(self, carried: Sequence[tuple[Delivery, Receipt]]) -> None:
        for delivery, receipt in carried:
            self._note("duplicate" if receipt.duplicate else "carried", delivery.id)

    def held(self, deliveries: Sequence[Delivery], error: BridgeError, after: float) -> None:
        self._note("held", [d.id for d in deliveries])

    def handed_back(self, delivery: Delivery, error: BridgeError, after: float) -> None:
        self._note("handed_back", delivery.id)

    def parked(self, delivery: Delivery, reason: BridgeError, receipt: Receipt) -> None:
        self._note("parked", delivery.id)

    def skipped(self, delivery: Delivery, skip: Skip) -> None:
        self._note(skip.why, delivery.id)

    def blocked(self, delivery: Delivery, reason: BridgeError, after: float) -> None:
        self._note("blocked", delivery.id)

    def rejected(self, delivery: Delivery, reason: BridgeError, after: float) -> None:
        self._note("rejected", delivery.id)

    def heartbeat_failed(self, delivery: Delivery, reason: BridgeError) -> None:
        self._note("heartbeat_failed", delivery.id)

    def unsettled(self, delivery: Delivery, error: BridgeError) -> None:
        self._note("unsettled", delivery.id)

    def released(self, deliveries: Sequence[Delivery]) -> None:
        self._note("released", [d.id for d in deliveries])

    def contained(self, error: Unexpected) -> None:
        self._note("contained", error.kind)

    def in_flight(self, count: int) -> None:
        self.now_in_flight = count
        self.most_in_flight = max(self.most_in_flight, count)

    def _note(self, what: str, fact: object) -> None:
        self.events.append((what, fact))

    def named(self, what: str) -> list[object]:
        return [fact for event, fact in self.events if event == what]


def message(name: str) -> SqsMessage:
    return SqsMessage(message_id=name, body=name, queue="q", queue_arn="arn:aws:sqs:eu-west-1:1:q")


def mapping(one: Message) -> Mapped | Skip:
    """The lane is what stands before a dash: `a-3` travels in lane a, `x` in none."""
    assert isinstance(one, SqsMessage)
    if one.body.startswith("bad"):
        raise Unmappable("body", "it is bad")
    if one.body.startswith("echo"):
        return Skip("echo")
    if one.body.startswith("bug"):
        raise KeyError(one.body)
    lane = one.body.split("-")[0] if "-" in one.body else None
    if one.body.endswith("unmappable"):
        error = Unmappable("body", "it is unmappable")
        error.lane = lane
        raise error
    return Mapped(JetStreamOut("s", one.body.encode(), f"sqs:{one.message_id}"), lane)


def park(delivery: Delivery, reason: BridgeError) -> Out:
    return JetStreamOut("parked", delivery.id.encode(), f"parked:{delivery.id}", {"Reason": str(reason)})


def payloads(destination: MemoryDestination) -> list[str]:
    return [body(out) for out in destination.kept]


def body(out: Out) -> str:
    assert isinstance(out, JetStreamOut)
    return out.payload.decode()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


class Running:
    """A pump in a task; leaving the block drains it and sees that nothing is left in flight."""

    def __init__(self, source: MemorySource, destination: MemoryDestination, **options: object) -> None:
        self.journal = Journal()
        options = {"policy": QUICK, "jitter": lambda: 0.5, "mapping": mapping, **options}
        self.pump = Pump(source, destination, observer=self.journal, **options)  # type: ignore[arg-type]

    async def __aenter__(self) -> Self:
        self.task = asyncio.create_task(self.pump.run())
        return self

    async def __aexit__(self, *error: object) -> None:
        self.pump.drain()
        async with asyncio.timeout(20):
            await self.task
        assert self.journal.now_in_flight == 0


async def test_everything_is_carried_once_and_then_acked() -> None:
    source, destination = MemorySource(), MemoryDestination()
    source.put(*(message(str(n)) for n in range(95)))
    async with Running(source, destination, receivers=4) as running:
        await until(lambda: not len(source))
    assert sorted(payloads(destination)) == sorted(str(n) for n in range(95))
    assert len(running.journal.named("carried")) == 95


async def test_nothing_is_acked_before_the_destination_has_it() -> None:
    source, destination = MemorySource(), MemoryDestination()
    destination.gate.clear()
    source.put(message("a"))
    async with Running(source, destination):
        await destination.entered.wait()
        assert source.acked == []
        destination.gate.set()
        await until(lambda: source.acked == ["a"])


async def test_no_credits_no_receive() -> None:
    source, destination = MemorySource(), MemoryDestination()
    destination.gate.clear()
    source.put(*(message(str(n)) for n in range(100)))
    async with Running(source, destination, credits=25, receivers=4) as running:
        await until(lambda: running.journal.now_in_flight == 20)  # two batches of ten; a third does not fit
        destination.gate.set()
        await until(lambda: not len(source))
    assert running.journal.most_in_flight <= 25
    assert source.most_in_flight <= 25


async def test_a_bad_message_is_parked_and_does_not_stop_the_rest() -> None:
    source, destination, parking = MemorySource(), MemoryDestination(), MemoryDestination()
    source.put(message("a"), message("bad"), message("bug"), message("b"))
    async with Running(source, destination, parking=Parking(parking, park)) as running:
        await until(lambda: not len(source))
    assert sorted(payloads(destination)) == ["a", "b"]
    assert sorted(payloads(parking)) == ["bad", "bug"]
    assert sorted(map(str, running.journal.named("parked"))) == ["bad", "bug"]
    reasons = {out.payload: out.headers["Reason"] for out in parking.kept if isinstance(out, JetStreamOut)}
    assert reasons[b"bad"] == "body: it is bad"
    assert re.match(r"unexpected KeyError at pump.py:\d+ ", reasons[b"bug"])  # its text could quote the message


async def test_what_the_destination_refuses_is_parked() -> None:
    source, parking = MemorySource(), MemoryDestination()
    destination = MemoryDestination(lambda out, tries: Refused("too large") if "big" in body(out) else None)
    source.put(message("big"), message("small"))
    async with Running(source, destination, parking=Parking(parking, park)):
        await until(lambda: not len(source))
    assert payloads(destination) == ["small"]
    assert payloads(parking) == ["big"]


async def test_a_message_is_acked_only_once_the_parking_place_has_it() -> None:
    source, destination, parking = MemorySource(), MemoryDestination(), MemoryDestination()
    parking.gate.clear()
    source.put(message("bad"))
    async with Running(source, destination, parking=Parking(parking, park)):
        await parking.entered.wait()
        assert source.acked == []
        parking.gate.set()
        await until(lambda: source.acked == ["bad"])


async def test_without_parking_a_bad_message_is_left_to_the_source() -> None:
    source, destination = MemorySource(), MemoryDestination()
    source.put(message("bad"), message("good"))
    async with Running(source, destination) as running:
        await until(lambda: len(running.journal.named("rejected")) >= 3)
    assert source.acked == ["good"]
    assert ("bad", QUICK.longest) in source.retried
    assert len(source) == 1


async def test_what_the_parking_place_refuses_is_left_to_the_source() -> None:
    source, destination = MemorySource(), MemoryDestination()
    parking = MemoryDestination(lambda out, tries: Refused("no room for it"))
    source.put(message("bad"))
    async with Running(source, destination, parking=Parking(parking, park)) as running:
        await until(lambda: bool(running.journal.named("rejected")))
    assert len(source) == 1


async def test_while_the_parking_place_is_down_a_bad_message_waits_for_it() -> None:
    source, destination = MemorySource(), MemoryDestination()
    parking = MemoryDestination(lambda out, tries: Unavailable("down") if tries <= 10 else None)
    source.put(message("bad"), message("good"))
    async with Running(source, destination, parking=Parking(parking, park)) as running:
        await until(lambda: not len(source))
    assert payloads(parking) == ["bad"]
    assert running.journal.named("rejected") == []
    assert source.retried == []


@pytest.mark.parametrize("error", [Unavailable("down"), Throttled("slow down"), NotUsable("no such stream")])
async def test_an_outage_keeps_messages_in_flight(error: BridgeError) -> None:
    source = MemorySource()
    destination = MemoryDestination(lambda out, tries: error if tries <= 12 else None)
    source.put(*(message(str(n)) for n in range(7)))
    async with Running(source, destination) as running:
        await until(lambda: not len(source))
    assert source.retried == []
    assert len(running.journal.named("held")) >= 12


async def test_a_failure_of_one_message_is_handed_back_after_a_few_tries() -> None:
    source = MemorySource()
    failing = {"on": True}
    destination = MemoryDestination(
        lambda out, tries: Failed("who knows") if failing["on"] and "odd" in body(out) else None
    )
    source.put(message("odd"), message("even"))
    async with Running(source, destination) as running:
        await until(lambda: bool(running.journal.named("handed_back")))
        assert source.acked == ["even"]
        failing["on"] = False
        await until(lambda: not len(source))
    assert len(running.journal.named("held")) >= QUICK.attempts - 1


async def test_an_outage_does_not_use_up_the_tries_of_a_message() -> None:
    source = MemorySource()
    destination = MemoryDestination(
        lambda out, tries: Unavailable("down") if tries <= 10 else Failed("odd") if tries <= 12 else None
    )
    source.put(message("a"))
    async with Running(source, destination) as running:
        await until(lambda: not len(source))
    assert running.journal.named("handed_back") == []


async def test_a_lane_waits_for_its_head_and_others_go_on() -> None:
    source = MemorySource()
    blocked = {"a-0"}
    destination = MemoryDestination(lambda out, tries: Failed("not yet") if body(out) in blocked else None)
    source.put(*(message(f"{lane}-{n}") for n in range(4) for lane in "ab"))
    async with Running(source, destination) as running:
        await until(lambda: payloads(destination) == [f"b-{n}" for n in range(4)])
        await until(lambda: len(running.journal.named("held")) > QUICK.attempts + 2)
        assert running.journal.named("handed_back") == []  # handed back, it would be overtaken
        blocked.clear()
        await until(lambda: not len(source))
    assert [name for name in payloads(destination) if name.startswith("a")] == [f"a-{n}" for n in range(4)]


async def test_a_drain_lets_the_receive_in_flight_return_and_releases_what_it_brought() -> None:
    source, destination = MemorySource(wait=10), MemoryDestination()
    async with Running(source, destination) as running:
        await asyncio.sleep(0)
        await until(lambda: running.pump._credits._messages < 500)  # the poll is in flight
        running.pump.drain()
        source.put(message("late"))
    assert source.released == ["late"]
    assert destination.kept == []


async def test_a_drain_finishes_what_is_held() -> None:
    source, destination = MemorySource(), MemoryDestination()
    destination.gate.clear()
    source.put(*(message(f"a-{n}") for n in range(3)))
    async with Running(source, destination) as running:
        await destination.entered.wait()
        running.pump.drain()
        destination.gate.set()
    assert payloads(destination) == ["a-0", "a-1", "a-2"]
    assert len(source) == 0


async def test_a_release_gives_back_what_waits_in_order() -> None:
    source = MemorySource()
    destination = MemoryDestination(lambda out, tries: Unavailable("down"))
    source.put(*(message(f"a-{n}") for n in range(4)))
    slow = Policy(first=600, longest=600)
    async with Running(source, destination, policy=slow) as running:
        await until(lambda: bool(running.journal.named("held")))
        running.pump.release()
    # The poll in flight may bring some of them once more, and releases those too.
    assert source.released[:4] == [f"a-{n}" for n in range(4)]
    assert source.acked == []


async def test_receive_errors_are_retried_with_backoff() -> None:
    source, destination = MemorySource(), MemoryDestination()
    source.receive_faults = [Unavailable("down"), NotUsable("no such queue"), Unavailable("down")]
    source.put(message("a"))
    async with Running(source, destination) as running:
        await until(lambda: not len(source))
    assert len(running.journal.named("receive_failed")) == 3


async def test_a_failed_settle_is_reported_and_the_redelivery_is_a_duplicate() -> None:
    source, destination = MemorySource(visibility=0.05), MemoryDestination()
    source.tending = False
    source.settle_faults = [Unavailable("the delete was not answered")]
    source.put(message("a"))
    async with Running(source, destination) as running:
        await until(lambda: not len(source))
    assert running.journal.named("unsettled") == ["a"]
    assert running.journal.named("duplicate") == ["a"]
    assert payloads(destination) == ["a"]


async def test_what_is_skipped_is_acknowledged_and_goes_nowhere() -> None:
    source, destination, parking = MemorySource(), MemoryDestination(), MemoryDestination()
    source.put(*map(message, ["a", "echo", "b"]))
    async with Running(source, destination, parking=Parking(parking, park)) as running:
        await until(lambda: not len(source))
    assert sorted(payloads(destination)) == ["a", "b"]
    assert payloads(parking) == []
    assert running.journal.named("echo") == ["echo"]


@pytest.mark.parametrize("poison", ["a-refused", "a-unmappable"])
async def test_a_blocked_group_waits_and_the_others_go_on(poison: str) -> None:
    taken = False

    def fault(out: Out, tries: int) -> BridgeError | None:
        return None if taken else Refused("too large") if body(out) == "a-refused" else None

    source, destination, parking = MemorySource(), MemoryDestination(fault), MemoryDestination()
    source.put(*map(message, ["a-1", poison, "a-2", "b-1", "b-2", "c"]))
    options = {"parking": Parking(parking, park), "block": True}
    async with Running(source, destination, **options) as running:
        await until(lambda: len(running.journal.named("blocked")) > 2)
        assert sorted(payloads(destination)) == ["a-1", "b-1", "b-2", "c"]
        if poison == "a-refused":
            taken = True  # an operator raised the limit
            await until(lambda: not len(source))
            assert [each for each in payloads(destination) if each[0] == "a"] == ["a-1", "a-refused", "a-2"]
        running.pump.release()
    assert payloads(parking) == []
    if poison == "a-unmappable":
        assert len(source) == 2  # given back, in order, for a bridge that can


async def test_a_message_that_cannot_be_read_blocks_its_group_like_any_that_cannot_be_carried() -> None:
    source, destination, parking = MemorySource(), MemoryDestination(), MemoryDestination()
    source.hopeless["a-2"] = Unmappable("message", "it is none of SQS")
    source.put(*map(message, ["a-1", "a-2", "a-3", "b-1"]))
    async with Running(source, destination, parking=Parking(parking, park), block=True) as running:
        await until(lambda: len(running.journal.named("blocked")) > 2)
        assert (sorted(payloads(destination)), payloads(parking)) == (["a-1", "b-1"], [])
        running.pump.release()
    assert len(source) == 2


async def test_without_block_an_unmappable_message_is_parked_in_its_turn() -> None:
    source, destination, parking = MemorySource(), MemoryDestination(), MemoryDestination()
    source.put(*map(message, ["a-1", "a-unmappable", "a-2"]))
    async with Running(source, destination, parking=Parking(parking, park)):
        await until(lambda: not len(source))
    assert payloads(destination) == ["a-1", "a-2"]
    assert payloads(parking) == ["a-unmappable"]


async def test_a_message_on_its_last_delivery_is_parked_instead_of_handed_back() -> None:
    source, parking = MemorySource(most=1), MemoryDestination()
    destination = MemoryDestination(lambda out, tries: Failed("nobody knows why"))
    source.put(message("a"))
    async with Running(source, destination, parking=Parking(parking, park)) as running:
        await until(lambda: not len(source))
    assert payloads(parking) == ["a"]
    assert running.journal.named("handed_back") == []


async def test_a_message_the_source_has_given_up_is_parked_unseen_by_the_destination() -> None:
    source, destination, parking = MemorySource(), MemoryDestination(), MemoryDestination()
    source.hopeless["a"] = Refused("delivered 5 times")
    source.put(message("a"))
    async with Running(source, destination, parking=Parking(parking, park)):
        await until(lambda: not len(source))
    assert (payloads(destination), payloads(parking)) == ([], ["a"])


ERRORS = [None, Failed("x"), Unavailable("x"), Throttled("x"), NotUsable("x"), Refused("x")]


@given(
    script=st.lists(st.sampled_from(range(len(ERRORS))), max_size=60),
    lanes=st.lists(st.sampled_from("abc "), min_size=1, max_size=30),
    batch=st.integers(1, 10),
    receivers=st.integers(1, 3),
)
def test_whatever_fails_each_message_ends_in_one_place_and_lanes_keep_their_order(
    script: list[int], lanes: list[str], batch: int, receivers: int
) -> None:
    """The law of the whole: after any script of failures, carried and parked together are all that was put."""

    async def scene() -> None:
        faults = iter(script)
        source, parking = MemorySource(batch=batch, wait=0.01), MemoryDestination()
        destination = MemoryDestination(lambda out, tries: ERRORS[next(faults, 0)])
        names = [f"{lane}-{n}" if lane != " " else f"{n}" for n, lane in enumerate(lanes)]
        source.put(*map(message, names))
        policy = Policy(first=0.0001, longest=0.001, attempts=3)
        options = {"policy": policy, "receivers": receivers, "parking": Parking(parking, park)}
        async with Running(source, destination, **options):
            await until(lambda: not len(source))
        carried, parked = payloads(destination), payloads(parking)
        assert sorted(carried + parked) == sorted(names)
        for lane in "abc":
            expected = [name for name in names if name.startswith(lane) and name in carried]
            assert [name for name in carried if name.startswith(lane)] == expected

    asyncio.run(scene())
