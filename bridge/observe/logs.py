"""Logs: JSON or console on stderr, and how often the same trouble is told. May not: know a route or a metric."""

from __future__ import annotations

import logging
import sys
import time
import traceback
from typing import Any

import structlog

REPEAT_SECONDS = 10.0  # the same trouble of a route is logged once in this time; the metrics count every one


def configure_logs(format: str, level: str) -> None:  # noqa: A002 - the key's name in the configuration
    """`format` is json, console or auto (console on a terminal). Logs go to stderr."""
    console = format == "console" or (format == "auto" and sys.stderr.isatty())
    number = logging.getLevelNamesMapping()[level.upper()]
    render: Any = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()) if console else structlog.processors.JSONRenderer()
    )
    common: list[Any] = [
        _without_text,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # Libraries speak through logging: in the same format, and only when something is wrong.
    theirs = logging.StreamHandler(sys.stderr)
    theirs.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *common],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[theirs], force=True)
    structlog.configure(
        processors=[*common, render],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def _without_text(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
    """An exception by its type and frames. Its text, and the local variables that the console format would print, may
    hold what a message holds."""
    found = event.pop("exc_info", None)
    error = found[1] if isinstance(found, tuple) else found if isinstance(found, BaseException) else sys.exc_info()[1]
    if found and error is not None:
        frames = traceback.extract_tb(error.__traceback__)
        event["error"] = type(error).__name__
        event["frames"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    return event


class Repeats:
    """Which troubles were logged lately."""

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
