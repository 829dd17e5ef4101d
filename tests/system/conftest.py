"""Both sides for the tests of the process: moto's AWS and a real nats-server."""

from __future__ import annotations

import pytest

from bridge.embedded import MotoServer, NatsServer
from tests.system.world import Aws, Nats


@pytest.fixture
def aws(moto_server: MotoServer) -> Aws:
    return Aws(moto_server.url)


@pytest.fixture
def nats(nats_server: NatsServer) -> Nats:
    return Nats(nats_server.url)
