"""`parked` on both kinds of parking place: list, show, redrive through the route, drop; and messages that ran out of
deliveries."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.system.process import Bridge, until
from tests.system.test_verbs import call
from tests.system.world import Aws, Nats

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]  # a process for each command


def mended(config: Path, **destination: str) -> Path:
    """The same configuration with another destination: what an operator does before a redrive."""
    document = json.loads(config.read_text())
    document["routes"][0]["destination"] |= destination
    path = config.with_name("mended.yaml")
    path.write_text(json.dumps(document))
    return path


def listed(config: Path, *arguments: str) -> list[dict[str, Any]]:
    done = call("parked", "list", "--config", str(config), "--json", *arguments)
    assert done.returncode in (0, 1), done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("kind", ["jetstream", "sqs"])
def test_what_is_parked_can_be_seen_carried_after_all_and_dropped(
    tmp_path: Path, aws: Aws, nats: Nats, name: str, kind: str
) -> None:
    url = aws.queue(name)
    nats.stream(name, f"{name}.>")
    parking: dict[str, str] = {"kind": "jetstream", "subject": f"parked.{name}"}
    if kind == "jetstream":
        nats.stream(f"{name}P", f"parked.{name}")
    else:
        aws.queue(f"{name}-parked")
        parking = {"kind": "sqs", "queue": f"{name}-parked"}
    route = {
        "name": name,
        "source": {"kind": "sqs", "queue": name, "wait_seconds": 1},
        "destination": {"kind": "jetstream", "subject": f"{name}.{{attributes.kind}}"},
        "parking": parking,
    }
    aws.send(url, [f"m{n}" for n in range(12)], currency="EUR")
    with Bridge(tmp_path, [route], nats=nats.url, aws=aws.url) as bridge:
        until(lambda: bridge.count(name, "parked") == 12, "parked")
        until(lambda: aws.counts(url) == (0, 0), "the queue is empty")
        bridge.terminate()
        assert bridge.exit_code() == 0
    found = listed(bridge.config)
    assert len(found) == 12
    assert {each["route"] for each in found} == {name}
    assert "{attributes.kind} has no value" in found[0]["reason"]
    assert listed(bridge.config, "--reason", "NO VALUE", "--limit", "5") == listed(bridge.config)[:5]
    assert listed(bridge.config, "--reason", "something else") == []
    assert listed(bridge.config, "--older", "1h") == []
    assert len(listed(bridge.config, "--newer", "1h")) == 12
    table = call("parked", "list", "--config", str(bridge.config)).stdout
    assert "12 parked" in table
    assert found[0]["id"] in table
    shown = call("parked", "show", found[3]["id"], "--config", str(bridge.config), "--json")
    message = json.loads(shown.stdout)["message"]
    assert message["attributes"] == {"currency": ["String", "EUR"]}
    assert message["message_id"] == found[3]["id"]
    nobody = call("parked", "show", "nobody", "--config", str(bridge.config))
    assert (nobody.returncode, nobody.stdout) == (1, "")
    assert nobody.stderr == "no parked message has the id nobody; see `parked list`\n"

    still = call("parked", "redrive", "--config", str(bridge.config), "--limit", "2")
    assert still.returncode == 1  # nothing was mended, so nothing can be carried
    assert "0 carried, 2 stay parked" in still.stdout
    assert "has no value" in still.stderr
    config = mended(bridge.config, subject=f"{name}.{{attributes.kind|late}}")
    dry = call("parked", "redrive", "--config", str(config), "--dry-run")
    assert (dry.returncode, dry.stdout) == (0, "12 would be carried, 0 stay parked.\n")
    assert nats.count(name) == 0
    some = call("parked", "redrive", "--config", str(config), "--id", found[3]["id"], "--rate", "50")
    assert (some.returncode, some.stdout) == (0, "1 carried, 0 stay parked.\n")
    kept = nats.api(f"STREAM.MSG.GET.{name}", {"last_by_subj": f"{name}.late"})["message"]
    assert f"sqs:{found[3]['id']}".encode() in base64.b64decode(kept["hdrs"])

    unsure = call("parked", "drop", "--config", str(config))
    assert unsure.returncode == 1  # nobody said yes
    assert len(listed(config)) == 11
    gone = call("parked", "drop", "--config", str(config), "--limit", "1", "--yes")
    assert gone.stdout == "1 dropped, 0 stay parked.\n"
    rest = call("parked", "redrive", "--config", str(config))
    assert (rest.returncode, rest.stdout) == (0, "10 carried, 0 stay parked.\n")
    assert listed(config) == []
    assert nats.count(name) == 11
    assert set(nats.bodies(name)) <= {f"m{n}" for n in range(12)}


@pytest.mark.parametrize("kind", ["jetstream", "sqs"])
def test_routes_share_a_parking_place_and_what_no_route_knows_is_reported(
    tmp_path: Path, aws: Aws, nats: Nats, name: str, kind: str
) -> None:
    nats.stream(name, f"{name}.>")
    parking = {"kind": "jetstream", "subject": f"{name}.parked"}
    if kind == "sqs":
        aws.queue(f"{name}-parked")
        parking = {"kind": "sqs", "queue": f"{name}-parked"}
    routes: list[dict[str, Any]] = []
    for route in ("one", "two", "old"):
        aws.send(aws.queue(f"{name}-{route}"), [f"{route}{n}" for n in range(3)])
        routes.append(
            {
                "name": route,
                "source": {"kind": "sqs", "queue": f"{name}-{route}", "wait_seconds": 1},
                "destination": {"kind": "jetstream", "subject": f"{name}.x.{{attributes.kind}}"},
                "parking": parking,
            }
        )
    with Bridge(tmp_path, routes, nats=nats.url, aws=aws.url) as bridge:
        until(lambda: all(bridge.count(each["name"], "parked") == 3 for each in routes), "parked")
        bridge.terminate()
        bridge.exit_code()
    document = json.loads(bridge.config.read_text())
    bridge.config.write_text(json.dumps({**document, "routes": document["routes"][:2]}))
    assert sorted(each["route"] for each in listed(bridge.config)) == ["one"] * 3 + ["two"] * 3
    done = call("parked", "drop", "--route", "two", "--config", str(bridge.config), "--yes")
    assert done.stdout == "3 dropped, 0 stay parked.\n"
    assert "3 more were parked by route old, which this configuration does not have" in done.stderr
    assert [each["route"] for each in listed(bridge.config)] == ["one"] * 3


def test_what_others_wrote_into_a_parking_place_stops_nothing_and_injects_nothing(
    tmp_path: Path, aws: Aws, nats: Nats, name: str
) -> None:
    """Forged ones of every kind before, between and behind good ones; all that is good is carried by one redrive."""
    nats.stream(name, f"{name}.>")
    nats.stream(f"{name}P", f"parked.{name}")
    aws.queue(name)
    route = {
        "name": name,
        "source": {"kind": "sqs", "queue": name, "wait_seconds": 1},
        "destination": {"kind": "jetstream", "subject": f"{name}.x"},
        "parking": {"kind": "jetstream", "subject": f"parked.{name}"},
    }
    arn = f"arn:aws:sqs:us-east-1:123456789012:{name}"
    sound = {"kind": "sqs", "message_id": "m", "queue_arn": arn, "system": {}, "attributes": {}}
    forged: list[dict[str, Any] | str] = [
        "[" * 20_000,
        '{"kind":"sqs","system":{"SentTimestamp":Infinity}}',
        {**sound, "message_id": 7},
        {**sound, "message_id": "f1\r\nNats-Rollup: all", "system": {"AWSTraceHeader": "x\r\nNats-TTL: 1s"}},
        {**sound, "message_id": "f2", "attributes": {"nats.message": ["String", '{"subject":1}']}},
        {"kind": "jetstream", "subject": "s", "stream": "S", "seq": 1, "timestamp": 1e300, "headers": []},
        {"kind": "jetstream", "subject": "s", "stream": "S", "seq": 1, "timestamp": 1, "headers": [["a", "b"]]},
    ]
    for number, meta in enumerate([*forged, {**sound, "message_id": "last"}]):
        good = {**sound, "message_id": f"good-{number}"}
        for each in (meta, good):
            text = each if isinstance(each, str) else json.dumps(each)
            headers = {"Id": f"id-{number}", "Route": name, "Reason": "r", "Attempt": "1", "Meta": text}
            nats.publish(f"parked.{name}", ["body"], {f"Bridge-Parked-{key}": value for key, value in headers.items()})
    bridge = Bridge(tmp_path, [route], nats=nats.url, aws=aws.url)
    done = call("parked", "redrive", "--config", str(bridge.config))
    assert "Traceback" not in done.stderr
    assert done.returncode == 1
    assert "11 carried, 1 stay parked" in done.stdout  # two of the forged ones are messages, and harmless
    assert "4 more are in the parking place and cannot be read" in done.stderr
    assert nats.count(name) == 11
    for sequence in range(1, 12):
        kept = nats.api(f"STREAM.MSG.GET.{name}", {"seq": sequence})["message"]
        assert re.findall(rb"\n(Nats-[^:]*)", base64.b64decode(kept["hdrs"])) == [b"Nats-Msg-Id"]


def test_a_parking_place_that_is_gone_is_a_sentence(tmp_path: Path, aws: Aws, nats: Nats, name: str) -> None:
    aws.queue(f"{name}-parked")
    source = {"kind": "sqs", "queue": name}
    destination = {"kind": "jetstream", "subject": f"{name}.x"}
    routes = [
        {"name": "one", "source": source, "destination": destination}
        | {"parking": {"kind": "sqs", "queue": f"{name}-parked"}},
        {"name": "two", "source": {**source, "queue": f"{name}-two"}, "destination": destination}
        | {"parking": {"kind": "jetstream", "subject": f"nobody.{name}"}},
    ]
    bridge = Bridge(tmp_path, routes, nats=nats.url, aws=aws.url)
    done = call("parked", "list", "--config", str(bridge.config))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert f"no stream captures nobody.{name}" in done.stderr


def test_a_jetstream_message_that_ran_out_of_deliveries_is_parked(
    tmp_path: Path, aws: Aws, nats: Nats, name: str
) -> None:
    aws.queue(f"{name}-legacy")
    nats.stream(name, f"{name}.>", retention="workqueue")
    nats.stream(f"{name}P", f"parked.{name}")
    nats.consumer(name, "back", max_deliver=2, ack_wait=10**9)
    nats.publish(f"{name}.x", ["a", "b"])
    for _ in range(2):  # a consumer that dies with both, twice
        nats.take(name, "back", 2)
    route = {
        "name": "back",
        "source": {"kind": "jetstream", "stream": name, "consumer": "back"},
        "destination": {"kind": "sqs", "queue": f"{name}-legacy"},
        "parking": {"kind": "jetstream", "subject": f"parked.{name}"},
    }
    with Bridge(tmp_path, [route], nats=nats.url, aws=aws.url) as bridge:
        until(lambda: bridge.count("back", "parked") == 2, "those given up before the start")
        until(lambda: nats.count(name) == 0, "the work queue has forgotten them")
        nats.publish(f"{name}.x", ["c"])
        until(lambda: bridge.count("back", "carried") == 1, "the route goes on")
    done = call("parked", "redrive", "--config", str(bridge.config))
    assert done.stdout == "2 carried, 0 stay parked.\n", done.stderr
    found = aws.drain(aws.do(lambda w: w.sqs.get_queue_url(QueueName=f"{name}-legacy"))["QueueUrl"], 3)
    assert sorted(each["Body"] for each in found) == ["a", "b", "c"]


def test_a_filter_without_a_parking_place_is_a_mistake(tmp_path: Path, name: str) -> None:
    route = {
        "name": name,
        "source": {"kind": "sqs", "queue": name},
        "destination": {"kind": "jetstream", "subject": "x"},
    }
    bridge = Bridge(tmp_path, [route], nats="nats://127.0.0.1:1", aws="http://127.0.0.1:1")
    done = call("parked", "list", "--config", str(bridge.config))
    assert done.returncode == 2
    assert "none of these routes has a parking place" in done.stderr
    assert call("parked", "list", "--config", str(bridge.config), "--older", "soon").returncode == 2
    assert "there is no route x" in call("parked", "list", "--config", str(bridge.config), "-r", "x").stderr
