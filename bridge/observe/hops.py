"""Which hop of a route is broken: the one to its source, or the one to its destination.

A failed receive is the source's trouble, a failed send the destination's; a lost NATS connection and a route that does
not open are on the side whose system it is. Where that is unclear, no side is named.
May not: judge.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from bridge.core.lag import Verdict
from bridge.observe.trouble import Trouble

HOPS = ("source", "destination")
# Words that only one side's errors contain, in the texts of legs/ and of the servers.
NATS = re.compile(r"\b(?:nats|jetstream|streams?|consumer|subject|object store|ledger)\b", re.IGNORECASE)
AWS = re.compile(r"\b(?:aws|sqs|sns|s3|queue|topic|credentials?|endpoint|region)\b", re.IGNORECASE)


def broken(
    verdict: Verdict, standing: Mapping[str, Trouble], systems: tuple[str, str], *, held: int, waiting: bool
) -> list[str]:
    """Of HOPS, while the route is not OK. `standing` is the trouble that has lasted, by side; `systems` those of
    the source and the destination (sqs, sns, jetstream); `held` messages are on their way; `waiting`: more wait."""
    if verdict == "OK":
        return []
    found = {hop for side, trouble in standing.items() for hop in _of(side, trouble, systems)}
    if not standing and verdict == "STALLED":
        # No errors, and nothing is finished: what was sent is not answered, or what waits does not arrive.
        found = {"destination"} if held else {"source"} if waiting else set()
    return [hop for hop in HOPS if hop in found]


def _of(side: str, trouble: Trouble, systems: tuple[str, str]) -> set[str]:
    if side in HOPS:
        return {side}
    if side == "nats":
        return _with(systems, nats=True)
    if side != "open":
        return set()
    nats, aws = bool(NATS.search(trouble.error)), bool(AWS.search(trouble.error))
    return set() if nats == aws else _with(systems, nats=nats)


def _with(systems: tuple[str, str], *, nats: bool) -> set[str]:
    return {hop for hop, system in zip(HOPS, systems, strict=True) if system and (system == "jetstream") == nats}
