"""The ledger on a real Key-Value bucket: what was carried is not published again, however long ago."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from bridge.core.errors import BridgeError, NotUsable, Unavailable
from bridge.core.mapping.nats_to_sqs import nats_to_sqs
from bridge.core.mapping.provenance import Passage
from bridge.core.models import JetStreamMessage, JetStreamOut, Out, SqsOut
from bridge.core.route import Receipt
from bridge.embedded import NatsServer
from bridge.legs.ledger import Ledgered, open_ledger
from bridge.legs.memory import MemoryDestination
from bridge.legs.nats import NatsConnection, NatsOptions
from tests.core.strategies import carried

pytestmark = pytest.mark.server


@pytest.fixture
async def nats(nats_server: NatsServer, name: str) -> AsyncIterator[NatsConnection]:
    async with NatsConnection(NatsOptions((nats_server.url,))) as connection:
        await (await connection.live()).jetstream().create_key_value(bucket=name, ttl=60, direct=True)
        yield connection


async def ledgered(nats: NatsConnection, name: str, inner: MemoryDestination, source: str = "a") -> Ledgered:
    return Ledgered(inner, await open_ledger(nats, name, source=source, destinations=["b"]))


def out(message_id: str, *, again: bool = False) -> JetStreamOut:
    return JetStreamOut("s", message_id.encode(), message_id, again=again)


class Forgetful(MemoryDestination):
    """A destination that recognises nothing."""

    async def publish(self, messages: object) -> list[Receipt | BridgeError]:
        self.kept += list(messages)  # type: ignore[call-overload]
        return [Receipt("there:1") for _ in messages]  # type: ignore[attr-defined]


async def test_what_was_carried_is_recognised_by_another_process_when_it_is_delivered_again(
    nats: NatsConnection, name: str
) -> None:
    first = Forgetful()
    await (await ledgered(nats, name, first)).publish([out("sqs:1"), out("sqs:2")])
    second = Forgetful()
    answers = await (await ledgered(nats, name, second)).publish(
        [out("sqs:1", again=True), out("sqs:3", again=True), out("sqs:2", again=True)]
    )
    assert second.kept == [out("sqs:3", again=True)]
    assert answers == [Receipt("there:1", duplicate=True), Receipt("there:1"), Receipt("there:1", duplicate=True)]


async def test_another_source_of_the_same_name_is_another_source(nats: NatsConnection, name: str) -> None:
    await (await ledgered(nats, name, Forgetful(), "jetstream:S@1")).publish([out("S-1")])
    inner = Forgetful()
    await (await ledgered(nats, name, inner, "jetstream:S@2")).publish([out("S-1", again=True)])
    assert len(inner.kept) == 1


async def test_what_failed_is_not_noted(nats: NatsConnection, name: str) -> None:
    inner = MemoryDestination(lambda out, tries: Unavailable("down") if tries == 1 else None)
    destination = await ledgered(nats, name, inner)
    (answer,) = await destination.publish([out("sqs:1")])
    assert isinstance(answer, Unavailable)
    (answer,) = await destination.publish([out("sqs:1", again=True)])
    assert isinstance(answer, Receipt)
    assert not answer.duplicate


async def test_the_source_is_not_settled_before_the_ledger_knows(
    nats: NatsConnection, name: str, nats_server: NatsServer
) -> None:
    inner = Forgetful()
    destination = await ledgered(nats, name, inner)
    info = await nats.api(f"STREAM.INFO.KV_{name}")
    await nats.api(f"STREAM.UPDATE.KV_{name}", {**info["config"], "max_bytes": 1})  # a full bucket
    (answer,) = await destination.publish([out("sqs:1")])
    assert isinstance(answer, Unavailable)
    await nats.api(f"STREAM.UPDATE.KV_{name}", info["config"])
    (answer,) = await destination.publish([out("sqs:1")])
    assert answer == Receipt("there:1")
    assert len(inner.kept) == 1  # published once, though asked twice


async def test_a_bucket_that_is_not_there_is_reported_with_the_command(nats: NatsConnection) -> None:
    with pytest.raises(NotUsable) as raised:
        await open_ledger(nats, "none", source="a", destinations=["b"])
    assert "nats kv add none --ttl 24h" in str(raised.value)


def test_an_id_is_the_messages_own_and_not_one_of_a_stream_made_again() -> None:
    def identity(place: str, sequence: int, delivered: int = 1) -> Out:
        message = JetStreamMessage("s", b"x", "S", sequence, 0.0, delivered)
        return carried(nats_to_sqs(fifo=True, passage=Passage("r", place))(message)).out

    one, again = identity("jetstream:S@1", 1), identity("jetstream:S@1", 1, 2)
    assert isinstance(one, SqsOut)
    assert isinstance(again, SqsOut)
    assert (one.dedup_id, one.again, again.again) == (again.dedup_id, False, True)
    other, anew = identity("jetstream:S@1", 2), identity("jetstream:S@2", 1)
    assert isinstance(other, SqsOut)
    assert isinstance(anew, SqsOut)
    assert len({one.dedup_id, other.dedup_id, anew.dedup_id}) == 3
