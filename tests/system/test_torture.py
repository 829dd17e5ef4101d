"""Nothing that is sent stops what else is sent: a small torture of the real process, every way at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.embedded import NatsServer
from tests.conftest import MinistackServer
from tests.system.torture import ROUTES, Torture

pytestmark = [pytest.mark.server, pytest.mark.timeout(180)]


def test_good_messages_pass_hostile_ones_each_once_and_in_order(
    tmp_path: Path, ministack_server: MinistackServer, nats_server: NatsServer
) -> None:
    torture = Torture(tmp_path, ministack_server, nats_server, seed=1)
    result = torture.run(good=500, hostile=50)
    for route in ROUTES:
        assert result.counts[route]["carried"] >= 500, route
    assert len(result.waits) == len(torture.beside) > 0
