"""Where a queue or topic is, as its ARN or URL says: partition, region and account.

May not: ask AWS. A bare name does not say it, and neither does the URL of an emulator or a private endpoint.
Source: AWS General Reference, Amazon Resource Names and SQS endpoints.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

_REGION = re.compile(r"(?:^|[.])([a-z]{2,3}(?:-[a-z]+)+-[0-9]+)(?=[.])")
_AWS = re.compile(r"[.](?:amazonaws[.]com(?:[.]cn)?|api[.]aws|api[.]amazonwebservices[.]com[.]cn)$")
_LEGACY = "queue.amazonaws.com"
_PARTITIONS = (("cn-", "aws-cn"), ("us-gov-", "aws-us-gov"), ("us-isob-", "aws-iso-b"), ("us-iso-", "aws-iso"))


def name_of(text: str) -> str:
    """The name in a name, URL or ARN."""
    return text.rstrip("/").rsplit("/", 1)[-1].rsplit(":", 1)[-1]


def arn_place(arn: str) -> tuple[str, str, str] | None:
    """Partition, region and account of an ARN."""
    parts = arn.split(":")
    return (parts[1], parts[3], parts[4]) if len(parts) == 6 and parts[0] == "arn" else None


def beside(arn: str, others: Iterable[str]) -> list[str]:
    """The ARNs that are in the partition and region of `arn`, in any account."""
    here = arn_place(arn)
    return [each for each in others if here and (place := arn_place(each)) and place[:2] == here[:2]]


def queue_place(text: str) -> tuple[str, str] | None:
    """Region and account of a queue given by ARN or by a URL of AWS; None where it does not say."""
    if (place := arn_place(text)) is not None:
        return place[1], place[2]
    try:
        parts = urlsplit(text)
        host = (parts.hostname or "").lower()
    except ValueError:
        return None
    if not _AWS.search(host):
        return None
    found = _REGION.search(host)
    region = found[1] if found else "us-east-1" if host == _LEGACY else ""
    folders = parts.path.strip("/").split("/")
    account = folders[0] if len(folders) == 2 and re.fullmatch(r"[0-9]{12}", folders[0]) else ""
    return (region, account) if region else None


def is_aws_url(text: str) -> bool:
    """Whether a URL leads to AWS itself."""
    try:
        return bool(_AWS.search((urlsplit(text).hostname or "").lower()))
    except ValueError:
        return False


def partition_of(region: str) -> str | None:
    """The partition a region is in; None if it is not in the form of an AWS region."""
    if not re.fullmatch(r"[a-z]{2,3}(-[a-z]+)+-[0-9]+", region):
        return None
    found = next((partition for start, partition in _PARTITIONS if region.startswith(start)), "aws")
    return None if found == "aws" and ("-iso" in region or region.startswith("eusc-")) else found
