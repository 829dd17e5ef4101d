"""Pause, resume and drain on the real process under traffic: nothing is lost, and nothing is claimed too early."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bridge.embedded import NatsServer
from tests.conftest import MinistackServer
from tests.system.process import Bridge, until
from tests.system.world import Aws, Nats

pytestmark = pytest.mark.server

TOKEN = "a-token-nobody-guesses-4711"


@pytest.fixture
def start(tmp_path: Path, aws: Aws, nats: Nats) -> Callable[..., Bridge]:
    """A bridge whose door opens with TOKEN."""
    (tmp_path / "token").write_text(f"{TOKEN}\n")

    def made(routes: list[dict[str, Any]], **more: Any) -> Bridge:
        given = {"nats": nats.url, "aws": aws.url, **more}
        bridge = Bridge(tmp_path, routes, **given)
        bridge.rewrite(http={"port": bridge.port, "token_file": str(tmp_path / "token")})
        return bridge

    return made


def inward(name: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "source": {"kind": "sqs", "queue": name, "wait_seconds": 2},
        "destination": {"kind": "jetstream", "subject": f"{name}.in"},
        "drain_seconds": 3,
        **more,
    }


def ask(bridge: Bridge, route: str, action: str) -> tuple[int, dict[str, Any]]:
    return bridge.post(f"/routes/{route}/{action}", TOKEN, '{"by": "alice"}')


def drain_message(bridge: Bridge, route: str) -> str:
    return str((bridge.status(route).get("drain") or {}).get("message", ""))


def test_without_a_token_file_every_action_is_refused(tmp_path: Path, aws: Aws, nats: Nats, name: str) -> None:
    aws.queue(name)
    nats.stream(name, f"{name}.>")
    with Bridge(tmp_path, [inward(name)], nats=nats.url, aws=aws.url) as bridge:
        until(lambda: bridge.state(name) == "running", "running")
        for path in (*(f"/routes/{name}/{action}" for action in ("pause", "resume", "drain")), "/reload"):
            for token in ("", TOKEN):
                status, answer = bridge.post(path, token)
                assert status == 403
                assert "http.token_file" in answer["message"]
            assert bridge.get(path)[0] == 405
        assert bridge.state(name) == "running"


def test_only_the_token_in_the_header_opens(start: Callable[..., Bridge], aws: Aws, nats: Nats, name: str) -> None:
    aws.queue(name)
    nats.stream(name, f"{name}.>")
    with start([inward(name)]) as bridge:
        until(lambda: bridge.state(name) == "running", "running")
        path = f"/routes/{name}/pause"
        for url, header in (
            (path, {}),
            (f"{path}?token={TOKEN}&access_token={TOKEN}", {}),
            (path, {"Authorization": f"Bearer {TOKEN}x"}),
            (path, {"Authorization": f"Basic {TOKEN}"}),
            (path, {"Authorization": TOKEN}),
            (path, {"Cookie": f"token={TOKEN}"}),
        ):
            status, answer = bridge.post(url, "", f'{{"token": "{TOKEN}"}}', **header)
            assert status == 401, (url, header)
            assert "token" in answer["message"]
        for verb in ("pause", "resume", "drain"):
            assert bridge.get(f"/routes/{name}/{verb}")[0] == 405
        assert bridge.state(name) == "running"
        status, answer = bridge.post(f"/routes/{name}x/pause", TOKEN)
        assert (status, answer["message"]) == (404, f"there is no route {name}x; did you mean {name}?")
        assert bridge.post(path, TOKEN, "[1]")[0] == 400
        assert bridge.state(name) == "running"
        assert ask(bridge, name, "resume") == (
            200,
            {"route": name, "state": "running", "message": "it is running already"},
        )
        assert ask(bridge, name, "pause")[0] == 200
        status, answer = ask(bridge, name, "drain")
        assert status == 409
        assert "resume it first" in answer["message"]
        shown = [bridge.log.read_text(), bridge.get("/status")[1], bridge.get("/metrics")[1]]
        assert not any(TOKEN in text for text in shown)
        (denied, *_) = bridge.events("control_denied")
        assert denied["by"] == "127.0.0.1"


def test_a_door_open_to_the_network_is_warned_of(
    tmp_path: Path, start: Callable[..., Bridge], aws: Aws, nats: Nats, name: str
) -> None:
    aws.queue(name)
    nats.stream(name, f"{name}.>")
    with start([inward(name)]) as bridge:
        until(lambda: bridge.state(name) == "running", "running")
        assert bridge.events("control_exposed") == []
    bridge.rewrite(http={"host": "0.0.0.0", "port": bridge.port, "token_file": str(tmp_path / "token")})
    with bridge:
        until(lambda: bridge.events("control_exposed"), "it says so")
        assert "TLS" in bridge.events("control_exposed")[0]["meaning"]
        until(lambda: bridge.state(name) == "running", "and runs all the same")


def test_a_pause_under_load_loses_nothing_and_receives_nothing(
    start: Callable[..., Bridge], aws: Aws, nats: Nats, name: str
) -> None:
    url = aws.queue(name)
    nats.stream(name, f"{name}.>")
    bodies = [f"m{n}" for n in range(500)]
    aws.send(url, bodies[:400])
    with start([inward(name)]) as bridge:
        until(lambda: bridge.count(name, "carried") > 20, "some carried")
        status, answer = ask(bridge, name, "pause")
        assert status == 200
        assert answer["state"] in ("pausing", "paused")
        until(lambda: bridge.state(name) == "paused", "paused")
        carried = nats.count(name)
        assert aws.counts(url) == (400 - carried, 0)  # nothing is left to its lease
        assert bridge.status(name)["in_flight_messages"] == 0
        aws.send(url, bodies[400:])
        # The route still looks at its source: it sees what came after the pause, and takes none of it.
        until(lambda: bridge.status(name)["source_pending_messages"] == 500 - carried, "the backlog is seen")
        assert nats.count(name) == carried
        assert bridge.get("/readyz") == (200, "ok\n")
        assert f'nats_sqs_bridge_route_up{{route="{name}"}} 0.0' in bridge.get("/metrics")[1]
        assert bridge.events("asked")[0]["by"] == "alice (127.0.0.1)"
        assert ask(bridge, name, "pause")[1]["message"] == "it is paused already"
        assert ask(bridge, name, "resume")[0] == 200
        until(lambda: nats.count(name) == 500, "all carried")
        until(lambda: aws.counts(url) == (0, 0), "the queue is empty")
        assert f'nats_sqs_bridge_route_up{{route="{name}"}} 1.0' in bridge.get("/metrics")[1]
        bridge.terminate()
        assert bridge.exit_code() == 0
    assert sorted(nats.bodies(name)) == sorted(bodies)


def test_a_pause_while_the_destination_is_down_gives_back_what_is_held(
    tmp_path: Path, start: Callable[..., Bridge], aws: Aws, name: str
) -> None:
    url = aws.queue(name, VisibilityTimeout="600")
    aws.send(url, [f"m{n}" for n in range(5)])
    with NatsServer(tmp_path / "nats") as server:
        nats = Nats(server.url)
        nats.stream(name, f"{name}.>", max_msgs=1, discard="new")
        with start([inward(name)], nats=server.url, shutdown_timeout=4) as bridge:
            until(lambda: bridge.status(name).get("in_flight_messages") == 4, "four are held: the stream is full")
            assert ask(bridge, name, "pause")[1]["message"].endswith("(4 in flight)")
            until(lambda: bridge.state(name) == "paused", "paused")
            assert aws.counts(url) == (4, 0)
            bridge.terminate()
            assert bridge.exit_code() == 0


def test_any_sequence_of_actions_carries_everything_once(
    start: Callable[..., Bridge], aws: Aws, nats: Nats, name: str
) -> None:
    url = aws.queue(name)
    nats.stream(name, f"{name}.>")
    bodies = [f"m{n}" for n in range(600)]
    chance = random.Random(5)
    with start([inward(name)]) as bridge:
        until(lambda: bridge.state(name) == "running", "running")
        for start_at in range(0, 600, 50):
            aws.send(url, bodies[start_at : start_at + 50])
            for _ in range(chance.randrange(4)):
                assert ask(bridge, name, chance.choice(["pause", "resume", "drain"]))[0] in (200, 409)
        assert ask(bridge, name, "resume")[0] == 200
        until(lambda: nats.count(name) == 600, "all carried")
        until(lambda: aws.counts(url) == (0, 0), "the queue is empty")
        bridge.terminate()
        assert bridge.exit_code() == 0
    assert sorted(nats.bodies(name)) == sorted(bodies)


def test_a_drain_empties_the_source_and_then_stops(
    start: Callable[..., Bridge], aws: Aws, nats: Nats, name: str
) -> None:
    url = aws.queue(name)
    nats.stream(name, f"{name}.>")
    aws.send(url, [f"m{n}" for n in range(100)])
    with start([inward(name)]) as bridge:
        until(lambda: bridge.state(name) == "running", "running")
        began = time.monotonic()
        assert ask(bridge, name, "drain")[1]["state"] == "draining"
        until(lambda: bridge.state(name) == "drained", "drained")
        assert time.monotonic() - began >= 3
        assert nats.count(name) == 100
        assert aws.counts(url) == (0, 0)
        drain = bridge.status(name)["drain"]
        assert drain["reads"] >= 5
        assert drain["needed_seconds"] == 3
        assert drain["since"] <= drain["empty_since"]
        assert drain["message"].startswith("empty for ")
        assert bridge.get("/readyz") == (200, "ok\n")
        assert ask(bridge, name, "drain")[1]["message"] == "it is drained already"
        assert ask(bridge, name, "pause")[0] == 409
        aws.send(url, ["late"])
        until(lambda: bridge.events("not_empty_any_more"), "it says that something came after all")
        assert nats.count(name) == 100
        assert ask(bridge, name, "resume")[0] == 200
        until(lambda: nats.count(name) == 101, "carried after all")
        assert bridge.status(name)["drain"] is None


def test_a_drain_is_not_done_while_the_producer_sends(
    start: Callable[..., Bridge], aws: Aws, nats: Nats, name: str
) -> None:
    url = aws.queue(name)
    nats.stream(name, f"{name}.>")
    with start([inward(name)]) as bridge:
        until(lambda: bridge.state(name) == "running", "running")
        ask(bridge, name, "drain")
        began, sent, told = time.monotonic(), 0, set()
        while time.monotonic() - began < 8:  # more than twice what it takes when nobody sends
            aws.send(url, [f"m{sent}"])
            sent += 1
            until(partial(holds, nats, name, sent), "carried at once")
            told.add(drain_message(bridge, name).split(":")[0].split(";")[0])
            assert bridge.state(name) == "draining"
        assert told & {"not empty", "a message arrived in between"}
        until(lambda: bridge.state(name) == "drained", "drained once it stops")
        assert nats.count(name) == sent


def holds(nats: Nats, stream: str, count: int) -> bool:
    return nats.count(stream) == count


def test_a_drain_of_a_consumer_waits_for_what_another_reader_holds(
    start: Callable[..., Bridge], aws: Aws, nats: Nats, name: str
) -> None:
    url = aws.queue(name)
    nats.stream(name, f"{name}.>")
    nats.consumer(name, "back", ack_wait=20 * 10**9)
    nats.publish(f"{name}.x", [f"m{n}" for n in range(20)])
    nats.take(name, "back", 2)
    route = {
        "name": name,
        "source": {"kind": "jetstream", "stream": name, "consumer": "back"},
        "destination": {"kind": "sqs", "queue": name},
        "drain_seconds": 1,
    }
    with start([route]) as bridge:
        until(lambda: bridge.state(name) == "running", "running")
        ask(bridge, name, "drain")
        until(lambda: "2 in flight are held by another reader" in drain_message(bridge, name), "it says who holds up")
        until(lambda: bridge.state(name) == "drained", "drained once they came back")
        assert sum(aws.counts(url)) == 20
        info = nats.api(f"CONSUMER.INFO.{name}.back")
        assert (info["num_pending"], info["num_ack_pending"]) == (0, 0)


def test_a_blocked_group_holds_up_a_drain_and_is_reported(
    tmp_path: Path, ministack_server: MinistackServer, start: Callable[..., Bridge], nats: Nats, name: str
) -> None:
    aws = Aws(ministack_server.url)
    aws.queue(f"{name}.fifo")
    nats.stream(name, f"{name}.>")
    nats.consumer(name, "back")
    nats.publish(f"{name}.a", ["x" * 1_050_000])
    nats.publish(f"{name}.b", ["fits"])
    route = {
        "name": name,
        "source": {"kind": "jetstream", "stream": name, "consumer": "back"},
        "destination": {"kind": "sqs", "queue": f"{name}.fifo", "group": "{subject.2}"},
        "cannot_carry": "block",
        "drain_seconds": 1,
    }
    with start([route], aws=aws.url, shutdown_timeout=8) as bridge:
        until(lambda: bridge.status(name).get("blocked"), "blocked")
        ask(bridge, name, "drain")
        until(lambda: "1 of them cannot be carried" in drain_message(bridge, name), "it says what is in the way")
        assert bridge.state(name) == "draining"
        bridge.terminate()
        assert bridge.exit_code() == 0


@pytest.mark.parametrize("action", ["pause", "drain"])
def test_a_sigterm_ends_a_route_that_is_paused_or_drains(
    start: Callable[..., Bridge], aws: Aws, nats: Nats, name: str, action: str
) -> None:
    aws.queue(name)
    nats.stream(name, f"{name}.>")
    with start([inward(name, drain_seconds=600)]) as bridge:
        until(lambda: bridge.state(name) == "running", "running")
        ask(bridge, name, action)
        until(lambda: bridge.state(name) in ("paused", "draining"), action)
        bridge.terminate()
        assert bridge.exit_code() == 0
        assert bridge.events()[-1]["event"] == "stopped"


def test_a_route_that_is_not_open_can_be_paused(start: Callable[..., Bridge], aws: Aws, nats: Nats, name: str) -> None:
    nats.stream(name, f"{name}.>")
    with start([inward(name)]) as bridge:
        until(lambda: bridge.state(name) == "down", "down: there is no queue")
        assert ask(bridge, name, "pause")[1]["state"] == "paused"
        assert bridge.get("/readyz") == (200, "ok\n")
        aws.send(aws.queue(name), ["m"])
        until(lambda: bridge.status(name)["source_pending_messages"] == 1, "the queue is seen")
        assert bridge.state(name) == "paused"
        ask(bridge, name, "resume")
        until(lambda: bridge.count(name, "carried") == 1, "carried")
        assert json.loads(bridge.get("/status")[1])["routes"][name]["state"] == "running"
