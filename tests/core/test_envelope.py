"""The SNS envelope: recognised when it is one, left alone when it only looks like one."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest

from bridge.core.errors import Unmappable
from bridge.core.mapping.envelope import notification_of
from bridge.core.mapping.sqs_to_nats import sqs_to_nats
from bridge.core.mapping.subject import SubjectTemplate
from bridge.core.models import Attribute, JetStreamOut, SqsMessage
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


def test_beside_sqs_attributes_there_is_no_envelope() -> None:
    assert notification_of(message(ENVELOPE, a=Attribute("String", "x"))) is None


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
