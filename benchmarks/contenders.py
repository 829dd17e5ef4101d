"""Who is measured, and how: the bridge, the floor and the peer on the same work, each in a process of its own.

CPU is counted from the first message that came through, so that nobody pays for starting.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmarks.processes import Canned, Idle, canned, cpu_seconds, get, memory, quantiles, wait
from bridge.embedded import free_port
from bridge.legs.nats import NatsConnection, NatsOptions

Direction = Literal["in", "back", "topic"]
"""SQS to JetStream, JetStream to SQS, JetStream to SNS."""

WARM = 50_000  # messages after which memory has to stand still
ENVIRONMENT = {**os.environ, "AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench", "PYTHONOPTIMIZE": ""}


@dataclass(frozen=True)
class Work:
    """What is to be carried. `latency` in milliseconds a call, `rate` in messages a second (0: as fast as can be), into
    the stream `burst` at a time."""

    nats: str
    direction: Direction
    messages: int
    latency: float
    size: int = 512
    failing: float = 0.0
    rate: float = 0.0
    burst: int = 10


@dataclass
class Result:
    """One measurement. Times in milliseconds where the name says so; memory in MiB. `publish_ms` and `transit_ms` are
    p50, p99, p99.9 and most, from received and from sent to durable, as the bridge tells; `out_ms` the same from lent
    to deleted, seen from SQS. At a rate, all leave out the first tenth of the messages, in which connections are
    opened; and `late_ms` is how late a process that does nothing woke meanwhile: p99, p99.9, most."""

    who: str
    direction: Direction
    latency_ms: float
    messages: int
    rate: float
    per_second: float
    cpu_us: float
    cores: float
    rss_start: float
    rss_warm: float | None
    rss_peak: float
    rss_end: float
    calls_per_1000: float
    publish_ms: list[float] = field(default_factory=list)
    transit_ms: list[float] = field(default_factory=list)
    out_ms: list[float] = field(default_factory=list)
    late_ms: list[float] = field(default_factory=list)


INWARD = {
    "source": {"kind": "sqs", "queue": "bench"},
    "destination": {"kind": "jetstream", "subject": "bench.{attributes.eventType}", "stream": "BENCH"},
}
BACK = {
    "source": {"kind": "jetstream", "stream": "BENCH", "consumer": "back"},
    "destination": {"kind": "sqs", "queue": "bench"},
}
TOPIC = {**BACK, "destination": {"kind": "sns", "topic": "arn:aws:sns:eu-west-1:123456789012:bench"}}
ROUTES: Mapping[Direction, dict[str, Any]] = {"in": INWARD, "back": BACK, "topic": TOPIC}


def bridge(work: Work, settings: dict[str, Any]) -> Result:
    """The real daemon. `settings` are laid over the route."""
    with prepared(work) as sqs, tempfile.TemporaryDirectory() as folder:
        port = free_port()
        route = {"name": "bench", **ROUTES[work.direction], **settings}
        document = {
            "nats": {"servers": [work.nats]},
            "aws": {"region": "eu-west-1", "endpoint_url": sqs.url},
            "http": {"port": port},
            "log": {"level": "warning"},
            "routes": [route],
        }
        path = Path(folder) / "bridge.yaml"
        path.write_text(json.dumps(document))
        return measured("bridge", work, sqs, ["bridge", "run", "-c", str(path)], port)


def floor(work: Work) -> Result:
    with prepared(work) as sqs:
        command = ["benchmarks.floor", "--sqs", sqs.url, "--nats", work.nats, "--direction", work.direction]
        return measured("floor", work, sqs, command)


def peer(work: Work, concurrency: int = 1) -> Result:
    with prepared(work) as sqs:
        command = ["benchmarks.peer", "--sqs", sqs.url, "--nats", work.nats, "--direction", work.direction]
        who = "mq-bridge" if concurrency == 1 else f"mq-bridge x{concurrency}"
        return measured(who, work, sqs, [*command, "--concurrency", str(concurrency)])


def peer_installed() -> bool:
    return importlib.util.find_spec("mq_bridge") is not None


@contextmanager
def prepared(work: Work) -> Iterator[Canned]:
    """A fresh stream and a fresh canned SQS; on the way back, the messages are in the stream, or come at the rate."""
    back = work.direction != "in"
    asyncio.run(_stream(work, fill=back and not work.rate))
    settings = {"size": work.size, "latency": work.latency, "failing": work.failing, "rate": work.rate}
    with canned(messages=0 if back else work.messages, **settings) as sqs:
        yield sqs


def measured(who: str, work: Work, sqs: Canned, command: list[str], port: int | None = None) -> Result:
    key = "deleted" if work.direction == "in" else "sent"
    process = subprocess.Popen([sys.executable, "-m", *command], env=ENVIRONMENT)
    warm: list[float] = []
    early: list[str] = []
    late: list[float] = []
    try:
        if work.direction != "in" and work.rate:
            wait(lambda: port is None or "route_up{" in get(f"http://127.0.0.1:{port}/metrics"), f"{who} is up")
            threading.Thread(target=lambda: asyncio.run(_feed(work)), daemon=True).start()
        wait(lambda: sqs.report()[key] >= min(work.messages, 1), f"{who} began")
        began, start, before = cpu_seconds(process.pid), memory(process.pid, "VmRSS"), sqs.report()[key]
        at = time.monotonic()

        def done() -> bool:
            count = sqs.report()[key]
            if not warm and count >= WARM:
                warm.append(memory(process.pid, "VmRSS"))
            if port and work.rate and not early and count >= work.messages / 10:
                early.append(get(f"http://127.0.0.1:{port}/metrics"))
            return bool(count >= work.messages)

        idle = Idle() if work.rate else None
        wait(done, f"{who} is done", progress=lambda: sqs.report()[key])
        used, took = cpu_seconds(process.pid) - began, time.monotonic() - at
        found = sqs.report()
        late = idle.late() if idle is not None else late
        metrics = get(f"http://127.0.0.1:{port}/metrics") if port else ""
        peak, end = memory(process.pid, "VmHWM"), memory(process.pid, "VmRSS")
    finally:
        if port:
            process.terminate()
            process.wait(60)
        process.kill()
        process.wait()
    if found["deleted_twice"] or found["missing"]:
        raise SystemExit(f"wrong: {who}: {found}")
    return Result(
        who,
        work.direction,
        work.latency,
        work.messages,
        work.rate,
        per_second=work.messages / found["seconds"],
        cpu_us=1e6 * used / max(1, work.messages - before),
        cores=used / took,
        rss_start=start,
        rss_warm=warm[0] if warm else None,
        rss_peak=peak,
        rss_end=end,
        calls_per_1000=1000 * sum(found["calls"].values()) / work.messages,
        publish_ms=quantiles(metrics, "publish_seconds", "".join(early)),
        transit_ms=quantiles(metrics, "transit_seconds", "".join(early)),
        out_ms=found["out_ms"],
        late_ms=late,
    )


BLOCK = b"NATS/1.0\r\neventType: paid\r\namount: 1200\r\nSqs-Type-amount: Number.int\r\n\r\n"


async def _stream(work: Work, *, fill: bool) -> None:
    """A fresh stream; with the messages in it if it is to be filled, and a consumer if it is to be read."""
    async with NatsConnection(NatsOptions((work.nats,))) as connection:
        if "BENCH" in ((await connection.api("STREAM.NAMES")).get("streams") or []):
            await connection.api("STREAM.DELETE.BENCH")
        settings = {"name": "BENCH", "subjects": ["bench.>"], "storage": "file", "duplicate_window": 120 * 10**9}
        await connection.api("STREAM.CREATE.BENCH", settings)
        at_once = max(10, min(1000, 8_000_000 // work.size))
        for start in range(0, work.messages if fill else 0, at_once):
            count = min(at_once, work.messages - start)
            assert None not in await connection.replies.ask([("bench.x", b"x" * work.size, BLOCK)] * count, 30)
        if work.direction != "in":
            body = {"durable_name": "back", "ack_policy": "explicit", "ack_wait": 60 * 10**9, "max_ack_pending": 5000}
            await connection.api("CONSUMER.CREATE.BENCH.back", {"stream_name": "BENCH", "config": body})


async def _feed(work: Work) -> None:
    """Publishes a burst at a time, at the rate."""
    async with NatsConnection(NatsOptions((work.nats,))) as connection, asyncio.TaskGroup() as group:
        began = time.monotonic()
        for start in range(0, work.messages, work.burst):
            if (ahead := began + start / work.rate - time.monotonic()) > 0.001:
                await asyncio.sleep(ahead)
            group.create_task(connection.replies.ask([("bench.x", b"x" * work.size, BLOCK)] * work.burst, 30))
