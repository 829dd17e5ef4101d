"""The daemon: supervises every route, the HTTP surface and the connections; drains on the first signal.

    serve  = open HTTP -> run every route until it is stopped -> close connections
    reload = read the new file -> stop the routes that are gone or changed -> start the new and the changed ones

May not: move a message itself, or create anything outside. An unexpected error restarts its route; in a task
of the daemon's own it ends the daemon loudly. A missing queue or a broker that is down never does.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from bridge.config import Changes, Config, RouteConfig, changes, longest_poll, read_token
from bridge.connections import Connections
from bridge.core import walls
from bridge.core.control import Action, Aim, Answer, unknown_route
from bridge.core.door import Door
from bridge.core.errors import ConfigError, Unexpected
from bridge.observe import Observation, configure_logs
from bridge.running import RunningRoute
from bridge.sampling import judge
from bridge.web import serve

if TYPE_CHECKING:
    from bridge.tracing import Tracing

PATIENCE = 0.75  # of shutdown_timeout: after that, what is not being published is given back
STOPPING = "the daemon is stopping"


class Daemon:
    """`run()` once. `signalled()` is what a SIGTERM does: the first call drains, the second abandons. `load` reads the
    configuration again; if it raises, nothing changes."""

    def __init__(self, config: Config, observation: Observation, load: Callable[[], Config]) -> None:
        self._config = self._started = config
        self._load = load
        self._door = Door(_token(config))
        self._reloading = asyncio.Lock()
        self._observation = observation
        self._draining = asyncio.Event()
        self._abandoned = False
        self._tracing: Tracing | None = None
        self._routes: dict[str, RunningRoute] = {}
        self._lives: dict[str, asyncio.Task[None]] = {}
        self._connections = Connections(observation.connection, observation.aws_call_repeated, observation.aws_reported)
        self._group = asyncio.TaskGroup()
        self._main: asyncio.Task[None] | None = None
        self._deadline: asyncio.Timeout | None = None

    async def run(self) -> int:
        """Returns the exit code: 0 when drained, 1 when abandoned. Raises ConfigError when HTTP cannot listen."""
        self._deadline = asyncio.timeout(None)  # a drain sets it
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._forgotten)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.signalled)
        http = self._config.http
        async with AsyncExitStack() as stack:
            surface = serve(self._observation, self, http.host, http.port, allowed_hosts=http.allowed_hosts)
            url = await stack.enter_async_context(surface)
            self._observation.starting(len(self._config.routes), url)
            if (to := self._config.tracing) is not None:
                from bridge.tracing import tracing  # an extra

                self._tracing = await stack.enter_async_context(tracing(to.endpoint, to.sample_ratio, self._left))
            await stack.enter_async_context(self._connections)
            self._main = asyncio.create_task(self._supervise(), name="routes")
            try:
                async with self._deadline:
                    if self._draining.is_set():  # the signal came before anything ran
                        self._deadline.reschedule(loop.time() + self._config.shutdown_timeout)
                    await self._main
            except (TimeoutError, asyncio.CancelledError):
                if not self._draining.is_set():
                    raise
                self._abandoned = True
        self._observation.stopped(abandoned=self._abandoned)
        return 1 if self._abandoned else 0

    def _forgotten(self, _: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        """An exception in a callback, or in a task no one awaits. asyncio itself would log its text, and its task."""
        error = context.get("exception")
        kind = str(context.get("message", "")).partition("\n")[0]
        self._observation.contained(Unexpected(kind, "the event loop") if error is None else walls.unexpected(error))

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
        for route in self._routes.values():
            route.stop()
        loop.call_later(seconds * PATIENCE, self._release)
        if self._deadline is not None and self._main is not None:
            self._deadline.reschedule(loop.time() + seconds)

    def _release(self) -> None:
        self._observation.release_began()
        for route in self._routes.values():
            route.release()

    # -- what an operator asks

    def admits(self, authorization: str, by: str) -> Answer | None:
        """None if the client that sent this header may act; else the answer it gets."""
        answer = self._door.admits(authorization)
        if answer is not None:
            self._observation.control_denied(by, answer.message)
        return answer

    def act(self, route: str, action: Action, by: str) -> Answer:
        running = self._routes.get(route)
        return unknown_route(route, self._routes) if running is None else running.act(action, by)

    async def reload(self, by: str) -> Answer:
        """Answers when the changed routes have stopped and are starting again. A second reload waits for the first."""
        if self._draining.is_set():
            self._observation.reload_refused(by, STOPPING)
            return Answer("refused", f"{STOPPING}; nothing is reloaded")
        # A task of the daemon: the client may hang up, and an unexpected error ends the daemon as it does elsewhere.
        return await asyncio.shield(self._group.create_task(self._reload(by), name="reload"))

    def hung_up(self) -> None:
        """What a SIGHUP does."""
        if self._draining.is_set():
            self._observation.reload_refused("SIGHUP", STOPPING)
        else:
            self._group.create_task(self._reload("SIGHUP"), name="reload")

    async def _reload(self, by: str) -> Answer:
        async with self._reloading:
            self._observation.reload_began(by)
            try:
                new = await asyncio.to_thread(self._load)
                door = Door(_token(new))
            except ConfigError as error:
                return self._not_reloaded(by, str(error).splitlines())
            except Exception as error:  # noqa: BLE001 - whatever is in the file, the running routes continue
                return self._not_reloaded(by, [f"the file cannot be read: {type(error).__name__}"])
            found = changes(self._config, new, self._started)
            self._door = door
            await self._apply(new, found)
            if self._draining.is_set():
                self._observation.reload_refused(by, STOPPING)
                return Answer("refused", STOPPING)
            self._observation.reloaded(by, **_facts(found))
            self._warn()
            return Answer("done", _told(found), facts=_facts(found))

    def _not_reloaded(self, by: str, complaints: Sequence[str]) -> Answer:
        self._observation.reload_failed(by, complaints)
        return Answer(
            "invalid", "nothing has changed: the new configuration is wrong", facts={"complaints": complaints}
        )

    async def _apply(self, new: Config, found: Changes) -> None:
        old, self._config = self._config, new
        if new.log != old.log:
            configure_logs(new.log.format, new.log.level)
            self._observation.relog()
        # A route that an operator stopped does not start because a file changed.
        resting: dict[Aim, Aim] = {"drained": "pause"}
        ending = (*found.removed, *found.changed)
        aims = {name: resting.get(aim := self._routes[name].aim, aim) for name in found.changed}
        for name in ending:
            self._routes[name].stop()
        if ending:
            # All of them first: a queue that moves from one route to another is never read by both.
            await self._ended({self._lives[name]: name for name in ending}, old.shutdown_timeout)
        if self._draining.is_set():
            return
        for name in ending:
            del self._routes[name], self._lives[name]
            self._connections.give_back(name)
        for name in found.removed:
            self._observation.forget(name)
        for name in found.changed:
            self._observation.route(name).restarting()
        for route in self._routes.values():
            route.reconfigured(new, patience=new.shutdown_timeout * PATIENCE)
        await self._start([route for route in new.routes if route.name not in found.kept], aims)
        for name in await self._connections.prune():
            self._observation.forget_connection(name)

    async def _ended(self, lives: Mapping[asyncio.Task[None], str], seconds: float) -> None:
        """Waits for routes that are stopping; those not done by then are abandoned, as at a shutdown."""
        _, late = await asyncio.wait(lives, timeout=seconds)
        for life in late:
            self._observation.route(lives[life]).abandoned(seconds)
            life.cancel()
        if late:
            await asyncio.wait(late)

    # -- the routes

    async def _supervise(self) -> None:
        async with self._group:
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.hung_up)
            self._warn()
            judging = self._group.create_task(judge(self._observation), name="judge")
            await self._start(self._config.routes, {})
            await self._draining.wait()
            judging.cancel()

    def _warn(self) -> None:
        http = self._started.http
        if self._config.http.token_file is not None and not http.is_loopback:
            self._observation.control_open(http.host)

    async def _start(self, routes: Iterable[RouteConfig], aims: Mapping[str, Aim]) -> None:
        """Starts routes under the configuration that is in force."""
        routes = tuple(routes)
        for config in routes:
            nats, aws = await self._connections.take(self._config, config, routes)
            if self._draining.is_set():
                return
            observation = self._observation.route(config.name)
            observation.connection = config.nats or "default"
            route = self._routes[config.name] = RunningRoute(
                config,
                nats,
                aws,
                observation,
                whole=self._config,
                longest_poll=longest_poll(self._config),
                patience=self._config.shutdown_timeout * PATIENCE,
                aim=aims.get(config.name, "carry"),
                tracing=self._tracing,
            )
            self._lives[config.name] = self._group.create_task(route.run(), name=f"route {config.name}")


def _token(config: Config) -> str | None:
    file = config.http.token_file
    return None if file is None else read_token(file)


def _facts(found: Changes) -> dict[str, Sequence[str]]:
    return {
        "added": found.added,
        "removed": found.removed,
        "restarted": found.changed,
        "untouched": found.kept,
        "after_restart": found.after_restart,
    }


def _told(found: Changes) -> str:
    names = {name: kept for name, kept in _facts(found).items() if kept and name not in ("untouched", "after_restart")}
    parts = [f"{name} {', '.join(routes)}" for name, routes in names.items()] or ["no route has changed"]
    if found.after_restart:
        parts.append(f"a restart of the process is needed for {', '.join(found.after_restart)}")
    return "; ".join(parts)
