"""`make torture`: 500 hostile messages among 5,000 good ones, each way, standard and FIFO, through one daemon; and what
a route beside them takes from sent to stored, with hostile messages and without, in one run.

Exits 1, with what was wrong, unless every good message came out once and in order, and every hostile one is accounted
for.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bridge.embedded import NatsServer
from tests.conftest import MinistackServer
from tests.system import process
from tests.system.torture import ROUTES, Torture

os.environ.update(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", AWS_EC2_METADATA_DISABLED="true")


def run(good: int, hostile: int, seed: int) -> int:
    process.PATIENCE = max(60.0, (good + hostile) / 6)
    console = Console(width=140)
    table = Table("run", "seconds", *(f"{route}: carried / parked" for route in ROUTES), "beside p50", "p99", "longest")
    folder = Path(tempfile.mkdtemp(prefix="torture-"))
    failed = 0
    with NatsServer(folder / "nats") as nats, MinistackServer(folder / "aws") as aws:
        for name, count in (("good alone", 0), ("among hostile", hostile)):
            (place := folder / name.replace(" ", "-")).mkdir()
            try:
                result = Torture(place, aws, nats, seed=seed).run(good=good + hostile - count, hostile=count)
            except AssertionError as error:
                console.print(f"{name}: {error}", markup=False)
                failed = 1
                continue
            counts = [f"{result.counts[r].get('carried', 0):,} / {result.counts[r].get('parked', 0):,}" for r in ROUTES]
            waits = [f"{1000 * result.percentile(share):,.0f} ms" for share in (0.5, 0.99, 1.0)]
            table.add_row(name, f"{result.seconds:.1f}", *counts, *waits)
    console.print(table)
    console.print("WRONG" if failed else "every good message once, in order; every hostile one accounted for")
    return failed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--good", type=int, default=5_000)
    parser.add_argument("--hostile", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    sys.exit(run(options.good, options.hostile, options.seed))
