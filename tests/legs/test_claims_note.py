"""Claim checks and the note beside a pointer: the limit of ten attributes, and the digest of the body."""

from __future__ import annotations

from bridge.core.mapping.claims import SIZE
from bridge.core.mapping.nats_to_sqs import nats_to_sqs
from bridge.core.mapping.note import read
from bridge.core.mapping.provenance import Passage, digest_of
from bridge.core.mapping.sqs_to_nats import sqs_to_nats
from bridge.core.mapping.subject import SubjectTemplate
from bridge.core.models import JetStreamMessage, JetStreamOut, SqsMessage, SqsOut
from bridge.core.route import Skip
from bridge.legs.claims import Kept
from tests.core.strategies import carried
from tests.legs.test_claims import LIMIT, Narrow, Shelf, checked

ATTRIBUTES = 10  # SQS takes no more


async def test_ten_attributes_leave_no_room_for_the_mark_and_one_goes_into_the_note() -> None:
    headers = tuple((f"a{n}", str(n)) for n in range(20))
    message = JetStreamMessage("orders.x", b"x" * (LIMIT + 1), "ORDERS", 7, 0.0, 1, headers)
    out = carried(nats_to_sqs(fifo=False)(message)).out
    assert isinstance(out, SqsOut)
    assert len(out.attributes) == ATTRIBUTES
    inner, shelf = Narrow(), Shelf({})
    await checked(inner, {"s3": shelf}, Kept("s3", "own", "")).publish([out])
    (sent,) = inner.kept
    assert isinstance(sent, SqsOut)
    assert len(sent.attributes) == ATTRIBUTES
    assert SIZE in sent.attributes
    back = carried(sqs_to_nats(SubjectTemplate.parse("s"))(SqsMessage("id", sent.body, "q", "arn:q", sent.attributes)))
    assert isinstance(back.out, JetStreamOut)
    assert {name: value for name, value in back.out.headers.items() if name in dict(headers)} == dict(headers)


async def test_a_pointer_is_known_as_echo_by_the_digest_of_its_own_body() -> None:
    there, here = (
        Passage("r", "jetstream:S@1", frozenset(["arn:q"])),
        Passage("r", "arn:q", frozenset(["jetstream:S@1"])),
    )
    message = JetStreamMessage("orders.x", b"x" * (LIMIT + 1), "S", 7, 0.0)
    inner = Narrow()
    destination = checked(inner, {"s3": Shelf({})}, Kept("s3", "own", ""))
    await destination.publish([carried(nats_to_sqs(fifo=False, passage=there)(message)).out])
    (sent,) = inner.kept
    assert isinstance(sent, SqsOut)
    assert read(sent.attributes)._replace(of="") != read(sent.attributes)  # type: ignore[union-attr]
    assert read(sent.attributes).of == digest_of(sent.body)  # type: ignore[union-attr]
    mapping = sqs_to_nats(SubjectTemplate.parse("s"), passage=here)
    assert mapping(SqsMessage("id", sent.body, "q", "arn:q", sent.attributes)) == Skip("echo")
