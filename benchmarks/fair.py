"""Whether a hot queue slows down a quiet one in the same daemon: a queue with fifty messages a second alone, and then
beside one that is always full, in turn. `python -m benchmarks.fair`.

Prints how long messages of the quiet one were out, from lent to deleted, and how late a process was that does nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.contenders import ENVIRONMENT, INWARD
from benchmarks.processes import Idle, canned, end_in_order, wait
from bridge.embedded import NatsServer, free_port
from bridge.legs.nats import NatsConnection, NatsOptions


async def fresh_stream(url: str) -> None:
    async with NatsConnection(NatsOptions((url,))) as connection:
        if "BENCH" in ((await connection.api("STREAM.NAMES")).get("streams") or []):
            await connection.api("STREAM.DELETE.BENCH")
        settings = {"name": "BENCH", "subjects": ["bench.>"], "storage": "file", "max_bytes": 1 << 30}
        await connection.api("STREAM.CREATE.BENCH", settings)


def measure(nats: str, *, messages: int, hot: bool, latency: float) -> tuple[dict[str, Any], list[float]]:
    asyncio.run(fresh_stream(nats))
    lent = {"messages": 100_000_000 if hot else 0, "trickle": messages, "latency": latency}
    with canned(**lent) as sqs, tempfile.TemporaryDirectory() as folder:
        routes = [{**INWARD, "name": name, "source": {"kind": "sqs", "queue": name}} for name in ("bench", "trickle")]
        document = {
            "nats": {"servers": [nats]},
            "aws": {"region": "eu-west-1", "endpoint_url": sqs.url},
            "http": {"port": free_port()},
            "log": {"level": "warning"},
            "routes": routes,
        }
        path = Path(folder) / "bridge.yaml"
        path.write_text(json.dumps(document))
        command = [sys.executable, "-m", "bridge", "run", "-c", str(path)]
        process = subprocess.Popen(command, env=ENVIRONMENT)

        def finished() -> int:
            count: int = sqs.report()["trickle"]["deleted"]
            return count

        try:
            wait(finished, "the quiet queue began")
            idle = Idle()
            wait(lambda: finished() >= messages, "the quiet queue is done", progress=finished)
            return sqs.report(), idle.late()
        finally:
            process.kill()
            process.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=500, help="of the quiet queue")
    parser.add_argument("--latency", type=float, default=0.0, help="milliseconds of each AWS call")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    end_in_order()
    with tempfile.TemporaryDirectory() as place, NatsServer(Path(place) / "nats") as server:
        for _ in range(options.rounds):
            for hot in (False, True):
                found, late = measure(server.url, messages=options.messages, hot=hot, latency=options.latency)
                times = " ".join(f"{value:.1f}" for value in found["trickle"]["out_ms"])
                beside = f"beside one that carried {found['deleted']:,}" if hot else "alone"
                lateness = " ".join(f"{value:.1f}" for value in late)
                print(f"{beside}: lent to deleted p50 p99 p99.9 max {times} ms; idle process late by {lateness}")
