"""NATS on the wire: nats-py's client with a parser that hands messages on at once, and with header blocks as they are.

nats-py gives each message a Msg, a place in a queue and a turn of a task. Here a subscription may have a sink instead,
a function called from the parser. All that is no message (INFO, PING, errors) is left to nats-py, whose minor version
is pinned for it. May not: know JetStream, or wait in a sink.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nats import errors
from nats.aio.client import Client
from nats.protocol.parser import AWAITING_CONTROL_LINE, Parser

Sink = Callable[[str, str, bytes, bytes], None]
"""Takes subject, reply subject, header block (empty for none) and payload."""

Request = tuple[str, str, bytes, bytes]
"""Subject, reply subject, header block or nothing, payload."""

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
    """Code and description of the server's own word, as `NATS/1.0 503 No Responders`; empty for a message's headers."""
    if len(block) <= _STATUS_LINE or block[_STATUS_LINE] != ord(" "):
        return "", ""
    code, _, text = block[_STATUS_LINE + 1 : block.find(b"\r\n")].decode("utf-8", "replace").strip().partition(" ")
    return code, text.strip()


@dataclass(slots=True)
class Reply:
    """What came to a reply subject. `status` is the server's own word in place of an answer, 503 for nobody there."""

    data: bytes
    status: str = ""


class _Parser(Parser):  # type: ignore[misc]  # nats-py ships no types
    """Reads whole messages by itself; anything else, and what is half here, is nats-py's."""

    buf: bytearray

    def __init__(self, client: WireClient) -> None:
        super().__init__(client)
        self._wanted = 0

    def reset(self) -> None:
        super().reset()
        self._wanted = 0  # bytes that must be here before the first message of `buf` is whole

    async def parse(self, data: bytes = b"") -> None:
        if self.state != AWAITING_CONTROL_LINE or len(self.buf) + len(data) < self._wanted:
            self.buf += data
            if self.state != AWAITING_CONTROL_LINE:
                await super().parse(b"")
            return
        if self.buf:
            data = bytes(self.buf) + data
        self._wanted = at = 0
        sinks = self.nc.sinks
        while (end := data.find(b"\r\n", at)) >= 0:
            words = data[at:end].split()
            kind = words[0] if words else b""
            if kind != b"HMSG" and kind != b"MSG":
                self.buf = bytearray(data[at:])
                await super().parse(b"")
                return
            try:
                header = int(words[-2]) if kind == b"HMSG" else 0
                sid, size = int(words[2]), int(words[-1])
            except (ValueError, IndexError):
                raise errors.ProtocolError("nats: malformed MSG") from None
            start = end + 2
            if len(data) < start + size + 2:
                self._wanted = start + size + 2 - at
                break
            reply = words[3] if len(words) == (6 if header else 5) else b""
            block, payload = data[start : start + header], data[start + header : start + size]
            at = start + size + 2
            if sink := sinks.get(sid):
                try:
                    sink(words[1].decode(), reply.decode(), block, payload)
                except Exception as error:  # noqa: BLE001 - as with a callback, what fails must not stop the reading
                    await self.nc.failed(error)
            else:
                self.buf = bytearray(data[at:])
                mine = self.buf
                await self.nc._process_msg(sid, words[1], reply, payload, block)  # noqa: SLF001 - as its parser does
                if self.buf is not mine:
                    return  # the connection was made anew meanwhile
        self.buf = bytearray(data[at:])


class WireClient(Client):  # type: ignore[misc]  # nats-py ships no types
    """nats-py's client. `tls_required`: it never speaks to a server in clear text."""

    tls_required = False

    def __init__(self) -> None:
        super().__init__()
        self.sinks: dict[int, Sink] = {}
        self._ps = _Parser(self)

    async def listen(self, subject: str, sink: Sink) -> None:
        """A subscription for the life of this client, reconnects included, whose messages go to `sink`."""
        found = await self.subscribe(subject)
        self.sinks[found._id] = sink  # noqa: SLF001 - it has no public name

    def has_room(self, requests: Sequence[Request]) -> bool:
        """Whether `send` would hand these to the operating system without waiting for anything."""
        size = sum([len(subject) + len(block) + len(payload) for subject, _, block, payload in requests])
        return int(self.pending_data_size) + 2 * size < _ROOM

    async def send(self, requests: Iterable[Request]) -> None:
        """Publishes them in as few writes as can be. nats-py's own `publish` takes one value for a header name, and
        changes values."""
        if self.is_closed:
            raise errors.ConnectionClosedError
        parts: list[bytes] = []
        size = 0
        for subject, reply, block, payload in requests:
            total = len(block) + len(payload)
            sizes = f"{len(block)} {total}" if block else f"{total}"
            line = f"{'HPUB' if block else 'PUB'} {subject} {reply} {sizes}\r\n"
            parts += (line.encode(), block, payload, b"\r\n")
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

    async def failed(self, error: Exception) -> None:
        """A sink failed."""
        await self._error_cb(error)

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        if sink := self.sinks.get(sid):
            try:
                sink(subject.decode(), reply.decode(), headers or b"", data)
            except Exception as error:  # noqa: BLE001
                await self.failed(error)
        else:
            await super()._process_msg(sid, subject, reply, data, headers)

    async def _process_headers(self, headers: bytes) -> Mapping[str, str] | None:
        if not headers or headers[_STATUS_LINE] == ord(" "):
            found: Mapping[str, str] | None = await super()._process_headers(headers)  # a status of the server's
            return found
        return Headers.parse(headers)

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        # Called before CONNECT carries our credentials. nats-py connects in clear text when the server offers no
        # TLS, whatever the URL says and whatever context it was given.
        if initial_connection and self.tls_required and not info.get("tls_required"):
            raise errors.Error("nats: tls.required is set and the server offers no TLS")
        await super()._process_info(info, initial_connection=initial_connection)
