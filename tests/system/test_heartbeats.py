"""Heartbeats through the real daemon: idle routes prove themselves both ways, and nobody else's message suffers."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from bridge.legs.nats import NatsConnection, NatsOptions
from tests.system.process import Bridge, until
from tests.system.test_verbs import Checked
from tests.system.world import Aws, Nats

pytestmark = pytest.mark.server

MARK = "Bridge-Heartbeat"
BEAT = {"every": 1}


def inward(queue: str, subject: str, **more: Any) -> dict[str, Any]:
    return {
        "name": "in",
        "source": {"kind": "sqs", "queue": queue, "wait_seconds": 1, **more.pop("source", {})},
        "destination": {"kind": "jetstream", "subject": subject},
        "heartbeat": BEAT,
        **more,
    }


def back(stream: str, queue: str, **more: Any) -> dict[str, Any]:
    return {
        "name": "back",
        "source": {"kind": "jetstream", "stream": stream, "consumer": "back"},
        "destination": {"kind": "sqs", "queue": queue},
        "heartbeat": BEAT,
        **more,
    }


def consumed(nats: Nats, stream: str, count: int) -> list[tuple[str, bytes, dict[str, str]]]:
    """(subject, payload, headers) as a consumer of the new side sees the first `count` messages, through nats-py."""

    async def scene() -> list[tuple[str, bytes, dict[str, str]]]:
        async with NatsConnection(NatsOptions((nats.url,))) as connection:
            client = await connection.live()
            subscription = await client.jetstream().pull_subscribe("", durable="new", stream=stream)
            found: list[tuple[str, bytes, dict[str, str]]] = []
            while len(found) < count:
                for message in await subscription.fetch(count - len(found), timeout=20):
                    found.append((message.subject, message.data, dict(message.headers or {})))
                    await message.ack()
            return found

    return asyncio.run(scene())


def test_idle_routes_prove_themselves_both_ways(tmp_path: Path, aws: Aws, nats: Nats, name: str) -> None:
    """Past a filter, a template nothing fills, and `verify`; told apart by one header."""
    aws.queue(name)
    legacy = aws.queue(f"{name}-legacy")
    nats.stream(name, f"{name}.in.*")
    nats.stream(f"{name}b", f"{name}.back.>")
    nats.consumer(f"{name}b", "back", filter_subject=f"{name}.back.*.created")
    routes = [
        inward(
            name,
            f"{name}.in.{{attributes.eventType}}",
            filter={"eventType": ["paid"]},
            source={"verify": ["arn:aws:sns:eu-west-1:123456789012:t"]},
        ),
        back(f"{name}b", f"{name}-legacy", filter={"eventType": ["paid"]}),
    ]
    with Bridge(tmp_path, routes, nats=nats.url, aws=aws.url) as bridge:
        until(lambda: min(bridge.count(route, "heartbeat") for route in ("in", "back")) >= 2, "two each")
        nats.publish(f"{name}.back.x.created", ["real"], {"eventType": "paid"})
        until(lambda: bridge.count("back", "carried") == 1, "the real one is carried")
        status, metrics = bridge.status("in"), bridge.get("/metrics")[1]
        bridge.terminate()
        assert bridge.exit_code() == 0
    assert status["heartbeat"]["every"] == 1
    assert 0 <= status["heartbeat"]["transit"] < 60
    assert status["heartbeat"]["failed"] == 0
    assert status["messages"]["carried"] == 0
    for gauge in ("seconds", "timestamp_seconds"):
        assert f'nats_sqs_bridge_heartbeat_{gauge}{{route="back"}}' in metrics
    for subject, payload, headers in consumed(nats, name, 2):
        assert subject == f"{name}.in._heartbeat"
        assert headers[MARK] == "in"
        assert json.loads(payload)["heartbeat"] == "in"
    seen = aws.drain(legacy, 3)
    kept = [each for each in seen if MARK not in each.get("MessageAttributes", {})]
    assert [each["Body"] for each in kept] == ["real"]
    assert {each["MessageAttributes"][MARK]["StringValue"] for each in seen if each not in kept} == {"back"}


def test_a_two_way_pair_never_carries_the_other_one_s(tmp_path: Path, aws: Aws, nats: Nats, name: str) -> None:
    """On FIFO queues, with groups; each ends where it landed."""
    url = aws.queue(f"{name}.fifo")
    nats.stream(name, f"{name}.>")
    nats.consumer(name, "back")
    routes = [inward(f"{name}.fifo", f"{name}.{{group}}"), back(name, f"{name}.fifo")]
    with Bridge(tmp_path, routes, nats=nats.url, aws=aws.url) as bridge:
        until(lambda: min(bridge.count(route, "heartbeat") for route in ("in", "back")) >= 6, "six each")
        nats.publish(f"{name}.real", ["real"])
        until(lambda: bridge.count("back", "carried") == 1, "the real one goes there")
        until(lambda: bridge.count("in", "echo") == 1, "and not back")
        bridge.terminate()
        assert bridge.exit_code() == 0
    bodies = nats.bodies(name)
    assert len(set(bodies)) == len(bodies)
    beats = [json.loads(body) for body in bodies if body != "real"]
    assert {each["heartbeat"] for each in beats} == {"in", "back"}
    left = [json.loads(each["Body"]) for each in aws.drain(url, 1)]
    assert len(left) <= 2  # one of each may have been under way
    assert not [each for each in bridge.events() if each["event"] in ("parked", "rejected")]


def test_one_that_cannot_land_is_dropped_and_the_route_goes_on(tmp_path: Path, aws: Aws, nats: Nats, name: str) -> None:
    url = aws.queue(name)
    nats.stream(name, f"{name}.in.paid")
    nats.stream(f"{name}p", f"{name}.parked")
    route = inward(
        name, f"{name}.in.{{attributes.eventType}}", parking={"kind": "jetstream", "subject": f"{name}.parked"}
    )
    with Bridge(tmp_path, [route], nats=nats.url, aws=aws.url) as bridge:
        until(lambda: bridge.count("in", "heartbeat_failed") >= 2, "two were refused")
        aws.send(url, ["real"], eventType="paid")
        until(lambda: bridge.count("in", "carried") == 1, "the real one is carried")
        assert bridge.get("/readyz")[0] == 200
        assert bridge.status("in")["heartbeat"]["last_arrived"] is None
    assert nats.count(f"{name}p") == 0
    assert nats.bodies(name) == ["real"]
    warnings = [each for each in bridge.events() if each["event"] == "heartbeat_failed"]
    assert len(warnings) == 1  # the metric counts every one
    assert "no stream captures" in warnings[0]["error"]


def test_a_real_message_with_the_mark_is_carried(tmp_path: Path, aws: Aws, nats: Nats, name: str) -> None:
    url = aws.queue(name)
    nats.stream(name, f"{name}.>")
    aws.send(url, ['{"heartbeat":"in","amount":12}'], **{MARK: "in"})
    with Bridge(tmp_path, [inward(name, f"{name}.in", heartbeat=None)], nats=nats.url, aws=aws.url) as bridge:
        until(lambda: bridge.count("in", "carried") == 1, "it is carried")
        assert bridge.status("in")["heartbeat"] is None
    ((_, payload, headers),) = consumed(nats, name, 1)
    assert payload == b'{"heartbeat":"in","amount":12}'
    assert MARK not in headers
    assert headers[f"Sqs-Attr-{MARK}"] == "in"


def test_check_says_where_heartbeats_come_out_and_where_they_cannot(
    tmp_path: Path, aws: Aws, nats: Nats, name: str
) -> None:
    aws.queue(name, VisibilityTimeout="30")
    nats.stream(name, f"{name}.in.paid")
    nats.consumer(name, "back")
    nats.api(f"STREAM.CREATE.{name}m", {"name": f"{name}m", "mirror": {"name": name}, "storage": "file"})
    nats.consumer(f"{name}m", "back")
    routes = [inward(name, f"{name}.in.{{attributes.eventType}}"), back(f"{name}m", name)]
    checked = Checked(tmp_path / "bridge.yaml", routes, nats.url, aws.url)
    warnings = "\n".join(checked.said("warning"))
    assert f"heartbeats come out on {name}.in._heartbeat, which stream {name} does not capture" in warnings
    assert f"no subject that stream {name}m captures passes the filters of consumer back" in warnings
    assert "every 1 s consumers on both sides see a message of the bridge's own" in "\n".join(checked.said("ok"))
