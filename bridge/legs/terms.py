"""What a route relies on in JetStream, as it was when the route opened: when each stream and consumer was created, and
every setting of it. A stream that was created again numbers its messages from 1, and a consumer may be edited to
deliver what nobody meant to carry: what was read once says nothing about the next minute.

May not: judge a change. Whoever opened the route opens it again, and refuses then what it would refuse at a start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bridge.core.errors import BridgeError, NotUsable
from bridge.legs.answers import Answer
from bridge.legs.nats import NatsConnection

OWN_METADATA = "_nats."  # what the server answering adds: it differs between servers of a cluster. Source: ADR-44


@dataclass(frozen=True, slots=True)
class Term:
    """One stream, or one consumer of it, as it was read. `consumed`: its stream keeps only what consumers are there
    for, and had one."""

    stream: str
    consumer: str
    created: str
    config: dict[str, Any]
    consumed: bool = False

    @property
    def name(self) -> str:
        return f"consumer {self.consumer} of {self.stream}" if self.consumer else f"stream {self.stream}"

    @property
    def call(self) -> str:
        return f"CONSUMER.INFO.{self.stream}.{self.consumer}" if self.consumer else f"STREAM.INFO.{self.stream}"

    def changed(self, now: Term) -> str | None:
        """In a sentence, what is different now."""
        if now.created != self.created:
            return f"{self.name} was deleted and created again"
        differing = sorted(key for key in {*self.config, *now.config} if self.config.get(key) != now.config.get(key))
        if differing:
            return f"{self.name} was edited: {', '.join(differing)}"
        if self.consumed and not now.consumed:
            return f"the last consumer of {self.name} was removed, and it keeps nothing without one"
        return None


def term_of(info: Answer) -> Term:
    """Out of a STREAM.INFO or CONSUMER.INFO."""
    config = dict(info.part("config"))
    if isinstance(metadata := config.get("metadata"), dict):
        config["metadata"] = {key: each for key, each in metadata.items() if not key.startswith(OWN_METADATA)}
        if not config["metadata"]:
            del config["metadata"]
    stream = info.text("stream_name", "")  # a consumer's
    consumer = info.text("name", "") if stream else ""
    consumed = config.get("retention") == "interest" and info.part("state").number("consumer_count", 0) > 0
    return Term(stream or info.part("config").text("name", ""), consumer, info.text("created", ""), config, consumed)


async def changed(nats: NatsConnection, terms: Sequence[Term]) -> str | None:
    """What the first of them that differs is now, in a sentence; None if nothing is known to differ. Never raises."""
    for term in terms:
        try:
            now = term_of(await nats.api(term.call, missing="it is gone"))
        except NotUsable as error:
            if error.hint == "it is gone":
                return f"{term.name} was deleted"
        except BridgeError:
            continue  # what cannot be read now is compared at the next sample
        else:
            if (found := term.changed(now)) is not None:
                return found
    return None
