"""Any message SQS, SNS or JetStream may hold, and some they may not."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import strategies as st

from bridge.core.models import Attribute, JetStreamMessage, SqsMessage
from bridge.core.route import Mapped, Skip

XML = st.characters(
    min_codepoint=0x20, max_codepoint=0x10FFFF, exclude_categories=["Cs"], exclude_characters="\ufffe\uffff"
) | st.sampled_from("\t\n\r")
"""The characters SQS takes in a body or a String attribute."""

TEXT = st.text(XML, min_size=1, max_size=40)
AWKWARD = [  # names that mean something to NATS, to its clients, or to us
    "Nats-Msg-Id",
    "nats-rollup",
    "NATS-TTL",
    "Nats-Expected-Stream",
    "Status",
    "status",
    "Description",
    "Sqs-Message-Id",
    "Sqs-Attr-x",
    "Sqs-Type-x",
    "Sqs-Attributes",
    "Sns-Subject",
    "Bridge-Parked-Id",
    "traceparent",
    "x",
    "X",
    "eventType",
    "nats.message",
    "nats.encoding",
    "X-Amzn-Trace-Id",
    "Content-Type",
]
NAMES = st.one_of(
    st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,20}[A-Za-z0-9_-]", fullmatch=True),
    st.sampled_from(AWKWARD),
).filter(lambda name: ".." not in name and not name.lower().startswith(("aws.", "amazon.")))
LABEL = st.just("") | st.from_regex(r"\.[A-Za-z0-9_-]{1,10}", fullmatch=True)
NUMBERS = st.integers(-(10**37), 10**37).map(str) | st.decimals(allow_nan=False, allow_infinity=False, places=3).map(
    str
)
ATTRIBUTES = st.one_of(
    st.builds(lambda label, value: Attribute(f"String{label}", value), LABEL, TEXT),
    st.builds(lambda label, value: Attribute(f"Number{label}", value), LABEL, NUMBERS),
    st.builds(lambda label, value: Attribute(f"Binary{label}", value), LABEL, st.binary(min_size=1, max_size=40)),
)
SYSTEM = st.fixed_dictionaries(
    {"SentTimestamp": st.just("1700000000000"), "ApproximateReceiveCount": st.just("1"), "SenderId": st.just("AIDA")},
    optional={
        "MessageGroupId": st.from_regex(r"[!-~]{1,128}", fullmatch=True),
        "MessageDeduplicationId": st.from_regex(r"[!-~]{1,128}", fullmatch=True),
        "SequenceNumber": st.just("18849496460467696128"),
        "AWSTraceHeader": st.just("Root=1-5759e988-bd862e3fe1be46a994272793"),
    },
)


def sqs_messages(most: int = 10) -> st.SearchStrategy[SqsMessage]:
    return st.builds(
        SqsMessage,
        message_id=st.uuids().map(str),
        body=TEXT,
        queue=st.just("orders"),
        queue_arn=st.just("arn:aws:sqs:eu-west-1:123456789012:orders"),
        attributes=st.dictionaries(NAMES, ATTRIBUTES, max_size=most),
        system=SYSTEM,
    )


HEADER_NAMES = st.from_regex(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,20}", fullmatch=True) | NAMES
HEADER_VALUES = st.text(st.characters(min_codepoint=1, exclude_characters="\r\n"), max_size=30).map(
    lambda value: value.strip(" \t")
)
JETSTREAM = st.builds(
    JetStreamMessage,
    subject=st.from_regex(r"[a-z]{1,8}(\.[a-z0-9=]{1,8}){0,3}", fullmatch=True),
    payload=st.binary(max_size=60) | TEXT.map(str.encode),
    stream=st.just("ORDERS"),
    sequence=st.integers(1, 2**63),
    timestamp=st.just(1700000000.0),
    headers=st.lists(st.tuples(HEADER_NAMES, HEADER_VALUES), max_size=14).map(tuple),
)


def as_sent(headers: dict[str, str]) -> tuple[tuple[str, str], ...]:
    """Headers as a consumer gets them: nats-py strips values, replaces line breaks and refuses some names."""
    for name in headers:
        assert re.fullmatch(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", name), name
    return tuple((name, re.sub(r"[\r\n]", " ", value.strip()).encode().decode()) for name, value in headers.items())


def delivered(out: Any) -> JetStreamMessage:
    """A JetStreamOut as the consumer of its stream gets it."""
    headers = as_sent({**out.headers, "Nats-Msg-Id": out.msg_id})
    return JetStreamMessage(out.subject, out.payload, "ORDERS", 7, 1700000000.0, 1, headers)


def carried(mapped: Mapped | Skip) -> Mapped:
    """What a mapping gave for a message it does carry."""
    assert isinstance(mapped, Mapped)
    return mapped
