"""Responses of AWS and NATS in any shape: genuine ones with something changed, and JSON of no kind at all. What reads
them gives an answer of the right type or a BridgeError, and asks no more often than there is reason to."""

from __future__ import annotations

import base64
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
from bridge.core.models import JetStreamMessage, JetStreamOut, SnsOut, SqsMessage, SqsOut
from bridge.core.route import Ack, Backlog, Delivery, Receipt, Retry, Settlement
from bridge.legs import stream as stream_leg
from bridge.legs.backlogs import ConsumerLook, WatchedConsumers, WatchedQueue
from bridge.legs.consumer import open_consumer
from bridge.legs.exhausted import Exhausted
from bridge.legs.http import Answer
from bridge.legs.inventory import queue_facts, stream_facts, topic_facts
from bridge.legs.jetstream import JetStreamSource, parse_ack_subject
from bridge.legs.ledger import Ledger
from bridge.legs.nats import NatsConnection
from bridge.legs.parking import QueueShelf, StreamShelf
from bridge.legs.sns import SnsDestination, Topic, open_topic
from bridge.legs.sqs import SqsDestination, SqsSource, open_queue
from bridge.legs.stream import JetStreamDestination, open_destination
from tests.fuzz import hostile, inputs
from tests.fuzz.crossings import forward, into_stream, mapped
from tests.fuzz.ends import URL, Loopback, aws_of, connected, queue
from tests.fuzz.rules import Published, must

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


def _changed(rng: Random, *genuine: Any) -> bytes:
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
    case: dict[str, Any] = {"call": call, "body": _changed(rng, *genuine)}
    if rng.random() < 0.1:
        case |= {"status": rng.choice((400, 403, 413, 429, 500, 503, 302, 999)), "body": _changed(rng, ERROR)}
        case["headers"] = {"x-amzn-query-error": hostile.text(rng), "date": rng.choice((*hostile.TIMES, hostile.text(rng)))}
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
                    await _lent(delivery)
            case "send":
                destination = SqsDestination(aws, queue(fifo=fifo))
                outs = [SqsOut("b", group="g" if fifo else None, dedup_id=f"d{at}") for at in range(3)]
                _answers(await destination.publish(outs), 3)
            case _:
                lent = await source.receive(10)
                for each in lent:
                    each.token.until = 0.0  # type: ignore[attr-defined]  # its lease is over: tried once
                outcome = Ack() if case["call"] == "delete" else Retry(1)
                found = await source.settle([Settlement(each, outcome) for each in lent])
                must(len(found) == len(lent), "number of answers", len(found))
                must(all(each is None or isinstance(each, BridgeError) for each in found), "answer to a settle")
    except BridgeError:
        return


def _answers(found: Any, count: int) -> None:
    must(len(found) == count, "number of answers", len(found))
    for each in found:
        must(isinstance(each, Receipt | BridgeError), "answer", type(each).__name__)
        must(not isinstance(each, Receipt) or isinstance(each.ref, str), "ref of a Receipt", each)


async def _lent(delivery: Delivery) -> None:
    """A delivery keeps what its class promises, and goes the way of every other."""
    must(isinstance(delivery.id, str) and delivery.id, "id of a delivery", delivery.id)
    must(type(delivery.attempt) is int and delivery.attempt >= 0, "attempt of a delivery", delivery.attempt)
    must(math.isfinite(delivery.sent_at), "time of a delivery", delivery.sent_at)
    must(type(delivery.size) is int, "size of a delivery", delivery.size)
    if delivery.hopeless is not None:
        return
    message = delivery.message
    if isinstance(message, SqsMessage):
        for name in ("message_id", "body", "queue", "queue_arn"):
            must(isinstance(getattr(message, name), str), f"type of {name}", type(getattr(message, name)).__name__)
        must(all(isinstance(each, str) for pair in message.system.items() for each in pair), "type of system attributes")
        for each in message.attributes.values():
            must(isinstance(each.data_type, str) and isinstance(each.value, str | bytes), "type of an attribute")
        found = mapped(forward(1, "auto", True, -1, True, -1, True, False), message)
        if found is not None:
            assert isinstance(found.out, JetStreamOut)
            await into_stream(found.out, {})
    else:
        must(isinstance(message.subject, str) and isinstance(message.payload, bytes), "type of a message")
        must(type(message.sequence) is int and message.sequence >= 0, "sequence", message.sequence)
        must(math.isfinite(message.timestamp), "time of a message", message.timestamp)


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
_XML = (
    "<GetTopicAttributesResponse><GetTopicAttributesResult><Attributes><entry><key>MaximumMessageSize</key><value>{}</value>"
    "</entry></Attributes></GetTopicAttributesResult></GetTopicAttributesResponse>",
    "<ListTopicsResponse><ListTopicsResult><Topics><member><TopicArn>{}</TopicArn></member></Topics></ListTopicsResult>"
    "</ListTopicsResponse>",
    "<PublishBatchResponse><PublishBatchResult><Successful><member><Id>{}</Id><MessageId>m</MessageId></member></Successful>"
    "<Failed/></PublishBatchResult></PublishBatchResponse>",
    "<PublishBatchResponse><PublishBatchResult><Failed><member><Id>0</Id><Code>{}</Code></member></Failed>"
    "</PublishBatchResult></PublishBatchResponse>",
    "<ListSubscriptionsByTopicResponse><ListSubscriptionsByTopicResult><Subscriptions><member><Protocol>sqs</Protocol>"
    "<Endpoint>{}</Endpoint></member></Subscriptions></ListSubscriptionsByTopicResult></ListSubscriptionsByTopicResponse>",
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
            bodies.append(_changed(rng, ATTRIBUTES))
    elif call == "shelf":
        bodies = [_changed(rng, RECEIVED), b"{}"]
    else:
        bodies = [_changed(rng, ADDRESS) if rng.random() < 0.3 else json.dumps(ADDRESS).encode(), _changed(rng, ATTRIBUTES)]
    return {"call": call, "bodies": bodies, "status": 200 if rng.random() < 0.9 else rng.choice((400, 404, 500))}


async def check_aws(case: Mapping[str, Any]) -> None:
    bodies, status = list(case["bodies"]), case["status"]
    clients = {service: Client(service, bodies, status) for service in ("sqs", "sns")}
    turns = iter([*bodies, *[b"{}"] * 4])
    aws = aws_of(lambda *_: Answer(status, {}, next(turns, b"{}")), **clients)
    try:
        match case["call"]:
            case "open":
                found = await open_queue(aws, "orders")
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
                _answers(await SnsDestination(aws, topic).publish([SnsOut("b")] * 2), 2)
    except BridgeError:
        return


# -- JetStream

STREAM_INFO: dict[str, Any] = {
    "type": "io.nats.jetstream.api.v1.stream_info_response",
    "config": {"name": "ORDERS", "subjects": ["orders.>"], "retention": "limits", "max_age": 0, "discard": "old"},
    "created": "2026-01-01T00:00:00.000000000Z",
    "state": {"messages": 1, "consumer_count": 1, "first_seq": 1, "last_seq": 7, "subjects": {"orders.x": 1}},
}
CONSUMER_INFO: dict[str, Any] = {
    "stream_name": "ORDERS",
    "name": "bridge",
    "created": "2026-01-01T00:00:00.000000000Z",
    "config": {"durable_name": "bridge", "ack_policy": "explicit", "ack_wait": 30 * 10**9, "max_deliver": 5, "backoff": []},
    "delivered": {"consumer_seq": 7, "stream_seq": 7, "last_active": "2026-01-01T00:00:00Z"},
    "ack_floor": {"consumer_seq": 6, "stream_seq": 6, "last_active": "2026-01-01T00:00:00.123456789Z"},
    "num_ack_pending": 0,
    "num_pending": 1,
    "num_waiting": 0,
}
MESSAGE: dict[str, Any] = {
    "message": {
        "subject": "orders.x",
        "seq": 7,
        "hdrs": base64.b64encode(b"NATS/1.0\r\na: b\r\n\r\n").decode(),
        "data": "Yg==",
        "time": "2026-01-01T00:00:00.123456789Z",
    }
}
NAMES = {"streams": ["ORDERS"], "total": 1, "offset": 0, "limit": 1024}
CONSUMERS = {"consumers": [CONSUMER_INFO], "total": 1, "offset": 0, "limit": 256}
API_ERROR = {"error": {"code": 404, "err_code": 10059, "description": "stream not found"}}
GENUINE = {
    "STREAM.INFO": STREAM_INFO,
    "CONSUMER.INFO": CONSUMER_INFO,
    "STREAM.MSG": MESSAGE,
    "STREAM.NAMES": NAMES,
    "CONSUMER.LIST": CONSUMERS,
}
ADVISORY = {"type": "io.nats.jetstream.advisory.v1.max_deliver", "stream_seq": 7, "deliveries": 5, "consumer": "bridge"}
CALLS = ("destination", "consumer", "consumers", "look", "shelf", "exhausted", "facts", "count")


def make_api(rng: Random) -> dict[str, Any]:
    changed = {name: _changed(rng, document) for name, document in GENUINE.items() if rng.random() < 0.35}
    if rng.random() < 0.1:
        changed[rng.choice(list(GENUINE))] = _changed(rng, API_ERROR)
    case: dict[str, Any] = {"call": rng.choice(CALLS), "answers": changed}
    if rng.random() < 0.3:
        case["advisory"] = _changed(rng, ADVISORY)
    return case


class _Api(Loopback):
    """Answers JetStream API calls with what the case says, else with what a server would."""

    def __init__(self, answers: Mapping[str, bytes]) -> None:
        super().__init__(lambda _: None)
        self._answers = answers
        self.asked = 0

    async def request(self, subject: str, payload: bytes = b"", timeout: float = 0, **_: Any) -> Any:
        self.asked += 1
        must(self.asked < ASKED, "asks without end", subject)
        kind = ".".join(subject.removeprefix("$JS.API.").split(".")[:2])
        answer = self._answers.get(kind)
        if answer is None and kind == "STREAM.MSG" and int(json.loads(payload or b"{}").get("seq", 0)) > 7:
            answer = b'{"error":{"code":404,"err_code":10037,"description":"no message found"}}'
        data = json.dumps(GENUINE.get(kind, {})).encode() if answer is None else answer
        return SimpleNamespace(data=data, headers=None, subject=subject)


def api_of(client: Loopback) -> NatsConnection:
    nats, _ = connected(lambda _: None)
    nats._client = client
    return nats


async def check_api(case: Mapping[str, Any]) -> None:
    client = _Api(case["answers"])
    nats = api_of(client)
    try:
        match case["call"]:
            case "destination":
                await open_destination(nats, pattern="orders.*", stream="ORDERS")
            case "consumer":
                found = await open_consumer(nats, "ORDERS", "bridge", None)
                must(math.isfinite(found.ack_wait) and type(found.max_batch) is int, "facts of a consumer", found)
                must(found.ack_wait > 0 and found.max_batch > 0, "facts of a consumer", found)
            case "consumers":
                for seen in await WatchedConsumers(nats, "ORDERS").look():
                    must(isinstance(seen.backlog, Backlog | BridgeError), "backlog", seen.backlog)
            case "look":
                backlog = await ConsumerLook(nats, "ORDERS", "bridge").backlog()
                must(type(backlog.pending) is int, "backlog", backlog)
            case "shelf":
                async for shelved in StreamShelf(nats, "ORDERS", "orders.parked").look():
                    must(isinstance(shelved.parked.id, str), "id of what is parked")
            case "count":
                must(type(await StreamShelf(nats, "ORDERS", "orders.parked").count()) is int, "count")
            case "facts":
                await stream_facts(nats, "ORDERS")
            case _:
                await _exhausted(nats, client, case)
    except BridgeError:
        return


async def _exhausted(nats: NatsConnection, client: Loopback, case: Mapping[str, Any]) -> None:
    exhausted = Exhausted(nats, "ORDERS", "bridge", removes=True, held=lambda _: False)
    await exhausted.found(10)
    if "advisory" in case:
        for callback in client.callbacks.values():
            await callback(SimpleNamespace(data=case["advisory"], subject="$JS.EVENT", headers=None))
    exhausted._again = 0.0
    for message, why in await exhausted.found(10):
        must(isinstance(message, JetStreamMessage) and isinstance(why, BridgeError), "what ran out of deliveries")
        must(type(message.sequence) is int and message.sequence > 0, "sequence", message.sequence)
        await exhausted.settle(message.sequence, parked=True)


# -- PubAcks and acks

ACK = {"stream": "ORDERS", "seq": 7, "duplicate": False}
ACK_ERROR = {"error": {"code": 400, "err_code": 10060, "description": "expected stream does not match"}}
BLOCKS = (b"", b"NATS/1.0 503\r\n\r\n", b"NATS/1.0 503 No Responders\r\n\r\n", b"NATS/1.0 404 x\r\n\r\n", b"NATS/1.0 \r\n\r\n")


def make_puback(rng: Random) -> dict[str, Any]:
    block = rng.choice(BLOCKS) if rng.random() < 0.4 else inputs.stored(rng, plain=True).block
    return {"data": _changed(rng, ACK, ACK_ERROR), "block": block if rng.random() < 0.3 else b""}


async def check_puback(case: Mapping[str, Any]) -> None:
    """A Receipt for a PubAck of a stream the route knows, and for nothing else."""
    data, block = case["data"], case["block"]

    def answering(message: Published) -> bytes:
        sid = nats_client.sid_of(message.reply)
        if block:
            return b"HMSG %s %d %d %d\r\n%s%s\r\n" % (message.reply, sid, len(block), len(block) + len(data), block, data)
        return b"MSG %s %d %d\r\n%s\r\n" % (message.reply, sid, len(data), data)

    nats, nats_client = connected(answering)
    destination = JetStreamDestination(nats, pattern="orders.>", streams=("ORDERS",))
    ledger = Ledger(nats, "L", "p")
    before, stream_leg.PUBLISH_SECONDS = stream_leg.PUBLISH_SECONDS, 0.002
    try:
        found = await destination.publish([JetStreamOut("orders.x", b"x", "id")])
        _answers(found, 1)
        if isinstance(found[0], Receipt):
            must(_is_ack(data), "a Receipt for no PubAck", data[:80])
        for known in await ledger.known(["a"]):
            must(known is None or isinstance(known, str), "what a ledger knows", known)
        must((await ledger.note([("a", "b")]))[0] in (True, False), "what a ledger wrote")
    except BridgeError:
        return
    finally:
        stream_leg.PUBLISH_SECONDS = before
    must(not nats_client.errors, "error in a sink", nats_client.errors)


def _is_ack(data: bytes) -> bool:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return False
    if not isinstance(document, dict) or document.get("error"):
        return False
    sequence = document.get("seq")
    return document.get("stream") == "ORDERS" and type(sequence) is int and sequence > 0


def make_delivery(rng: Random) -> dict[str, Any]:
    """An ack subject of any shape, before a message of any."""
    tokens: list[Any] = "$JS.ACK.ORDERS.bridge.1.7.7.1700000000000000000.0".split(".")
    if rng.random() < 0.3:
        tokens[2:2] = ["_", "hash"]
    for _ in range(rng.randrange(3)):
        at = rng.randrange(len(tokens))
        match rng.randrange(4):
            case 0 if len(tokens) > 1:
                del tokens[at]
            case 1:
                tokens.insert(at, rng.choice((*hostile.NUMERALS, "x")))
            case _:
                tokens[at] = rng.choice((*hostile.NUMERALS, "x", "*", "ü", "\udcff"))
    kept = inputs.stored(rng)
    return {"reply": ".".join(tokens), "block": kept.block, "payload": kept.payload}


async def check_delivery(case: Mapping[str, Any]) -> None:
    parse_ack_subject(case["reply"])
    nats = api_of(_Api({}))
    consumer = await open_consumer(nats, "ORDERS", "bridge", None)
    source = JetStreamSource(nats, consumer)
    found = source._lend("orders.x", case["reply"], case["block"], case["payload"], 0.0)
    if found is not None:
        await _lent(found)

