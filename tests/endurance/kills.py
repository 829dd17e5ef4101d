"""`make endurance`: 20,000 messages, ten SIGKILLs in between; at the end 20,000 distinct messages and an empty queue.

Too long for every commit, so it is run by hand before a release. SQS is ministack: moto crawls with thousands of
messages in one queue.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
from pathlib import Path

from bridge.embedded import NatsServer
from tests.conftest import MinistackServer
from tests.legs.aws_world import world
from tests.system import process
from tests.system.process import Bridge, until
from tests.system.world import Aws, Nats

os.environ.update(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test")


async def send(aws: Aws, url: str, count: int) -> None:
    async with world(aws.url) as found:
        room = asyncio.Semaphore(8)

        async def ten(start: int) -> None:
            async with room:
                entries = [{"Id": str(n), "MessageBody": f"m{n}"} for n in range(start, min(start + 10, count))]
                await found.sqs.send_message_batch(QueueUrl=url, Entries=entries)

        await asyncio.gather(*(ten(start) for start in range(0, count, 10)))


def run(messages: int, kills: int, seed: int) -> int:
    process.PATIENCE = 900.0  # the machine may have other things to do
    chance = random.Random(seed)
    folder = Path(tempfile.mkdtemp(prefix="endurance-"))
    with NatsServer(folder / "nats") as nats_server, MinistackServer(folder / "aws") as aws_server:
        aws, nats = Aws(aws_server.url), Nats(nats_server.url)
        url = aws.queue("orders", VisibilityTimeout="10")
        nats.stream("ORDERS", "orders.>")
        asyncio.run(send(aws, url, messages))
        print(f"{messages:,} messages wait in the queue")
        route = {
            "name": "orders",
            "source": {"kind": "sqs", "queue": "orders", "wait_seconds": 2},
            "destination": {"kind": "jetstream", "subject": "orders.in"},
        }
        with Bridge(folder, [route], nats=nats.url, aws=aws.url) as bridge:
            for number in range(kills):
                goal = messages * (number + 1) // (kills + 1)
                until(lambda goal=goal: nats.count("ORDERS") >= goal, f"{goal:,} carried")  # type: ignore[misc]
                time.sleep(chance.random() / 2)  # at any point of a batch, not at the same one each time
                bridge.kill()
                print(f"kill {number + 1} at {nats.count('ORDERS'):,} in the stream, queue {aws.counts(url)}")
                bridge.start()
            until(lambda: aws.counts(url) == (0, 0), "the queue is empty")
            bridge.terminate()
            code = bridge.exit_code()
        found = nats.bodies("ORDERS")
        expected = {f"m{n}" for n in range(messages)}
        print(f"in the stream {len(found):,}, distinct {len(set(found)):,}, missing {len(expected - set(found)):,}")
        print(f"queue {aws.counts(url)}, last exit code {code}")
        good = len(found) == len(set(found)) == messages and set(found) == expected and code == 0
        print("GOOD" if good else "BAD")
        return 0 if good else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args()
    print(f"seed {options.seed}")
    sys.exit(run(options.messages, options.kills, options.seed))
