"""The part of HTTP/1.1 that SQS needs: one POST at a time on a kept connection, over TCP or TLS.

One call of SQS carries ten messages, and through a general client it costs more than everything else done for them.
May not: follow a redirect, speak to a proxy, retry a request, keep a connection in an uncertain state (anything out of
order closes it), or store more of an answer than its caller allows. Raises OSError or TimeoutError, and nothing else.
Source: RFC 9112.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

HEAD_LIMIT = 65_536  # bytes of a status line and headers
HEADERS = 200  # lines of one head
INTERIM = 10  # answers with a status of 1xx before the one that counts
LIMIT = 1_048_576  # bytes of a body, unless the caller says more
CHUNK_LINE = 1024  # bytes of the line before a chunk, and of all trailers
IDLE_SECONDS = 20.0  # a connection idle for longer may be closed by the peer just as we use it
WATCHES = 20  # checks for late answers within one read timeout


class Broken(ConnectionError):
    """The connection ended, or what came was not HTTP, or not an answer to the request."""


class TooLarge(ValueError):
    """An answer has more bytes than its limit."""

    def __init__(self, limit: int, size: int | None = None) -> None:
        super().__init__(f"an answer of {f'{size:,} bytes; the limit is' if size else 'more than'} {limit:,} bytes")


@dataclass(slots=True)
class Answer:
    """Header names are in lower case; of a repeated one the last counts."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _Body:
    """A body as it arrives: of a known length, in chunks, or until the connection closes (`length` None). Raises
    TooLarge for one of more than `limit` bytes, before the body where its length is known."""

    __slots__ = ("_chunks", "_data", "_length", "_limit", "_raw")

    def __init__(self, length: int | None, *, chunked: bool, limit: int) -> None:
        if length is not None and length > limit:
            raise TooLarge(limit, length)
        self._length = length
        self._limit = limit
        self._raw = 0  # bytes of chunks and their lines together: a chunk of one byte takes six
        self._data = bytearray()
        self._chunks: bytearray | None = bytearray() if chunked else None

    @property
    def to_the_end(self) -> bool:
        return self._length is None and self._chunks is None

    def add(self, data: bytes) -> bytes | None:
        """The whole body once it is there. Raises ValueError for an invalid body."""
        self._data += data
        if self._chunks is not None:
            self._raw += len(data)
            if len(self._chunks) + len(self._data) > self._limit + CHUNK_LINE or self._raw > 8 * self._limit:
                raise TooLarge(self._limit)
            return self._dechunked(self._chunks)
        if self._length is None:
            if len(self._data) > self._limit:
                raise TooLarge(self._limit)
            return None
        if len(self._data) < self._length:
            return None
        if len(self._data) > self._length:
            raise ValueError("more than one answer")
        return bytes(self._data)

    def rest(self) -> bytes:
        return bytes(self._data)

    def _dechunked(self, whole: bytearray) -> bytes | None:
        while (end := self._data.find(b"\r\n")) >= 0:
            size = _chunk_size(bytes(self._data[: min(end, CHUNK_LINE)]))
            if size == 0:
                # Trailers, if any, end with an empty line.
                tail = self._data[end:]
                if tail.endswith(b"\r\n\r\n"):
                    return bytes(whole)
                if len(tail) > CHUNK_LINE:
                    raise ValueError("trailers without an end")
                return None
            if len(whole) + size > self._limit:
                raise TooLarge(self._limit)
            if len(self._data) < end + 2 + size + 2:
                return None
            whole += self._data[end + 2 : end + 2 + size]
            if self._data[end + 2 + size : end + 4 + size] != b"\r\n":
                raise ValueError("a chunk longer than its size")
            del self._data[: end + 4 + size]
        if len(self._data) > CHUNK_LINE:
            raise ValueError("no size line before a chunk")
        return None


def _chunk_size(line: bytes) -> int:
    text = line.partition(b";")[0].strip()
    if not text.isalnum() or len(text) > 16 or b"x" in text.lower():  # int() takes 0x, signs and underscores too
        raise ValueError("an invalid chunk size")
    return int(text, 16)


class _Connection(asyncio.Protocol):
    """One request at a time. `answered` is a future of the answer while one is awaited."""

    def __init__(self) -> None:
        self.transport: Any = None  # uvloop's is not an asyncio.Transport
        self.open = True
        self.rested = 0.0
        self._answered: asyncio.Future[Answer] | None = None
        self._head = b""
        self._body: _Body | None = None
        self._status = 0
        self._headers: dict[str, str] = {}
        self._keep = True
        self._interim = 0
        self._limit = LIMIT
        self.late = 0.0  # loop time at which the answer is late

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        if self._body is not None and self._body.to_the_end and exc is None:
            self._done(self._body.rest())
        elif self._answered is not None:
            self._failed(exc if isinstance(exc, OSError) else Broken("the connection was closed before the answer"))

    def ask(self, request: bytes, answered: asyncio.Future[Answer], late: float, limit: int = LIMIT) -> None:
        self._answered = answered
        self._interim = 0
        self._limit = limit
        self.late = late
        self.transport.write(request)

    def give_up(self) -> None:
        """The answer is late."""
        self._failed(TimeoutError("no answer in time"))

    def close(self) -> None:
        self.open = False
        self._answered = None
        if self.transport is not None:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._answered is None:
            return self.close()  # no request is open
        try:
            found = self._begin(data) if self._body is None else self._body.add(data)
        except TooLarge as error:
            return self._failed(Broken(str(error)))
        except (ValueError, LookupError):
            return self._failed(Broken("what answered does not speak HTTP/1.1"))
        if found is not None:
            self._done(found)
        return None

    def _begin(self, data: bytes) -> bytes | None:
        """Reads the head once it is there; the body if that has come with it."""
        self._head = data = self._head + data if self._head else data
        while True:
            end = data.find(b"\r\n\r\n")
            if (len(data) if end < 0 else end) > HEAD_LIMIT:
                raise ValueError("a head without an end")
            if end < 0:
                self._head = data
                return None
            first, *lines = data[:end].decode("latin-1").split("\r\n")
            version, _, rest = first.partition(" ")
            if version not in ("HTTP/1.1", "HTTP/1.0") or not rest[:3].isdecimal() or len(lines) > HEADERS:
                raise ValueError(version)
            self._status = int(rest[:3])
            data = data[end + 4 :]
            if self._status >= 200:
                break
            self._interim += 1  # an interim answer
            if self._status < 100 or self._status == 101 or self._interim > INTERIM:
                raise ValueError("too many interim answers")
        self._head = b""
        return self._headed(version, lines, data)

    def _headed(self, version: str, lines: list[str], data: bytes) -> bytes | None:
        headers: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon:
                raise ValueError
            name, value = name.lower(), value.strip()
            if name == "content-length" and headers.get(name, value) != value:
                raise ValueError("two lengths")
            headers[name] = value
        self._headers = headers
        keep = headers.get("connection", "keep-alive" if version == "HTTP/1.1" else "close")
        chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        length = headers.get("content-length")
        if length is not None and not length.isdecimal():
            raise ValueError(length)
        if self._status in (204, 304):
            length = "0"
        # Only a 200 contains messages; errors are a few hundred bytes.
        limit = self._limit if self._status == 200 else min(self._limit, LIMIT)
        self._body = _Body(None if length is None or chunked else int(length), chunked=chunked, limit=limit)
        # With both a length and chunks it is ambiguous where the answer ends: the connection is not used again.
        self._keep = keep.lower() != "close" and not self._body.to_the_end and not (chunked and length is not None)
        return self._body.add(data)

    def _done(self, body: bytes) -> None:
        answered, self._answered, self._body = self._answered, None, None
        if not self._keep:
            self.close()
        if answered is not None and not answered.done():
            answered.set_result(Answer(self._status, self._headers, body))

    def _failed(self, error: OSError) -> None:
        answered = self._answered
        self.close()
        if answered is not None and not answered.done():
            answered.set_exception(error)


class Connections:
    """Kept connections to one host, at most `limit`; further requests wait for their turn. Times in seconds: `connect`
    to be connected, TLS included, `read` for the answer, which is late by up to a WATCHth of that."""

    def __init__(
        self, host: str, port: int, *, tls: ssl.SSLContext | None, limit: int, connect: float, read: float
    ) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        self._connect = connect
        self._read = read
        self._room = asyncio.Semaphore(limit)
        self._idle: list[_Connection] = []
        self._busy: set[_Connection] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watch: asyncio.TimerHandle | None = None

    async def ask(self, request: bytes, limit: int = LIMIT) -> Answer:
        """Sends the complete `request` and returns the answer, of at most `limit` bytes. Cancelled, it closes the
        connection."""
        async with self._room:
            loop = self._loop = self._loop or asyncio.get_running_loop()
            now = loop.time()
            connection = self._rested(now) or await self._connected(loop)
            answered: asyncio.Future[Answer] = loop.create_future()
            self._busy.add(connection)
            try:
                connection.ask(request, answered, loop.time() + self._read, limit)
                if self._watch is None:
                    self._watch = loop.call_later(self._read / WATCHES, self._look)
                answer = await answered
            except BaseException:
                connection.close()
                raise
            finally:
                self._busy.discard(connection)
            if connection.open:
                connection.rested = loop.time()
                self._idle.append(connection)
            return answer

    def _look(self) -> None:
        """One timer for all busy connections: one for each request would cost more than its signature."""
        self._watch = None
        if self._loop is None or not self._busy:
            return
        now = self._loop.time()
        for connection in [each for each in self._busy if each.late <= now]:
            connection.give_up()
        self._watch = self._loop.call_later(self._read / WATCHES, self._look)

    async def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        for connection in (*self._idle, *self._busy):
            connection.close()
        self._idle.clear()

    def _rested(self, now: float) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()  # the last one: those not needed grow old and are closed
            if connection.open and now - connection.rested < IDLE_SECONDS:
                return connection
            connection.close()
        return None

    async def _connected(self, loop: asyncio.AbstractEventLoop) -> _Connection:
        async with asyncio.timeout(self._connect):
            _, connection = await loop.create_connection(
                _Connection,
                self._host,
                self._port,
                ssl=self._tls,
                server_hostname=self._host if self._tls is not None else None,
            )
        return connection


async def read_within(answer: aiohttp.ClientResponse, limit: int) -> bytes:
    """The body of an answer that aiohttp received, of at most `limit` bytes. Raises Broken for a larger one, and closes
    its connection."""
    try:
        if (length := answer.content_length) is not None and length > limit:
            raise TooLarge(limit, length)
        data = bytearray()
        async for piece in answer.content.iter_any():
            data += piece
            if len(data) > limit:
                raise TooLarge(limit)
    except TooLarge as error:
        answer.close()
        raise Broken(str(error)) from None
    except BaseException:
        answer.close()
        raise
    answer.release()
    return bytes(data)
