"""One supervised NATS connection: opened when needed, reopened when the client closed for good, never in clear text
when TLS is required. Requests in bulk (`Replies`) and the JetStream API as JSON (`api`).

May not: know a route, log, or let an error of nats-py out. What an operator should know goes to `notice`.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from nats import errors
from nkeys import NkeysError

from bridge.core.advice import those_here
from bridge.core.errors import BridgeError, NotUsable, Unavailable
from bridge.legs.answers import Answer, api_answer, api_error
from bridge.legs.keys import KeyedClient, NoKey
from bridge.legs.replies import Replies
from bridge.legs.wire import NO_RESPONDERS, Headers, Reply, WireClient, status_of

__all__ = ["Headers", "NatsConnection", "NatsOptions", "Replies", "Tls", "place_of", "stream_info"]

API_SECONDS = 5.0
MOST_BYTES = 2**63
PING_SECONDS = 3.0  # how often the server is asked for a sign of life
SILENT_SECONDS = 10  # a server that has sent nothing for so long is left, ping answers included
CLOSE_SECONDS = 2.0  # how long a client may take to send what is left, and to close


@dataclass(frozen=True, slots=True)
class Tls:
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    required: bool = False
    first: bool = False

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
    api_prefix: str | None = None
    max_payload: int | None = None
    inbox_prefix: str = "_INBOX"
    connect_timeout: float = 5.0

    @property
    def hosts(self) -> str:
        """The servers as an operator may see them, without the secrets a URL may hold."""
        return ", ".join(server.rpartition("@")[2].rpartition("//")[2] for server in self.servers)


class NatsConnection:
    """`live()` gives a connected client or raises. `generation` changes when subscriptions must be made again."""

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
        self._watching: asyncio.Task[None] | None = None
        self._leaving: set[asyncio.Task[None]] = set()
        self._last_error = self._refusal = ""
        self._errors = 0
        self._answered = False  # whether JetStream has ever answered here
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
        """The limit on headers and payload together, in bytes: the server's, or the smaller one of a server on the way
        to the stream, where one is set; 0 before the first connection."""
        if self._client is None:
            return 0
        return min(int(self._client.max_payload), self.options.max_payload or MOST_BYTES)

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
                self._watching = asyncio.create_task(self._watch(self._client), name=f"watch {self.name}")
        if not self._client.is_connected:
            reason = self._last_error or "no server"
            raise Unavailable(f"NATS connection {self.name} ({self.options.hosts}) is down, reconnecting: {reason}")
        return self._client

    def apart(self) -> NatsConnection:
        """Another connection to the same servers, with the same name. The caller closes it."""
        return NatsConnection(self.options, name=self.name, notice=self._notice)

    async def close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
        if self._leaving:
            await asyncio.wait(self._leaving)
        client, self._client = self._client, None
        if client is not None:
            self._notice = _silent  # its closing need not be reported
            await _close(client)

    async def _watch(self, client: WireClient) -> None:
        """Leaves a server that went silent (power lost, process frozen, packets dropped): no reset ever comes, and
        nats-py waits for the dead connection to take what is unsent. Counted in turns of this loop, not by a clock:
        after this process itself was frozen, what the server sent meanwhile is read first."""
        seen, silent, was = -1, 0, ""
        while client is self._client and not client.is_closed:
            await asyncio.sleep(1.0)
            if client.is_connected:
                was = str(client.connected_url.hostname)
            signs = client.chunks + self._errors  # while it reconnects, each attempt that fails is a sign of life
            silent = silent + 1 if signs == seen else 0
            seen = signs
            if silent >= SILENT_SECONDS:
                self._leave(client, was)
                return

    def _leave(self, client: WireClient, host: str) -> None:
        if self._client is client:
            self._client = None  # the next call opens another
            self._last_error = f"{host} went silent"
            self._notice("disconnected", f"{host} sent nothing for {SILENT_SECONDS} s, not even answers to pings")
        client.abort()
        self.replies.give_up()
        leaving = asyncio.create_task(_close(client), name=f"leave {host}")
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)

    async def _open(self) -> WireClient:
        options, client = self.options, KeyedClient()
        client.tls_required = options.tls is not None and (options.tls.required or options.tls.first)
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
                    tls_handshake_first=options.tls is not None and options.tls.first,
                    inbox_prefix=options.inbox_prefix,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=0.5,
                    # A server that accepts the connection and says nothing must leave time for the others.
                    connect_timeout=options.connect_timeout / len(options.servers),
                    ping_interval=PING_SECONDS,
                    max_outstanding_pings=1_000,  # `_watch` leaves a silent server
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
                        hint="check that each file named under nats contains what its key requires",
                    ) from error
                case _:
                    raise
        version = str(client.connected_server_version).strip("<>")
        self._notice("connected", f"{client.connected_url.hostname} {version}")
        return client

    async def api(self, call: str, request: Mapping[str, Any] | None = None, *, missing: str = "") -> Answer:
        """One JetStream API call, as `STREAM.INFO.orders`; the answer as the server gave it.

        `missing` is the hint when what was asked for does not exist. Answers that are not from JetStream are ignored.
        Source: ADR-1 (wire API), ADR-8 (domains).
        """
        subject = self.api_subject(call)
        (answer,) = await self.ask_api([(subject, request)])
        if answer is None:
            if denied := self.denied(subject):
                raise NotUsable(denied, hint=f"allow this user to publish {subject} and subscribe to its inbox")
            raise Unavailable(f"no answer from JetStream to {subject} within {API_SECONDS:g} s")
        if isinstance(answer, Reply):
            raise self._nothing_there(subject)
        self._answered = True
        if answer.get("error") is not None:
            raise api_error(answer.part("error"), subject, missing=missing)
        return answer

    def _nothing_there(self, subject: str) -> BridgeError:
        """The API has no responder: a lost link or a JetStream without a leader looks the same as a wrong setting, but
        not after it has answered once."""
        if self._answered:
            where = f"domain {self.options.domain}" if self.options.domain else "this account"
            hint = f"the way to JetStream of {where} is down: check its leaf node links and its servers"
            return Unavailable(f"JetStream answered before and nothing answers {subject} now", hint=hint)
        hint = "is JetStream on for this account? on a leaf node set nats.domain"
        if self.options.domain:
            hint = "is nats.domain right, and is the leaf node's link up?"
        error = NotUsable(f"nothing answers {subject}", hint=hint)
        error.outage = True
        return error

    async def ask_api(
        self, calls: Sequence[tuple[str, Mapping[str, Any] | None]], seconds: float | None = None
    ) -> list[Answer | Reply | None]:
        """Many calls at once, each with the whole subject of the API. A Reply means that there is no responder; None,
        that JetStream did not answer within so many seconds, API_SECONDS by default."""

        def read(at: int, block: bytes, payload: bytes) -> Answer | Reply | None:
            if block:
                return Reply(b"", NO_RESPONDERS) if status_of(block)[0] == NO_RESPONDERS else None
            return api_answer(payload, calls[at][0])

        requests = [(subject, json.dumps(body).encode() if body else b"", b"") for subject, body in calls]
        return await self.replies.ask_for(requests, seconds or API_SECONDS, read)

    def api_subject(self, call: str) -> str:
        """The subject of an API call, as the domain or the importing account has it."""
        return f"{self._prefix}.{call}"

    def store_subject(self, subject: str) -> str:
        """Where to publish for a subject of a Key-Value bucket: `$KV.` itself does not cross a leaf node's link, but
        the API's prefix of a domain does. Source: nats-server, server/jetstream_api.go (generateJSMappingTable)."""
        options = self.options
        return f"{self._prefix}.{subject}" if options.domain or options.api_prefix else subject

    @property
    def js_options(self) -> dict[str, str]:
        """For nats-py's own JetStream context."""
        return {"prefix": self._prefix}

    @property
    def _prefix(self) -> str:
        options = self.options
        return options.api_prefix or (f"$JS.{options.domain}.API" if options.domain else "$JS.API")

    def report(self, text: str) -> None:
        """Something an operator should know that does not stop the connection."""
        self._notice("error", text)

    def denied(self, subject: str) -> str | None:
        """The server's error when it denied us `subject`, or None. No reply comes then."""
        quoted = f'"{subject}"'.lower()
        return next((text for text in reversed(self._denied) if quoted in text.lower()), None)

    async def _on_error(self, error: Exception) -> None:
        text = str(error) or type(error).__name__
        self._last_error = text
        self._errors += 1
        if _is_refusal(text):
            self._refusal = text  # the next attempt may only see a reset, and this is the cause an operator needs
        if "permissions violation" in text.lower():
            self._denied.append(text)
        self._notice("error", text)

    async def _on_disconnected(self) -> None:
        # What was asked on the lost connection is not answered on the next one.
        self.replies.give_up()
        if self._client is not None:
            self._client.end_pulls()
        self._notice("disconnected", self._last_error)

    async def _on_reconnected(self) -> None:
        self._denied.clear()
        self._notice("reconnected", "")

    async def _on_closed(self) -> None:
        self._notice("closed", self._last_error)


async def stream_info(nats: NatsConnection, stream: str) -> Answer:
    """About a stream that others create. Raises NotUsable that lists the existing streams."""
    try:
        return await nats.api(f"STREAM.INFO.{stream}")
    except NotUsable as error:
        if error.hint:
            raise
        names = (await nats.api("STREAM.NAMES")).texts("streams")
        raise NotUsable(str(error.args[0]), hint=those_here("streams", names)) from error


def place_of(info: Answer) -> str:
    """A globally unique name of a stream: its name and the time of its creation."""
    return f"jetstream:{info.part('config').text('name')}@{info.text('created')}"


def _is_refusal(text: str) -> bool:
    """Whether the server rejected us, as opposed to being unreachable."""
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
    """The files a connection uses: one of them is invalid, and the library does not say which."""
    tls = options.tls or Tls()
    named = (options.credentials_file, options.nkey_seed_file, tls.ca_file, tls.cert_file, tls.key_file)
    return ", ".join(name for name in named if name)


def _silent(event: str, detail: str) -> None:
    """For callers that want no notices."""


async def _close(client: WireClient) -> None:
    # Not drain(): it can hang on a subscription that still holds messages. A client that never began to connect,
    # because of an invalid file, raises an AssertionError.
    with suppress(errors.Error, OSError, TimeoutError, asyncio.InvalidStateError, AssertionError):
        async with asyncio.timeout(CLOSE_SECONDS):
            await client.close()
    client.abort()
