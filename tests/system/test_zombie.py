"""A bridge that was frozen for longer than its leases, and continues: what another reader has settled is not sent."""

from __future__ import annotations

import base64
import os
import signal
from pathlib import Path

import pytest

from tests.system.process import Bridge, until
from tests.system.world import Aws, Nats

pytestmark = pytest.mark.server


def test_it_sends_nothing_that_another_reader_had_meanwhile(tmp_path: Path, aws: Aws, nats: Nats, name: str) -> None:
    url = aws.queue(name, VisibilityTimeout="6")
    nats.stream(name, f"{name}.>", max_msgs=1, discard="new")
    nats.publish(f"{name}.x", ["it is full"])
    route = {
        "name": "in",
        "source": {"kind": "sqs", "queue": name, "wait_seconds": 1},
        "destination": {"kind": "jetstream", "subject": f"{name}.x"},
    }
    with Bridge(tmp_path, [route], nats=nats.url, aws=aws.url) as bridge:
        aws.send(url, [f"m{n}" for n in range(5)])
        until(lambda: bridge.status("in").get("in_flight_messages") == 5, "it holds them all")
        os.kill(bridge.process.pid, signal.SIGSTOP)
        until(lambda: aws.counts(url)[0] == 5, "their leases are over")
        assert {each["Body"] for each in aws.drain(url, 5)} == {f"m{n}" for n in range(5)}  # and deletes them
        nats.api(f"STREAM.PURGE.{name}")  # there is room for one
        os.kill(bridge.process.pid, signal.SIGCONT)
        until(lambda: bridge.status("in").get("in_flight_messages") == 0, "it has let them go")
        aws.send(url, ["new"])
        until(lambda: nats.count(name) == 1, "it carries on")
        (last,) = [nats.api(f"STREAM.MSG.GET.{name}", {"last_by_subj": f"{name}.x"})["message"]]
        assert base64.b64decode(last["data"]) == b"new"
