"""Subject and group templates: what they give, what they refuse, and that no value can make an illegal subject."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.errors import ConfigError, Unmappable
from bridge.core.mapping.subject import (
    DueTemplate,
    GroupTemplate,
    SubjectTemplate,
    encode_token,
    fifo_id,
    legal_subject,
)
from bridge.core.models import Attribute, JetStreamMessage, SnsNotification, SqsMessage
from bridge.core.subjects import covers, overlap, permitted


def sqs(body: str = "{}", **attributes: str) -> SqsMessage:
    return SqsMessage(
        "id",
        body,
        "orders.fifo",
        "arn:q",
        {name: Attribute("String", value) for name, value in attributes.items()},
        {"MessageGroupId": "acc-1"},
    )


NOTIFICATION = SnsNotification(
    "n", "arn:aws:sns:eu-west-1:1:payments", '{"kind": "card"}', "t", attributes={"eventType": Attribute("String", "x")}
)


@pytest.mark.parametrize(
    ("text", "subject"),
    [
        ("orders", "orders"),
        ("orders.{attributes.eventType}", "orders.paid"),
        ("orders.{attributes.eventType}.v{attributes.version}", "orders.paid.v2"),
        ("orders.{group}", "orders.acc-1"),
        ("{queue}.in", "orders=2Efifo.in"),
        ("orders.{body.customer.id}", "orders.42"),
        ("orders.{body.items[0].sku}", "orders.A=2F1"),
        ("orders.{body.flags.new}", "orders.true"),
        ("orders.{attributes.none|other}", "orders.other"),
        ("orders.{topic|direct}", "orders.direct"),
        ("orders.{body.(none || customer.name)}", "orders.Zo=C3=AB"),
        ("orders.{body.(items[?sku=='A/1'].sku | [0])|x}", "orders.A=2F1"),
        ("orders.{body.length(items)}", "orders.1"),
    ],
)
def test_a_template_is_filled(text: str, subject: str) -> None:
    document = {"customer": {"id": 42, "name": "Zoë"}, "items": [{"sku": "A/1"}], "flags": {"new": True}}
    message = sqs(json.dumps(document), eventType="paid", version="2")
    assert rendered(text, message) == subject


def rendered(text: str, message: SqsMessage) -> str:
    return SubjectTemplate.parse(text).render(message.attributes, message.body.encode(), message)


def test_an_envelopes_own_attributes_topic_and_body_are_used() -> None:
    template = SubjectTemplate.parse("{topic}.{attributes.eventType}.{body.kind}")
    assert (
        template.render(NOTIFICATION.attributes, NOTIFICATION.message.encode(), sqs(), NOTIFICATION)
        == "payments.x.card"
    )


@pytest.mark.parametrize(
    "text",
    ["a.{attributes.no}", "a.{topic}", "a.{body.no}", "a.{body.list}", "a.{attributes.empty}", "a.{body.to_number(s)}"],
)
def test_a_value_that_is_missing_parks_the_message_and_names_the_placeholder(text: str) -> None:
    message = sqs('{"list": [1], "s": "secret"}', empty="")
    with pytest.raises(Unmappable) as raised:
        rendered(text, message)
    assert raised.value.field == "destination.subject"
    assert text.removeprefix("a.").strip("{}") in str(raised.value)
    assert "secret" not in str(raised.value)


def test_a_body_that_is_no_json_has_no_paths() -> None:
    assert rendered("a.{body.x|none}", sqs("not json")) == "a.none"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it is empty"),
        ("a b", "blank"),
        ("a..b", "empty token"),
        (".a", "empty token"),
        ("a.*", "wildcard"),
        ("a.>", "wildcard"),
        ("$JS.API.x", "for itself"),
        ("a.{group", "{ without a }"),
        ("a.}", "} without a {"),
        ("a.{nonsense}", "unknown placeholder {nonsense}"),
        ("a.{attributes}", "lacks a name"),
        ("a.{group.x}", "takes no name"),
        ("a.{group|}", "empty default"),
        ("a.{body.[}", "no JMESPath"),
        ("a.{body.x | [0]|y}", "two bars"),
    ],
)
def test_a_template_that_can_never_work_is_refused_at_start(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as raised:
        SubjectTemplate.parse(text)
    assert words in str(raised.value)
    assert raised.value.hint or "{" in words or "}" in words or "empty default" in words


@pytest.mark.parametrize(
    ("said", "at"),
    [
        ("1970-01-01T00:01:00Z", 60.0),
        ("1970-01-01T02:01:00.5+02:00", 60.5),
        ("60", 60.0),
        ("1700000000", 1700000000.0),
        ("1700000000123", 1700000000.123),
        ("", None),
    ],
)
def test_a_time_is_read_as_producers_write_it(said: str, at: float | None) -> None:
    template = DueTemplate.parse("{attributes.at}")
    assert template.render({"at": Attribute("String", said)}, b"") == at
    assert DueTemplate.parse("{body.at}").render({}, json.dumps({"at": said}).encode()) == at
    assert template.render({}, b"") is None


@pytest.mark.parametrize("said", ["soon", "2026-01-01T00:00:00", "-1", "nan", "inf", "9e99"])
def test_what_is_no_time_parks_the_message(said: str) -> None:
    with pytest.raises(Unmappable) as raised:
        DueTemplate.parse("{attributes.at}").render({"at": Attribute("String", said)}, b"")
    assert raised.value.field == "destination.deliver_at"
    assert said not in str(raised.value)


@pytest.mark.parametrize("text", ["tomorrow", "{attributes.a}{attributes.b}", "{attributes.a|1}", "{group}"])
def test_a_template_of_a_time_is_one_placeholder(text: str) -> None:
    with pytest.raises(ConfigError):
        DueTemplate.parse(text)


@pytest.mark.parametrize(
    ("text", "pattern"),
    [("a.b", "a.b"), ("a.{group}", "a.*"), ("a.v{group}.b", "a.*.b"), ("{topic}.{body.(a || b)}", "*.*")],
)
def test_the_pattern_is_what_it_can_give(text: str, pattern: str) -> None:
    assert SubjectTemplate.parse(text).pattern == pattern


@given(st.text(min_size=1), st.text(min_size=1))
def test_no_value_makes_an_illegal_subject(one: str, other: str) -> None:
    message = SqsMessage("id", "b", "q", "arn", {"a": Attribute("String", one), "b": Attribute("String", other)})
    subject = rendered("x.{attributes.a}.y{attributes.b}", message)
    assert legal_subject(subject) is None
    assert subject.isascii()
    assert subject.count(".") == 2
    assert len(subject) < 500


@given(st.text(min_size=1), st.text(min_size=1))
def test_different_values_give_different_tokens(one: str, other: str) -> None:
    assert (encode_token(one) == encode_token(other)) == (one == other)


@given(st.text(min_size=1), st.text(min_size=1))
def test_different_groups_stay_different(one: str, other: str) -> None:
    assert (fifo_id(one) == fifo_id(other)) == (one == other)
    assert len(fifo_id(one)) <= 128


JETSTREAM = JetStreamMessage("pay.acc-7.card", b'{"account": "a b"}', "S", 1, 0.0, 1, (("Account", "9"),))


@pytest.mark.parametrize(
    ("text", "group"),
    [
        ("{subject}", "pay.acc-7.card"),
        ("{subject.2}", "acc-7"),
        ("{headers.Account}", "9"),
        ("{subject.9|none}", "none"),
        ("acc-{headers.Account}", "acc-9"),
        ("all", "all"),
    ],
)
def test_a_group_is_taken_from_subject_header_or_body(text: str, group: str) -> None:
    assert GroupTemplate.parse(text).render(JETSTREAM) == group


def test_a_group_sqs_would_refuse_is_hashed() -> None:
    assert GroupTemplate.parse("{body.account}").render(JETSTREAM).startswith("sha256:")


def test_a_group_that_is_missing_parks_the_message() -> None:
    with pytest.raises(Unmappable, match=r"destination.group: \{headers.No\} has no value"):
        GroupTemplate.parse("{headers.No}").render(JETSTREAM)


@pytest.mark.parametrize("text", ["", "{subject.0}", "{subject.x}", "{attributes.x}", "{headers}"])
def test_a_group_template_that_can_never_work_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        GroupTemplate.parse(text)


TOKEN = st.sampled_from(["a", "b", "*"])
PATTERN = st.builds(
    lambda tokens, tail: ".".join([*tokens, *tail]),
    st.lists(TOKEN, min_size=1, max_size=3),
    st.sampled_from([[], [">"]]),
)
SUBJECT = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=4).map(".".join)


@given(PATTERN, PATTERN, SUBJECT)
def test_overlap_and_cover_agree_with_matching(one: str, other: str, subject: str) -> None:
    both = covers(one, subject) and covers(other, subject)
    assert not both or overlap(one, other)
    if covers(one, other) and covers(other, subject):
        assert covers(one, subject)
    assert overlap(one, other) == overlap(other, one)


def test_permissions_are_read_as_the_server_reads_them() -> None:
    assert permitted("a.b", None, None)
    assert permitted("a.b", ["a.>"], None)
    assert not permitted("b.a", ["a.>"], None)
    assert not permitted("a.b", ["a.>"], ["a.b"])
    assert not permitted("a.*", ["a.b"], None)
