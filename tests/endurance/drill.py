"""`make drill`: stops the new consumer, the old one, the nats-server and the AWS side in turn, and measures how long
the page, `status`, the metrics and a real Prometheus with our rules take to tell of it, and to tell that all is well.

Needs Debian's `prometheus`. AWS is moto in memory: what comes back after a kill has its queues made anew.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bridge.embedded import MotoServer, NatsServer
from tests.system.monitoring import PrometheusServer
from tests.system.process import Bridge, until
from tests.system.sides import Sides
from tests.system.world import Aws, Nats

ALLOWED = 15.0  # seconds
LONGEST = 90.0
SURFACES = ("page", "status", "metrics", "alert")


@dataclass
class Watch:
    """What each surface says of one place, or of the route itself."""

    bridge: Bridge
    prometheus: PrometheusServer
    side: str
    alert: str
    verdict: str = "STALLED"
    number: int = 2
    found: dict[str, float] = field(default_factory=dict)

    def tells(self, surface: str) -> bool:
        match surface:
            case "page":
                text = self.bridge.get("/")[1]
                return self.verdict in text and (self.side != "bridge" or "NATS" in text or "sqs" in text)
            case "status":
                return any(
                    each["verdict"] == self.verdict for each in self._status()["places"] if each["side"] == self.side
                )
            case "metrics":
                lines = self.bridge.get("/metrics")[1].splitlines()
                return any(
                    line.startswith("nats_sqs_bridge_verdict{")
                    and f'side="{self.side}"' in line
                    and line.endswith(f" {self.number}.0")
                    for line in lines
                )
            case _:
                return self.alert in self.prometheus.firing()

    def _status(self) -> dict[str, Any]:
        command = [sys.executable, "-m", "bridge", "status", "--json", "--config", str(self.bridge.config)]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        document: dict[str, Any] = json.loads(answer.stdout)
        found: dict[str, Any] = document["routes"]["in"]
        return found


def seconds(condition: Callable[[str], bool]) -> dict[str, float]:
    """How long each surface took until the condition held for it."""
    began, found = time.monotonic(), dict[str, float]()
    while len(found) < len(SURFACES) and time.monotonic() - began < LONGEST:
        for surface in SURFACES:
            if surface not in found and condition(surface):
                found[surface] = time.monotonic() - began
        time.sleep(0.1)
    return found


def main() -> int:
    os.environ.update(AWS_ACCESS_KEY_ID="drill", AWS_SECRET_ACCESS_KEY="drill", AWS_EC2_METADATA_DISABLED="true")
    table = Table("stopped", *(f"{each}" for each in SURFACES), *(f"{each}, well again" for each in SURFACES))
    late = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        with NatsServer(folder / "nats") as server, MotoServer(folder / "moto") as moto:
            aws, nats = Aws(moto.url), Nats(server.url)

            def queues() -> None:
                for queue in ("bridge", "legacy"):
                    aws.queue(queue)

            queues()
            nats.stream("S", "s.>")
            nats.consumer("S", "new")
            route = {
                "name": "in",
                "source": {"kind": "sqs", "queue": "bridge"},
                "destination": {"kind": "jetstream", "subject": "s.in"},
                "watch": [{"kind": "sqs", "queue": "legacy"}, {"kind": "jetstream", "stream": "S"}],
            }

            def back() -> None:
                moto.start()
                queues()

            sides = Sides(moto.url, server.url, queue="bridge", legacy="legacy", stream="S", consumer="new")
            with (
                Bridge(folder, [route], nats=nats.url, aws=aws.url) as bridge,
                PrometheusServer(folder / "prometheus", f"127.0.0.1:{bridge.port}") as prometheus,
                sides,
            ):
                until(lambda: bridge.count("in", "carried") > 50, "carrying")
                scenes: list[tuple[str, Callable[[], None], Callable[[], None], str, str]] = [
                    ("new consumer", sides.new.stop, sides.new.start, "new", "NatsSqsBridgeNewConsumerStalled"),
                    ("old consumer", sides.old.stop, sides.old.start, "legacy", "NatsSqsBridgeLegacyConsumerStalled"),
                    ("nats-server", server.kill, lambda: (server.start(), None)[1], "bridge", "NatsSqsBridgeStalled"),
                    ("AWS", moto.kill, back, "bridge", "NatsSqsBridgeStalled"),
                ]
                for name, stop, start, side, alert in scenes:
                    watch = Watch(bridge, prometheus, side, alert)
                    until(lambda watch=watch: not any(map(watch.tells, SURFACES)), "all is well")  # type: ignore[misc]
                    stop()
                    told = seconds(watch.tells)
                    start()
                    well = seconds(lambda surface, watch=watch: not watch.tells(surface))  # type: ignore[misc]
                    cells = [f"{found.get(each, float('inf')):.1f} s" for found in (told, well) for each in SURFACES]
                    table.add_row(name, *cells)
                    late += [f"{name}: {each}" for each in SURFACES if told.get(each, LONGEST) > ALLOWED]
    console = Console(width=140)
    console.print(table)
    console.print(f"told within {ALLOWED:g} s" if not late else f"later than {ALLOWED:g} s: {', '.join(late)}")
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())
