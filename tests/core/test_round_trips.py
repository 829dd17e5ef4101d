"""The wire format's laws across both crossings (docs/wire-format.md): what went out comes back, whatever it held."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.errors import Failed, Unmappable
from bridge.core.filtering import FilterPolicy
from bridge.core.mapping.envelope import notification_of
from bridge.core.mapping.headers import Pairs, carriable, reserved
from bridge.core.mapping.nats_to_sqs import nats_to_sns, nats_to_sqs
from bridge.core.mapping.note import ENCODING, MESSAGE, Note, read
from bridge.core.mapping.packing import MARK, ROOM, unfitted
from bridge.core.mapping.parked import Parked, park_to_jetstream, park_to_sqs, parked_in_jetstream, parked_in_sqs
from bridge.core.mapping.provenance import HOPS, Passage, place
from bridge.core.mapping.sizes import header_block, header_pairs, jetstream_bytes, publish_block
from bridge.core.mapping.sqs_to_nats import sqs_to_nats
from bridge.core.mapping.subject import SubjectTemplate, encode_token
from bridge.core.models import Attribute, JetStreamMessage, JetStreamOut, SnsOut, SqsMessage, SqsOut
from bridge.core.route import Delivery, Mapping, Skip
from bridge.legs.nats import Headers
from tests.core import strategies as any_

QUEUE = "arn:aws:sqs:eu-west-1:123456789012:orders"
STREAM = "jetstream:ORDERS@2026-01-01T00:00:00Z"
IN = Passage("in", QUEUE, frozenset([STREAM]))
OUT = Passage(
    "out", "jetstream:ELSEWHERE@2026-01-01T00:00:00Z", frozenset(["arn:aws:sqs:eu-west-1:123456789012:legacy"])
)
FORWARD = sqs_to_nats(SubjectTemplate.parse("orders"), passage=IN)
BACK = nats_to_sqs(fifo=False, passage=OUT)
WRAPPED = nats_to_sqs(fifo=False, passage=OUT, envelope="arn:aws:sns:eu-west-1:123456789012:orders")


def out_of(mapping: Mapping, message: SqsMessage | JetStreamMessage) -> JetStreamOut | SqsOut | SnsOut:
    return any_.carried(mapping(message)).out


def forward(message: SqsMessage, mapping: Mapping = FORWARD) -> JetStreamMessage:
    """Into JetStream, as a consumer gets it: over the real header block and the real parser."""
    out = out_of(mapping, message)
    assert isinstance(out, JetStreamOut)
    pairs = Headers.parse(publish_block(out)).pairs
    return JetStreamMessage(out.subject, out.payload, "ORDERS", 7, 1700000000.0, 1, pairs)


def back(message: JetStreamMessage, mapping: Mapping = BACK) -> SqsMessage:
    """Into SQS, as a consumer gets it."""
    out = out_of(mapping, message)
    assert isinstance(out, SqsOut)
    return SqsMessage("id", out.body, "orders", QUEUE, out.attributes, {"SentTimestamp": "1700000000000"})


def own(headers: Pairs) -> dict[str, list[str]]:
    """A producer's own headers: every value of every name that neither NATS nor the bridge gives a meaning. What is no
    text in a header's sense is told in Bridge-Origin."""
    found: dict[str, list[str]] = {}
    told = [pair for name, value in headers if name == "Bridge-Origin" for pair in json.loads(value).get("headers", [])]
    for name, value in [*headers, *told]:
        if not reserved(name):
            found.setdefault(name, []).append(value)
    return {name: sorted(values) for name, values in found.items()}


WIRE = st.text(st.characters(min_codepoint=1, exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=30)
BYTES = st.binary(max_size=30).map(
    lambda raw: raw.replace(b"\r", b"").replace(b"\n", b"").decode("utf-8", "surrogateescape")
)
OWN = any_.HEADER_NAMES.filter(lambda name: not name.lower().startswith("sqs-"))  # who writes Sqs-Attr-x means x
NATIVE = st.builds(
    JetStreamMessage,
    subject=st.just("orders.x"),
    payload=st.binary(max_size=60) | any_.TEXT.map(str.encode) | st.just(b"{}") | st.just(b""),
    stream=st.just("ORDERS"),
    sequence=st.integers(1, 2**63),
    timestamp=st.just(1700000000.0),
    headers=st.lists(st.tuples(OWN, (WIRE | BYTES).map(lambda value: value.strip(" \t"))), max_size=14).map(tuple),
)


@given(NATIVE)
def test_a_jetstream_message_comes_back_with_its_bytes_and_all_its_own_headers(message: JetStreamMessage) -> None:
    again = forward(back(message), sqs_to_nats(SubjectTemplate.parse("orders")))
    assert again.payload == message.payload
    assert own(again.headers) == own(message.headers)


@given(NATIVE)
def test_what_nats_gives_a_meaning_is_reported_but_never_acted_on_again(message: JetStreamMessage) -> None:
    again = forward(back(message))
    kept = json.loads(again.header("Bridge-Origin") or "{}")
    assert (kept["subject"], kept["stream"], kept["seq"]) == (message.subject, message.stream, message.sequence)
    noted = [tuple(pair) for pair in kept.get("headers", [])]
    for name, value in message.headers:
        if name.lower().startswith("nats-"):
            assert (name, value) in noted
    live = [name for name, _ in again.headers if name.lower().startswith("nats-")]
    assert live == ["Nats-Msg-Id"]


@given(NATIVE)
def test_an_envelope_holds_everything_too(message: JetStreamMessage) -> None:
    wrapped = back(message, WRAPPED)
    assert wrapped.attributes == {}
    envelope = json.loads(wrapped.body)
    for name in ("Type", "MessageId", "TopicArn", "Message", "Timestamp", "SignatureVersion", "Signature"):
        assert isinstance(envelope[name], str)
    again = forward(wrapped)
    assert again.payload == message.payload
    assert own(again.headers) == own(message.headers)


@given(any_.sqs_messages())
def test_an_sns_message_unwrapped_and_wrapped_again_reads_the_same(message: SqsMessage) -> None:
    fields = {"Type": "Notification", "MessageId": "mid", "TopicArn": "arn:aws:sns:eu-west-1:123456789012:t"}
    fields |= {"Subject": "Überfällig ", "Message": message.body, "Timestamp": "2026-01-01T00:00:00.000Z"}
    fields |= {"SignatureVersion": "1", "Signature": "s", "SigningCertURL": "u"}
    arrived = SqsMessage(message.message_id, json.dumps(fields), "orders", QUEUE, {}, message.system)
    unwrapped = forward(arrived)
    legacy = json.loads(back(unwrapped, WRAPPED).body)
    for name in ("Type", "MessageId", "TopicArn", "Subject", "Message", "Timestamp"):
        assert legacy[name] == fields[name]
    found = notification_of(back(unwrapped, WRAPPED))
    assert found is not None
    assert found.message == message.body


SIZES = st.lists(st.integers(1, 120_000), min_size=1, max_size=10)


@given(SIZES, st.sampled_from(["String", "Binary"]))
def test_attributes_of_any_size_fit_and_come_back(sizes: list[int], kind: str) -> None:
    attributes = {
        f"a{n}": Attribute(kind, b"\xff" * size if kind == "Binary" else "ä" * (size // 2 + 1))
        for n, size in enumerate(sizes)
    }
    message = SqsMessage("id", "body ☃", "orders", QUEUE, attributes, {"SentTimestamp": "1"})
    out = out_of(FORWARD, message)
    assert isinstance(out, JetStreamOut)
    assert jetstream_bytes(out)[0] < 65_535
    assert (MARK in out.headers) == (out.payload != message.body.encode())
    returned = back(forward(message))
    assert returned.body == message.body
    packed = read(returned.attributes)
    over = dict(packed.attributes or {}) if packed else {}
    assert {**over, **{k: v for k, v in returned.attributes.items() if k != MESSAGE}} == attributes


HEADERS = st.dictionaries(st.text("aB-%s~", min_size=1, max_size=6), st.text("%s(d)ä ", max_size=8), max_size=5)


@given(headers=HEADERS, more=HEADERS, repeated=st.sampled_from([(), (("r", "1"), ("r", "2"))]))
def test_a_block_out_of_a_frame_is_the_block_line_by_line(
    headers: dict[str, str], more: dict[str, str], repeated: tuple[tuple[str, str], ...]
) -> None:
    out = JetStreamOut("s", b"", "an id", headers, repeated)
    assert publish_block(out, [*more.items()]) == header_block([*header_pairs(out), *more.items()])


def test_the_smallest_attributes_stay_headers() -> None:
    attributes = {"large": Attribute("String", "x" * ROOM), "eventType": Attribute("String", "paid")}
    again = forward(SqsMessage("id", "b", "orders", QUEUE, attributes))
    assert again.header("eventType") == "paid"
    assert again.header("large") is None
    assert unfitted(again.payload) == (b"b", {"large": attributes["large"]})


@given(any_.JETSTREAM, st.dictionaries(any_.NAMES, any_.ATTRIBUTES, max_size=3), st.lists(st.text(), max_size=3))
def test_a_note_is_read_as_it_was_written(
    message: JetStreamMessage, attributes: dict[str, Attribute], via: list[str]
) -> None:
    of = "0123456789abcdef" if via else ""
    note = Note(message.subject, message.stream, message.sequence, tuple(via), message.headers, attributes, of)
    # A place is one word: whatever else is told as one is no place.
    words = tuple(each for each in via if place(each))
    assert read({MESSAGE: note.attribute()}) == note._replace(via=words)


@given(st.dictionaries(any_.NAMES | st.sampled_from([MESSAGE, ENCODING]), any_.ATTRIBUTES, max_size=4), any_.TEXT)
def test_a_forged_note_is_an_attribute_like_any_other(attributes: dict[str, Attribute], body: str) -> None:
    again = forward(SqsMessage("id", body, "orders", QUEUE, attributes))
    assert not [
        name
        for name, _ in again.headers
        if name.lower().startswith("nats-") and name not in ("Nats-Msg-Id", MESSAGE, ENCODING)
    ]
    if read(attributes) is None and MESSAGE in attributes:
        restored = back(again)
        note = read(restored.attributes)
        assert note is not None
        assert any(name == MESSAGE for name, _ in note.headers)


@pytest.mark.parametrize(
    "pair", [("Nats-TTL", "1"), ("Status", "404"), ("a b", "x"), ("a", "x\r\nNats-Rollup: all"), ("a", "\ud800")]
)
def test_a_note_cannot_smuggle_a_header(pair: tuple[str, str]) -> None:
    assert not carriable(*pair)
    note = Note("s", "S", 1, (), (pair, ("fine", "x")))
    again = forward(SqsMessage("id", "b", "orders", QUEUE, {MESSAGE: note.attribute()}))
    assert again.header("fine") == "x"
    assert again.header(pair[0]) is None
    assert again.header("Nats-Rollup") is None


# -- parked and taken up again


@given(any_.sqs_messages() | NATIVE, st.integers(1, 1000), st.booleans())
def test_a_parked_message_is_the_original_when_it_is_taken_up_again(
    message: SqsMessage | JetStreamMessage, attempt: int, fifo: bool
) -> None:
    if isinstance(message, JetStreamMessage):
        message = message._replace(delivered=attempt)
    delivery = Delivery(message, "an id", attempt, 0.0, 0.0)
    reason = Failed("it did not work")
    expected = Parked(message, "an id", "r", "it did not work", attempt)
    out = park_to_jetstream(route="r", source="s", subject="parked.r")(delivery, reason)
    assert isinstance(out, JetStreamOut)
    pairs = Headers.parse(publish_block(out)).pairs
    assert parked_in_jetstream(JetStreamMessage(out.subject, out.payload, "P", 1, 0.0, 1, pairs)) == expected
    sent = park_to_sqs(route="r", source="s", fifo=fifo)(delivery, reason)
    assert isinstance(sent, SqsOut)
    assert parked_in_sqs(SqsMessage("id", sent.body, "p", "arn:p", sent.attributes)) == expected


def test_what_someone_else_put_into_the_parking_place_is_left_alone() -> None:
    assert parked_in_jetstream(JetStreamMessage("parked.r", b"x", "P", 1, 0.0)) is None
    assert parked_in_sqs(SqsMessage("id", "x", "p", "arn:p", {"bridge.parked": Attribute("String", "[]")})) is None


# -- where it has been


def test_what_came_from_the_destination_is_not_carried_back() -> None:
    home = Passage("back", STREAM, frozenset([QUEUE]))
    carried = forward(SqsMessage("id", "b", "orders", QUEUE))
    assert nats_to_sqs(fifo=False, passage=home)(carried) == Skip("echo")
    assert nats_to_sns(fifo=False, passage=home)(carried) == Skip("echo")
    refill = Passage("refill", STREAM, frozenset([QUEUE]), skip_echo=False)
    assert not isinstance(nats_to_sqs(fifo=False, passage=refill)(carried), Skip)


def test_a_message_of_jetstreams_own_does_not_come_home_either() -> None:
    there = nats_to_sqs(fifo=False, passage=Passage("out", STREAM))
    assert FORWARD(back(JetStreamMessage("orders.x", b"x", "ORDERS", 1, 0.0), there)) == Skip("echo")


def test_what_a_service_derives_from_a_message_has_been_nowhere() -> None:
    home = Passage("back", STREAM, frozenset([QUEUE]))
    carried = forward(SqsMessage("id", "b", "orders", QUEUE))
    copied = tuple((name, "own" if name == "Nats-Msg-Id" else value) for name, value in carried.headers)
    bare = tuple(pair for pair in carried.headers if pair[0] != "Nats-Msg-Id")
    for headers in (copied, bare):  # a producer that copies headers to its own message
        assert not isinstance(nats_to_sqs(fifo=False, passage=home)(carried._replace(headers=headers)), Skip)
    fired = (*bare, ("Nats-Scheduler", f"orders.waiting.{encode_token('sqs:id')}"))
    assert nats_to_sqs(fifo=False, passage=home)(carried._replace(headers=fired)) == Skip("echo")
    other = (*bare, ("Nats-Scheduler", f"orders.waiting.{encode_token('sqs:other')}"))
    assert not isinstance(nats_to_sqs(fifo=False, passage=home)(carried._replace(headers=other)), Skip)
    there = nats_to_sqs(fifo=False, passage=Passage("out", STREAM))
    sent = back(JetStreamMessage("orders.x", b"x", "ORDERS", 1, 0.0), there)
    assert FORWARD(sent) == Skip("echo")
    assert not isinstance(FORWARD(sent._replace(body="a reply")), Skip)


def test_a_topic_a_message_came_by_is_a_place_it_has_been_to() -> None:
    topic = "arn:aws:sns:eu-west-1:123456789012:orders"
    wrapped = back(JetStreamMessage("orders.x", b"x", "OTHER", 1, 0.0), WRAPPED)
    fields = {**json.loads(wrapped.body), "TopicArn": topic, "MessageAttributes": {}}
    carried = forward(SqsMessage("id", json.dumps(fields), "orders", QUEUE))
    assert nats_to_sns(fifo=False, passage=Passage("back", STREAM, frozenset([topic])))(carried) == Skip("echo")


def test_a_long_way_round_ends_with_a_reason() -> None:
    headers = (("Nats-Msg-Id", "m"), ("Bridge-Via", " ".join(["m", *(f"p{n}" for n in range(HOPS))])))
    message = JetStreamMessage("s", b"x", "S", 1, 0.0, 1, headers)
    with pytest.raises(Unmappable, match="9 places"):
        BACK(message)


# -- what a route leaves out


def test_a_filter_sees_attributes_and_bodies_as_they_were() -> None:
    paid = FilterPolicy.parse({"eventType": ["paid"]})
    card = FilterPolicy.parse({"kind": ["card"]}, "MessageBody")
    template = SubjectTemplate.parse("orders")
    message = SqsMessage("id", '{"kind": "card"}', "q", QUEUE, {"eventType": Attribute("String", "held")})
    assert sqs_to_nats(template, policy=paid)(message) == Skip("filtered")
    assert not isinstance(sqs_to_nats(template, policy=card)(message), Skip)
    carried = forward(message)
    assert nats_to_sqs(fifo=False, policy=paid)(carried) == Skip("filtered")
    assert not isinstance(nats_to_sqs(fifo=False, policy=card)(carried), Skip)


@pytest.mark.parametrize("fifo", [True, False])
def test_what_a_filter_leaves_out_can_be_parked_and_keeps_its_lane(fifo: bool) -> None:
    paid = FilterPolicy.parse({"eventType": ["paid"]})
    template = SubjectTemplate.parse("orders")
    message = SqsMessage("id", "x", "q", QUEUE, {"eventType": Attribute("String", "held")}, {"MessageGroupId": "g"})
    carried = forward(message)
    ways = (
        (sqs_to_nats(template, policy=paid, park_filtered=True, fifo=fifo), message),
        (nats_to_sqs(fifo=fifo, policy=paid, park_filtered=True), carried),
        (nats_to_sns(fifo=fifo, policy=paid, park_filtered=True), carried),
    )
    for mapping, each in ways:
        with pytest.raises(Unmappable) as raised:
            mapping(each)
        assert str(raised.value) == "filter: left out by the route's filter"
        assert raised.value.lane == ("g" if fifo else None)


def test_an_echo_is_skipped_and_not_parked_as_filtered() -> None:
    paid = FilterPolicy.parse({"eventType": ["paid"]})
    home = Passage("back", STREAM, frozenset([QUEUE]))
    carried = forward(SqsMessage("id", "b", "orders", QUEUE))
    for to_aws in (nats_to_sqs, nats_to_sns):
        assert to_aws(fifo=False, passage=home, policy=paid, park_filtered=True)(carried) == Skip("echo")
    there = nats_to_sqs(fifo=False, passage=Passage("out", STREAM))
    sent = back(JetStreamMessage("orders.x", b"x", "ORDERS", 1, 0.0), there)
    template = SubjectTemplate.parse("orders.x")
    over = sqs_to_nats(template, passage=Passage("in", QUEUE, frozenset([STREAM])), policy=paid, park_filtered=True)
    assert over(sent) == Skip("echo")


# -- delays and lives


@pytest.mark.parametrize("asked", ["901", "-1", "1.5", "x", "", "²"])
def test_a_delay_sqs_has_not_is_reported(asked: str) -> None:
    message = JetStreamMessage("s", b"x", "S", 1, 1000.0, 1, (("Sqs-Delay-Seconds", asked),))
    with pytest.raises(Unmappable, match="Sqs-Delay-Seconds"):
        BACK(message)


def test_a_delay_counts_from_the_moment_the_stream_stored_it() -> None:
    message = JetStreamMessage("s", b"x", "S", 1, 1000.0, 1, (("Sqs-Delay-Seconds", "60"),))
    out = out_of(BACK, message)
    assert isinstance(out, SqsOut)
    assert out.due_at == 1060.0
    with pytest.raises(Unmappable, match="FIFO") as raised:
        nats_to_sqs(fifo=True)(message)
    assert raised.value.lane == "s"


def test_a_life_counts_from_the_moment_it_was_sent() -> None:
    message = SqsMessage("id", "b", "q", QUEUE, {}, {"SentTimestamp": "5000"})
    out = out_of(sqs_to_nats(SubjectTemplate.parse("orders"), life=60.0), message)
    assert isinstance(out, JetStreamOut)
    assert out.expires_at == 65.0


def test_a_life_that_changes_counts_for_the_next_message() -> None:
    lives = [60.0, 90.0]
    mapping = sqs_to_nats(SubjectTemplate.parse("orders"), life=lambda: lives[0])
    message = SqsMessage("id", "b", "q", QUEUE, {}, {"SentTimestamp": "5000"})
    assert [out_of(mapping, message).expires_at, lives.pop(0)] == [65.0, 60.0]  # type: ignore[union-attr]
    assert out_of(mapping, message).expires_at == 95.0  # type: ignore[union-attr]
