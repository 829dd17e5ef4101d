"""The gate: whatever stands in a message, what is sent has the headers and attributes that were meant, and no more."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bridge
from bridge.core.errors import Refused, Unmappable
from bridge.core.mapping.headers import strict_json, takes
from bridge.core.mapping.nats_to_sqs import nats_to_sns, nats_to_sqs
from bridge.core.mapping.note import MESSAGE, Note, read
from bridge.core.mapping.packing import MOST, ROOM, unfitted
from bridge.core.mapping.provenance import Passage
from bridge.core.mapping.sizes import header_block, header_pairs, jetstream_bytes, publish_block
from bridge.core.mapping.sqs_to_nats import sqs_to_nats
from bridge.core.mapping.subject import GroupTemplate, SubjectTemplate, legal_subject
from bridge.core.models import Attribute, JetStreamMessage, JetStreamOut, SnsOut, SqsMessage, SqsOut
from bridge.legs.wire import header_pairs_of
from tests.core import hostile
from tests.core.hostile import QUEUE, STREAM, TEXT, TOPIC, envelope, mapped, stored

IN = Passage("in", QUEUE, frozenset([STREAM]))
BACK = Passage("back", STREAM, frozenset([QUEUE]), skip_echo=False)
few = settings(max_examples=25)  # a target of its own tries a million
SHORT = TEXT.filter(lambda text: len(text) < 2_000)
TEMPLATE = SubjectTemplate.parse("orders.{attributes.a|none}.{group|none}.{topic|none}.{body.a|none}")


@pytest.mark.parametrize("verify", [False, True])
@few
@given(message=hostile.sqs_messages())
def test_a_header_block_has_the_headers_that_were_meant_and_no_others(verify: bool, message: SqsMessage) -> None:
    found = mapped(sqs_to_nats(TEMPLATE, passage=IN, life=60.0, verify=verify), message)
    if found is None:
        return
    out = found.out
    assert isinstance(out, JetStreamOut)
    block = publish_block(out, [("Nats-TTL", "5")])
    assert list(header_pairs_of(block)) == [*header_pairs(out), ("Nats-TTL", "5")]
    assert block.count(b"\n") == block.count(b"\r") == len(header_pairs(out)) + 3
    names = [name.lower() for name, _ in header_pairs(out)]
    assert [name for name in names if name.startswith("nats-") and name not in (MESSAGE, "nats.encoding")] == [
        "nats-msg-id"
    ]
    assert not {"status", "description"} & set(names)
    assert legal_subject(out.subject) is None
    assert re.fullmatch(r"(sqs|sns):(~[0-9a-f]{32}|[0-9A-Za-z_-]{1,128})(:[0-9]{1,20})?", out.msg_id)
    assert jetstream_bytes(out)[0] == len(publish_block(out)) < 65_535


@pytest.mark.parametrize("fifo", [False, True])
@pytest.mark.parametrize("envelope", [None, TOPIC])
@few
@given(message=hostile.jetstream_messages())
def test_sqs_takes_what_comes_out_of_a_stream(fifo: bool, envelope: str | None, message: JetStreamMessage) -> None:
    group = GroupTemplate.parse("{headers.a}") if len(message.headers) % 2 else None
    found = mapped(nats_to_sqs(fifo=fifo, envelope=envelope, passage=BACK, group=group), message)
    if found is not None:
        assert isinstance(found.out, SqsOut)
        assert hostile.refused(found.out, fifo=fifo) == ""
        if envelope is not None:
            assert json.loads(found.out.body)["Type"] == "Notification"


@pytest.mark.parametrize("fifo", [False, True])
@few
@given(message=hostile.jetstream_messages())
def test_sns_takes_what_comes_out_of_a_stream(fifo: bool, message: JetStreamMessage) -> None:
    found = mapped(nats_to_sns(fifo=fifo, passage=BACK), message)
    if found is not None:
        assert isinstance(found.out, SnsOut)
        assert hostile.refused(found.out, fifo=fifo) == ""


@few
@given(hostile.jetstream_messages())
def test_nothing_of_a_hostile_message_is_lost_on_its_way_back(message: JetStreamMessage) -> None:
    """Every header is an attribute again, or in the note, byte for byte; and the way in takes it all up again."""
    found = mapped(nats_to_sqs(fifo=False, passage=BACK), message)
    if found is None or found.canary is not None:
        return
    assert isinstance(found.out, SqsOut)
    arrived = SqsMessage("id", found.out.body, "orders", QUEUE, found.out.attributes, {})
    again = mapped(sqs_to_nats(SubjectTemplate.parse("orders"), envelope="never"), arrived)
    note = read(found.out.attributes)
    if again is None or note is None:
        assert again is None or "Bridge-Origin" not in dict(again.out.headers)  # type: ignore[union-attr]
        return
    assert isinstance(again.out, JetStreamOut)
    origin = json.loads(again.out.headers["Bridge-Origin"])
    kept = [tuple(pair) for pair in origin.get("headers", [])] + [*again.out.repeated]
    assert sorted(kept) == sorted(note.headers)
    if "Sqs-Packed" not in dict(message.headers) and "Sqs-Packed" not in again.out.headers:
        assert again.out.payload == message.payload


# -- the gate itself

BAD = st.sampled_from(["\r", "\n", "\0", "\ud800", "\udcff"])
GOOD = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=20)


@given(before=GOOD, bad=BAD, after=GOOD, where=st.sampled_from(["value", "id", "repeated", "more"]))
def test_what_could_end_a_line_is_refused_wherever_it_stands(before: str, bad: str, after: str, where: str) -> None:
    text = f"a-secret{before}{bad}{after}"
    value, msg_id = (text if where == "value" else "v"), (text if where == "id" else "id")
    repeated = (("r", "1"), ("r", text)) if where == "repeated" else ()
    out = JetStreamOut("s", b"", msg_id, {"a": "%s", "b": value}, repeated)
    with pytest.raises(Refused) as error:
        publish_block(out, [("Nats-TTL", text if where == "more" else "1")])
    assert "a-secret" not in str(error.value)


@pytest.mark.parametrize("name", ["", "a b", "a:", "a\r\nb", "ä", "\0", "Nats-Rollup", "nats-TTL", "NATS-Msg-Id"])
def test_a_message_has_no_header_nats_would_act_on_and_none_without_a_name(name: str) -> None:
    for out in (
        JetStreamOut("s", b"", "id", {name: "all"}),
        JetStreamOut("s", b"", "id", {}, ((name, "1"), (name, "2"))),
    ):
        with pytest.raises(Refused):
            publish_block(out)
    if not name.lower().startswith("nats-"):
        with pytest.raises(Refused):
            header_block([(name, "x")])


def test_header_blocks_are_written_in_one_place() -> None:
    package = Path(bridge.__file__).parent
    writers = [path.name for path in package.rglob("*.py") if re.search(r'f?"NATS/1\.0["\\]', path.read_text())]
    assert sorted(writers) == ["sizes.py", "wire.py"]  # the second one reads
    assert 'len("NATS/1.0")' in (package / "legs" / "wire.py").read_text()


def forward(message: SqsMessage, passage: Passage = IN, **more: bool) -> JetStreamOut:
    found = mapped(sqs_to_nats(SubjectTemplate.parse("orders"), passage=passage, **more), message)  # type: ignore[arg-type]
    assert found is not None
    assert isinstance(found.out, JetStreamOut)
    return found.out


@pytest.mark.parametrize("field", ["MessageId", "TopicArn", "Timestamp", "SequenceNumber"])
@pytest.mark.parametrize("odd", ["x\r\nNats-Rollup: all", "\ud800", "\0", " x", "a\tb", "ä\x85"])
def test_an_envelope_with_a_field_sns_does_not_write_is_parked_whole(field: str, odd: str) -> None:
    value = f"{TOPIC}{odd}" if field == "TopicArn" else odd
    with pytest.raises(Unmappable) as raised:
        sqs_to_nats(SubjectTemplate.parse("orders"), passage=IN)(envelope(**{field: value}))
    assert raised.value.field == field


@pytest.mark.parametrize("odd", ["x\r\nNats-Rollup: all", "\0", " x", "a\tb", "ä\x85"])
def test_an_odd_subject_of_an_envelope_is_carried_and_comes_back(odd: str) -> None:
    back = mapped(nats_to_sqs(fifo=False, passage=BACK, envelope=TOPIC), stored(forward(envelope(Subject=odd))))
    assert back is not None
    assert isinstance(back.out, SqsOut)
    assert json.loads(back.out.body)["Subject"] == odd


IDS = st.from_regex(r"[A-Za-z0-9_-]{1,100}", fullmatch=True)


@few
@given(IDS, IDS)
def test_two_messages_never_share_an_id_and_none_has_that_of_another_kind(one: str, other: str) -> None:
    first, second = forward(envelope(MessageId=one)).msg_id, forward(envelope(MessageId=other)).msg_id
    assert (first == second) == (one == other)
    assert first.count(":") == 1  # with a second one it would be the id of a returned message


@few
@given(SHORT, SHORT)
def test_two_messages_of_a_queue_never_share_an_id_whatever_it_is(one: str, other: str) -> None:
    first, second = (
        forward(SqsMessage(each, "body", "orders", QUEUE, {}, {"SentTimestamp": "1"})).msg_id for each in (one, other)
    )
    assert (first == second) == (one == other)
    assert first.count(":") == 1


def test_what_sns_does_not_sign_is_not_reported_as_genuine() -> None:
    with pytest.raises(Unmappable):
        sqs_to_nats(SubjectTemplate.parse("orders"), passage=IN, verify=True)(envelope(SequenceNumber="9"))
    assert forward(envelope(SequenceNumber="9")).headers["Sns-Sequence-Number"] == "9"


def test_an_odd_trace_header_is_reported_where_no_tracer_reads_it() -> None:
    message = SqsMessage("id", "b", "orders", QUEUE, {}, {"AWSTraceHeader": "Root=1\r\nNats-TTL: 1"})
    headers = forward(message).headers
    assert "X-Amzn-Trace-Id" not in headers
    assert headers["Sqs-Trace-Header-Encoding"] == "base64"
    good = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
    for trace, sent in ((good, good), (good[:39], None), (good + ";x=\x7f", None), ("Root=", None)):
        native = JetStreamMessage("s", b"x", "S", 1, 0.0, 1, (("X-Amzn-Trace-Id", trace),))
        found = mapped(nats_to_sqs(fifo=False), native)
        assert found is not None
        assert isinstance(found.out, SqsOut)
        assert found.out.trace_header == sent
        assert ("X-Amzn-Trace-Id", trace) in (read(found.out.attributes) or Note("", "", 0)).headers


def test_header_bytes_that_are_no_text_come_back_in_bridge_origin() -> None:
    native = JetStreamMessage("s", b"x", "S", 1, 0.0, 1, (("raw", "caf\udce9"), ("fine", "café")))
    found = mapped(nats_to_sqs(fifo=False), native)
    assert found is not None
    assert isinstance(found.out, SqsOut)
    out = forward(SqsMessage("id", found.out.body, "orders", QUEUE, found.out.attributes, {}))
    assert out.headers["fine"] == "café"
    assert "raw" not in out.headers
    ((name, value),) = json.loads(out.headers["Bridge-Origin"])["headers"]
    assert (name, value.encode("utf-8", "surrogateescape")) == ("raw", b"caf\xe9")


@pytest.mark.parametrize(
    "subject", ["a\x0bb", "a\x0c", "\x7f", "a\x85b", "a\u2028b", "a\udcffb", "ä" * 1_001, "a\x1bb"]
)
def test_a_subject_with_what_servers_and_clients_read_differently_is_none(subject: str) -> None:
    assert legal_subject(subject) is not None
    assert legal_subject("ä" * 1_000) is None


# -- documents


@pytest.mark.parametrize(
    "text",
    ['{"a":1,"a":2}', '{"a":NaN}', "[" * 200_000, '{"a":' * 100_000, "9" * 5_000, '[{"b":{"c":1,"c":1}}]', "", b"\xff"],
)
def test_a_document_that_cannot_be_read_without_loss_is_none_of_ours(text: str | bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of whatever kind
        strict_json(text)
    raw = text if isinstance(text, bytes) else text.encode()
    assert unfitted(b'{"body":"x","attributes":{"a":["String",' + raw + b"]}}") is None


@pytest.mark.parametrize(
    "more", [b',"x":1', b',"encoding":"utf-8"', b',"encoding":["base64"]', b',"encoding":"base64","x":1']
)
def test_a_packed_document_with_more_than_we_write_stays_the_payload(more: bytes) -> None:
    payload = b'{"body":"eA==","attributes":{}' + more + b"}"
    found = mapped(nats_to_sqs(fifo=False), JetStreamMessage("s", payload, "S", 1, 0.0, 1, (("Sqs-Packed", "1"),)))
    assert found is not None
    assert isinstance(found.out, SqsOut)
    assert found.out.body == payload.decode()


def test_a_packed_document_of_more_attributes_than_fit_a_message_stays_the_payload() -> None:
    def packed(count: int) -> bytes:
        return json.dumps({"body": "b", "attributes": {str(n): ["String", ""] for n in range(count)}}).encode()

    assert unfitted(packed(MOST)) is not None
    assert unfitted(packed(MOST + 1)) is None


def test_packed_attributes_that_sqs_does_not_take_are_in_the_note() -> None:
    attributes = {
        "ok": ["String", "x"],
        "half": ["String", "\ud800"],
        "AWS.x": ["String", "y"],
        "n": ["Number", "zwölf"],
    }
    payload = json.dumps({"body": "b", "attributes": attributes}).encode()
    found = mapped(nats_to_sqs(fifo=False), JetStreamMessage("s", payload, "S", 1, 0.0, 1, (("Sqs-Packed", "1"),)))
    assert found is not None
    assert isinstance(found.out, SqsOut)
    assert found.out.attributes.keys() == {"ok", MESSAGE}
    note = read(found.out.attributes)
    assert note is not None
    assert dict(note.attributes or {}) == {name: Attribute(*each) for name, each in attributes.items() if name != "ok"}


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        *[
            (each, True)
            for each in ("0", "-1", "+1.50", "1e5", ".5", "5.", "0" * 50, "9" * 38, "1" + "0" * 100, "1e125")
        ],
        *[
            (each, False)
            for each in ("", "x", "9" * 39, "1e127", "1e-200", "\u0661", "0x1", "1_0", "NaN", "--1", ".", "1e9999")
        ],
    ],
)
def test_a_number_is_one_sqs_reads(value: str, taken: bool) -> None:
    assert takes("Number.x", value) == taken


def test_tens_of_thousands_of_attributes_are_packed_without_comparing_each_with_all() -> None:
    """Counted in calls, for a clock proves nothing: the cost of each attribute is found once."""
    attributes = {f"a{n}": {"Type": "String", "Value": "x"} for n in range(20_000)}
    out = forward(envelope(MessageAttributes=attributes))
    assert "Sqs-Packed" in out.headers
    assert ROOM * 0.99 < len(publish_block(out)) < 65_535
    packed = unfitted(out.payload)
    assert packed is not None
    assert len(packed[1]) + sum(name.startswith("a") for name in out.headers) == 20_000
