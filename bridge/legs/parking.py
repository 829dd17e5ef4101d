"""Parking places as an operator works through them: list what is parked, and remove what has been dealt with.

May not: remove anything unasked, or decide whether a message can be carried by now.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

from bridge.core.advice import add_stream
from bridge.core.errors import BridgeError, NotUsable, Unavailable
from bridge.core.mapping.parked import Parked, parked_in_jetstream, parked_in_sqs
from bridge.core.models import JetStreamMessage
from bridge.legs.answers import Answer
from bridge.legs.aws import AwsConnection
from bridge.legs.backlogs import counts_of
from bridge.legs.nats import NatsConnection
from bridge.legs.sqs import Queue
from bridge.legs.sqs_messages import received
from bridge.legs.wire import header_pairs_of

HIDE_SECONDS = 120  # how long a parking queue hides what is being listed; renewed meanwhile
NO_MESSAGE = "(err_code 10037)"


@dataclass(frozen=True, slots=True)
class Shelved:
    """One message in a parking place. `at`: when it was parked, in seconds since the epoch; `size` in bytes; `token`
    belongs to the place."""

    parked: Parked
    at: float
    size: int
    token: object


class Shelf(Protocol):
    """A parking place. What it holds is untrusted. `unreadable` counts listed messages that are not parked ones."""

    unreadable: int

    def look(self) -> AsyncIterator[Shelved]:
        """All our messages in it, oldest first if it has an order. Raises NotUsable, Unavailable."""
        ...

    async def count(self) -> int:
        """How many messages are in it, as far as the queue or stream knows. Raises NotUsable, Unavailable."""
        ...

    async def take_away(self, shelved: Shelved) -> None:
        """Removes one message for good. Raises a BridgeError if that is not certain."""
        ...


class StreamShelf:
    """Parked messages in a stream, read by sequence: no consumer is made, and nothing is marked as read."""

    def __init__(self, nats: NatsConnection, stream: str, subject: str) -> None:
        self._nats = nats
        self._stream = stream
        self._subject = subject
        self.unreadable = 0

    async def look(self) -> AsyncIterator[Shelved]:
        self.unreadable = 0
        sequence = 1
        while (found := await self._next(sequence)) is not None:
            if (number := found.number("seq")) < sequence:
                raise found.odd("seq")
            sequence, at = number + 1, found.moment("time")
            payload, block = found.content("data"), found.content("hdrs")
            headers = header_pairs_of(block) if block else ()
            kept = JetStreamMessage(found.text("subject"), payload, self._stream, sequence - 1, at, 1, headers)
            if (parked := parked_in_jetstream(kept)) is not None:
                yield Shelved(parked, at, len(payload), sequence - 1)
            else:
                self.unreadable += 1

    async def count(self) -> int:
        answer = await self._nats.api(f"STREAM.INFO.{self._stream}", {"subjects_filter": self._subject})
        counts = answer.part("state").part("subjects")
        return sum(counts.number(subject) for subject in counts)

    async def _next(self, sequence: int) -> Answer | None:
        request = {"seq": sequence, "next_by_subj": self._subject}
        try:
            answer = await self._nats.api(f"STREAM.MSG.GET.{self._stream}", request)
        except (NotUsable, Unavailable):
            raise
        except BridgeError as error:
            if NO_MESSAGE in str(error):
                return None
            raise
        return answer.part("message")

    async def take_away(self, shelved: Shelved) -> None:
        await self._nats.api(f"STREAM.MSG.DELETE.{self._stream}", {"seq": shelved.token})


class QueueShelf:
    """Parked messages in a queue. Listing receives: what is listed is hidden from others until the end of the
    listing. A FIFO queue returns ten messages of a group at a time."""

    def __init__(self, aws: AwsConnection, queue: Queue) -> None:
        self._aws = aws
        self._queue = queue
        self._seen: dict[str, str] = {}
        self.unreadable = 0

    async def look(self) -> AsyncIterator[Shelved]:
        self.unreadable = 0
        empty = 0
        while empty < 2:  # a receive may sample only some servers; two empty ones in a row are the end
            answer = await self._call(
                "receive_message",
                MaxNumberOfMessages=10,
                WaitTimeSeconds=1,
                VisibilityTimeout=HIDE_SECONDS,
                MessageSystemAttributeNames=["All"],
                MessageAttributeNames=["All"],
            )
            messages = received(answer, self._queue).messages
            fresh = [each for each in messages if each[0].message_id not in self._seen]
            empty = 0 if fresh else empty + 1
            # The reader may stop early; and if a message comes again, only its newest handle works.
            self._seen |= {kept.message_id: handle for kept, handle, *_ in messages}
            for kept, _, sent_at, *_ in fresh:
                if (parked := parked_in_sqs(kept)) is not None:
                    size = len(kept.body.encode("utf-8", "surrogatepass"))
                    yield Shelved(parked, sent_at or time.time(), size, kept.message_id)
                else:
                    self.unreadable += 1

    async def count(self) -> int:
        name = "ApproximateNumberOfMessages"
        answer = await self._call("get_queue_attributes", AttributeNames=[name])
        return counts_of(answer, self._queue.name)[0]

    async def take_away(self, shelved: Shelved) -> None:
        handle = self._seen.pop(str(shelved.token))
        await self._call("delete_message", ReceiptHandle=handle)

    async def put_back(self) -> None:
        """Makes what was listed and not removed visible to others again."""
        handles, self._seen = list(self._seen.values()), {}
        await self._hide(handles, 0)

    async def keep_hidden(self) -> None:
        """Keeps what was listed hidden, until cancelled: a long listing must not show a message twice."""
        while True:
            await asyncio.sleep(HIDE_SECONDS / 3)
            with suppress(BridgeError):  # the next round tries again; what comes again is recognised by its id
                await self._hide(list(self._seen.values()), HIDE_SECONDS)

    async def _hide(self, handles: Sequence[str], seconds: int) -> None:
        for start in range(0, len(handles), 10):
            entries = [
                {"Id": str(n), "ReceiptHandle": handle, "VisibilityTimeout": seconds}
                for n, handle in enumerate(handles[start : start + 10])
            ]
            await self._call("change_message_visibility_batch", Entries=entries)

    async def _call(self, operation: str, **arguments: Any) -> Any:
        return await self._aws.call("sqs", operation, about=self._queue.name, QueueUrl=self._queue.url, **arguments)


async def streams_holding(nats: NatsConnection, subject: str) -> Sequence[str]:
    """The streams that capture a parking subject. Raises NotUsable if there is none."""
    names = (await nats.api("STREAM.NAMES", {"subject": subject})).texts("streams")
    if not names:
        raise NotUsable(f"no stream captures {subject}", hint=add_stream("PARKED", subject))
    return names


@asynccontextmanager
async def queue_shelf(aws: AwsConnection, queue: Queue) -> AsyncIterator[QueueShelf]:
    """A parking queue, whose messages are visible again afterwards."""
    shelf = QueueShelf(aws, queue)
    failure: BridgeError | None = None
    async with asyncio.TaskGroup() as group:
        hiding = group.create_task(shelf.keep_hidden())
        try:
            yield shelf
        except BridgeError as error:
            failure = error  # raised below, because the group would wrap it
        finally:
            hiding.cancel()
            with suppress(BridgeError):  # SQS shows them again by itself, a little later
                await shelf.put_back()
    if failure is not None:
        raise failure
