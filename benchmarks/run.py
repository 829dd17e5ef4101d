"""`make bench`: the real daemon between a canned SQS and a real nats-server, beside the floor, in turn, in one run.

Only ratios within one run mean anything: machines differ, and are noisy. Reports messages a second, CPU microseconds a
message of the bridge's process, publish latencies, memory, AWS calls, and the ratio to the floor; as a table, and as
JSON with --json. Every message lent must be deleted once, or sent once, else the run fails.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bridge.embedded import NatsServer, free_port
from bridge.legs.nats import NatsConnection, NatsOptions

TICKS = os.sysconf("SC_CLK_TCK")
PATIENCE = 120.0


@dataclass
class Result:
    """One measurement. Times in milliseconds where the name says so; memory in MiB."""

    who: str
    direction: str
    latency_ms: float
    messages: int
    per_second: float
    cpu_us: float
    p50_ms: float | None = None
    p99_ms: float | None = None
    p999_ms: float | None = None
    rss_start: float | None = None
    rss_peak: float | None = None
    rss_end: float | None = None
    calls_per_1000: float | None = None


class Canned:
    """The canned SQS as a process."""

    def __init__(self, messages: int, latency: float, failing: float) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        arguments = {"port": self.port, "messages": messages, "latency": latency, "failing": failing}
        flags = [text for name, value in arguments.items() for text in (f"--{name}", str(value))]
        self.process = subprocess.Popen([sys.executable, "-m", "benchmarks.canned", *flags])

    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(get(f"{self.url}/report"))
        return found


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        text: str = answer.read().decode()
        return text


def wait(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            if condition():
                return
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise SystemExit(f"never: {what}")
        time.sleep(0.05)


@contextmanager
def canned(messages: int, latency: float, failing: float) -> Iterator[Canned]:
    sqs = Canned(messages, latency, failing)
    try:
        wait(sqs.report, "the canned SQS answers")
        yield sqs
    finally:
        sqs.process.kill()
        sqs.process.wait()


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory(pid: int, name: str) -> float:
    """MiB of `VmRSS` or `VmHWM`."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def quantile(metrics: str, share: float) -> float | None:
    """Milliseconds, interpolated in the bucket it falls into."""
    pairs = re.findall(r'publish_seconds_bucket\{le="([^"]+)",route="bench"\} (\S+)', metrics)
    buckets = [(float(le), float(count)) for le, count in pairs]
    if not buckets or not buckets[-1][1]:
        return None
    goal, before, low = share * buckets[-1][1], 0.0, 0.0
    for le, count in buckets:
        if count >= goal:
            return 1000 * (low if le == float("inf") else low + (le - low) * (goal - before) / max(1.0, count - before))
        before, low = count, le
    return None


ENVIRONMENT = {**os.environ, "AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench", "PYTHONOPTIMIZE": ""}


def config(folder: Path, route: dict[str, Any], nats: str, sqs: str, port: int) -> Path:
    path = folder / "bridge.yaml"
    document = {
        "nats": {"servers": [nats]},
        "aws": {"region": "eu-west-1", "endpoint_url": sqs},
        "http": {"port": port},
        "log": {"level": "warning"},
        "routes": [{"name": "bench", **route}],
    }
    path.write_text(json.dumps(document))
    return path


INWARD = {
    "source": {"kind": "sqs", "queue": "bench"},
    "destination": {"kind": "jetstream", "subject": "bench.{attributes.eventType}", "stream": "BENCH"},
}
BACK = {
    "source": {"kind": "jetstream", "stream": "BENCH", "consumer": "back"},
    "destination": {"kind": "sqs", "queue": "bench"},
}


async def stream(nats: str, messages: int) -> None:
    """A fresh stream; with `messages` in it, and a consumer, if there are to be any."""
    async with NatsConnection(NatsOptions((nats,))) as connection:
        if "BENCH" in ((await connection.api("STREAM.NAMES")).get("streams") or []):
            await connection.api("STREAM.DELETE.BENCH")
        settings = {"name": "BENCH", "subjects": ["bench.>"], "storage": "file", "duplicate_window": 120 * 10**9}
        await connection.api("STREAM.CREATE.BENCH", settings)
        block = b"NATS/1.0\r\neventType: paid\r\namount: 1200\r\nSqs-Type-amount: Number.int\r\n\r\n"
        for start in range(0, messages, 1000):
            count = min(1000, messages - start)
            assert None not in await connection.replies.ask([("bench.x", b"x" * 512, block)] * count, 30)
        if messages:
            body = {"durable_name": "back", "ack_policy": "explicit", "ack_wait": 60 * 10**9, "max_ack_pending": 5000}
            await connection.api("CONSUMER.CREATE.BENCH.back", {"stream_name": "BENCH", "config": body})


def floor(nats: str, latency: float, messages: int, failing: float) -> Result:
    asyncio.run(stream(nats, 0))
    with canned(messages, latency, failing) as sqs:
        command = [sys.executable, "-m", "benchmarks.floor", "--sqs", sqs.url, "--nats", nats]
        process = subprocess.Popen(command)
        wait(lambda: sqs.report()["lent"], "the floor began")
        wait(lambda: sqs.report()["deleted"] >= messages, "the floor is done")
        used = cpu_seconds(process.pid)
        found = sqs.report()
        process.kill()
        process.wait()
    return Result("floor", "in", latency, messages, messages / found["seconds"], 1e6 * used / messages)


def bridge(nats: str, direction: str, latency: float, messages: int, failing: float) -> Result:
    asyncio.run(stream(nats, 0 if direction == "in" else messages))
    with canned(messages if direction == "in" else 0, latency, failing) as sqs, tempfile.TemporaryDirectory() as folder:
        port = free_port()
        path = config(Path(folder), INWARD if direction == "in" else BACK, nats, sqs.url, port)
        process = subprocess.Popen([sys.executable, "-m", "bridge", "run", "-c", str(path)], env=ENVIRONMENT)
        key = "deleted" if direction == "in" else "sent"
        wait(lambda: sqs.report()[key] >= min(messages, 1), "the bridge began")
        began, start = cpu_seconds(process.pid), memory(process.pid, "VmRSS")
        before = sqs.report()[key]
        wait(lambda: sqs.report()[key] >= messages, "the bridge is done")
        used = cpu_seconds(process.pid) - began
        found = sqs.report()
        metrics = get(f"http://127.0.0.1:{port}/metrics")
        peak, end = memory(process.pid, "VmHWM"), memory(process.pid, "VmRSS")
        process.terminate()
        process.wait(60)
    if found["deleted_twice"] or found["missing"]:
        raise SystemExit(f"wrong: {found}")
    return Result(
        "bridge",
        direction,
        latency,
        messages,
        messages / found["seconds"],
        1e6 * used / max(1, messages - before),
        p50_ms=quantile(metrics, 0.5),
        p99_ms=quantile(metrics, 0.99),
        p999_ms=quantile(metrics, 0.999),
        rss_start=start,
        rss_peak=peak,
        rss_end=end,
        calls_per_1000=1000 * sum(found["calls"].values()) / messages,
    )


def show(results: list[Result]) -> None:
    table = Table("who", "direction", "ms/call", "msg/s", "CPU us/msg", "p50", "p99", "p99.9", "RSS MiB", "calls/1,000")
    for each in results:
        times = [f"{value:.1f}" if value is not None else "" for value in (each.p50_ms, each.p99_ms, each.p999_ms)]
        rss = f"{each.rss_start:.0f} {each.rss_peak:.0f} {each.rss_end:.0f}" if each.rss_start else ""
        calls = f"{each.calls_per_1000:.0f}" if each.calls_per_1000 else ""
        row = (each.who, each.direction, f"{each.latency_ms:g}", f"{each.per_second:,.0f}", f"{each.cpu_us:.0f}")
        table.add_row(*row, *times, rss, calls)
    console = Console(width=120)
    console.print(table)
    for latency in sorted({each.latency_ms for each in results}):
        ours = [
            each for each in results if each.latency_ms == latency and each.who == "bridge" and each.direction == "in"
        ]
        bare = [each for each in results if each.latency_ms == latency and each.who == "floor"]
        if ours and bare:
            cpu = median([each.cpu_us for each in ours]) / median([each.cpu_us for each in bare])
            pace = median([each.per_second for each in ours]) / median([each.per_second for each in bare])
            console.print(f"at {latency:g} ms: {cpu:.2f} of the floor's CPU a message, {pace:.2f} of its pace")


def median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=50_000)
    parser.add_argument("--latency", type=float, nargs="*", default=[0.0, 10.0], help="milliseconds of each AWS call")
    parser.add_argument("--failing", type=float, default=0.0, help="the share of AWS calls that fail")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--direction", choices=["in", "back", "both"], default="both")
    parser.add_argument("--json", type=Path, help="where to write the results")
    options = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as place, NatsServer(Path(place) / "nats") as server:
        for _ in range(options.rounds):
            for latency in options.latency:
                if options.direction != "back":
                    results.append(floor(server.url, latency, options.messages, 0.0))
                    results.append(bridge(server.url, "in", latency, options.messages, options.failing))
                if options.direction != "in":
                    results.append(bridge(server.url, "back", latency, options.messages, options.failing))
    show(results)
    if options.json:
        options.json.write_text(json.dumps([asdict(each) for each in results], indent=2))
