"""What a ledger costs: the same messages published with and without one, in turn, on one real nats-server.

Prints messages a second of each and their ratio. `python -m benchmarks.ledger --messages 20000`.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.processes import end_in_order
from bridge.core.models import JetStreamOut
from bridge.core.route import Destination, Receipt
from bridge.embedded import NatsServer
from bridge.legs.ledger import Ledgered, open_ledger
from bridge.legs.nats import NatsConnection, NatsOptions
from bridge.legs.stream import open_destination
from bridge.verbs import loop_factory

BATCH = 10  # as SQS gives them
AT_ONCE = 16


async def pace(destination: Destination, messages: Sequence[JetStreamOut]) -> float:
    """Messages a second."""
    batches = iter([messages[start : start + BATCH] for start in range(0, len(messages), BATCH)])

    async def carry() -> None:
        for batch in batches:
            assert all(isinstance(answer, Receipt) for answer in await destination.publish(batch))

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(carry())
    return len(messages) / (time.perf_counter() - began)


async def measure(url: str, count: int, rounds: int) -> None:
    async with NatsConnection(NatsOptions((url,))) as nats:
        config = {"name": "B", "subjects": ["b.>"], "storage": "file", "duplicate_window": 600 * 10**9}
        await nats.api("STREAM.CREATE.B", config)
        await (await nats.live()).jetstream().create_key_value(bucket="ledger", ttl=3600, direct=True)
        plain = await open_destination(nats, pattern="b.x", stream="B")
        noted = Ledgered(plain, await open_ledger(nats, "ledger", source="a", destinations=["b"]))
        ratios = []
        for number in range(rounds):
            paces = []
            for name, destination in (("without", plain), ("with", noted)):
                outs = [JetStreamOut("b.x", b"x" * 512, f"{number}-{name}-{n}") for n in range(count)]
                paces.append(await pace(destination, outs))
            ratios.append(paces[1] / paces[0])
            print(f"without {paces[0]:,.0f} msg/s, with {paces[1]:,.0f} msg/s, ratio {ratios[-1]:.2f}")
        print(f"median ratio {sorted(ratios)[len(ratios) // 2]:.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    end_in_order()
    with (
        tempfile.TemporaryDirectory() as folder,
        NatsServer(Path(folder) / "nats") as server,
        asyncio.Runner(loop_factory=loop_factory()) as runner,
    ):
        runner.run(measure(server.url, options.messages, options.rounds))
