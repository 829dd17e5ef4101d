"""Credentials renewed before their expiry, proxies as botocore knows them, and connections that are closed once they
were replaced; on both transports."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from bridge.core.errors import NotUsable, Unavailable
from bridge.legs.aws import AwsConnection, AwsOptions
from bridge.legs.aws_clients import Clients
from tests.legs.exam import until
from tests.legs.stub_sqs import Fault, Stub, messages, stub_sqs
from tests.legs.test_aws_roads import NOWHERE, received, tunnel

STALE = ["ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException", "InvalidToken"]
STALE += ["SignatureDoesNotMatch", "InvalidSignatureException", "InvalidAccessKeyId", "AuthFailure"]


def key_of(stub: Stub) -> str:
    found = re.search(r"Credential=([^/]+)/", stub.headers[-1]["Authorization"])
    assert found
    return found[1]


def accepts(stub: Stub, key: str, code: str = "InvalidClientTokenId") -> None:
    """Only what is signed with this key."""

    def reply(_: dict[str, Any]) -> Any:
        if key_of(stub) != key:
            raise Fault(403, code)
        return messages("m")

    stub.replies["ReceiveMessage"] = stub.replies["ListQueues"] = reply


def written(file: Path, key: str) -> None:
    """With no key, a file that holds none."""
    if not key:
        file.write_text("")
        return
    file.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = s-{key}\n")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of credentials, which are AKIDONE's."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    written(tmp_path / "credentials", "AKIDONE")
    return tmp_path / "credentials"


@pytest.fixture
async def stub() -> AsyncIterator[Stub]:
    async with stub_sqs() as found:
        yield found


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
async def aws(stub: Stub, lean: bool, told: list[str]) -> AsyncIterator[AwsConnection]:
    options = AwsOptions(region="eu-west-1", endpoint_url=stub.url, lean=lean)
    async with AwsConnection(options, jitter=lambda: 0.0, report=lambda event, _: told.append(event)) as found:
        yield found


async def receive(aws: AwsConnection) -> Any:
    return await aws.call("sqs", "receive_message", about="q", QueueUrl="q")


@pytest.mark.parametrize("code", STALE)
async def test_a_file_that_was_replaced_is_read_when_the_old_keys_are_refused(
    stub: Stub, aws: AwsConnection, file: Path, told: list[str], code: str
) -> None:
    accepts(stub, "AKIDONE", code)
    await receive(aws)
    written(file, "AKIDTWO")
    await receive(aws)
    assert key_of(stub) == "AKIDONE"  # what works is not touched
    accepts(stub, "AKIDTWO", code)
    assert (await receive(aws))["Messages"]
    assert told == ["credentials"]
    assert (await aws.call("sqs", "list_queues", about="q"))["Messages"]  # the other calls too
    assert told == ["credentials"]


async def test_many_calls_refused_at_once_read_the_credentials_once(
    stub: Stub, aws: AwsConnection, file: Path, told: list[str]
) -> None:
    accepts(stub, "AKIDONE")
    await receive(aws)
    written(file, "AKIDTWO")
    accepts(stub, "AKIDTWO")
    answers = await asyncio.gather(*[receive(aws) for _ in range(20)])
    assert all(each["Messages"] for each in answers)
    assert told == ["credentials"]


async def test_keys_that_are_refused_and_are_still_the_same_are_not_read_at_every_call(
    stub: Stub, aws: AwsConnection, file: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Clients] = []

    class Counted(Clients):
        def __init__(self, options: AwsOptions) -> None:
            super().__init__(options)
            made.append(self)

    monkeypatch.setattr("bridge.legs.aws.Clients", Counted)
    accepts(stub, "AKIDTWO")
    for _ in range(10):
        with pytest.raises(NotUsable, match="check which role"):
            await receive(aws)
    assert len(made) == 1
    assert not told
    assert not aws._retired
    written(file, "AKIDTWO")
    monkeypatch.setattr("bridge.legs.aws.RENEW_SECONDS", 0.0)
    assert (await receive(aws))["Messages"]


async def test_credentials_that_come_only_later_are_found(
    stub: Stub, aws: AwsConnection, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.legs.aws.RENEW_SECONDS", 0.0)
    accepts(stub, "AKIDONE")
    written(file, "")
    with pytest.raises(NotUsable, match="check the aws section"):
        await aws.call("sqs", "list_queues", about="q")
    written(file, "AKIDONE")
    assert (await receive(aws))["Messages"]
    assert (await aws.call("sqs", "list_queues", about="q"))["Messages"]


@asynccontextmanager
async def container(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[dict[str, Any]]:
    """The endpoint that gives a container its credentials: `key` valid for a day, or `status`."""
    gives: dict[str, Any] = {"key": "AKIDONE", "status": 200}

    async def answer(_: web.Request) -> web.Response:
        found = {
            "AccessKeyId": gives["key"],
            "SecretAccessKey": "s",
            "Token": "t",
            "Expiration": "2999-01-01T00:00:00Z",
        }
        return web.Response(status=gives["status"], text=json.dumps(found))

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{runner.addresses[0][1]}/")
    monkeypatch.setattr("aiobotocore.utils.AioContainerMetadataFetcher.RETRY_ATTEMPTS", 1)
    monkeypatch.setattr("aiobotocore.utils.AioContainerMetadataFetcher.SLEEP_TIME", 0)
    try:
        yield gives
    finally:
        await runner.cleanup()


async def test_an_endpoint_that_gives_new_credentials_before_the_old_expire(
    stub: Stub, aws: AwsConnection, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with container(monkeypatch) as gives:
        accepts(stub, "AKIDONE", "ExpiredTokenException")
        await receive(aws)
        gives["key"] = "AKIDTWO"
        accepts(stub, "AKIDTWO", "ExpiredTokenException")
        assert (await receive(aws))["Messages"]
        assert told == ["credentials"]


@pytest.mark.parametrize(
    ("status", "kind"), [(503, Unavailable), (500, Unavailable), (429, Unavailable), (403, NotUsable)]
)
async def test_an_endpoint_of_credentials_that_fails_is_an_outage_of_its_own(
    aws: AwsConnection, monkeypatch: pytest.MonkeyPatch, status: int, kind: type[Exception]
) -> None:
    async with container(monkeypatch) as gives:
        gives["status"] = status
        with pytest.raises(kind, match=r"(source of credentials|credentials endpoint)") as raised:
            await receive(aws)
        assert type(raised.value) is kind
        assert "traceback" not in str(raised.value)


# -- connections that were replaced


async def test_replaced_connections_are_closed_once_nothing_is_under_way(stub: Stub, aws: AwsConnection) -> None:
    gate = asyncio.Event()

    async def slow(_: dict[str, Any]) -> Any:
        await gate.wait()
        return messages("m")

    stub.replies["ReceiveMessage"] = slow
    polls = [asyncio.create_task(receive(aws)) for _ in range(3)]
    await until(lambda: len(stub.calls) == 3)
    old = aws._clients
    aws.renew()
    assert aws._clients is not old
    await asyncio.sleep(0)
    assert not old.closed
    gate.set()
    assert all(each["Messages"] for each in await asyncio.gather(*polls))
    await until(lambda: old.closed)


async def test_a_hundred_renewals_leave_one_set_of_connections(stub: Stub, aws: AwsConnection) -> None:
    stub.replies["ReceiveMessage"] = lambda _: messages("m")
    await receive(aws)
    used = []
    for _ in range(100):
        used.append(aws._clients)
        aws.renew()
    await receive(aws)
    await until(lambda: all(each.closed for each in used))
    aws.renew()
    assert len(aws._retired) == 1


# -- proxies


PROXIES: dict[str, dict[str, str]] = {
    "lower case": {"http_proxy": "http://{}"},
    "no scheme": {"http_proxy": "{}"},
    "two slashes": {"http_proxy": "//{}"},
    "upper case, no scheme": {"HTTP_PROXY": "{}"},
}


@pytest.mark.parametrize("variables", PROXIES.values(), ids=list(PROXIES))
async def test_a_proxy_is_found_as_botocore_finds_it(
    stub: Stub, lean: bool, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stub.replies["ReceiveMessage"] = lambda _: messages("m")
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(urlsplit(stub.url).netloc))
    assert await received(f"http://{NOWHERE}", lean=lean) == ["m"]
    for name, value in (("NO_PROXY", "test.invalid"), ("NO_PROXY", f"other.org,.{NOWHERE}"), ("no_proxy", "*")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            with pytest.raises(Unavailable):
                await received(f"http://{NOWHERE}", lean=lean)


async def test_an_https_proxy_without_a_scheme(lean: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async with tunnel(1) as (proxy, asked):
        monkeypatch.setenv("HTTPS_PROXY", urlsplit(proxy).netloc)
        with pytest.raises(Unavailable):
            await received(f"https://{NOWHERE}", lean=lean)
    assert asked
    assert set(asked) == {f"CONNECT {NOWHERE}:443 HTTP/1.1"}
