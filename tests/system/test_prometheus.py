"""A real Prometheus scrapes the real daemon: the series, the rules, the alerts and every query of the dashboard."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from math import isnan
from pathlib import Path
from typing import Any

import pytest

from bridge.embedded import MotoServer, NatsServer
from bridge.legs.nats import NatsConnection, NatsOptions
from tests.system.monitoring import DEPLOY, PrometheusServer
from tests.system.process import Bridge, until
from tests.system.world import Aws, Nats

pytestmark = [pytest.mark.server, pytest.mark.timeout(400)]

DASHBOARD = json.loads((DEPLOY / "grafana" / "nats-sqs-bridge.json").read_text())


def acknowledge(url: str, stream: str, consumer: str, count: int) -> None:
    """What a consumer does."""

    async def scene() -> None:
        async with NatsConnection(NatsOptions((url,))) as nats:
            client = await nats.live()
            subscription = await client.jetstream().pull_subscribe_bind(consumer, stream)
            taken = 0
            while taken < count:
                for message in await subscription.fetch(count - taken, timeout=20):
                    await message.ack_sync()
                    taken += 1

    asyncio.run(scene())


def queries() -> Iterator[tuple[str, str]]:
    """(title, expression) of every target of every panel, and of the annotation, as Grafana sends them."""
    found = [(panel["title"], each["expr"]) for panel in DASHBOARD["panels"] for each in panel.get("targets", [])]
    found += [(each["name"], each["expr"]) for each in DASHBOARD["annotations"]["list"]]
    for title, expression in found:
        sent = expression.replace("$__rate_interval", "1m").replace("$route", ".*")
        assert "$" not in sent, sent
        yield title, sent


# These have data only where something is configured, or has happened.
OPTIONAL = ("Heartbeats: transit time of the last one", "Heartbeats: time since the last one arrived", "Alerts")


def test_prometheus_sees_the_whole_story(tmp_path: Path, moto_server: MotoServer, name: str) -> None:
    aws = Aws(moto_server.url)
    dead = aws.queue(f"{name}-dead")
    arn = f"arn:aws:sqs:eu-west-1:123456789012:{name}-dead"
    source = aws.queue(name, RedrivePolicy=json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "5"}))
    aws.queue(f"{name}-legacy")
    routes: list[dict[str, Any]] = [
        {
            "name": "in",
            "source": {"kind": "sqs", "queue": name, "wait_seconds": 2},
            "destination": {"kind": "jetstream", "subject": f"{name}.in"},
        },
        {
            "name": "back",
            "source": {"kind": "jetstream", "stream": f"{name}B", "consumer": "bridge"},
            "destination": {"kind": "sqs", "queue": f"{name}-legacy"},
        },
    ]
    with NatsServer(tmp_path / "nats") as server:
        nats = Nats(server.url)
        nats.stream(name, f"{name}.>")
        nats.stream(f"{name}B", f"{name}B.>")
        nats.consumer(name, "fresh")
        nats.consumer(f"{name}B", "bridge")
        with (
            Bridge(tmp_path, routes, nats=server.url, aws=aws.url, sampling={"every": 1}) as bridge,
            PrometheusServer(tmp_path / "prometheus", f"127.0.0.1:{bridge.port}") as prometheus,
        ):
            until(lambda: prometheus.value('nats_sqs_bridge_route_up{route="in"}') == 1, "the first scrape")
            aws.send(source, [f"m{number}" for number in range(30)])
            nats.publish(f"{name}B.x", [f"b{number}" for number in range(5)])
            aws.send(dead, ["poison"])

            # The series, with their labels; unknown is NaN.
            carried = 'nats_sqs_bridge_messages_total{job="nats-sqs-bridge", route="in", outcome="carried"}'
            until(lambda: prometheus.value(carried) == 30, "all are carried")
            lag = "nats_sqs_bridge_lag_messages"
            until(lambda: prometheus.value(f'{lag}{{route="in", side="new", name="{name}/fresh"}}') == 30, "new lag")
            until(lambda: prometheus.value(f'{lag}{{route="back", side="legacy", system="sqs"}}') == 5, "legacy lag")
            until(lambda: prometheus.value(f'{lag}{{side="dead_letter", name="{name}-dead"}}') == 1, "dead letters")
            until(lambda: prometheus.value(f'{lag}{{route="back", side="bridge", system="jetstream"}}') == 0, "empty")

            # The rules record.
            p99 = 'route:nats_sqs_bridge_transit_seconds:p99_5m{route="in"}'
            until(lambda: (prometheus.value(p99) or 0) > 0, "the 99th percentile")
            until(lambda: (prometheus.value(f"route_outcome:{carried.replace('_total', ':rate1m')}") or 0) > 0, "rate")
            for rule in (
                'route_side:nats_sqs_bridge_lag_messages:sum{route="in", side="new"} == 30',
                'route_side:nats_sqs_bridge_lag_seconds:max{route="in", side="new"} > 0',
                'route:nats_sqs_bridge_publish_seconds:p99_5m{route="in"} > 0',
            ):
                until(lambda rule=rule: prometheus.query(rule), rule)  # type: ignore[misc]

            # Every query of the dashboard is one that Prometheus takes, and brings what the panel is there for.
            for title, expression in queries():
                found = prometheus.query(expression)
                assert found or title in OPTIONAL, f"{title}: {expression}"
                if "quantile" in expression:
                    assert not all(isnan(value) for _, value in found), f"{title}: {expression}"

            # The new consumer stands still, and that is nobody else's fault.
            until(lambda: "NatsSqsBridgeNewConsumerStalled" in prometheus.firing(), "the new consumer is stalled")
            alert = prometheus.firing()["NatsSqsBridgeNewConsumerStalled"]
            assert alert["labels"]["name"] == f"{name}/fresh"
            assert "NatsSqsBridgeStalled" not in prometheus.firing()
            acknowledge(server.url, name, "fresh", 30)
            until(lambda: "NatsSqsBridgeNewConsumerStalled" not in prometheus.firing(), "it goes on")

            # The nats-server is gone, and is back.
            server.kill()
            until(lambda: "NatsSqsBridgeStalled" in prometheus.firing(), "the route is stalled")
            assert prometheus.firing()["NatsSqsBridgeStalled"]["labels"]["severity"] == "critical"
            assert prometheus.value('nats_sqs_bridge_route_up{route="in"}') == 0
            unknown = prometheus.value(f'{lag}{{route="back", side="bridge"}}')
            assert unknown is not None
            assert isnan(unknown)
            server.start()
            until(lambda: "NatsSqsBridgeStalled" not in prometheus.firing(), "it carries again")

            # The bridge itself is gone.
            bridge.kill()
            until(lambda: "NatsSqsBridgeDown" in prometheus.firing(), "the bridge is down")
            groups = prometheus.api("rules")["groups"]
            broken = [rule for group in groups for rule in group["rules"] if rule["health"] != "ok"]
            assert broken == []
