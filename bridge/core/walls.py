"""Walls: an unexpected error stays with the message that caused it, and never affects the others.

A leg promises to raise nothing but a BridgeError (core/route.py). Where one breaks that promise, the batch is
tried message by message. A message that fails repeatedly while others pass is guilty (rounds.py), and its failure is
its own; while none passes, no single message can be blamed, and all are held as in an outage.
May not: wait, log, or keep the text of an exception, which may quote what a message holds. Cancelling passes through.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import TypeVar

from bridge.core.errors import BridgeError, Unexpected
from bridge.core.models import Message, Out
from bridge.core.route import Delivery, Destination, Lane, Park, Receipt, Settlement, Source

T = TypeVar("T")

UNKNOWN_LANE = "?"  # of a message whose group cannot be determined: such messages keep their order among themselves
HERE = "core/walls.py"


class _Incomplete(Exception):
    """A leg answered for a different number of messages than it was asked about."""


def unexpected(error: BaseException) -> Unexpected:
    """The type of an exception (of the first one in a group) and where in our code it was raised. It is guilty where
    that code is pure: it sees only the message."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, Unexpected):
        return error
    frames = [(_within(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    ours = [(place, line) for place, line in frames if place and place != HERE]
    if not ours:
        return Unexpected(type(error).__name__.lstrip("_"), "a place outside of the bridge")
    place, line = ours[-1]
    return Unexpected(type(error).__name__.lstrip("_"), f"{place}:{line}", guilty=place.startswith("core/"))


def _within(filename: str) -> str:
    """The path of one of our modules inside the package, empty for any other."""
    _, package, path = filename.replace("\\", "/").rpartition("/bridge/")
    return path if package else ""


async def publish(destination: Destination, outs: Sequence[Out]) -> Sequence[Receipt | BridgeError]:
    """One answer each, in order. Raises nothing. A batch that fails unexpectedly is published again, message by
    message: what was stored by then is recognised by its id, where the destination does that."""
    try:
        return _complete(await destination.publish(outs), outs)
    except BridgeError as error:
        return [error] * len(outs)
    except Exception as error:  # noqa: BLE001 - the wall
        if len(outs) == 1:
            return [unexpected(error)]
    return [answer for out in outs for answer in await publish(destination, [out])]


def guilty(error: Unexpected) -> Unexpected:
    """The same, about this one message."""
    return Unexpected(error.kind, error.where, guilty=True)


def park(rule: Park, delivery: Delivery, reason: BridgeError) -> Out | Unexpected:
    """The message for the parking place, or why none can be made."""
    try:
        return rule(delivery, reason)
    except Exception as error:  # noqa: BLE001 - the wall
        return unexpected(error)


def lane_of(message: Message, rule: Lane | None) -> str | None:
    """The lane of a message that could not be mapped; None where the route keeps no order."""
    if rule is None:
        return None
    try:
        return rule(message)
    except Exception:  # noqa: BLE001 - the wall
        return UNKNOWN_LANE


async def settle(source: Source, settled: Sequence[Settlement]) -> Sequence[BridgeError | None]:
    """One answer each, in order. Raises nothing. What cannot be settled is released, so that the source no longer
    counts it as in flight; else it would mistake a redelivery for a message we still hold."""
    try:
        return _complete(await source.settle(settled), settled)
    except BridgeError as error:
        return [error] * len(settled)
    except Exception as error:  # noqa: BLE001 - the wall
        if len(settled) == 1:
            await release(source, [settled[0].delivery])
            return [unexpected(error)]
    return [answer for each in settled for answer in await settle(source, [each])]


async def release(source: Source, deliveries: Sequence[Delivery]) -> Unexpected | None:
    """Raises nothing: what cannot be given back comes back when its lease expires."""
    try:
        with suppress(BridgeError):
            await source.release(deliveries)
    except Exception as error:  # noqa: BLE001 - the wall
        return unexpected(error)
    return None


def _complete(answers: Sequence[T], asked: Sequence[object]) -> Sequence[T]:
    if len(answers) != len(asked):
        raise _Incomplete
    return answers
