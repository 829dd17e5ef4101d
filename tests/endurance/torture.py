"""`make torture`: 500 hostile messages among 5,000 good ones, each way, standard and FIFO, through one daemon; and what
a route beside them takes from sent to stored, with hostile messages and without, in turn, in one run.

Exits 1, with what was wrong, unless every good message came out once and in order, and every hostile one is accounted
for.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from bridge.embedded import NatsServer
from tests.conftest import MinistackServer
from tests.system import process
from tests.system.torture import ROUTES, Torture

os.environ.update(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", AWS_EC2_METADATA_DISABLED="true")


def run(good: int, hostile: int, seed: int, rounds: int) -> int:
    process.PATIENCE = max(60.0, (good + hostile) / 6)
    console = Console(width=140)
    table = Table("run", "seconds", *(f"{route}: carried / parked" for route in ROUTES), "beside p50", "p99", "longest")
    folder = Path(tempfile.mkdtemp(prefix="torture-"))
    failed = 0
    slowest: dict[str, list[float]] = {}
    runs = [(name, count, n) for n in range(rounds) for name, count in (("good alone", 0), ("among hostile", hostile))]
    with NatsServer(folder / "nats") as nats, MinistackServer(folder / "aws") as aws:
        for name, count, n in runs:
            (place := folder / f"{name.replace(' ', '-')}-{n}").mkdir()
            try:
                result = Torture(place, aws, nats, seed=seed + n).run(good=good + hostile - count, hostile=count)
            except AssertionError as error:
                console.print(f"{name}: {error}", markup=False)
                failed = 1
                continue
            slowest.setdefault(name, []).append(1000 * result.percentile(0.99))
            counts = [f"{result.counts[r].get('carried', 0):,} / {result.counts[r].get('parked', 0):,}" for r in ROUTES]
            waits = [f"{1000 * result.percentile(share):,.0f} ms" for share in (0.5, 0.99, 1.0)]
            table.add_row(name, f"{result.seconds:.1f}", *counts, *waits)
    console.print(table)
    for name, found in slowest.items():
        console.print(f"p99 beside, {name}: {median(found):,.0f} ms ({min(found):,.0f} to {max(found):,.0f})")
    console.print("WRONG" if failed else "every good message once, in order; every hostile one accounted for")
    return failed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--good", type=int, default=5_000)
    parser.add_argument("--hostile", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1, help="each way in turn; one round says little of a percentile")
    options = parser.parse_args()
    sys.exit(run(options.good, options.hostile, options.seed, options.rounds))
