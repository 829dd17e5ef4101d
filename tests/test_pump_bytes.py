"""The pump's budget of bytes, on memory legs."""

from __future__ import annotations

from bridge.legs.memory import MemoryDestination, MemorySource
from tests.test_pump import Running, message, until


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
