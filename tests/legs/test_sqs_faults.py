"""What SQS does on a bad day, as its documentation has it: every failure is answered entry by entry."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bridge.core.errors import BridgeError, Failed, LeaseLost, NotUsable, Refused, Throttled, Unavailable
from bridge.core.models import SqsOut
from bridge.core.route import Ack, Receipt, Retry, Settlement
from bridge.legs.aws import AwsConnection
from bridge.legs.sqs import Queue, SqsDestination, SqsSource
from tests.legs.exam import until
from tests.legs.stub_sqs import Fault, Stub, all_good, messages


def queue(stub: Stub, *, fifo: bool = False, visibility: float = 30.0) -> Queue:
    return Queue(f"{stub.url}/1/q", "arn:aws:sqs:eu-west-1:1:q", "q", fifo, visibility, 1_048_576, 345_600.0, False)


def failing(*ids: str, code: str = "InternalError", sender: bool = False) -> Any:
    """A batch in which these entries fail."""

    def reply(body: dict[str, Any]) -> dict[str, Any]:
        good = [each for each in all_good(body)["Successful"] if each["Id"] not in ids]
        bad = [
            {"Id": each["Id"], "SenderFault": sender, "Code": code, "Message": "no"}
            for each in body["Entries"]
            if each["Id"] in ids
        ]
        return {"Successful": good, "Failed": bad}

    return reply


def raising(status: int, name: str, legacy: str = "") -> Any:
    def reply(body: dict[str, Any]) -> Any:
        raise Fault(status, name, legacy)

    return reply


@pytest.mark.parametrize(
    ("code", "sender", "kind"),
    [
        ("InternalError", False, Unavailable),
        ("RequestThrottled", False, Throttled),
        ("InvalidMessageContents", True, Refused),
        ("SomethingNew", True, Failed),
        ("SomethingNew", False, Failed),
    ],
)
async def test_entries_that_fail_are_distinguished(
    stub: Stub, stub_aws: AwsConnection, code: str, sender: bool, kind: type[BridgeError]
) -> None:
    stub.replies["SendMessageBatch"] = failing("1", "4", code=code, sender=sender)
    answers = await SqsDestination(stub_aws, queue(stub)).publish([SqsOut(str(n)) for n in range(6)])
    assert [type(answer) for answer in answers] == [Receipt, kind, Receipt, Receipt, kind, Receipt]


@pytest.mark.parametrize(
    ("status", "name", "legacy", "kind", "attempts"),
    [
        (500, "InternalFailure", "", Unavailable, 3),
        (503, "ServiceUnavailable", "", Unavailable, 3),
        (400, "RequestThrottled", "", Throttled, 3),
        (400, "ThrottlingException", "", Throttled, 3),
        (400, "OverLimit", "", Throttled, 1),
        (400, "QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue", NotUsable, 1),
        (403, "AccessDeniedException", "", NotUsable, 1),
        (403, "InvalidClientTokenId", "", NotUsable, 1),
        (400, "KmsDisabled", "", NotUsable, 1),
        (400, "SomethingNew", "", Failed, 1),
    ],
)
async def test_calls_that_fail_are_distinguished(
    stub: Stub, stub_aws: AwsConnection, status: int, name: str, legacy: str, kind: type[BridgeError], attempts: int
) -> None:
    stub.replies["SendMessageBatch"] = stub.replies["ReceiveMessage"] = raising(status, name, legacy)
    answers = await SqsDestination(stub_aws, queue(stub)).publish([SqsOut("a"), SqsOut("b")])
    assert [type(answer) for answer in answers] == [kind, kind]
    # No more than the standard of AWS's SDKs is repeated behind the pump's back.
    assert len(stub.named("SendMessageBatch")) == attempts
    with pytest.raises(kind):
        await SqsSource(stub_aws, queue(stub)).receive(1)


async def test_a_batch_refused_as_a_whole_is_sent_one_by_one(stub: Stub, stub_aws: AwsConnection) -> None:
    def reply(body: dict[str, Any]) -> Any:
        if any(each["MessageBody"] == "bad" for each in body["Entries"]):
            raise Fault(400, "InvalidMessageContents")
        return all_good(body)

    stub.replies["SendMessageBatch"] = reply
    answers = await SqsDestination(stub_aws, queue(stub)).publish([SqsOut("a"), SqsOut("bad"), SqsOut("b")])
    assert [type(answer) for answer in answers] == [Receipt, Refused, Receipt]


async def test_behind_a_failed_message_of_a_group_nothing_of_it_is_sent(stub: Stub, stub_aws: AwsConnection) -> None:
    sent: list[str] = []

    def reply(body: dict[str, Any]) -> Any:
        groups = [each["MessageGroupId"] for each in body["Entries"]]
        assert len(set(groups)) == len(groups)
        sent.extend(each["MessageBody"] for each in body["Entries"])
        return failing(*(each["Id"] for each in body["Entries"] if each["MessageBody"] == "a1"))(body)

    stub.replies["SendMessageBatch"] = reply
    outs = [SqsOut(f"{group}{n}", group=group, dedup_id=f"{group}{n}") for n in range(4) for group in "ab"]
    answers = await SqsDestination(stub_aws, queue(stub, fifo=True)).publish(outs)
    by_body = {out.body: type(answer) for out, answer in zip(outs, answers, strict=True)}
    assert by_body == dict.fromkeys(("a0", "b0", "b1", "b2", "b3"), Receipt) | {
        "a1": Unavailable,
        "a2": Failed,
        "a3": Failed,
    }
    assert "a2" not in sent
    assert "a3" not in sent


async def test_an_entry_aws_says_nothing_about_is_not_taken_for_sent(stub: Stub, stub_aws: AwsConnection) -> None:
    stub.replies["SendMessageBatch"] = lambda body: {"Successful": all_good(body)["Successful"][1:]}
    answers = await SqsDestination(stub_aws, queue(stub)).publish([SqsOut("a"), SqsOut("b")])
    assert [type(answer) for answer in answers] == [Failed, Receipt]


async def test_the_trace_header_travels_as_a_system_attribute(stub: Stub, stub_aws: AwsConnection) -> None:
    stub.replies["SendMessageBatch"] = all_good
    await SqsDestination(stub_aws, queue(stub)).publish([SqsOut("a", trace_header="Root=1-2")])
    (entry,) = stub.named("SendMessageBatch")[0]["Entries"]
    assert entry["MessageSystemAttributes"]["AWSTraceHeader"] == {"DataType": "String", "StringValue": "Root=1-2"}
    assert "MessageGroupId" not in entry


async def lend(source: SqsSource, stub: Stub, *names: str) -> list[Any]:
    stub.replies["ReceiveMessage"] = lambda body: messages(*names)
    return list(await source.receive(10))


async def test_deletes_that_fail_are_repeated_while_the_lease_lives(stub: Stub, stub_aws: AwsConnection) -> None:
    source = SqsSource(stub_aws, queue(stub))
    lent = await lend(source, stub, *"abc")
    answers = iter([raising(503, "ServiceUnavailable"), failing("1"), all_good])
    stub.replies["DeleteMessageBatch"] = lambda body: next(answers)(body)
    assert list(await source.settle([Settlement(each, Ack()) for each in lent])) == [None] * 3
    handles = [[each["ReceiptHandle"] for each in call["Entries"]] for call in stub.named("DeleteMessageBatch")]
    assert handles == [["h-a", "h-b", "h-c"], ["h-a", "h-b", "h-c"], ["h-b"]]


@pytest.mark.parametrize("code", ["ReceiptHandleIsInvalid", "InvalidParameterValue"])
async def test_an_expired_handle_is_a_lost_lease_and_not_repeated(
    stub: Stub, stub_aws: AwsConnection, code: str
) -> None:
    source = SqsSource(stub_aws, queue(stub))
    lent = await lend(source, stub, "a", "b")
    stub.replies["DeleteMessageBatch"] = failing("0", code=code, sender=True)
    answers = await source.settle([Settlement(each, Ack()) for each in lent])
    assert [type(answer) for answer in answers] == [LeaseLost, type(None)]
    assert len(stub.named("DeleteMessageBatch")) == 1


async def test_deletes_end_with_the_lease(stub: Stub, stub_aws: AwsConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.legs.sqs.SHORT_LEASE", 0)
    source = SqsSource(stub_aws, queue(stub, visibility=0.5))
    lent = await lend(source, stub, "a")
    stub.replies["DeleteMessageBatch"] = raising(503, "ServiceUnavailable")
    async with asyncio.timeout(5):
        (answer,) = await source.settle([Settlement(each, Ack()) for each in lent])
    assert isinstance(answer, Unavailable)


async def test_the_newest_handle_is_the_one_used(stub: Stub, stub_aws: AwsConnection) -> None:
    source = SqsSource(stub_aws, queue(stub))
    lent = await lend(source, stub, "a")
    stub.replies["ReceiveMessage"] = lambda body: messages("a", handle="new")
    assert list(await source.receive(10)) == []
    stub.replies["DeleteMessageBatch"] = all_good
    assert list(await source.settle([Settlement(lent[0], Ack())])) == [None]
    assert stub.named("DeleteMessageBatch")[0]["Entries"][0]["ReceiptHandle"] == "new-a"


async def test_a_retry_asks_for_whole_seconds_within_the_twelve_hours(stub: Stub, stub_aws: AwsConnection) -> None:
    source = SqsSource(stub_aws, queue(stub))
    lent = await lend(source, stub, *"abc")
    stub.replies["ChangeMessageVisibilityBatch"] = all_good
    retries = [Retry(0), Retry(0.2), Retry(1e9)]
    await source.settle([Settlement(each, retry) for each, retry in zip(lent, retries, strict=True)])
    asked = [each["VisibilityTimeout"] for each in stub.named("ChangeMessageVisibilityBatch")[0]["Entries"]]
    assert asked[:2] == [0, 1]
    assert 43_190 <= asked[2] <= 43_200


async def test_a_fifo_release_goes_last_first(stub: Stub, stub_aws: AwsConnection) -> None:
    source = SqsSource(stub_aws, queue(stub, fifo=True))
    lent = [each for chunk in ("abcdefgh", "ijklmnop") for each in await lend(source, stub, *chunk)]
    stub.replies["ChangeMessageVisibilityBatch"] = all_good
    await source.release(lent)
    asked = [each["ReceiptHandle"] for call in stub.named("ChangeMessageVisibilityBatch") for each in call["Entries"]]
    assert asked == [f"h-{name}" for name in reversed("abcdefghijklmnop")]


async def test_leases_are_extended_at_half_time_and_lost_ones_are_let_go(
    stub: Stub, stub_aws: AwsConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.legs.sqs.SHORT_LEASE", 0)
    source = SqsSource(stub_aws, queue(stub, visibility=1.0))
    await lend(source, stub, *"abc")
    stub.replies["ChangeMessageVisibilityBatch"] = failing("1", code="ReceiptHandleIsInvalid", sender=True)
    async with asyncio.TaskGroup() as group:
        tending = group.create_task(source.tend())
        await until(lambda: len(stub.named("ChangeMessageVisibilityBatch")) >= 3)
        tending.cancel()
    asked = [[each["ReceiptHandle"] for each in call["Entries"]] for call in stub.named("ChangeMessageVisibilityBatch")]
    assert asked[:2] == [["h-a", "h-b", "h-c"], ["h-a", "h-c"]]
    stub.replies["GetQueueAttributes"] = lambda body: {"Attributes": {"ApproximateNumberOfMessages": "0"}}
    assert (await source.backlog()).leases_lost == 2  # the second of each call


async def test_extending_survives_an_outage(
    stub: Stub, stub_aws: AwsConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.legs.sqs.SHORT_LEASE", 0)
    source = SqsSource(stub_aws, queue(stub, visibility=3.0))
    await lend(source, stub, "a")
    answers = iter([raising(503, "ServiceUnavailable"), raising(400, "RequestThrottled")])
    stub.replies["ChangeMessageVisibilityBatch"] = lambda body: next(answers, all_good)(body)
    async with asyncio.TaskGroup() as group:
        tending = group.create_task(source.tend())
        await until(lambda: len(stub.named("ChangeMessageVisibilityBatch")) >= 4)
        tending.cancel()


async def test_what_is_sent_while_a_send_is_under_way_goes_together(stub: Stub, stub_aws: AwsConnection) -> None:
    gate, first = asyncio.Event(), asyncio.Event()

    async def send(body: dict[str, Any]) -> dict[str, Any]:
        first.set()
        await gate.wait()
        return all_good(body)

    stub.replies["SendMessageBatch"] = send
    destination = SqsDestination(stub_aws, queue(stub, fifo=True))

    async def publish(name: str) -> Any:
        return await destination.publish([SqsOut(name, group=name, dedup_id=name)])

    alone = asyncio.create_task(publish("a"))
    async with asyncio.timeout(10):
        await first.wait()  # with nothing under way it waits for nobody
    others = [asyncio.create_task(publish(name)) for name in "bcd"]
    await asyncio.sleep(0)
    gate.set()
    assert all(isinstance(answer, Receipt) for (answer,) in await asyncio.gather(alone, *others))
    sent = [[entry["MessageBody"] for entry in call["Entries"]] for call in stub.named("SendMessageBatch")]
    assert sent == [["a"], ["b", "c", "d"]]
