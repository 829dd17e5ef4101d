"""The lean transport beside botocore: the same signatures, the same answers, the same errors."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.errors import BridgeError
from bridge.legs.aws import AwsConnection, AwsOptions
from bridge.legs.aws_lean import CALLS, CONTENT_TYPE, Signer
from tests.legs.aws_world import REGION, World
from tests.legs.stub_sqs import Fault, messages, stub_sqs


@dataclass(frozen=True)
class Keys:
    access_key: str
    secret_key: str
    token: str | None


ASCII = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)
HOSTS = st.sampled_from(
    ["sqs.eu-west-1.amazonaws.com", "sqs-fips.us-east-1.amazonaws.com", "127.0.0.1:4566", "sqs.eu-west-1.api.aws"]
)


@given(
    keys=st.builds(Keys, ASCII, ASCII, st.none() | ASCII),
    host=HOSTS,
    region=st.sampled_from(["eu-west-1", "us-gov-east-1"]),
    operation=st.sampled_from(sorted(CALLS.values())),
    body=st.binary(max_size=200),
)
def test_every_signature_is_the_one_botocore_makes(
    keys: Keys, host: str, region: str, operation: str, body: bytes
) -> None:
    target = f"AmazonSQS.{operation}"
    headers = {"Content-Type": CONTENT_TYPE, "X-Amz-Target": target, "x-amzn-query-mode": "true"}
    request = AWSRequest(method="POST", url=f"https://{host}/", data=body, headers=headers)
    SigV4Auth(keys, "sqs", region).add_auth(request)
    theirs = dict(request.headers.items())
    at = time.mktime(time.strptime(theirs["X-Amz-Date"], "%Y%m%dT%H%M%SZ")) - time.timezone
    signer = Signer(host, region)
    for _ in range(2):  # the second time with the key that was kept
        ours = signer.headers(target, body, keys, at)
        assert {name: ours[name] for name in theirs} == theirs


def test_new_keys_and_a_new_day_are_noticed() -> None:
    signer = Signer("host", "eu-west-1")
    one, two = Keys("a", "s1", None), Keys("a", "s2", None)

    def signed(keys: Keys, at: float) -> str:
        return signer.headers("AmazonSQS.ReceiveMessage", b"", keys, at)["Authorization"]

    for keys, at in ((one, 0.0), (two, 0.0), (one, 86_400.0), (one, 0.0)):
        fresh = Signer("host", "eu-west-1").headers("AmazonSQS.ReceiveMessage", b"", keys, at)["Authorization"]
        assert signed(keys, at) == fresh


@pytest.mark.server
async def test_both_read_the_same_answers(aws_world: World, name: str) -> None:
    url = await aws_world.queue(name, VisibilityTimeout="30")
    attributes = {
        "text": {"DataType": "String", "StringValue": "ä ☃"},
        "number": {"DataType": "Number.int", "StringValue": "5"},
        "bytes": {"DataType": "Binary.png", "BinaryValue": b"\x00\xff"},
    }
    answers = []
    for lean in (True, False):
        async with AwsConnection(AwsOptions(region=REGION, endpoint_url=aws_world.url, lean=lean)) as aws:

            async def call(operation: str, aws: AwsConnection = aws, **arguments: Any) -> Any:
                return await aws.call("sqs", operation, about=name, QueueUrl=url, **arguments)

            assert "Messages" not in await call("receive_message", WaitTimeSeconds=0)
            entry = {"Id": "a", "MessageBody": "body ☃", "MessageAttributes": attributes}
            sent = await call("send_message_batch", Entries=[entry])
            received = await call(
                "receive_message",
                MaxNumberOfMessages=10,
                WaitTimeSeconds=1,
                MessageSystemAttributeNames=["All"],
                MessageAttributeNames=["All"],
            )
            (message,) = received["Messages"]
            handle = {"Id": "a", "ReceiptHandle": message["ReceiptHandle"]}
            shown = await call("change_message_visibility_batch", Entries=[{**handle, "VisibilityTimeout": 60}])
            deleted = await call("delete_message_batch", Entries=[handle])
            stable = {key: message[key] for key in ("Body", "MD5OfBody", "MessageAttributes")}
            ids = [[each["Id"] for each in answer["Successful"]] for answer in (sent, shown, deleted)]
            answers.append((stable, sorted(message["Attributes"]), ids))
    assert answers[0] == answers[1]


FAULTS = [
    Fault(400, "QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue"),
    Fault(400, "OverLimit"),
    Fault(400, "RequestThrottled"),
    Fault(403, "AccessDeniedException"),
    Fault(403, "ExpiredTokenException"),
    Fault(400, "ReceiptHandleIsInvalid"),
    Fault(400, "KmsAccessDenied", "KMS.AccessDeniedException"),
    Fault(400, "NobodyKnows"),
    Fault(503, "ServiceUnavailable"),
    Fault(500, "InternalFailure"),
]


@pytest.mark.server
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
async def test_both_shows_the_same_errors(fault: Fault) -> None:
    told = []
    async with stub_sqs() as stub:

        def reply(body: dict[str, Any]) -> Any:
            raise fault

        stub.replies["ReceiveMessage"] = reply
        for lean in (True, False):
            options = AwsOptions(region=REGION, endpoint_url=stub.url, lean=lean)
            async with AwsConnection(options, jitter=lambda: 0.0) as aws:
                with pytest.raises(BridgeError) as raised:
                    await aws.call("sqs", "receive_message", about="q", missing="create it", QueueUrl="q")
                told.append((type(raised.value), str(raised.value)))
    assert told[0] == told[1]


@pytest.mark.server
async def test_no_answer_and_no_server_are_unavailable_on_both() -> None:
    for lean in (True, False):
        options = AwsOptions(region=REGION, endpoint_url="http://127.0.0.1:1", lean=lean)
        async with AwsConnection(options, jitter=lambda: 0.0) as aws:
            with pytest.raises(BridgeError) as raised:
                await aws.call("sqs", "receive_message", about="q", QueueUrl="q")
            assert type(raised.value).__name__ == "Unavailable"


@pytest.mark.server
async def test_many_calls_side_by_side_make_one_session() -> None:
    async with stub_sqs() as stub:
        stub.replies["ReceiveMessage"] = lambda body: messages("m")
        async with AwsConnection(AwsOptions(region=REGION, endpoint_url=stub.url)) as aws:
            calls = [aws.call("sqs", "receive_message", about="q", QueueUrl="q") for _ in range(30)]
            assert len(await asyncio.gather(*calls)) == 30
            assert aws._clients.lean is not None
