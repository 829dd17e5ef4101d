"""One cluster for each module of tests, and an operator's client of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from nats.aio.client import Client

from tests.clusters.cluster import Cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster")) as found:
        yield found


@pytest.fixture
async def client(cluster: Cluster) -> AsyncIterator[Client]:
    """An operator's client, which finds another node by itself."""
    found = Client()
    await found.connect(servers=list(cluster.urls), reconnect_time_wait=0.1, max_reconnect_attempts=-1, error_cb=_quiet)
    yield found
    await found.close()


async def _quiet(_: Exception) -> None:
    """Nodes are killed on purpose."""
