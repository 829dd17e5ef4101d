"""`make fuzz`: `python -m tests.fuzz --seconds 60 --seed 1 [--cases N] [--only KIND]`. Exits 1 if anything failed."""

from __future__ import annotations

import argparse
import asyncio
import sys

from tests.fuzz.engine import Report, run
from tests.fuzz.kinds import KINDS, afresh


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to look (60)")
    parser.add_argument("--seed", type=int, default=1, help="where to begin (1)")
    parser.add_argument("--cases", type=int, default=0, help="at most so many (0: as many as there is time for)")
    parser.add_argument("--only", action="append", choices=[each.name for each in KINDS], help="one kind; may repeat")
    asked = parser.parse_args()
    kinds = [each for each in KINDS if not asked.only or each.name in asked.only]

    async def scene() -> Report:
        return await run(kinds, seconds=asked.seconds, seed=asked.seed, cases=asked.cases, afresh=afresh)

    report = asyncio.run(scene())
    print(f"seed {asked.seed}")
    for line in report.lines():
        print(line)
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
