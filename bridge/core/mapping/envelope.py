"""The SNS envelope: recognised by all it must have, never guessed from a stray JSON body; and put around a message
again, for legacy consumers that parse envelopes.

Every field that goes on has a grammar or is encoded. Numbers and null, which SNS does not write, are read where they
have one meaning. Source: SNS developer guide, "Parsing Amazon SNS message formats"; and what AWS actually sends: the
envelope of a FIFO topic has a SequenceNumber and no signature, and what SNS hands to Lambda spells SigningCertUrl and
UnsubscribeUrl.
May not: verify or make a signature, or lose an attribute.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import uuid
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import orjson

from bridge.core.errors import Unmappable
from bridge.core.mapping import note
from bridge.core.mapping.headers import base64_of, field_of, set_field, xml_text
from bridge.core.mapping.paths import as_written, document_of
from bridge.core.mapping.provenance import digest_of
from bridge.core.mapping.signature import certificate_url_of, host_of
from bridge.core.models import Attribute, JetStreamMessage, SnsNotification, SqsMessage

_ARN = re.compile(r"arn:[a-z0-9-]{1,32}:sns:[a-z0-9-]{1,32}:[0-9]{1,32}:[A-Za-z0-9_-]{1,256}(?:\.fifo)?")
_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
_TIMESTAMP = re.compile(r"[!-~]{1,64}")
_WRITTEN = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z", re.ASCII)  # as SNS does, for strict parsers
_SEQUENCE = re.compile(r"[0-9]{1,40}")
_HALF = re.compile(r"[\ud800-\udfff]")  # of a surrogate pair: strict parsers refuse the whole document
_REMEMBERED = 1_024  # characters of a URL; AWS needs a third of it
_REQUIRED = ("MessageId", "Message", "Timestamp")
_CONFIRMATIONS = ("SubscriptionConfirmation", "UnsubscribeConfirmation")
_KNOWN = frozenset(
    {
        *("Type", "MessageId", "TopicArn", "Subject", "Message", "Timestamp", "SequenceNumber", "MessageAttributes"),
        *("SignatureVersion", "Signature", "SigningCertURL", "SigningCertUrl", "UnsubscribeURL", "UnsubscribeUrl"),
    }
)
OTHERS = "Sns-Other-Fields"


def notification_of(message: SqsMessage) -> SnsNotification | None:
    """The envelope in this body, or None if the body is the message itself. SQS attributes beside it are its own too.

    Raises Unmappable for a subscription confirmation, and for an envelope with a field or attributes that cannot be
    read: it is parked as it is; as an ordinary body, a filter would delete it.
    """
    body = message.body
    # SNS writes this name in every envelope, and few other producers do: most bodies are decided here.
    if '"TopicArn"' not in body or not body.lstrip().startswith("{"):
        return None
    try:
        document = orjson.loads(body)
    except ValueError:  # half a surrogate pair, NaN, a number beyond 64 bits, nested too deep; or no JSON
        document = document_of(body)
    if not isinstance(document, dict) or not isinstance(arn := document.get("TopicArn"), str):
        return None
    if not arn.startswith("arn:") or ":sns:" not in arn or _returned(message):
        return None
    topic = arn if len(arn) <= _REMEMBERED and _is_topic(arn) else None
    kind = document.get("Type")
    if kind in _CONFIRMATIONS and isinstance(document.get("Token"), str):
        if "SubscribeURL" in document or "SubscribeUrl" in document:
            raise _foreign("TopicArn") if topic is None else _confirmation(kind, topic)
        return None
    if kind != "Notification" or not all(isinstance(document.get(name), str) for name in _REQUIRED):
        return None
    if not arn.endswith(".fifo") and not _has_signature(document):
        return None
    if topic is None:
        raise _foreign("TopicArn")
    return SnsNotification(
        message_id=_checked("MessageId", document["MessageId"], _ID),
        topic_arn=topic,
        message=document["Message"],
        timestamp=_checked("Timestamp", document["Timestamp"], _TIMESTAMP),
        subject=_text(document, "Subject"),
        sequence_number=_sequence(document.get("SequenceNumber"), body),
        attributes=_merged(_attributes(document.get("MessageAttributes"), body), message.attributes),
        document=document,
    )


def headers_of(notification: SnsNotification, body: str) -> dict[str, str]:
    """The headers of an envelope that came as `body`. Raises Unmappable for fields nested too deep to be written."""
    document, arn = notification.document, notification.topic_arn
    headers = {
        "Sns-Message-Id": notification.message_id,
        "Sns-Topic-Arn": arn,
        "Sns-Timestamp": notification.timestamp,
    }
    if notification.sequence_number is not None:
        headers["Sns-Sequence-Number"] = notification.sequence_number
    if notification.subject is not None:
        set_field(headers, "Sns-Subject", notification.subject)
    if (url := document.get("UnsubscribeURL") or document.get("UnsubscribeUrl")) and _leads_to_sns(url, arn):
        headers["Sns-Unsubscribe-Url"] = url
    if not document.keys() <= _KNOWN or (notification.subject is None and document.get("Subject") is not None):
        headers[OTHERS] = _others(body)
    return headers


def enveloped(
    message: JetStreamMessage, body: str, attributes: Mapping[str, Attribute], *, topic_arn: str, mark: str = ""
) -> str:
    """The envelope SNS would have put around `body`: with the fields the message once had, else with ones of its own.

    `mark` distinguishes the stream from one of the same name created before or after, whose sequences are the same.
    The signature is empty: only AWS can sign for SNS, and keeping one would add half a kilobyte to every message. The
    URLs are well-formed, for common parsers refuse an envelope without them.
    """
    arn = _or(message.header("Sns-Topic-Arn"), _ARN, topic_arn)
    document: dict[str, Any] = {
        "Type": "Notification",
        "MessageId": _or(message.header("Sns-Message-Id"), _ID, "") or _own_id(message, mark),
        "TopicArn": arn,
    }
    if (number := _or(message.header("Sns-Sequence-Number"), _SEQUENCE, "")) or arn.endswith(".fifo"):
        document["SequenceNumber"] = number or f"{10**19 + message.sequence}"  # twenty digits, as SNS has them
    if (subject := subject_of(message)) is not None and not _HALF.search(subject):
        document["Subject"] = subject
    host = host_of(arn) or "sns.amazonaws.com"
    unsubscribe = message.header("Sns-Unsubscribe-Url")
    if not _leads_to_sns(unsubscribe, arn):
        unsubscribe = f"https://{host}/?Action=Unsubscribe&SubscriptionArn={arn}:{uuid.UUID(int=0)}"
    document |= {
        "Message": body,
        "Timestamp": _timestamp(message),
        "SignatureVersion": "1",
        "Signature": "",
        "SigningCertURL": f"https://{host}/SimpleNotificationService-{'0' * 32}.pem",
        "UnsubscribeURL": unsubscribe,
    }
    if attributes:
        document["MessageAttributes"] = {
            name: {
                "Type": each.data_type,
                "Value": base64_of(each.value) if isinstance(each.value, bytes) else each.value,
            }
            for name, each in attributes.items()
        }
    text = _json(document)
    if (others := message.header(OTHERS)) and isinstance(found := document_of(others), dict):
        with suppress(RecursionError):  # not what `headers_of` wrote
            kept = as_written({name: each for name, each in found.items() if name not in document})
            text = text if kept == "{}" else f"{text[:-1]},{kept[1:]}"
    return text


def subject_of(message: JetStreamMessage) -> str | None:
    """The SNS subject the message once had."""
    return field_of(message, "Sns-Subject") or None


# -- reading


def _returned(message: SqsMessage) -> bool:
    """Whether the bridge sent this body out of JetStream: an envelope in it is then the payload a producer stored."""
    found = note.read(message.attributes) if note.MESSAGE in message.attributes else None
    return found is not None and found.of in ("", digest_of(message.body))


def _has_signature(document: Mapping[str, Any]) -> bool:
    """What every envelope of a standard topic has; whether it is genuine is another question."""
    version = document.get("SignatureVersion")
    return (
        isinstance(document.get("Signature"), str)
        and isinstance(certificate_url_of(document), str)
        and isinstance(version, str | int | float)
        and not isinstance(version, bool)
    )


def _confirmation(kind: str, arn: str) -> Unmappable:
    return Unmappable(
        "body",
        f"it is a {kind} of {arn}, which SNS sends to a queue of another account",
        hint=f"aws sns confirm-subscription --topic-arn {arn} --token (the Token in the body)",
    )


@lru_cache(maxsize=256)
def _is_topic(arn: str) -> bool:
    return _ARN.fullmatch(arn) is not None


def _checked(name: str, value: str, grammar: re.Pattern[str]) -> str:
    if not grammar.fullmatch(value):
        raise _foreign(name)
    return value


def _foreign(name: str) -> Unmappable:
    return Unmappable(name, "not a value SNS writes, in what is otherwise an SNS envelope")


def _sequence(found: object, body: str) -> str | None:
    if isinstance(found, int | float):
        found = as_written(_as_it_stands(body, "SequenceNumber"))
    if found is None:
        return None
    return _checked("SequenceNumber", found if isinstance(found, str) else "", _SEQUENCE)


def _text(document: Mapping[str, Any], name: str) -> str | None:
    found = document.get(name)
    return found if isinstance(found, str) else None


def _as_it_stands(body: str, name: str) -> Any:
    """A field with its numbers as they were written: the quick parser rounds them."""
    document = document_of(body)
    return document.get(name) if isinstance(document, dict) else None


def _attributes(found: Any, body: str) -> dict[str, Attribute]:
    if not found and (found is None or isinstance(found, dict)):
        return {}
    attributes = {}
    exact: Any = None
    try:
        for name, entry in found.items():
            kind, value = entry["Type"], entry["Value"]
            if value is None:
                value = ""  # it has a name and a type, and no value
            elif not isinstance(value, str):
                exact = exact or _as_it_stands(body, "MessageAttributes")
                value = _number(exact[name]["Value"])
            if kind.partition(".")[0] == "Binary":
                value = base64.b64decode(value, validate=True)
            attributes[name] = Attribute(kind, value)
    except (AttributeError, KeyError, TypeError, binascii.Error, ValueError) as error:
        raise Unmappable("MessageAttributes", "the SNS envelope has attributes that cannot be read") from error
    return attributes


def _number(value: object) -> str:
    """A number or a boolean as written. Raises TypeError for anything else."""
    if not isinstance(value, int | float):
        raise TypeError
    return as_written(value)


def _merged(own: dict[str, Attribute], beside: Mapping[str, Attribute]) -> dict[str, Attribute]:
    """The envelope's attributes and those of SQS beside it. Where both have a name, the envelope's keeps it: it is what
    was published. The other one, unless it is the same, is called `sqs.` and the name."""
    if not beside:
        return own
    merged = dict(own)
    for name, each in beside.items():
        if own.get(name) == each:
            continue
        free = name
        while free in merged or (free != name and free in beside):
            free = f"sqs.{free}"
        merged[free] = each
    return merged


def _others(body: str) -> str:
    """The fields SNS does not document, as JSON of ASCII, numbers as written."""
    document = document_of(body)
    try:
        if not isinstance(document, dict):
            raise RecursionError
        known = _KNOWN if isinstance(document.get("Subject"), str | None) else _KNOWN - {"Subject"}
        text = as_written({name: each for name, each in document.items() if name not in known})
        return text.replace("\x7f", "\\u007f")
    except RecursionError:
        raise Unmappable("body", "the SNS envelope has a field that is nested too deep") from None


# -- writing


def _or(text: str | None, grammar: re.Pattern[str], otherwise: str) -> str:
    return text if text is not None and grammar.fullmatch(text) else otherwise


def _own_id(message: JetStreamMessage, mark: str) -> str:
    text = f"{message.stream}:{message.sequence}:{int(message.timestamp * 1000)}{f':{mark}' if mark else ''}"
    return str(uuid.uuid5(uuid.NAMESPACE_URL, text.encode("utf-8", "backslashreplace").decode()))


def _timestamp(message: JetStreamMessage) -> str:
    found = message.header("Sns-Timestamp")
    if found is not None and _WRITTEN.fullmatch(found):
        try:
            datetime.fromisoformat(found)
        except ValueError:
            pass  # the 31st of February
        else:
            return found
    return datetime.fromtimestamp(message.timestamp, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _leads_to_sns(url: object, arn: str) -> bool:
    return isinstance(url, str) and len(url) <= _REMEMBERED and _within(url, arn)


@lru_cache(maxsize=256)
def _within(url: str, arn: str) -> bool:
    """Whether this is a URL of SNS in the topic's region: a subscription has one, and its messages all have it."""
    host = host_of(arn)
    return host is not None and url.startswith(f"https://{host}/") and url.isascii() and url.isprintable()


def _json(document: dict[str, Any]) -> str:
    """JSON of characters that SQS takes."""
    try:
        text = orjson.dumps(document).decode()
    except TypeError:  # half a surrogate pair
        return json.dumps(document)
    return text if xml_text(text) else json.dumps(document)
