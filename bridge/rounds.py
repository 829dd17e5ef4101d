"""One round over some messages of a route: publishes what can be published, parks what cannot, and says what follows.

May not: receive, settle, wait, or know lanes and credits (pump.py does); know SQS, SNS or NATS; read a clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bridge.core import walls
from bridge.core.errors import BridgeError, Refused, Throttled, Unexpected
from bridge.core.models import Out
from bridge.core.route import Ack, Delivery, Destination, Park, Receipt, Retry, Settlement, Skip
from bridge.core.settle import HandBack, Hold, Policy, Reject, decide

ACK = Ack()
OWN_TRIES = 3  # failures of a message while others pass, until the problem counts as its own


class Observer(Protocol):
    """Called with what happened, once per event. Never raises, never waits."""

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
    def contained(self, error: Unexpected) -> None: ...
    def in_flight(self, count: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Parking:
    """Where messages go that can never be carried, and how they are written there."""

    destination: Destination
    park: Park


@dataclass(slots=True, eq=False)
class Item:
    """A delivery on its way. `reason` is set once it can only be parked; `tries` counts failures in a row, and `since`
    is how much the destination had taken before the first of them; `kept` while it counts as held for reasons of its
    own, with how many messages and bytes; `done` once it is no longer in flight."""

    delivery: Delivery
    out: Out | None = None
    lane: str | None = None
    reason: BridgeError | None = None
    skip: Skip | None = None
    tries: int = 0
    last: type[BridgeError] | None = None
    error: BridgeError | None = None
    since: int = 0
    kept: tuple[int, int] | None = None
    done: bool = False

    def failed(self, error: BridgeError, taken: int) -> int:
        # An outage of ten tries must not use up the tries of a message that then fails for reasons of its own.
        self.tries = self.tries + 1 if type(error) is self.last else 1
        self.since = self.since if self.last else taken
        self.last, self.error = type(error), error
        return self.tries


@dataclass(slots=True)
class Outcome:
    """What one round decided. `held` waits for the destination, `own` for reasons of its own."""

    settled: list[tuple[Item, Settlement]] = field(default_factory=list)
    held: list[Item] = field(default_factory=list)
    after: float = 0.0
    own: list[Item] = field(default_factory=list)
    own_after: float = 0.0

    def hold(self, item: Item, after: float, *, own: bool) -> None:
        if own:
            self.own.append(item)
            self.own_after = max(self.own_after, after)
        else:
            self.held.append(item)
            self.after = max(self.after, after)


class Rounds:
    """`block`: a message of a lane that cannot be carried is not parked; its lane waits. `fail` is called when nothing
    passes because of an unexpected error. `jitter` gives a number from 0 to 1."""

    def __init__(
        self,
        destination: Destination,
        observer: Observer,
        *,
        parking: Parking | None,
        block: bool,
        policy: Policy,
        jitter: Callable[[], float],
        fail: Callable[[Unexpected], None],
    ) -> None:
        self._destination = destination
        self._observer = observer
        self._parking = parking
        self._block = block
        self._policy = policy
        self._jitter = jitter
        self._fail = fail
        self._taken = 0  # rounds in which the destination took something

    async def round(self, items: Sequence[Item]) -> Outcome:
        """Each item is settled, held or own in the outcome, once. Raises nothing that a leg raised."""
        outcome = Outcome()
        for item in items:
            if item.skip is not None:
                self._observer.skipped(item.delivery, item.skip)
                outcome.settled.append((item, Settlement(item.delivery, ACK)))
            elif self._block and self._blocks(item):
                item.reason = None if item.out is not None else item.reason  # it may be taken by now
        await self._publish([item for item in items if item.out is not None and item.reason is None], outcome)
        if len(outcome.settled) == len(items):
            return outcome
        hopeless = [item for item in items if item.reason is not None]
        for item in hopeless:
            if item.reason is not None and item.delivery.canary is not None:
                # It is the bridge's own message: that it failed is all the information it had.
                self._observer.heartbeat_failed(item.delivery, item.reason)
                outcome.settled.append((item, Settlement(item.delivery, Ack())))
            if item.reason is not None and self._blocks(item):
                outcome.hold(item, self._policy.longest, own=True)
                self._observer.blocked(item.delivery, item.reason, self._policy.longest)
        if parkable := [item for item in hopeless if not self._blocks(item) and item.delivery.canary is None]:
            await self._park(parkable, outcome)
        return outcome

    def _blocks(self, item: Item) -> bool:
        return self._block and item.lane is not None and item.delivery.canary is None

    def blocked(self, item: Item) -> bool:
        return item.reason is not None and self._blocks(item)

    async def _publish(self, items: Sequence[Item], outcome: Outcome) -> None:
        if not items:
            return
        answers = await walls.publish(self._destination, [item.out for item in items if item.out is not None])
        jitter = self._jitter()
        carried: list[tuple[Delivery, Receipt]] = []
        failed: dict[type[BridgeError], tuple[BridgeError, float, list[Delivery]]] = {}
        for item, answer in zip(items, answers, strict=True):
            if isinstance(answer, Receipt):
                carried.append((item.delivery, answer))
                outcome.settled.append((item, Settlement(item.delivery, ACK)))
        if len(carried) == len(items):
            self._taken += 1
            self._observer.carried(carried)
            return
        taken, self._taken = self._taken, self._taken + bool(carried)
        for item, answer in zip(items, answers, strict=True):
            if isinstance(answer, Receipt):
                continue
            tries = item.failed(answer, taken)
            decision = self._decide(item, answer, tries, jitter)
            if isinstance(decision, HandBack) and item.delivery.canary is not None:
                decision = Reject()
            elif isinstance(decision, HandBack) and item.lane is not None:
                # Handed back, it would let those behind it overtake. A lane waits for its head instead.
                decision = Hold(decision.after)
            match decision:
                case Hold(after):
                    outcome.hold(item, after, own=self._own(item, answer))
                    failed.setdefault(type(answer), (answer, after, []))[2].append(item.delivery)
                case HandBack() if item.delivery.last and self._parking is not None:
                    item.reason = answer  # handed back, it would never be redelivered
                case HandBack(after):
                    outcome.settled.append((item, Settlement(item.delivery, Retry(after))))
                    self._observer.handed_back(item.delivery, answer, after)
                case Reject():
                    item.reason = answer
        if carried:
            self._observer.carried(carried)
        for found in {answer.signature: answer for answer in answers if isinstance(answer, Unexpected)}.values():
            self._observer.contained(found)
        for error, after, deliveries in failed.values():
            self._observer.held(deliveries, error, after)

    def _own(self, item: Item, error: BridgeError) -> bool:
        """Whether it waits for reasons of its own, and not because the destination is down or slow for all."""
        if error.own or error.outage:
            return error.own and not error.outage
        return item.tries >= OWN_TRIES and self._taken > item.since and not isinstance(error, Throttled)

    def _decide(self, item: Item, error: BridgeError, tries: int, jitter: float) -> Hold | HandBack | Reject:
        if isinstance(error, Unexpected) and tries >= OWN_TRIES and self._taken > item.since:
            error = walls.guilty(error)  # the destination takes others, and never this one
        if isinstance(error, Unexpected) and not error.guilty and tries >= self._policy.attempts:
            self._fail(error)  # nothing passes: other legs may do better
        return decide(error, tries, jitter, self._policy)

    async def _park(self, items: Sequence[Item], outcome: Outcome) -> None:
        reasons = [(item, item.reason) for item in items if item.reason is not None]
        if self._parking is None:
            for item, reason in reasons:
                self._reject(item, reason, outcome)
            return
        outs = [walls.park(self._parking.park, item.delivery, reason) for item, reason in reasons]
        good = [out for out in outs if not isinstance(out, Unexpected)]
        taken = iter(await walls.publish(self._parking.destination, good) if good else ())
        for (item, reason), out in zip(reasons, outs, strict=True):
            answer = walls.guilty(out) if isinstance(out, Unexpected) else next(taken)
            if isinstance(answer, Receipt):
                self._observer.parked(item.delivery, reason, answer)
                outcome.settled.append((item, Settlement(item.delivery, ACK)))
                continue
            if isinstance(answer, Unexpected):
                self._observer.contained(answer)
            tries = item.failed(answer, self._taken)
            match decide(answer, tries, self._jitter(), self._policy):
                case Hold(after) if not isinstance(answer, Unexpected) or tries < self._policy.attempts:
                    outcome.hold(item, after, own=True)
                    self._observer.held([item.delivery], answer, after)
                case _:
                    self._reject(item, _unparkable(reason, answer), outcome)

    def _reject(self, item: Item, reason: BridgeError, outcome: Outcome) -> None:
        """Neither destination nor parking takes it: it stays in the source, whose redrive policy counts deliveries."""
        after = self._policy.longest
        outcome.settled.append((item, Settlement(item.delivery, Retry(after))))
        self._observer.rejected(item.delivery, reason, after)


def _unparkable(reason: BridgeError, parking: BridgeError) -> BridgeError:
    """Both errors: why it could not be carried, and why it could not be parked either."""
    hint = "set claim_check on the route, or a parking place that takes it" if isinstance(parking, Refused) else ""
    return Refused(f"{reason.args[0]}; and it cannot be parked: {parking.args[0]}", hint=hint or parking.hint)
