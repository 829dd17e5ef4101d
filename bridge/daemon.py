"""The daemon: supervises every route, the HTTP surface and the connections; drains on the first signal.

    serve = open HTTP -> run every route until it is told to stop -> close connections

May not: move a message itself, or create anything outside. A task that dies of an error nobody expected ends the
daemon loudly; a missing queue or a broker that is down never does.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterable
from contextlib import AsyncExitStack

from bridge.config import Config, RouteConfig, longest_poll
from bridge.connections import Connections
from bridge.core.control import Aim
from bridge.observe import Observation
from bridge.running import RunningRoute
from bridge.web import serve

PATIENCE = 0.75  # of shutdown_timeout: after that, what is not being published is given back


class Daemon:
    """`run()` once. `signalled()` is what a SIGTERM does: the first call drains, the second abandons."""

    def __init__(self, config: Config, observation: Observation) -> None:
        self._config = config
        self._observation = observation
        self._draining = asyncio.Event()
        self._abandoned = False
        self._routes: dict[str, RunningRoute] = {}
        self._lives: dict[str, asyncio.Task[None]] = {}
        self._connections = Connections(observation.connection)
        self._group = asyncio.TaskGroup()
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
            await stack.enter_async_context(self._connections)
            self._main = asyncio.create_task(self._supervise(), name="routes")
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
        for route in self._routes.values():
            route.stop()
        loop.call_later(seconds * PATIENCE, self._release)
        if self._deadline is not None:
            self._deadline.reschedule(loop.time() + seconds)

    def _release(self) -> None:
        self._observation.release_began()
        for route in self._routes.values():
            route.release()

    async def _supervise(self) -> None:
        async with self._group:
            await self._start(self._config.routes, {})
            await self._draining.wait()

    async def _start(self, routes: Iterable[RouteConfig], aims: dict[str, Aim]) -> None:
        """Starts routes under the configuration that is in force."""
        routes = tuple(routes)
        for config in routes:
            if self._draining.is_set():
                return
            nats, aws = await self._connections.take(self._config, config, routes)
            route = self._routes[config.name] = RunningRoute(
                config,
                nats,
                aws,
                self._observation.route(config.name),
                longest_poll=longest_poll(self._config),
                patience=self._config.shutdown_timeout * PATIENCE,
                aim=aims.get(config.name, "carry"),
            )
            self._lives[config.name] = self._group.create_task(route.run(), name=f"route {config.name}")
