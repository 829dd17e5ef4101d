"""FIFO messages through a cluster whose leaders change: three servers, three copies of the stream, two replicas of the
bridge, calls that fail; the leader of the stream or of its consumer steps down every second, and every ten the server
that leads is killed and started again. Every group must come out in order, nothing lost, nothing twice.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Self

from bridge.core.errors import BridgeError
from tests.clusters.cluster import Cluster
from tests.conftest import MinistackServer
from tests.system import process
from tests.system.ordered import into_jetstream, out_of_jetstream
from tests.system.world import Nats

os.environ.update(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test")
WAYS = {"in": into_jetstream, "out": out_of_jetstream}
SAFE = "n1"  # never killed, for the clients of this program know no other


class Leaderless:
    """Takes the leaders away, in a thread, until left. `kill_every` is in seconds; 0 kills none."""

    def __init__(self, cluster: Cluster, stream: str, *, every: float, kill_every: float) -> None:
        self.counts: Counter[str] = Counter()
        self._cluster = cluster
        self._nats = Nats(cluster.nodes[SAFE].url)
        self._stream = stream
        self._every = every
        self._kill_every = kill_every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        while not self._leader():
            time.sleep(0.2)
        print(f"  {self._stream}: {dict(self.counts)}", flush=True)

    def _run(self) -> None:
        calls = [f"STREAM.LEADER.STEPDOWN.{self._stream}", f"CONSUMER.LEADER.STEPDOWN.{self._stream}.bridge"]
        killed_at = time.monotonic()
        while not self._stop.wait(self._every):
            for call in calls if "out" in self._stream else calls[:1]:
                self._try("step-downs", call)
            if self._kill_every and time.monotonic() - killed_at > self._kill_every and self._kill():
                killed_at = time.monotonic()

    def _try(self, what: str, call: str) -> None:
        try:
            self._nats.api(call)
        except BridgeError:
            self.counts[f"{what} refused"] += 1  # there is no leader at this moment
        else:
            self.counts[what] += 1

    def _leader(self) -> str:
        """Of the stream; empty while it has none."""
        try:
            return str(self._nats.api(f"STREAM.INFO.{self._stream}")["cluster"].get("leader") or "")
        except BridgeError:
            return ""

    def _kill(self) -> bool:
        """Whether there was a leader that may be killed."""
        self._stop.wait(0.5)  # until there is one again
        leader = self._leader()
        if leader not in self._cluster.nodes or leader == SAFE:
            return False
        self._cluster.kill(leader)
        self.counts["servers killed"] += 1
        self._stop.wait(2.0)
        self._cluster.start(leader)
        return True


def run(options: argparse.Namespace) -> int:
    process.PATIENCE = 1800.0
    folder = Path(tempfile.mkdtemp(prefix="leaders-"))
    with Cluster(folder / "nats") as cluster, MinistackServer(folder / "aws") as aws:

        def unrest(_url: str, stream: str) -> Leaderless:
            return Leaderless(cluster, stream, every=options.every, kill_every=options.kill_every)

        for direction in [WAYS[each] for each in options.direction]:
            began = time.monotonic()
            given = {"messages": options.messages, "groups": options.groups, "kills": 0}
            place = folder / direction.__name__
            direction(place, aws, cluster.nodes[SAFE], **given, copies=3, unrest=unrest)
            took = time.monotonic() - began
            print(f"{direction.__name__}: GOOD, {options.messages:,} messages in {took:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--direction", choices=[*WAYS], nargs="*", default=[*WAYS])
    parser.add_argument("--groups", type=int, default=200)
    parser.add_argument("--every", type=float, default=1.0, help="seconds between step-downs")
    parser.add_argument("--kill-every", type=float, default=10.0, help="seconds between kills of the leading server")
    sys.exit(run(parser.parse_args()))
