"""SQS and SNS for the legs' tests: every test that asks for them runs on two implementations."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from bridge.legs.aws import AwsConnection, AwsOptions
from tests.legs.aws_world import REGION, World, world
from tests.legs.stub_sqs import Stub, stub_sqs


@pytest.fixture(params=["moto_server", "ministack_server"])
async def aws_world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with world(request.getfixturevalue(request.param).url) as found:
        yield found


@pytest.fixture(params=["lean", "botocore"])
def lean(request: pytest.FixtureRequest) -> bool:
    """Which transport the SQS calls of a test take."""
    return bool(request.param == "lean")


@pytest.fixture
async def aws(aws_world: World, lean: bool) -> AsyncIterator[AwsConnection]:
    async with AwsConnection(AwsOptions(region=REGION, endpoint_url=aws_world.url, lean=lean)) as connection:
        yield connection


@pytest.fixture
async def stub() -> AsyncIterator[Stub]:
    """An SQS that answers what a test says."""
    async with stub_sqs() as found:
        yield found


@pytest.fixture
async def stub_aws(stub: Stub, lean: bool) -> AsyncIterator[AwsConnection]:
    options = AwsOptions(region="eu-west-1", endpoint_url=stub.url, lean=lean)
    async with AwsConnection(options, jitter=lambda: 0.0) as connection:
        yield connection
