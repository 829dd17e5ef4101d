"""Order, completeness and uniqueness of FIFO groups across replicas, failures and kills, in both directions."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.embedded import NatsServer
from tests.conftest import MinistackServer
from tests.system.ordered import into_jetstream, out_of_jetstream

pytestmark = [pytest.mark.server, pytest.mark.timeout(180)]


def test_groups_of_a_fifo_queue_stay_in_order(
    tmp_path: Path, ministack_server: MinistackServer, nats_server: NatsServer
) -> None:
    into_jetstream(tmp_path, ministack_server, nats_server, messages=600, groups=20, kills=1)


def test_groups_of_a_stream_stay_in_order(
    tmp_path: Path, ministack_server: MinistackServer, nats_server: NatsServer
) -> None:
    out_of_jetstream(tmp_path, ministack_server, nats_server, messages=600, groups=20, kills=1)
