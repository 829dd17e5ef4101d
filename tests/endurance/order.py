"""10,000 FIFO messages in 200 groups, each way: two replicas, two calls of a hundred failing, three SIGKILLs. Every
group must come out in order, nothing lost, nothing twice.

Too long for every commit, so it is run by hand before a release (`make endurance`).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from bridge.embedded import NatsServer
from tests.conftest import MinistackServer
from tests.system import process
from tests.system.ordered import into_jetstream, out_of_jetstream

os.environ.update(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test")


def run(messages: int, groups: int, kills: int) -> int:
    process.PATIENCE = 900.0
    folder = Path(tempfile.mkdtemp(prefix="order-"))
    with NatsServer(folder / "nats") as nats, MinistackServer(folder / "aws") as aws:
        for direction in (into_jetstream, out_of_jetstream):
            began = time.monotonic()
            direction(folder / direction.__name__, aws, nats, messages=messages, groups=groups, kills=kills)
            print(f"{direction.__name__}: GOOD, {time.monotonic() - began:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--groups", type=int, default=200)
    parser.add_argument("--kills", type=int, default=3)
    options = parser.parse_args()
    sys.exit(run(options.messages, options.groups, options.kills))
