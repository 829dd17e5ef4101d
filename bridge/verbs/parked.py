"""`parked`: lists the messages the routes have parked, shows them, redrives them, or drops them.

May not: remove a message from its parking place before it is durable at its destination, except to drop it.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, assert_never

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from bridge.config import Config, JetStreamParkingConfig, RouteConfig, SqsParkingConfig, load
from bridge.core.errors import BridgeError, ConfigError, Unmappable
from bridge.core.mapping.headers import base64_of, packed
from bridge.core.mapping.subject import fifo_id
from bridge.core.models import JetStreamMessage, JetStreamOut, Out, SnsOut, SqsMessage, SqsOut
from bridge.core.plain import plain, plain_lines
from bridge.core.route import Receipt, Skip
from bridge.legs.aws import AwsConnection
from bridge.legs.nats import NatsConnection
from bridge.legs.parking import Shelf, Shelved, StreamShelf, queue_shelf, streams_holding
from bridge.legs.sqs import open_queue
from bridge.routes import OpenRoute, aws_config, aws_options, nats_config, nats_options, open_route
from bridge.verbs import loop_factory
from bridge.verbs.printed import console, say

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, slots=True)
class Choice:
    """Which parked messages are selected. Ages in seconds; `reason` is found anywhere in the reason, in any case."""

    routes: tuple[str, ...] = ()
    reason: str = ""
    older: float = 0.0
    newer: float = float("inf")
    ids: tuple[str, ...] = ()
    limit: int = 0

    def means(self, shelved: Shelved, now: float) -> bool:
        parked = shelved.parked
        return (
            self.reason.lower() in parked.reason.lower()
            and self.older <= now - shelved.at <= self.newer
            and (not self.ids or parked.id in self.ids or plain(parked.id) in self.ids)  # as `parked list` prints it
        )


def seconds(text: str) -> float:
    """`90s`, `15m`, `2h` or `3d` in seconds. Raises ConfigError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if found is None:
        raise ConfigError(f"{text!r} is not an age", hint="for example 90s, 15m, 2h or 3d")
    return float(found[1]) * UNITS[found[2]]


def show(path: Path | None, environ: Mapping[str, str], choice: Choice, *, as_json: bool, whole: bool) -> int:
    """Lists what is parked; `whole` prints each message with its body. Returns 1 if nothing was found."""

    async def look(world: _World) -> int:
        found = []
        async for route, _, shelved in world.chosen(choice):
            if as_json:
                say(json.dumps(_document(route, shelved, whole=whole)))
            elif whole:
                _print_whole(route, shelved)
            found.append((route, shelved))
        if not as_json and not whole:
            console(width=None if sys.stdout.isatty() or "COLUMNS" in environ else 160).print(_table(found))
        for each in choice.ids if whole else ():
            if all(each not in (shelved.parked.id, plain(shelved.parked.id)) for _, shelved in found):
                text = f"no parked message has the id {each}; see `parked list`"
                console(stderr=True, soft_wrap=True).print(text, style="yellow")
        _tell_of_others(world)
        return 0 if found else 1

    return _run(path, environ, look)


def redrive(
    path: Path | None, environ: Mapping[str, str], choice: Choice, *, rate: float, dry_run: bool, quiet: bool
) -> int:
    """Carries each through its own route and then removes it. Returns 1 if some stay parked."""

    async def carry(world: _World) -> int:
        opened: dict[str, OpenRoute] = {}
        stayed = 0

        async def one(route: RouteConfig, shelf: Shelf, shelved: Shelved) -> str | None:
            if route.name not in opened:
                opened[route.name] = await world.open(route)
            if (problem := await _carried(opened[route.name], shelved, dry_run=dry_run)) is not None:
                return problem
            if not dry_run:
                await shelf.take_away(shelved)
            return None

        stayed = await _each(world, choice, one, "would be carried" if dry_run else "carried", rate=rate, quiet=quiet)
        return 1 if stayed else 0

    return _run(path, environ, carry)


def drop(
    path: Path | None, environ: Mapping[str, str], choice: Choice, *, rate: float, dry_run: bool, quiet: bool
) -> int:
    """Deletes each permanently."""

    async def remove(world: _World) -> int:
        async def one(route: RouteConfig, shelf: Shelf, shelved: Shelved) -> str | None:  # noqa: ARG001
            if not dry_run:
                await shelf.take_away(shelved)
            return None

        stayed = await _each(world, choice, one, "would be dropped" if dry_run else "dropped", rate=rate, quiet=quiet)
        return 1 if stayed else 0

    return _run(path, environ, remove)


async def _carried(opened: OpenRoute, shelved: Shelved, *, dry_run: bool) -> str | None:
    """Carries one message as its route would; why it stays, or None. Into JetStream it keeps its id, so what was
    carried before is recognised. What was parked is untrusted, and goes through the mapping like any message."""
    kind = "sqs" if isinstance(shelved.parked.message, SqsMessage) else "jetstream"
    if kind != opened.system:
        return f"it says it came from {kind}, which the route does not read"
    try:
        mapped = opened.mapping(shelved.parked.message)
    except Unmappable as error:
        return str(error)
    if isinstance(mapped, Skip):
        return f"the route skips it: {mapped.why}"
    if dry_run:
        return None
    (answer,) = await opened.destination.publish([_redriven(mapped.out, shelved)])
    return None if isinstance(answer, Receipt) else str(answer)


def _redriven(out: Out, shelved: Shelved) -> Out:
    """Towards AWS, ids are made of stream and sequence, and a forged parked message could name those of one to come:
    what is redriven has an id of its own, the same each time. And it lives as long as the stream keeps it."""
    match out:
        case JetStreamOut():
            return out._replace(expires_at=None)
        case SqsOut() | SnsOut():
            return out._replace(dedup_id=out.dedup_id and fifo_id(f"redriven:{shelved.token}:{out.dedup_id}"))
        case _:
            assert_never(out)


Act = Callable[[RouteConfig, Shelf, Shelved], Awaitable[str | None]]


async def _each(world: _World, choice: Choice, act: Act, done: str, *, rate: float, quiet: bool) -> int:
    """Does it to each, at most `rate` a second (0: no limit). Returns how many stay parked."""
    errors = console(stderr=True, soft_wrap=True)
    good, stayed = 0, 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    hidden = quiet or not sys.stderr.isatty()
    with Progress(*columns, console=errors, transient=True, disable=hidden) as progress:
        task = progress.add_task("reading", total=None if hidden else await world.count(choice))
        began = time.monotonic()
        async for route, shelf, shelved in world.chosen(choice, lambda: progress.advance(task)):
            if rate and (ahead := (good + stayed) / rate - (time.monotonic() - began)) > 0:
                await asyncio.sleep(ahead)
            try:
                problem = await act(route, shelf, shelved)
            except BridgeError as error:
                problem = str(error)
            except Exception as error:  # noqa: BLE001 - one unexpected error must not keep all behind it parked
                problem = f"unexpected error: {type(error).__name__}"
            if problem is None:
                good += 1
            else:
                stayed += 1
                line = f" {plain(shelved.parked.id)}: {plain(problem)}"
                errors.print(Text.assemble(("stays", "yellow"), line))
            progress.update(task, description=f"{good:,} {done}, {stayed:,} stay")
    _tell_of_others(world)
    say(f"{good:,} {done}, {stayed:,} stay parked.")
    return stayed


def _tell_of_others(world: _World) -> None:
    """Reports messages parked by unknown routes: a renamed route leaves some behind."""
    for name, count in sorted((+world.others).items()):
        text = f"{count:,} more were parked by route {plain(name)}, which this configuration does not have."
        console(stderr=True, soft_wrap=True).print(text, style="yellow")
    if world.unreadable:
        text = f"{world.unreadable:,} more are in the parking place and cannot be read: no bridge wrote them."
        console(stderr=True, soft_wrap=True).print(text, style="yellow")


def _run(path: Path | None, environ: Mapping[str, str], work: Callable[[_World], Awaitable[int]]) -> int:
    config = load(path, environ)

    async def scene() -> int:
        async with AsyncExitStack() as stack:
            return await work(_World(config, stack))

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(scene())


class _World:
    """The routes' parking places, opened when first used."""

    def __init__(self, config: Config, stack: AsyncExitStack) -> None:
        self._config = config
        self._stack = stack
        self._nats: dict[str | None, NatsConnection] = {}
        self._aws: dict[str | None, AwsConnection] = {}
        self._known = {route.name for route in config.routes}
        self._opened: dict[tuple[str | None, str, str], tuple[Shelf, dict[str, RouteConfig]]] = {}
        self.others: Counter[str] = Counter()
        """Messages seen that were parked by routes not in the configuration, by the names of those routes."""

    @property
    def unreadable(self) -> int:
        """Messages seen in the parking places that are not parked messages."""
        return sum(shelf.unreadable for shelf, _ in self._opened.values())

    def _routes(self, choice: Choice) -> list[RouteConfig]:
        if unknown := [name for name in choice.routes if name not in self._known]:
            raise ConfigError(f"there is no route {unknown[0]}", hint=f"known routes: {', '.join(sorted(self._known))}")
        routes = [route for route in self._config.routes if not choice.routes or route.name in choice.routes]
        if not any(route.parking for route in routes):
            raise ConfigError("none of these routes has a parking place", hint="set `parking` on the route")
        return routes

    async def count(self, choice: Choice) -> int:
        """How many messages will be read, as far as the parking places report."""
        return sum([await shelf.count() for shelf, _ in await self._shelves(choice)])

    async def chosen(
        self, choice: Choice, looked: Callable[[], None] = lambda: None
    ) -> AsyncIterator[tuple[RouteConfig, Shelf, Shelved]]:
        """`looked` is called for each message read, chosen or not."""
        now, count = time.time(), 0
        for shelf, routes in await self._shelves(choice):
            async for shelved in shelf.look():
                looked()
                name = shelved.parked.route
                self.others[name] += name not in self._known
                if name in routes and choice.means(shelved, now):
                    yield routes[name], shelf, shelved
                    count += 1
                    if count == choice.limit:
                        return

    async def open(self, route: RouteConfig) -> OpenRoute:
        opened = await open_route(route, await self._nats_of(route), await self._aws_of(route), reading=False)
        await self._stack.enter_async_context(opened.closing)
        return opened

    async def _shelves(self, choice: Choice) -> list[tuple[Shelf, dict[str, RouteConfig]]]:
        """Each parking place once, with the routes that park there: what one pass over a queue has received, the
        next one would not."""
        if self._opened:
            return list(self._opened.values())
        for route in self._routes(choice):
            match route.parking:
                case None:
                    continue
                case JetStreamParkingConfig(subject=subject):
                    nats = await self._nats_of(route)
                    for name in await streams_holding(nats, subject):
                        place = (route.nats, name, subject)
                        _, routes = self._opened.setdefault(place, (StreamShelf(nats, name, subject), {}))
                        routes[route.name] = route
                case SqsParkingConfig(queue=name):
                    aws = await self._aws_of(route)
                    queue = await open_queue(aws, name)
                    place = (route.aws, queue.arn, "")
                    if place not in self._opened:
                        shelf = await self._stack.enter_async_context(queue_shelf(aws, queue))
                        self._opened[place] = (shelf, {})
                    self._opened[place][1][route.name] = route
                case _:
                    assert_never(route.parking)
        return list(self._opened.values())

    async def _nats_of(self, route: RouteConfig) -> NatsConnection:
        if route.nats not in self._nats:
            connection = NatsConnection(nats_options(nats_config(self._config, route)), name=route.nats or "default")
            self._nats[route.nats] = await self._stack.enter_async_context(connection)
        return self._nats[route.nats]

    async def _aws_of(self, route: RouteConfig) -> AwsConnection:
        if route.aws not in self._aws:
            connection = AwsConnection(aws_options(aws_config(self._config, route), pool=20))
            self._aws[route.aws] = await self._stack.enter_async_context(connection)
        return self._aws[route.aws]


def _table(found: list[tuple[RouteConfig, Shelved]]) -> Table:
    table = Table("parked", "route", title=f"{len(found):,} parked")
    for column in ("id", "tries", "bytes", "reason"):
        table.add_column(column, overflow="fold")  # `parked show` needs the complete id
    for route, shelved in found:
        parked = shelved.parked
        table.add_row(
            _when(shelved.at),
            route.name,
            plain(parked.id),
            str(parked.attempt),
            f"{shelved.size:,}",
            plain(parked.reason),
        )
    return table


def _when(at: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(at))
    except (ValueError, OverflowError, OSError):  # a message may contain any number
        return "unknown"


def _document(route: RouteConfig, shelved: Shelved, *, whole: bool) -> dict[str, Any]:
    parked = shelved.parked
    document: dict[str, Any] = {
        "route": route.name,
        "id": parked.id,
        "parked_at": round(shelved.at, 3),
        "attempt": parked.attempt,
        "bytes": shelved.size,
        "reason": parked.reason,
    }
    return {**document, "message": _message(parked.message)} if whole else document


def _message(message: SqsMessage | JetStreamMessage) -> dict[str, Any]:
    match message:
        case SqsMessage():
            return {
                "message_id": message.message_id,
                "queue_arn": message.queue_arn,
                "system": dict(message.system),
                "attributes": packed(message.attributes),
                "body": message.body,
            }
        case JetStreamMessage():
            document: dict[str, Any] = {
                "subject": message.subject,
                "stream": message.stream,
                "seq": message.sequence,
                "headers": message.headers,
            }
            try:
                return {**document, "payload": message.payload.decode()}
            except UnicodeDecodeError:
                return {**document, "payload_base64": base64_of(message.payload)}
        case _:
            assert_never(message)


def _print_whole(route: RouteConfig, shelved: Shelved) -> None:
    document = _document(route, shelved, whole=True)
    message = document.pop("message")
    for name, value in {**document, **message}.items():
        # Further lines of a body are indented below its first: the next member begins at the margin.
        text = value if isinstance(value, str) else json.dumps(value)
        say(f"{name:<12} " + f"\n{'':<13}".join(plain_lines(text)))
    say()
