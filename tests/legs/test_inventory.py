"""What `check` asks of AWS: permissions are told apart from everything else, by calls that change nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from bridge.core.errors import NotUsable
from bridge.legs.aws import AwsConnection, AwsOptions
from bridge.legs.inventory import may_consume, may_send
from tests.legs.stub_sqs import Fault, Stub, stub_sqs

HARMLESS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "ReceiveMessage": lambda body: body["MaxNumberOfMessages"] == 0,
    "DeleteMessageBatch": lambda body: [each["ReceiptHandle"] for each in body["Entries"]] == ["nats-sqs-bridge-check"],
    "ChangeMessageVisibilityBatch": lambda body: (
        [each["ReceiptHandle"] for each in body["Entries"]] == ["nats-sqs-bridge-check"]
    ),
    "SendMessageBatch": lambda body: body["Entries"] == [],
}
"""Whether a call could have changed anything, by operation."""


@pytest.fixture
async def stub() -> AsyncIterator[Stub]:
    async with stub_sqs() as found:
        attributes = {
            "QueueArn": "arn:aws:sqs:eu-west-1:1:q",
            "VisibilityTimeout": "30",
            "MaximumMessageSize": "262144",
        }
        found.replies["GetQueueUrl"] = lambda _: {"QueueUrl": f"{found.url}/1/q"}
        found.replies["GetQueueAttributes"] = lambda _: {"Attributes": attributes}
        yield found


@pytest.fixture
async def aws(stub: Stub) -> AsyncIterator[AwsConnection]:
    async with AwsConnection(AwsOptions(region="eu-west-1", endpoint_url=stub.url)) as connection:
        yield connection


def refusing(name: str, status: int = 400) -> Any:
    def reply(body: dict[str, Any]) -> Any:
        raise Fault(status, name)

    return reply


@pytest.mark.parametrize("denied", HARMLESS)
async def test_a_permission_that_is_missing_is_named(stub: Stub, aws: AwsConnection, denied: str) -> None:
    for operation in HARMLESS:
        stub.replies[operation] = refusing("InvalidParameterValue")  # as AWS answers those who may
    assert [*await may_consume(aws, "q"), *await may_send(aws, "q")] == []
    stub.replies[denied] = refusing("AccessDeniedException", 403)
    (error,) = [*await may_consume(aws, "q"), *await may_send(aws, "q")]
    assert isinstance(error, NotUsable)
    assert "policy" in error.hint
    for operation, harmless in HARMLESS.items():
        assert len(stub.named(operation)) == 2
        assert all(harmless(body) for body in stub.named(operation))
