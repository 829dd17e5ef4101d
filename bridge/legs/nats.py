"""One supervised NATS connection: opened when needed, rebuilt when the client closed for good, never in clear text when
TLS is required. Requests in bulk (`Replies`) and the JetStream API as JSON (`api`).

May not: know a route, log, or let an error of nats-py out. What a human should hear goes to `notice`.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from base64 import urlsafe_b64encode
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from nats import errors
from nkeys import NkeysError

from bridge.core.advice import those_here
from bridge.core.errors import BridgeError, NotUsable, Unavailable
from bridge.legs.answers import Answer, api_answer, api_error
from bridge.legs.keys import KeyedClient, NoKey
from bridge.legs.wire import NOBODY, Headers, Reply, WireClient, status_of

__all__ = ["Headers", "NatsConnection", "NatsOptions", "Replies", "Tls", "place_of", "stream_info"]

T = TypeVar("T")

API_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Tls:
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    required: bool = False

    def context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.cert_file:
            context.load_cert_chain(self.cert_file, self.key_file)
        return context


@dataclass(frozen=True, slots=True)
class NatsOptions:
    """How to reach one NATS system. At most one way to authenticate is set; `connect_timeout` is in seconds."""

    servers: tuple[str, ...] = field(repr=False)  # a URL may hold a password
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    credentials_file: str | None = None
    nkey_seed_file: str | None = None
    tls: Tls | None = None
    domain: str | None = None
    inbox_prefix: str = "_INBOX"
    connect_timeout: float = 5.0

    @property
    def hosts(self) -> str:
        """The servers as a human may read them, without what a URL may hold besides."""
        return ", ".join(server.rpartition("@")[2].rpartition("//")[2] for server in self.servers)


class NatsConnection:
    """`live()` gives a connected client or raises. `generation` changes when subscriptions must be made anew."""

    def __init__(
        self, options: NatsOptions, *, name: str = "default", notice: Callable[[str, str], None] | None = None
    ) -> None:
        self.options = options
        self.name = name
        self.generation = 0
        self.replies = Replies(self)
        self._notice = notice or _silent
        self._client: WireClient | None = None
        self._opening = asyncio.Lock()
        self._last_error = self._refusal = ""
        self._denied: deque[str] = deque(maxlen=64)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def is_connected(self) -> bool:
        return self._client is not None and bool(self._client.is_connected)

    @property
    def max_payload(self) -> int:
        """What the server takes of headers and payload together, in bytes; 0 while it was not asked yet."""
        return int(self._client.max_payload) if self._client is not None else 0

    async def live(self) -> WireClient:
        """Raises Unavailable while the connection is down, NotUsable when the server or a file refuses us."""
        client = self._client
        if client is not None and client.is_connected:
            return client
        async with self._opening:
            # A client that closed for good never comes back: nats-py closes on most -ERR lines, reconnects or not.
            if self._client is None or self._client.is_closed:
                self._client = await self._open()
                self.generation += 1
        if not self._client.is_connected:
            reason = self._last_error or "no server"
            raise Unavailable(f"NATS connection {self.name} ({self.options.hosts}) is down, reconnecting: {reason}")
        return self._client

    def apart(self) -> NatsConnection:
        """Another connection to the same place, with the same name. Who asks for it closes it."""
        return NatsConnection(self.options, name=self.name, notice=self._notice)

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            self._notice = _silent  # that it closes is no news
            await _close(client)

    async def _open(self) -> WireClient:
        options, client = self.options, KeyedClient()
        client.tls_required = options.tls is not None and options.tls.required
        self._last_error, self._refusal = "", ""
        try:
            async with asyncio.timeout(options.connect_timeout):
                await client.connect(
                    servers=list(options.servers),
                    name=f"nats-sqs-bridge/{self.name}",
                    user=options.user,
                    password=options.password,
                    token=options.token,
                    user_credentials=options.credentials_file,
                    nkeys_seed=options.nkey_seed_file,
                    tls=options.tls.context() if options.tls else None,
                    inbox_prefix=options.inbox_prefix,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=0.5,
                    connect_timeout=options.connect_timeout,
                    ping_interval=10,
                    error_cb=self._on_error,
                    disconnected_cb=self._on_disconnected,
                    reconnected_cb=self._on_reconnected,
                    closed_cb=self._on_closed,
                )
        except BaseException as error:
            await _close(client)
            match error:
                case TimeoutError() | errors.Error() if not isinstance(error, NoKey):
                    # max_reconnect_attempts=-1 makes connect() try until the timeout; the cause went to error_cb.
                    raise _connect_error(self._refusal or self._last_error or str(error), self) from None
                case NoKey() | OSError() | ValueError() | NkeysError():  # unreadable credentials, seed or certificate
                    raise NotUsable(
                        f"NATS connection {self.name}: {_files(options)}: {error}",
                        hint="check that the files named under nats hold what their keys say",
                    ) from error
                case _:
                    raise
        version = str(client.connected_server_version).strip("<>")
        self._notice("connected", f"{client.connected_url.hostname} {version}")
        return client

    async def api(self, call: str, request: Mapping[str, Any] | None = None, *, missing: str = "") -> Answer:
        """One JetStream API call, as `STREAM.INFO.orders`; the answer as the server gave it.

        `missing` is the hint when what was asked for does not exist. What others than JetStream answer is left aside.
        Source: ADR-1 (wire API), ADR-8 (domains).
        """
        subject = self.api_subject(call)
        (answer,) = await self.ask_api([(subject, request)])
        if answer is None:
            if denied := self.denied(subject):
                raise NotUsable(denied, hint=f"allow this user to publish {subject} and subscribe to its inbox")
            raise Unavailable(f"no answer from JetStream to {subject} within {API_SECONDS:g} s")
        if isinstance(answer, Reply):
            hint = "is JetStream on for this account? on a leaf node set nats.domain"
            hint = "wrong nats.domain?" if self.options.domain else hint
            raise NotUsable(f"nothing answers {subject}", hint=hint)
        if answer.get("error") is not None:
            raise api_error(answer.part("error"), subject, missing=missing)
        return answer

    async def ask_api(self, calls: Sequence[tuple[str, Mapping[str, Any] | None]]) -> list[Answer | Reply | None]:
        """Many calls at once, each with the whole subject of the API. A Reply says that nobody is there; None, that
        JetStream did not answer."""

        def read(at: int, block: bytes, payload: bytes) -> Answer | Reply | None:
            if block:
                return Reply(b"", NOBODY) if status_of(block)[0] == NOBODY else None
            return api_answer(payload, calls[at][0])

        requests = [(subject, json.dumps(body).encode() if body else b"", b"") for subject, body in calls]
        return await self.replies.ask_for(requests, API_SECONDS, read)

    def api_subject(self, call: str) -> str:
        """The subject of an API call, as the domain has it."""
        domain = self.options.domain
        return f"$JS.{domain}.API.{call}" if domain else f"$JS.API.{call}"

    def report(self, text: str) -> None:
        """Something a human should hear that stops nothing."""
        self._notice("error", text)

    def denied(self, subject: str) -> str | None:
        """What the server said when it refused us `subject`, or None. No reply comes then."""
        quoted = f'"{subject}"'.lower()
        return next((text for text in reversed(self._denied) if quoted in text.lower()), None)

    async def _on_error(self, error: Exception) -> None:
        text = str(error) or type(error).__name__
        self._last_error = text
        if _is_refusal(text):
            self._refusal = text  # the next attempt may end in a mere reset, and this is what a human must hear
        if "permissions violation" in text.lower():
            self._denied.append(text)
        self._notice("error", text)

    async def _on_disconnected(self) -> None:
        self._notice("disconnected", self._last_error)

    async def _on_reconnected(self) -> None:
        self._denied.clear()
        self._notice("reconnected", "")

    async def _on_closed(self) -> None:
        self._notice("closed", self._last_error)


Read = Callable[[int, bytes, bytes], T]
"""Told which request is answered, and the header block and payload of what came. None: whoever sent that is not who was
asked, and the answer is still awaited. May not raise."""

Confirm = Callable[[list[int]], Awaitable[Sequence[int]]]
"""Given the requests that were answered with 503; those of them that may be answered all the same."""


@dataclass(slots=True)
class _Asked(Generic[T]):
    read: Read[T]
    answers: list[T | None]
    missing: int
    done: asyncio.Future[None]
    nobody: dict[int, T] = field(default_factory=dict)
    late: bool = False

    def arrived(self, at: int, block: bytes, payload: bytes) -> bool:
        """Whether it was the answer."""
        answer = self.read(at, block, payload)
        if answer is None:
            return False
        if block and status_of(block)[0] == NOBODY:
            # The server's word comes at once, but anybody may send it: what comes later from who was asked counts.
            self.nobody.setdefault(at, answer)
        else:
            self.answers[at] = answer
            self.missing -= 1
            self.nobody.pop(at, None)
        if self.missing <= len(self.nobody):
            self.end()
        return at not in self.nobody

    def end(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def too_late(self) -> None:
        """What has not come by now does not count any more."""
        self.late = True
        self.end()

    def wait_on(self, places: Sequence[int]) -> asyncio.Future[None]:
        for at in places:
            self.nobody.pop(at, None)
        self.done = asyncio.get_running_loop().create_future()
        if self.late or self.missing <= len(self.nobody):
            self.end()
        return self.done


class Replies:
    """Requests in bulk: one wildcard inbox for all of them and one future per batch, where nats-py's own request takes
    a task, a future and a timer for each message. Each request has a reply subject of its own that nobody can guess,
    and only what comes to exactly that subject is an answer: who may see one request cannot answer another."""

    def __init__(self, connection: NatsConnection) -> None:
        self._connection = connection
        self._waiting: dict[str, tuple[_Asked[Any], int]] = {}
        self._prefix = ""
        self._generation = 0

    async def ask(self, requests: Sequence[tuple[str, bytes, bytes]], timeout: float) -> list[Reply | None]:
        """`ask_for` where whatever comes is the answer."""
        return await self.ask_for(requests, timeout, _as_it_came)

    async def ask_for(
        self,
        requests: Sequence[tuple[str, bytes, bytes]],
        timeout: float,
        read: Read[T],
        confirm: Confirm | None = None,
    ) -> list[T | None]:
        """Each request is (subject, payload, header block or nothing). What `read` made of each answer, in order; None
        where none came within `timeout` seconds: what was asked may have been done all the same. A 503, nobody is
        there, gives way to an answer; `confirm` is asked before it counts. Raises what `live()` and `confirm` raise."""
        client = await self._connection.live()
        if self._generation != self._connection.generation:
            self._generation, inbox = self._connection.generation, client.new_inbox()
            self._prefix = f"{inbox}."
            await client.listen(f"{inbox}.*", self._arrived)
        if not requests:
            return []
        loop, waiting, prefix = asyncio.get_running_loop(), self._waiting, self._prefix
        asked: _Asked[T] = _Asked(read, [None] * len(requests), len(requests), loop.create_future())
        tokens = urlsafe_b64encode(os.urandom(12 * len(requests))).decode()  # 16 characters each
        messages = []
        for place, (subject, payload, block) in enumerate(requests):
            reply = prefix + tokens[16 * place : 16 * place + 16]
            waiting[reply] = asked, place
            messages.append((subject, reply, block, payload))
        # Not asyncio.timeout, which costs ten times a timer: only a write that waits for room needs what it does.
        timer = loop.call_later(timeout, asked.too_late)
        try:
            if client.has_room(messages):
                await client.send(messages)
            else:
                async with asyncio.timeout(timeout):
                    await client.send(messages)
            await asked.done
            if asked.nobody and confirm is not None:
                await asked.wait_on(await confirm(list(asked.nobody)))
        except (TimeoutError, errors.Error, OSError):
            pass  # the answers that did come count; the rest stay None
        finally:
            timer.cancel()
            if asked.missing:
                for _, reply, _, _ in messages:
                    waiting.pop(reply, None)
        for at, answer in asked.nobody.items():
            asked.answers[at] = answer
        return asked.answers

    def _arrived(self, subject: str, _: str, block: bytes, payload: bytes) -> None:
        found = self._waiting.get(subject)
        if found is not None:  # else it is too late, or a guess
            asked, at = found
            if asked.arrived(at, block, payload):
                self._waiting.pop(subject, None)


def _as_it_came(_: int, block: bytes, payload: bytes) -> Reply:
    return Reply(payload, status_of(block)[0] if block else "")


async def stream_info(nats: NatsConnection, stream: str) -> Answer:
    """About a stream others make. Raises NotUsable that says which streams there are instead."""
    try:
        return await nats.api(f"STREAM.INFO.{stream}")
    except NotUsable as error:
        if error.hint:
            raise
        names = (await nats.api("STREAM.NAMES")).texts("streams")
        raise NotUsable(str(error.args[0]), hint=those_here("streams", names)) from error


def place_of(info: Answer) -> str:
    """A stream's name as no other stream in the world has it: made of its name and the moment of its creation."""
    return f"jetstream:{info.part('config').text('name')}@{info.text('created')}"


def _is_refusal(text: str) -> bool:
    """Whether the server turned us away, as against not being there."""
    return any(word in text.lower() for word in ("authorization", "authentication", "tls", "ssl", "certificate"))


def _connect_error(text: str, connection: NatsConnection) -> BridgeError:
    where = f"NATS connection {connection.name} ({connection.options.hosts})"
    lowered = text.lower()
    if "authorization" in lowered or "authentication" in lowered:
        return NotUsable(f"{where}: {text}", hint="check the user, token, credentials or nkey under nats")
    if "tls" in lowered or "ssl" in lowered or "certificate" in lowered:
        return NotUsable(f"{where}: {text}", hint="check nats.tls and the scheme of nats.servers")
    key = "nats.servers" if connection.name == "default" else f"connections.{connection.name}.servers"
    hint = f"start nats-server, or fix {key}"
    return Unavailable(f"{where}: {text or 'no server answered in time'}", hint=hint)


def _files(options: NatsOptions) -> str:
    """The files a connection is made with, as one of them is at fault and the library does not say which."""
    tls = options.tls or Tls()
    named = (options.credentials_file, options.nkey_seed_file, tls.ca_file, tls.cert_file, tls.key_file)
    return ", ".join(name for name in named if name)


def _silent(event: str, detail: str) -> None:
    """For whoever does not want to hear."""


async def _close(client: WireClient) -> None:
    # Not drain(): it can hang on a subscription that still holds messages. A client that never began to connect, for a
    # file was wrong, answers with an AssertionError.
    with suppress(errors.Error, OSError, asyncio.InvalidStateError, AssertionError):
        await client.close()
