"""The SNS envelope: recognised when it is one, left alone when it only looks like one."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.errors import Unmappable
from bridge.core.filtering import FilterPolicy
from bridge.core.mapping.envelope import OTHERS, headers_of, notification_of
from bridge.core.mapping.nats_to_sqs import nats_to_sqs
from bridge.core.mapping.sqs_to_nats import sqs_to_nats
from bridge.core.mapping.subject import SubjectTemplate
from bridge.core.models import Attribute, JetStreamMessage, JetStreamOut, SqsMessage, SqsOut
from tests.core.envelopes import AS_AWS_SENDS, FIFO, FIFO_WITH_ATTRIBUTES, LAMBDA, STANDARD, WITH_ATTRIBUTES
from tests.core.strategies import carried

ENVELOPE: dict[str, Any] = {
    "Type": "Notification",
    "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
    "TopicArn": "arn:aws:sns:eu-west-1:123456789012:payments",
    "Subject": "My First Message",
    "Message": "Hello ☃",
    "Timestamp": "2026-05-02T00:54:06.655Z",
    "SignatureVersion": "1",
    "Signature": "EXAMPLE",
    "SigningCertURL": "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-x.pem",
    "UnsubscribeURL": "https://sns.eu-west-1.amazonaws.com/?Action=Unsubscribe",
    "MessageAttributes": {
        "eventType": {"Type": "String", "Value": "paid"},
        "list": {"Type": "String.Array", "Value": '["a"]'},
        "bytes": {"Type": "Binary", "Value": "AP8="},
    },
}


def message(body: Any, **attributes: Attribute) -> SqsMessage:
    return SqsMessage("sqs-id", body if isinstance(body, str) else json.dumps(body), "q", "arn:q", attributes)


@pytest.mark.parametrize("indent", [None, 2])
def test_an_envelope_is_unwrapped(indent: int | None) -> None:
    found = notification_of(message(json.dumps(ENVELOPE, indent=indent)))
    assert found is not None
    assert (found.message, found.subject, found.topic) == ("Hello ☃", "My First Message", "payments")
    assert found.attributes == {
        "eventType": Attribute("String", "paid"),
        "list": Attribute("String.Array", '["a"]'),
        "bytes": Attribute("Binary", b"\x00\xff"),
    }


def test_it_becomes_headers_and_its_id_the_message_id() -> None:
    out = carried(sqs_to_nats(SubjectTemplate.parse("p.{attributes.eventType}"))(message(ENVELOPE))).out
    assert isinstance(out, JetStreamOut)
    assert (out.subject, out.payload, out.msg_id) == ("p.paid", "Hello ☃".encode(), f"sns:{ENVELOPE['MessageId']}")
    assert out.headers["Sns-Topic-Arn"] == ENVELOPE["TopicArn"]
    assert out.headers["Sns-Subject"] == "My First Message"
    assert out.headers["Sns-Timestamp"] == ENVELOPE["Timestamp"]
    assert out.headers["Sqs-Message-Id"] == "sqs-id"
    assert (out.headers["bytes"], out.headers["Sqs-Type-bytes"]) == ("AP8=", "Binary")


def test_never_leaves_it_alone() -> None:
    out = carried(sqs_to_nats(SubjectTemplate.parse("p"), envelope="never")(message(ENVELOPE))).out
    assert isinstance(out, JetStreamOut)
    assert json.loads(out.payload) == ENVELOPE
    assert out.msg_id == "sqs:sqs-id"


@pytest.mark.parametrize(
    "missing", ["MessageId", "TopicArn", "Message", "Timestamp", "Signature", "SigningCertURL", "Type"]
)
def test_what_lacks_a_part_is_an_ordinary_body(missing: str) -> None:
    assert notification_of(message({k: v for k, v in ENVELOPE.items() if k != missing})) is None


@pytest.mark.parametrize(
    "body",
    [
        "",
        "text",
        '"TopicArn"',
        "[1]",
        '{"TopicArn": "arn:x"',
        {"TopicArn": "arn:aws:sns:x"},
        {**ENVELOPE, "TopicArn": "x"},
    ],
)
def test_a_stray_body_is_not_taken_for_one(body: Any) -> None:
    assert notification_of(message(body)) is None


@pytest.mark.parametrize("kind", ["SubscriptionConfirmation", "UnsubscribeConfirmation"])
def test_a_confirmation_is_never_forwarded_and_says_how_to_confirm(kind: str) -> None:
    body = {**ENVELOPE, "Type": kind, "Token": "2336412f37", "SubscribeURL": "https://sns"}
    with pytest.raises(Unmappable, match="aws sns confirm-subscription") as raised:
        notification_of(message(body))
    assert "2336412f37" not in str(raised.value)


@pytest.mark.parametrize("attributes", [{"a": {"Type": "Binary", "Value": "no base64!"}}, {"a": {"Value": "x"}}, ["a"]])
def test_attributes_that_cannot_be_read_park_the_message(attributes: Any) -> None:
    with pytest.raises(Unmappable, match="MessageAttributes"):
        notification_of(message({**ENVELOPE, "MessageAttributes": attributes}))


def published(document: Any, template: str = "p", **settings: Any) -> JetStreamOut:
    beside = settings.pop("beside", {})
    out = carried(sqs_to_nats(SubjectTemplate.parse(template), **settings)(message(document, **beside))).out
    assert isinstance(out, JetStreamOut)
    return out


@pytest.mark.parametrize("name", AS_AWS_SENDS)
def test_an_envelope_as_aws_sends_it_is_unwrapped(name: str) -> None:
    document = AS_AWS_SENDS[name]
    out = published(document, "{topic}")
    assert out.payload == document["Message"].encode()
    assert out.msg_id == f"sns:{document['MessageId']}"
    assert out.headers["Sns-Topic-Arn"] == document["TopicArn"]
    assert out.headers["Sns-Timestamp"] == document["Timestamp"]
    assert out.headers.get("Sns-Subject") == document.get("Subject")
    assert out.headers.get("Sns-Sequence-Number") == document.get("SequenceNumber")
    assert out.headers["Sns-Unsubscribe-Url"] in (document.get("UnsubscribeURL"), document.get("UnsubscribeUrl"))
    assert OTHERS not in out.headers
    for key, each in document.get("MessageAttributes", {}).items():
        assert out.headers[key] == each["Value"]
        assert out.headers.get(f"Sqs-Type-{key}", "String") == each["Type"]


def test_a_filter_sees_the_attributes_of_a_fifo_topics_message() -> None:
    policy = FilterPolicy.parse({"eventType": ["booked"]})
    assert published(FIFO_WITH_ATTRIBUTES, policy=policy).payload == b'{"booking": 9}'


DEAD = {
    "ErrorCode": Attribute("String", "200"),
    "ErrorMessage": Attribute("String", "no permission"),
    "RequestID": Attribute("String", "f00"),
}


@pytest.mark.parametrize("document", [WITH_ATTRIBUTES, FIFO, LAMBDA], ids=["standard", "fifo", "lambda"])
def test_what_a_subscriptions_dead_letter_queue_has_beside_the_envelope_is_merged(document: dict[str, Any]) -> None:
    template = "{topic}.{attributes.eventType|none}"
    alone, dead = published(document, template), published(document, template, beside=DEAD)
    assert (dead.subject, dead.payload, dead.msg_id) == (alone.subject, alone.payload, alone.msg_id)
    assert dead.headers == {**alone.headers, **{name: each.value for name, each in DEAD.items()}}


def test_two_attributes_of_one_name_are_both_carried() -> None:
    inner = {
        "same": {"Type": "String", "Value": "s"},
        "ErrorCode": {"Type": "Number", "Value": "1"},
        "sqs.RequestID": {"Type": "String", "Value": "inner"},
        "RequestID": {"Type": "String", "Value": "r"},
    }
    found = notification_of(message({**STANDARD, "MessageAttributes": inner}, same=Attribute("String", "s"), **DEAD))
    assert found is not None
    assert found.attributes == {
        "same": Attribute("String", "s"),
        "ErrorCode": Attribute("Number", "1"),
        "sqs.RequestID": Attribute("String", "inner"),
        "RequestID": Attribute("String", "r"),
        "sqs.ErrorCode": DEAD["ErrorCode"],
        "ErrorMessage": DEAD["ErrorMessage"],
        "sqs.sqs.RequestID": DEAD["RequestID"],
    }


NAMES = st.sampled_from(["a", "b", "sqs.a", "sqs.sqs.a"])
VALUES = st.sampled_from(["1", "2"])


@given(st.dictionaries(NAMES, VALUES), st.dictionaries(NAMES, VALUES))
def test_merging_loses_and_clobbers_nothing(inner: dict[str, str], outer: dict[str, str]) -> None:
    written = {name: {"Type": "String", "Value": value} for name, value in inner.items()}
    beside = {name: Attribute("String", value) for name, value in outer.items()}
    found = notification_of(message({**STANDARD, "MessageAttributes": written}, **beside))
    assert found is not None
    assert {name: found.attributes[name].value for name in inner} == inner
    differing = [value for name, value in outer.items() if inner.get(name) != value]
    added = [each.value for name, each in found.attributes.items() if name not in inner]
    assert sorted(map(str, added)) == sorted(differing)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("null", ""),
        ("1.10", "1.10"),
        ("-0", "-0"),
        ("12345678901234567890.120", "12345678901234567890.120"),
        ("340282366920938463463374607431768211456", "340282366920938463463374607431768211456"),
        ("1e400", "1e400"),
        ("true", "true"),
        ('""', ""),
    ],
)
def test_a_value_that_is_no_text_is_taken_as_it_is_written(written: str, value: str) -> None:
    body = json.dumps({**STANDARD, "MessageAttributes": {"n": {"Type": "Number", "Value": 42}}}).replace("42", written)
    found = notification_of(message(body))
    assert found is not None
    assert found.attributes == {"n": Attribute("Number", value)}


@pytest.mark.parametrize(
    "change",
    [
        {"SignatureVersion": 1},
        {"SignatureVersion": "2"},
        {"UnsubscribeURL": None},
        {"Subject": None},
        {"MessageAttributes": None},
        {"MessageAttributes": {}},
        {"Signature": ""},
        {"SigningCertURL": "", "UnsubscribeURL": ""},
        {"SequenceNumber": None},
    ],
    ids=str,
)
def test_variants_of_an_envelope_are_recognised(change: dict[str, Any]) -> None:
    out = published({**STANDARD, **change})
    assert (out.msg_id, out.payload) == (f"sns:{STANDARD['MessageId']}", STANDARD["Message"].encode())
    assert "None" not in out.headers.values()


def test_what_a_fifo_envelope_may_lack() -> None:
    for name in ("SequenceNumber", "UnsubscribeURL"):
        assert notification_of(message({key: each for key, each in FIFO.items() if key != name})) is not None
    found = notification_of(message({**FIFO, "SequenceNumber": 10000000000000007000}))
    assert found is not None
    assert found.sequence_number == "10000000000000007000"


@pytest.mark.parametrize(
    "change",
    [
        {"Type": "notification"},
        {"Type": ["Notification"]},
        {"TopicArn": "arn:aws:sqs:eu-central-1:210987654321:ledger.fifo"},
        {"TopicArn": {"arn": "arn:aws:sns:eu-central-1:210987654321:ledger.fifo"}},
        {"TopicArn": FIFO["TopicArn"].removesuffix(".fifo")},
        {"Message": {"booking": 9}},
        {"Message": None},
        {"MessageId": 5},
        {"Timestamp": 1773480414001},
    ],
    ids=str,
)
def test_what_only_looks_like_an_envelope_stays_a_body(change: dict[str, Any]) -> None:
    document = {**FIFO, **change}
    out = published(document)
    assert (json.loads(out.payload), out.msg_id) == (document, "sqs:sqs-id")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("MessageId", "x\r\nNats-Rollup: all"),
        ("MessageId", "\ud800"),
        ("MessageId", ""),
        ("MessageId", "i" * 101),
        ("TopicArn", "arn:aws:sns:eu-central-1:210987654321:t\r\nNats-TTL: 1"),
        ("TopicArn", "arn:aws:sns:eu-central-1:210987654321:t\x1b]0;x"),
        ("Timestamp", "2026\r\nNats-Rollup: all"),
        ("Timestamp", "\udfff"),
        ("SequenceNumber", "1\nNats-Rollup: sub"),
        ("SequenceNumber", -1),
        ("SequenceNumber", [1]),
        ("SequenceNumber", True),
        ("SequenceNumber", "٣"),
    ],
)
def test_a_field_that_sns_never_writes_parks_the_message(field: str, value: object) -> None:
    document = {**WITH_ATTRIBUTES, field: value}
    policy = FilterPolicy.parse({"eventType": ["another"]})
    with pytest.raises(Unmappable) as raised:
        sqs_to_nats(SubjectTemplate.parse("p"), policy=policy)(message(document))
    assert raised.value.field == field
    assert "Nats-" not in str(raised.value)


@pytest.mark.parametrize(
    "attributes",
    [
        "text",
        [{"Type": "String", "Value": "x"}],
        {"a": None},
        {"a": {"Type": None, "Value": "x"}},
        {"a": {"Type": "String"}},
        {"a": {"Type": "String", "Value": ["x"]}},
        {"a": {"DataType": "String", "StringValue": "x"}},
        {"a": {"Type": "Binary", "Value": "é"}},
    ],
    ids=str,
)
def test_attributes_that_cannot_be_read_are_parked_and_never_filtered(attributes: Any) -> None:
    policy = FilterPolicy.parse({"eventType": ["paid"]})
    with pytest.raises(Unmappable, match="MessageAttributes"):
        sqs_to_nats(SubjectTemplate.parse("p"), policy=policy)(message({**FIFO, "MessageAttributes": attributes}))


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(
        ["\ud800", "x\r\ny", "\0", "1", "arn:aws:sns:eu-west-1:1:t.fifo", "Notification", "10000000000000007000"]
    )
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["Type", "Value", "x"]), inner, max_size=2)
    ),
    max_leaves=4,
)
FIELDS = st.sampled_from([*WITH_ATTRIBUTES, "SequenceNumber", "Subject", "SigningCertUrl", "UnsubscribeUrl", "more"])


@given(st.sampled_from(list(AS_AWS_SENDS.values())), st.dictionaries(FIELDS, ANYTHING, max_size=3))
def test_whatever_a_field_holds_there_is_an_answer_and_no_header_breaks(
    document: dict[str, Any], changes: dict[str, Any]
) -> None:
    body = json.dumps({**document, **changes})
    try:
        found = notification_of(message(body))
    except Unmappable:
        return
    if found is None:
        return
    headers = headers_of(found, body)
    for name, value in headers.items():
        assert value.isprintable(), name
        value.encode("utf-8")
    known = {*WITH_ATTRIBUTES, "SequenceNumber", "Subject", "SigningCertUrl", "UnsubscribeUrl"}
    assert ("more" in json.loads(headers.get(OTHERS, "{}"))) == (not changes.keys() <= known)


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(FIFO).replace('"Subject"', "")[:-1] + ', "x": ' + "[" * 100_000 + "]" * 100_000 + "}",
        json.dumps(FIFO)[:-1] + ', "x": NaN, "y": -Infinity, "z": 1e999}',
        json.dumps(FIFO)[:-1] + f', "x": {"9" * 5_000}}}',
        json.dumps(FIFO)[:-1] + ', "Message": "twice", "Message": "twice"}',
        "\n\t " + json.dumps(FIFO) + "\n",
        json.dumps(FIFO)[:-1] + ', "Message": "half \\ud83d"}',
    ],
    ids=["deep", "not a number", "long number", "duplicate", "blanks around", "half a pair"],
)
def test_json_at_its_edges_is_read(body: str) -> None:
    found = notification_of(message(body))
    if "[[[[" in body:
        assert found is None  # no parser of the consumers' reads it either
        return
    assert found is not None
    assert found.message in (FIFO["Message"], "twice", "half \ud83d")
    headers_of(found, body)


def test_fields_sns_does_not_document_come_back_as_they_were() -> None:
    body = json.dumps(STANDARD)[:-1] + ', "region": {"rate": 1.10, "big": 123456789012345678901, "\u00e9": null}}'
    first = carried(sqs_to_nats(SubjectTemplate.parse("p"))(message(body))).out
    assert isinstance(first, JetStreamOut)
    assert first.headers[OTHERS] == '{"region":{"rate":1.10,"big":123456789012345678901,"\\u00e9":null}}'
    stored = JetStreamMessage("p", first.payload, "S", 1, 0.0, 1, tuple(first.headers.items()))
    second = carried(nats_to_sqs(fifo=False, envelope=STANDARD["TopicArn"])(stored)).out
    assert isinstance(second, SqsOut)
    assert '"rate":1.10' in second.body
    document = json.loads(second.body)
    assert document["region"]["big"] == 123456789012345678901
    unsigned = {name: each for name, each in STANDARD.items() if name not in ("Signature", "SigningCertURL")}
    assert {name: document[name] for name in unsigned} == unsigned


def test_an_envelope_a_producer_stored_comes_back_as_the_payload_it_was() -> None:
    payload = json.dumps(WITH_ATTRIBUTES, indent=1).encode()
    stored = JetStreamMessage("p.x", payload, "S", 7, 0.0, 1, (("kind", "forwarded"),))
    sent = carried(nats_to_sqs(fifo=False)(stored)).out
    assert isinstance(sent, SqsOut)
    out = published(sent.body, beside=dict(sent.attributes))
    assert (out.payload, out.msg_id, out.headers["kind"]) == (payload, "sqs:sqs-id", "forwarded")
    # A service that copies attributes to a message of its own does not make that message the bridge's.
    copied = published(json.dumps(FIFO), beside={**sent.attributes, "nats.message": foreign(sent.attributes)})
    assert copied.msg_id == f"sns:{FIFO['MessageId']}"


def foreign(attributes: Any) -> Attribute:
    note = json.loads(attributes["nats.message"].value)
    return Attribute("String", json.dumps({**note, "via": ["jetstream:X@1"], "of": "0123456789abcdef"}))


def test_a_confirmation_in_any_spelling_is_parked() -> None:
    body = {**LAMBDA, "Type": "SubscriptionConfirmation", "Token": "t0", "SubscribeUrl": "https://sns"}
    with pytest.raises(Unmappable, match="confirm-subscription"):
        notification_of(message(body, **DEAD))
    with pytest.raises(Unmappable) as raised:
        notification_of(message({**body, "TopicArn": "arn:aws:sns:eu-west-1:1:t\x1b[2J"}))
    assert "\x1b" not in str(raised.value)


def test_copies_in_two_queues_have_one_id_or_one_each() -> None:
    ids: dict[str, list[str]] = {}
    scopes: tuple[Literal["topic", "queue"], ...] = ("topic", "queue")
    for scope in scopes:
        mapping = sqs_to_nats(SubjectTemplate.parse("orders"), id_scope=scope)
        for queue in ("a", "b", "a"):
            out = carried(mapping(message(ENVELOPE)._replace(queue=queue))).out
            assert isinstance(out, JetStreamOut)
            ids.setdefault(scope, []).append(out.msg_id)
        plain = carried(mapping(message("no envelope"))).out
        assert isinstance(plain, JetStreamOut)
        assert plain.msg_id == "sqs:sqs-id"  # a queue's own ids are its own already
    assert len(set(ids["topic"])) == 1
    first, second, again = ids["queue"]
    assert first == again != second
