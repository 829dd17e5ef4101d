"""Walls on the real legs: every route of a daemon fails at a point of its own, and each carries on, as do the others.

In this process, for the faults are put into the legs themselves; the servers are real.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from bridge.config import Config
from bridge.core.mapping.sqs_to_nats import sqs_to_nats
from bridge.core.models import SqsMessage
from bridge.daemon import Daemon
from bridge.legs import jetstream, sns, sqs, stream
from bridge.observe import Observation
from tests.legs.aws_world import REGION
from tests.system.world import Aws, Nats

pytestmark = [pytest.mark.server, pytest.mark.timeout(180)]
SECRET = "card-4111"
GOOD = 25


class Faulty(RuntimeError):
    """Its text quotes a message."""


def _raises(cls: type, method: str, due: Callable[..., bool], monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls of `method` for which `due` says so raise."""
    real = getattr(cls, method)

    async def wrapped(self: Any, *arguments: Any, **named: Any) -> Any:
        if due(self, *arguments):
            raise Faulty(SECRET)
        return await real(self, *arguments, **named)

    monkeypatch.setattr(cls, method, wrapped)


def _first(times: int, mine: Callable[[Any], bool]) -> Callable[..., bool]:
    """Due for so many calls of instances that are `mine`."""
    left = times

    def due(self: Any, *_: Any) -> bool:
        nonlocal left
        if mine(self) and left:
            left -= 1
            return True
        return False

    return due


def _poison(mine: Callable[[Any], bool], text_of: Callable[[Any], Any]) -> Callable[..., bool]:
    """Due for every batch with a poisonous message in it."""
    return lambda self, outs: mine(self) and any("poison" in str(text_of(out)) for out in outs)


class Running:
    """A daemon on this loop. What it logs goes to `observation`."""

    def __init__(self, routes: list[dict[str, Any]], aws: Aws, nats: Nats) -> None:
        self.config = Config.model_validate(
            {
                "nats": {"servers": [nats.url]},
                "aws": {"region": REGION, "endpoint_url": aws.url},
                "http": {"port": 0},
                "sampling": {"every": 1},
                "shutdown_timeout": 20,
                "routes": routes,
            }
        )
        self.observation = Observation()
        self.daemon = Daemon(self.config, self.observation, lambda: self.config)

    async def until(self, condition: Callable[[], bool], what: Callable[[], object]) -> None:
        task = asyncio.create_task(self.daemon.run())
        try:
            async with asyncio.timeout(90):
                while not condition():
                    assert not task.done(), "the daemon ended"
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(what()) from None
        self.daemon.signalled()
        assert await task == 0

    def counts(self, route: str) -> Counter[str]:
        return self.observation.route(route).counts

    def restarts(self) -> dict[str, int]:
        """Of the routes that started again, how often."""
        text = self.observation.exposition()[0].decode()
        found = re.findall(r'^nats_sqs_bridge_route_restarts_total{route="(\w+)"} (\d+)', text, re.MULTILINE)
        return {route: int(count) for route, count in found if int(count)}


def _finished(running: Running, route: str, *, poison: bool) -> bool:
    counts = running.counts(route)
    return counts["carried"] >= GOOD and (not poison or counts["parked"] >= 1)


def test_each_point_of_a_route_in_fails_alone(
    aws: Aws, nats: Nats, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    points = ["receive", "settle", "tend", "backlog", "publish", "parking", "mapping", "none"]
    nats.stream(name, f"{name}.>")
    urls = {point: aws.queue(f"{name}-{point}", VisibilityTimeout="6") for point in points}
    for point, url in urls.items():
        aws.send(url, [f"good {n}" for n in range(GOOD)] + ["poison"] * (point in ("publish", "parking", "mapping")))
    monkeypatch.setattr("bridge.running.backoff", lambda *_: 0.05)

    def of(point: str) -> Callable[[Any], bool]:
        return lambda leg: leg.queue.name == f"{name}-{point}"

    _raises(sqs.SqsSource, "receive", _first(6, of("receive")), monkeypatch)
    _raises(sqs.SqsSource, "settle", _first(4, of("settle")), monkeypatch)
    _raises(sqs.SqsSource, "tend", _first(6, of("tend")), monkeypatch)
    _raises(sqs.SqsSource, "backlog", _first(10**6, of("backlog")), monkeypatch)
    whole = _poison(lambda leg: leg._pattern == f"{name}.publish", lambda out: out.payload)
    left = _first(2, lambda leg: leg._pattern.startswith(f"{name}.parked"))
    _raises(stream.JetStreamDestination, "publish", lambda self, o: whole(self, o) or left(self), monkeypatch)

    def mapping(*arguments: Any, **named: Any) -> Any:
        inner = sqs_to_nats(*arguments, **named)

        def mapped(message: Any) -> Any:
            assert isinstance(message, SqsMessage)
            if message.body == "poison" and message.queue in (f"{name}-mapping", f"{name}-parking"):
                raise Faulty(SECRET)
            return inner(message)

        return mapped

    monkeypatch.setattr("bridge.routes.sqs_to_nats", mapping)
    running = Running(
        [
            {
                "name": point,
                "source": {"kind": "sqs", "queue": f"{name}-{point}", "wait_seconds": 1, "receivers": 2},
                "destination": {"kind": "jetstream", "subject": f"{name}.{point}", "stream": name},
                "parking": {"kind": "jetstream", "subject": f"{name}.parked.{point}"},
            }
            for point in points
        ],
        aws,
        nats,
    )
    pid = os.getpid()
    poisonous = ("publish", "parking", "mapping")
    asyncio.run(
        running.until(
            lambda: (
                "tend" in running.restarts()
                and all(_finished(running, point, poison=point in poisonous) for point in points)
            ),
            lambda: {point: (dict(running.counts(point)), running.observation.route(point).state) for point in points},
        )
    )
    assert os.getpid() == pid
    assert running.restarts() == {"receive": 1, "tend": 1}
    bodies = Counter(json.dumps(body) for body in nats.bodies(name))
    assert sum(bodies.values()) == len(points) * GOOD + 3  # each good one once, and three parked
    shown = json.dumps(running.observation.snapshot()) + "".join(capsys.readouterr())
    assert SECRET not in shown
    parked = [nats.headers(name, seq) for seq in range(1, sum(bodies.values()) + 1)]
    reasons = [each["Bridge-Parked-Reason"] for each in parked if "Bridge-Parked-Reason" in each]
    assert len(reasons) == 3
    assert all(reason.startswith("unexpected Faulty at ") for reason in reasons)


def test_each_point_of_a_route_back_fails_alone(
    aws: Aws, nats: Nats, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = ["receive", "settle", "tend", "backlog", "publish", "topic", "none"]
    nats.stream(name, f"{name}.>")
    queues = {point: aws.queue(f"{name}-{point}") for point in points}
    topic = aws.do(lambda found: found.topic(f"{name}-topic", feeds=queues["topic"], raw=True))
    for point in points:
        nats.consumer(name, point, filter_subject=f"{name}.{point}", ack_wait=3 * 10**9)
        poison = ["poison"] if point in ("publish", "topic") else []
        nats.publish(f"{name}.{point}", [*(f"good {n}" for n in range(GOOD)), *poison])
    monkeypatch.setattr("bridge.running.backoff", lambda *_: 0.05)
    monkeypatch.setattr("bridge.legs.jetstream.POLL_SECONDS", 0.5)

    def of(point: str) -> Callable[[Any], bool]:
        return lambda leg: leg.consumer.name == point

    _raises(jetstream.JetStreamSource, "receive", _first(6, of("receive")), monkeypatch)
    _raises(jetstream.JetStreamSource, "settle", _first(2, of("settle")), monkeypatch)
    _raises(jetstream.JetStreamSource, "tend", _first(6, of("tend")), monkeypatch)
    _raises(jetstream.JetStreamSource, "backlog", _first(10**6, of("backlog")), monkeypatch)
    to_queue = _poison(lambda leg: leg.queue.name == f"{name}-publish", lambda out: out.body)
    _raises(sqs.SqsDestination, "publish", to_queue, monkeypatch)
    to_topic = _poison(lambda leg: leg.topic.arn == topic, lambda out: out.message)
    _raises(sns.SnsDestination, "publish", to_topic, monkeypatch)
    nats.stream(f"{name}-parked", f"parked-{name}.>")
    running = Running(
        [
            {
                "name": point,
                "source": {"kind": "jetstream", "stream": name, "consumer": point},
                "destination": {"kind": "sns", "topic": topic}
                if point == "topic"
                else {"kind": "sqs", "queue": f"{name}-{point}"},
                "parking": {"kind": "jetstream", "subject": f"parked-{name}.{point}"},
            }
            for point in points
        ],
        aws,
        nats,
    )
    asyncio.run(
        running.until(
            lambda: (
                "tend" in running.restarts()
                and all(_finished(running, point, poison=point in ("publish", "topic")) for point in points)
            ),
            lambda: {point: (dict(running.counts(point)), running.observation.route(point).state) for point in points},
        )
    )
    assert running.restarts() == {"receive": 1, "tend": 1}
    for point in points:
        found = Counter(each["Body"] for each in aws.drain(queues[point], GOOD))
        assert set(found) == {f"good {n}" for n in range(GOOD)}, point
        assert found.total() == GOOD or point == "settle", point  # a standard queue takes a message again
    assert nats.count(f"{name}-parked") == 2
    for sequence in (1, 2):
        assert nats.headers(f"{name}-parked", sequence)["Bridge-Parked-Reason"].startswith("unexpected Faulty at ")
