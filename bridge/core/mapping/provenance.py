"""Where a message has been, so that two routes that face each other never send it round.

A place is named as nobody else can name it: a queue or topic by its ARN, a stream by name and time of creation. Every
crossing adds the place it came from (header `Bridge-Via`, in SQS the note's `via`).
May not: guess. A message without a mark has been nowhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from bridge.core.errors import Unmappable

HOPS = 8


@dataclass(frozen=True, slots=True)
class Passage:
    """From where to where one route carries. `skip_echo` false: carry even what comes from there (a refill)."""

    route: str = ""
    source: str = ""
    destinations: frozenset[str] = frozenset()
    skip_echo: bool = True

    @property
    def mark(self) -> str:
        """A few characters that tell this source from one of the same name that was made anew."""
        return hashlib.sha256(self.source.encode()).hexdigest()[:8] if self.source else ""

    def echo(self, via: Iterable[str]) -> bool:
        """Whether a message that has been to `via` would come back to where it was."""
        return self.skip_echo and not self.destinations.isdisjoint(via)

    def on(self, via: tuple[str, ...], *more: str) -> tuple[str, ...]:
        """The places it has been to, the source of this crossing included. Raises Unmappable after HOPS of them."""
        places = (*via, *(place for place in (*more, self.source) if place and place not in via))
        if len(places) > HOPS:
            raise Unmappable(
                "Bridge-Via",
                f"it has been to {len(places)} places, and {HOPS} are the limit",
                hint="nats-sqs-bridge check finds routes that form a loop",
            )
        return places


NOWHERE = Passage()
