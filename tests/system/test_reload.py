"""A reload on the real process under traffic: only what changed starts anew, a bad file changes nothing."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Self

import pytest

from bridge.embedded import NatsServer
from tests.system.hold import Gate
from tests.system.process import Bridge, until
from tests.system.world import Aws, Nats

pytestmark = pytest.mark.server

TOKEN = "a-token-nobody-guesses-4711"


@pytest.fixture
def start(tmp_path: Path, aws: Aws, nats: Nats) -> Callable[..., Bridge]:
    """A bridge whose door opens with TOKEN."""
    (tmp_path / "token").write_text(TOKEN)

    def made(routes: list[dict[str, Any]], **more: Any) -> Bridge:
        given = {"nats": nats.url, "aws": aws.url, **more}
        bridge = Bridge(tmp_path, routes, **given)
        bridge.rewrite(http={"port": bridge.port, "token_file": str(tmp_path / "token")})
        return bridge

    return made


def inward(name: str, queue: str, subject: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "source": {"kind": "sqs", "queue": queue, "wait_seconds": 2},
        "destination": {"kind": "jetstream", "subject": subject},
        **more,
    }


def running(bridge: Bridge, *routes: str) -> bool:
    return all(bridge.state(route) == "running" for route in routes)


def metric(bridge: Bridge, name: str) -> float:
    (line,) = [line for line in bridge.get("/metrics")[1].splitlines() if line.startswith(f"{name} ")]
    return float(line.split()[1])


def holds(nats: Nats, stream: str, count: int) -> bool:
    return nats.count(stream) == count


class Traffic:
    """Sends to some queues until told to stop; knows what it sent."""

    def __init__(self, aws: Aws, urls: dict[str, str]) -> None:
        self.sent: dict[str, list[str]] = {queue: [] for queue in urls}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send, args=(aws, urls))

    def _send(self, aws: Aws, urls: dict[str, str]) -> None:
        while not self._stop.is_set():
            for queue, url in urls.items():
                bodies = [f"{queue} {len(self.sent[queue]) + n}" for n in range(10)]
                aws.send(url, bodies)
                self.sent[queue] += bodies

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def test_only_what_changed_starts_again_and_nothing_is_lost(
    start: Callable[..., Bridge], aws: Aws, nats: Nats, name: str
) -> None:
    """Two queues swap their routes too: neither is read by two routes at any time."""
    queues = ("same", "one", "other", "gone", "new")
    urls = {queue: aws.queue(f"{name}-{queue}") for queue in queues}
    nats.stream(name, f"{name}.>")

    def route(route: str, queue: str, subject: str = "", **more: Any) -> dict[str, Any]:
        return inward(route, f"{name}-{queue}", f"{name}.{subject or route}", **more)

    before = [route(each, each) for each in ("same", "one", "other", "gone")]
    after = [route("same", "same"), route("one", "other"), route("other", "one"), route("new", "new")]
    with start(before) as bridge:
        until(lambda: running(bridge, "same", "one", "other", "gone"), "running")
        with Traffic(aws, urls) as traffic:
            for each in ("same", "one", "other", "gone"):
                until(partial(lambda each: bridge.count(each, "carried") > 20, each), f"{each} carries")
            counted = bridge.count("one", "carried")
            bridge.rewrite(routes=after)
            status, answer = bridge.post("/reload", TOKEN, '{"by": "alice"}')
            assert status == 200
            assert answer == {
                "message": "added new; removed gone; restarted one, other",
                "added": ["new"],
                "removed": ["gone"],
                "restarted": ["one", "other"],
                "untouched": ["same"],
                "after_restart": [],
            }
            until(lambda: bridge.count("new", "carried") > 20, "the new one carries")
        until(lambda: aws.counts(urls["new"]) == (0, 0), "new is empty")
        for queue in ("same", "one", "other"):
            until(partial(lambda queue: aws.counts(urls[queue]) == (0, 0), queue), f"{queue} is empty")
        assert bridge.count("one", "carried") > counted  # its counters go on
        ups = [event["route"] for event in bridge.events("route_up")]
        assert {each: ups.count(each) for each in set(ups)} == {"same": 1, "one": 2, "other": 2, "gone": 1, "new": 1}
        assert [event["route"] for event in bridge.events("route_stopped")].count("same") == 0
        assert "gone" not in json.loads(bridge.get("/status")[1])["routes"]
        assert 'route="gone"' not in bridge.get("/metrics")[1]
        assert 'route="new"' in bridge.get("/metrics")[1]
        assert bridge.events("reloaded")[0]["by"] == "alice (127.0.0.1)"
        bridge.terminate()
        assert bridge.exit_code() == 0
    carried = nats.bodies(name)
    visible, in_flight = aws.counts(urls["gone"])
    assert in_flight == 0  # the removed route gave back what it could not finish
    sent = {body for bodies in traffic.sent.values() for body in bodies}
    assert len(carried) == len(set(carried))
    assert set(carried) <= sent
    assert len(sent) == len(carried) + visible


def test_a_bad_file_changes_nothing_and_says_why(start: Callable[..., Bridge], aws: Aws, nats: Nats, name: str) -> None:
    url = aws.queue(name)
    nats.stream(name, f"{name}.>")
    successful = "nats_sqs_bridge_config_last_reload_successful"
    loaded = "nats_sqs_bridge_config_last_reload_timestamp_seconds"
    with start([inward("in", name, f"{name}.in")]) as bridge:
        until(lambda: running(bridge, "in"), "running")
        good, before = bridge.config.read_text(), metric(bridge, loaded)
        assert metric(bridge, successful) == 1
        bridge.rewrite(routes=[{**inward("in", "no queue", f"{name}.in"), "colour": "red"}])
        status, answer = bridge.post("/reload", TOKEN)
        assert status == 422
        assert "nothing has changed" in answer["message"]
        assert len(answer["complaints"]) == 2
        assert any("routes[0].colour: unknown key" in each for each in answer["complaints"])
        assert metric(bridge, successful) == 0
        refused = json.loads(bridge.get("/status")[1])["reload"]
        assert refused["complaints"] == answer["complaints"]
        assert refused["failed_at"] > before
        bridge.config.write_text("routes: [")
        bridge.hang_up()
        until(lambda: len(bridge.events("reload_failed")) == 2, "it says so")
        assert "not valid YAML" in bridge.events("reload_failed")[1]["complaints"][0]
        bridge.config.unlink()
        assert bridge.post("/reload", TOKEN)[0] == 422
        aws.send(url, ["m"])
        until(lambda: bridge.count("in", "carried") == 1, "it still carries")
        assert metric(bridge, loaded) == before
        bridge.config.write_text(good)
        assert bridge.post("/reload", TOKEN)[1]["message"] == "no route has changed"
        assert metric(bridge, successful) == 1
        assert metric(bridge, loaded) > before
        assert json.loads(bridge.get("/status")[1])["reload"] is None
        assert len(bridge.events("route_up")) == 1


def test_a_sighup_applies_log_level_and_token_at_once_and_says_what_waits(
    tmp_path: Path, start: Callable[..., Bridge], aws: Aws, nats: Nats, name: str
) -> None:
    url = aws.queue(name)
    nats.stream(name, f"{name}.>")
    with start([inward("in", name, f"{name}.in")]) as bridge:
        until(lambda: running(bridge, "in"), "running")
        (tmp_path / "second").write_text("another-token-nobody-guesses")
        bridge.rewrite(http={"port": 1, "token_file": str(tmp_path / "second")}, log={"level": "debug"})
        bridge.hang_up()
        until(lambda: bridge.events("reloaded"), "reloaded")
        assert bridge.events("reloaded")[0]["after_restart"] == ["http.port"]
        aws.send(url, ["m"])
        until(lambda: bridge.events("received"), "debug lines appear")
        assert bridge.post("/reload", TOKEN)[0] == 401
        (tmp_path / "second").write_text("a-third-token-nobody-guesses")
        status, answer = bridge.post("/reload", "another-token-nobody-guesses")
        assert status == 200
        assert answer["message"] == "no route has changed; a restart of the process is needed for http.port"
        assert bridge.post("/reload", "another-token-nobody-guesses")[0] == 401
        bridge.rewrite(http={"port": bridge.port}, log={"level": "warning"})
        assert bridge.post("/reload", "a-third-token-nobody-guesses")[0] == 200
        assert bridge.post("/reload", "a-third-token-nobody-guesses")[0] == 403
        logged = len(bridge.events())
        aws.send(url, ["n"])
        until(lambda: bridge.count("in", "carried") == 2, "carried")
        assert [event["event"] for event in bridge.events()[logged:] if event["level"] in ("debug", "info")] == []
        assert len(bridge.events("route_up")) == 1


def test_a_changed_connection_restarts_the_routes_that_use_it(
    tmp_path: Path, start: Callable[..., Bridge], aws: Aws, nats: Nats, name: str
) -> None:
    urls = [aws.queue(f"{name}-{n}") for n in range(2)]
    nats.stream(name, f"{name}.>")
    with NatsServer(tmp_path / "second") as second:
        other = Nats(second.url)
        other.stream(name, f"{name}.>")
        routes = [inward("here", f"{name}-0", f"{name}.a"), inward("hub", f"{name}-1", f"{name}.b", nats="hub")]
        with start(routes, connections={"hub": {"kind": "nats", "servers": [nats.url]}}) as bridge:
            until(lambda: running(bridge, "here", "hub"), "running")
            bridge.rewrite(connections={"hub": {"kind": "nats", "servers": [second.url]}})
            answer = bridge.post("/reload", TOKEN)[1]
            assert (answer["restarted"], answer["untouched"]) == (["hub"], ["here"])
            aws.send(urls[0], ["a"])
            aws.send(urls[1], ["b"])
            until(lambda: holds(other, name, 1), "carried to the second server")
            until(lambda: holds(nats, name, 1), "carried to the first")
            assert other.bodies(name) == ["b"]
            bridge.rewrite(connections={}, routes=routes[:1])
            assert bridge.post("/reload", TOKEN)[1]["removed"] == ["hub"]
            assert json.loads(bridge.get("/status")[1])["connections"] == {"default": "connected"}


def test_what_someone_stopped_stays_so(start: Callable[..., Bridge], aws: Aws, nats: Nats, name: str) -> None:
    for queue in ("same", "changed", "drained"):
        aws.queue(f"{name}-{queue}")
    nats.stream(name, f"{name}.>")
    names = ("same", "changed", "drained")
    routes = [inward(each, f"{name}-{each}", f"{name}.{each}", drain_seconds=1) for each in names]
    with start(routes) as bridge:
        until(lambda: running(bridge, *names), "running")
        for each in ("same", "changed"):
            assert bridge.post(f"/routes/{each}/pause", TOKEN)[0] == 200
        bridge.post("/routes/drained/drain", TOKEN)
        until(lambda: bridge.state("drained") == "drained", "drained")
        bridge.rewrite(routes=[routes[0], *({**each, "max_in_flight": 100} for each in routes[1:])])
        assert bridge.post("/reload", TOKEN)[1]["restarted"] == ["changed", "drained"]
        for each in names:
            until(partial(lambda each: bridge.state(each) == "paused", each), f"{each} is paused")
        assert bridge.get("/readyz") == (200, "ok\n")
        for each in names:
            assert bridge.post(f"/routes/{each}/resume", TOKEN)[0] == 200
        until(lambda: running(bridge, *names), "all run again")


def test_two_reloads_follow_each_other(start: Callable[..., Bridge], aws: Aws, nats: Nats, name: str) -> None:
    aws.queue(name)
    nats.stream(name, f"{name}.>")
    route = inward("in", name, f"{name}.in")
    with start([route]) as bridge:
        until(lambda: running(bridge, "in"), "running")
        answers: list[int] = []
        for most in (100, 200, 300):
            bridge.rewrite(routes=[{**route, "max_in_flight": most}])
            threads = [
                threading.Thread(target=lambda: answers.append(bridge.post("/reload", TOKEN)[0])) for _ in range(3)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            until(lambda: running(bridge, "in"), "running again")
        assert answers == [200] * 9
        told = [event["event"] for event in bridge.events() if event["event"] in ("reload_began", "reloaded")]
        assert told == ["reload_began", "reloaded"] * 9
        assert len(bridge.events("route_up")) == 4  # the first of three finds the change, the others nothing


def test_a_reload_while_the_daemon_stops_is_refused_and_one_under_way_ends_with_it(
    start: Callable[..., Bridge], aws: Aws, nats: Nats, name: str
) -> None:
    url = aws.queue(name)
    nats.stream(name, f"{name}.>")
    route = inward("in", name, f"{name}.in")
    aws.send(url, ["m"])
    with Gate(aws.url, "DeleteMessageBatch") as gate, start([route], aws=gate.url, shutdown_timeout=20) as bridge:
        until(lambda: gate.held >= 1, "a delete is under way, and keeps the route from stopping")
        bridge.rewrite(routes=[{**route, "max_in_flight": 100}])
        answers: list[tuple[int, dict[str, Any]]] = []
        asked = threading.Thread(target=lambda: answers.append(bridge.post("/reload", TOKEN)))
        asked.start()
        until(lambda: bridge.state("in") == "stopping", "the route is being restarted")
        assert bridge.post("/routes/in/pause", TOKEN)[0] == 409
        bridge.terminate()
        until(lambda: bridge.events("draining"), "the daemon stops")
        status, answer = bridge.post("/reload", TOKEN)
        assert status == 409
        assert "the daemon is stopping" in answer["message"]
        bridge.hang_up()
        until(lambda: len(bridge.events("reload_refused")) >= 2, "and a SIGHUP does not end it")
        gate.let_go()
        asked.join()
        assert answers[0][0] == 409
        assert bridge.exit_code() == 0
    assert len(bridge.events("route_up")) == 1
