"""The daemon: supervises every route, the HTTP surface and the connections; drains on the first signal.

    serve = open HTTP -> run every route until drained -> close connections
    route = open (again and again until it opens) -> pump until drained

May not: move a message itself, or create anything outside. A task that dies of an error nobody expected ends the
daemon loudly; a missing queue or a broker that is down never does.
"""

from __future__ import annotations

import asyncio
import random
import signal
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING

from bridge.config import Config, RouteConfig, SqsSourceConfig
from bridge.core.errors import BridgeError
from bridge.core.route import Source
from bridge.core.settle import Policy, backoff
from bridge.heartbeats import beat
from bridge.legs.aws import AwsConnection
from bridge.legs.aws_batch import AT_ONCE
from bridge.legs.nats import NatsConnection
from bridge.observe import Observation, RouteObservation
from bridge.pump import Pump
from bridge.routes import OpenRoute, aws_config, aws_options, nats_config, nats_options, open_route
from bridge.web import serve

if TYPE_CHECKING:
    from bridge.tracing import Tracing

SAMPLE_SECONDS = 10.0  # between two looks at a source's backlog: 360 GetQueueAttributes calls an hour and route
OPENING = Policy(first=1.0, longest=15.0)  # between two tries to open a route


class Daemon:
    """`run()` once. `signalled()` is what a SIGTERM does: the first call drains, the second abandons."""

    def __init__(self, config: Config, observation: Observation) -> None:
        self._config = config
        self._observation = observation
        self._draining = asyncio.Event()
        self._abandoned = False
        self._tracing: Tracing | None = None
        self._pumps: dict[str, Pump] = {}
        self._nats: dict[str | None, NatsConnection] = {}
        self._aws: dict[str | None, AwsConnection] = {}
        self._main: asyncio.Task[None] | None = None
        self._deadline: asyncio.Timeout | None = None

    async def run(self) -> int:
        """Returns the exit code: 0 when drained, 1 when abandoned. Raises ConfigError when HTTP cannot listen."""
        self._deadline = asyncio.timeout(None)  # a drain sets it
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.signalled)
        http = self._config.http
        async with AsyncExitStack() as stack:
            url = await stack.enter_async_context(serve(self._observation, http.host, http.port))
            self._observation.starting(len(self._config.routes), url)
            if (to := self._config.tracing) is not None:
                from bridge.tracing import tracing  # an extra

                self._tracing = await stack.enter_async_context(tracing(to.endpoint, to.sample_ratio, self._left))
            await self._connections(stack)
            self._main = asyncio.create_task(self._routes(), name="routes")
            try:
                async with self._deadline:
                    await self._main
            except (TimeoutError, asyncio.CancelledError):
                if not self._draining.is_set():
                    raise
                self._abandoned = True
        self._observation.stopped(abandoned=self._abandoned)
        return 1 if self._abandoned else 0

    def _left(self) -> float:
        """Seconds left to flush spans: what the drain did not need, and none once abandoned."""
        when = self._deadline.when() if self._deadline is not None else None
        if self._abandoned or when is None:
            return 0.0
        return when - asyncio.get_running_loop().time()

    def signalled(self) -> None:
        if self._draining.is_set():
            if self._main is not None:
                self._main.cancel()
            return
        seconds = self._config.shutdown_timeout
        loop = asyncio.get_running_loop()
        self._draining.set()
        self._observation.drain_began(seconds)
        for pump in self._pumps.values():
            pump.drain()
        loop.call_later(seconds * 0.75, self._release)
        if self._deadline is not None:
            self._deadline.reschedule(loop.time() + seconds)

    def _release(self) -> None:
        self._observation.release_began()
        for pump in self._pumps.values():
            pump.release()

    async def _connections(self, stack: AsyncExitStack) -> None:
        """One connection for each name the routes use. Opening them is left to the first that needs one."""
        for route in self._config.routes:
            if route.nats not in self._nats:
                name = route.nats or "default"
                notice = partial(self._observation.connection, name)
                connection = NatsConnection(nats_options(nats_config(self._config, route)), name=name, notice=notice)
                self._nats[route.nats] = await stack.enter_async_context(connection)
            if route.aws not in self._aws:
                # Every receiver holds one connection while it polls; sending and settling need as many besides.
                pool = 20 + sum(_connections(other) for other in self._config.routes if other.aws == route.aws)
                options = aws_options(aws_config(self._config, route), pool=pool)
                self._aws[route.aws] = await stack.enter_async_context(AwsConnection(options))

    async def _routes(self) -> None:
        async with asyncio.TaskGroup() as group:
            for route in self._config.routes:
                group.create_task(self._route(route), name=f"route {route.name}")

    async def _route(self, route: RouteConfig) -> None:
        observation = self._observation.route(route.name)
        opened = await self._open(route, observation)
        if opened is not None:
            pump = self._pumps[route.name] = Pump(
                opened.source,
                opened.destination,
                opened.mapping,
                observation,
                parking=opened.parking,
                block=route.cannot_carry == "block",
                credits=route.max_in_flight,
                receivers=opened.receivers,
            )
            if self._draining.is_set():
                pump.drain()
            async with opened.closing, asyncio.TaskGroup() as group:
                sampling = group.create_task(_sample(opened.source, observation), name=f"sample {route.name}")
                beating = group.create_task(beat(opened.heart, observation.heartbeats), name=f"heartbeat {route.name}")
                await pump.run()
                sampling.cancel()
                beating.cancel()
        observation.stopped()

    async def _open(self, route: RouteConfig, observation: RouteObservation) -> OpenRoute | None:
        """Tries until the route opens; None when the daemon drains first."""
        # A poll in flight is let return, so it must return well before the deadline.
        longest_poll = max(1.0, self._config.shutdown_timeout * 0.6)
        failures = 0
        while not self._draining.is_set():
            try:
                opened = await open_route(
                    route,
                    self._nats[route.nats],
                    self._aws[route.aws],
                    longest_poll=longest_poll,
                    tracing=self._tracing,
                )
            except BridgeError as error:
                failures += 1
                after = backoff(failures, random.random(), OPENING)  # noqa: S311 - jitter, not a secret
                observation.not_open(error, after)
                with suppress(TimeoutError):
                    async with asyncio.timeout(after):
                        await self._draining.wait()
            else:
                observation.opened(opened.source_name, opened.destination_name)
                return opened
        return None


def _connections(route: RouteConfig) -> int:
    """How many HTTP connections a busy route uses."""
    return 2 * route.source.receivers if isinstance(route.source, SqsSourceConfig) else 2 * AT_ONCE


async def _sample(source: Source, observation: RouteObservation) -> None:
    while True:
        try:
            observation.sampled(await source.backlog())
        except BridgeError as error:
            observation.not_sampled(error)
        await asyncio.sleep(SAMPLE_SECONDS)
