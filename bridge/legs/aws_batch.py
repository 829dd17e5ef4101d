"""Batches of ten as SQS and SNS take them: cut by count and bytes, answered entry by entry.

A batch answers 200 with failures inside. Source: SQS API reference, SendMessageBatch; SNS API reference, PublishBatch.
May not: retry. Each entry gets one answer, and whoever asked decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from bridge.core.errors import BridgeError, Failed, Refused
from bridge.legs.aws_errors import coded_error

ENTRIES = 10
BYTES = 1_048_576
AT_ONCE = 20  # batches in the air for one call of ours

Answer = Mapping[str, Any] | BridgeError
Send = Callable[[list[dict[str, Any]]], Awaitable[Mapping[str, Any]]]
"""One batch call: takes the entries, gives the response, raises a BridgeError."""


class Entry(NamedTuple):
    """One entry without its Id. `group` is set where order within a group must hold."""

    body: Mapping[str, Any]
    size: int = 0
    group: str | None = None


async def send(entries: Sequence[Entry], call: Send, *, limit: int = BYTES, at_once: int = AT_ONCE) -> list[Answer]:
    """One answer each, in order: what AWS said of it, or the error. `limit` is in bytes for a whole batch."""
    if len(entries) <= ENTRIES and _fit_together(entries, limit):
        return await _one(call, entries) if entries else []
    answers: list[Answer] = [Failed("not sent")] * len(entries)
    room = asyncio.Semaphore(at_once)

    async def carry(places: list[int]) -> None:
        async with room:
            for place, answer in zip(places, await _one(call, [entries[place] for place in places]), strict=True):
                answers[place] = answer

    for wave in _waves(entries):
        sendable = []
        for place, before in wave:
            if before is not None and isinstance(answers[before], BridgeError):
                # Sent all the same, it would stand before the one that failed.
                answers[place] = Failed("an earlier message of its group failed")
            else:
                sendable.append(place)
        async with asyncio.TaskGroup() as group:
            for places in _cut(sendable, entries, limit):
                group.create_task(carry(places))
    return answers


def _fit_together(entries: Sequence[Entry], limit: int) -> bool:
    """Whether one batch takes them: by size, and with one entry of a group at most."""
    groups = [entry.group for entry in entries if entry.group is not None]
    return len(set(groups)) == len(groups) and sum([entry.size for entry in entries]) <= limit


def _waves(entries: Sequence[Entry]) -> Iterator[list[tuple[int, int | None]]]:
    """Waves of (place, place of the one before it in its group): one entry of a group in each wave."""
    waves: list[list[tuple[int, int | None]]] = []
    last: dict[str, tuple[int, int]] = {}
    for place, entry in enumerate(entries):
        wave, before = 0, None
        if entry.group is not None:
            if entry.group in last:
                wave, before = last[entry.group][0] + 1, last[entry.group][1]
            last[entry.group] = (wave, place)
        if wave == len(waves):
            waves.append([])
        waves[wave].append((place, before))
    yield from waves


def _cut(places: Sequence[int], entries: Sequence[Entry], limit: int) -> Iterator[list[int]]:
    batch: list[int] = []
    size = 0
    for place in places:
        if batch and (len(batch) == ENTRIES or size + entries[place].size > limit):
            yield batch
            batch, size = [], 0
        batch.append(place)
        size += entries[place].size
    if batch:
        yield batch


async def _one(call: Send, entries: Sequence[Entry]) -> list[Answer]:
    # Ids are positions: message ids can repeat within a batch, and SQS then refuses all of it.
    try:
        response = await call([{"Id": str(at), **entry.body} for at, entry in enumerate(entries)])
    except Refused as error:
        if len(entries) == 1:
            return [error]
        # One entry spoils the call (some implementations check the whole batch first): find it by sending each alone.
        return [answer for entry in entries for answer in await _one(call, [entry])]
    except BridgeError as error:
        return [error] * len(entries)
    answers: list[Answer] = [Failed("AWS said nothing about this entry")] * len(entries)
    for each in response.get("Successful") or ():
        answers[int(each["Id"])] = each
    for each in response.get("Failed") or ():
        answers[int(each["Id"])] = _entry_error(each)
    return answers


def _entry_error(failed: Mapping[str, Any]) -> BridgeError:
    code = str(failed.get("Code", ""))
    text = f"{code}: {failed.get('Message') or 'no reason given'}"
    error = coded_error((code,), text)
    return Refused(text) if type(error) is Failed and failed.get("SenderFault") else error
