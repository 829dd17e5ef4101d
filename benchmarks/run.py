"""`make bench`: the real daemon between a canned SQS and a real nats-server, beside the floor, in turn, in one run;
with `--peer mq-bridge` that engine too, on the same work. `--half` goes on at half of the pace each direction reached.

Only ratios within one run mean anything: machines differ, and are noisy. Reports messages a second, CPU microseconds a
message, publish latencies, transit, memory, AWS calls, and the ratios; as a table, and as JSON with --json. Every
message lent must be deleted once, or sent once, else the run fails.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.contenders import Direction, Result, Work, bridge, floor, peer, peer_installed
from benchmarks.processes import end_in_order
from bridge.embedded import NatsServer

PEER = "mq-bridge"


def measure(options: argparse.Namespace, nats: str) -> Iterator[Result]:
    directions: list[Direction] = ["in", "back"] if options.direction == "both" else [options.direction]
    settings: dict[str, Any] = json.loads(options.route)
    works = [
        Work(nats, direction, options.messages, latency, options.size, options.failing, options.rate, options.burst)
        for latency in options.latency
        for direction in directions
    ]
    fastest: dict[tuple[float, Direction], float] = {}
    for _ in range(options.rounds):
        for work in works:
            alone = options.alone or work.direction == "topic"  # the others know no SNS
            if not alone:
                yield floor(replace(work, failing=0.0))
            found = bridge(work, settings)
            yield found
            pace = fastest.get((work.latency, work.direction), 0.0)
            fastest[work.latency, work.direction] = max(pace, found.per_second)
            if options.peer and not alone:
                # One call at a time is all it does by default: at a latency it would take for ever.
                few = work if not work.latency else replace(work, messages=min(work.messages, 10_000))
                yield peer(replace(few, failing=0.0))
                if work.latency and work.direction == "back":
                    yield peer(replace(work, failing=0.0), concurrency=16)
    if options.half:
        for work in works:
            yield bridge(replace(work, rate=fastest[work.latency, work.direction] / 2), settings)


def show(results: list[Result], console: Console) -> None:
    table = Table("who", "direction", "ms/call", "rate", "msg/s", "CPU us/msg", "cores", "RSS MiB", "calls/1,000")
    table.add_column("publish p50 p99 p99.9 max ms")
    table.add_column("transit p50 p99 p99.9 max ms")
    table.add_column("lent to deleted p50 p99 p99.9 max ms")
    table.add_column("idle process late p99 p99.9 max ms")
    for each in results:
        memories = (each.rss_start, each.rss_warm, each.rss_peak, each.rss_end)
        table.add_row(
            *(each.who, each.direction, f"{each.latency_ms:g}", f"{each.rate:,.0f}" if each.rate else ""),
            *(f"{each.per_second:,.0f}", f"{each.cpu_us:.1f}", f"{each.cores:.2f}"),
            " ".join("-" if value is None else f"{value:.0f}" for value in memories),
            f"{each.calls_per_1000:.0f}",
            " ".join(f"{value:.1f}" for value in each.publish_ms),
            " ".join(f"{value:.1f}" for value in each.transit_ms),
            " ".join(f"{value:.1f}" for value in each.out_ms),
            " ".join(f"{value:.1f}" for value in each.late_ms),
        )
    console.print(table)
    for line in ratios(results):
        console.print(line)


def ratios(results: list[Result]) -> Iterator[str]:
    """Bridge to floor and bridge to peer, round by round: the median, and the least and most of the CPU."""
    kinds = sorted({(each.latency_ms, each.direction) for each in results}, key=str)
    for latency, direction in kinds:

        def of(who: str, at: float = latency, way: str = direction) -> list[Result]:
            return [r for r in results if (r.who, r.latency_ms, r.direction, r.rate) == (who, at, way, 0.0)]

        ours = of("bridge")
        others = sorted({each.who for each in results} - {"bridge"})
        for who in others:
            if ours and (theirs := of(who)):
                cpu = [our.cpu_us / their.cpu_us for our, their in zip(ours, theirs, strict=True)]
                pace = median(our.per_second / their.per_second for our, their in zip(ours, theirs, strict=True))
                yield (
                    f"{direction} at {latency:g} ms: {median(cpu):.2f} of the CPU a message of {who} "
                    f"({min(cpu):.2f} to {max(cpu):.2f}), {pace:.2f} of its pace"
                )
    for each in results:
        if each.who == "bridge" and each.rss_warm is not None:
            yield (
                f"{each.direction} at {each.latency_ms:g} ms: memory at the end {each.rss_end / each.rss_warm:.2f} "
                "of what it was after 50,000 messages"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=50_000)
    parser.add_argument("--size", type=int, default=512, help="bytes of a body")
    parser.add_argument("--latency", type=float, nargs="*", default=[0.0, 10.0], help="milliseconds of each AWS call")
    parser.add_argument("--failing", type=float, default=0.0, help="the share of AWS calls that fail")
    parser.add_argument("--rate", type=float, default=0.0, help="messages produced a second; 0: all are there at once")
    parser.add_argument("--burst", type=int, default=10, help="messages that come into the stream together, at a rate")
    parser.add_argument("--half", action="store_true", help="afterwards the bridge at half of the pace it reached")
    parser.add_argument("--rounds", type=int, default=1)
    ways = ["in", "back", "both", "topic"]
    parser.add_argument("--direction", choices=ways, default="both", help="topic: from JetStream to SNS, alone")
    parser.add_argument("--alone", action="store_true", help="without the floor")
    parser.add_argument("--peer", choices=[PEER], help="beside it, where its wheel is installed")
    parser.add_argument("--route", default="{}", help="JSON laid over the bridge's route")
    parser.add_argument("--json", type=Path, help="where to write the results")
    options = parser.parse_args()
    end_in_order()
    console = Console(width=200)
    if options.peer and not peer_installed():
        console.print(f"{PEER} is not installed, and left out: .venv/bin/uv pip install --group bench")
        options.peer = None
    console.print(f"Python {sys.version}")
    results = []
    with tempfile.TemporaryDirectory() as place, NatsServer(Path(place) / "nats") as server:
        for result in measure(options, server.url):
            results.append(result)
            console.print(
                f"{result.who} {result.direction} {result.latency_ms:g} ms: {result.per_second:,.0f} msg/s, "
                f"{result.cpu_us:.1f} us"
            )
    show(results, console)
    if options.json:
        options.json.write_text(json.dumps([asdict(each) for each in results], indent=2))
