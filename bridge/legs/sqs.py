"""SQS as a source (long polls, leases kept alive, deletes retried) and as a destination (batches, entry by entry).

May not: create or change a queue, log, or decide what to do after a failure.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from bridge.core.errors import BridgeError, Failed, LeaseLost, Refused, Unavailable
from bridge.core.mapping.nats_to_sqs import LONGEST_DELAY
from bridge.core.mapping.sizes import sqs_bytes
from bridge.core.models import Out, SqsOut
from bridge.core.route import Backlog, Delivery, Receipt, Retry, Settlement
from bridge.legs.aws import AwsConnection
from bridge.legs.aws_batch import ENTRIES, Answer, Entry, send
from bridge.legs.backlogs import COUNTS, counts_of
from bridge.legs.gather import LINGER, Gather
from bridge.legs.queues import LEASE, RULES, Limit, Queue, no_such_queue, open_queue, read_queue
from bridge.legs.sqs_messages import Received, attribute_entries, received, sqs_message

__all__ = ["LEASE", "Queue", "SqsDestination", "SqsSource", "attribute_entries", "open_queue", "sqs_message"]

LONGEST_LEASE = 43_200.0  # 12 h from the receive; asking for more is an error, not a shorter lease
SHORT_LEASE = 5.0  # a queue's own timeout below this leaves no time to extend it: the receive asks for LEASE
STUCK = 5.0  # seconds in flight after which a redelivery counts for the age: by then, one carried before is gone
BACK_KEPT = 10_000
BACK_SECONDS = 3600.0  # a message handed back and not redelivered by then went to a dead-letter queue


@dataclass(slots=True, eq=False)
class _Loan:
    """One leased message. `handle` is the newest receipt handle; times are loop time."""

    message_id: str
    handle: str
    first: float
    until: float
    sent_at: float
    again: bool
    tended: bool = True


class SqsSource:
    """A Source over one queue. A message received again while it is in flight is not delivered twice: its handle is
    renewed."""

    batch = 10

    def __init__(self, aws: AwsConnection, queue: Queue, *, wait_seconds: float = 20) -> None:
        self.queue = queue
        self.locks_groups = queue.fifo
        self._aws = aws
        self._wait = int(wait_seconds)
        self._lease = lease_of(queue)
        # FIFO: a receive whose answer was lost is repeated under its id, and SQS gives the same answer again.
        # Without one, the groups in the lost answer stay locked for a visibility timeout.
        self._attempts = f"{uuid.uuid4().hex}-"
        self._attempt = 0
        self._loans: dict[str, _Loan] = {}
        self.sure_until = inf
        self._missing = no_such_queue(aws, queue.name)
        self._deletes = Gather(self._delete, most=self.batch, linger=LINGER)
        # For the age of the backlog: when the newest first-time message was sent, when the queue was last empty, and
        # what was handed back and has not been redelivered (message id: sent, handed back).
        self._newest = 0.0
        self._empty_at: float | None = None  # monotonic, as all our own times
        self._back: dict[str, tuple[float, float]] = {}
        self._leases_lost = 0

    async def receive(self, limit: int) -> Sequence[Delivery]:
        """One long poll. Cancelled, it may leave messages invisible for a whole visibility timeout: SQS sends them to
        the closed connection. Raises Unavailable, NotUsable."""
        more: dict[str, Any] = {}
        if self.queue.fifo:
            self._attempt += 1  # a new id for each receive; its retries (retries.py) share it
            more["ReceiveRequestAttemptId"] = f"{self._attempts}{self._attempt}"
        lease = self._lease
        answer = await self._call(
            "receive_message",
            MaxNumberOfMessages=min(limit, self.batch),
            WaitTimeSeconds=self._wait,
            # The receive asks for the lease we rely on: the queue's own timeout may change at any time.
            VisibilityTimeout=int(lease),
            MessageSystemAttributeNames=["All"],
            MessageAttributeNames=["All"],
            **more,
        )
        found = received(answer, self.queue)
        if found.lost:
            # Without a handle nothing can be done with them: SQS delivers them again, or to a dead-letter queue.
            self._leases_lost += found.lost
            self._aws.report(
                "unreadable", f"{found.lost} messages of queue {self.queue.name} came without id or receipt handle"
            )
        elif not found.messages:
            self._empty_at = time.monotonic()
        now, at = asyncio.get_running_loop().time(), time.monotonic()
        self.sure_until = min(self.sure_until, now + lease)
        deliveries = [self._deliver(message, now, at, lease) for message in found.messages]
        return [delivery for delivery in deliveries if delivery is not None]

    def _deliver(self, message: Received, now: float, at: float, lease: float) -> Delivery | None:
        body, handle, sent_at, attempt, unread = message
        name = body.message_id
        if loan := self._loans.get(name):
            loan.handle, loan.first, loan.until = handle, now, now + lease
            return None
        if not sent_at:
            sent_at = time.time()
        if attempt == 1 and sent_at > self._newest:
            self._newest = sent_at
        loan = self._loans[name] = _Loan(name, handle, now, now + lease, sent_at, attempt > 1)
        return Delivery(body, name, attempt, sent_at, at, loan, hopeless=unread, size=body.size)

    async def settle(self, settled: Sequence[Settlement]) -> Sequence[BridgeError | None]:
        loans: list[_Loan] = []
        acks: list[_Loan] = []
        backs: list[tuple[_Loan, float]] = []
        for delivery, outcome in settled:
            loan = _loan(delivery)
            loan.tended = False  # an extension after a hand-back would hide the message again
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
        """Retries what failed while its lease lasts; after that the message is redelivered. Errors by message id."""
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

    def lapsed(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        now = asyncio.get_running_loop().time()
        gone = [delivery for delivery in deliveries if delivery.token.until <= now]  # type: ignore[attr-defined]
        self._leases_lost += len(gone)
        self.sure_until = min([loan.until for loan in self._loans.values() if loan.until > now], default=inf)
        return gone

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        now = asyncio.get_running_loop().time()
        loans = [_loan(delivery) for delivery in deliveries]
        for loan in loans:
            self._loans.pop(loan.message_id, None)
        # Through a handle whose lease is over, SQS may show a message that another reader has by now.
        loans = [loan for loan in loans if loan.until > now]
        self._handed_back(loans)
        # Last first: when the first of a group becomes visible, none of the group may still be hidden behind it.
        answers = await self._show([(loan, 0.0) for loan in reversed(loans)], at_once=1 if self.queue.fifo else 8)
        if error := next((each for each in answers if isinstance(each, BridgeError)), None):
            raise Unavailable(f"some messages are redelivered only when their lease expires: {error}")

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
            # Not retried by the connection: a retry could arrive after a hand-back, and hide the message again.
            answers = await self._show([(loan, self._lease) for loan in due], once=True)
            for loan, answer in zip(due, answers, strict=True):
                if isinstance(answer, LeaseLost | Refused):
                    loan.tended = False  # lost; its redelivery has a new handle
                    self._leases_lost += 1
                elif not isinstance(answer, BridgeError):
                    loan.until = now + self._lease

    async def backlog(self) -> Backlog:
        """`oldest` is our own estimate: SQS reports an age only through CloudWatch. For messages in flight or handed
        back it is known; waiting ones were sent after the newest received, as standard queues roughly keep order."""
        answer = await self._call("get_queue_attributes", AttributeNames=[*COUNTS, *RULES])
        pending, in_flight, delayed = counts_of(answer, self.queue.name)
        self.queue = read_queue(self.queue, answer)
        self._lease = lease_of(self.queue)
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
        return Backlog(
            pending,
            in_flight,
            delayed,
            oldest=min(ages) if ages else None,
            leases_lost=self._leases_lost,
            retention=self.queue.retention,
        )

    async def resubscribe(self) -> None:
        self._aws.renew()

    async def close(self) -> None:
        """Holds nothing open: connections are shared, and closed by their owner."""

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
        """Makes each visible again after so many seconds."""
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
            "sqs",
            operation,
            about=self.queue.name,
            missing=self._missing,
            key=self.queue.kms_key,
            QueueUrl=self.queue.url,
            **arguments,
        )


class SqsDestination:
    """A Destination over one queue. At least once: when the answer to a send is lost, a standard queue may get the
    message twice; a FIFO queue recognises the deduplication id for five minutes."""

    def __init__(self, aws: AwsConnection, queue: Queue) -> None:
        self.queue = queue
        self._aws = aws
        self._missing = no_such_queue(aws, queue.name)
        self._limit = Limit(queue.max_message_size, self._read_limit)
        self._sends = Gather(self._send, most=ENTRIES, linger=LINGER)

    async def close(self) -> None:
        """Holds nothing open: connections are shared, and closed by their owner."""

    async def publish(self, messages: Sequence[Out]) -> Sequence[Receipt | BridgeError]:
        outs = [_out(out) for out in messages]
        sizes = [sqs_bytes(out) for out in outs]
        if max(sizes, default=0) > self._limit.size:
            await self._limit.read()  # it may have been raised, as the error's hint advises
        answers: list[Receipt | BridgeError] = [Failed("not sent")] * len(messages)
        entries: list[Entry] = []
        places: list[int] = []
        fifo = self.queue.fifo
        for place, (out, size) in enumerate(zip(outs, sizes, strict=True)):
            if size > self._limit.size or not out.body:
                answers[place] = self._refused(size)
            else:
                entries.append(Entry(self._entry(out), size, out.group if fifo else None))
                places.append(place)
        for place, answer in zip(places, await self._sends.ask(entries), strict=True):
            answers[place] = answer if isinstance(answer, BridgeError) else Receipt(answer["MessageId"])
        return await self._limit.judged(answers, sizes)

    async def _send(self, entries: Sequence[Entry]) -> list[Answer]:
        return await send(entries, self._call, named=True, key=self.queue.kms_key)

    async def _read_limit(self) -> int:
        answer = await self._aws.call(
            "sqs",
            "get_queue_attributes",
            about=self.queue.name,
            missing=self._missing,
            QueueUrl=self.queue.url,
            AttributeNames=list(RULES),
        )
        self.queue = read_queue(self.queue, answer)
        return self.queue.max_message_size

    def fits(self, out: Out) -> bool:
        """Whether the queue takes a message of this size."""
        return sqs_bytes(_out(out)) <= self._limit.size

    def _refused(self, size: int) -> Refused:
        if size <= self._limit.size:
            return Refused("the body is empty, which SQS does not accept")
        return Refused(
            f"{size:,} bytes with attributes; queue {self.queue.name} takes at most {self._limit.size:,}",
            hint="raise the queue's MaximumMessageSize (at most 1,048,576), set claim_check, or park it",
        )

    def _entry(self, out: SqsOut) -> dict[str, Any]:
        entry: dict[str, Any] = {"MessageBody": out.body}
        if out.attributes:
            entry["MessageAttributes"] = attribute_entries(out.attributes)
        if out.due_at is not None and (delay := round(out.due_at - time.time())) > 0:
            entry["DelaySeconds"] = min(delay, LONGEST_DELAY)  # the stream's clock may be ahead of ours
        if out.trace_header:
            entry["MessageSystemAttributes"] = {
                "AWSTraceHeader": {"DataType": "String", "StringValue": out.trace_header}
            }
        if self.queue.fifo:
            entry |= {"MessageGroupId": out.group, "MessageDeduplicationId": out.dedup_id}
        elif out.group:
            entry["MessageGroupId"] = out.group  # fair queues
        return entry

    async def _call(self, entries: list[dict[str, Any]]) -> Any:
        return await self._aws.call(
            "sqs",
            "send_message_batch",
            about=self.queue.name,
            missing=self._missing,
            key=self.queue.kms_key,
            QueueUrl=self.queue.url,
            Entries=entries,
        )


def lease_of(queue: Queue) -> float:
    """Seconds to ask for with each receive."""
    return float(LEASE) if queue.visibility_timeout < SHORT_LEASE else min(queue.visibility_timeout, LONGEST_LEASE)


def _out(out: Out) -> SqsOut:
    assert isinstance(out, SqsOut)
    return out


def _loan(delivery: Delivery) -> _Loan:
    assert isinstance(delivery.token, _Loan)
    return delivery.token
