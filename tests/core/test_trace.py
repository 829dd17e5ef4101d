"""Trace contexts: the two spellings say the same, and no message loses its own or has one forced upon it."""

from __future__ import annotations

from typing import assert_never

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.mapping.packing import MARK
from bridge.core.mapping.trace import AWS, TRACEPARENT, TraceContext, carried_by, from_aws, from_w3c, passed_on
from bridge.core.models import Attribute, JetStreamOut, Out, SnsOut, SqsOut


def hexes(digits: int) -> st.SearchStrategy[str]:
    return st.integers(1, 16**digits - 1).map(lambda number: f"{number:0{digits}x}")


contexts = st.builds(TraceContext, hexes(32), hexes(16), st.booleans())
HOP = TraceContext("a" * 32, "b" * 16, sampled=True)
OWN = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"
ROOT = f"Root=1-{'1' * 8}-{'1' * 24}"
ALL = f"{ROOT};Parent={'2' * 16};Sampled=1"


@given(contexts)
def test_both_spellings_say_the_same(context: TraceContext) -> None:
    assert from_w3c(context.w3c()) == context
    assert from_aws(context.aws()) == context


@given(contexts, st.permutations([0, 1, 2]), st.sampled_from([";", "; "]), st.sampled_from(["", ";Lineage=a:1|b:0"]))
def test_the_aws_form_as_services_write_it(context: TraceContext, order: list[int], by: str, more: str) -> None:
    fields = context.aws().split(";")
    text = by.join(fields[place] for place in order) + more
    assert from_aws(text) == context
    assert from_aws(text.replace(context.span_id, context.span_id.upper())) == context


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", OWN[:-1], OWN.replace("00-", "ff-", 1), OWN + "-more", OWN.replace("1" * 32, "0" * 32)),
        *(OWN.replace("2" * 16, "0" * 16), OWN.replace("1", "G"), OWN.upper().replace("1", "A")),
    ],
)
def test_what_is_no_traceparent(text: str) -> None:
    assert from_w3c(text) is None


def test_a_later_version_may_say_more() -> None:
    assert from_w3c(OWN.replace("00-", "01-", 1) + "-more") == from_w3c(OWN)


@pytest.mark.parametrize(
    "text", ["", "Root=", ROOT, f"{ROOT};Parent=;Sampled=1", f"Parent={'2' * 16};Sampled=1", "a;b"]
)
def test_an_aws_header_that_names_no_place(text: str) -> None:
    assert from_aws(text) is None


@pytest.mark.parametrize("asked", ["0", "?", ""])
def test_only_a_sampled_trace_is_sampled(asked: str) -> None:
    found = from_aws(f"{ROOT};Parent={'2' * 16};Sampled={asked}")
    assert found is not None
    assert not found.sampled


def out(kind: str, w3c: str | None, aws: str | None, others: int = 0) -> Out:
    """A message of any kind with these contexts and so many attributes beside."""
    names = {f"a{number}": "x" for number in range(others)} | ({TRACEPARENT: w3c} if w3c is not None else {})
    attributes = {name: Attribute("String", value) for name, value in names.items()}
    match kind:
        case "jetstream":
            return JetStreamOut("s", b"body", "id", names | ({AWS: aws} if aws is not None else {}))
        case "sqs":
            return SqsOut("body", attributes, trace_header=aws)
        case _:
            return SnsOut("body", attributes, trace_header=aws)


def traceparent(message: Out) -> str | None:
    match message:
        case JetStreamOut():
            return message.headers.get(TRACEPARENT)
        case SqsOut() | SnsOut():
            found = message.attributes.get(TRACEPARENT)
            return found.value if found is not None and isinstance(found.value, str) else None
        case _:
            assert_never(message)


KINDS = ["jetstream", "sqs", "sns"]


@given(st.sampled_from(KINDS), st.none() | st.text(), st.none() | st.text() | contexts.map(TraceContext.aws))
def test_no_message_loses_what_it_came_with(kind: str, w3c: str | None, aws: str | None) -> None:
    message = out(kind, w3c, aws)
    after = passed_on(message, HOP)
    assert carried_by(after).aws == aws
    if w3c is not None:
        assert after is message  # even one that nobody can read
    elif aws is None:
        assert traceparent(after) == HOP.w3c()
    else:
        own = from_aws(aws)
        assert traceparent(after) == (None if own is None else own.w3c())
    assert passed_on(after, TraceContext("c" * 32, "d" * 16, sampled=False)) == after


@pytest.mark.parametrize("kind", KINDS)
def test_the_message_s_own_context_is_the_one_it_is_linked_to(kind: str) -> None:
    assert carried_by(out(kind, OWN, ALL)).context == from_w3c(OWN)
    assert carried_by(out(kind, None, ALL)).context == from_aws(ALL)
    assert carried_by(out(kind, "no context", ALL)).context is None
    assert carried_by(out(kind, None, None)).context is None


@pytest.mark.parametrize("kind", ["sqs", "sns"])
def test_where_there_is_no_room_nothing_is_added(kind: str) -> None:
    assert traceparent(passed_on(out(kind, None, None, others=9), HOP)) == HOP.w3c()
    full = out(kind, None, None, others=10)
    assert passed_on(full, HOP) is full
    enveloped = out(kind, None, None)
    assert passed_on(enveloped, HOP, enveloped=True) is enveloped


def test_what_was_packed_may_have_one_and_is_left_alone() -> None:
    packed = JetStreamOut("s", b"{}", "id", {MARK: "1"})
    assert passed_on(packed, HOP) is packed


def test_several_values_and_other_spellings_are_its_own() -> None:
    twice = JetStreamOut("s", b"", "id", {}, ((TRACEPARENT, OWN), (TRACEPARENT, OWN)))
    assert passed_on(twice, HOP) is twice
    other = SqsOut("b", {"TraceParent": Attribute("String", OWN)})
    assert passed_on(other, HOP) is other
    assert carried_by(other).context == from_w3c(OWN)
    assert carried_by(SqsOut("b", {TRACEPARENT: Attribute("Binary", b"x")})).context is None
