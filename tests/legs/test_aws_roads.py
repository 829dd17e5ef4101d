"""Every way to SQS on both transports: TLS, proxies, session tokens, FIPS and dual-stack endpoints; and HTTP as servers
really speak it, which only the lean transport reads by itself."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bridge.core.errors import BridgeError, Unavailable
from bridge.legs.aws import AwsConnection, AwsOptions
from bridge.legs.aws_lean import Direct, Proxied
from bridge.legs.http import Broken, Connections
from tests.legs.aws_world import REGION
from tests.legs.stub_sqs import messages, stub_sqs

pytestmark = pytest.mark.server
BOTH = pytest.mark.parametrize("lean", [True, False], ids=["lean", "botocore"])
NOWHERE = "sqs.test.invalid"


def certificate(folder: Path, host: str = NOWHERE) -> tuple[ssl.SSLContext, Path]:
    """A server's context for 127.0.0.1 and `host`, and the file to trust it by."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stub")])
    now = dt.datetime.now(dt.UTC)
    names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName(host)]
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, secret = folder / "cert.pem", folder / "key.pem"
    pem.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem, secret)
    return context, pem


async def received(url: str, *, lean: bool) -> list[str]:
    options = AwsOptions(region=REGION, endpoint_url=url, lean=lean)
    async with AwsConnection(options, jitter=lambda: 0.0) as aws:
        answer = await aws.call("sqs", "receive_message", about="q", QueueUrl="q")
        return [each["MessageId"] for each in answer["Messages"]]


@BOTH
async def test_https_is_spoken_to_whom_we_trust(lean: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context, pem = certificate(tmp_path)
    async with stub_sqs(context) as stub:
        stub.replies["ReceiveMessage"] = lambda body: messages("m")
        with pytest.raises(Unavailable, match=r"(?i)certificate"):
            await received(stub.url, lean=lean)
        assert not stub.calls
        monkeypatch.setenv("AWS_CA_BUNDLE", str(pem))
        assert await received(stub.url, lean=lean) == ["m"]
        other = f"https://localhost:{urlsplit(stub.url).port}"
        with pytest.raises(Unavailable, match=r"(?i)certificate"):  # not the host's name
            await received(other, lean=lean)


@BOTH
async def test_a_session_token_is_sent(lean: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-the-session")
    async with stub_sqs() as stub:
        stub.replies["ReceiveMessage"] = lambda body: messages("m")
        assert await received(stub.url, lean=lean) == ["m"]
    (headers,) = stub.headers
    assert headers["X-Amz-Security-Token"] == "of-the-session"
    assert "x-amz-security-token" in headers["Authorization"]


@BOTH
async def test_a_proxy_of_the_environment_is_used(lean: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async with stub_sqs() as stub:
        stub.replies["ReceiveMessage"] = lambda body: messages("m")
        monkeypatch.setenv("http_proxy", stub.url)  # it answers for a host that does not exist
        assert await received(f"http://{NOWHERE}", lean=lean) == ["m"]
        assert stub.headers[0]["Host"] == NOWHERE
        monkeypatch.setenv("no_proxy", NOWHERE)
        with pytest.raises(Unavailable):
            await received(f"http://{NOWHERE}", lean=lean)


@BOTH
async def test_https_goes_through_a_proxy_and_is_still_verified(
    lean: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, pem = certificate(tmp_path)
    async with stub_sqs(context) as stub, tunnel(urlsplit(stub.url).port or 0) as (proxy, asked):
        stub.replies["ReceiveMessage"] = lambda body: messages("m")
        monkeypatch.setenv("https_proxy", proxy)
        with pytest.raises(Unavailable, match=r"(?i)certificate"):
            await received(f"https://{NOWHERE}", lean=lean)
        monkeypatch.setenv("AWS_CA_BUNDLE", str(pem))
        assert await received(f"https://{NOWHERE}", lean=lean) == ["m"]
    assert asked
    assert set(asked) == {f"CONNECT {NOWHERE}:443 HTTP/1.1"}


@asynccontextmanager
async def tunnel(port: int) -> AsyncIterator[tuple[str, list[str]]]:
    """A proxy that connects whatever is asked for to `port`; and the first line of each request."""
    asked: list[str] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head.split(b"\r\n")[0].decode())
        there, back = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(pump(reader, back), pump(there, writer))

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked


ENDPOINTS = {
    "fips": ({"AWS_USE_FIPS_ENDPOINT": "true"}, "sqs-fips.us-east-1.amazonaws.com"),
    "dual-stack": ({"AWS_USE_DUALSTACK_ENDPOINT": "true"}, "sqs.us-east-1.api.aws"),
    "both": ({"AWS_USE_FIPS_ENDPOINT": "true", "AWS_USE_DUALSTACK_ENDPOINT": "true"}, "sqs-fips.us-east-1.api.aws"),
    "fips of the profile": ({"AWS_PROFILE": "fips"}, "sqs-fips.us-east-1.amazonaws.com"),
    "neither": ({}, "sqs.us-east-1.amazonaws.com"),
}


@BOTH
@pytest.mark.parametrize(("settings", "host"), ENDPOINTS.values(), ids=list(ENDPOINTS))
async def test_calls_go_to_the_endpoint_that_is_asked_for(
    lean: bool, settings: dict[str, str], host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through a proxy that leads to a stand-in with a certificate for that host, and for no other of AWS's."""
    context, pem = certificate(tmp_path, host)
    (profiles := tmp_path / "config").write_text("[profile fips]\nuse_fips_endpoint = true\n")
    for name, value in {**settings, "AWS_CA_BUNDLE": str(pem), "AWS_CONFIG_FILE": str(profiles)}.items():
        monkeypatch.setenv(name, value)
    async with stub_sqs(context) as stub, tunnel(urlsplit(stub.url).port or 0) as (proxy, asked):
        monkeypatch.setenv("https_proxy", proxy)
        stub.replies["ReceiveMessage"] = lambda body: messages("m")
        stub.replies["GetQueueAttributes"] = lambda body: {"Attributes": {"QueueArn": "arn"}}
        async with AwsConnection(AwsOptions(region="us-east-1", lean=lean), jitter=lambda: 0.0) as aws:
            url = f"https://{host}/1/q"
            await aws.call("sqs", "get_queue_attributes", about="q", QueueUrl=url, AttributeNames=["All"])
            answer = await aws.call("sqs", "receive_message", about="q", QueueUrl=url)
    assert [each["MessageId"] for each in answer["Messages"]] == ["m"]
    assert set(asked) == {f"CONNECT {host}:443 HTTP/1.1"}
    assert {each["Host"] for each in stub.headers} == {host}
    assert all("/us-east-1/sqs/aws4_request" in each["Authorization"] for each in stub.headers)


async def test_without_a_proxy_the_lean_road_leads_where_botocores_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_USE_FIPS_ENDPOINT", "true")
    host = "sqs-fips.us-east-1.amazonaws.com"
    async with AwsConnection(AwsOptions(region="us-east-1")) as aws:
        lean = await aws._clients.make_lean()
        assert urlsplit((await aws._clients.client("sqs")).meta.endpoint_url).hostname == host
        assert lean._signer._host == host
        assert isinstance(lean._road, Direct)
        assert f"Host: {host}\r\n" in lean._road._start


async def test_with_a_proxy_aiohttp_takes_the_lean_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    async with AwsConnection(AwsOptions(region="us-east-1")) as aws:
        assert isinstance((await aws._clients.make_lean())._road, Proxied)


# -- HTTP/1.1 as servers speak it

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def answering(*pieces: bytes, then: str = "stay") -> AsyncIterator[tuple[Connections, list[bytes]]]:
    """A server that answers every request with the same pieces, each in a write of its own."""
    asked: list[bytes] = []
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                asked.append(head)
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0.01)
                if then == "close":
                    break
        except (asyncio.IncompleteReadError, OSError):
            pass
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        connections = Connections("127.0.0.1", port, tls=None, limit=2, connect=2, read=0.5)
        try:
            yield connections, asked
        finally:
            await connections.close()
            for writer in writers:
                writer.close()


REQUEST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
WELL: dict[str, tuple[bytes, ...]] = {
    "a length": (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody",),
    "in pieces": (b"HTTP/1.1 200", b" OK\r\nContent-Le", b"ngth: 4\r\n\r", b"\nbo", b"dy"),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n",),
    "chunks in pieces, and a trailer": (
        *(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"2", b"\r\nb", b"o\r\n2\r\n"),
        *(b"dy\r", b"\n0\r\n", b"X-Sum: 1\r\n", b"\r\n"),
    ),
    "an interim answer first": (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody"),
}


@pytest.mark.parametrize("pieces", WELL.values(), ids=list(WELL))
async def test_an_answer_is_read_and_its_connection_kept(pieces: tuple[bytes, ...]) -> None:
    async with answering(*pieces) as (connections, asked):
        for _ in range(3):
            answer = await connections.ask(REQUEST)
            assert (answer.status, answer.body) == (200, b"body")
        assert len(asked) == 3
        assert len(connections._idle) == 1


async def test_an_answer_may_end_with_its_connection() -> None:
    async with answering(b"HTTP/1.1 200 OK\r\n\r\nbo", b"dy", then="close") as (connections, asked):
        for _ in range(2):
            assert (await connections.ask(REQUEST)).body == b"body"
        assert not connections._idle
        assert len(asked) == 2


@pytest.mark.parametrize(
    "pieces",
    [
        (b"SMTP ready\r\n\r\n",),
        (b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nbody",),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",),
        (b"x" * 70_000,),
    ],
    ids=["another protocol", "no length", "too much", "no chunk", "an endless head"],
)
async def test_what_is_no_answer_breaks_the_connection(pieces: tuple[bytes, ...]) -> None:
    async with answering(*pieces) as (connections, _):
        with pytest.raises(Broken):
            await connections.ask(REQUEST)
        assert not connections._idle


@pytest.mark.parametrize("pieces", [(), (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbo",)], ids=["none", "half"])
async def test_a_connection_lost_before_the_answer_is_reported(pieces: tuple[bytes, ...]) -> None:
    async with answering(*pieces, then="close") as (connections, _):
        with pytest.raises(Broken):
            await connections.ask(REQUEST)


async def test_no_answer_in_time_is_a_timeout_and_the_connection_is_not_used_again() -> None:
    async with answering(b"HTTP/1.1 200 OK\r\n") as (connections, _):
        with pytest.raises(TimeoutError):
            await connections.ask(REQUEST)
        assert not connections._idle


async def test_a_cancelled_request_takes_its_connection_with_it_and_gives_its_place_back() -> None:
    async with answering() as (connections, asked):
        for _ in range(3):  # more than there are places
            task = asyncio.create_task(connections.ask(REQUEST))
            while len(asked) < _ + 1:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert not connections._idle
        assert not connections._busy


async def test_every_failure_of_the_road_is_unavailable() -> None:
    async with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbo", then="close") as (connections, _):
        url = f"http://127.0.0.1:{connections._port}"
        for lean in (True, False):
            with pytest.raises(BridgeError) as raised:
                await received(url, lean=lean)
            assert type(raised.value) is Unavailable
