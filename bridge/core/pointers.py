"""What `check` finds about pointers into S3 and Object Stores: those that are not followed, and why.

May not: look anything up. core/findings.py turns its results into findings.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from bridge.core.facts import World

Said = tuple[Literal["warning", "ok"], str, str, str, str]
"""Level, route, what, text and advice of a finding."""

NONE_NAMED = (
    "S3 pointers of Amazon's extended client are carried as they are: a payload is fetched only from a bucket the "
    "route names, and it names none"
)
NOT_FETCHED = (
    "route {route} puts payloads into it, and this route carries their pointers as they are: consumers of SQS and SNS "
    "cannot follow them"
)


def pointers(world: World) -> Iterator[Said]:
    for route in world.routes:
        if route.pointers:
            yield (
                "warning" if route.pointers == "asked" else "ok",
                route.name,
                "pointers",
                NONE_NAMED,
                "if producers use one, name their buckets under source.buckets; else write pointers: keep",
            )
    yield from _unread(world)


def _unread(world: World) -> Iterator[Said]:
    """Payloads one route puts into an Object Store that the route back does not fetch."""
    for into in world.routes:
        streams = {stream.name for stream in into.destinations}
        for back in world.routes:
            if into.claims_in is None or back.stream is None or back.stream.name not in streams:
                continue
            if into.claims_in not in back.claims_from:
                yield (
                    "warning",
                    back.name,
                    f"object store {into.claims_in}",
                    NOT_FETCHED.format(route=into.name),
                    f"add {into.claims_in} to source.buckets",
                )
