"""Logs: JSON or console on stderr, and how often the same event is logged. May not: know a route or a metric."""

from __future__ import annotations

import logging
import sys
import time
import traceback
from collections.abc import MutableMapping
from typing import Any

import structlog

from bridge.core.plain import plain, plain_document

REPEAT_SECONDS = 10.0  # the same trouble of a route is logged once in this time; the metrics count every one
BURST = 50  # lines of an event that may come with every message or call; after them one a second
CHANGES = (20, 10.0)  # of a state that may change every second


def configure_logs(format: str, level: str) -> None:  # noqa: A002 - the key's name in the configuration
    """`format` is json, console or auto (console on a terminal). Logs go to stderr."""
    console = format == "console" or (format == "auto" and sys.stderr.isatty())
    number = logging.getLevelNamesMapping()[level.upper()]
    # JSON escapes by itself; on a console, text from outside could contain terminal control sequences.
    render: list[Any] = (
        [
            _plainly,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ]
        if console
        else [structlog.processors.JSONRenderer()]
    )
    common: list[Any] = [
        _without_text,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # Libraries log through `logging`: in the same format, and only warnings and errors.
    theirs = logging.StreamHandler(sys.stderr)
    theirs.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *common],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[theirs], force=True)
    structlog.configure(
        processors=[*common, *render],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


CREDENTIALS = ("botocore.credentials", "botocore.utils", "aiobotocore.credentials", "aiobotocore.utils")
"""Loggers of code that gets credentials and never sees a message: an operator needs the text of their errors."""


def _without_text(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """An exception by its type and frames. Its text, and the local variables that the console format would print, may
    hold what a message holds."""
    found = event.pop("exc_info", None)
    error = found[1] if isinstance(found, tuple) else found if isinstance(found, BaseException) else sys.exc_info()[1]
    if found and error is not None:
        frames = traceback.extract_tb(error.__traceback__)
        event["error"] = type(error).__name__
        if str(event.get("logger", "")).startswith(CREDENTIALS):
            event["error"] += f": {(str(error).splitlines() or [''])[0]}"
        event["frames"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    return event


def _plainly(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Every value as a person may read it."""
    for key, value in event.items():
        if not isinstance(value, bool | int | float | None):
            event[key] = plain_document(value) if isinstance(value, str | list | tuple | dict) else plain(str(value))
    return event


class Repeats:
    """Which events were logged recently."""

    def __init__(self) -> None:
        self._logged: dict[str, float] = {}

    def first(self, key: str) -> bool:
        """Whether `key` was not logged within REPEAT_SECONDS."""
        now = time.monotonic()
        if now - self._logged.get(key, -REPEAT_SECONDS) < REPEAT_SECONDS:
            return False
        if len(self._logged) > 1000:
            self._logged.clear()
        self._logged[key] = now
        return True


class Quota:
    """How many lines of one event there may be: `burst` at once, and one in `every` seconds from then on."""

    def __init__(self, burst: float = BURST, every: float = 1.0) -> None:
        self._burst = burst
        self._every = every
        self._left: dict[str, float] = {}
        self._at: dict[str, float] = {}
        self._unlogged: dict[str, int] = {}

    def unlogged(self, event: str) -> dict[str, int] | None:
        """None when this one is not to be logged; else the fact to log with it: how many before it were not."""
        now = time.monotonic()
        left = self._left.get(event, self._burst) + (now - self._at.get(event, now)) / self._every
        left = min(self._burst, left)
        self._at[event] = now
        if left < 1:
            self._left[event] = left
            self._unlogged[event] = self._unlogged.get(event, 0) + 1
            return None
        self._left[event] = left - 1
        count = self._unlogged.pop(event, 0)
        return {"unlogged": count} if count else {}
