"""Both sides as the legs see them, without a socket: a server that reads what the real client writes by rules.py, and
an SQS and SNS that read what the real transports write.

The bridge's own code runs up to the bytes. May not: be gentler than the real ones.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

from botocore import exceptions as boto
from botocore.credentials import ReadOnlyCredentials
from botocore.serialize import create_serializer
from botocore.session import get_session
from botocore.validate import ParamValidator

from bridge.legs import ledger as ledger_leg
from bridge.legs import nats as nats_leg
from bridge.legs import stream as stream_leg
from bridge.legs.aws import AwsConnection, AwsOptions
from bridge.legs.aws_lean import LeanCalls
from bridge.legs.http import Answer
from bridge.legs.nats import NatsConnection, NatsOptions
from bridge.legs.sns import SnsDestination, Topic
from bridge.legs.sqs import Queue, SqsDestination
from bridge.legs.stream import JetStreamDestination, open_destination
from bridge.legs.wire import WireClient
from tests.fuzz import genuine
from tests.fuzz.rules import Published, must, published

URL = "http://127.0.0.1:1"
QUEUE_ARN = "arn:aws:sqs:eu-west-1:123456789012:orders"
TOPIC_ARN = "arn:aws:sns:eu-west-1:123456789012:orders"

META = SimpleNamespace(region_name="eu-west-1")
Answering = Callable[[Published], bytes | None]
"""What the server sends for one message: whole protocol lines, or nothing."""


class Loopback(WireClient):
    """The real client, whose bytes a strict server reads at once, and answers through the real parser."""

    def __init__(self, answering: Answering) -> None:
        super().__init__()
        self._status = self.CONNECTED
        self._max_payload = 1_048_576
        self.answering = answering
        self.published: list[Published] = []
        self.errors: list[Exception] = []
        self.subjects: dict[int, str] = {}

    async def subscribe(self, subject: str, **_: Any) -> Any:
        number = len(self.subjects) + 1
        self.subjects[number] = subject
        return SimpleNamespace(_id=number)

    async def leave(self, _: int) -> None: ...

    def told(self, to: bytes, data: bytes, block: bytes = b"") -> bytes:
        """The line by which the server hands this to whoever listens there."""
        subject = to.decode()
        number = next((n for n, each in self.subjects.items() if subject == each or _below(subject, each)), 0)
        if block:
            return b"HMSG %s %d %d %d\r\n%s%s\r\n" % (to, number, len(block), len(block) + len(data), block, data)
        return b"MSG %s %d %d\r\n%s\r\n" % (to, number, len(data), data)

    async def _send_command(self, command: bytes, *_: Any, **__: Any) -> None:
        for each in published(bytes(command)):
            self.published.append(each)
            if (answer := self.answering(each)) is not None:
                await self._ps.parse(answer)

    async def failed(self, error: Exception) -> None:
        self.errors.append(error)


def _below(subject: str, pattern: str) -> bool:
    return pattern.endswith(".*") and subject.startswith(pattern[:-1])


def connected(answering: Answering, max_payload: int = 1_048_576) -> tuple[NatsConnection, Loopback]:
    client = Loopback(answering)
    client._max_payload = max_payload
    connection = NatsConnection(NatsOptions(("nats://127.0.0.1:1",)))
    connection._client = client
    connection.generation = 1
    return connection, client


@contextmanager
def impatient() -> Iterator[None]:
    """What never comes is not waited for: nothing here takes longer than a call."""
    patient = [(nats_leg, "API_SECONDS"), (stream_leg, "PUBLISH_SECONDS"), (ledger_leg, "SECONDS")]
    before = [getattr(module, name) for module, name in patient]
    for module, name in patient:
        setattr(module, name, 0.001)
    try:
        yield
    finally:
        for (module, name), value in zip(patient, before, strict=True):
            setattr(module, name, value)


class Stream:
    """A JetStreamDestination whose stream keeps `published`: what the server read, byte for byte. `acks` gives block
    and payload of the answer to each message."""

    def __init__(
        self,
        *,
        stream: str | None = None,
        max_payload: int = 1_048_576,
        schedules: str | None = None,
        acks: Callable[[Published], tuple[bytes, bytes]] | None = None,
    ) -> None:
        self.connection, self.client = connected(self._answer, max_payload)
        self._acks = acks or self._ack
        self._asked = (stream, schedules)
        self._destination: JetStreamDestination | None = None

    async def opened(self) -> JetStreamDestination:
        """As a route opens it."""
        if self._destination is None:
            stream, schedules = self._asked
            self._destination = await open_destination(
                self.connection, pattern="orders.>", stream=stream, ttl=True, schedules=schedules
            )
        return self._destination

    def _answer(self, message: Published) -> bytes | None:
        if not message.reply:
            return None
        subject = message.subject.decode("utf-8", "replace")
        if subject.startswith("$JS.API."):
            return self.client.told(message.reply, genuine.api(subject, message.payload, {}))
        block, data = self._acks(message)
        return self.client.told(message.reply, data, block)

    def _ack(self, _: Published) -> tuple[bytes, bytes]:
        return b"", b'{"stream":"ORDERS","seq":%d}' % len(self.client.published)

    def taken(self) -> list[Published]:
        """What was published since the last look."""
        found, self.client.published = self.client.published, []
        return [each for each in found if not each.subject.startswith(b"$JS.API.")]


class Credentials:
    async def get_frozen_credentials(self) -> ReadOnlyCredentials:
        return ReadOnlyCredentials("test", "test", None)


class Road:
    """Takes requests to SQS in place of a connection. `answering` gives status, headers and body of the answer."""

    def __init__(self, answering: Callable[[str, bytes], Answer]) -> None:
        self.answering = answering

    async def post(self, headers: Mapping[str, str], body: bytes, _: int = 0) -> Answer:
        return self.answering(headers["X-Amz-Target"].removeprefix("AmazonSQS."), body)

    async def close(self) -> None: ...


def aws_of(answering: Callable[[str, bytes], Answer], **clients: Any) -> AwsConnection:
    """A real connection to AWS, up to its sockets. `clients` by service are for the calls that are not lean."""
    aws = AwsConnection(AwsOptions(region="eu-west-1", endpoint_url=URL), jitter=lambda: 0.0)
    lean = LeanCalls(Credentials(), endpoint=URL, region="eu-west-1", pool=1, read=1, connect=1, ca_file=None)
    lean._road = Road(answering)
    aws._clients.lean = lean
    aws._clients._clients = {"sqs": SimpleNamespace(meta=META), **clients}
    return aws


def queue(**changed: Any) -> Queue:
    name = "orders.fifo" if changed.get("fifo") else "orders"
    known: dict[str, Any] = {
        "url": f"{URL}/123456789012/{name}",
        "arn": f"arn:aws:sqs:eu-west-1:123456789012:{name}",
        "name": name,
        "fifo": False,
        "visibility_timeout": 30.0,
        "max_message_size": 1_048_576,
        "retention": 345_600.0,
        "redrives": False,
    }
    return Queue(**{**known, **changed})


class SqsEnd:
    """A SqsDestination and what SQS read."""

    meta = META

    def __init__(self, *, fifo: bool, limit: int = 1_048_576) -> None:
        self.entries: list[dict[str, Any]] = []
        self._limit = limit
        aws = aws_of(self._answer, sqs=self)
        self.destination = SqsDestination(aws, queue(fifo=fifo, max_message_size=limit))

    async def get_queue_attributes(self, **_: Any) -> dict[str, Any]:
        return {"Attributes": {"QueueArn": QUEUE_ARN, "MaximumMessageSize": str(self._limit)}}

    def _answer(self, operation: str, body: bytes) -> Answer:
        must(operation == "SendMessageBatch", "operation", operation)
        entries = json.loads(body.decode())["Entries"]
        must(0 < len(entries) <= 10, "entries of a batch", len(entries))
        for entry in entries:
            for each in (entry.get("MessageAttributes") or {}).values():
                if "BinaryValue" in each:
                    each["BinaryValue"] = base64.b64decode(each["BinaryValue"], validate=True)
        self.entries += entries
        good = [{"Id": each["Id"], "MessageId": "m", "MD5OfMessageBody": ""} for each in entries]
        return Answer(200, {}, json.dumps({"Successful": good}).encode())

    def taken(self) -> list[dict[str, Any]]:
        found, self.entries = self.entries, []
        return found


class SnsEnd:
    """A SnsDestination and what SNS read: botocore's own validation and serialization are between."""

    _model = get_session().get_service_model("sns")
    _operation = _model.operation_model("PublishBatch")

    def __init__(self, *, fifo: bool, limit: int = 262_144) -> None:
        self.entries: list[dict[str, Any]] = []
        self._serializer = create_serializer("query")
        self._limit = limit
        name = "orders.fifo" if fifo else "orders"
        aws = aws_of(lambda *_: Answer(500, {}, b""), sns=self)
        self.destination = SnsDestination(aws, Topic(f"arn:aws:sns:eu-west-1:1:{name}", name, fifo, limit))

    async def get_topic_attributes(self, **_: Any) -> dict[str, Any]:
        return {"Attributes": {"MaximumMessageSize": str(self._limit)}}

    async def publish_batch(self, **arguments: Any) -> dict[str, Any]:
        report = ParamValidator().validate(arguments, self._operation.input_shape)
        if report.has_errors():
            raise boto.ParamValidationError(report=report.generate_report())
        request = self._serializer.serialize_to_request(arguments, self._operation)
        urlencode(request["body"], doseq=True)
        entries = arguments["PublishBatchRequestEntries"]
        must(0 < len(entries) <= 10, "entries of a batch", len(entries))
        self.entries += entries
        return {"Successful": [{"Id": each["Id"], "MessageId": "m"} for each in entries]}

    def taken(self) -> list[dict[str, Any]]:
        found, self.entries = self.entries, []
        return found
