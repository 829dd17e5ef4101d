"""The real process against real servers: nothing is lost and nothing stored twice, whatever happens to whom."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bridge.embedded import NatsServer
from tests.conftest import MinistackServer
from tests.system.hold import Gate
from tests.system.process import Bridge, until
from tests.system.test_verbs import call
from tests.system.world import Aws, Nats

pytestmark = pytest.mark.server


def inward(name: str, queue: str = "", subject: str = "", **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "source": {"kind": "sqs", "queue": queue or name, "wait_seconds": 2},
        "destination": {"kind": "jetstream", "subject": subject or f"{name}.in"},
        **more,
    }


def test_messages_cross_both_ways_with_what_they_carry(tmp_path: Path, aws: Aws, nats: Nats, name: str) -> None:
    url, legacy = aws.queue(name), aws.queue(f"{name}-legacy")
    nats.stream(name, f"{name}.>")
    nats.consumer(name, "back")
    back = {
        "name": "back",
        "source": {"kind": "jetstream", "stream": name, "consumer": "back"},
        "destination": {"kind": "sqs", "queue": f"{name}-legacy"},
    }
    aws.send(url, [f"body {n}" for n in range(40)], eventType="paid")
    with Bridge(
        tmp_path, [inward("in", name, f"{name}.{{attributes.eventType}}"), back], nats=nats.url, aws=aws.url
    ) as bridge:
        until(lambda: bridge.count("back", "carried") == 40, "all carried")
        assert bridge.count("in", "carried") == 40
        until(lambda: aws.counts(url) == (0, 0), "the source is empty")
        metrics = bridge.get("/metrics")[1]
        assert 'nats_sqs_bridge_messages_total{outcome="carried",route="in"} 40.0' in metrics
        for line in (
            'nats_sqs_bridge_in_flight_messages{route="in"} 0.0',
            'nats_sqs_bridge_route_up{route="back"} 1.0',
            'nats_sqs_bridge_transit_seconds_count{route="in"} 40.0',
            'nats_sqs_bridge_publish_seconds_count{route="back"} 40.0',
            'nats_sqs_bridge_source_pending_messages{route="in"}',
            "nats_sqs_bridge_build_info{",
        ):
            assert line in metrics
        assert bridge.get("/healthz") == (200, "ok\n")
        assert bridge.get("/readyz") == (200, "ok\n")
        bridge.terminate()
        assert bridge.exit_code() == 0
    found = aws.drain(legacy, 40)
    assert sorted(each["Body"] for each in found) == sorted(f"body {n}" for n in range(40))
    assert {each["MessageAttributes"]["eventType"]["StringValue"] for each in found} == {"paid"}
    assert "body 1" not in bridge.log.read_text()
    assert bridge.events()[-1]["event"] == "stopped"


def test_a_sigterm_in_full_flight_loses_nothing(tmp_path: Path, aws: Aws, nats: Nats, name: str) -> None:
    url = aws.queue(name)
    nats.stream(name, f"{name}.>")
    bodies = [f"m{n}" for n in range(300)]
    aws.send(url, bodies)
    with Bridge(tmp_path, [inward(name)], nats=nats.url, aws=aws.url) as bridge:
        until(lambda: bridge.count(name, "carried") > 20, "some carried")
        bridge.terminate()
        assert bridge.exit_code() == 0
    carried = nats.bodies(name)
    assert len(carried) == len(set(carried)) > 20
    visible, in_flight = aws.counts(url)
    assert in_flight == 0  # what was not carried was released, not left to its lease
    assert len(carried) + visible == 300
    with Bridge(tmp_path, [inward(name)], nats=nats.url, aws=aws.url) as bridge:
        until(lambda: nats.count(name) == 300, "the rest carried")
        until(lambda: aws.counts(url) == (0, 0), "the queue is empty")
    assert sorted(nats.bodies(name)) == sorted(bodies)


def test_a_sigkill_between_puback_and_delete_stores_nothing_twice(
    tmp_path: Path, aws: Aws, nats: Nats, name: str
) -> None:
    url = aws.queue(name, VisibilityTimeout="5")
    nats.stream(name, f"{name}.>")
    bodies = [f"m{n}" for n in range(30)]
    aws.send(url, bodies)
    with (
        Gate(aws.url, "DeleteMessageBatch") as gate,
        Bridge(tmp_path, [inward(name)], nats=nats.url, aws=gate.url) as bridge,
    ):
        until(lambda: nats.count(name) == 30, "everything is in the stream")
        until(lambda: gate.held >= 1, "a delete is under way")
        bridge.kill()
    assert sum(aws.counts(url)) == 30  # SQS was told of none of them
    with Bridge(tmp_path, [inward(name)], nats=nats.url, aws=aws.url) as bridge:
        until(lambda: aws.counts(url) == (0, 0), "the queue is empty")
        until(lambda: bridge.count(name, "duplicate") == 30, "every one was recognised")
    assert sorted(nats.bodies(name)) == sorted(bodies)


def test_nats_restarted_under_load_loses_nothing(tmp_path: Path, aws: Aws, name: str) -> None:
    url = aws.queue(name)
    bodies = [f"m{n}" for n in range(400)]
    aws.send(url, bodies)
    with NatsServer(tmp_path / "nats") as server:
        nats = Nats(server.url)
        nats.stream(name, f"{name}.>")
        with Bridge(tmp_path, [inward(name)], nats=server.url, aws=aws.url) as bridge:
            for goal in (50, 200):
                until(partial(more_than, nats, name, goal), "some carried")
                server.kill()
                until(lambda: bridge.get("/readyz")[0] == 503, "it says so")
                server.start()
                until(lambda: bridge.state(name) == "running", "it recovers by itself")
            until(lambda: nats.count(name) == 400, "all carried")
            until(lambda: aws.counts(url) == (0, 0), "the queue is empty")
            bridge.terminate()
            assert bridge.exit_code() == 0
        assert sorted(nats.bodies(name)) == sorted(bodies)


def test_aws_failing_and_throttling_under_load_loses_nothing(tmp_path: Path, aws: Aws, nats: Nats, name: str) -> None:
    url = aws.queue(name)
    nats.stream(name, f"{name}.>")
    bodies = [f"m{n}" for n in range(300)]
    aws.send(url, bodies)
    with Gate(aws.url) as gate, Bridge(tmp_path, [inward(name)], nats=nats.url, aws=gate.url) as bridge:
        for goal, trouble in ((30, (503, "ServiceUnavailable")), (150, (400, "RequestThrottled"))):
            until(partial(more_than, nats, name, goal), "some carried")
            gate.refused, gate.trouble = 0, trouble
            until(lambda: gate.refused >= 3, "calls fail")
            until(lambda: bridge.state(name) == "holding", "it says so")
            gate.trouble = None
            until(lambda: bridge.state(name) == "running", "it recovers by itself")
        repeats = [line for line in bridge.get("/metrics")[1].splitlines() if "aws_call_retries_total{" in line]
        assert len(repeats) == 5
        assert any(float(line.split()[-1]) > 0 for line in repeats), "calls were made again, and counted"
        until(lambda: nats.count(name) == 300, "all carried")
        until(lambda: aws.counts(url) == (0, 0), "the queue is empty")
        bridge.terminate()
        assert bridge.exit_code() == 0
    assert sorted(nats.bodies(name)) == sorted(bodies)


def test_kills_on_the_way_back_lose_nothing_and_send_nothing_twice(
    tmp_path: Path, ministack_server: MinistackServer, nats: Nats, name: str
) -> None:
    """On ministack, whose FIFO queues recognise a deduplication id as AWS does; moto forgets it with the message."""
    aws = Aws(ministack_server.url)
    url = aws.queue(f"{name}.fifo")
    nats.stream(name, f"{name}.>")
    nats.consumer(name, "back", ack_wait=3 * 10**9)
    for group in "abcde":
        nats.publish(f"{name}.{group}", [f"{group}{n:03}" for n in range(400)])
    bodies = nats.bodies(name)
    route = {
        "name": "back",
        "source": {"kind": "jetstream", "stream": name, "consumer": "back", "batch": 30},
        "destination": {"kind": "sqs", "queue": f"{name}.fifo", "group": "{subject.2}"},
    }
    with Bridge(tmp_path, [route], nats=nats.url, aws=aws.url) as bridge:
        for goal in (100, 900):
            until(partial(holds, aws, url, goal), "some carried")
            bridge.kill()
            assert waiting(nats, name, "back") > 0, "it was killed in full flight"
            bridge.start()
        until(lambda: waiting(nats, name, "back") == 0, "all acknowledged")
    found = [each["Body"] for each in aws.drain(url, len(bodies))]
    assert sorted(found) == sorted(bodies)


def test_groups_keep_their_order_on_the_way_to_a_fifo_queue(
    tmp_path: Path, ministack_server: MinistackServer, nats: Nats, name: str
) -> None:
    aws = Aws(ministack_server.url)
    url = aws.queue(f"{name}.fifo")
    nats.stream(name, f"{name}.>")
    nats.consumer(name, "back")
    for n in range(30):
        for group in "abcde":
            nats.publish(f"{name}.{group}", [f"{group}{n:02}"])
    route = {
        "name": "back",
        "source": {"kind": "jetstream", "stream": name, "consumer": "back", "batch": 20},
        "destination": {"kind": "sqs", "queue": f"{name}.fifo", "group": "{subject.2}"},
    }
    with Bridge(tmp_path, [route], nats=nats.url, aws=aws.url):
        until(lambda: waiting(nats, name, "back") == 0, "all acknowledged")
    found = [each["Body"] for each in aws.drain(url, 150)]
    for group in "abcde":
        assert [body for body in found if body[0] == group] == [f"{group}{n:02}" for n in range(30)]


def holds(aws: Aws, url: str, count: int) -> bool:
    return sum(aws.counts(url)) >= count


def waiting(nats: Nats, stream: str, consumer: str) -> int:
    info = nats.api(f"CONSUMER.INFO.{stream}.{consumer}")
    return int(info["num_ack_pending"]) + int(info["num_pending"])


def more_than(nats: Nats, stream: str, count: int) -> bool:
    return nats.count(stream) > count


def test_a_missing_queue_stops_only_its_own_route(tmp_path: Path, aws: Aws, nats: Nats, name: str) -> None:
    there = aws.queue(name)
    nats.stream(name, f"{name}.>")
    aws.send(there, ["a"])
    routes = [inward("there", name, f"{name}.x"), inward("missing", f"{name}-missing", f"{name}.y")]
    with Bridge(tmp_path, routes, nats=nats.url, aws=aws.url) as bridge:
        until(lambda: bridge.count("there", "carried") == 1, "the other route runs")
        until(lambda: bridge.state("missing") == "down", "the route says it is down")
        (trouble,) = bridge.status("missing")["trouble"]
        assert f"aws sqs create-queue --queue-name {name}-missing" in trouble
        assert 'nats_sqs_bridge_route_up{route="missing"} 0.0' in bridge.get("/metrics")[1]
        until(lambda: bridge.get("/readyz")[0] == 503, "not ready")
        assert "create-queue" in bridge.get("/readyz")[1]
        late = aws.queue(f"{name}-missing")
        aws.send(late, ["b"])
        until(lambda: bridge.count("missing", "carried") == 1, "it starts once the queue is there")
        until(lambda: bridge.get("/readyz") == (200, "ok\n"), "ready")


def test_what_cannot_be_carried_is_parked_with_its_reason(tmp_path: Path, aws: Aws, nats: Nats, name: str) -> None:
    url = aws.queue(name)
    nats.stream(name, f"{name}.>")
    nats.stream(f"{name}P", f"parked.{name}")
    aws.send(url, ["without"])
    aws.send(url, ["with"], kind="good")
    parking = {"kind": "jetstream", "subject": f"parked.{name}"}
    route = inward(name, subject=f"{name}.{{attributes.kind}}", parking=parking)
    with Bridge(tmp_path, [route], nats=nats.url, aws=aws.url) as bridge:
        until(lambda: bridge.count(name, "parked") == 1, "parked")
        until(lambda: bridge.count(name, "carried") == 1, "the other one is carried")
        until(lambda: aws.counts(url) == (0, 0), "the queue is empty")
        (failure,) = bridge.status(name)["failures"]
        assert "{attributes.kind} has no value" in failure["error"]
    assert nats.bodies(f"{name}P") == ["without"]
    message = nats.api(f"STREAM.MSG.GET.{name}P", {"seq": 1})["message"]
    assert message["subject"] == f"parked.{name}"


def test_a_second_signal_abandons(tmp_path: Path, aws: Aws, nats: Nats, name: str) -> None:
    aws.queue(name)
    nats.stream(name, f"{name}.>")
    route = inward(name)
    route["source"]["wait_seconds"] = 20
    with Bridge(tmp_path, [route], nats=nats.url, aws=aws.url, shutdown_timeout=60) as bridge:
        until(lambda: bridge.state(name) == "running", "running")
        bridge.terminate()
        until(lambda: bridge.state(name) == "stopping", "stopping")
        bridge.terminate()
        assert bridge.exit_code() == 1
    assert bridge.events()[-1]["event"] == "abandoned"


def test_a_drain_that_cannot_finish_releases_and_ends_in_time(tmp_path: Path, aws: Aws, name: str) -> None:
    url = aws.queue(name)
    aws.send(url, [f"m{n}" for n in range(5)])
    with NatsServer(tmp_path / "nats") as server:
        Nats(server.url).stream(name, f"{name}.>", max_msgs=1, discard="new")
        with Bridge(tmp_path, [inward(name)], nats=server.url, aws=aws.url, shutdown_timeout=6) as bridge:
            until(lambda: bridge.status(name).get("in_flight_messages") == 4, "four are held: the stream is full")
            until(lambda: bridge.state(name) == "holding", "and it says so")
            assert "full" in bridge.status(name)["trouble"][0]
            bridge.terminate()
            assert bridge.exit_code() == 0
    assert aws.counts(url) == (4, 0)


def test_a_port_that_is_taken_is_a_mistake_of_the_configuration(
    tmp_path: Path, aws: Aws, nats: Nats, name: str
) -> None:
    aws.queue(name)
    with Bridge(tmp_path, [inward(name)], nats=nats.url, aws=aws.url) as first:
        until(lambda: first.status(name) is not None and first.state(name) != "None", "listening")
        with Bridge(tmp_path, [inward(name)], nats=nats.url, aws=aws.url, http={"port": first.port}) as second:
            assert second.exit_code() == 2
    assert "cannot listen" in first.log.read_text()


def test_a_bad_configuration_ends_with_two_and_says_why(tmp_path: Path) -> None:
    with Bridge(tmp_path, [], nats="nats://x", aws="http://x") as bridge:
        assert bridge.exit_code() == 2
    assert "routes: it must not be empty" in bridge.log.read_text()


def test_status_is_json_with_everything_an_operator_asks_for(tmp_path: Path, aws: Aws, nats: Nats, name: str) -> None:
    aws.queue(name)
    nats.stream(name, f"{name}.>")
    with Bridge(tmp_path, [inward(name)], nats=nats.url, aws=aws.url) as bridge:
        until(lambda: bridge.status(name).get("verdict") == "OK", "judged")
        document = json.loads(bridge.get("/status")[1])
        shown = bridge.get("/")
        told = call("status", "--config", str(bridge.config))
    assert shown[0] == 200
    assert f"sqs {name}" in document["routes"][name]["source"]
    for text in ("All is well on 1 route", name):
        assert text in shown[1]
        assert text in told.stdout
    assert told.returncode == 0
    assert document["connections"] == {"default": "connected"}
    assert set(document["routes"][name]) >= {
        *("state", "verdict", "reason", "verdict_since", "source", "destination", "trouble", "failures", "messages"),
        *("lag_messages", "lag_seconds", "pace_per_second", "growth_per_second", "empty_in_seconds"),
        *(
            "retention_headroom_seconds",
            "last_carried",
            "in_flight_messages",
            "blocked",
            "drain",
            "places",
            "hint",
            "heartbeat",
        ),
        *("source_pending_messages", "source_in_flight_messages", "source_delayed_messages"),
    }
