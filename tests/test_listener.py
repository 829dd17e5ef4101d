"""The HTTP surface under clients that send half a request, read nothing, or come under a name of their own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bridge.core.control import Answer
from bridge.listener import Limits
from bridge.observe import Observation
from bridge.web import names_us, serve
from tests.legs.exam import until
from tests.page.documents import NoControl, opened

HALF = b"GET /status HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Filler: "


@asynccontextmanager
async def surface(limits: Limits | None = None, *allowed: str) -> AsyncIterator[int]:
    observation = Observation()
    opened(observation, "in")
    async with serve(observation, NoControl(), "127.0.0.1", 0, allowed_hosts=allowed, limits=limits) as url:
        yield int(url.rpartition(":")[2])


async def ask(port: int, path: str = "/healthz", host: str = "127.0.0.1") -> tuple[int, str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]) if head else 0, body.decode()


async def closed(reader: asyncio.StreamReader) -> bytes:
    """What was sent until the other side closed."""
    try:
        return await reader.read()
    except ConnectionError:
        return b""


async def test_a_probe_is_answered_within_a_second_whatever_waits_half_sent() -> None:
    """From the probe's own address, too: more connections than the process may have descriptors for at its usual
    limit, and none of them is waited for."""
    async with surface() as port:
        held: list[socket.socket] = []
        loop = asyncio.get_running_loop()
        try:
            for number in range(1100):
                each = socket.socket()
                each.setblocking(False)
                held.append(each)
                await loop.sock_connect(each, ("127.0.0.1", port))
                await loop.sock_sendall(each, HALF)
                if number % 100 == 99:
                    async with asyncio.timeout(1):
                        assert await ask(port) == (200, "ok\n")
                        assert (await ask(port, "/metrics"))[0] == 200
            gone = [each for each in held if is_closed(each)]
            assert len(gone) >= 1100 - Limits().connections
        finally:
            for each in held:
                each.close()


def is_closed(each: socket.socket) -> bool:
    try:
        return each.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


@pytest.mark.parametrize("first", [b"", b"G", HALF, b"POST /reload HTTP/1.1\r\n"])
async def test_a_request_that_does_not_come_is_not_waited_for(first: bytes) -> None:
    async with surface(Limits(request=0.15)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(first)
        async with asyncio.timeout(5):
            await closed(reader)
        writer.close()


async def test_a_byte_at_a_time_buys_no_time() -> None:
    async with surface(Limits(request=0.3)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        ended = asyncio.create_task(closed(reader))
        async with asyncio.timeout(5):
            writer.write(HALF)
            while not ended.done():
                writer.write(b"a")
                await asyncio.sleep(0.02)
        writer.close()


async def test_the_second_request_of_a_connection_has_a_deadline_too() -> None:
    async with surface(Limits(request=0.3)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(5):
            assert (await reader.readuntil(b"ok\n")).startswith(b"HTTP/1.1 200")
            await asyncio.sleep(0.5)  # idle is no offence
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await reader.readuntil(b"ok\n")).startswith(b"HTTP/1.1 200")
            writer.write(HALF)
            await closed(reader)
        writer.close()


async def test_an_answer_that_takes_long_is_not_cut_off_by_the_body_it_answers() -> None:
    """A reload waits until routes have stopped, and many clients send headers and body apart."""

    class Slow(NoControl):
        def admits(self, authorization: str, by: str) -> Answer | None:
            return None

        async def reload(self, by: str) -> Answer:
            await asyncio.sleep(0.5)
            return Answer("done", f"reloaded by {by}")

    observation = Observation()
    async with serve(observation, Slow(), "127.0.0.1", 0, limits=Limits(request=0.15)) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(b"POST /reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 15\r\n\r\n")
        await asyncio.sleep(0.05)
        writer.write(b'{"by": "alice"}')
        async with asyncio.timeout(5):
            assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_headers_without_end_are_not_kept() -> None:
    async with surface(Limits(longest=20_000)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: %s\r\n" % (n, b"a" * 900) for n in range(60)))
        async with asyncio.timeout(2):
            await closed(reader)
        writer.close()


async def test_who_reads_no_answer_holds_nothing_for_long() -> None:
    async with surface(Limits(read=0.2)) as port:
        loop = asyncio.get_running_loop()
        greedy = socket.socket()
        greedy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        greedy.setblocking(False)
        await loop.sock_connect(greedy, ("127.0.0.1", port))
        with greedy:
            request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"

            def cut() -> bool:
                try:
                    greedy.send(request * 20)
                except BlockingIOError:
                    return False
                except OSError:
                    return True
                return False

            await until(cut)


async def test_an_address_that_takes_all_loses_its_own_and_not_those_of_others() -> None:
    async with surface(Limits(connections=10)) as port:
        loop = asyncio.get_running_loop()
        other = socket.socket()
        other.bind(("127.0.0.2", 0))
        other.setblocking(False)
        await loop.sock_connect(other, ("127.0.0.1", port))
        await loop.sock_sendall(other, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n")
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(40)]
        with other:
            await loop.sock_sendall(other, b"\r\n")
            async with asyncio.timeout(2):
                assert (await loop.sock_recv(other, 100)).startswith(b"HTTP/1.1 200")
        for _, writer in held:
            writer.close()


@pytest.mark.parametrize("host", ["rebound.example", "127.0.0.1.rebound.example", "localhost.rebound.example:9108", ""])
async def test_a_name_no_one_configured_is_refused(host: str) -> None:
    async with surface(None, "bridge", "Bridge.Example.COM") as port:
        for path in ("/", "/status", "/metrics", "/readyz", "/history?route=in", "/nothing"):
            status, text = await ask(port, path, host)
            assert status == 421, path
            assert "http.allowed_hosts" in text
            assert text.count("\n") == 1
        assert (await ask(port, "/healthz", host))[0] == 200  # a load balancer's probe; it says ok and nothing else


@pytest.mark.parametrize(
    "host",
    [
        "bridge",
        "bridge:9108",
        "BRIDGE.example.com",
        "bridge.example.com.",
        "localhost:1",
        "10.1.2.3:9108",
        "[::1]:9108",
    ],
)
async def test_configured_names_and_addresses_are_answered(host: str) -> None:
    async with surface(None, "bridge", "Bridge.Example.COM") as port:
        assert (await ask(port, "/status", host))[0] == 200


@pytest.mark.parametrize("host", ["0x7f.1", "1.2.3.4.5", "1.2.3", "::1@evil", "evil\t", "[evil]"])
def test_what_only_looks_like_an_address_is_a_name(host: str) -> None:
    assert not names_us(host, frozenset())


async def test_the_surface_ends_though_a_client_reads_nothing() -> None:
    async with asyncio.timeout(5):
        async with surface() as port:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(HALF)
            await writer.drain()
        writer.close()
