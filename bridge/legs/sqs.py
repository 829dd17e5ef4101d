"""SQS as a source (long polls, leases kept alive, deletes retried) and as a destination (batches, entry by entry).

May not: create or change a queue, log, or decide what to do after a failure.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bridge.core.errors import BridgeError, Failed, LeaseLost, Refused, Unavailable
from bridge.core.mapping.sizes import sqs_bytes
from bridge.core.models import Attribute, Out, SqsMessage, SqsOut
from bridge.core.route import Backlog, Delivery, Receipt, Retry, Settlement
from bridge.legs.aws import AwsConnection
from bridge.legs.aws_batch import ENTRIES, Answer, Entry, send
from bridge.legs.backlogs import COUNTS, counts_of, queue_url
from bridge.legs.gather import LINGER, Gather

LONGEST_LEASE = 43_200.0  # 12 h from the receive; asking for more is an error, not a shorter lease
SHORT_LEASE = 5.0  # a queue's own timeout below this leaves no time to extend it: the receive asks for LEASE instead
LEASE = 30
STUCK = 5.0  # seconds on loan from which on a redelivery counts for its age: what was carried before is gone by then
BACK_KEPT = 10_000
BACK_SECONDS = 3600.0  # what was handed back and has not come again by then went to a dead-letter queue


@dataclass(frozen=True, slots=True)
class Queue:
    """What the legs must know of a queue. Times in seconds, sizes in bytes."""

    url: str
    arn: str
    name: str
    fifo: bool
    visibility_timeout: float
    max_message_size: int
    retention: float
    redrives: bool
    dead_letter: str = ""
    """The ARN of its dead-letter queue, empty without one."""


def no_such_queue(aws: AwsConnection, name: str) -> str:
    """What to do when it is not there: most often it is, elsewhere."""
    fifo = " --attributes FifoQueue=true" if name.endswith(".fifo") else ""
    region = f" ({aws.options.region})" if aws.options.region else ""
    return (
        f"is the name right, and is it in the account and region{region} of this connection? "
        f"else: aws sqs create-queue --queue-name {name}{fifo} "
        "(a new queue also needs its subscription, its policy and a redrive policy)"
    )


async def open_queue(aws: AwsConnection, queue: str) -> Queue:
    """Looks up a queue by name, URL or ARN. Raises NotUsable that says where to look and how to create it."""
    name = queue.rstrip("/").rsplit("/", 1)[-1].rsplit(":", 1)[-1]
    if queue.startswith(("https://", "http://")):
        url = queue
    else:
        url = await queue_url(aws, queue, missing=no_such_queue(aws, name))
    answer = await aws.call(
        "sqs",
        "get_queue_attributes",
        about=name,
        missing=no_such_queue(aws, name),
        QueueUrl=url,
        AttributeNames=["All"],
    )
    facts = answer.get("Attributes", {})
    return Queue(
        url=url,
        arn=facts.get("QueueArn", ""),
        name=name,
        fifo=name.endswith(".fifo"),
        visibility_timeout=float(facts.get("VisibilityTimeout", LEASE)),
        max_message_size=int(facts.get("MaximumMessageSize", 1_048_576)),
        retention=float(facts.get("MessageRetentionPeriod", 345_600)),
        redrives="RedrivePolicy" in facts,
        dead_letter=_dead_letter(facts.get("RedrivePolicy", "")),
    )


def _dead_letter(policy: str) -> str:
    try:
        return str(json.loads(policy)["deadLetterTargetArn"])
    except (ValueError, KeyError, TypeError):
        return ""


@dataclass(slots=True, eq=False)
class _Loan:
    """One message on loan. `handle` is the newest receipt handle; times are loop time."""

    message_id: str
    handle: str
    first: float
    until: float
    sent_at: float
    again: bool
    tended: bool = True


class SqsSource:
    """A Source over one queue. A message received again while it is held is not lent twice: its handle is renewed."""

    batch = 10

    def __init__(self, aws: AwsConnection, queue: Queue, *, wait_seconds: float = 20) -> None:
        self.queue = queue
        self.locks_groups = queue.fifo
        self._aws = aws
        self._wait = int(wait_seconds)
        self._own_lease = queue.visibility_timeout < SHORT_LEASE
        self._lease = float(LEASE) if self._own_lease else queue.visibility_timeout
        self._loans: dict[str, _Loan] = {}
        self._missing = no_such_queue(aws, queue.name)
        self._deletes = Gather(self._delete, most=self.batch, linger=LINGER)
        # For the age of what waits: when the newest message was sent that came for the first time, when nothing was
        # there, and what was handed back and has not come again (message id: sent, handed back).
        self._newest = 0.0
        self._empty_at: float | None = None  # monotonic, as all moments of our own
        self._back: dict[str, tuple[float, float]] = {}
        self._leases_lost = 0

    async def receive(self, limit: int) -> Sequence[Delivery]:
        """One long poll. Cancelled, it may strand messages for a whole visibility timeout: SQS hands them to the dead
        connection. Raises Unavailable, NotUsable."""
        override = {"VisibilityTimeout": LEASE} if self._own_lease else {}
        answer = await self._call(
            "receive_message",
            MaxNumberOfMessages=min(limit, self.batch),
            WaitTimeSeconds=self._wait,
            MessageSystemAttributeNames=["All"],
            MessageAttributeNames=["All"],
            **override,
        )
        if not answer.get("Messages"):
            self._empty_at = time.monotonic()
        now, at = asyncio.get_running_loop().time(), time.monotonic()
        lent = [self._lend(message, now, at) for message in answer.get("Messages") or ()]
        return [delivery for delivery in lent if delivery is not None]

    def _lend(self, message: Any, now: float, at: float) -> Delivery | None:
        name, handle = message["MessageId"], message["ReceiptHandle"]
        if loan := self._loans.get(name):
            loan.handle, loan.first, loan.until = handle, now, now + self._lease
            return None
        body = sqs_message(message, self.queue)
        system = body.system
        sent_at = float(system.get("SentTimestamp", 0)) / 1000 or time.time()
        attempt = int(system.get("ApproximateReceiveCount", 1))
        if attempt == 1 and sent_at > self._newest:
            self._newest = sent_at
        loan = self._loans[name] = _Loan(name, handle, now, now + self._lease, sent_at, attempt > 1)
        return Delivery(body, name, attempt, sent_at, at, loan, size=body.size)

    async def settle(self, settled: Sequence[Settlement]) -> Sequence[BridgeError | None]:
        loans: list[_Loan] = []
        acks: list[_Loan] = []
        backs: list[tuple[_Loan, float]] = []
        for delivery, outcome in settled:
            loan = _loan(delivery)
            loan.tended = False  # an extension behind a hand-back would hide the message again
            loans.append(loan)
            if isinstance(outcome, Retry):
                backs.append((loan, outcome.after))
            else:
                acks.append(loan)
        if backs:
            after = {loan.message_id: seconds for loan, seconds in backs}

            async def hide(some: Sequence[_Loan]) -> list[Answer]:
                return await self._show([(loan, after[loan.message_id]) for loan in some])

            async with asyncio.TaskGroup() as group:
                deleting = group.create_task(self._until_done(acks, self._deletes.ask))
                hiding = group.create_task(self._until_done([loan for loan, _ in backs], hide))
            failed = {**deleting.result(), **hiding.result()}
        else:
            failed = await self._until_done(acks, self._deletes.ask)
        for loan in loans:
            self._loans.pop(loan.message_id, None)
            self._back.pop(loan.message_id, None)
        self._handed_back(loan for loan, _ in backs)
        return [failed.get(loan.message_id) for loan in loans] if failed else [None] * len(loans)

    async def _until_done(self, loans: Sequence[_Loan], attempt: Any) -> dict[str, BridgeError]:
        """Repeats what failed while its lease lives; then the message will be lent again. Errors by message id."""
        loop = asyncio.get_running_loop()
        failed: dict[str, BridgeError] = {}
        pause = 0.2
        todo = list(loans)
        while todo:
            answers = await attempt(todo)
            if not failed and not any(isinstance(answer, BridgeError) for answer in answers):
                return failed
            again = []
            for loan, answer in zip(todo, answers, strict=True):
                match answer:
                    case LeaseLost() | Refused():  # FIFO: deleting after the lease expired is an error
                        failed[loan.message_id] = LeaseLost(str(answer))
                    case BridgeError():
                        failed[loan.message_id] = answer
                        if loan.until > loop.time() + pause:
                            again.append(loan)
                    case _:
                        failed.pop(loan.message_id, None)
            todo = again
            if todo:
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)
        return failed

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        loans = [_loan(delivery) for delivery in deliveries]
        for loan in loans:
            self._loans.pop(loan.message_id, None)
        self._handed_back(loans)
        # Last first: the moment the first of a group is visible, nothing of the group may still be hidden behind it.
        answers = await self._show([(loan, 0.0) for loan in reversed(loans)], at_once=1 if self.queue.fifo else 8)
        if error := next((each for each in answers if isinstance(each, BridgeError)), None):
            raise Unavailable(f"some messages come back only when their lease expires: {error}")

    async def tend(self) -> None:
        """Extends every lease once half of it is over."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._lease / 6)
            now = loop.time()
            due = [
                loan
                for loan in self._loans.values()
                if loan.tended
                and now < loan.until < now + self._lease / 2
                and now + self._lease < loan.first + LONGEST_LEASE
            ]
            if not due:
                continue
            # Not repeated by the connection: that could come behind a hand-back, and hide the message again.
            answers = await self._show([(loan, self._lease) for loan in due], once=True)
            for loan, answer in zip(due, answers, strict=True):
                if isinstance(answer, LeaseLost | Refused):
                    loan.tended = False  # lost; lent again it brings a new handle
                    self._leases_lost += 1
                elif not isinstance(answer, BridgeError):
                    loan.until = now + self._lease

    async def backlog(self) -> Backlog:
        """`oldest` is our own sampling: SQS tells an age only through CloudWatch. Of what is on loan or was handed back
        it is known; what waits was sent after the newest that came, for standard queues roughly keep their order."""
        answer = await self._call("get_queue_attributes", AttributeNames=list(COUNTS))
        pending, in_flight, delayed = counts_of(answer, self.queue.name)
        now, looped = time.monotonic(), asyncio.get_running_loop().time()
        if not pending and not in_flight:
            self._empty_at, self._back = now, {}
        ages = [loan.sent_at for loan in self._loans.values() if not loan.again or looped - loan.first > STUCK]
        self._back = {name: each for name, each in self._back.items() if now - each[1] < BACK_SECONDS}
        ages += [sent for sent, _ in self._back.values()]
        empty_at = 0.0 if self._empty_at is None else time.time() - (now - self._empty_at)
        waiting = max(self._newest, empty_at)
        if pending and waiting:
            ages.append(waiting)
        return Backlog(pending, in_flight, delayed, oldest=min(ages) if ages else None, leases_lost=self._leases_lost)

    async def hear_again(self) -> None:
        self._aws.renew()

    async def close(self) -> None:
        """Holds nothing open: connections are shared, and closed by who made them."""

    def _handed_back(self, loans: Iterable[_Loan]) -> None:
        now = time.monotonic()
        for loan in loans:
            if len(self._back) < BACK_KEPT:
                self._back[loan.message_id] = (loan.sent_at, now)

    async def _delete(self, loans: Sequence[_Loan]) -> list[Answer]:
        async def call(entries: list[dict[str, Any]]) -> Any:
            return await self._call("delete_message_batch", Entries=entries)

        return await send([Entry({"ReceiptHandle": loan.handle}) for loan in loans], call)

    async def _show(
        self, loans: Sequence[tuple[_Loan, float]], *, at_once: int = 8, once: bool = False
    ) -> list[Answer]:
        """Makes each visible again after so many seconds from now."""
        now = asyncio.get_running_loop().time()

        async def call(entries: list[dict[str, Any]]) -> Any:
            return await self._call("change_message_visibility_batch", once=once, Entries=entries)

        entries = []
        for loan, seconds in loans:
            left = max(0.0, loan.first + LONGEST_LEASE - now - 1)
            entries.append(Entry({"ReceiptHandle": loan.handle, "VisibilityTimeout": int(min(seconds, left) + 0.999)}))
        return await send(entries, call, at_once=at_once)

    async def _call(self, operation: str, **arguments: Any) -> Any:
        return await self._aws.call(
            "sqs", operation, about=self.queue.name, missing=self._missing, QueueUrl=self.queue.url, **arguments
        )


class SqsDestination:
    """A Destination over one queue. At least once: when the answer to a send is lost, a standard queue may get the
    message twice; a FIFO queue recognises the deduplication id for five minutes."""

    def __init__(self, aws: AwsConnection, queue: Queue) -> None:
        self.queue = queue
        self._aws = aws
        self._missing = no_such_queue(aws, queue.name)
        self._sends = Gather(self._send, most=ENTRIES, linger=LINGER)

    async def close(self) -> None:
        """Holds nothing open: connections are shared, and closed by who made them."""

    async def publish(self, messages: Sequence[Out]) -> Sequence[Receipt | BridgeError]:
        answers: list[Receipt | BridgeError] = [Failed("not sent")] * len(messages)
        entries: list[Entry] = []
        places: list[int] = []
        for place, out in enumerate(messages):
            assert isinstance(out, SqsOut)
            size = sqs_bytes(out)
            if refused := self._refused(out, size):
                answers[place] = refused
            else:
                entries.append(Entry(self._entry(out), size, out.group if self.queue.fifo else None))
                places.append(place)
        for place, answer in zip(places, await self._sends.ask(entries), strict=True):
            answers[place] = answer if isinstance(answer, BridgeError) else Receipt(str(answer["MessageId"]))
        return answers

    async def _send(self, entries: Sequence[Entry]) -> list[Answer]:
        return await send(entries, self._call)

    def fits(self, out: Out) -> bool:
        """Whether the queue takes a message of this size."""
        assert isinstance(out, SqsOut)
        return sqs_bytes(out) <= self.queue.max_message_size

    def _refused(self, out: SqsOut, size: int) -> Refused | None:
        if size > self.queue.max_message_size:
            return Refused(
                f"{size:,} bytes with attributes; queue {self.queue.name} takes {self.queue.max_message_size:,}",
                hint="raise the queue's MaximumMessageSize (at most 1,048,576), or park it",
            )
        return Refused("an empty body; SQS takes none") if not out.body else None

    def _entry(self, out: SqsOut) -> dict[str, Any]:
        entry: dict[str, Any] = {"MessageBody": out.body}
        if out.attributes:
            entry["MessageAttributes"] = attribute_entries(out.attributes)
        if out.due_at is not None and (delay := round(out.due_at - time.time())) > 0:
            entry["DelaySeconds"] = delay
        if out.trace_header:
            entry["MessageSystemAttributes"] = {
                "AWSTraceHeader": {"DataType": "String", "StringValue": out.trace_header}
            }
        if self.queue.fifo:
            entry |= {"MessageGroupId": out.group, "MessageDeduplicationId": out.dedup_id}
        return entry

    async def _call(self, entries: list[dict[str, Any]]) -> Any:
        return await self._aws.call(
            "sqs",
            "send_message_batch",
            about=self.queue.name,
            missing=self._missing,
            QueueUrl=self.queue.url,
            Entries=entries,
        )


def sqs_message(message: Any, queue: Queue) -> SqsMessage:
    """One message as ReceiveMessage has it."""
    found = message.get("MessageAttributes")
    return SqsMessage(
        message["MessageId"],
        message.get("Body", ""),
        queue.name,
        queue.arn,
        {key: _attribute(each) for key, each in found.items()} if found else {},
        message.get("Attributes") or {},
    )


def attribute_entries(attributes: Mapping[str, Attribute]) -> dict[str, dict[str, str | bytes]]:
    """Attributes as SQS and SNS take them."""
    return {
        name: {"DataType": kind, ("BinaryValue" if isinstance(value, bytes) else "StringValue"): value}
        for name, (kind, value) in attributes.items()
    }


def _attribute(found: Any) -> Attribute:
    if "BinaryValue" in found:
        return Attribute(found["DataType"], found["BinaryValue"])
    return Attribute(found["DataType"], found.get("StringValue", ""))


def _loan(delivery: Delivery) -> _Loan:
    assert isinstance(delivery.token, _Loan)
    return delivery.token
