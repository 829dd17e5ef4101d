"""The policy of a queue: which topics it lets send, and whether it lets anyone.

May not: ask AWS, or judge more than Allow and Deny of sending. Source: IAM reference, policy elements; SQS developer
guide, access policy examples.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

SNS = "sns.amazonaws.com"
SENDS = "sqs:sendmessage"
SOURCES = ("aws:sourcearn", "aws:principalarn")


@dataclass(frozen=True, slots=True)
class Policy:
    """`topics` are patterns of the topic ARNs that may send; `anyone`: anyone may, with or without an AWS account;
    `others`: the policy lets principals other than SNS send."""

    topics: tuple[str, ...] = ()
    anyone: bool = False
    others: bool = False

    def lets(self, topic: str) -> bool:
        """Whether SNS may deliver what is published to this topic."""
        return self.anyone or any(fnmatchcase(topic, pattern) for pattern in self.topics)

    def may_share(self, other: Policy) -> bool:
        """Whether one topic may send to the queues of both."""
        pairs = [(one, two) for one in self.topics for two in other.topics]
        return any(fnmatchcase(one, two) or fnmatchcase(two, one) for one, two in pairs)


def read_policy(text: str, queue_arn: str) -> Policy | None:
    """None where there is none, and for a text that is not a policy."""
    try:
        document = json.loads(text) if text else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    topics: list[str] = []
    anyone = others = False
    for statement in _list(document.get("Statement")):
        if not isinstance(statement, dict) or statement.get("Effect") != "Allow" or not _sends(statement, queue_arn):
            continue
        conditions = _conditions(statement.get("Condition"))
        everyone, services, names = _principals(statement.get("Principal"))
        sources = [value for key, values in conditions if key in SOURCES for value in values]
        if (SNS in services or everyone) and (sources or not conditions or SNS in services):
            topics += [each for each in sources if ":sns:" in each or "*" in each] if sources else ["*"]
        anyone = anyone or (everyone and not conditions)
        others = others or bool(names) or everyone
    return Policy(tuple(topics), anyone, others)


def _sends(statement: Mapping[str, Any], queue_arn: str) -> bool:
    actions = [each.lower() for each in _texts(statement.get("Action"))]
    resources = _texts(statement.get("Resource")) or ["*"]
    return any(fnmatchcase(SENDS, each) for each in actions) and any(fnmatchcase(queue_arn, each) for each in resources)


def _principals(value: Any) -> tuple[bool, list[str], list[str]]:
    """Whether it is everyone, the services, and the others."""
    if value == "*":
        return True, [], []
    if not isinstance(value, dict):
        return False, [], []
    names = [name for kind in ("AWS", "Federated", "CanonicalUser") for name in _texts(value.get(kind))]
    return "*" in names, _texts(value.get("Service")), [each for each in names if each != "*"]


def _conditions(value: Any) -> list[tuple[str, list[str]]]:
    found: list[tuple[str, list[str]]] = []
    for keys in value.values() if isinstance(value, dict) else ():
        for key, values in keys.items() if isinstance(keys, dict) else ():
            found.append((str(key).lower(), _texts(values)))
    return found


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else () if value is None else (value,)


def _texts(value: Any) -> list[str]:
    return [each for each in _list(value) if isinstance(each, str)]
