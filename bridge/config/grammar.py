"""What a text in the configuration must look like, and the sentence for one that does not.

May not: know a key. A rule takes a text and answers what is wrong with it and what to write instead, or None.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator

from bridge.core.errors import ConfigError
from bridge.core.mapping.claims import key_problem
from bridge.core.mapping.headers import sendable
from bridge.core.mapping.subject import GroupTemplate, legal_subject
from bridge.core.models import Attribute
from bridge.core.regions import is_aws_url

_QUEUE = re.compile(r"[A-Za-z0-9_-]{1,80}|[A-Za-z0-9_-]{1,75}\.fifo")
_TOPIC = re.compile(r"[A-Za-z0-9_-]{1,256}|[A-Za-z0-9_-]{1,251}\.fifo")
_ROUTE = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


def listed(value: Any) -> Any:
    """`a, b` and `["a", "b"]` in a string are lists: that is how an environment variable writes one."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return [part.strip() for part in value.split(",") if part.strip()]


def said(rule: Callable[[str], str | None]) -> AfterValidator:
    """A rule answers what is wrong with a text and what to write instead, or None."""

    def check(value: str) -> str:
        if complaint := rule(value):
            raise ValueError(complaint)
        return value

    return AfterValidator(check)


def server_url(value: str) -> str | None:
    parts = urlsplit(value if "://" in value else f"nats://{value}")
    if parts.scheme not in ("nats", "tls", "ws", "wss") or not parts.hostname:
        return "not a NATS URL; for example nats://host:4222 or tls://host:4222"
    return None


def queue_name(value: str) -> str | None:
    if value.startswith(("http://", "https://")):
        try:
            parts = urlsplit(value)
        except ValueError:
            return "not a URL; write the queue's name instead"
        if parts.query or parts.fragment or "@" in parts.netloc or not parts.hostname:
            return "not a queue URL, which ends with the queue's name; write that name instead"
        folders = parts.path.strip("/").split("/")
        if is_aws_url(value) and (len(folders) != 2 or not re.fullmatch(r"[0-9]{12}", folders[0])):
            example = "https://sqs.eu-west-1.amazonaws.com/123456789012/orders"
            return f"not a queue URL: account and name follow the host, like {example}; write the name instead"
        name = folders[-1]
    elif value.startswith("arn:"):
        fields = value.split(":")
        if len(fields) != 6 or fields[2] != "sqs":
            return "not a queue ARN; for example arn:aws:sqs:eu-west-1:123456789012:orders"
        name = fields[5]
    else:
        name = value
    if not _QUEUE.fullmatch(name):
        return "not a queue name; write its name (letters, digits, - and _; FIFO ends in .fifo), URL or ARN"
    return None


def topic_name(value: str) -> str | None:
    parts = value.split(":")
    if value.startswith("arn:") and (len(parts) != 6 or parts[2] != "sns"):
        return "not a topic ARN; for example arn:aws:sns:eu-west-1:123456789012:orders"
    if not _TOPIC.fullmatch(parts[-1]):
        return "not a topic name; write its name (letters, digits, - and _; FIFO ends in .fifo) or ARN"
    return None


def topic_arn(value: str) -> str | None:
    if not value.startswith("arn:") or topic_name(value) is not None:
        return "not a topic ARN; for example arn:aws:sns:eu-west-1:123456789012:orders"
    return None


def document(value: Any) -> Any:
    """A policy copied from AWS is JSON in a string."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def bucket_name(value: str) -> str | None:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", value):
        return "not a bucket name; write letters, digits, _ and -"
    return None


def s3_bucket_name(value: str) -> str | None:
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", value):
        return "not an S3 bucket name; write 3 to 63 lower-case letters, digits, dots and -"
    return None


def key_prefix(value: str) -> str | None:
    if value and (value.startswith("/") or (problem := key_problem(value)) is not None):
        problem = "it begins with a slash" if value.startswith("/") else problem
        return f"{problem}; write what keys begin with, like nats-sqs-bridge/"
    return None


def placed(bucket: Callable[[str], str | None]) -> Callable[[str], str | None]:
    """A bucket, or a bucket and what the keys in it begin with."""

    def rule(value: str) -> str | None:
        name, _, prefix = value.partition("/")
        return bucket(name) or key_prefix(prefix)

    return rule


def stream_name(value: str) -> str | None:
    if not value or len(value) > 255 or any(character in value for character in " .*>/\\\t\r\n"):
        return "not a stream or consumer name; write 1 to 255 characters without whitespace . * > / \\"
    return None


def route_name(value: str) -> str | None:
    if not _ROUTE.fullmatch(value):
        return "not a route name; write up to 63 lower-case letters, digits, - and _, like payments-in"
    return None


def literal_subject(value: str) -> str | None:
    if "{" in value:
        return "it takes no placeholders; write a plain subject like parked.orders"
    reason = legal_subject(value)
    return f"{reason}; write a plain subject like parked.orders" if reason else None


def subject_filter(value: str) -> str | None:
    tokens = value.split(".")
    if not value or any(not token or " " in token for token in tokens) or ">" in tokens[:-1]:
        return "not a subject filter; for example orders.> or orders.*.created"
    return None


def attribute_name(value: str) -> str | None:
    if not sendable(value, Attribute("String", "x")):
        return "not an attribute name; for example eventType"
    return None


def template(parse: Callable[[str], object]) -> Callable[[str], str | None]:
    def rule(value: str) -> str | None:
        try:
            parse(value)
        except ConfigError as error:
            return f"{error.args[0]}; {error.hint}" if error.hint else str(error.args[0])
        return None

    return rule


def http_url(value: str) -> str | None:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "not a URL; for example http://127.0.0.1:4566"
    if "@" in parts.netloc:
        return "it holds a user or password, which have no place in a URL; leave them out"
    return None


def host_name(value: str) -> str | None:
    if not re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?", value):
        return "not a host name; write one without a scheme and a port, like bridge.example.com"
    return None


def api_prefix(value: str) -> str | None:
    if not re.fullmatch(r"[^\s.*>]+(\.[^\s.*>]+)*", value):
        return "not a prefix; write a subject without wildcards and without a dot at its end, like JS.payments.API"
    return None


def role_arn(value: str) -> str | None:
    if not re.fullmatch(r"arn:[^:]+:iam::\d{12}:role/.+", value):
        return "not a role ARN; for example arn:aws:iam::123456789012:role/bridge"
    return None


QueueName = Annotated[str, said(queue_name)]
TopicName = Annotated[str, said(topic_name)]
StreamName = Annotated[str, said(stream_name)]
GroupText = Annotated[str, said(template(GroupTemplate.parse))]


def masked(text: str) -> str:
    """`text` without the password a URL may hold: all up to the last @, as one may have @, / and spaces in it."""
    return re.sub(r"//.*@", "//***@", text, flags=re.DOTALL)
