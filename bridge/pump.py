"""The only loop: receive -> map -> publish -> settle, in batches, within credits, lane by lane, until drained.

Its promises (tests/test_pump.py):
  1. Nothing is acknowledged at the source before a Receipt says it is durable at the destination or the parking place.
  2. No credits, no receive: at most `credits` deliveries are on loan, and `credit_bytes` of them (core/credits.py).
  3. A receive in flight is never cancelled by a drain; what it brings is released.
  4. One message that fails never holds up another, save those behind it in its own lane.
  5. Every delivery is settled once, or released.
May not: know SQS, SNS or NATS; read a clock; write a log line or a metric (the Observer does).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from bridge.core.abreast import Abreast
from bridge.core.credits import Credits
from bridge.core.errors import BridgeError, Refused, Throttled, Unmappable
from bridge.core.lanes import Lanes
from bridge.core.models import Out
from bridge.core.route import Ack, Delivery, Destination, Mapping, Park, Receipt, Retry, Settlement, Skip, Source
from bridge.core.settle import HandBack, Hold, Policy, Reject, decide, pause


class Observer(Protocol):
    """Told what happened, once per event. Never raises, never waits."""

    def received(self, deliveries: Sequence[Delivery]) -> None: ...
    def receive_failed(self, error: BridgeError, after: float) -> None: ...
    def carried(self, carried: Sequence[tuple[Delivery, Receipt]]) -> None: ...
    def held(self, deliveries: Sequence[Delivery], error: BridgeError, after: float) -> None: ...
    def skipped(self, delivery: Delivery, skip: Skip) -> None: ...
    def handed_back(self, delivery: Delivery, error: BridgeError, after: float) -> None: ...
    def parked(self, delivery: Delivery, reason: BridgeError, receipt: Receipt) -> None: ...
    def rejected(self, delivery: Delivery, reason: BridgeError, after: float) -> None: ...
    def blocked(self, delivery: Delivery, reason: BridgeError, after: float) -> None: ...
    def heartbeat_failed(self, delivery: Delivery, reason: BridgeError) -> None: ...
    def unsettled(self, delivery: Delivery, error: BridgeError) -> None: ...
    def released(self, deliveries: Sequence[Delivery]) -> None: ...
    def in_flight(self, count: int) -> None: ...


ACK = Ack()


@dataclass(frozen=True, slots=True)
class Parking:
    """Where messages go that can never be carried, and how they are written there."""

    destination: Destination
    park: Park


@dataclass(slots=True, eq=False)
class _Item:
    """A delivery on its way. `reason` is set once it can only be parked; `tries` counts failures in a row."""

    delivery: Delivery
    out: Out | None = None
    lane: str | None = None
    reason: BridgeError | None = None
    skip: Skip | None = None
    tries: int = 0
    last: type[BridgeError] | None = None

    def failed(self, error: BridgeError) -> int:
        # An outage of ten tries must not use up the tries of a message that then fails for reasons of its own.
        self.tries = self.tries + 1 if type(error) is self.last else 1
        self.last = type(error)
        return self.tries


@dataclass(slots=True)
class _Round:
    """What one round of publishing decided."""

    settled: list[tuple[_Item, Settlement]] = field(default_factory=list)
    held: list[_Item] = field(default_factory=list)
    after: float = 0.0

    def hold(self, item: _Item, after: float) -> None:
        self.held.append(item)
        self.after = max(self.after, after)


class Pump:
    """Carries one route. `credits` and `credit_bytes` bound what is on loan, `receivers` the receives that run side by
    side. `block`: a message of a lane that cannot be carried is not parked; its lane waits. `received` counts what was
    received."""

    def __init__(
        self,
        source: Source,
        destination: Destination,
        mapping: Mapping,
        observer: Observer,
        *,
        parking: Parking | None = None,
        block: bool = False,
        policy: Policy | None = None,
        credits: int = 500,  # noqa: A002 - the word of the trade
        credit_bytes: int = 67_108_864,
        receivers: int = 1,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._source = source
        self._destination = destination
        self._mapping = mapping
        self._observer = observer
        self._parking = parking
        self._block = block
        self._policy = policy or Policy()
        self._jitter = jitter
        self._credits = Credits(messages=credits, size=credit_bytes, batch=source.batch)
        self._on_loan = 0
        self.received = 0
        self._abreast = Abreast(receivers)
        self._lanes: Lanes[_Item] = Lanes(lambda item: item.lane)
        self._room = asyncio.Event()
        self._draining = asyncio.Event()
        self._releasing = asyncio.Event()
        self._tasks = asyncio.TaskGroup()

    @property
    def on_loan(self) -> int:
        """Deliveries lent to this route and not settled yet."""
        return self._on_loan

    async def run(self) -> None:
        """Returns when drained: nothing is on loan any more. Ends with whatever error nobody expected."""
        async with asyncio.TaskGroup() as group:
            tending = group.create_task(self._source.tend(), name="tend")
            async with self._tasks:
                self._start_receiver()
            tending.cancel()

    def drain(self) -> None:
        """Asks for nothing more, finishes what is on loan."""
        self._draining.set()
        self._room.set()

    def release(self) -> None:
        """Gives back whatever is not being published at this moment. Implies `drain`."""
        self.drain()
        self._releasing.set()

    # -- receiving

    def _start_receiver(self) -> None:
        self._abreast.begun()
        self._tasks.create_task(self._receive(), name="receive")

    async def _receive(self) -> None:
        failures = 0
        try:
            while (reserved := await self._reserve()) is not None:
                limit = reserved[0]
                try:
                    deliveries = await self._source.receive(limit)
                except BridgeError as error:
                    self._credits.charge(reserved, 0, 0)
                    self._room.set()
                    failures += 1
                    after = pause(error, failures, self._jitter(), self._policy)
                    self._observer.receive_failed(error, after)
                    if isinstance(error, Throttled) and self._abreast.throttled():
                        return  # there are too many: this one ends instead of waiting
                    await _pause(after, self._draining)
                    continue
                failures = 0
                self._credits.charge(reserved, len(deliveries), _bytes(deliveries))
                self._room.set()
                self._loaned(len(deliveries))
                if self._draining.is_set():
                    await self._release([_Item(delivery) for delivery in deliveries])
                    return
                self._admit(deliveries)
                if len(deliveries) == limit:
                    if self._abreast.full():
                        self._start_receiver()
                elif not deliveries and self._abreast.empty():
                    return  # an idle route keeps one
        finally:
            self._abreast.ended()

    async def _reserve(self) -> tuple[int, int] | None:
        """Waits for the credits of a batch; None when there is nothing more to ask for."""
        while not self._draining.is_set():
            if (reserved := self._credits.reserve()) is not None:
                return reserved
            self._room.clear()
            await self._room.wait()
        return None

    def _back(self, deliveries: Sequence[Delivery]) -> None:
        self._loaned(-len(deliveries))
        self._credits.back(len(deliveries), _bytes(deliveries))
        self._room.set()

    def _loaned(self, change: int) -> None:
        self._on_loan += change
        self._observer.in_flight(self._on_loan)

    def _admit(self, deliveries: Sequence[Delivery]) -> None:
        self.received += len(deliveries)
        self._observer.received(deliveries)
        self._start(self._lanes.admit([self._map(delivery) for delivery in deliveries]))

    def _map(self, delivery: Delivery) -> _Item:
        item = self._mapped(delivery)
        if delivery.hopeless is None or (item.skip is not None and item.skip.why == "heartbeat"):
            return item
        return _Item(delivery, reason=delivery.hopeless)

    def _mapped(self, delivery: Delivery) -> _Item:
        try:
            mapped = self._mapping(delivery.message)
        except Unmappable as error:
            return _Item(delivery, lane=error.lane, reason=error)
        except Exception as error:  # noqa: BLE001 - a fault of ours in one message must not stop the others
            # Only the type: the text of a stranger's error may quote the message.
            return _Item(delivery, reason=Unmappable("message", f"the mapping failed: {type(error).__name__}"))
        if isinstance(mapped, Skip):
            return _Item(delivery, skip=mapped)
        delivery.canary = mapped.canary
        return _Item(delivery, mapped.out, mapped.lane)

    # -- carrying

    def _start(self, items: list[_Item]) -> None:
        if items:
            self._tasks.create_task(self._carry(items), name="carry")

    async def _carry(self, items: list[_Item]) -> None:
        while True:
            outcome = await self._round(items)
            await self._settle(outcome.settled)
            items = outcome.held
            if not items:
                return
            # What is blocked cannot be finished, so a drain need not wait for it.
            until = self._draining if all(map(self._blocked, items)) else self._releasing
            await _pause(outcome.after, until)
            if until.is_set():
                await self._abandon(items)
                return

    async def _round(self, items: Sequence[_Item]) -> _Round:
        outcome = _Round()
        for item in items:
            if item.skip is not None:
                self._observer.skipped(item.delivery, item.skip)
                outcome.settled.append((item, Settlement(item.delivery, ACK)))
            elif self._blocks(item):
                item.reason = None if item.out is not None else item.reason  # it may be taken by now
        await self._publish([item for item in items if item.out is not None and item.reason is None], outcome)
        if len(outcome.settled) == len(items):
            return outcome
        hopeless = [item for item in items if item.reason is not None]
        for item in hopeless:
            if item.reason is not None and item.delivery.canary is not None:
                # It is ours and nobody else's: that it failed is all it had to tell.
                self._observer.heartbeat_failed(item.delivery, item.reason)
                outcome.settled.append((item, Settlement(item.delivery, Ack())))
            if item.reason is not None and self._blocks(item):
                outcome.hold(item, self._policy.longest)
                self._observer.blocked(item.delivery, item.reason, self._policy.longest)
        if parkable := [item for item in hopeless if not self._blocks(item) and item.delivery.canary is None]:
            await self._park(parkable, outcome)
        return outcome

    def _blocks(self, item: _Item) -> bool:
        return self._block and item.lane is not None and item.delivery.canary is None

    def _blocked(self, item: _Item) -> bool:
        return item.reason is not None and self._blocks(item)

    async def _publish(self, items: Sequence[_Item], outcome: _Round) -> None:
        if not items:
            return
        answers = await _ask(self._destination, [item.out for item in items if item.out is not None])
        jitter = self._jitter()
        carried: list[tuple[Delivery, Receipt]] = []
        failed: dict[type[BridgeError], tuple[BridgeError, float, list[Delivery]]] = {}
        for item, answer in zip(items, answers, strict=True):
            if isinstance(answer, Receipt):
                carried.append((item.delivery, answer))
                outcome.settled.append((item, Settlement(item.delivery, ACK)))
                continue
            decision = decide(answer, item.failed(answer), jitter, self._policy)
            if isinstance(decision, HandBack) and item.delivery.canary is not None:
                decision = Reject()
            elif isinstance(decision, HandBack) and item.lane is not None:
                # Handed back, it would let those behind it overtake. A lane waits for its head instead.
                decision = Hold(decision.after)
            match decision:
                case Hold(after):
                    outcome.hold(item, after)
                    failed.setdefault(type(answer), (answer, after, []))[2].append(item.delivery)
                case HandBack() if item.delivery.last and self._parking is not None:
                    item.reason = answer  # handed back, it would never be lent again
                case HandBack(after):
                    outcome.settled.append((item, Settlement(item.delivery, Retry(after))))
                    self._observer.handed_back(item.delivery, answer, after)
                case Reject():
                    item.reason = answer
        if carried:
            self._observer.carried(carried)
        for error, after, deliveries in failed.values():
            self._observer.held(deliveries, error, after)

    async def _park(self, items: Sequence[_Item], outcome: _Round) -> None:
        reasons = [(item, item.reason) for item in items if item.reason is not None]
        if self._parking is None:
            for item, reason in reasons:
                self._reject(item, reason, outcome)
            return
        outs = [self._parking.park(item.delivery, reason) for item, reason in reasons]
        answers = await _ask(self._parking.destination, outs)
        for (item, reason), answer in zip(reasons, answers, strict=True):
            if isinstance(answer, Receipt):
                self._observer.parked(item.delivery, reason, answer)
                outcome.settled.append((item, Settlement(item.delivery, ACK)))
                continue
            match decide(answer, item.failed(answer), self._jitter(), self._policy):
                case Hold(after):
                    outcome.hold(item, after)
                    self._observer.held([item.delivery], answer, after)
                case HandBack() | Reject():
                    self._reject(item, _unparkable(reason, answer), outcome)

    def _reject(self, item: _Item, reason: BridgeError, outcome: _Round) -> None:
        """No place will have it: the source keeps it, and its own redrive policy counts the deliveries."""
        after = self._policy.longest
        outcome.settled.append((item, Settlement(item.delivery, Retry(after))))
        self._observer.rejected(item.delivery, reason, after)

    # -- settling

    async def _settle(self, settled: Sequence[tuple[_Item, Settlement]]) -> None:
        if not settled:
            return
        answers: Sequence[BridgeError | None]
        try:
            answers = await self._source.settle([settlement for _, settlement in settled])
        except BridgeError as error:
            answers = [error] * len(settled)
        for (item, _), answer in zip(settled, answers, strict=True):
            if answer is not None:
                self._observer.unsettled(item.delivery, answer)
        self._back([item.delivery for item, _ in settled])
        heads = [
            head for item, _ in settled if item.lane is not None and (head := self._lanes.finish(item)) is not None
        ]
        if self._releasing.is_set():
            await self._abandon(heads)
        else:
            self._start(heads)

    async def _abandon(self, items: Sequence[_Item]) -> None:
        """Releases running items and all that waits behind them."""
        await self._release([each for item in items for each in (item, *self._lanes.abandon(item))])

    async def _release(self, items: Sequence[_Item]) -> None:
        if not items:
            return
        deliveries = [item.delivery for item in items]
        with suppress(BridgeError):  # what cannot be given back comes back when its lease expires
            await self._source.release(deliveries)
        self._observer.released(deliveries)
        self._back(deliveries)


def _bytes(deliveries: Sequence[Delivery]) -> int:
    return sum([delivery.size for delivery in deliveries])


def _unparkable(reason: BridgeError, parking: BridgeError) -> BridgeError:
    """Both errors: why it could not be carried, and why it could not be parked either."""
    hint = "set claim_check on the route, or a parking place that takes it" if isinstance(parking, Refused) else ""
    return Refused(f"{reason.args[0]}; the parking place refused it: {parking.args[0]}", hint=hint or parking.hint)


async def _ask(destination: Destination, outs: Sequence[Out]) -> Sequence[Receipt | BridgeError]:
    try:
        return await destination.publish(outs)
    except BridgeError as error:
        return [error] * len(outs)


async def _pause(seconds: float, until: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await until.wait()
