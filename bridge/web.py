"""What the daemon shows over HTTP (the page at /, /metrics /healthz /readyz /status /history), and the actions it is
asked for by POST.

May not: decide anything, or ask a broker while answering; it reads what bridge.observe holds and passes actions on.
Loopback unless the configuration says otherwise; actions need a token, in a header only. A request under a host name
that was not configured is refused (421): a web page can point a name of its own at this address, and read what a
browser may reach (DNS rebinding). It cannot do so with an IP address.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from importlib import resources
from ipaddress import ip_address
from typing import Protocol

from aiohttp import web

from bridge.core.control import ACTIONS, Action, Answer, Kind
from bridge.core.errors import ConfigError
from bridge.core.lag import POINT_SECONDS
from bridge.core.plain import plain
from bridge.listener import IDLE_SECONDS, Connections, Limits
from bridge.observe import Observation
from bridge.page import ASSETS, CONTENT_SECURITY_POLICY, page, shown_whole

STATUS: dict[Kind, int] = {"done": 200, "denied": 401, "closed": 403, "unknown": 404, "refused": 409, "invalid": 422}
LONGEST_BODY = 4096
BODY_SECONDS = 5.0  # how long the body of an action may take
CLOSING_SECONDS = 2.0  # how long a shutdown waits for requests in progress
KEPT_SECONDS = 1.0
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""On every answer: no other site may embed, cache or extend a page that shows queue names and errors."""


class Control(Protocol):
    """What decides about actions. `by` names the client, for the log."""

    def admits(self, authorization: str, by: str) -> Answer | None: ...
    def act(self, route: str, action: Action, by: str) -> Answer: ...
    async def reload(self, by: str) -> Answer: ...


class Rendered:
    """The page, made at most once a second however many clients read it, and in a thread: no message waits for it."""

    def __init__(self, observation: Observation) -> None:
        self._observation = observation
        self._lock = asyncio.Lock()
        self._made: dict[str, tuple[float, str]] = {}

    async def of(self, only: str) -> str | None:
        """The page of all, or of the one route `only`; None when there is no such route."""
        async with self._lock:
            at, text = self._made.get(only, (0.0, ""))
            if text and time.monotonic() - at < KEPT_SECONDS:
                return text
            status = self._observation.snapshot()
            routes = status["routes"]
            if only and only not in routes:
                return None
            histories = {name: self._observation.history(name) for name in shown_whole(status, only)}
            text = await asyncio.to_thread(page, status, histories, now=time.time(), only=only)
            self._made = {name: made for name, made in self._made.items() if name in routes or not name}
            self._made[only] = (time.monotonic(), text)
            return text


def names_us(host: str, allowed: frozenset[str]) -> bool:
    """Whether a Host header may mean this server: an IP address, localhost, or one of `allowed` (in lower case)."""
    name = host.strip().lower()
    name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0].removesuffix(".")
    if name == "localhost" or name.endswith(".localhost") or name in allowed:
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def application(observation: Observation, control: Control, allowed_hosts: Sequence[str] = ()) -> web.Application:
    allowed = frozenset(host.lower() for host in allowed_hosts)

    @web.middleware
    async def under_our_name(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        hosts = request.headers.getall("Host", [])  # a request without one is not from a browser
        if request.path != "/healthz" and not all(names_us(host, allowed) for host in hosts):
            asked = plain(", ".join(hosts))[:100]
            text = f"this bridge is not known as {asked}; list the name in http.allowed_hosts, or use an IP address\n"
            return web.Response(text=text, status=421)
        return await handler(request)

    async def metrics(request: web.Request) -> web.Response:
        body, content_type = observation.exposition(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def healthz(request: web.Request) -> web.Response:
        """Answering at all is the proof: the loop is alive."""
        return web.Response(text="ok\n")

    async def readyz(request: web.Request) -> web.Response:
        """200 while every route is moving or idle; else 503 and why, one line each."""
        reasons = [plain(reason) for reason in observation.unready()]  # most often read in a terminal
        return web.Response(text="".join(f"{reason}\n" for reason in reasons) or "ok\n", status=503 if reasons else 200)

    async def status(request: web.Request) -> web.Response:
        return web.json_response(observation.snapshot(), dumps=lambda value: json.dumps(value, indent=2))

    async def shown(request: web.Request) -> web.Response:
        only = request.query.get("route", "")
        text = await rendered.of(only)
        if text is None:
            raise web.HTTPNotFound(text=f"there is no route {plain(only[:100])}\n")
        return web.Response(text=text, content_type="text/html", charset="utf-8")

    async def asset(request: web.Request) -> web.Response:
        name = request.path.rpartition("/")[2]
        return web.Response(body=assets[name], content_type=ASSETS[name], charset="utf-8")

    async def history(request: web.Request) -> web.Response:
        """The last hour of every backlog of one route: at most one point in ten seconds, the worst of them."""
        route = request.query.get("route", "")
        if route not in observation.routes:
            return web.json_response({"message": f"there is no route {route[:100]}; name one: ?route=NAME"}, status=404)
        places = [
            {"side": side, "system": system, "name": name, "points": points}
            for (side, system, name), points in observation.history(route).items()
        ]
        return web.json_response({"route": route, "point_seconds": POINT_SECONDS, "places": places})

    async def act(request: web.Request) -> web.Response:
        if refused := control.admits(request.headers.get("Authorization", ""), _remote(request)):
            return _answer(refused)
        action: Action = next(each for each in ACTIONS if request.path.endswith(f"/{each}"))
        return _answer(control.act(request.match_info["route"], action, await _by(request)))

    async def reload(request: web.Request) -> web.Response:
        if refused := control.admits(request.headers.get("Authorization", ""), _remote(request)):
            return _answer(refused)
        return _answer(await control.reload(await _by(request)))

    async def with_headers(request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(HEADERS)

    room = resources.files("bridge.page")
    assets = {name: room.joinpath(name).read_bytes() for name in ASSETS}
    rendered = Rendered(observation)
    app = web.Application(client_max_size=LONGEST_BODY, middlewares=[under_our_name])
    app.on_response_prepare.append(with_headers)
    app.router.add_get("/", shown)
    for name in ASSETS:
        app.router.add_get(f"/{name}", asset)
    app.router.add_get("/history", history)
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/status", status)
    for action in ACTIONS:
        app.router.add_post(f"/routes/{{route}}/{action}", act)
    app.router.add_post("/reload", reload)
    return app


def _answer(answer: Answer) -> web.Response:
    headers = {"WWW-Authenticate": "Bearer"} if answer.kind == "denied" else None
    return web.json_response(answer.document(), status=STATUS[answer.kind], headers=headers)


def _remote(request: web.Request) -> str:
    return request.remote or "unknown"


async def _by(request: web.Request) -> str:
    """The client, as far as it is known: its address, and the name it gives itself in {"by": NAME}."""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = await request.read()
        document = json.loads(body) if body.strip() else {}
    except TimeoutError:
        raise web.HTTPRequestTimeout(text="the body did not come\n") from None
    except (ValueError, RecursionError):  # invalid UTF-8 is a ValueError too
        document = None
    if not isinstance(document, dict):
        message = json.dumps({"message": 'the body must be empty or a JSON object, like {"by": "alice"}'})
        raise web.HTTPBadRequest(text=message, content_type="application/json")
    name = "".join(character for character in str(document.get("by", "")) if character.isprintable())[:100]
    return f"{name} ({_remote(request)})" if name else _remote(request)


@asynccontextmanager
async def serve(
    observation: Observation,
    control: Control,
    host: str,
    port: int,
    *,
    allowed_hosts: Sequence[str] = (),
    limits: Limits | None = None,
) -> AsyncIterator[str]:
    """Listens on `host` and `port` (0: any free one); yields the URL. It answers under IP addresses, localhost, `host`
    and `allowed_hosts`. Raises ConfigError when it cannot listen."""
    app = application(observation, control, [host, *allowed_hosts])
    runner = web.AppRunner(
        app,
        access_log=None,
        keepalive_timeout=IDLE_SECONDS,
        lingering_time=BODY_SECONDS,
        auto_decompress=False,  # our clients do not compress, and a compressed body may unpack to any size
        shutdown_timeout=CLOSING_SECONDS,
    )

    @web.middleware
    async def counted(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        connections.began(request.transport)
        try:
            return await handler(request)
        finally:
            connections.ended(request.transport)

    app.middlewares.insert(0, counted)
    await runner.setup()
    assert runner.server is not None
    connections = Connections(runner.server, limits)
    try:
        try:
            listening = await asyncio.get_running_loop().create_server(connections.made, host, port)
        except OSError as error:
            raise ConfigError(
                f"http: cannot listen on {host}:{port}: {error.strerror or error}",
                hint="is another bridge running, or still stopping? else set http.port to a free port",
            ) from error
        try:
            name = f"[{host}]" if ":" in host else host
            yield f"http://{name}:{listening.sockets[0].getsockname()[1]}"
        finally:
            listening.close()
    finally:
        await runner.cleanup()
        connections.abort()  # an answer its peer does not read must not keep the process from ending
