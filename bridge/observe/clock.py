"""Moments of our own, and how a wall clock spells them.

Everything this process sees is measured on a clock that never goes back: a wall clock that is set an hour back would
make what has waited for half an hour look as if it came just now. `wall` turns such a moment into seconds since the
epoch for people and JSON, as the wall clock is now; `moment` does the opposite to a timestamp of a server or a message.
May not: know what is measured.
"""

from __future__ import annotations

import time

STEP_SECONDS = 1.0  # a wall clock that moved by more than this was set; less is drift, and moments keep their spelling

_offset = time.time() - time.monotonic()


def now() -> float:
    """The moment it is: seconds on a clock that only runs on."""
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
