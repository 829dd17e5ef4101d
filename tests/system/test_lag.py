"""Whatever stops, the daemon tells the true story of both sides, and tells it again when all is well."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.embedded import MotoServer, NatsServer
from tests.system.process import Bridge, until
from tests.system.sides import Sides
from tests.system.world import Aws, Nats

pytestmark = [pytest.mark.server, pytest.mark.timeout(400)]


@pytest.fixture
def nats_alone(tmp_path: Path) -> Iterator[NatsServer]:
    """One that may be killed."""
    with NatsServer(tmp_path / "nats") as server:
        yield server


@pytest.fixture
def moto_alone(tmp_path: Path) -> Iterator[MotoServer]:
    with MotoServer(tmp_path / "moto") as server:
        yield server


def place(bridge: Bridge, side: str) -> dict[str, Any]:
    found = [each for each in bridge.status("in").get("places", []) if each["side"] == side]
    return found[0] if found else {}


def test_every_side_that_stops_is_reported_and_again_when_it_goes_on(
    tmp_path: Path, nats_alone: NatsServer, moto_alone: MotoServer
) -> None:
    aws, nats = Aws(moto_alone.url), Nats(nats_alone.url)

    def queues() -> None:
        for queue in ("bridge", "legacy"):
            aws.queue(queue)

    queues()
    nats.stream("S", "s.>", max_age=3600 * 10**9)
    nats.consumer("S", "new", ack_wait=30 * 10**9)
    route = {
        "name": "in",
        "source": {"kind": "sqs", "queue": "bridge", "wait_seconds": 2},
        "destination": {"kind": "jetstream", "subject": "s.in"},
        "watch": [{"kind": "sqs", "queue": "legacy"}, {"kind": "jetstream", "stream": "S"}],
    }
    sides = Sides(moto_alone.url, nats_alone.url, queue="bridge", legacy="legacy", stream="S", consumer="new")
    with (
        Bridge(tmp_path, [route], nats=nats.url, aws=aws.url, sampling={"every": 2}) as bridge,
        sides,
    ):

        def verdicts() -> dict[str, Any]:
            return {each["side"]: each["verdict"] for each in bridge.status("in").get("places", [])}

        def well() -> bool:
            return verdicts() == {"bridge": "OK", "legacy": "OK", "new": "OK"} and bridge.get("/readyz")[0] == 200

        until(lambda: well() and bridge.count("in", "carried") > 20, "all is well")
        assert place(bridge, "new")["retention_headroom_seconds"] > 3000
        until(lambda: place(bridge, "bridge")["pace_per_second"], "its pace is known")

        sides.new.stop()
        until(lambda: verdicts().get("new") == "STALLED", "the new consumer is told of")
        reason = place(bridge, "new")["reason"]
        assert reason.startswith("pending ")
        assert "nothing acknowledged for" in reason
        assert place(bridge, "new")["lag_seconds"] > 1
        assert (verdicts()["bridge"], verdicts()["legacy"]) == ("OK", "OK")
        assert bridge.get("/readyz")[0] == 200  # the bridge itself is well
        metric = 'nats_sqs_bridge_verdict{name="S/new",route="in",side="new",system="jetstream"} 2.0'
        assert metric in bridge.get("/metrics")[1]
        sides.new.start()
        until(well, "the new consumer has caught up")

        sides.old.stop()
        until(lambda: verdicts().get("legacy") == "STALLED", "the old consumer is told of")
        assert place(bridge, "legacy")["lag_messages"] > 0
        assert place(bridge, "legacy")["lag_is_bound"]
        assert (verdicts()["bridge"], verdicts()["new"]) == ("OK", "OK")
        sides.old.start()
        until(well, "the old consumer has caught up")

        nats_alone.kill()
        until(lambda: verdicts().items() >= {"bridge": "STALLED", "new": "UNKNOWN"}.items(), "NATS is told of")
        assert verdicts()["legacy"] in ("OK", "SLOW")
        assert "NATS" in bridge.status("in")["reason"]
        code, text = bridge.get("/readyz")
        assert code == 503
        assert "NATS" in text
        metric = 'nats_sqs_bridge_lag_messages{name="S/new",route="in",side="new",system="jetstream"} NaN'
        assert metric in bridge.get("/metrics")[1]  # unknown, and not zero
        nats_alone.start()
        until(well, "NATS is back")

        moto_alone.kill()
        until(lambda: verdicts().items() >= {"bridge": "STALLED", "legacy": "UNKNOWN"}.items(), "AWS is told of")
        assert place(bridge, "new")["verdict"] in ("OK", "SLOW"), place(bridge, "new")
        assert "sqs" in bridge.status("in")["reason"]
        assert bridge.get("/readyz")[0] == 503
        moto_alone.start()
        queues()
        until(well, "AWS is back")
        changes = [each for each in bridge.events() if each["event"] == "verdict"]
        assert {each["verdict"] for each in changes} >= {"OK", "STALLED", "UNKNOWN"}
        bridge.terminate()
        assert bridge.exit_code() == 0


def test_without_a_list_what_is_watched_is_found(
    tmp_path: Path, moto_server: MotoServer, nats_server: NatsServer, name: str
) -> None:
    """The source's dead-letter queue and every consumer of the destination stream, but the bridge's own."""
    aws, nats = Aws(moto_server.url), Nats(nats_server.url)
    aws.queue(f"{name}-dead")
    arn = f"arn:aws:sqs:eu-west-1:123456789012:{name}-dead"
    aws.queue(name, RedrivePolicy=f'{{"deadLetterTargetArn": "{arn}", "maxReceiveCount": 3}}')
    aws.queue(f"{name}-back")
    nats.stream(name, f"{name}.>")
    nats.consumer(name, "theirs")
    nats.consumer(name, "ours")
    routes = [
        {
            "name": "in",
            "source": {"kind": "sqs", "queue": name, "wait_seconds": 2},
            "destination": {"kind": "jetstream", "subject": f"{name}.in"},
        },
        {
            "name": "back",
            "source": {"kind": "jetstream", "stream": name, "consumer": "ours"},
            "destination": {"kind": "sqs", "queue": f"{name}-back"},
        },
    ]
    with Bridge(tmp_path, routes, nats=nats.url, aws=aws.url, sampling={"every": 1}) as bridge:

        def seen(route: str) -> list[tuple[str, str, str]]:
            return [(each["side"], each["name"], each["verdict"]) for each in bridge.status(route).get("places", [])]

        until(
            lambda: (
                seen("in")
                == [("bridge", name, "OK"), ("dead_letter", f"{name}-dead", "OK"), ("new", f"{name}/theirs", "OK")]
            ),
            "what the way in watches",
        )
        until(
            lambda: seen("back") == [("bridge", f"{name}/ours", "OK"), ("legacy", f"{name}-back", "OK")],
            "what the way back watches",
        )
        nats.consumer(name, "more")
        until(lambda: ("new", f"{name}/more", "OK") in seen("in"), "a new consumer appears")
        nats.api(f"CONSUMER.DELETE.{name}.theirs")
        until(lambda: all(each[1] != f"{name}/theirs" for each in seen("in")), "one that is gone disappears")
        assert f'name="{name}/theirs"' not in bridge.get("/metrics")[1]
