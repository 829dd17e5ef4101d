"""What is believed of a message: marks, notes, parked messages, forged or our own; groups, and what stays."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.errors import BridgeError, Failed, Unmappable
from bridge.core.mapping.nats_to_sqs import nats_to_sns, nats_to_sqs
from bridge.core.mapping.note import MESSAGE, Note, body_of, rebound
from bridge.core.mapping.parked import park_to_jetstream, park_to_sqs, parked_in_jetstream, parked_in_sqs
from bridge.core.mapping.provenance import Passage, digest_of
from bridge.core.mapping.sizes import header_pairs, publish_block
from bridge.core.mapping.sqs_to_nats import sqs_to_nats
from bridge.core.mapping.subject import GroupTemplate, SubjectTemplate
from bridge.core.models import Attribute, JetStreamMessage, JetStreamOut, Message, SqsMessage, SqsOut
from bridge.core.route import Delivery, Skip
from bridge.legs.wire import header_pairs_of
from tests.core import hostile
from tests.core.hostile import QUEUE, STREAM, TEXT, TOPIC, envelope, mapped, stored
from tests.core.test_gate import BACK, IN, TEMPLATE, few, forward

# -- marks


def back(message: JetStreamMessage, **more: object) -> SqsMessage:
    found = mapped(nats_to_sqs(fifo=False, **{"passage": BACK, **more}), message)  # type: ignore[arg-type]
    assert found is not None
    assert isinstance(found.out, SqsOut)
    return SqsMessage("new-id", found.out.body, "orders", QUEUE, found.out.attributes, {})


def test_the_digest_decides_beside_a_pointer_as_well() -> None:
    ordinary = Passage("back", STREAM, frozenset([QUEUE]))
    sent = back(JetStreamMessage("orders", b"large", "ORDERS", 1, 0.0), passage=ordinary)
    assert sqs_to_nats(SubjectTemplate.parse("orders"), passage=IN)(sent) == Skip("echo")
    pointer = '["software.amazon.payloadoffloading.PayloadS3Pointer", {"s3BucketName": "b", "s3Key": "k"}]'
    marked = {**sent.attributes, "ExtendedPayloadSize": Attribute("Number", "5")}
    derived = sent._replace(body="another payment", attributes=marked)
    assert forward(derived).payload == b"another payment"
    bound = sent._replace(body=pointer, attributes=rebound(marked, pointer))
    assert sqs_to_nats(SubjectTemplate.parse("orders"), passage=IN)(bound) == Skip("echo")
    unbound = sent._replace(body=pointer, attributes=marked)
    assert mapped(sqs_to_nats(SubjectTemplate.parse("orders"), passage=IN), unbound) is not None


@pytest.mark.parametrize("skips", [True, False])
@pytest.mark.parametrize("wrapped", [None, TOPIC])
@pytest.mark.parametrize("born", ["queue", "topic", "stream"])
def test_a_message_that_was_sent_back_is_new_and_one_delivered_again_is_not(
    skips: bool, wrapped: str | None, born: str
) -> None:
    """Over, back, over, back and over again, all within one duplicate window."""
    many = 1_000 if wrapped and born == "topic" else 50
    over = sqs_to_nats(
        SubjectTemplate.parse("orders"), passage=Passage("over", QUEUE, frozenset([STREAM]), skip_echo=skips)
    )
    back = nats_to_sqs(fifo=False, passage=BACK, envelope=wrapped)
    stream: dict[str, int] = {}
    for number in range(many):
        message = envelope(MessageId=f"id-{number}")
        if born == "queue":
            message = SqsMessage(f"q-{number}", "m", "orders", QUEUE)
        if born == "stream":
            first = mapped(back, JetStreamMessage("orders", b"m", "ORDERS", 10_000 + number, 0.0))
            assert first is not None
            assert isinstance(first.out, SqsOut)
            message = SqsMessage(f"n-{number}", first.out.body, "orders", QUEUE, first.out.attributes, {})
        for turn in range(3):
            out, again = mapped(over, message), mapped(over, message._replace(system={"ApproximateReceiveCount": "2"}))
            assert out is not None
            assert again is not None
            assert isinstance(out.out, JetStreamOut)
            assert isinstance(again.out, JetStreamOut)
            assert out.out.msg_id not in stream
            assert again.out.msg_id == out.out.msg_id
            stream[out.out.msg_id] = len(stream) + 1
            sent = mapped(back, stored(out.out, len(stream)))
            assert sent is not None
            assert isinstance(sent.out, SqsOut)
            message = SqsMessage(f"r-{number}-{turn}", sent.out.body, "orders", QUEUE, sent.out.attributes, {})
    assert len(stream) == 3 * many


def test_what_merely_passed_through_a_topic_or_another_queue_is_still_an_echo() -> None:
    out = forward(envelope())
    for passage in (
        Passage("refill", STREAM, frozenset([TOPIC, QUEUE]), skip_echo=False),
        Passage("refill", STREAM, frozenset(["arn:other"]), skip_echo=False),
    ):
        sent = back(stored(out), passage=passage)
        assert sqs_to_nats(SubjectTemplate.parse("orders"), passage=IN)(sent) == Skip("echo")


def test_a_forged_note_gives_a_genuine_envelope_no_second_id() -> None:
    """SNS does not sign MessageAttributes: who repeats a signed envelope could else have it carried twice."""
    note = Note("orders", "ORDERS", 9, (QUEUE, STREAM), (), None, digest_of("m"), QUEUE).attribute()
    forged = envelope(MessageAttributes={MESSAGE: {"Type": "String", "Value": note.value}})
    assert forward(forged, verify=True).msg_id == forward(envelope(), verify=True).msg_id
    assert forward(forged).msg_id == f"{forward(envelope()).msg_id}:9"


# -- parked messages

REASONS = st.builds(Failed, TEXT) | st.builds(Unmappable, TEXT, TEXT)


@few
@given(st.one_of(hostile.sqs_messages(), hostile.jetstream_messages()), TEXT, REASONS)
def test_anything_can_be_parked_and_read_again(message: Message, name: str, reason: BridgeError) -> None:
    delivery = Delivery(message, name, 3, 0.0, 0.0)
    kept = park_to_jetstream(route="r", source="s", subject="parked.r")(delivery, reason)
    assert isinstance(kept, JetStreamOut)
    headers = header_pairs_of(publish_block(kept))
    parked = parked_in_jetstream(JetStreamMessage("parked.r", kept.payload, "P", 1, 0.0, 1, headers))
    assert parked is not None
    read = parked.message
    if isinstance(message, JetStreamMessage):
        assert read == message._replace(delivered=3)
    else:
        assert read == message._replace(queue=message.queue_arn.rpartition(":")[2])
    sent = park_to_sqs(route="r", source="s", fifo=True)(delivery, reason)
    assert isinstance(sent, SqsOut)
    assert hostile.refused(sent, fifo=True) == ""


@few
@given(TEXT, TEXT)
def test_two_messages_are_never_parked_under_one_id(one: str, other: str) -> None:
    park = park_to_jetstream(route="r", source="s", subject="parked.r")
    message = SqsMessage("id", "b", "orders", QUEUE)
    ids = {park(Delivery(message, each, 1, 0.0, 0.0), Failed("x")).msg_id for each in (one, other)}  # type: ignore[union-attr]
    assert len(ids) == len({one, other})


ODD = hostile.ODD
SOUND = {
    "message_id": "m",
    "queue_arn": QUEUE,
    "system": {"SentTimestamp": "1"},
    "attributes": {"a": ["String", "b"]},
    "subject": "orders",
    "stream": "S",
    "seq": 1,
    "timestamp": 1.5,
    "headers": [["a", "b"]],
}
FIELDS = {
    "system": st.dictionaries(st.just("SentTimestamp") | TEXT, ODD, max_size=2),
    "attributes": st.dictionaries(TEXT, ODD | st.tuples(TEXT, ODD), max_size=2),
    "seq": st.integers() | st.floats(),
    "timestamp": st.floats() | st.integers(),
    "headers": st.lists(st.tuples(TEXT, TEXT) | st.tuples(ODD, ODD), max_size=2),
}
METAS = st.builds(
    lambda kind, name, fields: {**SOUND, "kind": kind, name: fields.get(name)},
    st.sampled_from(["sqs", "jetstream"]) | ODD,
    st.sampled_from([*SOUND]),
    st.fixed_dictionaries({name: FIELDS.get(name, TEXT) | ODD for name in SOUND}),
)


@few
@given(METAS | ODD, st.just("1") | st.sampled_from(["1", "x", "9" * 5_000, "-1", "1e400", ""]), TEXT)
def test_a_forged_parked_message_is_read_as_a_message_or_not_at_all(meta: object, attempt: str, text: str) -> None:
    named = [("Id", text), ("Route", text), ("Reason", text), ("Attempt", attempt), ("Meta", json.dumps(meta))]
    headers = tuple((f"Bridge-Parked-{name}", value) for name, value in named)
    as_json = json.dumps({"body": "eA==", "meta": meta}).encode()
    note = {"id": text, "route": text, "reason": text, "attempt": attempt, "meta": meta}
    beside = {"bridge.parked": Attribute("String", json.dumps(note))}
    for found in (
        parked_in_jetstream(JetStreamMessage("p", b"x", "P", 1, 0.0, 1, headers)),
        parked_in_jetstream(
            JetStreamMessage("p", as_json, "P", 1, 0.0, 1, (("Bridge-Parked-Format", "json"), *headers[:4]))
        ),
        parked_in_sqs(SqsMessage("id", "x", "p", "arn:p", beside, {})),
    ):
        if found is None:
            continue
        mapping = sqs_to_nats(TEMPLATE, passage=IN) if isinstance(found.message, SqsMessage) else nats_to_sqs(fifo=True)
        carried = mapped(mapping, found.message)
        if carried is not None and isinstance(carried.out, JetStreamOut):
            assert len(header_pairs_of(publish_block(carried.out))) == len(header_pairs(carried.out))


# -- groups and what stays an attribute


def test_the_group_of_a_standard_queue_goes_back_and_is_no_lane() -> None:
    message = SqsMessage("id", "b", "orders", QUEUE, {}, {"MessageGroupId": "tenant-1"})
    native = JetStreamMessage("orders.x", b"b", "ORDERS", 8, 0.0, 1, (("tenant", "t 2"),))
    for make in (nats_to_sqs, nats_to_sns):
        found = mapped(make(fifo=False, passage=BACK), stored(forward(message)))
        assert found is not None
        assert (found.lane, found.out.group) == (None, "tenant-1")  # type: ignore[union-attr]
        plain = mapped(make(fifo=False), native)
        assert plain is not None
        assert plain.out.group is None  # type: ignore[union-attr]
        chosen = make(fifo=False, group=GroupTemplate.parse("{headers.tenant}"))
        rendered, without = mapped(chosen, native), mapped(chosen, native._replace(headers=()))
        assert rendered is not None
        assert without is not None
        assert str(rendered.out.group).startswith("sha256:")  # type: ignore[union-attr]
        assert without.out.group is None  # type: ignore[union-attr]


@given(st.integers(11, 20), st.data())
def test_the_names_to_keep_are_attributes_and_nothing_is_lost(many: int, data: st.DataObject) -> None:
    names = [f"h{n}" for n in range(many)]
    keep = data.draw(st.lists(st.sampled_from([*names, "absent"]), unique=True, max_size=8))
    payload = data.draw(st.sampled_from([b"x", b"\xff"]))
    native = JetStreamMessage("orders", payload, "ORDERS", 1, 0.0, 1, tuple((name, f"v{name}") for name in names))
    sent = back(native, keep=keep)
    assert {name for name in keep if name in names} <= sent.attributes.keys()
    assert len(sent.attributes) <= 10
    out = forward(sent, Passage())
    assert {name: out.headers[name] for name in names} == {name: f"v{name}" for name in names}
    assert body_of(out.payload) == body_of(payload)


def test_the_id_of_an_envelope_says_which_making_of_a_stream_it_is_from() -> None:
    native = JetStreamMessage("orders", b"x", "ORDERS", 1, 0.0)
    ids = set()
    for created in ("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"):
        passage = Passage("back", f"jetstream:ORDERS@{created}", frozenset([QUEUE]))
        ids.add(json.loads(back(native, passage=passage, envelope=TOPIC).body)["MessageId"])
        assert len(ids) == len({*ids, json.loads(back(native, passage=passage, envelope=TOPIC).body)["MessageId"]})
    assert len(ids) == 2
