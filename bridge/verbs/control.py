"""`pause`, `resume`, `drain`, `reload`: asks the running daemon over HTTP, and prints its answer.

What answers may be something else, or hostile: an answer is limited in size and time, and its shape is not trusted.
May not: act on a queue, a stream or the daemon in any other way, or send the token anywhere but to the daemon itself.
"""

from __future__ import annotations

import getpass
import json
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from threading import Event, Timer
from typing import Any
from urllib.parse import quote, urlsplit

import typer

from bridge.config import Config, load, read_token
from bridge.core.control import Action
from bridge.core.errors import BridgeError, ConfigError, Failed, Unavailable
from bridge.core.plain import plain
from bridge.verbs.printed import say

ASKING_SECONDS = 10.0
RELOAD_SECONDS = 3900.0  # a route that restarts may take its whole shutdown_timeout, at most an hour
POLL_SECONDS = 1.0
SOMEWHERE = "http://127.0.0.1:9108"  # where a daemon listens by default
LONGEST_ANSWER = 64 * 1024 * 1024  # bytes; a thousand routes take a fifth of it
MISSED = 10  # failed reads in a row before a drain counts as unobservable
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where a daemon that listens everywhere is found


@dataclass(frozen=True, slots=True)
class Running:
    """A daemon to talk to."""

    url: str
    token: str | None = field(default=None, repr=False)

    def post(self, path: str, *, seconds: float = ASKING_SECONDS) -> dict[str, Any]:
        """The answer to an action. Raises ConfigError for what the operator can fix, Failed when the daemon refuses."""
        headers = {"Content-Type": "application/json"}
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        status, answer, text = self._ask("POST", path, seconds, json.dumps({"by": _who()}), headers)
        message = str(answer.get("message") or f"{self.url} answered {status}{text}")
        match status:
            case 200 if isinstance(answer.get("message"), str):
                return answer
            case 200:
                raise Unavailable(STRANGE.format(url=self.url))
            case 401 | 403:
                raise ConfigError(message)
            case 404:
                raise typer.BadParameter(message, param_hint="ROUTE")
            case 422:
                complaints = answer.get("complaints")
                raise ConfigError("\n".join([message, *map(plain, map(str, _listed(complaints)))]))
            case _:
                raise Failed(message)

    def get(self, path: str) -> dict[str, Any]:
        """A document of the daemon. Raises Unavailable."""
        status, answer, text = self._ask("GET", path, ASKING_SECONDS)
        if status != 200:
            raise Unavailable(f"{self.url}{path} answered {status}{text}")
        return answer

    def route(self, name: str) -> dict[str, Any] | None:
        """The route as /status has it; None when there is no such route. Raises Unavailable."""
        routes = self.get("/status").get("routes")
        found = routes.get(name) if isinstance(routes, dict) else None
        if not isinstance(routes, dict) or not isinstance(found, dict | None):
            raise Unavailable(STRANGE.format(url=self.url))
        return found

    def _ask(
        self, method: str, path: str, seconds: float, body: str | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, Any], str]:
        """The status, the document (empty if it is none) and otherwise the first line of a text, after a colon."""
        # Straight to the daemon, past any proxy and redirect: no other host may get the token.
        parts = urlsplit(self.url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        try:
            connection = kind(parts.hostname or "", parts.port, timeout=seconds)
            late = Event()
            try:
                connection.connect()
                # Its timeout is for each read, and one byte a second would keep it waiting for ever.
                end = Timer(seconds, _shut, [connection.sock, late])
                end.daemon = True
                end.start()
                try:
                    connection.request(method, f"{parts.path}{path}", body, dict(headers or {}))
                    answer = connection.getresponse()
                    found = answer.read(LONGEST_ANSWER + 1)
                finally:
                    end.cancel()
            finally:
                connection.close()
            if late.is_set():
                raise TimeoutError(f"no complete answer within {seconds:g} s")
        except (OSError, HTTPException, ValueError) as error:  # ValueError: a URL no request can be made for
            reason = plain(str(error))[:200] or type(error).__name__
            raise Unavailable(
                f"no daemon answers at {self.url}: {reason}",
                hint="is it running (nats-sqs-bridge run)? does it listen elsewhere (--url)?",
            ) from None
        if len(found) > LONGEST_ANSWER:
            raise Unavailable(
                f"{self.url} answers with more than {LONGEST_ANSWER:,} bytes, so it is not nats-sqs-bridge"
            )
        return answer.status, *_document(found)


STRANGE = "{url} answers, but it is not nats-sqs-bridge, or is another version of it"


def _shut(connected: socket.socket, late: Event) -> None:
    late.set()
    with suppress(OSError):  # closed meanwhile
        connected.shutdown(socket.SHUT_RDWR)


def _document(answer: bytes) -> tuple[dict[str, Any], str]:
    try:
        found = json.loads(answer)
    except (ValueError, RecursionError):
        first = answer[:400].decode(errors="replace").strip().partition("\n")[0].strip()
        return {}, "" if not first or first.startswith("<") else f": {plain(first)[:200]}"
    return (found, "") if isinstance(found, dict) else ({}, "")


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _who() -> str:
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (OSError, KeyError, ImportError):  # a container's user may have no name
        return socket.gethostname()


def find(path: Path | None, environ: Mapping[str, str], url: str, token_file: Path | None) -> Running:
    """The daemon the configuration describes; `url` and `token_file` win, and given both no configuration is read.
    Raises ConfigError."""
    without = f"--url {url or SOMEWHERE} with --token-file FILE needs no file"
    config = _config(path, environ, without) if not (url and token_file) else None
    if url and not _is_url(url):
        raise ConfigError(f"{url} is not a URL", hint="for example http://127.0.0.1:9108")
    file = token_file or (config.http.token_file if config is not None else None)
    return Running(url.rstrip("/") or _url(config), None if file is None else read_token(file))


def locate(path: Path | None, environ: Mapping[str, str], url: str) -> Running:
    """The same for reading only: no token is read, and with `url` no configuration. Raises ConfigError."""
    if url and not _is_url(url):
        raise ConfigError(f"{url} is not a URL", hint="for example http://127.0.0.1:9108")
    return Running(url.rstrip("/") or _url(_config(path, environ, f"--url {SOMEWHERE} needs no file")))


def _config(path: Path | None, environ: Mapping[str, str], without: str) -> Config:
    """The daemon keeps running when its file is broken, so the error adds how to do without the file: `without`."""
    try:
        return load(path, environ)
    except ConfigError as error:
        raise ConfigError(str(error.args[0]), hint="; ".join(filter(None, (error.hint, without)))) from error


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # the port is not a number, or a bracket is not closed
        return False


def _url(config: Config | None) -> str:
    assert config is not None
    if config.http.port == 0:
        raise ConfigError(
            "http.port is 0, so the port of the daemon is unknown", hint="its log shows the URL; pass it as --url"
        )
    host = EVERYWHERE.get(config.http.host, config.http.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{config.http.port}"


def act(running: Running, action: Action, route: str) -> int:
    answer = running.post(f"/routes/{quote(route, safe='')}/{action}")
    say(f"{route} is {plain(str(answer.get('state')))}: {plain(str(answer.get('message')))}")
    return 0


def reload(running: Running) -> int:
    say(f"reloaded: {plain(str(running.post('/reload', seconds=RELOAD_SECONDS).get('message')))}")
    return 0


def drain(running: Running, route: str, *, wait: bool) -> int:
    """With `wait`, returns 0 once the route is drained, and 1 when the drain ended another way."""
    act(running, "drain", route)
    if not wait:
        return 0
    try:
        return _follow(running, route)
    except KeyboardInterrupt:
        say(f"the drain continues in the daemon; /status shows it, and nats-sqs-bridge resume {route} ends it")
        return 1


def _follow(running: Running, route: str) -> int:
    shown, missed = "", 0
    while True:
        try:
            found = running.route(route)
            missed = 0
        except BridgeError:
            missed += 1
            if missed == MISSED:
                raise
            time.sleep(POLL_SECONDS)
            continue
        if found is None:
            raise Failed(f"there is no route {route} any more; a reload has removed it")
        state, progress, troubles = str(found.get("state")), found.get("drain"), found.get("trouble")
        message = str(progress.get("message", "")) if isinstance(progress, dict) else ""
        trouble = "; ".join(map(str, _listed(troubles)))
        line = plain(f"{state}: {message}" + (f" ({trouble})" if trouble else ""))
        if line != shown:
            say(line)
            shown = line
        if state == "drained":
            return 0
        if not progress or state in ("paused", "pausing", "stopping", "stopped"):
            raise Failed(f"the drain has ended before the source was empty: {route} is {state}")
        time.sleep(POLL_SECONDS)
