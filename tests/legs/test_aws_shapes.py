"""Whatever JSON answers where AWS should: an outage, or one message that is parked; never another error than ours."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.core.errors import BridgeError, Failed, Refused, Unavailable, Unmappable
from bridge.core.models import Attribute, SqsOut
from bridge.core.route import Ack, Receipt, Settlement
from bridge.legs.aws import AwsConnection, AwsOptions
from bridge.legs.aws_batch import Entry, send
from bridge.legs.aws_lean import parsed
from bridge.legs.aws_shapes import Facts, pages
from bridge.legs.backlogs import WatchedQueue, counts_of
from bridge.legs.queues import Queue, open_queue, read_queue
from bridge.legs.sqs import SqsDestination, SqsSource
from bridge.legs.sqs_messages import received
from tests.legs.stub_sqs import Stub, all_good, messages, stub_sqs

QUEUE = Queue("http://q/1/q", "arn:aws:sqs:eu-west-1:1:q", "q", False, 30.0, 1_048_576, 345_600.0, False)
GOOD: dict[str, Any] = {"MessageId": "good", "ReceiptHandle": "h", "Body": "b", "Attributes": {}}


@pytest.fixture
async def stub() -> AsyncIterator[Stub]:
    async with stub_sqs() as found:
        yield found


@pytest.fixture
async def told() -> list[tuple[str, str]]:
    return []


@pytest.fixture
async def aws(stub: Stub, lean: bool, told: list[tuple[str, str]]) -> AsyncIterator[AwsConnection]:
    options = AwsOptions(region="eu-west-1", endpoint_url=stub.url, lean=lean)
    async with AwsConnection(
        options, jitter=lambda: 0.0, report=lambda event, text: told.append((event, text))
    ) as found:
        yield found


def attribute(**parts: Any) -> dict[str, Any]:
    return {**GOOD, "MessageId": "odd", "MessageAttributes": {"a": {"DataType": "String", **parts}}}


PARKED: dict[str, dict[str, Any]] = {
    "no id": {**GOOD, "MessageId": None},
    "an id that is a number": {**GOOD, "MessageId": 7},
    "no body": {**GOOD, "MessageId": "odd", "Body": None},
    "a body that is an object": {**GOOD, "MessageId": "odd", "Body": {"amount": 3}},
    "attributes in a list": {**GOOD, "MessageId": "odd", "MessageAttributes": ["a"]},
    "an attribute that is a text": {**GOOD, "MessageId": "odd", "MessageAttributes": {"a": "b"}},
    "an attribute without a type": {**GOOD, "MessageId": "odd", "MessageAttributes": {"a": {"StringValue": "b"}}},
    "a type that is a number": attribute(DataType=1, StringValue="x"),
    "a value that is a number": attribute(StringValue=5),
    "a value that is no base64": attribute(DataType="Binary", BinaryValue="%%%"),
    "a binary value that is a list": attribute(DataType="Binary", BinaryValue=[1]),
    "system attributes in a list": {**GOOD, "MessageId": "odd", "Attributes": [1]},
    "a group that is an object": {**GOOD, "MessageId": "odd", "Attributes": {"MessageGroupId": {}}},
    "a count of many": {**GOOD, "MessageId": "odd", "Attributes": {"ApproximateReceiveCount": "many"}},
    "a time that is none": {**GOOD, "MessageId": "odd", "Attributes": {"SentTimestamp": "NaN"}},
    "a time without end": {**GOOD, "MessageId": "odd", "Attributes": {"SentTimestamp": "1e999"}},
}


async def test_one_message_of_another_shape_is_parked_and_the_others_are_carried(
    stub: Stub, aws: AwsConnection
) -> None:
    for odd in PARKED.values():
        stub.replies["ReceiveMessage"] = partial(echo, {"Messages": [*messages("before")["Messages"], odd, GOOD]})
        stub.calls.clear()
        stub.replies["DeleteMessageBatch"] = all_good
        source = SqsSource(aws, QUEUE)
        first, parked, last = await source.receive(10)
        assert (first.id, last.id) == ("before", "good")
        assert first.hopeless is last.hopeless is None
        assert isinstance(parked.hopeless, Unmappable)
        assert "amount" not in str(parked.hopeless)
        assert parked.id
        if isinstance(odd["Body"], dict):
            assert json.loads(parked.message.body) == {"amount": 3}  # type: ignore[union-attr]
        assert await source.settle([Settlement(each, Ack()) for each in (first, parked, last)]) == [None] * 3
        handles = [each["ReceiptHandle"] for each in stub.named("DeleteMessageBatch")[0]["Entries"]]
        assert handles == ["h-before", "h", "h"]


SOUND: dict[str, tuple[dict[str, Any], dict[str, Attribute], dict[str, str]]] = {
    "nulls": (
        {**GOOD, "MessageAttributes": None, "Attributes": None, "MD5OfBody": None},
        {},
        {},
    ),
    "an attribute that is null": ({**GOOD, "MessageAttributes": {"a": None}}, {}, {}),
    "a value that is null": (attribute(StringValue=None), {"a": Attribute("String", "")}, {}),
    "the other value is null": (
        attribute(StringValue="x", BinaryValue=None, StringListValues=None),
        {"a": Attribute("String", "x")},
        {},
    ),
    "numbers": (
        {**GOOD, "Attributes": {"SentTimestamp": 1700000000000, "ApproximateReceiveCount": 2, "SenderId": None}},
        {},
        {"SentTimestamp": "1700000000000", "ApproximateReceiveCount": "2"},
    ),
}


async def test_null_means_absent_and_numbers_are_texts(stub: Stub, aws: AwsConnection) -> None:
    for odd, attributes, system in SOUND.values():
        stub.replies["ReceiveMessage"] = partial(echo, {"Messages": [odd]})
        (delivery,) = await SqsSource(aws, QUEUE).receive(10)
        assert delivery.hopeless is None
        assert (delivery.message.attributes, delivery.message.system) == (attributes, system)  # type: ignore[union-attr]
        assert delivery.attempt == int(system.get("ApproximateReceiveCount", 1))


@pytest.mark.parametrize("lost", [None, 4, [], {}, {**GOOD, "ReceiptHandle": None}, {**GOOD, "ReceiptHandle": 5}])
async def test_without_a_handle_a_message_is_left_to_its_timeout_and_reported(
    stub: Stub, aws: AwsConnection, told: list[tuple[str, str]], lost: Any
) -> None:
    stub.replies["ReceiveMessage"] = lambda _: {"Messages": [lost, GOOD]}
    stub.replies["GetQueueAttributes"] = lambda _: {"Attributes": {"ApproximateNumberOfMessages": "1"}}
    source = SqsSource(aws, QUEUE)
    assert [each.id for each in await source.receive(10)] == ["good"]
    assert [event for event, _ in told] == ["unreadable"]
    assert (await source.backlog()).leases_lost == 1


@pytest.mark.parametrize(
    "answer", [{"Messages": "no"}, {"Messages": {"0": GOOD}}, {"Messages": 3}, [], "text", 5, None]
)
async def test_an_answer_that_is_none_is_an_outage(stub: Stub, aws: AwsConnection, answer: Any) -> None:
    stub.replies["ReceiveMessage"] = lambda _: answer
    with pytest.raises(Unavailable, match="not"):
        await SqsSource(aws, QUEUE).receive(10)


def test_half_a_surrogate_pair_in_one_text_does_not_take_the_others() -> None:
    text = json.dumps({"Messages": [{**GOOD, "MessageId": "a", "Body": "\ud800"}, {**GOOD, "MessageId": "b"}]}).encode()
    found = received(parsed("ReceiveMessage", 200, text), QUEUE).messages
    assert [message.message_id for message, *_ in found] == ["a", "b"]


BATCHES: dict[str, tuple[Any, list[type]]] = {
    "nothing": ({}, [Failed, Failed]),
    "null lists": ({"Successful": None, "Failed": None}, [Failed, Failed]),
    "lists that are none": ({"Successful": "01", "Failed": []}, [Unavailable, Unavailable]),
    "failures that are none": (
        {"Successful": [{"Id": "0", "MessageId": "m"}], "Failed": 3},
        [Unavailable, Unavailable],
    ),
    "no ids": ({"Successful": [{"MessageId": "m"}, {"MessageId": "n"}]}, [Unavailable, Unavailable]),
    "an id that counts from the end": ({"Successful": [{"Id": "-1", "MessageId": "m"}]}, [Unavailable, Unavailable]),
    "an id that is a number": ({"Successful": [{"Id": 1, "MessageId": "m"}]}, [Unavailable, Unavailable]),
    "ids of others": (
        {"Successful": [{"Id": "7", "MessageId": "m"}, {"Id": " 1", "MessageId": "m"}]},
        [Unavailable] * 2,
    ),
    "null entries": ({"Successful": [None, {"Id": "1", "MessageId": "m"}]}, [Unavailable, Receipt]),
    "no message id": ({"Successful": [{"Id": "0"}, {"Id": "1", "MessageId": "m"}]}, [Unavailable, Receipt]),
    "both": (
        {"Successful": [{"Id": "0", "MessageId": "m"}], "Failed": [{"Id": "0", "Code": "InvalidMessageContents"}]},
        [Failed, Failed],
    ),
    "one twice": ({"Successful": [{"Id": "1", "MessageId": "m"}] * 2}, [Failed, Receipt]),
    "a failure without code": (
        {"Failed": [{"Id": "0"}, {"Id": "1", "Code": 5, "SenderFault": "yes"}]},
        [Failed, Failed],
    ),
    "a failure with an object": (
        {"Failed": [{"Id": "0", "Code": {"a": 1}, "Message": [1]}, {"Id": "1", "Code": "InvalidMessageContents"}]},
        [Failed, Refused],
    ),
}


async def test_an_entry_counts_as_done_only_where_its_own_id_is_answered_once(stub: Stub, aws: AwsConnection) -> None:
    for answer, kinds in BATCHES.values():
        stub.replies["SendMessageBatch"] = partial(echo, answer)
        answers = await SqsDestination(aws, QUEUE).publish([SqsOut("a"), SqsOut("b")])
        assert [type(each) for each in answers] == kinds


NO_ATTRIBUTES: list[Any] = [None, [], "x", {"QueueArn": 5}, {"QueueArn": "nonsense"}, {}]
NO_NUMBERS: list[Any] = ["soon", [], {}, True, "-5", "1e400"]
SIZES = ("VisibilityTimeout", "MaximumMessageSize", "MessageRetentionPeriod")


async def test_attributes_of_a_queue_that_are_none_are_an_outage(stub: Stub, aws: AwsConnection) -> None:
    for attributes in [
        *NO_ATTRIBUTES,
        *({"QueueArn": QUEUE.arn, name: value} for name in SIZES for value in NO_NUMBERS),
    ]:
        stub.replies["GetQueueUrl"] = lambda _: {"QueueUrl": f"{stub.url}/1/q"}
        stub.replies["GetQueueAttributes"] = partial(echo, {"Attributes": attributes})
        with pytest.raises(Unavailable, match="not an SQS response"):
            await open_queue(aws, "q")


@pytest.mark.parametrize("url", [None, 5, "", "q", "file:///etc/passwd", ["http://x/1/q"]], ids=str)
async def test_an_url_that_is_none_is_an_outage(stub: Stub, aws: AwsConnection, url: Any) -> None:
    stub.replies["GetQueueUrl"] = lambda _: {"QueueUrl": url}
    with pytest.raises(Unavailable, match="not an SQS response"):
        await open_queue(aws, "q")


@pytest.mark.parametrize("count", ["many", None, {}, [1], "-1", "1e999"], ids=str)
async def test_counts_that_are_no_numbers_are_an_outage_and_not_an_empty_queue(
    stub: Stub, aws: AwsConnection, count: Any
) -> None:
    stub.replies["GetQueueAttributes"] = lambda _: {"Attributes": {"ApproximateNumberOfMessages": count}}
    with pytest.raises(Unavailable):
        await SqsSource(aws, QUEUE).backlog()
    (seen,) = await WatchedQueue(aws, f"{stub.url}/1/q").look()
    assert isinstance(seen.backlog, Unavailable)


# -- any JSON at all

OF_RECEIVE = ["Messages", "MessageId", "ReceiptHandle", "Body", "MessageAttributes", "DataType", "StringValue"]
OF_OTHERS = ["Successful", "Failed", "Id", "Code", "Attributes", "BinaryValue", "Subscriptions", "NextToken"]
ATTRIBUTES = ["SentTimestamp", "ApproximateReceiveCount", "QueueArn", "VisibilityTimeout", "RedrivePolicy", "Policy"]
KEYS = st.sampled_from([*OF_RECEIVE, *OF_OTHERS, *ATTRIBUTES, "ApproximateNumberOfMessages"])
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["0", "1", "-1", "30", "NaN", "1e400", "\ud800", "arn:aws:sqs:eu-west-1:1:q", "²"])
)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=6)
)


def shaped(inner: Any) -> Any:
    return st.fixed_dictionaries({}, optional=inner)


MESSAGE = shaped(
    {
        "MessageId": JSON | st.just("m"),
        "ReceiptHandle": JSON | st.just("h"),
        "Body": JSON | st.just("b"),
        "Attributes": JSON | st.dictionaries(KEYS, LEAVES),
        "MessageAttributes": JSON | st.dictionaries(st.text(max_size=3), JSON),
    }
)
ENTRY = shaped({"Id": st.sampled_from(["0", "1", "2", "-1"]) | JSON, "MessageId": JSON | st.just("m"), "Code": JSON})
ANSWER = shaped(
    {
        "Messages": st.lists(MESSAGE | JSON, max_size=3) | JSON,
        "Successful": st.lists(ENTRY | JSON, max_size=4) | JSON,
        "Failed": st.lists(ENTRY | JSON, max_size=4) | JSON,
        "Attributes": st.dictionaries(KEYS, LEAVES) | JSON,
        "Subscriptions": st.lists(JSON, max_size=3) | JSON,
    }
)


@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow])
@given(answer=ANSWER | JSON)
def test_the_readers_raise_nothing_but_our_errors(answer: Any) -> None:
    try:
        text = json.dumps(answer).encode()
        read = parsed("ReceiveMessage", 200, text)
    except OSError:
        assert not isinstance(answer, dict)
        return
    try:
        batch = received(read, QUEUE)
    except Unavailable:
        assert not isinstance(read["Messages"], list)
    else:
        for message, handle, *_ in batch.messages:
            assert type(message.body) is type(message.message_id) is type(handle) is str
            assert all(type(value) is str for value in message.system.values())
            assert all(type(kind) is str and type(value) in (str, bytes) for kind, value in message.attributes.values())
    for reader in (
        counts_of,
        lambda found, _: read_queue(QUEUE, found),
        lambda found, _: Facts(found, "q").text("Policy"),
    ):
        with suppress(Unavailable):
            reader(read, "q")
    found, following = pages(read, "Subscriptions", "NextToken", set())
    assert all(isinstance(each, dict) for each in found)
    assert following is None or isinstance(following, str)

    async def call(_: list[dict[str, Any]]) -> Any:
        return read

    answers = asyncio.run(send([Entry({}), Entry({})], call, named=True))
    for place, said in enumerate(answers):
        assert isinstance(said, BridgeError) or (said["Id"] == str(place) and type(said["MessageId"]) is str)


def echo(answer: Any, _: dict[str, Any]) -> Any:
    return answer


async def test_any_answer_over_http_is_read_alike_by_both_transports(stub: Stub, aws: AwsConnection) -> None:
    source, destination = SqsSource(aws, QUEUE), SqsDestination(aws, QUEUE)
    odd: list[Any] = [{"Messages": [{"Body": [["x"] * 3]}]}, {"Messages": {"a": None}}, {"Successful": [[]]}, [1], "x"]
    odd += [{"Error": 5}, {"ResponseMetadata": 5, "Messages": [GOOD]}, {"Attributes": [{}]}, {"Failed": {"Id": "0"}}]
    for answer in odd:
        for name in ("ReceiveMessage", "SendMessageBatch", "GetQueueAttributes", "GetQueueUrl"):
            stub.replies[name] = partial(echo, answer)
        with suppress(Unavailable):
            assert all(each.id for each in await source.receive(10))
        assert all(isinstance(each, BridgeError) for each in await destination.publish([SqsOut("a")]))
        for look in (source.backlog(), open_queue(aws, "q")):
            with pytest.raises(Unavailable):
                await look
