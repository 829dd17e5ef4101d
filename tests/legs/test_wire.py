"""The parser against nats-py's own and against the server's grammar: any chunking of any bytes gives the same messages.

Where nats-py is wrong (it splits a control line at every white space), a second reading of the bytes decides, written
from nats-server's own code.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from nats import errors
from nats.protocol.parser import Parser

from bridge.legs.answers import parse_ack_subject, pin_of
from bridge.legs.wire import WireClient, _Parser, header_pairs_of, status_of

Heard = tuple[Any, ...]
SINKS = (2, 13)


class Ear:
    """What a parser calls of its client, written down. `failing`: whoever gets a message fails."""

    def __init__(self, *, failing: bool = False) -> None:
        self.heard: list[Heard] = []
        self.failing = failing
        self.failures = 0
        self.sinks = {b"%d" % number: self._sink(number) for number in SINKS}

    def _sink(self, number: int) -> Any:
        def sink(subject: str, reply: str, block: bytes, payload: bytes) -> None:
            to, back = (each.encode("utf-8", "surrogateescape") for each in (subject, reply))
            self.heard.append(("message", number, to, back, block, payload))
            if self.failing:
                raise LookupError

        return sink

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        self.heard.append(("message", sid, bytes(subject), bytes(reply), bytes(headers or b""), bytes(data)))
        if self.failing:
            raise LookupError

    async def _process_ping(self) -> None:
        self.heard.append(("ping",))

    async def _process_pong(self) -> None:
        self.heard.append(("pong",))

    async def _process_err(self, text: str) -> None:
        self.heard.append(("error", text))

    async def _process_info(self, info: dict[str, Any]) -> None:
        self.heard.append(("info", info))

    async def failed(self, error: Exception) -> None:
        assert isinstance(error, LookupError)
        self.failures += 1


def heard_by(kind: type[Any], chunks: list[bytes], *, failing: bool = False) -> tuple[list[Heard], bool]:
    """What the parser made of it, and whether it gave up."""
    ear = Ear(failing=failing)
    parser = kind(ear)

    async def read() -> bool:
        try:
            for chunk in chunks:
                await parser.parse(chunk)
        except errors.ProtocolError:
            return True
        return False

    gave_up = asyncio.run(read())
    assert ear.failures == (sum(each[0] == "message" for each in ear.heard) if failing else 0)
    return ear.heard, gave_up


def by_the_grammar(data: bytes) -> tuple[list[Heard], bool]:
    """nats-server's way: words are what is between blanks and tabs. Source: server/client.go, processPub."""
    heard: list[Heard] = []
    at = 0
    while (end := data.find(b"\r\n", at)) >= 0:
        words = [word for word in re.split(rb"[ \t]", data[at:end]) if word]
        kind, line, at = words[0] if words else b"", data[at:end], end + 2
        if line[:1] in (b" ", b"\t") or kind not in (b"MSG", b"HMSG", b"PING", b"PONG", b"+OK", b"-ERR"):
            return heard, True
        if kind in (b"PING", b"PONG"):
            heard.append((kind.decode().lower(),))
        elif kind == b"-ERR":
            heard.append(("error", line[4:].strip(b" \t").decode("utf-8", "replace").lower()))
        elif kind in (b"MSG", b"HMSG"):
            sizes = 2 if kind == b"HMSG" else 1
            numbers = [words[2:3], *([each] for each in words[-sizes:])]
            good = len(words) in (3 + sizes, 4 + sizes) and all(each and each[0].isdigit() for each in numbers)
            header, size = (int(words[-2]) if sizes == 2 else 0, int(words[-1])) if good else (1, 0)
            if not good or header > size:
                return heard, True
            if len(data) < at + size + 2:
                return heard, False
            reply = words[3] if len(words) == 4 + sizes else b""
            block, payload = data[at : at + header], data[at + header : at + size]
            heard.append(("message", int(words[2]), words[1], reply, block, payload))
            at += size + 2
    return heard, False


def word(*without: int) -> st.SearchStrategy[bytes]:
    every = [byte for byte in range(256) if byte not in (*b" \t\n", *without)]
    # A CR alone is legal; one at the end of a word cannot end the line, for a size follows.
    return st.lists(st.sampled_from(every), min_size=1, max_size=12).map(bytes)


BLOCK = st.binary(min_size=1, max_size=30)
WELL_BEGUN = BLOCK.map(lambda block: b"NATS/1.0" + block)


def message(subjects: st.SearchStrategy[bytes], blocks: st.SearchStrategy[bytes] = BLOCK) -> st.SearchStrategy[bytes]:
    @st.composite
    def made(draw: st.DrawFn) -> bytes:
        subject, reply = draw(subjects), draw(st.one_of(st.just(b""), subjects))
        block, payload = draw(st.one_of(st.just(b""), blocks)), draw(st.binary(max_size=40))
        sizes = b"%d %d" % (len(block), len(block) + len(payload)) if block else b"%d" % len(payload)
        words = [b"HMSG" if block else b"MSG", subject, b"%d" % draw(st.sampled_from([1, 2, 13, 70])), reply, sizes]
        return b" ".join(each for each in words if each) + b"\r\n" + block + payload + b"\r\n"

    return made()


OTHERS = st.sampled_from([b"PING\r\n", b"PONG\r\n", b"+OK\r\n", b"-ERR 'Slow Consumer'\r\n"])
INFO = st.just(b'INFO {"server_id":"x","n":1}\r\n')


def cut(data: bytes, at: list[int]) -> list[bytes]:
    places = [0, *sorted(place % (len(data) + 1) for place in at), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places)]


CUTS = st.lists(st.integers(0, 10_000), max_size=12)
PLAIN = word(*b"\r\x0b\x0c")


# nats-py looks for the sizes of an HMSG beyond the end of the line, in a block that begins with blanks and digits.
@given(st.lists(st.one_of(message(PLAIN, WELL_BEGUN), OTHERS, INFO), max_size=8).map(b"".join), CUTS)
def test_what_nats_py_reads_right_we_read_alike_whatever_the_chunks(data: bytes, at: list[int]) -> None:
    assert heard_by(_Parser, cut(data, at)) == heard_by(Parser, [data])


@given(st.lists(st.one_of(message(word()), OTHERS), max_size=8).map(b"".join), CUTS)
@example(b"MSG a\x0b1 2 $JS.ACK.x 2\r\nhi\r\n", [])
@example(b"HMSG a 1 1 2\r\n 0\r\n", [])
@example(b"PING\r\nMSG a\x0c13\x0cb 1 0\r\n\r\n", [3])
def test_a_publisher_cannot_choose_the_subscription(data: bytes, at: list[int]) -> None:
    expected = by_the_grammar(data)
    assert not expected[1]
    assert heard_by(_Parser, cut(data, at)) == expected


WORDS = (b"MSG", b"HMSG", b"PING", b"-ERR", b"+OK", b"1", b"2", b"13", b"-3", b"+1", b"1_0", b"a.b", b"x" * 20)
BYTES = (b" ", b"  ", b"\t", b"\r\n", b"\r\n", b"\n", b"\r", b"\x0b", b"\x85", b"\xff")
PIECES = st.sampled_from([*WORDS, *BYTES])


@given(st.lists(PIECES, max_size=25).map(b"".join), CUTS)
@example(b"MSG a +1 0\r\n\r\n", [])
def test_bytes_that_are_no_protocol_are_refused_at_the_same_place(data: bytes, at: list[int]) -> None:
    assert heard_by(_Parser, cut(data, at)) == by_the_grammar(data)


@given(st.lists(message(word()), min_size=1, max_size=5).map(b"".join), CUTS)
def test_one_that_fails_does_not_stop_the_reading(data: bytes, at: list[int]) -> None:
    assert heard_by(_Parser, cut(data, at), failing=True) == by_the_grammar(data)


@pytest.mark.parametrize("line", [b"INFO nonsense", b"INFO [1", b"INFO \xff"])
def test_a_line_the_client_cannot_take_ends_in_a_new_connection_and_not_in_silence(line: bytes) -> None:
    # At any other error nats-py's reading ends for good, while the connection looks well.
    with pytest.raises(errors.ProtocolError):
        asyncio.run(_Parser(Ear()).parse(line + b"\r\n"))


def test_one_inbox_shows_nothing_of_the_next() -> None:
    client = WireClient()
    one, other = client.new_inbox(), client.new_inbox()
    assert len(one) == len(other) == len("_INBOX.") + 22
    assert one[: len("_INBOX.") + 6] != other[: len("_INBOX.") + 6]


@given(st.binary(max_size=60), st.text("0123456789ABCDEFxyz", min_size=22, max_size=22))
@example(b"NATS/1.0\r\nNats-Pin-Id: forged\r\nA: b\r\n\r\n", "x" * 22)
@example(b"NATS/1.0\r\nA: no end", "x" * 22)
@example(b"", "x" * 22)
def test_the_pin_is_the_one_the_server_put_last(own: bytes, pin: str) -> None:
    # As server/client.go, genHeader, has it.
    start = own[:-2] if len(own) > 2 else b"NATS/1.0\r\n"
    found, rest = pin_of(start + b"Nats-Pin-Id: " + pin.encode() + b"\r\n\r\n")
    assert (found, rest) == (pin, start + b"\r\n")


@given(st.binary(max_size=200))
def test_any_header_block_is_read(block: bytes) -> None:
    assert all(isinstance(name, str) for name, _ in header_pairs_of(block))
    assert all(isinstance(each, str) for each in status_of(block))


NUMBERS = st.sampled_from(["0", "-1", "1" * 400, "x", "", "٣", "1e9", "1.5", "7"])


@given(st.lists(st.one_of(NUMBERS, st.text(max_size=4)), max_size=14))
def test_an_odd_ack_subject_is_none_of_ours(tokens: list[str]) -> None:
    found = parse_ack_subject(".".join(["$JS", "ACK", *tokens]))
    assert found is None or all(isinstance(each, int) for each in found[2:5])
