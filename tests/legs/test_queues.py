"""What an operator changes while a route runs, errors that are not the message's, and queues that are elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from bridge.core.errors import BridgeError, Failed, NotUsable, Refused, Throttled, Unavailable
from bridge.core.models import Attribute, SnsOut, SqsOut
from bridge.core.route import Receipt
from bridge.legs.aws import AwsConnection
from bridge.legs.aws_errors import coded_error
from bridge.legs.backlogs import WatchedQueue
from bridge.legs.queues import LEASE, Queue, open_queue
from bridge.legs.sns import SnsDestination, Topic, open_topic
from bridge.legs.sqs import SqsDestination, SqsSource
from tests.legs.stub_sqs import Fault, Stub, all_good, messages

ARN = "arn:aws:sqs:eu-west-1:123456789012:q"
QUEUE = Queue("http://q/1/q", ARN, "q", False, 30.0, 1_048_576, 345_600.0, False)
FIFO = replace(QUEUE, name="q.fifo", arn=f"{ARN}.fifo", fifo=True)


def rules(stub: Stub, **attributes: str) -> None:
    facts = {"QueueArn": ARN, "ApproximateNumberOfMessages": "0", **attributes}
    stub.replies["GetQueueAttributes"] = lambda _: {"Attributes": facts}
    stub.replies["GetQueueUrl"] = lambda _: {"QueueUrl": f"{stub.url}/1/q"}


# -- what changes while a route runs


@pytest.mark.parametrize(
    ("visibility", "asked"), [(30.0, 30), (6.0, 6), (120.0, 120), (0.0, LEASE), (43_200.0, 43_200)]
)
async def test_a_receive_asks_for_the_lease_that_is_counted_on(
    stub: Stub, stub_aws: AwsConnection, visibility: float, asked: int
) -> None:
    stub.replies["ReceiveMessage"] = lambda _: messages("m")
    source = SqsSource(stub_aws, replace(QUEUE, visibility_timeout=visibility))
    (delivery,) = await source.receive(10)
    (call,) = stub.named("ReceiveMessage")
    assert call["VisibilityTimeout"] == asked
    loan: Any = delivery.token
    assert loan.until - loan.first == pytest.approx(asked)


async def test_a_look_at_the_backlog_brings_what_an_operator_changed(stub: Stub, stub_aws: AwsConnection) -> None:
    stub.replies["ReceiveMessage"] = lambda _: messages("m")
    source = SqsSource(stub_aws, QUEUE)
    assert not source.queue.redrives
    dead = '{"deadLetterTargetArn":"arn:aws:sqs:eu-west-1:1:dead","maxReceiveCount":5}'
    rules(stub, VisibilityTimeout="90", MessageRetentionPeriod="600", MaximumMessageSize="2048", RedrivePolicy=dead)
    assert (await source.backlog()).retention == 600.0
    assert len(stub.named("GetQueueAttributes")) == 1  # not one call more
    assert (source.queue.max_message_size, source.queue.dead_letter) == (2048, "arn:aws:sqs:eu-west-1:1:dead")
    await source.receive(10)
    assert stub.named("ReceiveMessage")[-1]["VisibilityTimeout"] == 90
    rules(stub, VisibilityTimeout="60")
    await source.backlog()
    assert not source.queue.redrives  # no policy any more
    await source.receive(10)
    assert stub.named("ReceiveMessage")[-1]["VisibilityTimeout"] == 60


async def test_a_limit_that_was_raised_is_seen_before_a_message_is_refused(stub: Stub, stub_aws: AwsConnection) -> None:
    stub.replies["SendMessageBatch"] = all_good
    destination = SqsDestination(stub_aws, replace(QUEUE, max_message_size=1024))
    rules(stub, MaximumMessageSize="2048")
    answers = await destination.publish([SqsOut("x" * 2000), SqsOut("x" * 3000), SqsOut("y")])
    assert [type(each) for each in answers] == [Receipt, Refused, Receipt]
    assert "takes at most 2,048" in str(answers[1])
    rules(stub, MaximumMessageSize="1048576")
    # Asked again, but not for every message.
    assert isinstance((await destination.publish([SqsOut("x" * 3000)]))[0], Refused)
    assert len(stub.named("GetQueueAttributes")) == 1


async def test_a_limit_that_was_lowered_is_no_fault_of_the_message(stub: Stub, stub_aws: AwsConnection) -> None:
    def reply(body: dict[str, Any]) -> Any:
        large = [each["Id"] for each in body["Entries"] if len(each["MessageBody"]) > 2048]
        good = [each for each in all_good(body)["Successful"] if each["Id"] not in large]
        said = "One or more parameters are invalid. Reason: Message must be shorter than 2048 bytes."
        failed = [{"Id": each, "SenderFault": True, "Code": "InvalidParameterValue", "Message": said} for each in large]
        return {"Successful": good, "Failed": failed}

    stub.replies["SendMessageBatch"] = reply
    rules(stub, MaximumMessageSize="2048")
    destination = SqsDestination(stub_aws, QUEUE)
    large = SqsOut("x" * 3000)
    assert destination.fits(large)
    answers = await destination.publish([large, SqsOut("y")])
    assert [type(each) for each in answers] == [Failed, Receipt]  # tried again, a claim check may keep it
    assert not destination.fits(large)
    assert isinstance((await destination.publish([large]))[0], Refused)


async def test_a_limit_that_cannot_be_read_is_what_it_was(stub: Stub, stub_aws: AwsConnection) -> None:
    def denied(_: dict[str, Any]) -> Any:
        raise Fault(403, "AccessDeniedException")

    stub.replies["GetQueueAttributes"] = denied
    destination = SqsDestination(stub_aws, replace(QUEUE, max_message_size=10))
    assert isinstance((await destination.publish([SqsOut("x" * 11)]))[0], Refused)


class TopicStub:
    """The connection of a topic: `limit` is its MaximumMessageSize now."""

    def __init__(self, limit: str | None) -> None:
        self.limit, self.looks = limit, 0

    async def call(self, service: str, operation: str, **arguments: Any) -> Any:
        if operation == "get_topic_attributes":
            self.looks += 1
            return {"Attributes": {} if self.limit is None else {"MaximumMessageSize": self.limit}}
        entries = arguments["PublishBatchRequestEntries"]
        return {"Successful": [{"Id": each["Id"], "MessageId": "m"} for each in entries]}


@pytest.mark.parametrize(("limit", "kind"), [("4096", Receipt), ("3072", Receipt), ("2048", Refused), (None, Refused)])
async def test_a_topics_limit_is_read_again_as_well(limit: str | None, kind: type) -> None:
    connection = TopicStub(limit)
    topic = Topic("arn:aws:sns:eu-west-1:1:t", "t", False, 1024)
    destination = SnsDestination(connection, topic)  # type: ignore[arg-type]  # all it asks for is call()
    (answer,) = await destination.publish([SnsOut("x" * 3000)])
    assert type(answer) is kind
    await destination.publish([SnsOut("x" * 5000)])
    assert connection.looks == 1


# -- whose fault it is

KEY = "arn:aws:kms:eu-west-1:1:key/k"
CODES: dict[str, type[BridgeError]] = {
    "InvalidMessageContents": Refused,
    "InvalidParameterValue": Refused,
    "InvalidParameter": Refused,
    "MissingParameter": Refused,
    "AWS.SimpleQueueService.BatchRequestTooLong": Refused,
    "KMS.DisabledException": NotUsable,
    "KMS.KMSInvalidStateException": NotUsable,
    "KMS.NotFoundException": NotUsable,
    "KMS.AccessDeniedException": NotUsable,
    "KMSAccessDenied": NotUsable,
    "KMS.SomethingNobodyKnowsException": NotUsable,
    "KMS.ThrottlingException": Throttled,
    "KMSThrottling": Throttled,
    "KMS.LimitExceededException": Throttled,
    "KMS.KMSInternalException": Unavailable,
    "KMS.DependencyTimeoutException": Unavailable,
    "AuthFailure": NotUsable,
    "AuthorizationError": NotUsable,
    "AccessDenied": NotUsable,
    "LimitExceeded": Throttled,
    "ExpiredToken": NotUsable,
    "UnsupportedOperation": NotUsable,
    "BrandNewException": Failed,
    "": Failed,
}


async def test_only_content_and_size_are_blamed_on_a_message(stub: Stub, stub_aws: AwsConnection) -> None:
    failed: dict[str, Any] = {}
    stub.replies["SendMessageBatch"] = lambda body: {"Successful": all_good(body)["Successful"][1:], "Failed": [failed]}
    destination = SqsDestination(stub_aws, replace(QUEUE, kms_key=KEY))
    for code, kind in CODES.items():
        for sender in (True, False):
            failed = {"Id": "0", "SenderFault": sender, "Code": code, "Message": "no"}
            first, second = await destination.publish([SqsOut("a"), SqsOut("b")])
            assert type(first) is kind, code
            assert isinstance(second, Receipt)
            if code.lower().startswith("kms") and kind is NotUsable:
                assert KEY in str(first)


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("Invalid parameter: Message Reason: Message must be shorter than 262144 bytes", Refused),
        ("Value for parameter DelaySeconds is invalid", Refused),
        ("Invalid parameter: TopicArn", NotUsable),
        ("1 validation error detected: Value at 'topicArn' failed to satisfy constraint", NotUsable),
        ("Value http://q for parameter QueueUrl is invalid", NotUsable),
        ("1 validation error detected: Value 'kms' at 'queueUrl' failed to satisfy constraint", NotUsable),
        # The message's own words in AWS's sentence, and the name of an attribute, are not the address.
        ("The message attribute 'credential' has an invalid message attribute type", Refused),
        ("Value (token) for parameter MessageAttribute.Type is invalid", Refused),
        ('Invalid parameter: Message Attribute value "topicArn" is not valid', Refused),
        ("Value 'x' at 'messageAttributes.token.member.dataType' failed to satisfy constraint", Refused),
        ("Message (user) attribute 'QueueUrl' must not start with AWS.", Refused),
    ],
)
def test_a_parameter_of_the_address_is_no_content(said: str, kind: type[BridgeError]) -> None:
    for code in ("InvalidParameter", "InvalidParameterValue", "ValidationException", "MissingParameter"):
        assert type(coded_error((code,), f"x: {said}", said=said)) is kind


@pytest.mark.parametrize("code", ["KmsDisabled", "KmsNotFound"])
async def test_a_whole_call_refused_for_the_key_names_it(stub: Stub, stub_aws: AwsConnection, code: str) -> None:
    def refused(_: dict[str, Any]) -> Any:
        raise Fault(400, code, f"KMS.{code[3:]}Exception")

    stub.replies["SendMessageBatch"] = stub.replies["ReceiveMessage"] = refused
    queue = replace(QUEUE, kms_key="alias/payments")
    for answer in await SqsDestination(stub_aws, queue).publish([SqsOut("a"), SqsOut("b")]):
        assert type(answer) is NotUsable
        assert "alias/payments" in str(answer)
    with pytest.raises(NotUsable, match="alias/payments"):
        await SqsSource(stub_aws, queue).receive(10)


async def test_a_text_that_no_json_can_hold_parks_alone(stub: Stub, stub_aws: AwsConnection) -> None:
    def reply(body: dict[str, Any]) -> Any:
        if any("MessageAttributes" in each for each in body["Entries"]):
            raise Fault(400, "InvalidMessageContents")  # what botocore sends, SQS refuses
        return all_good(body)

    stub.replies["SendMessageBatch"] = reply
    odd = SqsOut("a", {"name": Attribute("String", "\ud800")})
    answers = await SqsDestination(stub_aws, QUEUE).publish([SqsOut("a"), odd, SqsOut("b")])
    assert [type(each) for each in answers] == [Receipt, Refused, Receipt]


async def test_an_url_that_is_not_the_endpoints_is_called_that(stub: Stub, stub_aws: AwsConnection) -> None:
    def refused(_: dict[str, Any]) -> Any:
        raise Fault(404, "InvalidAddress")

    stub.replies["ReceiveMessage"] = refused
    with pytest.raises(NotUsable, match="use its name or ARN") as raised:
        await SqsSource(stub_aws, QUEUE).receive(10)
    assert "policy" not in str(raised.value)


@pytest.mark.parametrize("status", [401, 403, 407, 404, 400])
async def test_an_error_that_aws_did_not_name_is_not_of_aws(stub: Stub, stub_aws: AwsConnection, status: int) -> None:
    page = {"status": status, "text": "<html>log in</html>", "content_type": "text/html"}
    stub.replies["ReceiveMessage"] = lambda _: web.Response(**page)  # type: ignore[arg-type]
    with pytest.raises(Unavailable, match="what answered is not AWS"):
        await SqsSource(stub_aws, QUEUE).receive(10)


@pytest.mark.parametrize("status", [201, 204, 301, 302, 307, 308])
async def test_a_redirect_is_not_followed(stub: Stub, stub_aws: AwsConnection, status: int) -> None:
    stub.replies["ReceiveMessage"] = lambda _: web.Response(status=status, headers={"Location": stub.url})
    with pytest.raises(Unavailable):
        await stub_aws.call("sqs", "receive_message", about="q", once=True, QueueUrl="q")


# -- a receive whose answer was lost


@pytest.mark.parametrize("lost", [Fault(503, "ServiceUnavailable"), Fault(500, "InternalFailure")])
async def test_the_repeat_of_a_receive_carries_its_id_and_the_next_one_another(
    stub: Stub, stub_aws: AwsConnection, lost: Fault
) -> None:
    answers: list[Callable[[], Any]] = []

    def failing() -> Any:
        raise lost

    def reply(_: dict[str, Any]) -> Any:
        return answers.pop(0)()

    stub.replies["ReceiveMessage"] = reply
    source, other = SqsSource(stub_aws, FIFO), SqsSource(stub_aws, FIFO)
    answers += [failing, failing, lambda: messages("a"), dict, dict]
    assert len(await source.receive(10)) == 1
    assert await source.receive(10) == await other.receive(10) == []
    ids = [each["ReceiveRequestAttemptId"] for each in stub.named("ReceiveMessage")]
    assert ids[0] == ids[1] == ids[2]
    assert len({ids[0], ids[3], ids[4]}) == 3
    assert all(len(each) <= 128 for each in ids)


async def test_receives_side_by_side_have_ids_of_their_own_and_standard_queues_none(
    stub: Stub, stub_aws: AwsConnection
) -> None:
    stub.replies["ReceiveMessage"] = lambda _: {}
    source = SqsSource(stub_aws, FIFO)
    await asyncio.gather(*[source.receive(10) for _ in range(8)])
    assert len({each["ReceiveRequestAttemptId"] for each in stub.named("ReceiveMessage")}) == 8
    await SqsSource(stub_aws, QUEUE).receive(10)
    assert "ReceiveRequestAttemptId" not in stub.named("ReceiveMessage")[-1]


# -- elsewhere


@pytest.mark.parametrize(
    "asked",
    [
        "arn:aws:sqs:us-west-2:123456789012:q",
        "https://sqs.us-west-2.amazonaws.com/123456789012/q",
        "https://us-west-2.queue.amazonaws.com/123456789012/q",
        "https://sqs-fips.us-west-2.amazonaws.com/123456789012/q/",
        "https://vpce-1-2.sqs.us-west-2.vpce.amazonaws.com/123456789012/q",
    ],
)
async def test_a_queue_of_another_region_is_not_taken_for_its_namesake_here(
    stub: Stub, stub_aws: AwsConnection, asked: str
) -> None:
    rules(stub)
    with pytest.raises(NotUsable, match="us-west-2, and this connection is for eu-west-1") as raised:
        await open_queue(stub_aws, asked)
    assert "{kind: aws, region: us-west-2}" in raised.value.hint
    (seen,) = await WatchedQueue(stub_aws, asked).look()
    assert isinstance(seen.backlog, NotUsable)


@pytest.mark.parametrize(
    "answered",
    [
        "arn:aws:sqs:eu-west-1:999999999999:q",
        "arn:aws-cn:sqs:eu-west-1:123456789012:q",
        "arn:aws:sqs:eu-west-1:123456789012:other",
    ],
)
async def test_what_answers_is_what_was_asked_for(stub: Stub, stub_aws: AwsConnection, answered: str) -> None:
    rules(stub, QueueArn=answered)
    with pytest.raises(NotUsable, match="asked for"):
        await open_queue(stub_aws, ARN)
    rules(stub)
    for asked in (ARN, "q", f"{stub.url}/1/q", f"{stub.url}/1/q/"):
        assert (await open_queue(stub_aws, asked)).arn == ARN
    assert all(not each["QueueUrl"].endswith("/") for each in stub.named("GetQueueAttributes"))


async def test_another_account_in_an_url_is_another_queue(stub: Stub, stub_aws: AwsConnection) -> None:
    rules(stub)
    with pytest.raises(NotUsable, match="account 999999999999"):
        await open_queue(stub_aws, "https://sqs.eu-west-1.amazonaws.com/999999999999/q")


async def test_a_topic_of_another_region_is_refused_before_it_is_asked_for(stub_aws: AwsConnection) -> None:
    with pytest.raises(NotUsable, match="us-east-1, and this connection is for eu-west-1"):
        await open_topic(stub_aws, "arn:aws:sns:us-east-1:123456789012:t")
