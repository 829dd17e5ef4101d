"""A stream and a consumer that are deleted, created again or edited under a running daemon: the route opens again by
itself, and every message that was ever stored is carried."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.system.process import Bridge, until
from tests.system.world import Aws, Nats

pytestmark = pytest.mark.server


def back(name: str, **source: Any) -> dict[str, Any]:
    return {
        "name": "back",
        "source": {"kind": "jetstream", "stream": name, "consumer": "c", **source},
        "destination": {"kind": "sqs", "queue": name},
    }


def test_a_source_stream_created_again(tmp_path: Path, aws: Aws, nats: Nats, name: str) -> None:
    url = aws.queue(name)
    nats.stream(name, f"{name}.>")
    nats.consumer(name, "c")
    nats.publish(f"{name}.x", [f"old-{n}" for n in range(5)])
    with Bridge(tmp_path, [back(name)], nats=nats.url, aws=aws.url) as bridge:
        until(lambda: sum(aws.counts(url)) == 5, "the old are carried")
        nats.api(f"STREAM.DELETE.{name}")
        nats.stream(name, f"{name}.>")
        nats.consumer(name, "c")
        nats.publish(f"{name}.x", [f"new-{n}" for n in range(5)])
        until(lambda: sum(aws.counts(url)) == 10, "all are carried")
        until(lambda: bool(bridge.events("reopening")), "it opens again")
        assert "was deleted" in bridge.events("reopening")[0]["why"]
        until(lambda: bridge.state("back") == "running", "it carries again")
        bodies = {each["Body"] for each in aws.drain(url, 10)}
    assert bodies == {f"{age}-{n}" for age in ("old", "new") for n in range(5)}


def test_a_consumer_that_no_longer_fits_is_refused_as_at_a_start(
    tmp_path: Path, aws: Aws, nats: Nats, name: str
) -> None:
    url = aws.queue(name)
    nats.stream(name, f"{name}.>")
    nats.consumer(name, "c", filter_subjects=[f"{name}.public"])
    route = back(name, filter_subjects=[f"{name}.public"])
    with Bridge(tmp_path, [route], nats=nats.url, aws=aws.url) as bridge:
        until(lambda: bridge.state("back") == "running", "it runs")
        nats.consumer(name, "c", filter_subjects=[f"{name}.>"])
        nats.publish(f"{name}.private", ["secret"])
        until(
            lambda: any("filters" in str(each.get("error")) for each in bridge.events("route_down")),
            "the filter is refused",
        )
        nats.consumer(name, "c", filter_subjects=[f"{name}.public"])
        nats.publish(f"{name}.public", ["open"])
        until(lambda: sum(aws.counts(url)) == 1, "it is carried")
        assert [each["Body"] for each in aws.drain(url, 1)] == ["open"]


def test_a_destination_stream_created_again(tmp_path: Path, aws: Aws, nats: Nats, name: str) -> None:
    url = aws.queue(name)
    nats.stream(name, f"{name}.>")
    route = {
        "name": "in",
        "source": {"kind": "sqs", "queue": name, "wait_seconds": 1},
        "destination": {"kind": "jetstream", "subject": f"{name}.x"},
    }
    with Bridge(tmp_path, [route], nats=nats.url, aws=aws.url) as bridge:
        aws.send(url, [f"old-{n}" for n in range(5)])
        until(lambda: nats.count(name) == 5, "the old are stored")
        nats.api(f"STREAM.DELETE.{name}")
        nats.stream(name, f"{name}.>", storage="memory")
        aws.send(url, [f"new-{n}" for n in range(5)])
        until(lambda: nats.count(name) == 5, "the new are stored")
        until(lambda: bool(bridge.events("reopening")), "it opens again")
        until(lambda: bridge.state("in") == "running", "it runs again")
        assert aws.counts(url) == (0, 0)
