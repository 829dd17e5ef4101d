"""Over, back and over again, all within one duplicate window, through the real process: nothing is lost on the way."""

from __future__ import annotations

import base64
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.legs.aws_world import World
from tests.system.process import Bridge, until
from tests.system.world import Aws, Nats

pytestmark = pytest.mark.server
EACH = 40
TOKEN = "t0ken-of-the-test"


def bridge(folder: Path, name: str, echo: str, aws: Aws, nats: Nats) -> Bridge:
    routes: list[dict[str, Any]] = [
        {
            "name": "over",
            "source": {"kind": "sqs", "queue": name, "wait_seconds": 1},
            "destination": {"kind": "jetstream", "subject": f"{name}.over", "stream": name},
            "echo": echo,
        },
        {
            "name": "back",
            "source": {"kind": "jetstream", "stream": name, "consumer": "new"},
            "destination": {"kind": "sqs", "queue": name},
            "echo": "carry",
        },
    ]
    (folder / "token").write_text(TOKEN)
    found = Bridge(folder, routes, nats=nats.url, aws=aws.url)
    found.rewrite(http={"port": found.port, "token_file": str(folder / "token")})
    return found


@pytest.mark.parametrize("echo", ["skip", "carry"])
def test_over_back_and_over_again_loses_nothing(tmp_path: Path, aws: Aws, nats: Nats, name: str, echo: str) -> None:
    url = aws.queue(name)
    nats.stream(name, f"{name}.>", retention="workqueue")
    nats.consumer(name, "new", ack_wait=30 * 10**9)
    born = {"sns": EACH, "sqs": EACH, "stream": EACH}

    async def publish(world: World) -> None:
        topic = await world.topic(name, feeds=url)
        for n in range(EACH):
            await world.sns.publish(TopicArn=topic, Message=f"sns {n}")

    with bridge(tmp_path, name, echo, aws, nats) as running:
        until(lambda: running.state("back") in ("running", "starting"), "it is up")
        running.post("/routes/back/pause", TOKEN)
        running.post("/routes/over/pause", TOKEN)
        until(lambda: {running.state("back"), running.state("over")} == {"paused"}, "both rest")
        aws.do(publish)
        aws.send(url, [f"sqs {n}" for n in range(EACH)])
        nats.publish(f"{name}.native", [f"stream {n}" for n in range(EACH)])
        everything = sum(born.values())
        running.post("/routes/over/resume", TOKEN)
        until(lambda: nats.count(name) == everything, "all are in the stream")
        until(lambda: aws.counts(url) == (0, 0), "and the queue is empty")
        running.post("/routes/over/pause", TOKEN)
        until(lambda: running.state("over") == "paused", "over rests")
        running.post("/routes/back/resume", TOKEN)
        until(lambda: aws.counts(url) == (everything, 0), "all are in the queue again")
        until(lambda: nats.count(name) == 0, "and the stream is empty")
        running.post("/routes/back/pause", TOKEN)
        until(lambda: running.state("back") == "paused", "back rests")
        running.post("/routes/over/resume", TOKEN)
        until(lambda: nats.count(name) == everything, "all are in the stream at the end")
        running.terminate()
        assert running.exit_code() == 0
    last = int(nats.api(f"STREAM.INFO.{name}")["state"]["last_seq"])
    found = [nats.api(f"STREAM.MSG.GET.{name}", {"seq": last - n})["message"]["data"] for n in range(everything)]
    bodies = Counter(base64.b64decode(each).decode() for each in found)
    assert set(bodies.values()) == {1}
    assert Counter(body.split()[0] for body in bodies) == born
