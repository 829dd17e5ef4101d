"""Fidelity through the real process: two-way pairs, filters, envelopes, lives, delays, blocked groups, claim checks,
outages longer than any window."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MinistackServer
from tests.legs.aws_world import World
from tests.system.hold import Gate
from tests.system.process import Bridge, until
from tests.system.world import Aws, Nats

pytestmark = pytest.mark.server


def inward(name: str, **more: Any) -> dict[str, Any]:
    return {
        "name": "in",
        "source": {"kind": "sqs", "queue": name, "wait_seconds": 1},
        "destination": {"kind": "jetstream", "subject": f"{name}.in", **more.pop("destination", {})},
        **more,
    }


def outward(name: str, destination: dict[str, Any], **more: Any) -> dict[str, Any]:
    source = {"kind": "jetstream", "stream": name, "consumer": "back"}
    return {"name": "out", "source": source, "destination": destination, **more}


def test_a_two_way_pair_on_one_queue_and_one_stream_never_goes_round(
    tmp_path: Path, aws: Aws, nats: Nats, name: str
) -> None:
    url = aws.queue(name)
    nats.stream(name, f"{name}.>")
    nats.consumer(name, "back")
    aws.send(url, ["from sqs"])
    nats.publish(f"{name}.x", ["from jetstream"])
    routes = [inward(name), outward(name, {"kind": "sqs", "queue": name})]
    with Bridge(tmp_path, routes, nats=nats.url, aws=aws.url) as bridge:
        # Each message crosses once, is seen on the other side, and is recognised there as one of this side's own.
        until(lambda: bridge.count("in", "carried") == 1 and bridge.count("out", "carried") == 1, "each crossed")
        until(lambda: bridge.count("in", "echo") == 1 and bridge.count("out", "echo") == 1, "each was recognised")
        until(lambda: aws.counts(url) == (0, 0), "the queue is empty")
        bridge.terminate()
        assert bridge.exit_code() == 0
    assert sorted(nats.bodies(name)) == ["from jetstream", "from sqs"]


def test_a_subscriptions_filter_policy_moves_over(tmp_path: Path, aws: Aws, nats: Nats, name: str) -> None:
    url = aws.queue(name)
    nats.stream(name, f"{name}.>")
    aws.send(url, ["paid"], eventType="paid")
    aws.send(url, ["held"], eventType="held")
    aws.send(url, ["none"])
    policy = json.dumps({"eventType": [{"anything-but": "held"}]})  # as `aws sns get-subscription-attributes` prints it
    with Bridge(tmp_path, [inward(name, filter=policy)], nats=nats.url, aws=aws.url) as bridge:
        until(lambda: bridge.count("in", "filtered") == 2, "two are left out")
        until(lambda: aws.counts(url) == (0, 0), "the queue is empty")
        assert 'outcome="filtered",route="in"} 2.0' in bridge.get("/metrics")[1]
    assert nats.bodies(name) == ["paid"]


def test_what_a_filter_leaves_out_can_be_parked(tmp_path: Path, aws: Aws, nats: Nats, name: str) -> None:
    url, parked = aws.queue(name), aws.queue(f"{name}-parked")
    nats.stream(name, f"{name}.>")
    nats.consumer(name, "back")
    aws.send(url, ["paid", "held"], eventType="voided")
    policy, parking = {"eventType": ["paid"]}, {"kind": "sqs", "queue": f"{name}-parked"}
    kept = {"filter": policy, "filtered": "park", "parking": parking}
    routes = [inward(name, **kept), outward(name, {"kind": "sqs", "queue": f"{name}-back"}, **kept)]
    aws.queue(f"{name}-back")
    nats.publish(f"{name}.x", ["none"])
    with Bridge(tmp_path, routes, nats=nats.url, aws=aws.url) as bridge:
        until(lambda: bridge.count("in", "parked") == 2 and bridge.count("out", "parked") == 1, "all are parked")
        until(lambda: aws.counts(url) == (0, 0), "the queue is empty")
        assert bridge.status("in")["filter_matched_none"] is True
        assert bridge.status("in")["failures"][0]["error"] == "filter: left out by the route's filter"
    assert sorted(aws.counts(parked)) == [0, 3]
    assert nats.bodies(name) == ["none"]


def test_a_legacy_consumer_reads_the_envelope_it_knows(tmp_path: Path, aws: Aws, nats: Nats, name: str) -> None:
    """SNS to JetStream to SQS: what a consumer that parses envelopes sees at the end is what it saw before."""
    url, legacy = aws.queue(name), aws.queue(f"{name}-legacy")
    nats.stream(name, f"{name}.>")
    nats.consumer(name, "back")

    async def publish(world: World) -> str:
        arn = await world.topic(name, feeds=url)
        attributes = {"eventType": {"DataType": "String", "StringValue": "paid"}}
        attributes["amount"] = {"DataType": "Number", "StringValue": "5.20"}
        await world.sns.publish(TopicArn=arn, Message="a ☃ body", Subject="Über", MessageAttributes=attributes)
        return arn

    arn = aws.do(publish)
    back = outward(name, {"kind": "sqs", "queue": f"{name}-legacy", "envelope": "arn:aws:sns:eu-west-1:1:other"})
    with Bridge(tmp_path, [inward(name), back], nats=nats.url, aws=aws.url) as bridge:
        until(lambda: bridge.count("out", "carried") == 1, "carried back")
    (found,) = aws.drain(legacy, 1)
    envelope = json.loads(found["Body"])
    assert (envelope["Type"], envelope["TopicArn"]) == ("Notification", arn)
    assert (envelope["Message"], envelope["Subject"]) == ("a ☃ body", "Über")
    assert envelope["MessageAttributes"]["eventType"] == {"Type": "String", "Value": "paid"}
    assert envelope["MessageAttributes"]["amount"] == {"Type": "Number", "Value": "5.20"}
    stored = nats.api(f"STREAM.MSG.GET.{name}", {"seq": 1})["message"]
    assert stored["subject"] == f"{name}.in"
    assert envelope["MessageId"]


def test_retention_becomes_a_time_to_live_where_the_stream_allows_it(
    tmp_path: Path, aws: Aws, nats: Nats, name: str
) -> None:
    url = aws.queue(name, MessageRetentionPeriod="60")
    nats.stream(name, f"{name}.>")
    aws.send(url, ["a"])
    with Bridge(tmp_path, [inward(name, destination={"ttl": "retention"})], nats=nats.url, aws=aws.url) as bridge:
        until(lambda: bridge.state("in") == "down", "refused: the stream allows no TTL")
        assert "--allow-msg-ttl" in bridge.status("in")["trouble"][0]
        config = nats.api(f"STREAM.INFO.{name}")["config"]
        nats.api(f"STREAM.UPDATE.{name}", {**config, "allow_msg_ttl": True})
        until(lambda: bridge.count("in", "carried") == 1, "carried")
    headers = nats.headers(name, 1)
    assert 1 <= int(headers["Nats-TTL"]) <= 60


def test_a_message_is_delivered_when_it_is_due(tmp_path: Path, aws: Aws, nats: Nats, name: str) -> None:
    url = aws.queue(name)
    nats.stream(name, f"{name}.>", allow_msg_ttl=True)
    to = {"deliver_at": "{attributes.at}", "schedules": f"{name}.waiting", "subject": f"{name}.in"}
    with Bridge(tmp_path, [inward(name, destination=to)], nats=nats.url, aws=aws.url) as bridge:
        until(lambda: bridge.state("in") == "down", "refused: the stream allows no schedules")
        assert "--allow-schedules" in bridge.status("in")["trouble"][0]
        config = nats.api(f"STREAM.INFO.{name}")["config"]
        nats.api(f"STREAM.UPDATE.{name}", {**config, "allow_msg_schedules": True})
        until(lambda: bridge.state("in") == "running", "it is allowed now")
        soon = datetime.now(UTC) + timedelta(seconds=5)
        aws.send(url, ["later"], at=soon.isoformat())
        aws.send(url, ["past"], at="1700000000")
        aws.send(url, ["now"])
        until(lambda: bridge.count("in", "carried") == 3, "carried")
        until(lambda: aws.counts(url) == (0, 0), "the queue is empty")

    def times() -> dict[str, float]:
        found = {}
        for sequence in range(1, 5):
            with suppress(Exception):
                message = nats.api(f"STREAM.MSG.GET.{name}", {"seq": sequence})["message"]
                if message["subject"] == f"{name}.in":
                    at = datetime.fromisoformat(message["time"])
                    found[base64.b64decode(message["data"]).decode()] = at.timestamp()
        return found

    until(lambda: len(times()) == 3, "all are where the consumers look")
    assert times()["later"] >= soon.timestamp() - 0.001
    assert times()["past"] < times()["later"]
    assert nats.count(name) == 3  # nothing waits any more


def test_a_delay_a_producer_asks_for_is_kept(tmp_path: Path, aws: Aws, nats: Nats, name: str) -> None:
    url = aws.queue(name)
    nats.stream(name, f"{name}.>")
    nats.consumer(name, "back")
    nats.publish(f"{name}.x", ["now"])
    nats.publish(f"{name}.x", ["later"], {"Sqs-Delay-Seconds": "600"})
    nats.publish(f"{name}.x", ["never"], {"Sqs-Delay-Seconds": "soon"})
    nats.stream(f"{name}P", f"parked.{name}")
    parking = {"kind": "jetstream", "subject": f"parked.{name}"}
    route = outward(name, {"kind": "sqs", "queue": name}, parking=parking)
    with Bridge(tmp_path, [route], nats=nats.url, aws=aws.url) as bridge:
        until(lambda: bridge.count("out", "carried") == 2 and bridge.count("out", "parked") == 1, "all dealt with")

    async def delayed(world: World) -> int:
        asked = ["ApproximateNumberOfMessagesDelayed"]
        facts = await world.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=asked)
        return int(facts["Attributes"][asked[0]])

    assert aws.do(delayed) == 1
    assert [each["Body"] for each in aws.drain(url, 1)] == ["now"]
    assert nats.bodies(f"{name}P") == ["never"]


def test_a_group_is_blocked_by_what_cannot_be_carried_until_it_can(
    tmp_path: Path, nats: Nats, name: str, ministack_server: MinistackServer
) -> None:
    aws = Aws(ministack_server.url)
    url = aws.queue(f"{name}.fifo")
    nats.stream(name, f"{name}.>", max_msg_size=5_000)

    async def fill(world: World) -> None:
        await world.send(url, "a1", "a2" + "x" * 6_000, "a3", group="a")
        await world.send(url, "b1", "b2", group="b")

    aws.do(fill)
    route = inward(f"{name}.fifo", cannot_carry="block")
    route["destination"]["subject"] = f"{name}.{{group}}"
    with Bridge(tmp_path, [route], nats=nats.url, aws=aws.url) as bridge:
        until(lambda: len(bridge.status("in").get("blocked", {})) == 1, "the group of the large one is blocked")
        until(lambda: bridge.count("in", "carried") == 3, "the other group went on")
        assert 'nats_sqs_bridge_blocked_groups{route="in"} 1.0' in bridge.get("/metrics")[1]
        assert sorted(nats.bodies(name)) == ["a1", "b1", "b2"]
        config = nats.api(f"STREAM.INFO.{name}")["config"]
        nats.api(f"STREAM.UPDATE.{name}", {**config, "max_msg_size": -1})
        until(lambda: bridge.count("in", "carried") == 5, "the operator has made room")
        assert bridge.status("in")["blocked"] == {}
    assert [body[:2] for body in nats.bodies(name) if body[0] == "a"] == ["a1", "a2", "a3"]


def test_a_payload_too_large_for_sqs_travels_through_s3_and_back(
    tmp_path: Path, aws: Aws, nats: Nats, name: str
) -> None:
    url = aws.queue(name)
    nats.stream(name, f"{name}.>")
    nats.stream(f"{name}2", f"{name}2.>")
    nats.consumer(name, "back")
    aws.bucket(name)
    large = "ä" * 700_000  # 1.4 MB in UTF-8
    nats.publish(f"{name}.x", [large])
    out = outward(name, {"kind": "sqs", "queue": name}, claim_check={"kind": "s3", "bucket": name})
    there = inward(
        name, source={"kind": "sqs", "queue": name, "buckets": [name]}, destination={"subject": f"{name}2.in"}
    )
    with Bridge(tmp_path, [out], nats=nats.url, aws=aws.url) as bridge:
        until(lambda: bridge.count("out", "carried") == 1, "sent as a pointer")
    assert aws.counts(url) == (1, 0)
    with Bridge(tmp_path, [there], nats=nats.url, aws=aws.url) as bridge:
        until(lambda: bridge.count("in", "carried") == 1, "fetched")
    assert nats.bodies(f"{name}2") == [large]


def test_an_absence_longer_than_the_window_publishes_nothing_twice_with_a_ledger(
    tmp_path: Path, aws: Aws, nats: Nats, name: str
) -> None:
    url = aws.queue(name, VisibilityTimeout="5")
    nats.stream(name, f"{name}.>", duplicate_window=10**8)  # a tenth of a second: over before the bridge is back
    nats.bucket(name)
    aws.send(url, [f"m{n}" for n in range(20)])
    route = inward(name, ledger={"bucket": name})
    with (
        Gate(aws.url, "DeleteMessageBatch") as gate,
        Bridge(tmp_path, [route], nats=nats.url, aws=gate.url) as bridge,
    ):
        until(lambda: nats.count(f"KV_{name}") == 20, "the ledger knows all")
        until(lambda: gate.held >= 1, "a delete is under way")
        bridge.kill()
    assert sum(aws.counts(url)) == 20
    with Bridge(tmp_path, [route], nats=nats.url, aws=aws.url) as bridge:
        until(lambda: bridge.count("in", "duplicate") == 20, "every one was recognised")
        until(lambda: aws.counts(url) == (0, 0), "the queue is empty")
    assert sorted(nats.bodies(name)) == sorted(f"m{n}" for n in range(20))
