"""Where a message has been, so that two routes in opposite directions never send it in circles.

A place has a name no other place has: a queue or topic its ARN, a stream its name and time of creation. Every
crossing adds the place it came from (header `Bridge-Via`, in SQS the note's `via`). The mark names the message it is
about, by its id or the digest of its body: services copy headers and attributes to messages they derive, and a derived
message has been nowhere. May not: guess. A message without a mark of its own has been nowhere either.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from bridge.core.errors import Unmappable
from bridge.core.mapping.subject import encode_token
from bridge.core.models import JetStreamMessage

VIA = "Bridge-Via"
HOPS = 8
LONGEST = 512  # characters of a place; an ARN has at most a few hundred


@dataclass(frozen=True, slots=True)
class Passage:
    """From where to where one route carries. `skip_echo` false: carry even what comes from there (a refill)."""

    route: str = ""
    source: str = ""
    destinations: frozenset[str] = frozenset()
    skip_echo: bool = True

    @property
    def mark(self) -> str:
        """A few characters that distinguish this source from a recreated one of the same name."""
        return hashlib.sha256(self.source.encode()).hexdigest()[:8] if self.source else ""

    def echo(self, via: Iterable[str]) -> bool:
        """Whether a message that has been to `via` would come back to where it was."""
        return self.skip_echo and not self.destinations.isdisjoint(via)

    def returned(self, via: tuple[str, ...], to: str) -> bool:
        """Whether a message that has been to `via`, this route's destination among them, was sent back on purpose `to`
        the very queue this route reads: a consumer of that queue may act on it again, so it is new, and not an echo."""
        return to != "" and to == self.source and not self.destinations.isdisjoint(via)

    @property
    def back_to(self) -> str:
        """The one destination of a route that sends back even what has been there, for its consumers to act on it; else
        an empty text."""
        if self.skip_echo or len(self.destinations) != 1:
            return ""
        (to,) = self.destinations
        return to

    def on(self, via: tuple[str, ...], *more: str) -> tuple[str, ...]:
        """The places it has been to, the source of this crossing included. Raises Unmappable after HOPS of them."""
        places = (*via, *(place for place in (*more, self.source) if place and place not in via))
        if len(places) > HOPS:
            raise Unmappable(
                VIA,
                f"it has been to {len(places)} places, and {HOPS} are the limit",
                hint="nats-sqs-bridge check finds routes that form a loop",
            )
        return places


NOWHERE = Passage()


def place(text: str) -> bool:
    """Whether this can be the name of a place: one word of a header."""
    return 0 < len(text) <= LONGEST and _one_word(text)


@lru_cache(maxsize=256)
def _one_word(text: str) -> bool:
    return text.isprintable() and " " not in text


def marked(msg_id: str, via: Iterable[str]) -> str:
    """The header `Bridge-Via` of a message published under this id."""
    return " ".join([msg_id, *via])


def via_of(message: JetStreamMessage) -> tuple[str, ...]:
    """Where a JetStream message has been to."""
    found = message.header(VIA)
    if not found:
        return ()
    msg_id, *via = found.split(" ")
    if msg_id != message.header("Nats-Msg-Id"):
        # The server delivers a scheduled message without its id, and names its schedule: a subject that ends in the id.
        scheduler = message.header("Nats-Scheduler")
        if scheduler is None or scheduler.rpartition(".")[2] != encode_token(msg_id):
            return ()
    return tuple(via)


def digest_of(body: str) -> str:
    """How a note identifies the body it belongs to."""
    return hashlib.sha256(body.encode("utf-8", "surrogatepass")).digest()[:8].hex()
