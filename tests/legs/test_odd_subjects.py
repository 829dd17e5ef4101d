"""Subjects nats-server lets through and nobody expects: not UTF-8, with controls in them. From the server through the
mapping to SQS and into both kinds of parking place, and back as they were."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bridge.core.errors import Refused
from bridge.core.mapping.nats_to_sqs import nats_to_sqs
from bridge.core.mapping.parked import park_to_jetstream, park_to_sqs, parked_in_sqs
from bridge.core.mapping.provenance import Passage
from bridge.core.models import JetStreamMessage, Message
from bridge.core.route import Ack, Delivery, Receipt
from bridge.embedded import MotoServer
from bridge.legs.aws import AwsConnection, AwsOptions
from bridge.legs.consumer import open_consumer
from bridge.legs.jetstream import JetStreamSource
from bridge.legs.nats import NatsConnection
from bridge.legs.parking import StreamShelf
from bridge.legs.sqs import SqsDestination, open_queue, sqs_message
from bridge.legs.stream import open_destination
from tests.core.strategies import carried
from tests.legs.aws_world import REGION, world
from tests.legs.exam import settlements, take
from tests.legs.test_jetstream import add_consumer, add_stream, nats

pytestmark = pytest.mark.server

__all__ = ["nats"]

TAILS = (
    b"plain",
    b"\xff",
    b"caf\xe9",
    b"\xed\xa0\x80",
    b"a\x0b3\x0cb",
    b"x\rMSG",
    b"\xc3\xa9",
    b"\x00",
    b"*",
    b"\x85\x1c",
)


async def lend(nats: NatsConnection, name: str, *, ordered: bool) -> tuple[JetStreamSource, list[Delivery]]:
    await add_stream(nats, name)
    await add_consumer(nats, name, "c")
    source = JetStreamSource(nats, await open_consumer(nats, name, "c", ordered=ordered), ordered=ordered)
    client = await nats.live()
    for tail in TAILS:
        await client._send_command(b"PUB %s.%s 1\r\nx\r\n" % (name.encode(), tail))
    await client.flush()
    return source, await take(source, len(TAILS))


def subjects(found: Sequence[Message]) -> list[bytes]:
    return [each.subject.encode("utf-8", "surrogateescape") for each in found if isinstance(each, JetStreamMessage)]


@pytest.mark.parametrize("ordered", [False, True])
async def test_any_subject_is_delivered_as_it_is_and_what_follows_it_too(
    nats: NatsConnection, name: str, ordered: bool
) -> None:
    source, lent = await lend(nats, name, ordered=ordered)
    assert subjects([each.message for each in lent]) == [b"%s.%s" % (name.encode(), tail) for tail in TAILS]
    assert await source.settle(settlements(lent, Ack())) == [None] * len(TAILS)
    await source.close()


@pytest.mark.parametrize("suffix", ["", ".fifo"])
async def test_any_subject_is_carried_and_parked_under_its_true_name(
    nats: NatsConnection, moto_server: MotoServer, name: str, suffix: str
) -> None:
    source, lent = await lend(nats, name, ordered=bool(suffix))
    await add_stream(nats, f"{name}P", subjects=[f"parked.{name}"])
    true = subjects([each.message for each in lent])
    why = Refused("as a trial")
    async with (
        world(moto_server.url) as aws_world,
        AwsConnection(AwsOptions(region=REGION, endpoint_url=moto_server.url)) as aws,
    ):
        await aws_world.queue(f"{name}{suffix}")
        url = await aws_world.queue(f"{name}p{suffix}")
        mapping = nats_to_sqs(fifo=bool(suffix), passage=Passage("r", "jetstream:S@1"))
        outs = [carried(mapping(each.message)).out for each in lent]
        answers = await SqsDestination(aws, await open_queue(aws, f"{name}{suffix}")).publish(outs)
        assert [type(answer) for answer in answers] == [Receipt] * len(TAILS)

        park = park_to_jetstream(route="r", source="s", subject=f"parked.{name}")
        stream = await open_destination(nats, pattern=f"parked.{name}", stream=None)
        answers = await stream.publish([park(each, why) for each in lent])
        assert [type(answer) for answer in answers] == [Receipt] * len(TAILS)
        shelf = StreamShelf(nats, f"{name}P", f"parked.{name}")
        assert subjects([each.parked.message async for each in shelf.look()]) == true

        parking = await open_queue(aws, f"{name}p{suffix}")
        park = park_to_sqs(route="r", source="s", fifo=bool(suffix))
        answers = await SqsDestination(aws, parking).publish([park(each, why) for each in lent])
        assert [type(answer) for answer in answers] == [Receipt] * len(TAILS)
        kept = [parked_in_sqs(sqs_message(each, parking)) for each in await aws_world.drain(url, len(TAILS))]
        assert sorted(subjects([each.message for each in kept if each is not None])) == sorted(true)
    await source.release(lent)
    await source.close()


async def test_what_ran_out_is_parked_under_its_true_name_where_the_stream_can_shows(
    nats: NatsConnection, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.legs.jetstream.POLL_SECONDS", 0.1)
    await add_stream(nats, name, allow_direct=True)
    await add_consumer(nats, name, "c", max_deliver=1)
    source = JetStreamSource(nats, await open_consumer(nats, name, "c"), exhausted=True)
    await source.receive(1)
    client = await nats.live()
    await client._send_command(b"PUB %s.\xff\xfe 1\r\nx\r\n" % name.encode())
    await source.release(await take(source, 1))
    (gone,) = await take(source, 1)
    assert isinstance(gone.hopeless, Refused)
    assert isinstance(gone.message, JetStreamMessage)
    assert gone.message.subject == f"{name}.\udcff\udcfe"
    await source.close()
