"""Numbers and moments as people read them. Unknown is a word, never a zero and never a blank.

May not: read a clock, or know HTML.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from bridge.core.lag import spelled

UNKNOWN = "unknown"
NOTHING = "nothing waits"
NOT_WATCHED = "not watched"
STEADY = "steady"
MINUS = "\N{MINUS SIGN}"
SIDES = {"bridge": "bridge", "legacy": "legacy", "new": "new", "dead_letter": "dead letters"}
"""Who reads there, in a word."""

OUTCOMES = {
    "retried": "attempts retried",
    "parked": "parked since the start",
    "heartbeat": "heartbeats",
    "heartbeat_failed": "heartbeats failed",
}
"""Outcomes whose name is not clear enough. Each number counts events since the start, not what there is now."""


EXPLAINED = {
    "retried": "Failed attempts that are retried; the message may have been carried since.",
    "parked": "To list what is parked now: nats-sqs-bridge parked list.",
    "heartbeat": "They prove that a route works: its own, and those of neighbouring routes that end here too.",
}


def outcome(name: str) -> str:
    return OUTCOMES.get(name, name.replace("_", " "))


def count(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value:,}"


def counted(value: int, noun: str) -> str:
    """`1 group`, `2 groups`."""
    return f"{value:,} {noun}{'' if value == 1 else 's'}"


def compact(value: float) -> str:
    """For an axis: 950, 1.2k, 35k, 4M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def waiting(place: Mapping[str, Any]) -> int | None:
    """Messages that wait or are in flight, both from the same sample."""
    pending, in_flight = place.get("pending"), place.get("in_flight")
    return None if pending is None or in_flight is None else int(pending) + int(in_flight)


def age(place: Mapping[str, Any]) -> str:
    """Of the oldest message."""
    seconds = place.get("lag_seconds")
    if seconds is None:
        return UNKNOWN
    if not seconds or waiting(place) == 0:  # the count is newer than the age
        return "0 s"
    return ("at most " if place.get("lag_is_bound") else "") + spelled(seconds)


def lag(place: Mapping[str, Any]) -> str:
    """Messages and age in one."""
    messages = waiting(place)
    if messages is None:
        return UNKNOWN
    old = age(place)
    return f"{messages:,}, {'age unknown' if old == UNKNOWN else old}" if messages else NOTHING


def rate(value: float | None) -> str:
    return UNKNOWN if value is None else f"{_pace(value)}/s"


def pace(of: Mapping[str, Any]) -> str:
    """Of a place or a route. Where nothing is finished any more, the last minute's pace is not shown."""
    value = of.get("pace_per_second")
    return "none" if of["verdict"] == "STALLED" and value is not None else rate(value)


def trend(place: Mapping[str, Any]) -> str:
    """How fast the backlog grows or shrinks. Where nothing is finished any more, a shrinking one is out of date."""
    value = place.get("growth_per_second")
    return "none" if place["verdict"] == "STALLED" and value is not None and value < 0 else growth(value)


def growth(value: float | None) -> str:
    if value is None:
        return UNKNOWN
    if abs(value) < 0.05:
        return STEADY
    return f"{'+' if value > 0 else MINUS}{_pace(abs(value))}/s"


def drained(place: Mapping[str, Any]) -> str:
    """When the backlog will be empty, at this pace."""
    seconds, messages, grows = place.get("empty_in_seconds"), waiting(place), place.get("growth_per_second")
    if messages == 0:
        return "empty"
    if place["verdict"] == "STALLED":
        return "not while STALLED"
    if seconds is not None and (place["verdict"] != "OK" or growth(grows) != STEADY):
        return f"in {spelled(seconds)}"
    if messages is None or grows is None:
        return UNKNOWN
    if place["verdict"] == "OK" and place.get("pace_per_second") is None:
        return UNKNOWN
    return "keeps up" if place["verdict"] == "OK" else "not at this pace"


def headroom(place: Mapping[str, Any]) -> str:
    """How long until the oldest message is lost to retention."""
    seconds = place.get("retention_headroom_seconds")
    if seconds is not None:
        return spelled(seconds) if seconds > 0 else "none: it is lost"
    return "no limit" if place.get("retention_unlimited") else UNKNOWN


def clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S UTC")


def hour(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M UTC")


def moment(at: float) -> str:
    """For machines."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def ago(at: float, now: float) -> str:
    return f"{spelled(max(0.0, now - at))} ago" if now - at >= 1 else "now"


def _pace(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"
