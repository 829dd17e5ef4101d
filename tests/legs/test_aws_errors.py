"""Every error AWS or its SDK can raise is an instruction to the pump: an upgrade cannot add one unseen."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import botocore.exceptions
import botocore.session
import pytest
from aiohttp import web

from bridge.core.errors import BridgeError, Failed, NotUsable, Refused, Throttled, Unavailable
from bridge.embedded import MotoServer
from bridge.legs.aws import AwsConnection, AwsOptions
from bridge.legs.aws_errors import CODES, aws_error, coded_error
from bridge.legs.backlogs import WatchedQueue
from bridge.legs.sqs import Queue, SqsSource, open_queue
from tests.legs.aws_world import REGION

KNOWN = frozenset().union(*CODES.values())


def shapes() -> list[str]:
    session = botocore.session.get_session()
    names = {
        shape.name for service in ("sqs", "sns", "sts") for shape in session.get_service_model(service).error_shapes
    }
    return sorted(names)


@pytest.mark.parametrize("name", shapes())
def test_every_modelled_error_is_classed_on_purpose(name: str) -> None:
    plain = name.lower()
    assert KNOWN & {plain, plain.removesuffix("exception"), plain.removesuffix("error")}, f"class {name} in CODES"


def test_no_code_is_classed_twice() -> None:
    assert sum(len(codes) for codes in CODES.values()) == len(KNOWN)


NETWORK = {
    "CapacityNotAvailableError",
    "ConnectTimeoutError",
    "ConnectionClosedError",
    "ConnectionError",
    "EndpointConnectionError",
    "HTTPClientError",
    "IncompleteReadError",
    "MetadataRetrievalError",
    "ProxyConnectionError",
    "ReadTimeoutError",
    "ResponseStreamingError",
    "SSLError",
}


def sdk_errors() -> list[Any]:
    return [
        kind
        for kind in vars(botocore.exceptions).values()
        if inspect.isclass(kind) and issubclass(kind, Exception) and not issubclass(kind, Warning)
    ]


@pytest.mark.parametrize("kind", sdk_errors(), ids=lambda kind: kind.__name__)
def test_every_error_of_the_sdk_becomes_ours(kind: type[Exception]) -> None:
    error = kind.__new__(kind)
    error.response = {"Error": {"Code": "Strange", "Message": "m"}}  # type: ignore[attr-defined]
    answer = aws_error(error, "doing")
    if issubclass(kind, botocore.exceptions.ClientError):
        assert type(answer) is Failed
    elif kind.__name__ in NETWORK:
        assert type(answer) is Unavailable
    elif kind.__name__ == "ParamValidationError":
        assert type(answer) is Refused
    else:
        assert type(answer) is NotUsable
        assert answer.hint


@pytest.mark.parametrize("error", [aiohttp.ClientConnectionError("x"), TimeoutError(), ConnectionResetError("x")])
def test_the_network_is_an_outage(error: Exception) -> None:
    assert type(aws_error(error, "doing")) is Unavailable


@pytest.mark.parametrize(("status", "kind"), [(500, Unavailable), (503, Unavailable), (429, Throttled), (400, Failed)])
def test_an_unknown_code_is_classed_by_its_status(status: int, kind: type[BridgeError]) -> None:
    assert type(coded_error(("BrandNew",), "text", status=status)) is kind


def test_a_parameter_botocore_refuses_is_not_quoted() -> None:
    error = botocore.exceptions.ParamValidationError(report="Invalid type: secret body")
    assert "secret body" not in str(aws_error(error, "sqs send_message_batch q"))


async def test_no_credentials_no_region_and_no_profile_are_for_a_human(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    for options in (
        AwsOptions(region=REGION, endpoint_url="http://127.0.0.1:1"),
        AwsOptions(region=REGION, profile="nobody"),
        AwsOptions(region=REGION, role_arn="arn:aws:iam::123456789012:role/r"),
    ):
        async with AwsConnection(options) as aws:
            with pytest.raises(NotUsable, match="check the aws section"):
                await aws.call("sqs", "list_queues", about="q")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    async with AwsConnection(AwsOptions()) as aws:
        with pytest.raises(NotUsable, match="region"):
            await aws.call("sqs", "list_queues", about="q")


async def test_an_endpoint_no_one_answers_at_is_an_outage() -> None:
    async with AwsConnection(AwsOptions(region=REGION, endpoint_url="http://127.0.0.1:1")) as aws:
        with pytest.raises(Unavailable):
            await aws.call("sqs", "list_queues", about="q")


@asynccontextmanager
async def a_proxys_page() -> AsyncIterator[str]:
    """Where AWS should be, something answers everything with 200 and a page."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="<html><body>log in to the network<br></body></html>", content_type="text/html")

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("lean", [True, False], ids=["lean", "botocore"])
async def test_a_page_instead_of_an_answer_is_an_outage(lean: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    async with a_proxys_page() as url:
        options = AwsOptions(region=REGION, endpoint_url=url, lean=lean)
        async with AwsConnection(options, jitter=lambda: 0.0) as aws:
            with pytest.raises(Unavailable):
                await aws.call("sns", "list_topics", about="t")
            with pytest.raises(Unavailable):
                await aws.call("sns", "publish_batch", about="t", TopicArn="arn:x", PublishBatchRequestEntries=[])
            queue = Queue("http://q", "arn:q", "q", False, 30, 1_048_576, 345_600, False)
            with pytest.raises(Unavailable):
                await SqsSource(aws, queue).backlog()
            (seen,) = await WatchedQueue(aws, "http://q/1/q").look()
            assert isinstance(seen.backlog, Unavailable)
            with pytest.raises(Unavailable, match="what answered is not"):
                await SqsSource(aws, queue).receive(10)
            with pytest.raises(Unavailable):
                await open_queue(aws, "q")


@pytest.mark.server
async def test_a_role_is_assumed(moto_server: MotoServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", moto_server.url)
    role = "arn:aws:iam::210987654321:role/bridge"
    options = AwsOptions(region=REGION, endpoint_url=moto_server.url, role_arn=role, external_id="ours")
    async with AwsConnection(options) as aws:
        identity = await aws.call("sts", "get_caller_identity", about="role")
    assert identity["Arn"] == "arn:aws:sts::210987654321:assumed-role/bridge/nats-sqs-bridge"


@pytest.mark.server
async def test_a_bucket_that_is_not_there_is_answered_with_the_command(moto_server: MotoServer, name: str) -> None:
    options = AwsOptions(region=REGION, endpoint_url=moto_server.url, s3_endpoint_url=moto_server.url)
    async with AwsConnection(options) as aws:
        with pytest.raises(NotUsable, match=f"aws s3 mb s3://{name}"):
            await aws.call("s3", "head_bucket", about=name, missing=f"aws s3 mb s3://{name}", Bucket=name)
