"""The connections routes share: one for each name and setting, made when a route takes it, closed when none uses it.

May not: open anything towards a server (the first call that needs one does), or know what a route does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Generic, Self, TypeVar

from bridge.config import Config, RouteConfig, SqsSourceConfig
from bridge.legs.aws import AwsConnection
from bridge.legs.aws_batch import AT_ONCE
from bridge.legs.nats import NatsConnection
from bridge.routes import aws_config, aws_options, nats_config, nats_options

T = TypeVar("T")

SPARE = 20  # HTTP connections to an account beside those of the routes

Notice = Callable[[str, str, str], None]
"""Called with (connection, event, detail) of a NATS connection."""


@dataclass(slots=True, eq=False)
class _Shared(Generic[T]):
    """A connection, what it was made from and the routes that use it, each with its need of HTTP connections."""

    name: str | None
    made_from: object
    connection: T
    closing: AsyncExitStack
    room: int = 0
    users: dict[str, int] = field(default_factory=dict)

    def fits(self, name: str | None, made_from: object, need: int) -> bool:
        return self.name == name and self.made_from == made_from and sum(self.users.values()) + need <= self.room


class Connections:
    """Routes take connections and give them back; `prune` closes those no route uses. `repeated` is called with the
    operation of an AWS call that is retried, `reported` with (connection, event, detail) of an AWS connection."""

    def __init__(self, notice: Notice, repeated: Callable[[str], None], reported: Notice | None = None) -> None:
        self._notice = notice
        self._repeated = repeated
        self._reported = reported or (lambda *_: None)
        self._nats: list[_Shared[NatsConnection]] = []
        self._aws: list[_Shared[AwsConnection]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for users in self._users():
            users.clear()
        await self.prune()

    async def take(
        self, config: Config, route: RouteConfig, together: Iterable[RouteConfig]
    ) -> tuple[NatsConnection, AwsConnection]:
        """The connections `route` uses under `config`. `together` are the routes that start with it: a new connection
        has room for them too."""
        return await self._take_nats(config, route), await self._take_aws(config, route, together)

    def give_back(self, route: str) -> None:
        """`route` (by name) has stopped."""
        for users in self._users():
            users.pop(route, None)

    def _users(self) -> list[dict[str, int]]:
        return [*(shared.users for shared in self._nats), *(shared.users for shared in self._aws)]

    async def prune(self) -> list[str]:
        """Closes the connections no route uses; returns the names of the NATS connections that are gone."""
        unused = [s.closing for s in self._nats if not s.users] + [s.closing for s in self._aws if not s.users]
        before = {shared.name for shared in self._nats}
        self._nats = [shared for shared in self._nats if shared.users]
        self._aws = [shared for shared in self._aws if shared.users]
        for closing in unused:
            await closing.aclose()
        return [_named(name) for name in before - {shared.name for shared in self._nats}]

    async def _take_nats(self, config: Config, route: RouteConfig) -> NatsConnection:
        options = nats_options(nats_config(config, route))
        shared = next((each for each in self._nats if each.fits(route.nats, options, 0)), None)
        if shared is None:
            name = _named(route.nats)
            connection = NatsConnection(options, name=name, notice=partial(self._notice, name))
            closing = AsyncExitStack()
            await closing.enter_async_context(connection)
            shared = _Shared(route.nats, options, connection, closing)
            self._nats.append(shared)
        shared.users[route.name] = 0
        return shared.connection

    async def _take_aws(self, config: Config, route: RouteConfig, together: Iterable[RouteConfig]) -> AwsConnection:
        section, need = aws_config(config, route), _connections(route)
        shared = next((each for each in self._aws if each.fits(route.aws, section, need)), None)
        if shared is None:
            # A pool cannot grow, and a full one would starve long polls: a later route gets a new one.
            room = sum(_connections(other) for other in together if other.aws == route.aws)
            report = partial(self._reported, f"aws {_named(route.aws)}")
            connection = AwsConnection(aws_options(section, pool=SPARE + room), notice=self._repeated, report=report)
            closing = AsyncExitStack()
            await closing.enter_async_context(connection)
            shared = _Shared(route.aws, section, connection, closing, room)
            self._aws.append(shared)
        shared.users[route.name] = need
        return shared.connection


def _named(name: str | None) -> str:
    return name or "default"


def _connections(route: RouteConfig) -> int:
    """How many HTTP connections a busy route uses: every receiver holds one while it polls; sending and settling need
    as many again."""
    return 2 * route.source.receivers if isinstance(route.source, SqsSourceConfig) else 2 * AT_ONCE
