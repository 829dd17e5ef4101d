"""The only loop: receive -> map -> publish -> settle, in batches, within credits, lane by lane, until drained.

Its promises (tests/test_pump.py):
  1. Nothing is acknowledged at the source before a Receipt says it is durable at the destination or the parking place.
  2. No credits, no receive: at most `credits` deliveries and `credit_bytes` bytes are in flight (core/credits.py).
  3. A receive in flight is never cancelled by a drain; what it brings is released.
  4. One message that fails never delays another, except those behind it in its own lane. Messages held for reasons of
     their own take at most a share of the credits; the rest of them go back to the source for a while.
  5. Every delivery is settled once, or released.
  6. A message whose lease is over is never sent: another reader may have settled it.
  7. An exception no one expected is contained: in the message it is about (core/walls.py), else in this pump, which
     gives back what it holds and ends with that error. It never reaches another route.
May not: know SQS, SNS or NATS; read the wall clock; write a log line or a metric (the Observer does).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import suppress

from bridge.core import walls
from bridge.core.abreast import Abreast
from bridge.core.credits import Credits
from bridge.core.errors import BridgeError, Failed, Throttled, Unexpected, Unmappable
from bridge.core.lanes import Lanes
from bridge.core.route import Delivery, Destination, Lane, Mapping, Retry, Settlement, Skip, Source
from bridge.core.settle import Policy, pause, returned
from bridge.rounds import Item, Observer, Parking, Rounds

STRIKES = 5  # unexpected errors in a row from one part of a leg: after that the route opens again


class Pump:
    """Carries one route. `credits` and `credit_bytes` limit what is in flight, and `share` how much of both is held for
    reasons of its own; `receivers` is the number of parallel receives, `lane` the route's rule of order, if any.
    `block`: a message of a lane that cannot be carried is not parked; its lane waits. `received` counts what was
    received."""

    def __init__(
        self,
        source: Source,
        destination: Destination,
        mapping: Mapping,
        observer: Observer,
        *,
        parking: Parking | None = None,
        lane: Lane | None = None,
        block: bool = False,
        policy: Policy | None = None,
        credits: int = 500,  # noqa: A002 - the usual term
        credit_bytes: int = 67_108_864,
        share: float = 0.5,
        receivers: int = 1,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._source = source
        self._mapping = mapping
        self._observer = observer
        self._lane = lane
        self._policy = policy or Policy()
        self._jitter = jitter
        self._credits = Credits(messages=credits, size=credit_bytes, batch=source.batch, share=share)
        self._in_flight = 0
        self._failure: Unexpected | None = None
        self._parks = parking is not None
        self._rounds = Rounds(
            destination, observer, parking=parking, block=block, policy=self._policy, jitter=jitter, fail=self._fail
        )
        self.received = 0
        self._abreast = Abreast(receivers)
        self._lanes: Lanes[Item] = Lanes(lambda item: item.lane)
        self._room = asyncio.Event()
        self._draining = asyncio.Event()
        self._releasing = asyncio.Event()
        self._tasks = asyncio.TaskGroup()

    @property
    def in_flight(self) -> int:
        """Deliveries this route has received and not settled yet."""
        return self._in_flight

    async def run(self) -> None:
        """Returns when drained: nothing is in flight any more. Raises Unexpected when it cannot go on; all that was in
        flight has been given back by then."""
        async with asyncio.TaskGroup() as group:
            tending = group.create_task(self._tend(), name="tend")
            async with self._tasks:
                self._start_receiver()
            tending.cancel()
        if self._failure is not None:
            raise self._failure

    def drain(self) -> None:
        """Receives nothing more, finishes what is in flight."""
        self._draining.set()
        self._room.set()

    def release(self) -> None:
        """Gives back whatever is not being published at this moment. Implies `drain`."""
        self.drain()
        self._releasing.set()

    def _fail(self, error: Unexpected) -> None:
        """It cannot go on: gives back what it holds, and ends."""
        self._failure = self._failure or error
        self.release()

    async def _tend(self) -> None:
        clock, strikes = asyncio.get_running_loop().time, 0
        while strikes < STRIKES:
            begun = clock()
            try:
                await self._source.tend()
            except Exception as error:  # noqa: BLE001 - the wall: leases not extended would expire unnoticed
                # It returns only by failing: what ran for longer than any pause was well, and begins to count again.
                strikes = 1 if clock() - begun > self._policy.longest else strikes + 1
                found = walls.unexpected(error)
                self._observer.contained(found)
                if strikes == STRIKES:
                    self._fail(found)
                await asyncio.sleep(pause(found, strikes, self._jitter(), self._policy))

    # -- receiving

    def _start_receiver(self) -> None:
        self._abreast.begun()
        self._tasks.create_task(self._receive(), name="receive")

    async def _receive(self) -> None:
        failures = strikes = 0
        try:
            while (reserved := await self._reserve()) is not None:
                limit = reserved[0]
                try:
                    deliveries = await self._source.receive(limit)
                except Exception as raised:  # noqa: BLE001 - the wall; what is expected is a BridgeError
                    error = raised if isinstance(raised, BridgeError) else walls.unexpected(raised)
                    self._credits.charge(reserved, 0, 0)
                    self._room.set()
                    failures += 1
                    if isinstance(error, Unexpected):
                        strikes += 1
                        if strikes == STRIKES:
                            return self._fail(error)
                    after = pause(error, failures, self._jitter(), self._policy)
                    self._observer.receive_failed(error, after)
                    if isinstance(error, Throttled) and self._abreast.throttled():
                        return None  # there are too many: this one ends instead of waiting
                    await _pause(after, self._draining)
                    continue
                failures = strikes = 0
                self._credits.charge(reserved, len(deliveries), _bytes(deliveries))
                self._room.set()
                self._loaned(len(deliveries))
                if self._draining.is_set():
                    return await self._release([Item(delivery) for delivery in deliveries])
                try:
                    self._admit(deliveries)
                except Exception as raised:  # noqa: BLE001 - the wall
                    await self._release([Item(delivery) for delivery in deliveries])
                    return self._fail(walls.unexpected(raised))
                if len(deliveries) == limit:
                    if self._abreast.full():
                        self._start_receiver()
                elif not deliveries and self._abreast.empty():
                    return None  # an idle route keeps one
        finally:
            self._abreast.ended()
        return None

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
        self._in_flight += change
        self._observer.in_flight(self._in_flight)

    def _admit(self, deliveries: Sequence[Delivery]) -> None:
        self.received += len(deliveries)
        self._observer.received(deliveries)
        self._start(self._lanes.admit([self._map(delivery) for delivery in deliveries]))

    def _map(self, delivery: Delivery) -> Item:
        item = self._mapped(delivery)
        if delivery.hopeless is None or (item.skip is not None and item.skip.why == "heartbeat"):
            return item
        # A message out of deliveries has lost its place already; an unreadable one still has its place.
        lane = None if delivery.last else item.lane or walls.lane_of(delivery.message, self._lane)
        return Item(delivery, lane=lane, reason=delivery.hopeless)

    def _mapped(self, delivery: Delivery) -> Item:
        try:
            mapped = self._mapping(delivery.message)
        except Unmappable as error:
            return Item(delivery, lane=error.lane, reason=error)
        except Exception as error:  # noqa: BLE001 - the wall
            found = walls.guilty(walls.unexpected(error))
            self._observer.contained(found)
            return Item(delivery, lane=walls.lane_of(delivery.message, self._lane), reason=found)
        if isinstance(mapped, Skip):
            return Item(delivery, skip=mapped)
        delivery.canary = mapped.canary
        return Item(delivery, mapped.out, mapped.lane)

    # -- carrying

    def _start(self, items: list[Item]) -> None:
        if items:
            self._tasks.create_task(self._carry(items), name="carry")

    async def _carry(self, items: list[Item], after: float | None = None) -> None:
        """Until none of them is left; with `after`, from so many seconds on."""
        try:
            if after is None or await self._wait(items, after):
                await self._carried(items)
        except Exception as error:  # noqa: BLE001 - the wall: an error here is a defect of this loop itself
            self._observer.contained(found := walls.unexpected(error))
            self._fail(found)
            await self._abandon([item for item in items if not item.done])

    async def _carried(self, items: list[Item]) -> None:
        """`items` has those that are still to be carried here, at every moment."""
        clock = asyncio.get_running_loop().time
        while True:
            if clock() >= self._source.sure_until and (gone := self._source.lapsed([item.delivery for item in items])):
                await self._abandon([item for item in items if item.delivery in gone])
                items[:] = [item for item in items if item.delivery not in gone]
                if not items:
                    return
            outcome = await self._rounds.round(items)
            await self._settle(outcome.settled)
            own = await self._keep(outcome.own, outcome.own_after)
            if own and outcome.held:  # they wait for different things, and not as long
                self._tasks.create_task(self._carry(own, outcome.own_after), name="carry")
                own = []
            items[:], after = (own, outcome.own_after) if own else (outcome.held, outcome.after)
            if not items or not await self._wait(items, after):
                return

    async def _wait(self, items: list[Item], after: float) -> bool:
        """Whether to continue with them; else they have been given back."""
        # What is blocked cannot be finished, so a drain need not wait for it.
        until = self._draining if all(map(self._rounds.blocked, items)) else self._releasing
        await _pause(after, until)
        if until.is_set():
            await self._abandon(items)
            return False
        return True

    async def _keep(self, items: list[Item], after: float) -> list[Item]:
        """Those that may be held for reasons of their own, the messages behind them in their lanes included. The others
        go back to the source for a while: they must not use up the credits of all other messages. Those the source
        would never redeliver are kept, where there is no parking place for them either."""
        kept, over = [], []
        for item in items:
            if item.kept is None:
                chain = [item.delivery, *(each.delivery for each in self._lanes.behind(item))]
                size = len(chain), _bytes(chain)
                if self._credits.keep(*size):
                    item.kept = size
                    self._room.set()  # what is left is asked for in smaller batches from here on
                elif self._rounds.blocked(item):
                    pass  # given back again and again it would end in a dead-letter queue, and be overtaken
                elif (item.lane is None or self._source.locks_groups) and (self._parks or not item.delivery.last):
                    over.append(item)
                    continue
            kept.append(item)
        for item in over:
            await self._return(item, after)
        return kept

    async def _return(self, item: Item, after: float) -> None:
        """Gives a running item back, and all that waits behind it: last first, so that none of them overtakes it."""
        chain = [item, *self._lanes.abandon(item)]
        after = max(after, returned(item.delivery.attempt, self._policy))
        back = [Settlement(each.delivery, Retry(after)) for each in reversed(chain)]
        for each, answer in zip(reversed(chain), await walls.settle(self._source, back), strict=True):
            if answer is not None:
                self._observer.unsettled(each.delivery, answer)
        for each in chain:
            error = each.error or Failed("an earlier message of its group is waiting")
            self._observer.handed_back(each.delivery, error, after)
        self._done(chain)

    # -- settling

    async def _settle(self, settled: Sequence[tuple[Item, Settlement]]) -> None:
        if not settled:
            return
        answers = await walls.settle(self._source, [settlement for _, settlement in settled])
        for (item, _), answer in zip(settled, answers, strict=True):
            if answer is not None:
                self._observer.unsettled(item.delivery, answer)
        self._done([item for item, _ in settled])
        heads = [
            head for item, _ in settled if item.lane is not None and (head := self._lanes.finish(item)) is not None
        ]
        if self._releasing.is_set():
            await self._abandon(heads)
        else:
            self._start(heads)

    async def _abandon(self, items: Sequence[Item]) -> None:
        """Releases running items and all that waits behind them."""
        await self._release([each for item in items for each in (item, *self._lanes.abandon(item))])

    async def _release(self, items: Sequence[Item]) -> None:
        if not items:
            return
        deliveries = [item.delivery for item in items]
        if (error := await walls.release(self._source, deliveries)) is not None:
            self._observer.contained(error)
        self._observer.released(deliveries)
        self._done(items)

    def _done(self, items: Sequence[Item]) -> None:
        """They are no longer in flight."""
        for item in items:
            item.done = True
            if item.kept is not None:
                self._credits.kept(*item.kept)
                item.kept = None
        self._back([item.delivery for item in items])


def _bytes(deliveries: Sequence[Delivery]) -> int:
    return sum([delivery.size for delivery in deliveries])


async def _pause(seconds: float, until: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await until.wait()
