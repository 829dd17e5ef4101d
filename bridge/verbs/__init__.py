"""One file per command. A verb combines other packages and prints; it decides nothing."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop where it exists, for the SQS and NATS sockets."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def collect_rarely() -> None:
    """Makes the cyclic garbage collector run less often, and never over what was imported. Messages leave no cycles
    behind, and at its default pace it takes a quarter of the CPU searching for them (docs/performance.md)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
