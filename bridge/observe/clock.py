"""Monotonic moments, and their conversion to wall-clock time.

Everything this process sees is measured on a clock that never goes back: with a wall clock that is set back an hour, a
message that has waited for half an hour would seem new. `wall` converts such a moment into seconds since the epoch for
people and JSON, by the wall clock as it is now; `moment` does the opposite to a timestamp of a server or a message.
May not: know what is measured.
"""

from __future__ import annotations

import time

STEP_SECONDS = 1.0  # a wall clock that moved by more than this was set; less is drift, and is ignored

_offset = time.time() - time.monotonic()


def now() -> float:
    """The current moment: seconds on a monotonic clock."""
    return time.monotonic()


def wall(moment: float) -> float:
    """A moment as seconds since the epoch."""
    return moment + _measured()


def moment(wall_seconds: float) -> float:
    """Seconds since the epoch as a moment."""
    return wall_seconds - _measured()


def _measured() -> float:
    global _offset
    measured = time.time() - time.monotonic()
    if abs(measured - _offset) > STEP_SECONDS:
        _offset = measured
    return _offset
