"""Messages that wait for reasons of their own, more of them than may be in flight, beside good ones: the good pass."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.system.process import Bridge, until
from tests.system.world import Aws, Nats

pytestmark = pytest.mark.server
IN_FLIGHT = 50
WAITING = 60
GOOD = 40


def route(name: str, subject: str, **more: Any) -> dict[str, Any]:
    return {
        "name": "in",
        "source": {"kind": "sqs", "queue": name, "wait_seconds": 1},
        "destination": {"kind": "jetstream", "subject": subject},
        "max_in_flight": IN_FLIGHT,
        **more,
    }


def test_one_full_subject(tmp_path: Path, aws: Aws, nats: Nats, name: str) -> None:
    url = aws.queue(name)
    limits = {"max_msgs_per_subject": 1, "discard": "new", "discard_new_per_subject": True}
    nats.stream(name, f"{name}.*", duplicate_window=10**9, **limits)
    nats.publish(f"{name}.full", ["already there"])
    aws.send(url, [f"waits {n}" for n in range(WAITING)], to="full")
    for n in range(GOOD):
        aws.send(url, [f"good {n}"], to=str(n))
    routes = [route(name, f"{name}.{{attributes.to}}", parking={"kind": "jetstream", "subject": f"parked-{name}"})]
    nats.stream(f"{name}-parked", f"parked-{name}")
    with Bridge(tmp_path, routes, nats=nats.url, aws=aws.url) as bridge:
        until(lambda: nats.count(name) == 1 + GOOD, "every good message is carried")
        assert bridge.count("in", "parked") == 0
        assert sum(aws.counts(url)) == WAITING
        # Room is made, and what waits here goes at once.
        nats.api(f"STREAM.PURGE.{name}", {"filter": f"{name}.full"})
        until(lambda: bridge.count("in", "carried") == GOOD + 1, "one of those that waited takes the room")


def test_a_full_parking_place(tmp_path: Path, aws: Aws, nats: Nats, name: str) -> None:
    url = aws.queue(name)
    nats.stream(name, f"{name}.*")
    nats.stream(f"{name}-parked", f"parked-{name}", max_msgs=1, discard="new")
    nats.publish(f"parked-{name}", ["already there"])
    aws.send(url, [f"cannot be mapped {n}" for n in range(WAITING)])
    aws.send(url, [f"good {n}" for n in range(GOOD)], to="x")
    routes = [route(name, f"{name}.{{attributes.to}}", parking={"kind": "jetstream", "subject": f"parked-{name}"})]
    with Bridge(tmp_path, routes, nats=nats.url, aws=aws.url):
        until(lambda: nats.count(name) == GOOD, "every good message is carried")
        assert sum(aws.counts(url)) == WAITING


def test_pointers_that_lead_nowhere(tmp_path: Path, aws: Aws, nats: Nats, name: str) -> None:
    url = aws.queue(name)
    aws.bucket(name)
    nats.stream(name, f"{name}.*")
    nats.stream(f"{name}-parked", f"parked-{name}")
    for bucket in (name, f"{name}-gone"):
        where = {"s3BucketName": bucket, "s3Key": "nothing"}
        pointer = json.dumps(["software.amazon.payloadoffloading.PayloadS3Pointer", where])
        aws.send(url, [pointer] * (WAITING // 2), ExtendedPayloadSize="300000")
    aws.send(url, [f"good {n}" for n in range(GOOD)])
    parking = {"kind": "jetstream", "subject": f"parked-{name}"}
    source = {"kind": "sqs", "queue": name, "wait_seconds": 1, "buckets": [name, f"{name}-gone"]}
    routes = [{**route(name, f"{name}.x", parking=parking), "source": source}]
    with Bridge(tmp_path, routes, nats=nats.url, aws=aws.url) as bridge:
        until(lambda: nats.count(name) == GOOD, "every good message is carried")
        until(lambda: bridge.count("in", "parked") == WAITING, "what leads nowhere is parked")
