"""What SNS signs of an envelope, and from where a certificate may come.

Source: SNS developer guide, "Verifying the signatures of Amazon SNS messages".
May not: fetch a certificate or check a signature (legs/signatures.py does). A signature does not cover the
MessageAttributes: SNS leaves them out of what it signs.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from bridge.core.errors import Unmappable
from bridge.core.models import SignedEnvelope

_SIGNED = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
_HOST = re.compile(r"sns\.[a-z0-9-]+\.amazonaws\.com(\.cn)?")
_PATH = re.compile(r"/SimpleNotificationService-[A-Za-z0-9]+\.pem")


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
    url = document.get("SigningCertURL")
    if (problem := certificate_url_problem(url)) is not None:
        raise Unmappable("SigningCertURL", problem)
    try:
        signature = base64.b64decode(document["Signature"], validate=True)
    except (binascii.Error, ValueError, KeyError, TypeError):
        raise Unmappable("Signature", "it is no base64") from None
    return SignedEnvelope(
        text="".join(lines).encode("utf-8", "surrogatepass"),
        signature=signature,
        version=str(document.get("SignatureVersion")),
        certificate_url=str(url),
        topic_arn=str(document["TopicArn"]),
    )


def certificate_url_problem(url: object) -> str | None:
    """Why a certificate may not come from there, or None. Anyone can sign with a certificate of his own."""
    if not isinstance(url, str):
        return "the SNS envelope lacks it, and the route verifies signatures"
    parts = urlsplit(url)
    if parts.scheme != "https" or not _HOST.fullmatch(parts.netloc):
        return "it does not lead to SNS"
    if not _PATH.fullmatch(parts.path) or parts.query or parts.fragment:
        return "it leads to no certificate of SNS"
    return None
