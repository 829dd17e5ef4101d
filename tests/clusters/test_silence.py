"""A node that goes silent, without closing anything, is left while another one answers; closing never waits for it."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest
from nats.aio.client import Client

from bridge.core.errors import BridgeError
from bridge.core.models import JetStreamOut
from bridge.core.route import Receipt
from bridge.embedded import MotoServer, NatsServer
from bridge.legs.nats import NatsConnection, NatsOptions
from bridge.legs.stream import open_destination
from tests.clusters.cluster import Cluster, ask, leader_of, until
from tests.system.process import Bridge
from tests.system.process import until as wait
from tests.system.world import Aws, Nats

LEFT = 18.0  # seconds, as far as a test may say: 15 are promised


async def connected_to(cluster: Cluster, nats: NatsConnection) -> str:
    client = await nats.live()
    (node,) = [name for name, each in cluster.nodes.items() if each.port == client.connected_url.port]
    return node


@pytest.mark.parametrize("busy", [True, False])
async def test_a_silent_node_is_left_for_another(cluster: Cluster, client: Client, name: str, busy: bool) -> None:
    """Busy: so much is unsent that the socket takes no more, on which nats-py waits for ever."""
    await ask(client, f"STREAM.CREATE.{name}", {"name": name, "subjects": [f"{name}.>"], "num_replicas": 3})
    notices: list[str] = []
    connection = NatsConnection(NatsOptions(cluster.urls), notice=lambda event, detail: notices.append(event + detail))
    destination = await open_destination(connection, pattern=f"{name}.*", stream=None)
    node = await connected_to(cluster, connection)
    while await leader_of(client, name) == node:  # the leader is another test's question
        await client.request(f"$JS.API.STREAM.LEADER.STEPDOWN.{name}", b"", timeout=5)
    cluster.freeze(node)
    try:
        began = time.monotonic()
        flood = asyncio.create_task(_flood(connection, name)) if busy else None
        out = JetStreamOut(f"{name}.x", b"x", "1")
        while True:
            try:
                (answer,) = await destination.publish([out])
            except BridgeError as error:
                answer = error
            if isinstance(answer, Receipt):
                break
            assert time.monotonic() - began < LEFT, answer
            await asyncio.sleep(0.1)
        assert await connected_to(cluster, connection) != node
        assert any("went silent" in each or "sent nothing for" in each for each in notices)
        if flood is not None:
            flood.cancel()
        began = time.monotonic()
        await connection.close()
        assert time.monotonic() - began < 5
    finally:
        cluster.wake(node)
        await connection.close()


async def _flood(nats: NatsConnection, name: str) -> None:
    client = await nats.live()
    for _ in range(200):
        await client.send([(f"{name}.flood", "", b"", b"x" * 500_000)])


async def test_closing_does_not_wait_for_a_silent_node(cluster: Cluster, name: str) -> None:
    connection = NatsConnection(NatsOptions(cluster.urls))
    node = await connected_to(cluster, connection)
    cluster.freeze(node)
    try:
        flood = asyncio.create_task(_flood(connection, name))
        client = await connection.live()
        await until(lambda: client._transport._io_writer.transport.get_write_buffer_size() > 0)
        began = time.monotonic()
        await connection.close()
        assert time.monotonic() - began < 5
        await asyncio.gather(flood, return_exceptions=True)
    finally:
        cluster.wake(node)


@pytest.mark.parametrize("first", [0, 1, 2])
async def test_one_hanging_server_of_several_does_not_use_up_the_time_to_connect(cluster: Cluster, first: int) -> None:
    nodes = list(cluster.nodes)
    cluster.freeze(nodes[first])
    try:
        for _ in range(4):  # nats-py takes them in any order
            async with NatsConnection(NatsOptions(cluster.urls)) as connection:
                assert await connected_to(cluster, connection) != nodes[first]
    finally:
        cluster.wake(nodes[first])


@pytest.mark.parametrize("source", ["jetstream", "sqs"])
def test_the_process_ends_in_time_though_its_server_is_silent(
    tmp_path: Path, moto_server: MotoServer, name: str, source: str
) -> None:
    aws = Aws(moto_server.url)
    url = aws.queue(name)
    with NatsServer(tmp_path / "nats") as server:
        Nats(server.url).stream(name, f"{name}.>")
        Nats(server.url).consumer(name, "c")
        queue, stream = {"kind": "sqs", "queue": name}, {"kind": "jetstream", "stream": name, "consumer": "c"}
        into = {"kind": "jetstream", "subject": f"{name}.x"}
        back, forth = {"source": stream, "destination": queue}, {"source": queue, "destination": into}
        route = back if source == "jetstream" else forth
        given = [{"name": "r", **route}]
        with Bridge(tmp_path, given, nats=server.url, aws=aws.url, shutdown_timeout=5) as bridge:
            wait(lambda: bridge.state("r") == "running", "it runs")
            os.kill(server.pid, signal.SIGSTOP)
            try:
                if source == "sqs":
                    aws.send(url, ["held"])
                    wait(lambda: bridge.status("r").get("in_flight_messages") == 1, "it holds one")
                began = time.monotonic()
                bridge.terminate()
                bridge.exit_code()
                assert time.monotonic() - began < 5 + 5
            finally:
                os.kill(server.pid, signal.SIGCONT)
