"""Both legs in memory, with faults on demand: for testing the pump.

May not: be more forgiving than a real leg. Leases expire, settles fail and publishes are refused on request.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bridge.core.errors import BridgeError, LeaseLost
from bridge.core.models import JetStreamMessage, Message, Out, SqsMessage
from bridge.core.route import Ack, Backlog, Delivery, Receipt, Retry, Settlement

Fault = Callable[[Out, int], BridgeError | None]
"""Given a message and how often it was tried (from 1), the error to answer, or None to take it."""


@dataclass(slots=True, eq=False)
class _Kept:
    place: int
    message: Message
    delivered: int = 0
    lease: int = 0
    until: float | None = None
    held: bool = False


@dataclass(frozen=True, slots=True)
class _Loan:
    """A lease has a number: settling by an older one finds it lost."""

    kept: _Kept
    lease: int


class MemorySource:
    """A queue. `visibility` is the lease in seconds, `wait` the longest a receive waits, `most` how often it
    delivers a message (0: no limit); order is that of `put`. What is in `hopeless` is delivered to be parked."""

    locks_groups = False

    def __init__(self, *, batch: int = 10, visibility: float = 30.0, wait: float = 0.05, most: int = 0) -> None:
        self.most = most
        self.hopeless: dict[str, BridgeError] = {}
        self.batch = batch
        self.visibility = visibility
        self.wait = wait
        self.acked: list[str] = []
        self.retried: list[tuple[str, float]] = []
        self.released: list[str] = []
        self.receive_faults: list[BridgeError] = []
        self.settle_faults: list[BridgeError] = []
        self.most_in_flight = 0
        self.tending = True
        self.closed = False
        self._kept: dict[str, _Kept] = {}
        self._serial = itertools.count()
        self._leases = itertools.count(1)
        self._changed = asyncio.Event()

    def put(self, *messages: Message) -> None:
        for message in messages:
            self._kept[_name(message)] = _Kept(next(self._serial), message)
        self._changed.set()

    def __len__(self) -> int:
        """All messages not acknowledged yet."""
        return len(self._kept)

    async def receive(self, limit: int) -> Sequence[Delivery]:
        if self.receive_faults:
            raise self.receive_faults.pop(0)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.wait
        while not (due := self._due(min(limit, self.batch))) and (left := deadline - loop.time()) > 0:
            self._changed.clear()
            expiries = [kept.until - loop.time() for kept in self._kept.values() if kept.until is not None]
            try:
                async with asyncio.timeout(max(0.0, min([left, *expiries]))):
                    await self._changed.wait()
            except TimeoutError:
                continue
        return [self._deliver(kept) for kept in due]

    def _due(self, limit: int) -> list[_Kept]:
        now = asyncio.get_running_loop().time()
        free = []
        for kept in self._kept.values():
            if kept.until is not None and kept.until > now:
                continue
            if kept.held:
                kept.until = now + self.visibility  # redelivered while we still hold it: the lease is renewed
            else:
                free.append(kept)
        return sorted(free, key=lambda kept: kept.place)[:limit]

    def _deliver(self, kept: _Kept) -> Delivery:
        kept.delivered += 1
        kept.lease = next(self._leases)
        kept.held = True
        kept.until = asyncio.get_running_loop().time() + self.visibility
        in_flight = sum(1 for each in self._kept.values() if each.lease and each.until is not None)
        self.most_in_flight = max(self.most_in_flight, in_flight)
        name = _name(kept.message)
        return Delivery(
            kept.message,
            name,
            kept.delivered,
            time.time(),
            time.monotonic(),
            _Loan(kept, kept.lease),
            last=kept.delivered == self.most,
            hopeless=self.hopeless.get(name),
            size=kept.message.size,
        )

    async def settle(self, settled: Sequence[Settlement]) -> Sequence[BridgeError | None]:
        await asyncio.sleep(0)
        return [self._settle(settlement) for settlement in settled]

    def _settle(self, settlement: Settlement) -> BridgeError | None:
        name = settlement.delivery.id
        kept = self._held(settlement.delivery)
        if self.settle_faults:
            return self.settle_faults.pop(0)
        if kept is None:
            return LeaseLost(f"{name} was redelivered meanwhile")
        match settlement.outcome:
            case Ack():
                del self._kept[name]
                self.acked.append(name)
            case Retry(after):
                kept.until = asyncio.get_running_loop().time() + after if after > 0 else None
                self.retried.append((name, after))
                self._changed.set()
        return None

    @property
    def sure_until(self) -> float:
        return 0.0

    def lapsed(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        now = asyncio.get_running_loop().time()
        gone = []
        for delivery in deliveries:
            assert isinstance(delivery.token, _Loan)
            kept = delivery.token.kept
            if kept.lease != delivery.token.lease or (kept.until is not None and kept.until <= now):
                gone.append(delivery)
        return gone

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            if kept := self._held(delivery):
                kept.until = None
                self.released.append(delivery.id)
        self._changed.set()

    def _held(self, delivery: Delivery) -> _Kept | None:
        assert isinstance(delivery.token, _Loan)
        kept, lease = delivery.token.kept, delivery.token.lease
        if kept.lease == lease:
            kept.held = False
        now = asyncio.get_running_loop().time()
        current = delivery.id in self._kept and kept.lease == lease and kept.until is not None and kept.until > now
        return kept if current else None

    async def tend(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self.visibility / 3)
            for kept in self._kept.values():
                if self.tending and kept.until is not None and kept.until > loop.time():
                    kept.until = max(kept.until, loop.time() + self.visibility)

    async def backlog(self) -> Backlog:
        now = asyncio.get_running_loop().time()
        in_flight = sum(1 for kept in self._kept.values() if kept.until is not None and kept.until > now)
        return Backlog(pending=len(self._kept) - in_flight, in_flight=in_flight)

    async def resubscribe(self) -> None:
        self._changed.set()

    async def close(self) -> None:
        self.closed = True


class MemoryDestination:
    """Keeps what was published, once per id. `fault` decides per message; a closed `gate` holds whole batches."""

    def __init__(self, fault: Fault | None = None) -> None:
        self.fault = fault
        self.kept: list[Out] = []
        self.calls = 0
        self.closed = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = asyncio.Event()
        self._tries: dict[object, int] = {}
        self._ids: dict[str, str] = {}

    async def publish(self, messages: Sequence[Out]) -> Sequence[Receipt | BridgeError]:
        self.calls += 1
        self.entered.set()
        await self.gate.wait()
        return [self._publish(out) for out in messages]

    async def close(self) -> None:
        self.closed = True

    def _publish(self, out: Out) -> Receipt | BridgeError:
        key = getattr(out, "msg_id", None) or getattr(out, "dedup_id", None) or id(out)
        tries = self._tries[key] = self._tries.get(key, 0) + 1
        if self.fault and (error := self.fault(out, tries)):
            return error
        known = isinstance(key, str) and key in self._ids
        if not known:
            self.kept.append(out)
            self._ids[str(key)] = str(len(self.kept))
        return Receipt(self._ids[str(key)], duplicate=known)


def _name(message: Message) -> str:
    match message:
        case SqsMessage():
            return message.message_id
        case JetStreamMessage():
            return f"{message.stream}:{message.sequence}"
