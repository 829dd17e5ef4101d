"""An answer larger than its operation can bring is not kept, whatever transport or proxy brings it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bridge.core.errors import Unavailable
from bridge.legs.aws import AwsConnection, AwsOptions
from bridge.legs.aws_lean import MESSAGES, limit_of
from bridge.legs.http import CHUNK_LINE, HEADERS, INTERIM, LIMIT, Broken, Connections

REQUEST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"


@asynccontextmanager
async def pouring(head: bytes, piece: bytes = b"", most: int = 0) -> AsyncIterator[tuple[int, list[int]]]:
    """A server that answers with `head` and then `piece` again and again, `most` bytes of it; the bytes it got rid of
    are counted for each request."""
    poured: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                asked = await reader.readuntil(b"\r\n\r\n")
                lines = asked.lower().split(b"\r\n")
                length = next((int(each[15:]) for each in lines if each.startswith(b"content-length:")), 0)
                await reader.readexactly(length)
                poured.append(0)
                writer.write(head)
                while poured[-1] < most:
                    writer.write(piece)
                    await writer.drain()
                    poured[-1] += len(piece)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1], poured


HUGE = 600 * 1024 * 1024
PIECE = b"x" * 65_536
ROOM = 8 * 1024 * 1024  # what sockets and loops hold between two looks
CHUNK = b"10000\r\n" + PIECE + b"\r\n"
FLOODS: dict[str, tuple[bytes, bytes]] = {
    "a length": (b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % HUGE, PIECE),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", CHUNK),
    "one chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n25800000\r\n", PIECE),
    "no length": (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", PIECE),
    "an error": (b"HTTP/1.1 500 Oh\r\nContent-Length: %d\r\n\r\n" % HUGE, PIECE),
}


@pytest.mark.parametrize("through", ["lean", "botocore", "proxy"])
@pytest.mark.parametrize(("head", "piece"), FLOODS.values(), ids=list(FLOODS))
async def test_an_answer_without_end_is_an_outage_and_not_read(
    head: bytes, piece: bytes, through: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pouring(head, piece, HUGE) as (port, poured):
        url = f"http://127.0.0.1:{port}"
        if through == "proxy":
            monkeypatch.setenv("http_proxy", url)
            url = "http://sqs.test.invalid"
        options = AwsOptions(region="eu-west-1", endpoint_url=url, lean=through != "botocore")
        async with AwsConnection(options) as aws:
            with pytest.raises(Unavailable):
                await aws.call("sqs", "delete_message_batch", about="q", once=True, QueueUrl="q", Entries=[])
        assert 0 < len(poured) <= 3
        assert sum(poured) < LIMIT + ROOM


def test_what_is_legal_is_allowed() -> None:
    body = "\u0001" * 1_048_576  # six bytes of JSON each: more than any body SQS takes
    one = len(json.dumps({"Body": body, "MessageId": "m" * 100, "ReceiptHandle": "h" * 1024}))
    assert 10 * one < limit_of("ReceiveMessage") == MESSAGES
    assert limit_of("SendMessageBatch") == limit_of("ReceiveMessage", 500) == LIMIT


async def test_a_receive_may_bring_ten_large_messages() -> None:
    body = json.dumps({"Messages": [{"MessageId": str(at), "Body": "é" * 400_000} for at in range(10)]}).encode()
    assert len(body) > 20 * LIMIT
    async with pouring(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body) as (port, _):
        for lean in (True, False):
            options = AwsOptions(region="eu-west-1", endpoint_url=f"http://127.0.0.1:{port}", lean=lean)
            async with AwsConnection(options) as aws:
                answer = await aws.call("sqs", "receive_message", about="q", QueueUrl="q")
            assert [len(each["Body"]) for each in answer["Messages"]] == [400_000] * 10


async def answered(*pieces: bytes, limit: int = LIMIT) -> Any:
    async with pouring(b"".join(pieces)) as (port, _):
        connections = Connections("127.0.0.1", port, tls=None, limit=1, connect=5, read=5)
        try:
            return await connections.ask(REQUEST, limit)
        finally:
            assert all(each.open for each in connections._idle)
            await connections.close()


INTERIM_ANSWER = b"HTTP/1.1 102 Processing\r\n\r\n"
END = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
BROKEN: dict[str, tuple[bytes, ...]] = {
    "interim answers": (INTERIM_ANSWER * 3000, END),
    "another protocol": (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", END),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"a: b\r\n" * (HEADERS + 1), b"Content-Length: 2\r\n\r\n{}"),
    "a long header": (b"HTTP/1.1 200 OK\r\na: ", b"b" * 70_000, b"\r\nContent-Length: 2\r\n\r\n{}"),
    "two lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",),
    "a long line before a chunk": (CHUNKED, b"1" * (CHUNK_LINE + 1)),
    "trailers": (CHUNKED, b"0\r\n", b"a: b\r\n" * CHUNK_LINE),
    "a chunk with a sign": (CHUNKED, b"+2\r\n{}\r\n0\r\n\r\n"),
    "a chunk with a mark": (CHUNKED, b"0x2\r\n{}\r\n0\r\n\r\n"),
    "a status that is none": (b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\n{}",),
    "many small chunks": (CHUNKED, b"1\r\nx\r\n" * 300, b"0\r\n\r\n"),
}


@pytest.mark.parametrize("pieces", BROKEN.values(), ids=list(BROKEN))
async def test_what_no_server_means_well_with_breaks_the_connection(pieces: tuple[bytes, ...]) -> None:
    with pytest.raises(Broken):
        await answered(*pieces, limit=200)


async def test_a_few_interim_answers_are_passed_over() -> None:
    assert (await answered(INTERIM_ANSWER * INTERIM, END)).body == b"{}"
    assert (await answered(CHUNKED, b"1\r\n{\r\n1;x\r\n}\r\n0\r\na: b\r\n\r\n")).body == b"{}"
