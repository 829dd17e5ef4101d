"""Responses of AWS in any shape: genuine ones with something changed, and JSON of no kind at all. What reads
them gives an answer of the right type or a BridgeError, and asks no more often than there is reason to."""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Mapping
from random import Random
from types import SimpleNamespace
from typing import Any

from botocore import exceptions as boto
from botocore.parsers import create_parser
from botocore.session import get_session

from bridge.core.errors import BridgeError
from bridge.core.models import JetStreamOut, SnsOut, SqsMessage, SqsOut
from bridge.core.route import Ack, Backlog, Receipt, Retry, Settlement
from bridge.legs.backlogs import WatchedQueue
from bridge.legs.http import Answer
from bridge.legs.inventory import queue_facts, topic_facts
from bridge.legs.parking import QueueShelf
from bridge.legs.sns import SnsDestination, Topic, open_topic
from bridge.legs.sqs import SqsDestination, SqsSource, open_queue
from tests.fuzz import hostile, inputs
from tests.fuzz.crossings import forward, into_stream, mapped
from tests.fuzz.ends import URL, aws_of, queue
from tests.fuzz.rules import must, typed_message

ASKED = 60  # requests of one call: more, and it asks without end

# -- SQS over the lean transport

RECEIVED: dict[str, Any] = {
    "Messages": [
        {
            "MessageId": inputs.UUID,
            "ReceiptHandle": "h",
            "Body": "b",
            "MD5OfBody": "x",
            "Attributes": {"SentTimestamp": "1700000000000", "ApproximateReceiveCount": "1", "MessageGroupId": "g"},
            "MessageAttributes": {
                "k": {"DataType": "String", "StringValue": "v"},
                "b": {"DataType": "Binary", "BinaryValue": "AP8="},
            },
        }
    ]
}
SENT = {"Successful": [{"Id": "0", "MessageId": "m", "MD5OfMessageBody": "x"}], "Failed": []}
FAILED = {"Failed": [{"Id": "0", "Code": "InternalError", "Message": "x", "SenderFault": False}]}
ERROR = {"__type": "com.amazonaws.sqs#QueueDoesNotExist", "message": "x"}


def changed(rng: Random, *genuine: Any) -> bytes:
    """One of these with something changed, as bytes that may be no JSON any more."""
    document = rng.choice(genuine)
    for _ in range(rng.choice((1, 1, 2))):
        document = hostile.mutated(rng, document) if rng.random() < 0.93 else hostile.value(rng)
    text = json.dumps(document, ensure_ascii=rng.random() < 0.7).encode("utf-8", "surrogatepass")
    if rng.random() < 0.05:
        text = rng.choice((text[: rng.randrange(len(text) + 1)], b"", b"<html>", b"\xff" + text, text + text))
    if rng.random() < 0.01:
        text = b'{"Messages":' + hostile.nested(rng, 2_000).encode() + b"}"
    return text


def make_sqs(rng: Random) -> dict[str, Any]:
    call = rng.choice(("receive", "receive", "receive", "send", "delete", "hide"))
    genuine = [RECEIVED] if call == "receive" else [SENT, FAILED]
    case: dict[str, Any] = {"call": call, "body": changed(rng, *genuine)}
    if rng.random() < 0.1:
        case |= {"status": rng.choice((400, 403, 413, 429, 500, 503, 302, 999)), "body": changed(rng, ERROR)}
        case["headers"] = {
            "x-amzn-query-error": hostile.text(rng),
            "date": rng.choice((*hostile.TIMES, hostile.text(rng))),
        }
    if rng.random() < 0.3:
        case["fifo"] = True
    return case


async def check_sqs(case: Mapping[str, Any]) -> None:
    answer = Answer(case.get("status", 200), case.get("headers", {}), case["body"])
    good = json.dumps(RECEIVED).encode()
    answers = {"ReceiveMessage": Answer(200, {}, good)}
    aws = aws_of(lambda operation, _: answers.get(operation, answer))
    fifo = "fifo" in case
    source = SqsSource(aws, queue(fifo=fifo), wait_seconds=0)
    try:
        match case["call"]:
            case "receive":
                answers.clear()
                for delivery in await source.receive(10):
                    await lent(delivery)
            case "send":
                destination = SqsDestination(aws, queue(fifo=fifo))
                outs = [SqsOut("b", group="g" if fifo else None, dedup_id=f"d{at}") for at in range(3)]
                answers_legal(await destination.publish(outs), 3)
            case _:
                loans = await source.receive(10)
                for each in loans:
                    each.token.until = 0.0  # type: ignore[attr-defined]  # its lease is over: tried once
                outcome = Ack() if case["call"] == "delete" else Retry(1)
                found = await source.settle([Settlement(each, outcome) for each in loans])
                must(len(found) == len(loans), "number of answers", len(found))
                must(all(each is None or isinstance(each, BridgeError) for each in found), "answer to a settle")
    except BridgeError:
        return


def answers_legal(found: Any, count: int) -> None:
    must(len(found) == count, "number of answers", len(found))
    for each in found:
        must(isinstance(each, Receipt | BridgeError), "answer", type(each).__name__)
        must(not isinstance(each, Receipt) or isinstance(each.ref, str), "ref of a Receipt", each)


async def lent(delivery: Any) -> None:
    """A delivery keeps what its class promises, and goes the way of every other."""
    must(isinstance(delivery.id, str) and delivery.id, "id of a delivery", delivery.id)
    must(type(delivery.attempt) is int and delivery.attempt >= 0, "attempt of a delivery", delivery.attempt)
    must(math.isfinite(delivery.sent_at), "time of a delivery", delivery.sent_at)
    must(type(delivery.size) is int, "size of a delivery", delivery.size)
    if delivery.hopeless is not None:
        return
    typed_message(delivery.message)
    if isinstance(delivery.message, SqsMessage):
        found = mapped(forward(1, "auto", True, -1, True, -1, True, False), delivery.message)
        if found is not None:
            assert isinstance(found.out, JetStreamOut)
            await into_stream(found.out, {})


# -- AWS through botocore's own parser

_MODELS = {service: get_session().get_service_model(service) for service in ("sqs", "sns")}
ATTRIBUTES = {
    "Attributes": {
        "QueueArn": "arn:aws:sqs:eu-west-1:123456789012:orders",
        "VisibilityTimeout": "30",
        "MaximumMessageSize": "262144",
        "MessageRetentionPeriod": "345600",
        "RedrivePolicy": '{"deadLetterTargetArn":"arn:aws:sqs:eu-west-1:1:dlq","maxReceiveCount":3}',
        "ApproximateNumberOfMessages": "1",
        "ApproximateNumberOfMessagesNotVisible": "0",
        "ApproximateNumberOfMessagesDelayed": "0",
        "FifoQueue": "true",
    }
}
ADDRESS = {"QueueUrl": f"{URL}/123456789012/orders"}


def _wrapped(operation: str, inside: str) -> str:
    return f"<{operation}Response><{operation}Result><{inside}></{operation}Result></{operation}Response>"


_XML = (
    _wrapped(
        "GetTopicAttributes", "Attributes><entry><key>MaximumMessageSize</key><value>{}</value></entry></Attributes"
    ),
    _wrapped("ListTopics", "Topics><member><TopicArn>{}</TopicArn></member></Topics"),
    _wrapped("PublishBatch", "Successful><member><Id>{}</Id><MessageId>m</MessageId></member></Successful"),
    _wrapped("PublishBatch", "Failed><member><Id>0</Id><Code>{}</Code></member></Failed"),
    _wrapped("ListSubscriptionsByTopic", "Subscriptions><member><Endpoint>{}</Endpoint></member></Subscriptions"),
    "<x>{}</x>",
)


class Client:
    """botocore's client in what the connection uses of it: any method, answered with bytes its parser reads."""

    def __init__(self, service: str, bodies: list[bytes], status: int) -> None:
        self._model = _MODELS[service]
        self._bodies = bodies
        self._status = status
        self._parser = create_parser(self._model.metadata["protocol"])
        self.asked = 0
        self.meta = SimpleNamespace(region_name="eu-west-1")

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        operation = "".join([part.capitalize() for part in name.split("_")])

        async def call(**_: Any) -> Any:
            body = self._bodies[min(self.asked, len(self._bodies) - 1)] if self._bodies else b""
            self.asked += 1
            must(self.asked < ASKED, "asks without end", name)
            answer = {"body": body, "headers": {}, "status_code": self._status}
            shape = self._model.operation_model(operation).output_shape
            parsed = self._parser.parse(answer, shape)
            if self._status >= 300:
                raise boto.ClientError(parsed, operation)
            return parsed

        return call


def make_aws(rng: Random) -> dict[str, Any]:
    call = rng.choice(("open", "look", "backlog", "facts", "shelf", "count", "topic", "topics", "publish"))
    if call in ("topic", "topics", "publish"):
        bodies = [
            rng.choice(_XML).format(rng.choice((*hostile.NUMERALS, "0", "orders", "", "&lt;"))).encode()
            for _ in range(rng.randrange(1, 4))
        ]
        if rng.random() < 0.1:
            bodies.append(changed(rng, ATTRIBUTES))
    elif call == "shelf":
        bodies = [changed(rng, RECEIVED), b"{}"]
    else:
        bodies = [
            changed(rng, ADDRESS) if rng.random() < 0.3 else json.dumps(ADDRESS).encode(),
            changed(rng, ATTRIBUTES),
        ]
    return {"call": call, "bodies": bodies, "status": 200 if rng.random() < 0.9 else rng.choice((400, 404, 500))}


async def check_aws(case: Mapping[str, Any]) -> None:
    bodies, status = list(case["bodies"]), case["status"]
    clients = {service: Client(service, bodies, status) for service in ("sqs", "sns")}
    turns = iter([*bodies, *[b"{}"] * 4])
    aws = aws_of(lambda *_: Answer(status, {}, next(turns, b"{}")), **clients)
    try:
        match case["call"]:
            case "open":
                found: Any = await open_queue(aws, "orders")
                must(math.isfinite(found.visibility_timeout) and found.visibility_timeout >= 0, "visibility timeout")
                must(isinstance(found.arn, str) and isinstance(found.url, str), "names of a queue", found)
            case "look":
                for seen in await WatchedQueue(aws, "orders").look():
                    must(isinstance(seen.backlog, Backlog | BridgeError), "backlog", seen.backlog)
            case "backlog":
                await SqsSource(aws, queue()).backlog()
            case "facts":
                await queue_facts(aws, "orders")
            case "shelf":
                async for shelved in QueueShelf(aws, queue()).look():
                    must(isinstance(shelved.parked.id, str), "id of what is parked")
            case "count":
                must(type(await QueueShelf(aws, queue()).count()) is int, "count")
            case "topic":
                must((await open_topic(aws, "arn:aws:sns:eu-west-1:1:orders")).max_message_size > 0, "size of a topic")
            case "topics":
                await topic_facts(aws, "orders")
            case _:
                topic = Topic("arn:aws:sns:eu-west-1:1:orders", "orders", False, 262_144)
                answers_legal(await SnsDestination(aws, topic).publish([SnsOut("b")] * 2), 2)
    except BridgeError:
        return
