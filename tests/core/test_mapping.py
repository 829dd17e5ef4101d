"""The round trip, and what may never happen on the way: the wire format's laws (docs/wire-format.md)."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.core.errors import Failed, Unmappable
from bridge.core.mapping.headers import from_headers, header_safe, reserved, sendable, to_headers, unpacked, xml_text
from bridge.core.mapping.nats_to_sqs import nats_to_sns, nats_to_sqs
from bridge.core.mapping.note import ATTRIBUTES
from bridge.core.mapping.parked import park_to_jetstream, park_to_sqs
from bridge.core.mapping.sizes import header_bytes, jetstream_bytes, sns_bytes, sqs_bytes
from bridge.core.mapping.sqs_to_nats import sqs_to_nats
from bridge.core.mapping.subject import SubjectTemplate
from bridge.core.models import Attribute, JetStreamMessage, JetStreamOut, SnsOut, SqsMessage, SqsOut
from bridge.core.route import Delivery
from tests.core import strategies as any_

FORWARD = sqs_to_nats(SubjectTemplate.parse("orders.{group|none}"), fifo=True)
BACK = nats_to_sqs(fifo=False)
BACK_FIFO = nats_to_sqs(fifo=True)


def forward(message: SqsMessage) -> JetStreamOut:
    out = any_.carried(FORWARD(message)).out
    assert isinstance(out, JetStreamOut)
    return out


def back(message: JetStreamMessage) -> SqsOut:
    out = any_.carried(BACK(message)).out
    assert isinstance(out, SqsOut)
    return out


def note(out: SqsOut) -> dict[str, object]:
    value = out.attributes["nats.message"].value
    assert isinstance(value, str)
    document: dict[str, object] = json.loads(value)
    return document


@given(any_.sqs_messages(most=9))
def test_there_and_back_is_identity(message: SqsMessage) -> None:
    out = back(any_.delivered(forward(message)))
    ours = {"nats.message", "nats.encoding"}
    assert out.body == message.body
    assert {k: v for k, v in out.attributes.items() if k not in ours} == {
        k: v for k, v in message.attributes.items() if k not in ours
    }


@given(any_.sqs_messages(most=10))
def test_ten_attributes_and_their_types_survive_even_when_they_must_be_packed(message: SqsMessage) -> None:
    out = back(any_.delivered(forward(message)))
    found = dict(out.attributes)
    if "nats.message" in found and "attributes" in (noted := note(out)):
        found |= unpacked(noted["attributes"])
    for name, attribute in message.attributes.items():
        if name not in ("nats.message", "nats.encoding"):
            assert found[name] == attribute
    assert len(out.attributes) <= ATTRIBUTES


@given(any_.sqs_messages())
def test_no_foreign_name_becomes_a_header_that_nats_acts_on(message: SqsMessage) -> None:
    for name in forward(message).headers:
        assert not name.lower().startswith("nats-")
        assert name.lower() not in ("status", "description")


@given(any_.sqs_messages())
def test_no_two_headers_differ_only_in_case_but_under_our_own_prefix(message: SqsMessage) -> None:
    plain = [name.lower() for name in forward(message).headers if not name.startswith("Sqs-")]
    assert len(plain) == len(set(plain))


@given(any_.sqs_messages())
def test_the_same_message_gives_the_same_bytes(message: SqsMessage) -> None:
    assert FORWARD(message) == FORWARD(message)
    again = forward(
        SqsMessage(
            message.message_id,
            message.body,
            message.queue,
            message.queue_arn,
            message.attributes,
            {**message.system, "ApproximateReceiveCount": "9"},
        )
    )
    first = forward(message)
    assert (again.subject, again.payload, again.msg_id) == (first.subject, first.payload, first.msg_id)


@given(any_.sqs_messages())
def test_headers_arrive_as_they_were_written(message: SqsMessage) -> None:
    headers = dict(forward(message).headers)
    assert dict(any_.as_sent(headers)) == headers


@given(any_.sqs_messages())
def test_plain_values_stay_readable(message: SqsMessage) -> None:
    headers = forward(message).headers
    for name, attribute in message.attributes.items():
        alone = sum(other.lower() == name.lower() for other in message.attributes) == 1
        if isinstance(attribute.value, str) and header_safe(attribute.value) and not reserved(name) and alone:
            assert headers[name] == attribute.value


@given(any_.sqs_messages())
def test_sizes_are_what_goes_over_the_wire(message: SqsMessage) -> None:
    out = forward(message)
    wire = {**out.headers, "Nats-Msg-Id": out.msg_id}
    block = b"NATS/1.0\r\n" + b"".join(f"{k}: {v}\r\n".encode() for k, v in wire.items()) + b"\r\n"
    assert jetstream_bytes(out) == (len(block), len(block) + len(out.payload))
    assert header_bytes(wire) == len(block)


def test_the_group_is_the_lane_of_a_fifo_queue_only() -> None:
    message = SqsMessage("id", "b", "q", "arn:q", {}, {"MessageGroupId": "g"})
    template = SubjectTemplate.parse("orders")
    assert any_.carried(sqs_to_nats(template, fifo=True)(message)).lane == "g"
    assert any_.carried(sqs_to_nats(template, fifo=False)(message)).lane is None


def test_half_a_surrogate_pair_cannot_be_carried_and_says_so() -> None:
    with pytest.raises(Unmappable, match="body"):
        FORWARD(SqsMessage("id", "\ud800", "q", "arn:q"))


# -- JetStream to SQS and SNS


@given(any_.JETSTREAM)
@example(JetStreamMessage("s", b"", "S", 1, 0.0))
@example(JetStreamMessage("s", b"\xff\x00", "S", 1, 0.0))
@example(JetStreamMessage("s", "\ufffe".encode(), "S", 1, 0.0))
def test_any_payload_comes_back_from_what_sqs_was_given(message: JetStreamMessage) -> None:
    out = back(message)
    assert out.body
    assert xml_text(out.body)
    marker = out.attributes.get("nats.encoding", Attribute("String", "text")).value
    read = {"text": out.body.encode(), "empty": b""}
    payload = base64.b64decode(out.body) if marker == "base64" else read[str(marker)]
    assert payload == message.payload


@given(any_.JETSTREAM)
def test_every_header_is_an_attribute_or_noted(message: JetStreamMessage) -> None:
    out = back(message)
    assert len(out.attributes) <= ATTRIBUTES
    assert all(sendable(name, attribute) for name, attribute in out.attributes.items())
    noted = note(out) if "nats.message" in out.attributes else {}
    over = unpacked(noted.get("attributes", {}))
    kept = [tuple(pair) for pair in noted.get("headers", [])]  # type: ignore[attr-defined]
    restored, rest = from_headers(message.headers)
    for pair in rest:
        assert pair in kept or ("nats.message" not in out.attributes and reserved(pair[0]))
    for name, attribute in restored.items():
        if name in ("nats.message", "nats.encoding"):
            assert (name, attribute.value) in kept
        else:
            assert attribute in (out.attributes.get(name), over.get(name))


@given(any_.JETSTREAM)
def test_a_fifo_id_is_always_legal_and_shows_messages_apart(message: JetStreamMessage) -> None:
    mapped = any_.carried(BACK_FIFO(message))
    assert isinstance(mapped.out, SqsOut)
    for identity in (mapped.out.group, mapped.out.dedup_id):
        assert identity
        assert len(identity) <= 128
        assert all("!" <= character <= "~" for character in identity)
    assert mapped.lane == mapped.out.group
    other = any_.carried(
        BACK_FIFO(JetStreamMessage(message.subject, b"", message.stream, message.sequence + 1, 0.0))
    ).out
    assert isinstance(other, SqsOut)
    assert other.dedup_id != mapped.out.dedup_id


def test_a_header_of_several_values_is_noted_whole() -> None:
    message = JetStreamMessage("s", b"x", "S", 1, 0.0, 1, (("A", "1"), ("A", "2"), ("B", "3")))
    out = back(message)
    assert out.attributes["B"] == Attribute("String", "3")
    assert note(out)["headers"] == [["A", "1"], ["A", "2"]]


def test_a_native_producers_own_headers_are_attributes() -> None:
    message = JetStreamMessage("pay.x", b"x", "S", 1, 0.0, 1, (("currency", "EUR"), ("Nats-Msg-Id", "77")))
    out = back(message)
    assert out.attributes["currency"] == Attribute("String", "EUR")
    assert note(out) == {"subject": "pay.x", "stream": "S", "seq": 1, "headers": [["Nats-Msg-Id", "77"]]}


def test_a_type_that_does_not_fit_its_value_is_noted_and_not_guessed() -> None:
    message = JetStreamMessage("s", b"x", "S", 1, 0.0, 1, (("a", "no base64!"), ("Sqs-Type-a", "Binary")))
    out = back(message)
    assert "a" not in out.attributes
    assert note(out)["headers"] == [["a", "no base64!"], ["Sqs-Type-a", "Binary"]]


def test_the_sns_subject_is_restored() -> None:
    for subject in ("Plain", "Umlaut ä "):
        headers = {"Sns-Subject": subject} if header_safe(subject) else {}
        if not headers:
            headers = {"Sns-Subject": base64.b64encode(subject.encode()).decode(), "Sns-Subject-Encoding": "base64"}
        subject_of = nats_to_sns(fifo=False)(JetStreamMessage("s", b"x", "S", 1, 0.0, 1, tuple(headers.items())))
        out = any_.carried(subject_of).out
        assert isinstance(out, SnsOut)
        assert out.subject == subject


def test_the_trace_header_goes_back_to_its_place() -> None:
    headers = (("X-Amzn-Trace-Id", "Root=1-5759e988-bd862e3fe1be46a994272793"),)
    assert back(JetStreamMessage("s", b"x", "S", 1, 0.0, 1, headers)).trace_header == headers[0][1]


# -- parked messages

REASON = Failed("it did\nnot work ☃")


def lent(message: SqsMessage | JetStreamMessage) -> Delivery:
    return Delivery(message, "id ☃", 3, 0.0, 0.0)


@given(st.one_of(any_.sqs_messages(), any_.JETSTREAM))
def test_a_parked_message_in_jetstream_has_its_bytes_and_everything_known(
    message: SqsMessage | JetStreamMessage,
) -> None:
    out = park_to_jetstream(route="r", source="s", subject="parked.r")(lent(message), REASON)
    assert isinstance(out, JetStreamOut)
    original = message.body.encode() if isinstance(message, SqsMessage) else message.payload
    assert out.payload == original
    headers = dict(any_.as_sent(dict(out.headers)))
    assert headers == dict(out.headers)
    meta = json.loads(headers["Bridge-Parked-Meta"])
    if isinstance(message, SqsMessage):
        assert unpacked(meta["attributes"]) == dict(message.attributes)
    else:
        assert [tuple(pair) for pair in meta["headers"]] == list(message.headers)
    assert headers["Bridge-Parked-Reason"] == "it did not work \\u2603"


@given(st.one_of(any_.sqs_messages(), any_.JETSTREAM), st.booleans())
def test_a_parked_message_in_sqs_has_its_bytes_and_everything_known(
    message: SqsMessage | JetStreamMessage, fifo: bool
) -> None:
    out = park_to_sqs(route="r", source="s", fifo=fifo)(lent(message), REASON)
    assert isinstance(out, SqsOut)
    assert len(out.attributes) <= ATTRIBUTES
    value = out.attributes["bridge.parked"].value
    assert isinstance(value, str)
    meta = json.loads(value)["meta"]
    if isinstance(message, SqsMessage):
        found = {**unpacked(meta["attributes"]), **{k: v for k, v in out.attributes.items() if k in message.attributes}}
        for name, attribute in message.attributes.items():
            if name not in ("nats.encoding", "bridge.parked"):
                assert found[name] == attribute
    assert (out.group is not None) == fifo


def test_what_does_not_fit_the_headers_is_parked_as_one_document() -> None:
    message = SqsMessage("id", "body", "q", "arn:q", {f"a{n}": Attribute("String", "x" * 20_000) for n in range(5)})
    out = park_to_jetstream(route="r", source="s", subject="parked.r")(lent(message), REASON)
    assert isinstance(out, JetStreamOut)
    assert out.headers["Bridge-Parked-Format"] == "json"
    assert jetstream_bytes(out)[0] < 65_535
    document = json.loads(out.payload)
    assert base64.b64decode(document["body"]) == b"body"
    assert unpacked(document["meta"]["attributes"]) == message.attributes


def test_half_a_surrogate_pair_is_parked_and_can_be_distinguished() -> None:
    message = SqsMessage("id", "a\ud800b", "q", "arn:q", {"k": Attribute("String", "\udfff")})
    to_nats = park_to_jetstream(route="r", source="s", subject="parked.r")(lent(message), REASON)
    assert isinstance(to_nats, JetStreamOut)
    assert to_nats.payload.decode("utf-8", "surrogatepass") == message.body
    to_sqs = park_to_sqs(route="r", source="s", fifo=False)(lent(message), REASON)
    assert isinstance(to_sqs, SqsOut)
    assert base64.b64decode(to_sqs.body).decode("utf-8", "surrogatepass") == message.body


@given(st.dictionaries(st.text(min_size=1, max_size=20), any_.ATTRIBUTES, max_size=8))
def test_names_that_are_no_header_names_are_packed_and_come_back(attributes: dict[str, Attribute]) -> None:
    """SNS and the emulators are laxer about names than SQS."""
    restored, rest = from_headers(any_.as_sent(to_headers(attributes)))
    noted = dict(rest)
    for name, attribute in attributes.items():
        if sendable(name, attribute):
            assert restored.get(name) == attribute
        else:
            assert restored.get(name) == attribute or noted


def test_sizes_count_as_sqs_and_sns_do() -> None:
    attributes = {"ä": Attribute("String", "ö"), "b": Attribute("Binary", b"\x00\x01")}
    assert sqs_bytes(SqsOut("é", attributes)) == 2 + (2 + 6 + 2) + (1 + 6 + 2)
    assert sns_bytes(SnsOut("é", attributes)) == 2 + (2 + 6 + 2) + (1 + 6 + 2)
