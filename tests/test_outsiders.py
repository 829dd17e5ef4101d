"""What hostile users found: an id, a key or a life that others can take, and what a filter sees of a pointer."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from bridge.core.errors import BridgeError, Refused, Unavailable, Unmappable
from bridge.core.filtering import FilterPolicy
from bridge.core.mapping.nats_to_sqs import nats_to_sqs
from bridge.core.mapping.parked import park_to_jetstream
from bridge.core.mapping.sqs_to_nats import sqs_to_nats
from bridge.core.mapping.subject import SubjectTemplate
from bridge.core.models import Attribute, JetStreamMessage, JetStreamOut, Out, SqsMessage, SqsOut
from bridge.core.route import Delivery, Receipt, Skip
from bridge.legs.ledger import Ledgered
from bridge.legs.memory import MemoryDestination, MemorySource
from bridge.legs.parking import Shelved
from bridge.legs.stream import _life
from bridge.verbs.parked import _redriven
from tests.core.envelopes import STANDARD
from tests.core.strategies import carried
from tests.test_held_share import PATIENT
from tests.test_pump import Running, body, message, until

POINTER = '["software.amazon.payloadoffloading.PayloadS3Pointer", {"s3BucketName": "b", "s3Key": "k"}]'
PAID = FilterPolicy.parse({"type": ["paid"]}, "MessageBody")


def test_a_filter_on_bodies_deletes_no_pointer_whose_payload_it_has_not_seen() -> None:
    marked = {"ExtendedPayloadSize": Attribute("Number", "300000")}
    pointing = SqsMessage("id", POINTER, "q", "arn:q", marked)
    with pytest.raises(Unmappable, match="filter"):
        sqs_to_nats(SubjectTemplate.parse("s"), policy=PAID)(pointing)
    assert sqs_to_nats(SubjectTemplate.parse("s"), policy=PAID, fetch=False)(pointing) == Skip("filtered")
    assert sqs_to_nats(SubjectTemplate.parse("s"), policy=PAID)(pointing._replace(attributes={})) == Skip("filtered")
    stored = JetStreamMessage(
        "s", b'["nats.object_store", {"bucket": "b", "name": "k"}]', "S", 1, 0.0, 1, (("nats.claim", "9"),)
    )
    with pytest.raises(Unmappable, match="filter"):
        nats_to_sqs(fifo=False, policy=PAID)(stored)


def test_queues_of_one_name_in_two_regions_have_copies_of_their_own() -> None:
    mapping = sqs_to_nats(SubjectTemplate.parse("s"), id_scope="queue")
    ids = set()
    for region in ("eu-west-1", "us-east-1"):
        out = carried(
            mapping(SqsMessage("i", json.dumps(STANDARD), "payments", f"arn:aws:sqs:{region}:1:payments"))
        ).out
        assert isinstance(out, JetStreamOut)
        ids.add(out.msg_id)
    assert len(ids) == 2


def test_the_id_of_a_parked_message_cannot_be_taken_before() -> None:
    delivery = Delivery(JetStreamMessage("s", b"x", "ORD", 1, 0.0), "ORD:1", 1, 0.0, 0.0)
    ids = [
        park_to_jetstream(route="r", source="s", subject="p", secret=secret)(delivery, Refused("no"))
        for secret in ("one", "one", "two")
    ]
    found = [out.msg_id for out in ids if isinstance(out, JetStreamOut)]
    assert found[0] == found[1] != found[2]


def test_what_is_redriven_takes_no_id_of_a_message_to_come_and_does_not_expire() -> None:
    parked = Shelved(None, 0.0, 0, 7)  # type: ignore[arg-type]  # its contents play no part
    genuine = SqsOut("two", group="g", dedup_id="ORD-2")
    redriven = _redriven(genuine, parked)
    assert isinstance(redriven, SqsOut)
    assert redriven.dedup_id not in (None, genuine.dedup_id)
    assert redriven == _redriven(genuine, parked)
    old = JetStreamOut("s", b"x", "id", expires_at=1.0)
    assert _life(old) == []  # it was over before it was parked; one second would be too short to be read
    assert _redriven(old, parked) == old._replace(expires_at=None)


async def test_the_error_of_one_message_is_not_that_of_another_under_its_id() -> None:
    class Written:
        async def known(self, ids: Sequence[str]) -> list[str | None]:
            return [None] * len(ids)

        async def note(self, carried: Sequence[tuple[str, str]]) -> list[bool]:
            return [True] * len(carried)

    def fault(out: Out, tries: int) -> BridgeError | None:
        return Refused("no stream captures it") if body(out) == "forged" else None

    inner = MemoryDestination(fault)
    ledgered = Ledgered(inner, Written())  # type: ignore[arg-type]
    outs = [JetStreamOut("s", text, "sns:1") for text in (b"forged", b"genuine", b"genuine")]
    first, second, third = await ledgered.publish(outs)
    assert isinstance(first, Refused)
    assert isinstance(second, Receipt)
    assert isinstance(third, Receipt)
    assert [body(out) for out in inner.kept] == ["genuine"]


async def test_a_store_that_is_down_uses_up_no_receive_counts_though_others_pass() -> None:
    down = Unavailable("the store does not answer")
    down.outage = True
    source, destination = MemorySource(), MemoryDestination(lambda out, tries: down if body(out)[0] == "x" else None)
    source.put(*(message(f"{'x' if n % 2 else 'g'}{n}") for n in range(60)))
    async with Running(source, destination, credits=30, policy=PATIENT) as running:
        await until(lambda: len(running.journal.named("held")) > 60)
        assert (running.journal.named("handed_back"), source.retried) == ([], [])
        running.pump.release()
