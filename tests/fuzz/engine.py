"""Runs cases until the time or their number is over, tells failures of one kind apart from another's, and makes one of
each small."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

from tests.fuzz.rules import Violation
from tests.fuzz.shrink import shrunk

CPU_SECONDS = 2.0  # of one case: whatever it holds, more is a hang
WAIT_SECONDS = 30.0  # for something that never comes
SHRINK_SECONDS = 6.0
LONGEST = 900  # characters of an example that are shown


class Kind(NamedTuple):
    """`make` gives a case made of plain values, `check` raises what is wrong with it; `weight` is its share of all, and
    `afresh` forgets what a failure may have left behind."""

    name: str
    make: Callable[[Random], Any]
    check: Callable[[Any], Awaitable[None]]
    weight: int = 1


class Hang(BaseException):
    """No Exception: nothing on the way may take it for an error of its own."""


@dataclass
class Failure:
    kind: str
    signature: str
    seed: int
    case: Any
    text: str
    count: int = 1


@dataclass
class Report:
    cases: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    failures: dict[tuple[str, str], Failure] = field(default_factory=dict)
    elapsed: float = 0.0

    @property
    def total(self) -> int:
        return sum(self.cases.values())

    def lines(self) -> Iterator[str]:
        pace = self.total / max(self.elapsed, 1e-9)
        yield f"{self.total:,} cases in {self.elapsed:.0f} s, {pace:,.0f} a second"
        for name, count in self.cases.items():
            found = sum(each.count for (kind, _), each in self.failures.items() if kind == name)
            spent = self.seconds[name]
            yield f"  {name:<16} {count:>10,} cases {count / max(spent, 1e-9):>9,.0f} a second {found:>9,} failed"
        for failure in sorted(self.failures.values(), key=lambda each: (each.kind, -each.count)):
            yield ""
            yield f"FAILED {failure.kind}: {failure.signature} ({failure.count:,} times)"
            yield f"  {failure.text}"
            yield f"  example: {_shown(failure.case)}"
            yield f"  repeat:  python -m tests.fuzz --only {failure.kind} --seed {failure.seed} --cases 1"
        if not self.failures:
            yield "nothing failed"


def _shown(case: Any) -> str:
    text = ascii(case)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text):,} characters)"


async def run(
    kinds: Sequence[Kind],
    *,
    seconds: float,
    seed: int,
    cases: int = 0,
    afresh: Callable[[], None],
    patience: float = SHRINK_SECONDS,
    cpu: float = CPU_SECONDS,
) -> Report:
    """At most so many seconds and, if it is not 0, cases; `cpu` seconds of the processor for one case.
    Case number N of a kind depends on `seed` + N alone."""
    report = Report({each.name: 0 for each in kinds}, {each.name: 0.0 for each in kinds})
    background: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: background.append(str(context)))
    order = [each for each in kinds for _ in range(each.weight)]
    Random(0).shuffle(order)
    began = time.monotonic()
    with _alarm():
        while time.monotonic() - began < seconds and not (cases and report.total >= cases):
            for kind in order:
                if cases and report.total >= cases:
                    break
                number = report.cases[kind.name]
                report.cases[kind.name] += 1
                at = time.perf_counter()
                case = kind.make(Random(f"{kind.name}:{seed + number}"))
                found = await _fails(kind, case, background, cpu)
                report.seconds[kind.name] += time.perf_counter() - at
                if found is not None:
                    afresh()
                    signature, text = found
                    known = report.failures.get((kind.name, signature))
                    if known is None:
                        report.failures[kind.name, signature] = Failure(kind.name, signature, seed + number, case, text)
                    else:
                        known.count += 1
            await asyncio.sleep(0)
        report.elapsed = time.monotonic() - began
        for failure in report.failures.values():
            kind = next(each for each in kinds if each.name == failure.kind)
            failure.case, failure.text = await _shrunk(kind, failure, background, afresh, patience, cpu)
    return report


async def _shrunk(
    kind: Kind, failure: Failure, background: list[str], afresh: Callable[[], None], patience: float, cpu: float
) -> tuple[Any, str]:
    until = time.monotonic() + patience
    texts = [failure.text]

    async def fails(case: Any) -> bool:
        if time.monotonic() > until:
            return False
        found = await _fails(kind, case, background, cpu)
        if found is not None:
            afresh()
        if found is None or found[0] != failure.signature:
            return False
        texts.append(found[1])
        return True

    case = await shrunk(failure.case, fails)
    return case, texts[-1]


async def _fails(kind: Kind, case: Any, background: list[str], cpu: float) -> tuple[str, str] | None:
    """What it failed of, and how it reads; None for one that passes."""
    signal.setitimer(signal.ITIMER_VIRTUAL, cpu)
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            await kind.check(case)
    except Violation as error:
        return f"rule: {error.rule}", str(error)
    except (Exception, Hang) as error:  # noqa: BLE001 - whatever it is, it is what we are here for
        return f"{type(error).__name__} at {_where(error)}", f"{type(error).__name__}: {ascii(str(error))[:300]}"
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    if background:
        text = background[0]
        background.clear()
        return "error in the background", text[:400]
    return None


def _where(error: BaseException) -> str:
    """The innermost place of ours it came through; of the tests' own where it never came to the product."""
    frames = traceback.extract_tb(error.__traceback__)
    root = os.path.sep + "bridge" + os.path.sep
    ours = [each for each in frames if root in each.filename] or frames
    last = ours[-1]
    name = last.filename.rpartition(root)[2] if root in last.filename else last.filename.rpartition(os.path.sep)[2]
    return f"{name}:{last.name}"


@contextmanager
def _alarm() -> Iterator[None]:
    """Raises Hang where a case takes too much of the processor: a quiet machine is not needed for that."""

    def ring(*_: Any) -> None:
        raise Hang("it takes too much of the processor")

    before = signal.signal(signal.SIGVTALRM, ring)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
