"""What the legs know about a queue: read when a route opens, compared with what was asked for, and refreshed.

May not: create or change a queue, or receive or send.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from bridge.core.errors import BridgeError, Failed, Refused
from bridge.core.policies import Policy, read_policy
from bridge.core.regions import name_of
from bridge.legs.aws import AwsConnection
from bridge.legs.aws_shapes import Facts
from bridge.legs.backlogs import queue_url, same_queue

LEASE = 30
RULES = ("VisibilityTimeout", "MaximumMessageSize", "MessageRetentionPeriod", "RedrivePolicy", "KmsMasterKeyId")
"""What an operator may change at any time, by the names of GetQueueAttributes."""
AGAIN_SECONDS = 5.0  # between two reads of a limit that refuses messages

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Queue:
    """What the legs must know about a queue. Times in seconds, sizes in bytes."""

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
    kms_key: str = ""
    """Id, ARN or alias of the KMS key that encrypts it, empty without one."""
    policy: Policy | None = None
    """Who else may send; None where there is no policy, or it cannot be read."""


def no_such_queue(aws: AwsConnection, name: str) -> str:
    """What to do when it does not exist: most often it does, in another account or region."""
    fifo = " --attributes FifoQueue=true" if name.endswith(".fifo") else ""
    region = f" ({aws.options.region})" if aws.options.region else ""
    return (
        f"is the name right, and is it in the account and region{region} of this connection? "
        f"if not, create it: aws sqs create-queue --queue-name {name}{fifo} "
        "(a new queue also needs its subscription, its policy and a redrive policy)"
    )


async def open_queue(aws: AwsConnection, queue: str) -> Queue:
    """Looks up a queue by name, URL or ARN. Raises NotUsable, with where to look and how to create it, if it does
    not exist or another queue answers; Unavailable if the answer is not a queue."""
    name = name_of(queue)
    if queue.startswith(("https://", "http://")):
        url = queue.rstrip("/")  # AWS accepts no other form
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
    facts = Facts(answer, f"queue {name}")
    await same_queue(aws, queue, facts.text("QueueArn"))
    arn, policy = facts.text("QueueArn"), read_policy(facts.text("Policy"), facts.text("QueueArn"))
    unread = Queue(url, arn, name, name.endswith(".fifo"), LEASE, 1_048_576, 345_600.0, redrives=False, policy=policy)
    return read_queue(unread, answer)


def read_queue(queue: Queue, answer: Any) -> Queue:
    """`queue` with the RULES of an answer of GetQueueAttributes. Raises Unavailable for one that cannot be read."""
    facts = Facts(answer, f"queue {queue.name}")
    redrive, key = facts.text("RedrivePolicy"), facts.text("KmsMasterKeyId")
    found = replace(
        queue,
        visibility_timeout=facts.number("VisibilityTimeout", queue.visibility_timeout),
        max_message_size=int(facts.number("MaximumMessageSize", queue.max_message_size)) or queue.max_message_size,
        retention=facts.number("MessageRetentionPeriod", queue.retention),
        redrives=bool(redrive),
        dead_letter=_dead_letter(redrive),
        kms_key=key,
    )
    return queue if found == queue else found


def _dead_letter(policy: str) -> str:
    try:
        return str(json.loads(policy)["deadLetterTargetArn"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


class Limit:
    """The largest message a queue or topic takes, in bytes. `read` refreshes it, at most every AGAIN_SECONDS: it is
    called before a message is refused, and when AWS refused one."""

    def __init__(self, size: int, look: Callable[[], Awaitable[int]]) -> None:
        self.size = size
        self._look = look
        self._next = 0.0

    async def read(self) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._next:
            return
        self._next = now + AGAIN_SECONDS
        try:
            self.size = await self._look()
        except BridgeError:
            return  # the known value stays in use

    async def judged(self, answers: Sequence[T | BridgeError], sizes: Sequence[int]) -> list[T | BridgeError]:
        """The answers, with one change: a message refused because the limit was lowered meanwhile is retried, and then
        refused, or stored by claim check, because of the current limit."""
        refused = [place for place, answer in enumerate(answers) if isinstance(answer, Refused)]
        judged = list(answers)
        if not refused or not any(sizes[place] <= self.size for place in refused):
            return judged
        before = self.size
        await self.read()
        for place in refused:
            if self.size < sizes[place] <= before:
                judged[place] = Failed("its maximum message size was lowered")
        return judged
