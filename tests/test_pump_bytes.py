"""The pump's credits, in messages and in bytes, on memory legs."""

from __future__ import annotations

from bridge.legs.memory import MemoryDestination, MemorySource
from tests.test_pump import Running, message, payloads, until


async def test_large_messages_are_fewer_at_once() -> None:
    source, destination = MemorySource(), MemoryDestination()
    destination.gate.clear()
    kilobytes, budget = 256, 4 * 1024 * 1024
    source.put(*(message(f"{n:03}" + "x" * kilobytes * 1024) for n in range(200)))
    async with Running(source, destination, credit_bytes=budget, receivers=8) as running:
        await until(lambda: destination.calls > 0)
        # The first receive could not know. From the second on there is no room until those are gone.
        await until(lambda: running.pump._credits.reserve() is None)
        assert running.journal.now_in_flight * kilobytes * 1024 <= budget
        destination.gate.set()
        await until(lambda: not len(source))
    assert running.journal.most_in_flight * kilobytes * 1024 <= budget
    assert running.pump._credits._bytes == budget


async def test_a_route_that_is_stuck_takes_no_credits_from_another() -> None:
    hot, stuck = MemorySource(), MemoryDestination()
    quiet, free = MemorySource(), MemoryDestination()
    stuck.gate.clear()
    hot.put(*(message(str(n)) for n in range(100)))
    async with Running(hot, stuck, credits=30, receivers=16) as full, Running(quiet, free, credits=30):
        await until(lambda: full.journal.now_in_flight == 30)
        for name in "abc":  # one after the other: no message of the hot route makes room meanwhile
            quiet.put(message(name))
            await until(lambda: not len(quiet))
        assert len(hot) == 100
        stuck.gate.set()
        await until(lambda: not len(hot))
    assert payloads(free) == ["a", "b", "c"]
