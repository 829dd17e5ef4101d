"""A process that only sleeps, 2 ms at a time, and tells how late it woke: p99, p99.9 and the longest, in milliseconds.

It runs beside a measurement of latencies. What it was late by is the machine's doing, and in every latency as well.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from typing import NoReturn

NAP = 0.002


def watch() -> None:
    late: list[float] = []

    def tell(*_: object) -> NoReturn:
        late.sort()
        print(json.dumps([1000 * late[int(share * (len(late) - 1))] for share in (0.99, 0.999, 1)] if late else []))
        sys.exit()

    signal.signal(signal.SIGTERM, tell)
    while True:
        began = time.monotonic()
        time.sleep(NAP)
        late.append(time.monotonic() - began - NAP)


if __name__ == "__main__":
    watch()
