"""The gate in front of a real stream: one bad message of a batch is refused, and nothing it says is acted on."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator

import pytest

from bridge.core.errors import Refused
from bridge.core.mapping.provenance import Passage
from bridge.core.mapping.sqs_to_nats import sqs_to_nats
from bridge.core.mapping.subject import SubjectTemplate
from bridge.core.models import JetStreamOut, SqsMessage
from bridge.core.route import Mapped, Receipt
from bridge.embedded import NatsServer
from bridge.legs.nats import Headers, NatsConnection, NatsOptions
from bridge.legs.stream import open_destination

pytestmark = pytest.mark.server


@pytest.fixture
async def nats(nats_server: NatsServer) -> AsyncIterator[NatsConnection]:
    async with NatsConnection(NatsOptions((nats_server.url,))) as connection:
        yield connection


async def add_stream(nats: NatsConnection, name: str, *subjects: str) -> None:
    config = {"name": name, "subjects": subjects, "storage": "memory", "allow_rollup_hdrs": True}
    await nats.api(f"STREAM.CREATE.{name}", config)


@pytest.mark.parametrize("field", ["MessageId", "TopicArn", "Timestamp", "SequenceNumber", "Subject", "trace", "group"])
async def test_an_envelope_purges_nothing_whatever_its_fields_say(nats: NatsConnection, name: str, field: str) -> None:
    await add_stream(nats, name, f"{name}.>")
    destination = await open_destination(nats, pattern=f"{name}.x", stream=name)
    earlier = [JetStreamOut(f"{name}.x", b"paid", f"id-{n}") for n in range(5)]
    assert all(isinstance(answer, Receipt) for answer in await destination.publish(earlier))
    hostile = "arn:x\r\nNats-Rollup: all\r\nNats-Msg-Id: id-9"
    document = {"Type": "Notification", "MessageId": "m", "TopicArn": "arn:t", "Message": "b", "Timestamp": "t"}
    document |= {"SignatureVersion": "1", "Signature": "", "SigningCertURL": "u", "SequenceNumber": "1", "Subject": "s"}
    system = {"trace": {"AWSTraceHeader": hostile}, "group": {"MessageGroupId": hostile}}.get(field, {})
    if not system:
        document[field] = hostile
    message = SqsMessage("q", json.dumps(document), "q", "arn:q", {}, system)
    mapped = sqs_to_nats(SubjectTemplate.parse(f"{name}.x"), passage=Passage("in", "arn:q"))(message)
    assert isinstance(mapped, Mapped)
    (answer,) = await destination.publish([mapped.out])
    assert isinstance(answer, Receipt)
    assert (await nats.api(f"STREAM.INFO.{name}"))["state"]["messages"] == 6
    kept = await nats.api(f"STREAM.MSG.GET.{name}", {"seq": 6})
    names = [each for each, _ in Headers.parse(base64.b64decode(kept["message"]["hdrs"])).pairs]
    assert [each for each in names if each.startswith("Nats-")] == ["Nats-Msg-Id"]


async def test_one_bad_message_of_a_batch_is_refused_alone(nats: NatsConnection, name: str) -> None:
    await add_stream(nats, name, f"{name}.>")
    destination = await open_destination(nats, pattern=f"{name}.x", stream=None)
    outs = [JetStreamOut(f"{name}.x", b"p", f"id-{n}", {"a": "b"}) for n in range(4)]
    outs[1] = outs[1]._replace(headers={"a": "b\r\nNats-Rollup: all"})
    outs[2] = outs[2]._replace(headers={"Nats-Rollup": "all"})
    answers = await destination.publish(outs)
    assert [type(answer) for answer in answers] == [Receipt, Refused, Refused, Receipt]
    assert destination.fits(outs[1])  # it is not its size
    assert (await nats.api(f"STREAM.INFO.{name}"))["state"]["messages"] == 2


async def test_a_subject_of_another_stream_is_refused_before_it_is_stored(nats: NatsConnection, name: str) -> None:
    """Without a header that would be stored, and refused wherever a service publishes what it was given."""
    await add_stream(nats, name, f"{name}.a")
    await add_stream(nats, f"{name}2", f"{name}.b")
    destination = await open_destination(nats, pattern=f"{name}.*", stream=name)
    outs = [JetStreamOut(f"{name}.{token}", b"p", token) for token in "abc"]
    first, second, _ = await destination.publish(outs)
    assert isinstance(first, Receipt)
    assert isinstance(second, Refused)
    assert (await nats.api(f"STREAM.INFO.{name}2"))["state"]["messages"] == 0
    await nats.api(f"STREAM.UPDATE.{name}", {"name": name, "subjects": [f"{name}.a", f"{name}.c"], "storage": "memory"})
    (answer,) = await destination.publish(outs[2:])
    assert isinstance(answer, Receipt)
    kept = await nats.api(f"STREAM.MSG.GET.{name}", {"seq": 1})
    client = await nats.live()
    headers = dict(Headers.parse(base64.b64decode(kept["message"]["hdrs"])).pairs)
    assert "Nats-Expected-Stream" not in headers
    forwarded = {key: value for key, value in headers.items() if key != "Nats-Msg-Id"}
    assert (await client.jetstream().publish(f"{name}.b", b"derived", headers=forwarded or None)).seq == 1
