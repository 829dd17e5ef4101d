"""A bridge on a leaf node whose streams are in the hub: everything it keeps in JetStream goes through the domain."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.core.errors import Refused
from bridge.core.models import JetStreamOut
from bridge.core.route import Receipt
from bridge.embedded import NatsServer, free_port
from bridge.legs.ledger import open_ledger
from bridge.legs.nats import NatsConnection, NatsOptions
from bridge.legs.payloads import ObjectPayloads
from bridge.legs.stream import open_destination

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Of the hub and of the leaf."""
    folder, port = tmp_path_factory.mktemp("leaf"), free_port()
    hub = NatsServer(
        folder / "hub",
        config=f"server_name: hub\njetstream {{domain: hub}}\nleafnodes {{listen: 127.0.0.1:{port}}}",
    )
    leaf = NatsServer(
        folder / "leaf",
        config=f"server_name: leaf\njetstream {{domain: leaf}}\nleafnodes {{remotes: [{{url: nats://127.0.0.1:{port}}}]}}",
    )
    with hub, leaf:
        yield hub.url, leaf.url


@pytest.fixture
async def hub(urls: tuple[str, str]) -> AsyncIterator[NatsConnection]:
    async with NatsConnection(NatsOptions((urls[0],))) as connection:
        yield connection


@pytest.fixture(params=["domain", "prefix"])
async def nats(request: pytest.FixtureRequest, urls: tuple[str, str]) -> AsyncIterator[NatsConnection]:
    """The bridge's connection, to the leaf."""
    through = NatsOptions((urls[1],), domain="hub")
    if request.param == "prefix":
        through = replace(through, domain=None, api_prefix="$JS.hub.API")
    async with NatsConnection(through) as connection:
        yield connection


async def test_the_ledger_is_written_and_read_in_the_hub(hub: NatsConnection, nats: NatsConnection, name: str) -> None:
    """`$KV.>` does not cross the link by itself: a write waited for ever."""
    await (await hub.live()).jetstream().create_key_value(bucket=name, ttl=60, direct=True)
    ledger = await open_ledger(nats, name, source="a", destinations=["b"])
    assert await ledger.note([("one", "S:1"), ("two", "S:2")]) == [True, True]
    assert await ledger.known(["one", "two", "three"]) == ["S:1", "S:2", None]
    assert (await hub.api(f"STREAM.INFO.KV_{name}"))["state"]["messages"] == 2


async def test_messages_and_payloads_go_to_the_hub(
    hub: NatsConnection, nats: NatsConnection, name: str, tmp_path: Path
) -> None:
    await hub.api(f"STREAM.CREATE.{name}", {"name": name, "subjects": [f"{name}.>"]})
    destination = await open_destination(nats, pattern=f"{name}.*", stream=None)
    (answer,) = await destination.publish([JetStreamOut(f"{name}.x", b"x", "1")])
    assert isinstance(answer, Receipt)
    await (await hub.live()).jetstream().create_object_store(name)
    await ObjectPayloads(nats).put(name, "key", b"large" * 1000)
    assert (await hub.api(f"STREAM.INFO.OBJ_{name}"))["state"]["messages"] > 0


async def test_a_smaller_limit_on_the_way_is_kept_to(hub: NatsConnection, urls: tuple[str, str], name: str) -> None:
    """A message beyond it would cut the link at every try."""
    await hub.api(f"STREAM.CREATE.{name}", {"name": name, "subjects": [f"{name}.>"]})
    async with NatsConnection(NatsOptions((urls[1],), domain="hub", max_payload=100_000)) as nats:
        destination = await open_destination(nats, pattern=f"{name}.*", stream=None)
        large = JetStreamOut(f"{name}.x", b"x" * 100_001, "1")
        assert not destination.fits(large)
        answers = await destination.publish([large, JetStreamOut(f"{name}.x", b"x" * 99_000, "2")])
        assert [type(each) for each in answers] == [Refused, Receipt]
        assert "at most 100,000 (max_payload)" in str(answers[0])


async def test_the_size_a_stream_takes_counts_for_claim_checks(hub: NatsConnection, name: str) -> None:
    await hub.api(f"STREAM.CREATE.{name}", {"name": name, "subjects": [f"{name}.>"], "max_msg_size": 5000})
    destination = await open_destination(hub, pattern=f"{name}.*", stream=None)
    assert destination.fits(JetStreamOut(f"{name}.x", b"x" * 4000, "1"))
    assert not destination.fits(JetStreamOut(f"{name}.x", b"x" * 5000, "1"))
