"""Bytes into the parsers: what a NATS server and an HTTP server may send, cut anywhere, and what none of them would."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

from nats import errors as nats_errors

from bridge.legs.http import Answer, _Connection
from bridge.legs.wire import status_of
from tests.fuzz import hostile, inputs
from tests.fuzz.ends import Loopback
from tests.fuzz.rules import must

SID, OTHER = 7, 8
WORDS = (b"PING\r\n", b"PONG\r\n", b"+OK\r\n")


class Said(NamedTuple):
    """One message of a server's."""

    subject: bytes
    reply: bytes = b""
    block: bytes = b""
    payload: bytes = b""
    sid: int = SID

    def bytes(self) -> bytes:
        words = [b"HMSG" if self.block else b"MSG", self.subject, b"%d" % self.sid]
        words += [self.reply] if self.reply else []
        words += [b"%d" % len(self.block)] if self.block else []
        words.append(b"%d" % (len(self.block) + len(self.payload)))
        return b" ".join(words) + b"\r\n" + self.block + self.payload + b"\r\n"


class _Listener(Loopback):
    """Takes what the parser hands on, and says nothing back."""

    def __init__(self) -> None:
        super().__init__(lambda _: None)
        self.words = 0
        self.heard: list[tuple[str, str, bytes, bytes]] = []
        self.sinks = {b"%d" % SID: self._hear, b"%d" % OTHER: self._hear}

    def _hear(self, subject: str, reply: str, block: bytes, payload: bytes) -> None:
        self.heard.append((subject, reply, block, payload))

    async def _send_command(self, command: bytes, *_: Any, **__: Any) -> None:
        self.words += 1

    async def _process_ping(self) -> None:
        self.words += 1

    async def _process_pong(self) -> None:
        self.words += 1

    async def _process_err(self, text: str) -> None:
        self.words += 1

    async def _process_info(self, info: Any, initial_connection: bool = False) -> None:
        self.words += 1


def _word(rng: Random) -> bytes:
    """A subject or reply subject: the server splits on blank and tab, and ends a line with CR and LF."""
    match rng.randrange(6):
        case 0:
            return b"$JS.ACK.ORDERS.bridge.1.7.7.1700000000000000000.0"
        case 1:
            return b"_INBOX.abc.0-0"
        case 2:
            return inputs.subject(rng)
        case 3:
            odd = rng.randbytes(rng.randrange(1, 9)) + rng.choice(
                (b"\x0b9", b"\x0c8", b"\x1c", b"\x85", b"\xa0", b"\0")
            )
            return bytes(each for each in odd if each not in b" \t\r\n") or b"x"
        case _:
            pass
    return rng.choice((b"orders.x", b"a", b"PING", b"MSG", b"7", b"12", b"orders." + b"y" * 200))


def said(rng: Random) -> Said:
    block = b""
    if rng.random() < 0.6:
        block = inputs.stored(rng, plain=True).block
    payload = hostile.payload(rng) if rng.random() < 0.7 else b"MSG x 7 1\r\n1\r\n"
    return Said(
        _word(rng), _word(rng) if rng.random() < 0.6 else b"", block, payload, rng.choice((SID, SID, OTHER, 99))
    )


def cuts(rng: Random) -> list[int]:
    return [rng.choice((1, 1, 2, 3, 7, 20, 100, 1_000, 100_000)) for _ in range(rng.randrange(1, 12))]


def chunked(data: bytes, sizes: Sequence[int]) -> list[bytes]:
    """The data cut to these sizes in turn; the last size cuts the rest, coarsely enough to come to an end."""
    found, at, turn = [], 0, 0
    while at < len(data):
        size = max(1, sizes[turn % len(sizes)]) if sizes else len(data)
        if turn > 200:
            size = max(size, 16_384)
        found.append(data[at : at + size])
        at, turn = at + size, turn + 1
    return found


def make_wire(rng: Random) -> dict[str, Any]:
    items = [said(rng) if rng.random() < 0.8 else rng.randrange(len(WORDS)) for _ in range(rng.randrange(1, 6))]
    return {"items": items, "cuts": cuts(rng)}


async def check_wire(case: Mapping[str, Any]) -> None:
    """Whatever a server says comes out of the parser as it was said, however it is cut."""
    client = _Listener()
    items = [each for each in case["items"] if not isinstance(each, Said) or _possible(each)]
    data = b"".join([each.bytes() if isinstance(each, Said) else WORDS[int(each) % 3] for each in items])
    for piece in chunked(data, case.get("cuts") or []):
        await client._ps.parse(piece)
    meant = [each for each in items if isinstance(each, Said) and each.sid in (SID, OTHER)]
    must(not client.errors, "delivery lost in the parser", client.errors)
    must(len(client.heard) == len(meant), "number of messages", f"{len(client.heard)} for {len(meant)}")
    for (subject, reply, block, payload), each in zip(client.heard, meant, strict=True):
        must(subject.encode("utf-8", "surrogateescape") == each.subject, "subject of a delivery", ascii(subject))
        must(reply.encode("utf-8", "surrogateescape") == each.reply, "reply subject of a delivery", ascii(reply))
        must((block, payload) == (each.block, each.payload), "bytes of a delivery")
    must(not client._ps.buf, "bytes left in the parser", client._ps.buf[:40])


def _possible(each: Said) -> bool:
    words = (each.subject, each.reply or b"x")
    line = len(each.subject) + len(each.reply)
    return line < 4_000 and all(word and not any(odd in word for odd in (b" ", b"\t", b"\r", b"\n")) for word in words)


def make_wire_bytes(rng: Random) -> dict[str, Any]:
    data = b"".join([said(rng).bytes() for _ in range(rng.randrange(3))])
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(data) + 1)
        odd = rng.choice(
            (
                *(b"", b"\r\n", b"\n", b" ", b"\t", b"\0", b"\xff", b"MSG", b"HMSG a 7 9 1\r\n", b"MSG a 7 -1\r\n"),
                *(b"INFO {\r\n", b"INFO {}\r\n", b"INFO null\r\n", b"-ERR 'x'\r\n", b"-ERR\r\n", b"-ERR \xff'\r\n"),
                *(b"MSG a 7 99999999999999999999\r\n", b"HMSG a 7 r 12\r\n", b"MSG a x 1\r\n1\r\n", b"MSG a 7 1_0\r\n"),
                *(b"HMSG a 7 -5 3\r\nabc\r\n", b"MSG a 7 \xd9\xa1\r\n", b"PING", b"INFO " + b"[" * 100_000 + b"\r\n"),
                *(
                    b"-ERR 'Permissions Violation for Publish to \"\xff\"'\r\n",
                    b"INFO \xff\r\n",
                    b"9" * 5_000,
                    b"\r\n\r\n",
                ),
            )
        )
        cut = rng.randrange(4)
        data = data[:at] + odd + data[at + cut :]
    return {"data": data, "cuts": cuts(rng)}


async def check_wire_bytes(case: Mapping[str, Any]) -> None:
    """Anything at all: the connection goes on, or ends as nats-py ends one. Any other error kills its reading task, and
    the connection stays up, deaf."""
    client = _Listener()
    try:
        for piece in chunked(case["data"], case.get("cuts") or []):
            await client._ps.parse(piece)
    except (nats_errors.ProtocolError, OSError):
        return
    for _, _, block, _ in client.heard:
        status_of(block)


# -- HTTP


def make_http(rng: Random) -> dict[str, Any]:
    """A good answer, and how it is cut."""
    body = hostile.payload(rng)[:900_000] if rng.random() < 0.9 else b"x" * 70_000
    case: dict[str, Any] = {"body": body, "cuts": cuts(rng), "framing": rng.choice(("length", "chunks", "end"))}
    if rng.random() < 0.15:
        case["interim"] = rng.choice((1, 3, 5))
    if rng.random() < 0.3:
        case["trailer"] = b"X-A: b\r\n"
    return case


async def check_http(case: Mapping[str, Any]) -> None:
    """What a server says is what is read, however it is cut."""
    body: bytes = case["body"]
    head = b"HTTP/1.1 100 Continue\r\n\r\n" * case.get("interim", 0) + b"HTTP/1.1 200 OK\r\nDate: x\r\n"
    match case["framing"]:
        case "length":
            data = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
        case "chunks":
            pieces = [body[at : at + 5_000] for at in range(0, len(body), 5_000)]
            framed = b"".join([b"%x;a=b\r\n%s\r\n" % (len(piece), piece) for piece in pieces])
            data = head + b"Transfer-Encoding: chunked\r\n\r\n" + framed + b"0\r\n" + case.get("trailer", b"") + b"\r\n"
        case _:
            data = head + b"Connection: close\r\n\r\n" + body
    answer = await _asked(chunked(data, case.get("cuts") or []), ended=case["framing"] == "end")
    must(isinstance(answer, Answer), "a good answer is not read", repr(answer))
    assert isinstance(answer, Answer)
    must(answer.body == body and answer.status == 200, "body of an answer", answer.body[:40])


def make_http_bytes(rng: Random) -> dict[str, Any]:
    data = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
    if rng.random() < 0.5:
        data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(data) + 1)
        odd = rng.choice(
            (
                *(
                    b"",
                    b"\r\n",
                    b"\n",
                    b":",
                    b"\0",
                    b"\xff",
                    b"-",
                    b"+",
                    b"_",
                    b"\xb2",
                    b"99999999999999999999",
                    b"0x10",
                ),
                *(b"HTTP/1.1 100 x\r\n\r\n" * 3_000, b"Content-Length: -1\r\n", b"Transfer-Encoding: chunked\r\n"),
                *(
                    b"Content-Length: 4\r\n",
                    b"A" * 70_000,
                    b"0\r\n\r\n",
                    b"HTTP/1.1 abc\r\n\r\n",
                    b"; " * 50,
                    b"1_0\r\n",
                ),
            )
        )
        data = data[:at] + odd + data[at + rng.randrange(4) :]
    return {"data": data, "cuts": cuts(rng), "end": rng.choice(("", "clean", "reset"))}


async def check_http_bytes(case: Mapping[str, Any]) -> None:
    """An answer, or one of the errors that a connection may end with."""
    found = await _asked(chunked(case["data"], case.get("cuts") or []), ended=True, reset=case.get("end") == "reset")
    must(isinstance(found, Answer | OSError), "end of a request", repr(found))


class _Transport(asyncio.Transport):
    def write(self, data: Any) -> None: ...
    def abort(self) -> None: ...


async def _asked(pieces: Sequence[bytes], *, ended: bool, reset: bool = False) -> Answer | BaseException | None:
    connection = _Connection()
    connection.connection_made(_Transport())
    answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    connection.ask(b"", answered, 0.0)
    for piece in pieces:
        if not connection.open:
            break
        connection.data_received(piece)
    if ended:
        connection.connection_lost(ConnectionResetError() if reset else None)
    if not answered.done():
        return None
    return answered.exception() or answered.result()
