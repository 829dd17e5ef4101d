"""A canned SQS and SNS for benchmarks: as fast as it can be made, so that it is never what is measured. It shares no
code with the bridge.

It lends `messages` messages and no more, as fast as they are asked for or at a `rate`, in tens as producers send them.
It accepts sends and publishes to any topic, and counts: every id lent has to be deleted, once. A latency is added to
each call, a share of calls may fail with 500. Beside the queue there may be another, `trickle`, with a rate of its own.
`GET /report` tells the counts as JSON, and how long messages were out: from lent to deleted, both seen from here, so it
holds two calls' latency besides the work; at a rate without the first tenth of the messages, for connections are opened
meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import time
from array import array
from typing import Any

import uvloop

TIMES = '"SentTimestamp":"%d","ApproximateReceiveCount":"1","ApproximateFirstReceiveTimestamp":"%d","SenderId":"AIDA"'
ATTRIBUTES = (
    '"MessageAttributes":{"eventType":{"DataType":"String","StringValue":"paid"},'
    '"amount":{"DataType":"Number.int","StringValue":"1200"}}'
)
FACTS = {
    "QueueArn": "arn:aws:sqs:eu-west-1:123456789012:bench",
    "VisibilityTimeout": "30",
    "MaximumMessageSize": "1048576",
    "MessageRetentionPeriod": "345600",
    "ApproximateNumberOfMessages": "0",
    "ApproximateNumberOfMessagesNotVisible": "0",
    "ApproximateNumberOfMessagesDelayed": "0",
}


class Queue:
    """What is lent, deleted and sent."""

    def __init__(
        self, messages: int, size: int, latency: float, failing: float, rate: float, name: str = "bench"
    ) -> None:
        self.name = name
        self.messages = messages
        self.latency = latency
        self.failing = failing
        self.rate = rate
        self.began = 0.0
        self.chance = random.Random(1)
        self.lent = 0
        self.out: dict[str, float] = {}
        self.times = array("d")
        self.deleted = self.deleted_twice = self.sent = 0
        self.calls: dict[str, int] = {}
        self.body = "x" * size
        self.first = self.last = 0.0

    def answer(self, operation: str, request: bytes) -> bytes | None:
        """The body of the answer; None when there is nothing to lend just now."""
        self.calls[operation] = self.calls.get(operation, 0) + 1
        match operation:
            case "ReceiveMessage":
                return self.lend(int(json.loads(request).get("MaxNumberOfMessages", 1)))
            case "DeleteMessageBatch":
                entries = json.loads(request)["Entries"]
                self.last = time.time()
                for entry in entries:
                    if since := self.out.pop(entry["ReceiptHandle"], None):
                        self.times.append(self.last - since)
                        self.deleted += 1
                    else:
                        self.deleted_twice += 1
                return json.dumps({"Successful": [{"Id": each["Id"]} for each in entries]}).encode()
            case "SendMessageBatch":
                entries = json.loads(request)["Entries"]
                self.sent += len(entries)
                self.first = self.first or time.time()
                self.last = time.time()
                good = [{"Id": each["Id"], "MessageId": "m", "MD5OfMessageBody": ""} for each in entries]
                return json.dumps({"Successful": good}).encode()
            case "ChangeMessageVisibilityBatch":
                entries = json.loads(request)["Entries"]
                return json.dumps({"Successful": [{"Id": each["Id"]} for each in entries]}).encode()
            case "PublishBatch":
                ids = ENTRY.findall(request)
                self.sent += len(ids)
                self.first = self.first or time.time()
                self.last = time.time()
                members = b"".join([b"<member><Id>%s</Id><MessageId>m</MessageId></member>" % each for each in ids])
                return b"<R><PublishBatchResult><Successful>%s</Successful></PublishBatchResult></R>" % members
            case "GetTopicAttributes":
                return b"<R><GetTopicAttributesResult><Attributes/></GetTopicAttributesResult></R>"
            case "ListSubscriptionsByTopic":
                return b"<R><ListSubscriptionsByTopicResult><Subscriptions/></ListSubscriptionsByTopicResult></R>"
            case "GetQueueUrl":
                return b'{"QueueUrl":"http://127.0.0.1/123456789012/%s"}' % self.name.encode()
            case "GetQueueAttributes":
                facts = {**FACTS, "QueueArn": f"arn:aws:sqs:eu-west-1:123456789012:{self.name}"}
                facts |= {"ApproximateNumberOfMessages": str(self.messages - self.lent)}
                return json.dumps({"Attributes": facts}).encode()
            case _:
                return b"{}"

    def lend(self, most: int) -> bytes | None:
        at = time.time()
        count = min(most, self.messages - self.lent, self.due(at) - self.lent)
        if count <= 0:
            return None
        self.first = self.first or at
        now = int(at * 1000)
        parts = []
        for number in range(self.lent, self.lent + count):
            handle = f"AQEB{number:060d}"
            self.out[handle] = at
            parts.append(
                f'{{"MessageId":"{number:08d}-0000-4000-8000-000000000000","ReceiptHandle":"{handle}",'
                f'"MD5OfBody":"","Body":"{self.body}","Attributes":{{{TIMES % (now, now)}}},{ATTRIBUTES}}}'
            )
        self.lent += count
        return f'{{"Messages":[{",".join(parts)}]}}'.encode()

    def due(self, at: float) -> int:
        """How many have been produced by now."""
        if not self.rate:
            return self.messages
        self.began = self.began or at
        return 10 + int((at - self.began) * self.rate / 10) * 10

    def patience(self) -> float:
        """Seconds until something may be there to lend; infinite when all is lent."""
        if self.lent >= self.messages:
            return float("inf")
        return max(0.0, self.began + self.lent / self.rate - time.time()) if self.rate else 0.0

    def report(self) -> dict[str, Any]:
        counted = self.times[len(self.times) // 10 :] if self.rate else self.times
        times = sorted(counted) if self.deleted >= self.messages else []
        return {
            "out_ms": [1000 * times[int(share * (len(times) - 1))] for share in (0.5, 0.99, 0.999, 1)] if times else [],
            "lent": self.lent,
            "deleted": self.deleted,
            "deleted_twice": self.deleted_twice,
            "missing": len(self.out),
            "sent": self.sent,
            "calls": self.calls,
            "seconds": self.last - self.first,
        }


class Connection(asyncio.Protocol):
    """HTTP/1.1, one request at a time on a connection, which is all that clients do."""

    def __init__(self, queue: Queue, trickle: Queue) -> None:
        self.queue = queue
        self.trickle = trickle
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport  # uvloop's is no asyncio.Transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            length = int(_header(head, b"content-length") or 0)
            if len(self.buffer) < end + 4 + length:
                return
            body, self.buffer = self.buffer[end + 4 : end + 4 + length], self.buffer[end + 4 + length :]
            self.asked(head, body)

    def asked(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"get /report"):
            return self.reply(json.dumps({**self.queue.report(), "trickle": self.trickle.report()}).encode())
        target = _header(head, b"x-amz-target").decode()
        action = ACTION.search(body[:200]) if not target else None  # SNS: a form, and XML
        operation = next((name for name in NAMES if name.lower() == target.rpartition(".")[2]), target)
        operation = action[1].decode() if action else operation
        if self.queue.failing and self.queue.chance.random() < self.queue.failing:
            error = b"<R><Error><Code>InternalError</Code></Error></R>" if action else b'{"__type":"InternalError"}'
            return self.later(self.queue.latency, error, 500)
        queue = self.trickle if b'trickle"' in body[:200] else self.queue  # the queue's name or URL comes first
        answer = queue.answer(operation, body)
        if answer is None:
            asked = json.loads(body)
            until = asyncio.get_running_loop().time() + float(asked.get("WaitTimeSeconds", 0))
            return self.polling(queue, int(asked.get("MaxNumberOfMessages", 1)), until)
        return self.later(self.queue.latency, answer)

    def polling(self, queue: Queue, most: int, until: float) -> None:
        """A long poll: waits for what will be there, or for its end."""
        if self.transport.is_closing():
            return
        answer = queue.lend(most)
        left = until - asyncio.get_running_loop().time()
        if answer is not None or left <= 0:
            self.later(self.queue.latency, answer or b"{}")
        else:
            asyncio.get_running_loop().call_later(
                min(left, queue.patience() + 0.0005), self.polling, queue, most, until
            )

    def later(self, seconds: float, body: bytes, status: int = 200) -> None:
        if seconds:
            asyncio.get_running_loop().call_later(seconds, self.reply, body, status)
        else:
            self.reply(body, status)

    def reply(self, body: bytes, status: int = 200) -> None:
        if not self.transport.is_closing():
            head = f"HTTP/1.1 {status} OK\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: {len(body)}"
            self.transport.write(head.encode() + b"\r\n\r\n" + body)


NAMES = (
    *("ReceiveMessage", "DeleteMessageBatch", "SendMessageBatch", "ChangeMessageVisibilityBatch"),
    *("GetQueueUrl", "GetQueueAttributes"),
)

ACTION = re.compile(rb"Action=(\w+)")
ENTRY = re.compile(rb"PublishBatchRequestEntries\.member\.\d+\.Id=([^&]*)")


def _header(head: bytes, name: bytes) -> bytes:
    start = head.find(b"\r\n" + name + b":")
    if start < 0:
        return b""
    start += len(name) + 3
    end = head.find(b"\r\n", start)
    return head[start : end if end >= 0 else len(head)].strip()


async def serve(port: int, queue: Queue, trickle: Queue) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Connection(queue, trickle), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=0.0, help="messages produced a second; 0: all are there at once")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--latency", type=float, default=0.0, help="milliseconds added to each call")
    parser.add_argument("--failing", type=float, default=0.0, help="the share of calls that fail with 500")
    parser.add_argument("--trickle", type=int, default=0, help="messages of the other queue")
    parser.add_argument("--trickle-rate", type=float, default=50.0, help="of the other queue, a second")
    options = parser.parse_args()
    what = Queue(options.messages, options.size, options.latency / 1000, options.failing, options.rate)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        other = Queue(options.trickle, options.size, options.latency / 1000, 0.0, options.trickle_rate, "trickle")
        runner.run(serve(options.port, what, other))
