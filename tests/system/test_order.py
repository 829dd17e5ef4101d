"""Order, completeness and uniqueness of FIFO groups across replicas, failures and kills, in both directions."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.embedded import NatsServer
from tests.conftest import MinistackServer
from tests.system.ordered import into_jetstream, out_of_jetstream
from tests.system.process import Bridge, until
from tests.system.world import Aws, Nats

pytestmark = [pytest.mark.server, pytest.mark.timeout(180)]


def test_groups_of_a_fifo_queue_stay_in_order(
    tmp_path: Path, ministack_server: MinistackServer, nats_server: NatsServer
) -> None:
    into_jetstream(tmp_path, ministack_server, nats_server, messages=600, groups=20, kills=1)


def test_groups_of_a_stream_stay_in_order(
    tmp_path: Path, ministack_server: MinistackServer, nats_server: NatsServer
) -> None:
    out_of_jetstream(tmp_path, ministack_server, nats_server, messages=600, groups=20, kills=1)


def test_a_second_reader_of_an_ordered_consumer_is_refused_with_an_explanation(
    tmp_path: Path, ministack_server: MinistackServer, nats_server: NatsServer, name: str
) -> None:
    aws, nats = Aws(ministack_server.url), Nats(nats_server.url)
    aws.queue(f"{name}.fifo")
    nats.stream(name, f"{name}.>")
    nats.consumer(name, "plain")
    route = {
        "name": "out",
        "source": {"kind": "jetstream", "stream": name, "consumer": "plain"},
        "destination": {"kind": "sqs", "queue": f"{name}.fifo"},
    }
    (one := tmp_path / "one").mkdir()
    (two := tmp_path / "two").mkdir()
    with Bridge(one, [route], nats=nats.url, aws=aws.url) as first:
        until(lambda: first.state("out") == "running", "the first runs")
        until(lambda: nats.api(f"CONSUMER.INFO.{name}.plain")["num_waiting"] == 1, "it pulls")
        with Bridge(two, [route], nats=nats.url, aws=aws.url) as second:
            until(lambda: second.state("out") == "down", "the second is refused")
            assert "--pinned-groups" in second.status("out")["trouble"][0]
        assert first.state("out") == "running"
