"""When a source counts as empty: several reads in a row show zero, over a span, and nothing was received in between.

SQS counts are approximate and settle only a minute after the last send, so one zero proves nothing. What JetStream's
leader reports is exact; several reads there only show that no publisher is in the middle of sending.

May not: read a clock or ask a source; every reading is passed in.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from bridge.core.route import Backlog

SQS_SETTLES_SECONDS = 60.0  # after the last send, until its counts can be trusted
READS = 5  # in a row, however short the span


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading of a source. `at` is monotonic, in seconds; `backlog` is None when it could not be read; `received`
    counts every delivery received so far, `in_flight` those not settled yet."""

    at: float
    backlog: Backlog | None
    received: int = 0
    in_flight: int = 0

    @property
    def is_zero(self) -> bool:
        """Whether the source reports no messages, and we hold none of its messages. Unknown is not zero."""
        backlog = self.backlog
        return backlog is not None and not (backlog.pending or backlog.in_flight or backlog.delayed or self.in_flight)


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What else the route knows: messages that block their groups, and those parked since the drain began."""

    blocked: int = 0
    parked: int = 0


@dataclass(frozen=True, slots=True)
class Emptiness:
    """A proof in the making. `reads` zeros in a row since `empty_since`; `read` returns the proof one reading later."""

    needed_seconds: float
    needed_reads: int = READS
    reads: int = 0
    empty_since: float | None = None
    last: Reading | None = None
    sending: bool = False

    def read(self, reading: Reading) -> Emptiness:
        last = self.last
        received = last is not None and reading.received != last.received
        if not reading.is_zero:
            return replace(self, reads=0, empty_since=None, last=reading, sending=received)
        if self.empty_since is None or received or (last is not None and reading.at < last.at):
            return replace(self, reads=1, empty_since=reading.at, last=reading, sending=received)
        return replace(self, reads=self.reads + 1, last=reading, sending=False)

    @property
    def empty_for(self) -> float:
        """Seconds from the first to the newest zero in a row."""
        return 0.0 if self.empty_since is None or self.last is None else self.last.at - self.empty_since

    @property
    def proven(self) -> bool:
        return self.reads >= self.needed_reads and self.empty_for >= self.needed_seconds

    def message(self, around: Circumstances) -> str:
        """How far it is, and what is in the way, as one sentence."""
        parts = [self._progress()]
        if around.blocked:
            parts.append(f"{around.blocked} of them cannot be carried and block their groups (see blocked)")
        if around.parked:
            parts.append(f"{around.parked} parked since the drain began")
        return "; ".join(parts)

    def _progress(self) -> str:
        if self.last is None:
            return "not read yet"
        backlog = self.last.backlog
        if backlog is None:
            return "unknown: the source does not answer; counting of empty reads starts again"
        if not self.last.is_zero:
            return _waiting(backlog, self.last.in_flight, sending=self.sending)
        if self.proven:
            return f"empty for {self.empty_for:.0f} s in {self.reads} reads"
        arrived = "a message arrived in between; " if self.sending else ""
        return f"{arrived}empty for {self.empty_for:.0f} s of {self.needed_seconds:g} s (reads in a row: {self.reads})"


def _waiting(backlog: Backlog, in_flight: int, *, sending: bool) -> str:
    counts = [f"{backlog.pending} visible", f"{backlog.in_flight} in flight"]
    if backlog.delayed:
        counts.append(f"{backlog.delayed} delayed")
    text = f"not empty: {', '.join(counts)}"
    if sending:
        text += "; messages still arrive"
    if backlog.in_flight > in_flight:
        text += f"; {backlog.in_flight - in_flight} in flight are held by another reader or by an unexpired lease"
    return text
