"""What the benchmark measures processes with: the canned SQS as a process, CPU time, memory, the bridge's histogram.

May not: know who is measured.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TICKS = os.sysconf("SC_CLK_TCK")
PATIENCE = 120.0  # seconds without any progress


class Canned:
    """The canned SQS as a process."""

    def __init__(self, **settings: float) -> None:
        from bridge.embedded import free_port

        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        flags = [text for name, value in settings.items() for text in (f"--{name.replace('_', '-')}", str(value))]
        command = [sys.executable, "-m", "benchmarks.canned", "--port", str(self.port), *flags]
        self.process = subprocess.Popen(command)

    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(get(f"{self.url}/report"))
        return found


@contextmanager
def canned(**settings: float) -> Iterator[Canned]:
    sqs = Canned(**settings)
    try:
        wait(sqs.report, "the canned SQS answers")
        yield sqs
    finally:
        sqs.process.kill()
        sqs.process.wait()


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        text: str = answer.read().decode()
        return text


def wait(condition: Callable[[], object], what: str, *, progress: Callable[[], object] | None = None) -> None:
    """Until the condition holds. Gives up after PATIENCE without any change of `progress`."""
    deadline, seen = time.monotonic() + PATIENCE, None
    while True:
        try:
            if condition():
                return
            if progress is not None and (now := progress()) != seen:
                deadline, seen = time.monotonic() + PATIENCE, now
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise SystemExit(f"never: {what}")
        time.sleep(0.05)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory(pid: int, name: str) -> float:
    """MiB of `VmRSS` or `VmHWM`."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


class Idle:
    """benchmarks/idle.py, from here to `late`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen([sys.executable, "-m", "benchmarks.idle"], stdout=subprocess.PIPE)

    def late(self) -> list[float]:
        self._process.terminate()
        found: list[float] = json.loads(self._process.communicate(timeout=10)[0] or "[]")
        return found


def quantiles(metrics: str, name: str, before: str = "") -> list[float]:
    """p50, p99, p99.9 and the most of a histogram of the route, in milliseconds, interpolated in the bucket each falls
    into; the most is the upper edge of the last bucket. What the metrics had `before` does not count."""
    earlier = _buckets(before, name)
    buckets = [(le, count - earlier.get(le, 0.0)) for le, count in _buckets(metrics, name).items()]
    if not buckets or not buckets[-1][1]:
        return []
    return [_quantile(buckets, share) for share in (0.5, 0.99, 0.999, 1.0)]


def _quantile(buckets: list[tuple[float, float]], share: float) -> float:
    goal, under, low = share * buckets[-1][1], 0.0, 0.0
    for le, count in buckets:
        if count >= goal and le != float("inf"):
            return 1000 * (low + (le - low) * (goal - under) / max(1.0, count - under))
        if le != float("inf"):
            under, low = count, le
    return 1000 * low


def _buckets(metrics: str, name: str) -> dict[float, float]:
    pairs = re.findall(rf'{name}_bucket\{{le="([^"]+)",route="bench"\}} (\S+)', metrics)
    return {float(le): float(count) for le, count in pairs}


def end_in_order() -> None:
    """SIGTERM ends what was started, too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
