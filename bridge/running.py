"""One route from its start to its end: opens, carries, pauses, drains until its source is empty, and stops.

    run = until it is stopped: open (retried until it opens) -> carry while it may -> wait while it may not

Its aim is one of a closed set (core/control.Aim), and only the methods here change it. May not: supervise
another route, or decide what an action means (core/control.py does) or when a source is empty (core/emptiness.py).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from bridge.config import Config, RouteConfig, SqsSourceConfig
from bridge.core import walls
from bridge.core.control import Action, Aim, Answer, decide
from bridge.core.credits import COPIES
from bridge.core.emptiness import SQS_SETTLES_SECONDS, Circumstances, Emptiness, Reading
from bridge.core.errors import BridgeError
from bridge.core.route import Source
from bridge.core.settle import Policy, backoff, pause
from bridge.heartbeats import beat
from bridge.legs.aws import AwsConnection
from bridge.legs.nats import NatsConnection
from bridge.legs.terms import changed
from bridge.observe import RouteObservation
from bridge.pump import Pump
from bridge.routes import OpenRoute, open_route, watched
from bridge.sampling import JETSTREAM_SECONDS, pause_between, sample

if TYPE_CHECKING:
    from bridge.tracing import Tracing

OPENING = Policy(first=1.0, longest=15.0)  # between two tries to open a route; an outage is looked at more often
RESTARTS = Policy(first=1.0, longest=60.0)  # before a route that failed unexpectedly starts again
SOUND_SECONDS = 120.0  # a route that ran for so long starts again as quickly as the first time
SQS_EMPTY_SECONDS = 75.0  # its counts are approximate, and settle only a minute after the last send
JETSTREAM_EMPTY_SECONDS = 10.0  # the leader's counts are exact: this only shows whether a publisher is still sending


class RunningRoute:
    """`run()` once; it returns when the route was asked to stop and nothing is in flight any more.

    `whole` is the configuration in force. `patience` is how long a pause or a stop waits for messages in flight before
    it gives the rest back, in seconds; `longest_poll` bounds one receive.
    """

    def __init__(
        self,
        config: RouteConfig,
        nats: NatsConnection,
        aws: AwsConnection,
        observation: RouteObservation,
        *,
        longest_poll: float,
        patience: float,
        whole: Config,
        aim: Aim = "carry",
        tracing: Tracing | None = None,
    ) -> None:
        self.config = config
        self._whole = whole
        self.patience = patience
        self._nats = nats
        self._aws = aws
        self._observation = observation
        self._longest_poll = longest_poll
        self._tracing = tracing
        self._aim: Aim = aim
        self._changed = asyncio.Event()
        self._pump: Pump | None = None
        self._releasing: asyncio.TimerHandle | None = None

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def aim(self) -> Aim:
        return self._aim

    # -- what it is asked to do

    def act(self, action: Action, by: str) -> Answer:
        """What an operator asks; takes effect at once, and is finished later."""
        decision = decide(action, self._aim)
        if decision.aim is not None:
            self._observation.asked(action, by)
            self._turn(decision.aim)
        message = decision.message
        if decision.aim == "pause" and (held := self._observation.in_flight_messages):
            message = f"{message} ({held} in flight)"
        return Answer(decision.kind, message, self.name, self._observation.state)

    def stop(self) -> None:
        """Receives nothing more, finishes what is in flight, and ends."""
        if self._aim != "stop":
            self._turn("stop")

    def reconfigured(self, whole: Config, *, patience: float) -> None:
        """A reload changed settings that are not part of a route."""
        self.patience, self._whole = patience, whole
        self._tell()

    def release(self) -> None:
        """Gives back whatever is not being published at this moment."""
        if self._pump is not None:
            self._pump.release()

    def _turn(self, aim: Aim) -> None:
        self._aim = aim
        self._tell()
        match aim:
            case "carry":
                self._observation.resumed(carrying=self._carries)
            case "empty":
                self._observation.emptying(needed_seconds(self.config))
            case "pause" if self._pump is None:
                self._observation.paused()
            case "pause":
                self._observation.pausing()
            case "drained":
                pass  # reported once the last message is settled
            case "stop":
                self._observation.stopping()
        if self._pump is not None and aim not in ("carry", "empty"):
            self._pump.drain()
            if self._releasing is None:
                self._releasing = asyncio.get_running_loop().call_later(self.patience, self._pump.release)

    def _tell(self) -> None:
        """Wakes every task that waits for a change."""
        self._changed.set()
        self._changed = asyncio.Event()

    @property
    def _may_carry(self) -> bool:
        return self._aim in ("carry", "empty")

    @property
    def _carries(self) -> bool:
        return self._pump is not None and self._releasing is None

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._changed.wait()

    # -- what it does

    async def run(self) -> None:
        if self._aim == "pause":
            self._observation.paused()
        elif self._aim == "empty":
            self._observation.emptying(needed_seconds(self.config))
        failures, clock = 0, asyncio.get_running_loop().time
        while self._aim != "stop":
            began = clock()
            try:
                await self._life()
            except Exception as error:  # noqa: BLE001 - the wall: what ends this route must not end another
                failures = failures + 1 if clock() - began < SOUND_SECONDS else 1
                after = backoff(failures, random.random(), RESTARTS)  # noqa: S311 - jitter, not a secret
                self._observation.failed(walls.unexpected(error), after)
                with suppress(TimeoutError):
                    async with asyncio.timeout(after):
                        await self._until(lambda: self._aim == "stop")
        self._observation.stopped()

    async def _life(self) -> None:
        """Opens and carries until the route is to stop."""
        while (opened := await self._open()) is not None:
            async with opened.closing, asyncio.TaskGroup() as group:
                beside = [
                    group.create_task(self._look(opened), name=f"sample {self.name}"),
                    group.create_task(beat(opened.heart, self._observation.heartbeats), name=f"heartbeat {self.name}"),
                    group.create_task(self._compare(opened), name=f"compare {self.name}"),
                ]
                if self._may_carry:
                    await self._carry(opened)
                if not self._may_carry and self._aim != "stop":
                    await self._rest()
                for task in beside:
                    task.cancel()

    async def _carry(self, opened: OpenRoute) -> None:
        """Returns when the route must no longer carry and nothing is in flight."""
        pump = self._pump = Pump(
            opened.source,
            opened.destination,
            opened.mapping,
            self._observation,
            parking=opened.parking,
            lane=opened.lane,
            block=self.config.cannot_carry == "block",
            credits=self.config.max_in_flight,
            credit_bytes=self.config.max_in_flight_bytes // COPIES,
            share=self.config.held_share,
            receivers=opened.receivers,
        )
        try:
            async with asyncio.TaskGroup() as group:
                proving = group.create_task(self._prove_empty(opened.source, pump), name=f"drain {self.name}")
                await pump.run()
                proving.cancel()
        finally:
            self._pump = None
            if self._releasing is not None:
                self._releasing.cancel()
                self._releasing = None

    async def _rest(self) -> None:
        """Paused or drained. The source is still sampled, and everything is opened again afterwards: other readers may
        have read from it meanwhile."""
        if self._aim == "pause":
            self._observation.paused()
        else:
            self._observation.drained()
        await self._until(lambda: self._may_carry or self._aim == "stop")

    async def _open(self) -> OpenRoute | None:
        """Tries until the route opens; None when it is to stop first."""
        failures = 0
        self._observation.systems = (self.config.source.kind, self.config.destination.kind)
        while self._aim != "stop":
            try:
                opened = await open_route(
                    self.config, self._nats, self._aws, longest_poll=self._longest_poll, tracing=self._tracing
                )
            except BridgeError as error:
                failures += 1
                after = pause(error, failures, random.random(), OPENING)  # noqa: S311 - jitter, not a secret
                self._observation.not_open(error, after)
                with suppress(TimeoutError):
                    async with asyncio.timeout(after):
                        await self._changed.wait()
            else:
                self._observation.opened(
                    opened.source_name,
                    opened.destination_name,
                    every=pause_between(opened.system, self._every()),
                    exact=opened.system == "jetstream",
                    retention=opened.retention,
                )
                return opened
        return None

    async def _look(self, opened: OpenRoute) -> None:
        """Samples every backlog of the route until cancelled; other backlogs once a reload changes which they are."""
        while True:
            seen = _seen(self._whole)
            places = watched(self._whole, self.config, opened, self._nats, self._aws)
            async with asyncio.TaskGroup() as group:
                looking = group.create_task(
                    sample(opened.source, places, self._observation, opened.system, self._every), name="look"
                )
                await self._until(lambda: _seen(self._whole) != seen)  # noqa: B023 - awaited within the round
                looking.cancel()
            self._observation.waiting.watches_nothing()

    async def _compare(self, opened: OpenRoute) -> None:
        """Compares what the route relies on with what it was when it opened, until cancelled. A difference gives back
        what is in flight, and the route opens again as at its start."""
        while opened.terms:
            await asyncio.sleep(JETSTREAM_SECONDS)
            if (difference := await changed(self._nats, opened.terms)) is not None and self._pump is not None:
                self._observation.reopening(difference)
                self._pump.release()
                return

    def _every(self) -> float:
        return self._whole.sampling.every

    @property
    def _caveat(self) -> str:
        needed = needed_seconds(self.config)
        if isinstance(self.config.source, SqsSourceConfig) and needed < SQS_SETTLES_SECONDS:
            return f" (SQS counts settle only after a minute, and drain_seconds is {needed:g})"
        return ""

    async def _prove_empty(self, source: Source, pump: Pump) -> None:
        """Samples the source while the route is to drain; once it is provably empty, the route is drained."""
        needed = needed_seconds(self.config)
        while True:
            await self._until(lambda: self._aim == "empty")
            proof = Emptiness(needed)
            parked = self._observation.counts["parked"]
            while self._aim == "empty":
                proof = proof.read(await _reading(source, pump))
                around = Circumstances(
                    blocked=len(self._observation.blocking),
                    parked=self._observation.counts["parked"] - parked,
                )
                self._observation.drain_progress(proof, proof.message(around) + self._caveat)
                if proof.proven and self._aim == "empty":
                    self._turn("drained")
                    break
                with suppress(TimeoutError):
                    async with asyncio.timeout(_interval(needed)):
                        await self._until(lambda: self._aim != "empty")


async def _reading(source: Source, pump: Pump) -> Reading:
    try:
        backlog = await source.backlog()
    except BridgeError:
        backlog = None  # the route's own sampling reports why
    return Reading(asyncio.get_running_loop().time(), backlog, pump.received, pump.in_flight)


def _seen(whole: Config) -> object:
    """What the sampled backlogs depend on besides the route itself: the bridge's own consumers are not shown."""
    return whole.sampling.cloudwatch, [(route.nats, route.source) for route in whole.routes]


def needed_seconds(config: RouteConfig) -> float:
    """How long a source must look empty before its route counts as drained."""
    if config.drain_seconds is not None:
        return config.drain_seconds
    return SQS_EMPTY_SECONDS if isinstance(config.source, SqsSourceConfig) else JETSTREAM_EMPTY_SECONDS


def _interval(needed: float) -> float:
    return min(needed / 8, 10.0)
