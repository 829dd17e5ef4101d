"""What `check` knows of queues, topics, streams, consumers and routes before it judges.

May not: look anything up (legs/inventory.py does), or judge (findings.py does).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from bridge.core.errors import BridgeError
from bridge.core.policies import Policy
from bridge.core.subjects import overlap


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """Times in seconds, sizes in bytes."""

    name: str
    arn: str
    fifo: bool
    visibility_timeout: float
    max_message_size: int
    redrives: bool
    retention: float = 345_600.0
    policy: Policy | None = None
    """Who may send to it by its policy; None without one."""
    topics: tuple[str, ...] | None = None
    """The ARNs of the topics it is subscribed to, None without permission to read them."""


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """`feeds` are the ARNs of the queues subscribed to it, `subscriptions` how many there are of any kind; None
    without permission to read them."""

    name: str
    arn: str
    fifo: bool
    feeds: tuple[str, ...] | None
    subscriptions: int | None = None


@dataclass(frozen=True, slots=True)
class ConsumerFacts:
    """`max_deliver` -1 is unlimited; `pinned`: one reader at a time, and others stand by."""

    name: str
    filters: tuple[str, ...]
    ack_wait: float
    max_deliver: int
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """Times in seconds, sizes in bytes; a size or limit of -1 is none."""

    name: str
    subjects: tuple[str, ...]
    retention: str
    discard: str
    limited: bool
    duplicate_window: float
    max_msg_size: int
    consumers: tuple[ConsumerFacts, ...]

    def captures(self, pattern: str) -> bool:
        return any(overlap(subject, pattern) for subject in self.subjects)


@dataclass(frozen=True, slots=True)
class RouteFacts:
    """All that was found out about one route. Exactly one source and one destination is set when nothing is wrong;
    what could not be found out is in `errors`, with what it is about."""

    name: str
    errors: tuple[tuple[str, BridgeError], ...] = ()
    queue: QueueFacts | None = None
    stream: StreamFacts | None = None
    consumer: ConsumerFacts | None = None
    batch: int = 10
    pattern: str | None = None
    destinations: tuple[StreamFacts, ...] = ()
    max_payload: int = 0
    to_queue: QueueFacts | None = None
    to_topic: TopicFacts | None = None
    parked_elsewhere: bool = False
    parking_subject: str | None = None
    sns_ids: bool = False
    """Whether messages may be deduplicated by SNS message id (envelope: auto, id_scope: topic)."""
    subject: str | None = None
    """The template of the destination's subject."""
    envelopes: bool = False
    verified: tuple[str, ...] | None = None
    """Whether envelopes are unwrapped, and the topics whose signatures are checked, if they are."""
    parking_queue: QueueFacts | None = None
    claim_check: bool = False
    feeds: tuple[QueueFacts, ...] = ()
    """The queues subscribed to the destination topic, as far as they could be read."""
    longest_outage: float = 0.0
    ledger: bool = False
    carries_echo: bool = False
    drain_seconds: float | None = None
    heartbeat: float | None = None
    """Seconds between two canaries, which go in at `heartbeat_from` (a subject, from JetStream) and come out at
    `heartbeat_to` (a subject, to JetStream)."""
    heartbeat_from: str | None = None
    heartbeat_to: str | None = None
    pointers: Literal["", "kept", "asked"] = ""
    """Pointers of Amazon's extended client are carried as they are, because no bucket is named: by default (kept), or
    although the file says fetch (asked)."""
    claims_in: str | None = None
    """The Object Store the route puts payloads into, and `claims_from` those it may fetch from."""
    claims_from: tuple[str, ...] = ()
    unwatched: tuple[tuple[str, BridgeError], ...] = ()
    """What `watch` names and cannot be read."""
    rights_unknown: bool = False
    """Whether the server does not say what the NATS user may publish and subscribe to."""


@dataclass(frozen=True, slots=True)
class World:
    routes: Sequence[RouteFacts] = field(default_factory=tuple)
