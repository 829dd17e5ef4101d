"""Subject and group templates: what they give, what they refuse, and that no value can make an illegal subject."""

from __future__ import annotations

import json
import re

import jmespath
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.errors import ConfigError, Unmappable
from bridge.core.mapping.paths import Path, compiled, document_of
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
        ("a b", "space"),
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
        ("a.{body.[}", "not valid JMESPath"),
        ("a.{body.x | [0]|y}", "two bars"),
    ],
)
def test_a_template_that_can_never_work_is_refused_at_start(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as raised:
        SubjectTemplate.parse(text)
    assert words in str(raised.value)
    assert raised.value.hint or "{" in words or "}" in words or "empty default" in words


NEVER = {
    "{body.'detail-type'}": ("same for every message", """'{body."detail-type"}'"""),
    "{body.`kind`}": ("same for every message", """'{body."kind"}'"""),
    "{body.length('abc')}": ("same for every message", "name a field"),
    "{body.('x' | length(@))}": ("same for every message", "name a field"),
    "{body.('none' || kind)}": ("same for every message", "name a field"),
    "{body.detail-type}": ("not valid JMESPath", """'{body."detail-type"}'"""),
    "{body.detail.user-id|x}": ("not valid JMESPath", """'{body.detail."user-id"}'"""),
    "{body.items[0].sku-no}": ("not valid JMESPath", """'{body.items[0]."sku-no"}'"""),
    "{body.@type}": ("not valid JMESPath", """'{body."@type"}'"""),
    "{body.2nd}": ("not valid JMESPath", """'{body."2nd"}'"""),
    "{body.items[?sku=='A'] | [0]}": ("pipe", "{body.(items[?sku=='A'] | [0])}"),
    "{body.items[*].sku|[0]}": ("pipe", "{body.(items[*].sku | [0])}"),
    "{body.name|length(@)}": ("pipe", "{body.(name | length(@))}"),
    "{body.a | b}": ("a default or a pipe", "{body.a|b} for a default"),
    "{body.a || b}": ("two bars", "{body.(a || b)}"),
    "{body.lenght(items)}": ("calls lenght()", "did you mean length?"),
    "{body.split(name, '-')}": ("calls split()", "known are abs"),
    "{body.(a || upper(b))}": ("calls upper()", "known are abs"),
    "{body.items[?uper(sku)].x | [0] }": ("pipe", "parentheses"),
    "{body.(items[?uper(sku)].x | [0])}": ("calls uper()", "known are abs"),
    "{body.length(a, b)}": ("with 2 arguments", "it takes 1"),
    "{body.sum(to_string(a))}": ("never takes", "it takes array"),
    "{body.[a, b]}": ("never gives", "placeholder for each value"),
    "{body.{a: b}|x}": ("never gives", "placeholder for each value"),
    "{body.items[*].sku}": ("but array", "{body.(items[*].sku | [0])}"),
    "{body.items[]}": ("but array", "{body.(items[] | [0])}"),
    "{body.items[?x]|none}": ("but array", "[0])}"),
    "{body.items[:2]}": ("but array", "[0])}"),
    "{body.labels.*}": ("but array", "[0])}"),
    "{body.keys(@)}": ("but array", "{body.(keys(@) | [0])}"),
    "{body.merge(a, b)}": ("but object", "{body.(merge(a, b)).name}"),
    "{body.length(a).x}": ("but nothing", "name a field"),
    "{attributes.a..b}": ("no attribute", "letters"),
    "{attributes..a}": ("no attribute", "letters"),
}


@pytest.mark.parametrize("placeholder", NEVER)
def test_a_placeholder_that_can_never_be_right_is_refused_with_what_to_write(placeholder: str) -> None:
    with pytest.raises(ConfigError) as raised:
        SubjectTemplate.parse(f"a.{placeholder}")
    words, hint = NEVER[placeholder]
    assert words in str(raised.value.args[0])
    assert hint in raised.value.hint
    for text in re.findall(r"\{body\.[^ ]+\}", hint):
        SubjectTemplate.parse(f"a.{text}")  # what it says to write is taken


BODY = {
    "kind": "card",
    "detail-type": "Paid",
    "items": [{"sku": "A", "n": 2}, {"sku": "B", "n": 1}],
    "labels": {"x": 1},
    "none": None,
}
GIVES = {
    '{body."detail-type"}': "Paid",
    "{body.(kind || 'none')}": "card",
    "{body.(none && 'yes' || 'no')}": "no",
    "{body.(kind == 'card' && 'c' || 'other')}": "c",
    "{body.max_by(items, &n).sku}": "A",
    "{body.(sort_by(items, &n)[*].sku | [0])}": "B",
    "{body.(items[?n > `1`].sku | [0])}": "A",
    "{body.join('-', items[*].sku)}": "A-B",
    "{body.(keys(labels) | [0])}": "x",
    "{body.not_null(none, kind)}": "card",
    "{body.type(items)}": "array",
    "{body.contains(kind, 'a')}": "true",
    "{body.!none}": "true",
    "{body.[none, kind][1]|x}": "card",
    "{body.{a: kind}.a}": "card",
    "{body.reverse(kind)}": "drac",
    "{body.none|n-a}": "n-a",
    "{attributes.none | spaced}": "spaced",
}


@pytest.mark.parametrize("placeholder", GIVES)
def test_a_placeholder_that_can_be_right_is_taken(placeholder: str) -> None:
    assert rendered(f"a.{placeholder}", sqs(json.dumps(BODY))) == f"a.{GIVES[placeholder]}"


EXPRESSIONS = st.recursive(
    st.sampled_from(["a", "b", "@", "'x'", "`1`", "`[1]`", "`null`", '"a-b"']),
    lambda inner: st.one_of(
        st.builds("{}.{}".format, inner, st.sampled_from(["a", "b", "*", "[a, b]", "{k: a}"])),
        st.builds("{}[{}]".format, inner, st.sampled_from(["0", "*", ":1", "", "?a", "?@ == 'x'"])),
        st.builds("({} {} {})".format, inner, st.sampled_from(["||", "&&", "|", "==", "<"]), inner),
        st.builds(
            "{}({})".format, st.sampled_from(["length", "keys", "to_string", "type", "not_null", "sum", "abs"]), inner
        ),
        st.builds("!{}".format, inner),
    ),
    max_leaves=4,
)
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(["x", "", "a"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "b", "a-b"]), inner, max_size=2),
    max_leaves=6,
)


@given(EXPRESSIONS, st.lists(DOCUMENTS, min_size=4, max_size=4))
def test_no_expression_is_refused_that_gives_values_of_its_own(expression: str, documents: list[object]) -> None:
    """The reader of types agrees with what the library does: what it refuses never gives two different texts."""
    try:
        compiled(expression)
    except ConfigError:
        try:
            parsed = jmespath.compile(expression).parsed
        except jmespath.exceptions.JMESPathError:
            return
        found = {Path(expression, parsed).scalar(document) for document in documents}
        assert len(found - {None, ""}) <= 1


@pytest.mark.parametrize(
    "number",
    ["1.10", "0.10", "12.50", "1e3", "1E+2", "-0", "-0.0", "100000000000000000000000000000000", "1e400", "9" * 4_500,
     "0.1000000000000000055511151231257827"],
)  # fmt: skip
def test_a_number_is_its_digits_in_the_body(number: str) -> None:
    body = f'{{"n": {number}, "list": [{number}], "object": {{"n": {number}}}}}'
    for path in ("n", "list[0]", "object.n", "not_null(none, n)", "(n || 'x')", "to_string(n)", "max(list)"):
        assert compiled(path).scalar(document_of(body)) == number, path
    if len(number) < 50:
        assert rendered("a.{body.n}", sqs(body)) == f"a.{encode_token(number)}"
    assert compiled("to_string(object)").scalar(document_of(body)) == f'{{"n":{number}}}'
    assert compiled("type(n)").scalar(document_of(body)) == "number"
    assert compiled("to_number(to_string(n))").scalar(document_of(body)) == number


def test_numbers_are_compared_and_counted_as_numbers() -> None:
    document = document_of('{"price": 1.10, "list": [1.50, 2.50]}')
    assert compiled("price == `1.1`").scalar(document) == "true"
    assert compiled("price < `2`").scalar(document) == "true"
    assert compiled("sum(list)").scalar(document) == "4.0"
    assert compiled("ceil(price)").scalar(document) == "2"


@pytest.mark.parametrize(
    "body", ['{"n": 1e400}', "[" * 100_000, '{"n": NaN}', '{"n": "\\ud800"}', "", "{", '{"n": {}}']
)
def test_a_body_at_the_edge_of_json_has_a_value_or_none(body: str) -> None:
    for path in ("n", "ceil(n)", "to_string(@)", "sum(not_null(n, `[1]`))", "abs(n)"):
        compiled(path).scalar(document_of(body))


def test_a_list_where_a_text_is_needed_is_said_to_be_one() -> None:
    with pytest.raises(Unmappable, match="is a list in this message"):
        rendered("a.{body.items}", sqs('{"items": ["secret"]}'))
    assert rendered("a.{body.items|none}", sqs('{"items": ["secret"]}')) == "a.none"


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


@pytest.mark.parametrize(
    "text",
    ["", "{subject.0}", "{subject.x}", "{attributes.x}", "{headers}", "{headers.a b}", "{body.[a]}", "{body.'x'}"],
)
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
