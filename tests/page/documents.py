"""Worlds for the page: the daemon's own observation, told of events as the daemon tells it, and served as it serves."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bridge.core.control import Action, Answer
from bridge.core.errors import BridgeError
from bridge.core.lag import Track
from bridge.core.models import SqsMessage
from bridge.core.route import Backlog, Delivery, Receipt
from bridge.observe import Observation, RouteObservation
from bridge.observe.place import PlaceObservation
from bridge.web import serve

EMPTY = Backlog(0)


def opened(observation: Observation, name: str, *, pending: int = 0) -> RouteObservation:
    """A route from a queue to a stream that was looked at once."""
    route = observation.route(name)
    route.connection = "default"
    route.opened("sqs payments-bridge", "jetstream payments.{attributes.eventType}", retention=345_600.0)
    route.sampled(Backlog(pending))
    return route


def watched(
    route: RouteObservation, side: str, system: Any, name: str, seen: Backlog | BridgeError = EMPTY
) -> PlaceObservation:
    """Another place beside it, looked at once."""
    route.waiting.watches(side, system, [], {name: Track(every=2)})
    place = route.waiting.watched[side, system, name]
    if isinstance(seen, BridgeError):
        place.not_looked(str(seen))
    else:
        place.looked(seen)
    return place


def abandoned(place: PlaceObservation, *, pending: int = 100, seconds: float = 40.0) -> None:
    """For so long nobody has read there, while messages came."""
    now = time.monotonic()
    place.track.looked(now - seconds, Backlog(0, readers=0))
    for second in range(int(seconds), -1, -2):
        waiting = int(pending * (1 - second / seconds))
        place.track.looked(now - second, Backlog(waiting, oldest=now - seconds, done=5, readers=0))


def carried(route: RouteObservation, count: int) -> None:
    route.received([delivery(number) for number in range(count)])
    route.carried([(delivery(number), Receipt("PAYMENTS:1")) for number in range(count)])


def delivery(number: int, name: str = "") -> Delivery:
    message = SqsMessage(name or f"id-{number}", "", "payments-bridge", "arn:aws:sqs:eu-west-1:1:payments-bridge")
    return Delivery(message, message.message_id, attempt=1, sent_at=time.time(), received_at=time.monotonic())


class NoControl:
    """Nobody acts here."""

    def admits(self, authorization: str, by: str) -> Answer | None:
        raise AssertionError("nobody asked for an action")

    def act(self, route: str, action: Action, by: str) -> Answer:
        raise AssertionError("nobody asked for an action")

    async def reload(self, by: str) -> Answer:
        raise AssertionError("nobody asked for an action")


class Served:
    """The daemon's HTTP surface on `url`, in a thread of its own; `stop` is its death."""

    def __init__(self, observation: Observation, port: int = 0) -> None:
        self.observation = observation
        self.url = ""
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._end = asyncio.Event()
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._up.wait(10)

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end.set)
            self._thread.join(20)

    def _run(self) -> None:
        async def scene() -> None:
            async with serve(self.observation, NoControl(), "127.0.0.1", self._port) as self.url:
                self._up.set()
                await self._end.wait()

        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(scene())


@contextmanager
def served(observation: Observation) -> Iterator[Served]:
    surface = Served(observation)
    try:
        yield surface
    finally:
        surface.stop()
