"""Envelopes the bridge makes: the rules of the parsers legacy consumers have, and the fields a message came with."""

from __future__ import annotations

import base64
import json
import re
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.filtering import FilterPolicy
from bridge.core.mapping.envelope import notification_of
from bridge.core.mapping.headers import from_headers, to_headers, xml_text
from bridge.core.mapping.nats_to_sqs import nats_to_sns, nats_to_sqs
from bridge.core.mapping.provenance import Passage
from bridge.core.mapping.sqs_to_nats import sqs_to_nats
from bridge.core.mapping.subject import SubjectTemplate
from bridge.core.models import Attribute, JetStreamMessage, JetStreamOut, SnsOut, SqsMessage, SqsOut
from tests.core.envelopes import AS_AWS_SENDS
from tests.core.strategies import carried

TOPIC = "arn:aws:sns:eu-central-1:210987654321:payments"
TOPICS = [
    TOPIC,
    "arn:aws:sns:eu-central-1:210987654321:ledger.fifo",
    "arn:aws-cn:sns:cn-northwest-1:210987654321:payments",
    "arn:aws-us-gov:sns:us-gov-east-1:210987654321:payments",
]
STORED = 1_760_000_000.25


def stored(*headers: tuple[str, str], payload: bytes = b'{"id": 1}', sequence: int = 7) -> JetStreamMessage:
    return JetStreamMessage("p.x", payload, "S", sequence, STORED, 1, headers)


def body_of(message: JetStreamMessage, topic: str = TOPIC, **settings: Any) -> str:
    out = carried(nats_to_sqs(fifo=False, envelope=topic, **settings)(message)).out
    assert isinstance(out, SqsOut)
    assert xml_text(out.body)
    out.body.encode("utf-8")
    return out.body


def passes_parsers(document: dict[str, Any]) -> None:
    """The rules of Powertools for AWS Lambda (Python 3.37: SnsNotificationModel; TypeScript 2.35:
    SnsSqsNotificationSchema), of the AWS SDK for .NET (Message.ParseMessage) and of java.net.URL and Instant."""
    assert document["Type"] == "Notification"
    for name in ("MessageId", "TopicArn", "Message", "Timestamp", "Signature", "SigningCertURL", "UnsubscribeURL"):
        assert isinstance(document[name], str), name
    assert document["SignatureVersion"] in ("1", "2")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", document["Timestamp"])
    for name in ("SigningCertURL", "UnsubscribeURL"):
        parts = urlsplit(document[name])
        assert parts.scheme == "https"
        assert re.fullmatch(r"sns\.[a-z0-9-]{3,}\.amazonaws\.com(\.cn)?", parts.netloc), name
    assert document["SigningCertURL"].endswith(".pem")
    base64.b64decode(document["Signature"], validate=True)
    for each in document.get("MessageAttributes", {}).values():
        assert isinstance(each["Type"], str)
        assert isinstance(each["Value"], str)


@pytest.mark.parametrize("topic", TOPICS)
def test_a_message_sns_never_saw_is_in_an_envelope_that_parsers_take(topic: str) -> None:
    document = json.loads(body_of(stored(("kind", "paid")), topic))
    passes_parsers(document)
    assert document["Signature"] == ""
    assert document["Message"] == '{"id": 1}'
    assert document["Timestamp"] == "2025-10-09T08:53:20.250Z"
    assert document["MessageAttributes"]["kind"] == {"Type": "String", "Value": "paid"}
    assert "Subject" not in document
    region = topic.split(":")[3]
    assert document["SigningCertURL"].startswith(f"https://sns.{region}.amazonaws.com")
    assert f"SubscriptionArn={topic}:00000000-0000-" in document["UnsubscribeURL"]
    assert ("SequenceNumber" in document) == topic.endswith(".fifo")
    found = notification_of(SqsMessage("id", json.dumps(document), "q", "arn:q"))
    assert found is not None
    assert found.message == '{"id": 1}'


@pytest.mark.parametrize("name", AS_AWS_SENDS)
def test_the_fields_a_message_came_with_are_in_its_envelope_again(name: str) -> None:
    document = AS_AWS_SENDS[name]
    first = carried(sqs_to_nats(SubjectTemplate.parse("p"))(SqsMessage("i", json.dumps(document), "q", "arn:q"))).out
    assert isinstance(first, JetStreamOut)
    again = json.loads(body_of(stored(*first.headers.items(), payload=first.payload), "arn:aws:sns:eu-west-1:1:other"))
    passes_parsers(again)
    spelled = {
        name.replace("Url", "URL"): each for name, each in document.items() if each and not name.startswith("Sign")
    }
    attributes = spelled.pop("MessageAttributes", {})
    assert {name: again.get(name) for name in spelled} == spelled
    assert {name: again["MessageAttributes"][name] for name in attributes} == attributes


def test_sequence_numbers_of_a_fifo_envelope_keep_the_order_of_the_stream() -> None:
    numbers = [
        int(json.loads(body_of(stored(sequence=each), TOPICS[1]))["SequenceNumber"]) for each in (1, 9, 10, 2**40)
    ]
    assert numbers == sorted(numbers)


def test_an_envelopes_own_id_names_one_message_of_one_stream() -> None:
    def id_of(created: str, sequence: int) -> str:
        passage = Passage("r", f"jetstream:S@{created}")
        return str(json.loads(body_of(stored(sequence=sequence), passage=passage))["MessageId"])

    ids = [id_of("2026-01-01T00:00:00Z", 1), id_of("2026-01-02T00:00:00Z", 1), id_of("2026-01-01T00:00:00Z", 2)]
    assert len(set(ids)) == 3
    assert id_of("2026-01-01T00:00:00Z", 1) == ids[0]
    assert all(str(UUID(each)) == each for each in ids)


HOSTILE = st.sampled_from(
    ["x\udcff", "", "a\x00b", "\ufffe", "javascript:x", "https://[", "https://sns.s3.amazonaws.com/",
     "2026-02-31T00:00:00Z", "arn:aws:sns:::", "=", "[" * 2_000, '{"Type": "x", "more": "\ufffe"}',
     '{"a":' * 400 + "1" + "}" * 400, "\u2028"]
)  # fmt: skip
SNS = st.sampled_from(
    ["Sns-Message-Id", "Sns-Topic-Arn", "Sns-Timestamp", "Sns-Sequence-Number", "Sns-Subject", "Sns-Subject-Encoding",
     "Sns-Signature", "Sns-Signature-Version", "Sns-Signing-Cert-Url", "Sns-Unsubscribe-Url", "Sns-Other-Fields"]
)  # fmt: skip


@given(st.dictionaries(SNS, HOSTILE | st.text(max_size=20), max_size=6), st.sampled_from(TOPICS))
def test_whatever_a_producer_writes_into_these_headers_parsers_take_the_envelope(
    headers: dict[str, str], topic: str
) -> None:
    passes_parsers(json.loads(body_of(stored(*headers.items()), topic)))


AMAZONS = {
    "AWS.SNS.SMS.SMSType": Attribute("String", "Transactional"),
    "AWS.MM.SMS.OriginationNumber": Attribute("String", "+12065550100"),
    "AWS.SNS.SMS.MaxPrice": Attribute("Number", "0.50"),
    "aws.lower": Attribute("Binary", b"\0\1"),
    "Amazon.x": Attribute("String.Array", '["a"]'),
}
PLAIN = {f"k{each}": Attribute("String", str(each)) for each in range(12)}


@pytest.mark.parametrize("plain", [0, 3, 9, 10, 12])
def test_attributes_named_after_aws_come_back_where_they_are_legal(plain: int) -> None:
    some = dict(list(PLAIN.items())[:plain])
    message = stored(*to_headers({**AMAZONS, **some}).items())

    document = json.loads(body_of(message))
    assert {"AWS.SNS.SMS.SMSType", "aws.lower", *some} <= document["MessageAttributes"].keys()
    assert document["MessageAttributes"]["AWS.SNS.SMS.MaxPrice"] == {"Type": "Number", "Value": "0.50"}

    sns = carried(nats_to_sns(fifo=False)(message)).out
    assert isinstance(sns, SnsOut)
    assert len(sns.attributes) <= 10
    if plain <= 4:  # the note takes one of ten
        assert {name: sns.attributes[name] for name in AMAZONS} == AMAZONS

    sqs = carried(nats_to_sqs(fifo=False)(message)).out
    assert isinstance(sqs, SqsOut)
    assert len(sqs.attributes) <= 10
    assert not [name for name in sqs.attributes if name.lower().startswith(("aws.", "amazon."))]
    assert len(sqs.attributes.keys() & some.keys()) == min(plain, 9)
    back = carried(sqs_to_nats(SubjectTemplate.parse("p"))(SqsMessage("i", sqs.body, "q", "a", sqs.attributes))).out
    assert isinstance(back, JetStreamOut)
    assert from_headers(tuple(back.headers.items()))[0] == {**AMAZONS, **some}


def test_a_filter_sees_an_attribute_named_after_aws() -> None:
    policy = FilterPolicy.parse({"AWS.SNS.SMS.SMSType": ["Transactional"]})
    carried(nats_to_sns(fifo=False, policy=policy)(stored(*to_headers(AMAZONS).items())))
