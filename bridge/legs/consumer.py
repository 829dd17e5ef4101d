"""What a route must know about the durable pull consumer it reads, and whether that consumer is suitable.

May not: create or change a consumer, or pull from one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from bridge.core import advice
from bridge.core.errors import NotUsable
from bridge.legs.answers import retention
from bridge.legs.nats import NatsConnection, place_of, stream_info
from bridge.legs.terms import Term, term_of

LEAST_IDLE_SECONDS = 86_400.0
SHORTEST_PULL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Consumer:
    """What the source must know about its consumer. `ack_wait` is in seconds, the shortest and the longest there is;
    `group` is its priority group; `place` names its stream; a `max_deliver` of 0 is unlimited."""

    stream: str
    name: str
    ack_wait: float
    longest_wait: float
    max_batch: int
    max_deliver: int
    filters: tuple[str, ...]
    group: str | None
    pinned: bool
    place: str
    removes: bool
    """Whether its stream removes what is acknowledged (a work queue)."""
    retention: float
    """How long its stream keeps a message, in seconds; infinite without max_age."""
    longest_pull: float
    """How long one pull may wait, in seconds."""
    max_bytes: int
    """How much one pull may ask for; 0 is unlimited."""
    terms: tuple[Term, ...]
    """The stream and the consumer as they were read."""


async def open_consumer(
    nats: NatsConnection, stream: str, name: str, filters: Sequence[str] | None = None, *, ordered: bool = False
) -> Consumer:
    """Reads the consumer and checks that it can serve a route, and with `ordered` that it has one reader at a time.
    Raises NotUsable with the command that would fix it."""
    wanted = advice.filters(filters)
    create = (
        f"nats consumer add {stream} {name} --pull --ack explicit --deliver all --wait 60s --max-pending 5000{wanted} "
        "--defaults"
    )
    about = await stream_info(nats, stream)
    info = await nats.api(f"CONSUMER.INFO.{stream}.{name}", missing=create)
    config, stream_config = info.part("config"), about.part("config")
    found = tuple(config.texts("filter_subjects") or filter(None, [config.text("filter_subject", "")]))
    if config.text("deliver_subject", ""):
        raise NotUsable(f"consumer {name} of {stream} is a push consumer; a route needs a pull consumer", hint=create)
    if (policy := config.text("ack_policy")) != "explicit":
        raise NotUsable(f"consumer {name} of {stream} has ack policy {policy}", hint=create)
    if config.flag("headers_only"):
        raise NotUsable(
            f"consumer {name} of {stream} delivers headers only: every payload would be lost",
            hint=f"nats consumer edit {stream} {name} --no-headers-only, or use another consumer",
        )
    if 0 < (idle := config.seconds("inactive_threshold", 0)) < LEAST_IDLE_SECONDS:
        # Created again it would start at the beginning, and send everything once more.
        raise NotUsable(
            f"consumer {name} of {stream} is deleted after {idle:g} s without a reader, such as a paused route",
            hint=f"nats consumer edit {stream} {name} --inactive-threshold 24h, or create it as a durable without one",
        )
    longest_pull = config.seconds("max_expires", 0)
    if 0 < longest_pull < SHORTEST_PULL_SECONDS:
        raise NotUsable(
            f"a pull of consumer {name} of {stream} may wait {longest_pull:g} s; {SHORTEST_PULL_SECONDS:g} are needed",
            hint=f"nats consumer edit {stream} {name} --max-pull-expire 5s",
        )
    if filters is not None and set(found) != set(filters):
        raise NotUsable(
            f"consumer {name} of {stream} filters {', '.join(found) or 'nothing'}; the route says {', '.join(filters)}",
            hint=f"nats consumer edit {stream} {name}{wanted}, or change filter_subjects",
        )
    # With a backoff list its steps replace ack_wait; the shortest one is what a lease can count on.
    waits = [*config.numbers("backoff"), config.number("ack_wait", 30 * 10**9)]
    if min(waits) <= 0:
        raise config.odd("ack_wait")
    pinned = config.text("priority_policy", "") == "pinned_client"
    if ordered and not pinned and info.number("num_waiting", 0):
        raise NotUsable(SHARED.format(name=name, stream=stream), hint=PIN.format(name=name, stream=stream))
    return Consumer(
        stream=stream,
        name=name,
        ack_wait=min(waits) / 1e9,
        longest_wait=max(waits) / 1e9,
        max_batch=config.number("max_batch", 0) or 10_000,
        max_deliver=max(0, config.number("max_deliver", 0)),
        filters=found,
        group=next(iter(config.texts("priority_groups")), None),
        pinned=pinned,
        place=place_of(about),
        removes=stream_config.text("retention", "") == "workqueue",
        retention=retention(stream_config),
        longest_pull=longest_pull or inf,
        max_bytes=max(0, config.number("max_bytes", 0)),
        terms=(term_of(about), term_of(info)),
    )


SHARED = (
    "consumer {name} of {stream} has another reader, and keeping the order of groups needs exactly one "
    "(a bridge that was just killed still counts for a few seconds)"
)
PIN = (
    "stop the other reader; or, for standby replicas, use nats-server 2.11 or newer and a consumer whose "
    "priority policy is pinned_client: "
    "nats consumer add {stream} {name} --pull --pinned-groups bridge --pinned-ttl 10s …"
)
