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

from bridge.config import Config, RouteConfig, SqsSourceConfig
from bridge.core.errors import BridgeError
from bridge.core.settle import Policy, backoff
from bridge.legs.aws import AwsConnection
from bridge.legs.aws_batch import AT_ONCE
from bridge.legs.nats import NatsConnection
from bridge.observe import Observation, RouteObservation
from bridge.pump import Pump
from bridge.routes import OpenRoute, aws_config, aws_options, nats_config, nats_options, open_route, watched
from bridge.sampling import judge, pause_between, sample
from bridge.web import serve

OPENING = Policy(first=1.0, longest=15.0)  # between two tries to open a route


class Daemon:
    """`run()` once. `signalled()` is what a SIGTERM does: the first call drains, the second abandons."""

    def __init__(self, config: Config, observation: Observation) -> None:
        self._config = config
        self._observation = observation
        self._draining = asyncio.Event()
        self._abandoned = False
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
            await self._connections(stack)
            judging = asyncio.create_task(judge(self._observation), name="judge")
            stack.callback(judging.cancel)
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
        observation.connection = route.nats or "default"
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
                credit_bytes=route.max_in_flight_bytes,
                receivers=opened.receivers,
            )
            if self._draining.is_set():
                pump.drain()
            async with opened.closing, asyncio.TaskGroup() as group:
                every = self._config.sampling.every
                places = watched(self._config, route, opened, self._nats[route.nats], self._aws[route.aws])
                sampling = group.create_task(
                    sample(opened.source, places, observation, system=route.source.kind, every=every),
                    name=f"sample {route.name}",
                )
                await pump.run()
                sampling.cancel()
        observation.stopped()

    async def _open(self, route: RouteConfig, observation: RouteObservation) -> OpenRoute | None:
        """Tries until the route opens; None when the daemon drains first."""
        # A poll in flight is let return, so it must return well before the deadline.
        longest_poll = max(1.0, self._config.shutdown_timeout * 0.6)
        failures = 0
        while not self._draining.is_set():
            try:
                opened = await open_route(
                    route, self._nats[route.nats], self._aws[route.aws], longest_poll=longest_poll
                )
            except BridgeError as error:
                failures += 1
                after = backoff(failures, random.random(), OPENING)  # noqa: S311 - jitter, not a secret
                observation.not_open(error, after)
                with suppress(TimeoutError):
                    async with asyncio.timeout(after):
                        await self._draining.wait()
            else:
                observation.opened(
                    opened.source_name,
                    opened.destination_name,
                    every=pause_between(route.source.kind, self._config.sampling.every),
                    exact=opened.exact,
                    retention=opened.retention,
                )
                return opened
        return None


def _connections(route: RouteConfig) -> int:
    """How many HTTP connections a busy route uses."""
    return 2 * route.source.receivers if isinstance(route.source, SqsSourceConfig) else 2 * AT_ONCE
