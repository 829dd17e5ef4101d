"""Batches of ten as SQS and SNS take them: cut by count and bytes, answered entry by entry.

A batch answers 200 with failures inside. Source: SQS API reference, SendMessageBatch; SNS API reference, PublishBatch.
May not: retry. Each entry gets one answer, and the caller decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from bridge.core.errors import BridgeError, Failed, Refused
from bridge.legs.aws_errors import coded_error, unreadable
from bridge.legs.aws_shapes import listed, record, text

ENTRIES = 10
BYTES = 1_048_576
AT_ONCE = 20  # batches in flight for one call of ours
PLACES = {str(at): at for at in range(ENTRIES)}
"""Ids as we write them. int() would accept -1, which is the last entry, and more."""

Answer = Mapping[str, Any] | BridgeError
Send = Callable[[list[dict[str, Any]]], Awaitable[Mapping[str, Any]]]
"""One batch call: takes the entries, gives the response, raises a BridgeError."""


class Entry(NamedTuple):
    """One entry without its Id. `group` is set where order within a group must hold."""

    body: Mapping[str, Any]
    size: int = 0
    group: str | None = None


async def send(
    entries: Sequence[Entry],
    call: Send,
    *,
    limit: int = BYTES,
    at_once: int = AT_ONCE,
    named: bool = False,
    key: str = "",
) -> list[Answer]:
    """One answer each, in order: AWS's result for it, or the error. `limit` is in bytes for a whole batch; `named`: a
    success has a MessageId; `key` is the KMS key of the queue or topic."""
    if len(entries) <= ENTRIES and _fit_together(entries, limit):
        return await _one(call, entries, named, key) if entries else []
    answers: list[Answer] = [Failed("not sent")] * len(entries)
    room = asyncio.Semaphore(at_once)

    async def carry(places: list[int]) -> None:
        async with room:
            found = await _one(call, [entries[place] for place in places], named, key)
            for place, answer in zip(places, found, strict=True):
                answers[place] = answer

    for wave in _waves(entries):
        sendable = []
        for place, before in wave:
            if before is not None and isinstance(answers[before], BridgeError):
                # Sent anyway, it would overtake the one that failed.
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
    """Waves of (place, place of the one before it in its group): at most one entry of a group in each wave."""
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


async def _one(call: Send, entries: Sequence[Entry], named: bool, key: str) -> list[Answer]:
    # Ids are positions: message ids can repeat within a batch, and SQS then refuses all of it.
    try:
        response = await call([{"Id": str(at), **entry.body} for at, entry in enumerate(entries)])
    except Refused as error:
        if len(entries) == 1:
            return [error]
        # One entry makes the whole call fail (some implementations check the batch first): send each alone to find it.
        return [answer for entry in entries for answer in await _one(call, [entry], named, key)]
    except BridgeError as error:
        return [error] * len(entries)
    return _answers(response, len(entries), named, key)


def _answers(response: Mapping[str, Any], count: int, named: bool, key: str) -> list[Answer]:
    """One answer for each entry, by its Id. What is answered twice, or not at all, does not count as done."""
    good, bad = listed(response.get("Successful")), listed(response.get("Failed"))
    if good is None or bad is None:
        return [unreadable("batch", "no lists of what succeeded and failed")] * count
    found: list[Answer | None] = [None] * count
    whole = True
    for each in good:
        try:
            place = PLACES[each["Id"]]
            if found[place] is None and (not named or (type(each["MessageId"]) is str and each["MessageId"])):
                found[place] = each
        except (KeyError, IndexError, TypeError):
            whole = False
    for each in bad:
        entry = record(each)
        place = PLACES.get(text(entry.get("Id")) or "", count) if entry is not None else count
        if entry is None or place >= count:
            whole = False
        elif found[place] is not None:
            found[place] = Failed("AWS gave two answers about this entry")
        else:
            found[place] = _entry_error(entry, key)
    said_nothing = (
        Failed("AWS said nothing about this entry") if whole else unreadable("batch", "entries without an Id")
    )
    return [said_nothing if answer is None else answer for answer in found]


def _entry_error(failed: Mapping[str, Any], key: str) -> BridgeError:
    """A code that is in no list is not blamed on the message, whatever AWS says about SenderFault."""
    code, said = text(failed.get("Code")) or "no code", text(failed.get("Message")) or "no reason given"
    return coded_error((code,), f"{code}: {said}", key=key, said=said)
