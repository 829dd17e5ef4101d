"""Heartbeats: what is one and what only looks like one, where it goes, and that no route carries another's."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bridge.core.filtering import FilterPolicy
from bridge.core.mapping.heartbeat import (
    HEADER,
    TOKEN,
    canary_in,
    canary_in_stream,
    into_queue,
    into_stream,
    mark_of,
    subject_into,
    subject_of,
    written,
)
from bridge.core.mapping.nats_to_sqs import nats_to_sns, nats_to_sqs
from bridge.core.mapping.provenance import Passage
from bridge.core.mapping.sqs_to_nats import sqs_to_nats
from bridge.core.mapping.subject import SubjectTemplate, legal_subject
from bridge.core.models import Attribute, Canary, JetStreamMessage, JetStreamOut, SnsOut, SqsMessage, SqsOut
from bridge.core.route import Mapped, Mapping, Skip
from bridge.core.subjects import covers, meet, overlap
from tests.core.strategies import sqs_messages

QUEUE = "arn:aws:sqs:eu-west-1:1:q"
STREAM = "jetstream:S@2026-01-01T00:00:00Z"
IN = Passage("in", QUEUE, frozenset({STREAM}))
BACK = Passage("back", STREAM, frozenset({QUEUE}))
NEVER = FilterPolicy.parse({"eventType": ["never"]}, "MessageAttributes")

routes = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,62}", fullmatch=True)
canaries = st.builds(
    Canary,
    route=routes,
    origin=st.from_regex(r"[0-9a-f]{8}", fullmatch=True),
    id=st.from_regex(r"[0-9a-f]{32}", fullmatch=True),
    sent=st.integers(0, 10**13).map(lambda ms: ms / 1000),
)


def inward(text: str = "s.{attributes.eventType}.x{group}", **more: Any) -> Mapping:
    return sqs_to_nats(SubjectTemplate.parse(text), passage=IN, policy=NEVER, **more)


def in_queue(out: SqsOut, **more: Any) -> SqsMessage:
    system = {"MessageGroupId": out.group} if out.group else {}
    return SqsMessage("m1", out.body, "q", QUEUE, out.attributes, system | {"SentTimestamp": "1000"}, **more)


def in_stream(out: JetStreamOut) -> JetStreamMessage:
    headers = (*out.headers.items(), ("Nats-Msg-Id", out.msg_id))
    return JetStreamMessage(out.subject, out.payload, "S", 7, 1.0, headers=headers)


def of(passage: Passage) -> Canary:
    return Canary(passage.route, passage.mark, "0" * 32, 1.5)


@given(canaries)
def test_a_canary_is_read_as_it_was_written(canary: Canary) -> None:
    assert canary_in(written(canary), mark_of(canary)) == canary
    assert canary_in_stream(in_stream(into_stream(canary, "s.x"))) == canary
    assert json.loads(written(canary))["heartbeat"] == canary.route


@given(canaries, sqs_messages())
def test_whatever_else_has_the_mark_is_an_ordinary_message(canary: Canary, other: SqsMessage) -> None:
    """Content in the body or beside it: it is somebody's message, and is carried with all of it."""
    text, attributes = other.body, other.attributes
    assume(text)
    body = written(canary)
    for near in (text, body + text, text + body, body.replace('"from"', '"From"'), body[:-1]):
        assert canary_in(near, mark_of(canary)) is None
    beside = {name: each for name, each in attributes.items() if name not in (HEADER, "traceparent", "tracestate")}
    if beside:
        assert canary_in(body, {**beside, **mark_of(canary)}) is None
    message = SqsMessage("m1", text, "q", QUEUE, {HEADER: Attribute("String", "in")}, {})
    mapped = sqs_to_nats(SubjectTemplate.parse("s"), passage=IN, envelope="never")(message)
    assert isinstance(mapped, Mapped)
    assert isinstance(mapped.out, JetStreamOut)
    assert mapped.canary is None
    assert mapped.out.payload == text.encode()
    assert HEADER not in mapped.out.headers  # consumers who filter by it would lose the message
    assert mapped.out.headers[f"Sqs-Attr-{HEADER}"] == "in"


@pytest.mark.parametrize("mark", ["", "IN", "other", "in "])
def test_a_mark_that_says_another_route_than_the_body_is_none(mark: str) -> None:
    assert canary_in(written(of(IN)), {HEADER: Attribute("String", mark)}) is None
    assert canary_in(written(of(IN)), {HEADER: Attribute("Binary", b"in")}) is None


def test_headers_of_someone_else_make_it_an_ordinary_message() -> None:
    message = in_stream(into_stream(of(BACK), "s.x"))
    mapping = nats_to_sqs(fifo=False, passage=BACK)
    for more in (("eventType", "paid"), (HEADER, "back")):
        mapped = mapping(message._replace(headers=(*message.headers, more)))
        assert isinstance(mapped, Mapped)
        assert mapped.canary is None
    bare = mapping(message._replace(headers=()))
    assert isinstance(bare, Mapped)
    assert bare.canary is None


@pytest.mark.parametrize("fifo", [False, True])
def test_the_route_s_own_goes_all_the_way_in(fifo: bool) -> None:
    """No attribute fills the template and no filter accepts it: it is carried all the same."""
    mapped = inward(fifo=fifo)(in_queue(into_queue(of(IN))))
    assert isinstance(mapped, Mapped)
    assert isinstance(mapped.out, JetStreamOut)
    assert mapped.canary == of(IN)
    assert mapped.lane == (TOKEN if fifo else None)
    assert mapped.out.subject == f"s.{TOKEN}.x{TOKEN}"
    assert mapped.out.headers[HEADER] == "in"
    assert mapped.out.msg_id == "sqs:m1"  # the same each time it is lent: stored once


@pytest.mark.parametrize("fifo", [False, True])
def test_the_route_s_own_goes_all_the_way_back(fifo: bool) -> None:
    message = in_stream(into_stream(of(BACK), "s.x"))
    ids = set()
    for mapping in (
        nats_to_sqs(fifo=fifo, passage=BACK, policy=NEVER),
        nats_to_sns(fifo=fifo, passage=BACK, policy=NEVER),
    ):
        for sequence in (7, 8):
            mapped = mapping(message._replace(sequence=sequence))
            assert isinstance(mapped, Mapped)
            assert isinstance(mapped.out, SqsOut | SnsOut)
            assert mapped.canary == of(BACK)
            assert (mapped.lane, mapped.out.group) == ((TOKEN, TOKEN) if fifo else (None, None))
            assert mapped.out.attributes == {HEADER: Attribute("String", "back")}
            ids.add(mapped.out.dedup_id)
    assert len(ids) == 2  # one for each message, whichever way it goes


def test_what_landed_ends_at_the_next_route() -> None:
    """A two-way pair, the same through a topic's envelope, and a route of the same name elsewhere."""
    landed = inward()(in_queue(into_queue(of(IN))))
    assert isinstance(landed, Mapped)
    assert isinstance(landed.out, JetStreamOut)
    message = in_stream(landed.out)
    namesake = Passage("in", STREAM, frozenset({"arn:other"}))
    for passage in (BACK, namesake, replace(BACK, skip_echo=False)):
        assert nats_to_sqs(fifo=False, passage=passage)(message) == Skip("heartbeat")
        assert nats_to_sns(fifo=False, passage=passage)(message) == Skip("heartbeat")
    for envelope in (None, "arn:aws:sns:eu-west-1:1:t"):
        back = nats_to_sqs(fifo=False, passage=BACK, envelope=envelope)(in_stream(into_stream(of(BACK), "s.x")))
        assert isinstance(back, Mapped)
        assert isinstance(back.out, SqsOut)
        assert inward()(in_queue(back.out)) == Skip("heartbeat")


TOKENS = st.lists(st.sampled_from(["a", "b", "*"]), min_size=1, max_size=4)
PATTERNS = st.builds(lambda tokens, rest: ".".join([*tokens, *rest]), TOKENS, st.sampled_from([[], [">"]])) | st.just(
    ">"
)


@given(PATTERNS, PATTERNS)
def test_where_two_patterns_meet(one: str, other: str) -> None:
    both = meet(one, other)
    assert (both is not None) == overlap(one, other)
    if both is not None:
        assert covers(one, both)
        assert covers(other, both)


@given(st.lists(PATTERNS, max_size=3), st.lists(PATTERNS, max_size=3))
def test_a_canary_s_subject_passes_the_filters_and_is_captured(filters: list[str], subjects: list[str]) -> None:
    subject = subject_into(filters, subjects)
    if subject is None:
        assert not any(overlap(one, other) for one in filters or [">"] for other in subjects)
    else:
        assert legal_subject(subject) is None
        assert any(covers(one, subject) for one in filters or [">"])
        assert any(covers(other, subject) for other in subjects)


@pytest.mark.parametrize(
    ("template", "subject"),
    [
        ("orders", "orders"),
        ("a.{topic}.{attributes.x|y}", f"a.{TOKEN}.{TOKEN}"),
        ("{queue}-{group}", f"{TOKEN}-{TOKEN}"),
    ],
)
def test_placeholders_become_one_word(template: str, subject: str) -> None:
    parsed = SubjectTemplate.parse(template)
    assert subject_of(parsed) == subject
    assert covers(parsed.pattern, subject)
