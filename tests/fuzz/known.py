"""What has been tried on the bridge by hand, one of each kind: the torture begins with these."""

from __future__ import annotations

import json
from typing import Any

from tests.fuzz.ends import TOPIC_ARN
from tests.fuzz.inputs import Stored

ROLLUP = "x\r\nNats-Rollup: all"


def _envelope(**changed: Any) -> dict[str, Any]:
    known = {
        "Type": "Notification",
        "MessageId": "00000000-0000-0000-0000-000000000000",
        "TopicArn": TOPIC_ARN,
        "Message": "m",
        "Timestamp": "2026-01-01T00:00:00.000Z",
        "SignatureVersion": "1",
        "Signature": "AAAA",
        "SigningCertURL": "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0.pem",
        "UnsubscribeURL": "u",
    }
    return {"MessageBody": json.dumps(known | changed)}


def _attributes(**given: str) -> dict[str, Any]:
    return {name: {"DataType": "String", "StringValue": value} for name, value in given.items()}


def _note(**changed: Any) -> dict[str, Any]:
    known = {"subject": "s", "stream": "S", "seq": 1, "via": [], "of": "", "headers": [], "attributes": {}}
    note = {"nats.message": {"DataType": "String", "StringValue": json.dumps(known | changed)}}
    return {"MessageBody": "b", "MessageAttributes": note}


def _claim(document: Any, mark: str) -> dict[str, Any]:
    attributes = {mark: {"DataType": "Number", "StringValue": "300000"}}
    return {"MessageBody": json.dumps(document), "MessageAttributes": attributes}


def entries() -> list[dict[str, Any]]:
    """Of SendMessageBatch."""
    s3, nats = "software.amazon.payloadoffloading.PayloadS3Pointer", "nats.object_store"
    heartbeat = '{"heartbeat":"in","from":"","id":"00000000000000000000000000000000","sent":1.125}'
    trace = {"AWSTraceHeader": {"DataType": "String", "StringValue": ROLLUP}}
    return [
        {"MessageBody": "b", "MessageSystemAttributes": trace},
        _envelope(MessageId=ROLLUP),
        _envelope(TopicArn=f"{TOPIC_ARN}{ROLLUP}"),
        _envelope(Timestamp=ROLLUP),
        _envelope(SequenceNumber=ROLLUP),
        _envelope(Subject=ROLLUP),
        _envelope(MessageId="\ud800"),
        _envelope(Message="\ud800"),
        _envelope(MessageId="x\u2028Nats-Rollup: all"),
        _envelope(MessageId="x\0"),
        _envelope(MessageAttributes={"Nats-Rollup": {"Type": "String", "Value": "all"}}),
        _envelope(MessageAttributes={ROLLUP: {"Type": "String", "Value": ROLLUP}}),
        _envelope(MessageAttributes={"a": {"Type": ROLLUP, "Value": "x"}}),
        _envelope(MessageAttributes={"a": {"Type": "Binary", "Value": "="}}),
        _envelope(MessageAttributes={f"a{n}": {"Type": "String", "Value": "x"} for n in range(300)}),
        _envelope(Type="SubscriptionConfirmation", Token=ROLLUP, SubscribeURL="\x1b]0;x\x07"),
        {"MessageBody": '{"TopicArn":' + "[" * 20_000},
        _note(subject=ROLLUP, stream=ROLLUP),
        _note(headers=[["Nats-Rollup", "all"], ["a", ROLLUP], [ROLLUP, "x"], ["Status", "503"]]),
        _note(attributes={"Nats-Rollup": ["String", "all"], "a": ["String", "\ud800"]}),
        _note(via=["\ud800", ROLLUP], seq=10**30),
        {"MessageBody": "=", "MessageAttributes": _attributes(**{"nats.encoding": "base64"})},
        {
            "MessageBody": "b",
            "MessageAttributes": _attributes(**{"Nats-Rollup": "all", "status": "503", "A": "1", "a": "2"}),
        },
        {
            "MessageBody": "b",
            "MessageAttributes": _attributes(eventType=ROLLUP, **{"Nats-TTL": "1", "Sqs-Packed": "1"}),
        },
        {"MessageBody": heartbeat, "MessageAttributes": _attributes(**{"Bridge-Heartbeat": "in"})},
        _claim([s3, {"s3BucketName": "not-yours", "s3Key": "k"}], "ExtendedPayloadSize"),
        _claim([s3, {"s3BucketName": "\ud800", "s3Key": "\ud800"}], "ExtendedPayloadSize"),
        _claim([nats, {"bucket": "\ud800", "name": ROLLUP}], "nats.claim"),
    ]


def messages() -> list[Stored]:
    """On a subject that begins with `orders`."""
    forged = b'{"body":"\\ud800","attributes":{"a\\ud800":["String","\\ud800"],"b":["Binary","="]}}'
    via = b" ".join([b"id", *(b"place%d" % n for n in range(20))])
    return [
        Stored(b"orders.\xff", (), b"x"),
        Stored(b"orders.x\x0b7", (), b"x"),
        Stored(b"orders.x\x0c7", (), b"x"),
        Stored("orders.é\u2028".encode(), (), b"x"),
        Stored(
            b"orders.x", ((b"Sns-Message-Id", b"\xff"), (b"Sns-Subject", b"\xff"), (b"Sns-Topic-Arn", b"\xff")), b"x"
        ),
        Stored(b"orders.x", ((b"Sqs-Packed", b"1"),), forged),
        Stored(b"orders.x", ((b"Sqs-Packed", b"1"),), b"[" * 20_000),
        Stored(b"orders.x", ((b"Sqs-Attributes", b'{"a":["Number","x"],"b":["x",1]}'),), b"x"),
        Stored(b"orders.x", ((b"Sqs-Delay-Seconds", b"9" * 5_000),), b"x"),
        Stored(b"orders.x", ((b"Bridge-Via", via),), b"x"),
        Stored(b"orders.x", ((b"Bridge-Heartbeat", b"out"),), b'{"heartbeat":"out"}'),
        Stored(b"orders.x", ((b"nats.claim", b"1"),), b'["nats.object_store",{"bucket":"other","name":"k"}]'),
        Stored(b"orders.x", ((b"nats.claim", b"1"),), b'["nats.object_store",{"bucket":"\\ud800","name":""}]'),
        Stored(b"orders.x", ((b"Nats-Pin-Id", b"forged"), (b"Status", b"503"), (b"Description", b"x")), b"x"),
        Stored(b"orders.x", ((b"X-Amzn-Trace-Id", b"Root=1-\x01;\xff"), (b"AWS.x", b"y")), b"x"),
        Stored(b"orders.x", tuple((b"h%d" % n, b"v") for n in range(300)), b"x"),
        Stored(b"orders.x", ((b"a", b"x\ry"), (b"b", b"x\ny"), (b"c", b"x\0y"), (b"d\r", b"x"), (b"", b"x")), b"x"),
        Stored(b"orders.x", ((b"nats.message", b'{"subject":1}'), (b"nats.encoding", b"base64")), b"\0"),
        Stored(b"orders.x", ((b"Sqs-Message-Group-Id", b"\xff" * 200),), b"\xed\xa0\x80"),
    ]
