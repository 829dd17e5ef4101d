"""mq-bridge, a Rust engine with Python bindings, on the same work: one route with its own defaults, in a process of its
own. The wheel is in the dependency group `bench` and never a dependency of the bridge.
"""

from __future__ import annotations

import argparse
import importlib
from typing import Any


def route(sqs: str, nats: str, direction: str, concurrency: int) -> dict[str, Any]:
    """Nothing but where to read and write; `concurrency` 1 is its default."""
    queue = {
        "aws": {
            "queue_url": f"{sqs}/123456789012/bench",
            "endpoint_url": sqs,
            "region": "eu-west-1",
            "access_key": "bench",
            "secret_key": "bench",
        }
    }
    stream = {"nats": {"url": nats, "stream": "BENCH", "subject": "bench.in" if direction == "in" else "bench.>"}}
    both = {"input": queue, "output": stream} if direction == "in" else {"input": stream, "output": queue}
    return {**both, "concurrency": concurrency} if concurrency > 1 else both


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sqs", required=True)
    parser.add_argument("--nats", required=True)
    parser.add_argument("--direction", choices=["in", "back"], default="in")
    parser.add_argument("--concurrency", type=int, default=1)
    options = parser.parse_args()
    engine = importlib.import_module("mq_bridge")
    engine.Route.from_config(route(options.sqs, options.nats, options.direction, options.concurrency)).run()
