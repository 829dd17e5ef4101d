"""The contract between the pump and the legs. Its promises are the sentences below; one exam checks them on every leg.

May not: import a leg, the pump or an SDK.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from bridge.core.errors import BridgeError
from bridge.core.models import Canary, Message, Out


@dataclass(slots=True, eq=False)
class Delivery:
    """A message in flight from a source. It is settled once, or released.

    `id` names it in logs; `attempt` counts deliveries by the source, from 1; `sent_at` is the source's own timestamp
    (seconds since the epoch), `received_at` a monotonic reading; `token` belongs to the leg that delivered it. `last`:
    the source will not deliver it again. `hopeless`: why it can only be parked, where the source knows already.
    `canary`: it is a heartbeat of the route's own. `size`: about how many bytes it takes.
    """

    message: Message
    id: str
    attempt: int
    sent_at: float
    received_at: float
    token: object = None
    last: bool = False
    hopeless: BridgeError | None = None
    size: int = 0
    canary: Canary | None = None


@dataclass(frozen=True, slots=True)
class Ack:
    """It is durable at the destination (or parked): the source may forget it."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Give it back to the source, to be redelivered after `after` seconds."""

    after: float


Outcome = Ack | Retry
"""What is reported to a source. It never sees a rejected message as such: once parked it is an Ack, else a Retry."""


class Settlement(NamedTuple):
    delivery: Delivery
    outcome: Outcome


class Receipt(NamedTuple):
    """It is durable at the destination. `duplicate`: the destination had it already. `ref` is its name there; `trace`
    the id of the trace that records it, where there is one."""

    ref: str
    duplicate: bool = False
    trace: str = ""


@dataclass(frozen=True, slots=True)
class Backlog:
    """The backlog of one queue or consumer: `pending` are not delivered yet, `in_flight` delivered and not finished,
    `delayed` not yet due.

    The rest is None where the queue or consumer does not report it. `oldest` is when the oldest message that waits or
    is in flight was sent, and `active_at` when one was last finished, in seconds since the epoch; `done` grows with
    each one finished; `redelivered` are in flight for the second time or more; `held`, at a source of our own, are
    held by this process; `readers` wait for messages; `leases_lost` counts leases the source took back; `retention` is
    how long a message is kept, in seconds.
    """

    pending: int
    in_flight: int = 0
    delayed: int = 0
    oldest: float | None = None
    active_at: float | None = None
    done: int | None = None
    redelivered: int = 0
    held: int = 0
    readers: int | None = None
    leases_lost: int = 0
    retention: float | None = None


class Mapped(NamedTuple):
    """What to publish and, where order matters, the lane (ordering group) it travels in. `canary`: a heartbeat of the
    route's own, which is never parked."""

    out: Out
    lane: str | None = None
    canary: Canary | None = None


@dataclass(frozen=True, slots=True)
class Skip:
    """Not to be carried: it came from the side it would go to (echo), the route's filter leaves it out (filtered), or
    it is a heartbeat of another route (heartbeat)."""

    why: Literal["echo", "filtered", "heartbeat"]


Mapping = Callable[[Message], Mapped | Skip]
"""Total and deterministic: returns a Mapped or a Skip, or raises Unmappable, nothing else."""

Lane = Callable[[Message], str | None]
"""The lane of a message alone, for those that cannot be mapped: a failed message must keep its position."""

Park = Callable[[Delivery, BridgeError], Out]
"""Total: turns any delivery and its reason into a message for the parking place."""


class Source(Protocol):
    """Delivers messages. Every delivery is settled once, or released.

    Any call may raise Unavailable or NotUsable; no call raises an SDK's error.
    """

    @property
    def batch(self) -> int:
        """The most messages one receive returns."""
        ...

    @property
    def locks_groups(self) -> bool:
        """Whether a message that is given back for a while holds back the later ones of its group, so that none
        overtakes it."""
        ...

    async def receive(self, limit: int) -> Sequence[Delivery]:
        """Returns up to `limit` deliveries in the source's order; may wait (long poll); is never cancelled by the pump
        before the shutdown deadline. An empty answer means nothing was there."""
        ...

    async def settle(self, settled: Sequence[Settlement]) -> Sequence[BridgeError | None]:
        """Reports the outcome of each delivery to the source; one answer each, in order. Retries its own failures while
        the lease lasts. An error means the source may redeliver the message: the destination must recognise it."""
        ...

    @property
    def sure_until(self) -> float:
        """Loop time until which no lease can be over: before it, `lapsed` need not be asked."""
        ...

    def lapsed(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """Those whose lease is over, as far as this process can know: another reader may have them by now, and may have
        settled them. Asked before anything is sent, because a process that was frozen continues where it was."""
        ...

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        """Gives untouched deliveries back: visible again at once, first to last in order. One whose lease is over is
        only forgotten: it is the source's already."""
        ...

    async def tend(self) -> None:
        """Extends the leases of what is in flight. Runs beside receive until cancelled."""
        ...

    async def backlog(self) -> Backlog:
        """The backlog now."""
        ...

    async def resubscribe(self) -> None:
        """Recreates the subscription it receives through. Called when messages wait and none arrives."""
        ...

    async def close(self) -> None:
        """Closes what it holds open: subscriptions on a connection it shares, a connection of its own. Called when no
        other call is under way and nothing is in flight. Never raises; idempotent."""
        ...


class Destination(Protocol):
    """Takes messages and reports which are durable."""

    async def publish(self, messages: Sequence[Out]) -> Sequence[Receipt | BridgeError]:
        """One answer each, in order. A Receipt promises that the message survives a crash of the bridge."""
        ...

    async def close(self) -> None:
        """As `close` of a source."""
        ...
