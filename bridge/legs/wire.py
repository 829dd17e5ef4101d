"""NATS on the wire: nats-py's client with a parser that hands messages on at once, and with header blocks as they are.

nats-py makes a Msg, a queue entry and a task switch for each message. Here a subscription may have a sink instead, a
function called from the parser. Everything that is not a message (INFO, PING, errors) is left to nats-py, whose minor
version is pinned for this. May not: know JetStream, or wait in a sink.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from nats import errors
from nats.aio.client import Client
from nats.protocol.parser import Parser

Sink = Callable[[str, str, bytes, bytes], None]
"""Takes subject, reply subject, header block (empty for none) and payload."""

Request = tuple[str, str, bytes, bytes]
"""Subject, reply subject, header block or nothing, payload."""

NO_RESPONDERS = "503"  # the server's status for a subject without responders
LOST = ("408", "the connection was lost")  # the status of a pull whose connection is gone: it may be made again
_ROOM = 1_048_576  # bytes not written yet, half of what nats-py keeps before a write waits
_STATUS_LINE = len("NATS/1.0")
_PIECE = 262_144  # bytes handed to the client at a time: it pushes back at 2 MiB


class Headers(dict[str, str]):
    """The headers of one message. As a dict it has the first value of each name; `pairs` has all of them in wire order.

    nats-py keeps only the last value of a repeated name and drops some names (2.16, `_parse_header_lines`).
    """

    pairs: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, block: bytes) -> Headers:
        """`block` is the header block from `NATS/1.0` to the blank line."""
        pairs = header_pairs_of(block)
        headers = cls(reversed(pairs))
        headers.pairs = pairs
        return headers


def header_pairs_of(block: bytes) -> tuple[tuple[str, str], ...]:
    """Names and values in wire order. Bytes that are not UTF-8 become lone surrogates, so that nothing is lost.
    Source: ADR-4."""
    pairs = []
    for line in block.decode("utf-8", "surrogateescape").split("\r\n")[1:]:
        name, colon, value = line.partition(":")
        if colon:
            pairs.append((name, value.strip(" \t")))
    return tuple(pairs)


def status_of(block: bytes) -> tuple[str, str]:
    """Code and description of a server status, as `NATS/1.0 503 No Responders`; empty for a message's headers."""
    if len(block) <= _STATUS_LINE or block[_STATUS_LINE] != ord(" "):
        return "", ""
    code, _, text = block[_STATUS_LINE + 1 : block.find(b"\r\n")].decode("utf-8", "replace").strip().partition(" ")
    return code, text.strip()


@dataclass(slots=True)
class Reply:
    """What came to a reply subject. `status` is the server's status in place of an answer, 503 for no responders."""

    data: bytes
    status: str = ""


class _Parser(Parser):  # type: ignore[misc]  # nats-py ships no types
    """Reads what nats-server writes, by the server's own grammar: a control line ends with CR LF and is split at blanks
    and tabs, at nothing else. nats-py splits at every white space, and the server lets a publisher put `\\x0b`,
    `\\x0c`, a lone CR and bytes that are not UTF-8 into a subject: that publisher could choose the subscription.

    An error with one message is reported and affects no other; an invalid line raises ProtocolError, after which
    nats-py reconnects. Source: nats-server, server/client.go (msgHeader, processPub).
    """

    buf: bytearray
    chunks = 0  # reads from the socket so far: anything the server sent, answers to pings included
    _epoch = 0  # grows with each reconnect: unread bytes then belong to the old connection

    def reset(self) -> None:
        super().reset()
        self._wanted = 0  # bytes that must be here before the first message of `buf` is whole
        self._epoch += 1

    async def parse(self, data: bytes = b"") -> None:
        self.chunks += 1
        if self.buf:
            if len(self.buf) + len(data) < self._wanted:
                self.buf += data
                return
            data = bytes(self.buf) + data
        self._wanted = at = 0
        sinks, epoch, find = self.nc.sinks, self._epoch, data.find
        odd = b"\t" in data  # nats-server writes one blank between two words: anything else takes the slower path
        while (end := find(b"\r\n", at)) >= 0:
            words = data[at:end].split(b" ") if not odd else _words(data[at:end])
            count = len(words)
            try:
                if words[0] == b"HMSG":
                    header, size, most = int(words[-2]), int(words[-1]), 6
                    if not 0 <= header <= size:
                        raise ValueError
                elif words[0] == b"MSG":
                    header, size, most = 0, int(words[-1]), 5
                else:
                    await self._told(words[0], data[at:end])
                    if epoch != self._epoch:
                        return
                    at = end + 2
                    continue
                if count == most:
                    reply = words[3]
                elif count == most - 1:
                    reply = b""
                else:
                    raise ValueError
                subject = words[1]
                if not subject or not words[-1].isdigit():
                    raise ValueError
                if (sink := sinks.get(words[2])) is None:
                    if not words[2].isdigit():
                        raise ValueError
                    number = int(words[2])
            except (ValueError, IndexError):
                if not odd:
                    odd = True
                    continue
                raise errors.ProtocolError("nats: malformed MSG") from None
            start = end + 2
            if len(data) < start + size + 2:
                self._wanted = start + size + 2 - at
                break
            at = start + size + 2
            block, payload = data[start : start + header], data[start + header : start + size]
            try:
                if sink is None:
                    await self.nc._process_msg(number, subject, reply, payload, block)  # noqa: SLF001
                    if epoch != self._epoch:
                        return
                else:
                    try:
                        to, back = subject.decode(), reply.decode()
                    except UnicodeDecodeError:
                        to = subject.decode("utf-8", "surrogateescape")
                        back = reply.decode("utf-8", "surrogateescape")
                    sink(to, back, block, payload)
            except Exception as error:  # noqa: BLE001 - as with a callback, a failure must not stop the reading
                await self.nc.failed(error)
                if epoch != self._epoch:
                    return
        self.buf = bytearray(data[at:])

    async def _told(self, kind: bytes, line: bytes) -> None:
        """A line from the server that is not a message."""
        client, text = self.nc, line[len(kind) :].strip(b" \t").decode("utf-8", "replace")
        try:
            match kind:
                case b"PING":
                    await client._process_ping()  # noqa: SLF001 - these four as its parser does
                case b"PONG":
                    await client._process_pong()  # noqa: SLF001
                case b"-ERR":
                    await client._process_err(text.lower())  # noqa: SLF001
                case b"INFO":
                    await client._process_info(json.loads(text))  # noqa: SLF001
                case b"+OK":
                    pass
                case _:
                    raise errors.ProtocolError("nats: unknown protocol")
        except (errors.ProtocolError, OSError):
            raise
        except Exception as error:
            # nats-py silently stops reading at any other error.
            raise errors.ProtocolError(f"nats: {kind.decode()}: {type(error).__name__}") from error


def _words(line: bytes) -> list[bytes]:
    """A control line as nats-server splits one."""
    words = line.replace(b"\t", b" ").split(b" ")
    return words[:1] + [word for word in words[1:] if word]


class _Tokens:
    """Names for inboxes that cannot be guessed. With nats-py's own, anyone who sees one knows all that follow."""

    def next(self) -> bytearray:
        return bytearray(secrets.token_hex(11), "ascii")  # 22 characters: nats-py relies on it


class WireClient(Client):  # type: ignore[misc]  # nats-py ships no types
    """nats-py's client. `tls_required`: it never speaks to a server in clear text."""

    tls_required = False

    def __init__(self) -> None:
        super().__init__()
        self.sinks: dict[bytes, Sink] = {}
        self.pulls: set[asyncio.Future[tuple[str, str]]] = set()
        self._ps = _Parser(self)
        self._nuid = _Tokens()

    @property
    def chunks(self) -> int:
        """How often the server has sent something."""
        return int(self._ps.chunks)

    async def listen(self, subject: str, sink: Sink) -> int:
        """A subscription whose messages go to `sink`, reconnects included, until `leave` or until the client closes.
        Returns its number."""
        number: int = (await self.subscribe(subject))._id  # noqa: SLF001 - it has no public name
        self.sinks[b"%d" % number] = sink
        return number

    async def leave(self, number: int) -> None:
        """Ends a subscription. Never raises: if the connection is gone, so is the subscription."""
        self.sinks.pop(b"%d" % number, None)
        if (found := self._subs.get(number)) is not None:
            with suppress(errors.Error, OSError):
                await found.unsubscribe()

    def has_room(self, requests: Sequence[Request]) -> bool:
        """Whether `send` would pass these to the operating system without waiting."""
        size = sum([len(subject) + len(block) + len(payload) for subject, _, block, payload in requests])
        return int(self.pending_data_size) + 2 * size < _ROOM

    async def send(self, requests: Iterable[Request]) -> None:
        """Publishes them in as few writes as possible. nats-py's own `publish` takes one value for a header name, and
        changes values."""
        if self.is_closed:
            raise errors.ConnectionClosedError
        parts: list[bytes] = []
        size = 0
        for subject, reply, block, payload in requests:
            total = len(block) + len(payload)
            sizes = f"{len(block)} {total}" if block else f"{total}"
            line = f"{'HPUB' if block else 'PUB'} {subject} {reply} {sizes}\r\n"
            parts += (line.encode("utf-8", "surrogateescape"), block, payload, b"\r\n")
            size += total
            if size > _PIECE:
                await self._write(parts)
                parts, size = [], 0
        if parts:
            await self._write(parts)

    async def _write(self, parts: list[bytes]) -> None:
        await self._send_command(b"".join(parts))
        if self._flush_queue is not None and self._flush_queue.empty():
            await self._flush_pending()

    def end_pulls(self) -> None:
        """The connection is lost, and with it every pull the server knew of: each ends as one that brought nothing."""
        for pull in self.pulls:
            if not pull.done():
                pull.set_result(LOST)
        self.pulls.clear()

    def abort(self) -> None:
        """Cuts the connection without sending what is unsent, and lets go whoever waits to send more. To close it would
        wait for a peer that reads nothing."""
        self.end_pulls()
        while self._flush_queue is not None and not self._flush_queue.empty():
            if not (waiting := self._flush_queue.get_nowait()).done():
                waiting.set_result(None)
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()

    async def _flush_pending(self, force_flush: bool = False) -> Any:
        # The flusher of a client that is left behind never empties its queue, and whoever waits for room in it waits
        # for ever. A full queue will be flushed anyway.
        if self._flush_queue is not None and self._flush_queue.full():
            return None
        return await super()._flush_pending(force_flush)

    async def failed(self, error: Exception) -> None:
        """A sink failed."""
        await self._error_cb(error)

    async def _process_headers(self, headers: bytes) -> Mapping[str, str] | None:
        if not headers or headers[_STATUS_LINE : _STATUS_LINE + 1] == b" ":
            found: Mapping[str, str] | None = await super()._process_headers(headers)  # a status from the server
            return found
        return Headers.parse(headers)

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        # Called before CONNECT carries our credentials. nats-py connects in clear text when the server offers no
        # TLS, whatever the URL says and whatever context it was given.
        if initial_connection and self.tls_required and not info.get("tls_required"):
            raise errors.Error("nats: tls.required is set and the server offers no TLS")
        await super()._process_info(info, initial_connection=initial_connection)
