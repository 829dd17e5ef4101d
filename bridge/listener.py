"""HTTP connections: how many there may be, and how long each step of one may take. In front of any HTTP protocol.

A slow or hostile client loses its own connection and affects no other client: a new connection is always accepted, and
where there are too many already, one that is still waiting for its request is closed, the oldest of the address that
has the most. So a probe is answered however many half-sent requests there are. A new connection is refused only when
all the others are being answered.
May not: know a path, an answer or aiohttp; read a request.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

CONNECTIONS = 128  # far below the 1,024 descriptors a process may have, which the routes need themselves
REQUEST_SECONDS = 5.0  # from the first byte of a request, or from the connection, to the end of its headers
IDLE_SECONDS = 75.0  # between two requests: longer than Prometheus waits between two scrapes
READ_SECONDS = 10.0  # how long a client may leave an answer unread once the buffers are full
LONGEST_REQUEST = 32_768  # bytes of a request before it is answered; bodies are limited by the application


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds and bytes, as above."""

    connections: int = CONNECTIONS
    request: float = REQUEST_SECONDS
    idle: float = IDLE_SECONDS
    read: float = READ_SECONDS
    longest: int = LONGEST_REQUEST


class Connections:
    """Every connection there is. `made` is the protocol factory of a listening socket; what it makes passes everything
    on to a protocol of `speaks`. `began` and `ended` are called for each request, with its transport."""

    def __init__(self, speaks: Callable[[], asyncio.Protocol], limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._speaks = speaks
        self._open: dict[asyncio.BaseTransport, _Connection] = {}

    def made(self) -> asyncio.Protocol:
        return _Connection(self, self._speaks())

    def __len__(self) -> int:
        return len(self._open)

    def began(self, transport: asyncio.BaseTransport | None) -> None:
        """The headers of a request are complete, and it is being answered."""
        if transport is not None and (found := self._open.get(transport)):
            found.began()

    def ended(self, transport: asyncio.BaseTransport | None) -> None:
        """It was answered."""
        if transport is not None and (found := self._open.get(transport)):
            found.ended()

    def abort(self) -> None:
        """Ends every connection now."""
        for each in list(self._open):
            _abort(each)

    # -- as the connections see it

    def admits(self, new: _Connection, transport: asyncio.BaseTransport) -> bool:
        """Whether there is room for one more. Makes room where it can."""
        if len(self._open) >= self.limits.connections and not self._make_room():
            return False
        self._open[transport] = new
        return True

    def lost(self, transport: asyncio.BaseTransport) -> None:
        self._open.pop(transport, None)

    def _make_room(self) -> bool:
        spare = [(transport, each) for transport, each in self._open.items() if not each.answering]
        if not spare:
            return False
        of = Counter(each.address for _, each in spare)
        # A dict keeps its order, so the first of an address is its oldest.
        transport, _ = max(spare, key=lambda found: of[found[1].address])
        del self._open[transport]
        _abort(transport)
        return True


class _Connection(asyncio.Protocol):
    """One connection, with one deadline at a time. The protocol inside gets every event as if this were not here."""

    def __init__(self, among: Connections, inner: asyncio.Protocol) -> None:
        self.address = ""
        self.answering = False
        self._among = among
        self._inner = inner
        self._transport: asyncio.BaseTransport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._received = 0
        self._begun = True  # whether a request is under way: a new connection is expected to send one
        self._admitted = False

    # -- events from the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if isinstance(peer, tuple) else ""
        self._admitted = self._among.admits(self, transport)
        if not self._admitted:
            _abort(transport)
            return
        self._within(self._among.limits.request)
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if not self._admitted:
            return
        self._received += len(data)
        if not self._begun:
            # The clock runs from its first byte: one byte a second does not make it longer. What comes during an answer
            # is the body of its request, for which the application has a deadline, or waits for the end of the answer.
            self._begun = True
            if not self.answering:
                self._within(self._among.limits.request)
        if self._received > self._among.limits.longest and not self.answering:
            self._end()
            return
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received() if self._admitted else None

    def connection_lost(self, error: Exception | None) -> None:
        for timer in (self._timer, self._unread):
            if timer is not None:
                timer.cancel()
        if self._transport is not None:
            self._among.lost(self._transport)
        if self._admitted:
            self._inner.connection_lost(error)

    def pause_writing(self) -> None:
        self._unread = asyncio.get_running_loop().call_later(self._among.limits.read, self._end)
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
        self._inner.resume_writing()

    # -- what becomes of its requests

    def began(self) -> None:
        self.answering, self._received, self._begun = True, 0, False
        if self._timer is not None:
            self._timer.cancel()

    def ended(self) -> None:
        self.answering = False
        # What came meanwhile may be the beginning of the next one.
        self._within(self._among.limits.request if self._begun else self._among.limits.idle)

    def _within(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._end)

    def _end(self) -> None:
        if self._transport is not None:
            _abort(self._transport)


def _abort(transport: asyncio.BaseTransport) -> None:
    """Closes at once: `close` would first wait for the peer to read what is buffered."""
    if isinstance(transport, asyncio.WriteTransport):
        transport.abort()
    else:
        transport.close()
