"""The SNS envelope: recognised by all it must have, never guessed from a stray JSON body; and put around a message
again, for legacy consumers that parse envelopes.

Source: SNS developer guide, "Parsing Amazon SNS message formats".
May not: verify or make a signature, or lose an attribute.
"""

from __future__ import annotations

import base64
import binascii
import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from bridge.core.errors import Unmappable
from bridge.core.mapping.headers import base64_of, told, xml_text
from bridge.core.models import Attribute, JetStreamMessage, SnsNotification, SqsMessage

_REQUIRED = ("MessageId", "TopicArn", "Message", "Timestamp", "SignatureVersion", "Signature", "SigningCertURL")
_CONFIRMATIONS = ("SubscriptionConfirmation", "UnsubscribeConfirmation")


def notification_of(message: SqsMessage) -> SnsNotification | None:
    """The envelope in this body, or None if the body is the message itself.

    Raises Unmappable for a subscription confirmation, and for an envelope whose attributes cannot be read.
    """
    body = message.body
    # SNS puts no SQS attributes beside an envelope, and an envelope names its signature: most bodies end here.
    if message.attributes or '"TopicArn"' not in body or not body.lstrip().startswith("{"):
        return None
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if (
        not isinstance(document, dict)
        or not isinstance(arn := document.get("TopicArn"), str)
        or not arn.startswith("arn:")
    ):
        return None
    kind = document.get("Type")
    if kind in _CONFIRMATIONS and isinstance(document.get("Token"), str) and "SubscribeURL" in document:
        raise Unmappable(
            "body",
            f"it is a {kind} of {arn}, which SNS sends to a queue of another account",
            hint=f"aws sns confirm-subscription --topic-arn {arn} --token (the Token in the body)",
        )
    if kind != "Notification" or not all(isinstance(document.get(name), str) for name in _REQUIRED):
        return None
    return SnsNotification(
        message_id=document["MessageId"],
        topic_arn=arn,
        message=document["Message"],
        timestamp=document["Timestamp"],
        subject=_text(document, "Subject"),
        sequence_number=_text(document, "SequenceNumber"),
        attributes=_attributes(document.get("MessageAttributes")),
        document=document,
    )


def enveloped(
    message: JetStreamMessage, body: str, attributes: Mapping[str, Attribute], *, topic_arn: str, mark: str = ""
) -> str:
    """The envelope SNS would have put around `body`: with the fields the message once had, else with ones of its own.
    `mark` tells its stream from another of the same name, so that no two messages are given one id.

    The signature fields are there, since parsers ask for them, and hold nothing: only AWS can sign for SNS.
    """
    stored = datetime.fromtimestamp(message.timestamp, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    own_id = f"{message.stream}:{message.sequence}{f':{mark}' if mark else ''}"
    document: dict[str, Any] = {
        "Type": "Notification",
        "MessageId": _told(message, "Sns-Message-Id") or str(uuid.uuid5(uuid.NAMESPACE_URL, own_id)),
        "TopicArn": _told(message, "Sns-Topic-Arn") or topic_arn,
    }
    if (number := _told(message, "Sns-Sequence-Number")) is not None:
        document["SequenceNumber"] = number
    if (subject := subject_of(message)) is not None:
        document["Subject"] = subject
    document |= {
        "Message": body,
        "Timestamp": _told(message, "Sns-Timestamp") or stored,
        "SignatureVersion": "1",
        "Signature": "",
        "SigningCertURL": "",
        "UnsubscribeURL": "",
    }
    if attributes:
        document["MessageAttributes"] = {
            name: {
                "Type": each.data_type,
                "Value": base64_of(each.value) if isinstance(each.value, bytes) else each.value,
            }
            for name, each in attributes.items()
        }
    text = json.dumps(document, ensure_ascii=False)
    return text if xml_text(text) else json.dumps(document)  # an escape is the one way to write what SQS does not take


def subject_of(message: JetStreamMessage) -> str | None:
    """The SNS subject the message once had."""
    return told(message, "Sns-Subject") or None


def _told(message: JetStreamMessage, name: str) -> str | None:
    """A field of the envelope it came in, where it is text; else it is in the note, as all headers are."""
    text = told(message, name)
    return text if text is None or xml_text(text) else None


def _text(document: dict[str, Any], name: str) -> str | None:
    found = document.get(name)
    return found if isinstance(found, str) else None


def _attributes(found: Any) -> dict[str, Attribute]:
    if found is None:
        return {}
    attributes = {}
    try:
        for name, entry in found.items():
            kind, value = entry["Type"], entry["Value"]
            if kind.partition(".")[0] == "Binary":
                value = base64.b64decode(value, validate=True)
            attributes[str(name)] = Attribute(kind, value if isinstance(value, bytes) else str(value))
    except (AttributeError, KeyError, TypeError, binascii.Error, ValueError) as error:
        raise Unmappable("MessageAttributes", "the SNS envelope has attributes that cannot be read") from error
    return attributes
