"""What SNS signs of an envelope, and from where a certificate may come.

Source: SNS developer guide, "Verifying the signatures of Amazon SNS messages"; the suffixes are those of botocore's
partitions. May not: fetch a certificate or check a signature (legs/signatures.py does). A signature does not cover the
MessageAttributes and the SequenceNumber: SNS leaves them out of what it signs.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from bridge.core.errors import Unmappable
from bridge.core.models import SignedEnvelope

SUFFIXES: Mapping[str, str] = {
    "aws": "amazonaws.com",
    "aws-cn": "amazonaws.com.cn",
    "aws-eusc": "amazonaws.eu",
    "aws-iso": "c2s.ic.gov",
    "aws-iso-b": "sc2s.sgov.gov",
    "aws-iso-e": "cloud.adc-e.uk",
    "aws-iso-f": "csp.hci.ic.gov",
    "aws-us-gov": "amazonaws.com",
}
"""The domain of each partition's regional hosts."""

_SIGNED = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
# A region ends in a number and has none before it: `s3` and `s3-eu-west-1` are hosts of buckets.
_TOPIC = re.compile(r"arn:([a-z-]+):sns:([a-z]{2,5}(?:-[a-z]+)+-[0-9]{1,2}):[0-9]{12}:[A-Za-z0-9_-]+(?:\.fifo)?")
_CERTIFICATE = re.compile(r"/SimpleNotificationService-[A-Za-z0-9]{1,128}\.pem")
FIFO_IS_UNSIGNED = "SNS does not sign messages of FIFO topics"


@lru_cache(maxsize=256)
def host_of(topic_arn: str) -> str | None:
    """The host of SNS in the topic's own region; None where the ARN has no partition and region of AWS."""
    found = _TOPIC.fullmatch(topic_arn)
    suffix = SUFFIXES.get(found[1]) if found else None
    return f"sns.{found[2]}.{suffix}" if found and suffix else None


def signed(document: Mapping[str, Any]) -> SignedEnvelope:
    """The part of a Notification that its signature covers. Raises Unmappable where one cannot be checked."""
    lines = []
    for name in _SIGNED:
        value = document.get(name)
        if value is None and name == "Subject":
            continue
        if not isinstance(value, str):
            raise Unmappable(name, "the SNS envelope lacks it, and the route verifies signatures")
        lines.append(f"{name}\n{value}\n")
    topic = str(document["TopicArn"])
    if topic.endswith(".fifo") or document.get("SequenceNumber") is not None:
        raise Unmappable("Signature", f"{FIFO_IS_UNSIGNED}, and the route verifies signatures")
    url = certificate_url_of(document)
    if (problem := certificate_url_problem(url, topic)) is not None:
        raise Unmappable("SigningCertURL", problem)
    try:
        signature = base64.b64decode(document["Signature"], validate=True)
    except (binascii.Error, ValueError, KeyError, TypeError):
        raise Unmappable("Signature", "not base64") from None
    return SignedEnvelope(
        text="".join(lines).encode("utf-8", "surrogatepass"),
        signature=signature,
        version=str(document.get("SignatureVersion")),
        certificate_url=str(url),
        topic_arn=topic,
    )


def certificate_url_of(document: Mapping[str, Any]) -> object:
    """SNS spells it SigningCertURL, and SigningCertUrl in what it hands to Lambda."""
    found = document.get("SigningCertURL")
    return document.get("SigningCertUrl") if found is None else found


def certificate_url_problem(url: object, topic_arn: str) -> str | None:
    """Why the certificate of this topic's messages may not come from there, or None. Anyone can sign with a certificate
    of their own, and anyone can have a bucket whose host ends as Amazon's do: only the topic's own region will do."""
    if not isinstance(url, str):
        return "the SNS envelope lacks it, and the route verifies signatures"
    host = host_of(topic_arn)
    if host is None or not url.startswith(f"https://{host}/"):
        return "it does not lead to SNS in the region of its topic"
    if not _CERTIFICATE.fullmatch(url, len(f"https://{host}")):
        return "it does not lead to a certificate of SNS"
    return None
