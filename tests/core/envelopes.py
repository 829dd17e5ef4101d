"""Envelopes in the shapes AWS sends, with values of our own: field for field and in the order in which SNS writes them,
as LocalStack has recorded them from AWS (tests/aws/services/sns/test_sns.snapshot.json in localstack/localstack).
"""

from __future__ import annotations

from typing import Any

ACCOUNT = "arn:aws:sns:eu-central-1:210987654321"
HOST = "https://sns.eu-central-1.amazonaws.com"
CERTIFICATE = f"{HOST}/SimpleNotificationService-7ff5318490ec183fbaddaa2a969abfda.pem"

SIGNED: dict[str, Any] = {
    "SignatureVersion": "1",
    "Signature": "cGF5bWVudCBzaWduZWQgYnkgbm9ib2R5Cg==",
    "SigningCertURL": CERTIFICATE,
}


def unsubscribe(topic: str) -> str:
    return f"{HOST}/?Action=Unsubscribe&SubscriptionArn={ACCOUNT}:{topic}:0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"


ATTRIBUTES: dict[str, Any] = {
    "eventType": {"Type": "String", "Value": "captured"},
    "amount": {"Type": "Number", "Value": "12.50"},
    "mac": {"Type": "Binary", "Value": "AgME"},
}

STANDARD: dict[str, Any] = {
    "Type": "Notification",
    "MessageId": "c1a0b7de-5d0e-5b0c-9f5e-0d2f7a1b3c4d",
    "TopicArn": f"{ACCOUNT}:payments",
    "Message": '{"payment": 71, "amount": 12.50}',
    "Timestamp": "2026-03-14T09:26:53.589Z",
    **SIGNED,
    "UnsubscribeURL": unsubscribe("payments"),
}
WITH_SUBJECT = {
    **{name: STANDARD[name] for name in ("Type", "MessageId", "TopicArn")},
    "Subject": "A payment",
    **{name: STANDARD[name] for name in STANDARD if name not in ("Type", "MessageId", "TopicArn")},
}
WITH_ATTRIBUTES = {**STANDARD, "MessageAttributes": ATTRIBUTES}

# A FIFO topic's has no SignatureVersion, Signature and SigningCertURL, and a SequenceNumber behind the MessageId.
FIFO: dict[str, Any] = {
    "Type": "Notification",
    "MessageId": "5e8f0c1b-3a2d-5c4e-8b7a-69504f3e2d1c",
    "SequenceNumber": "10000000000000007000",
    "TopicArn": f"{ACCOUNT}:ledger.fifo",
    "Message": '{"booking": 9}',
    "Timestamp": "2026-03-14T09:26:54.001Z",
    "UnsubscribeURL": unsubscribe("ledger.fifo"),
}
FIFO_WITH_ATTRIBUTES = {
    **{name: FIFO[name] for name in ("Type", "MessageId", "SequenceNumber", "TopicArn")},
    "Subject": "Booked",
    **{name: FIFO[name] for name in ("Message", "Timestamp", "UnsubscribeURL")},
    "MessageAttributes": {"eventType": {"Type": "String", "Value": "booked"}},
}

# What SNS hands to Lambda, and what a function forwards to a queue: other spellings, null, an empty object.
LAMBDA: dict[str, Any] = {
    "Message": "refunded",
    "MessageAttributes": {},
    "MessageId": "aa55cc33-0f0f-5a5a-9c9c-123456abcdef",
    "Signature": SIGNED["Signature"],
    "SignatureVersion": "1",
    "SigningCertUrl": CERTIFICATE,
    "Subject": None,
    "Timestamp": "2026-03-14T09:26:55.000Z",
    "TopicArn": f"{ACCOUNT}:refunds",
    "Type": "Notification",
    "UnsubscribeUrl": unsubscribe("refunds"),
}

AS_AWS_SENDS: dict[str, dict[str, Any]] = {
    "standard": STANDARD,
    "with a subject": WITH_SUBJECT,
    "with attributes": WITH_ATTRIBUTES,
    "of a FIFO topic": FIFO,
    "of a FIFO topic, with subject and attributes": FIFO_WITH_ATTRIBUTES,
    "as Lambda gets it": LAMBDA,
    "keys in another order": dict(sorted(WITH_ATTRIBUTES.items(), reverse=True)),
}
