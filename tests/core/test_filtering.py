"""Filter policies: the documented operators both ways, what SNS refuses, the laws, and agreement with moto."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto.sns.utils import FilterPolicyMatcher

from bridge.core.errors import ConfigError
from bridge.core.filtering import FilterPolicy
from bridge.core.models import Attribute
from tests.core import strategies as any_


def string(value: str) -> Attribute:
    return Attribute("String", value)


def number(value: str) -> Attribute:
    return Attribute("Number", value)


def array(*values: Any) -> Attribute:
    return Attribute("String.Array", json.dumps(values))


def accepts(policy: dict[str, Any], **attributes: Attribute) -> bool:
    return FilterPolicy.parse(policy).accepts(attributes, b"")


def accepts_body(policy: dict[str, Any], body: object) -> bool:
    return FilterPolicy.parse(policy, "MessageBody").accepts({}, json.dumps(body).encode())


@pytest.mark.parametrize(
    ("values", "attribute", "expected"),
    [
        (["paid"], string("paid"), True),
        (["paid", "held"], string("held"), True),
        (["paid"], string("Paid"), False),
        (["paid"], array("held", "paid"), True),
        (["paid"], array("held"), False),
        (["5"], number("5"), False),
        ([5], number("5.0"), True),
        ([301.5], number("3.015e2"), True),
        ([5], string("5"), False),
        ([5], array(4, 5), True),
        ([0.1], number("0.100001"), True),
        ([0.1], number("0.1001"), False),
        ([True], array(True), True),
        ([None], array(None), True),
        ([{"prefix": "pay"}], string("payment"), True),
        ([{"prefix": "pay"}], string("repay"), False),
        ([{"prefix": "1"}], number("12"), False),
        ([{"suffix": "ment"}], string("payment"), True),
        ([{"suffix": "ment"}], string("payments"), False),
        ([{"equals-ignore-case": "PAID"}], string("paid"), True),
        ([{"equals-ignore-case": "PAID"}], string("paid "), False),
        ([{"wildcard": "pay*ed"}], string("pay.was.refused"), True),
        ([{"wildcard": "pay*ed"}], string("payed!"), False),
        ([{"wildcard": "a.c"}], string("abc"), False),
        ([{"wildcard": "*"}], string("x"), True),
        ([{"wildcard": "ab*ba"}], string("aba"), False),
        ([{"wildcard": "*ab*ab*"}], string("xabyabz"), True),
        ([{"wildcard": "*ab*ab*"}], string("xaby"), False),
        ([{"wildcard": "a*b*b"}], string("acb"), False),
        ([{"wildcard": "a\\\\*c"}], string("a*c"), False),
        ([{"prefix": {"equals-ignore-case": "EU-"}}], string("eu-west"), True),
        ([{"suffix": {"equals-ignore-case": ".PDF"}}], string("a.pdf"), True),
        ([{"suffix": {"equals-ignore-case": ".PDF"}}], string("pdf"), False),
        ([{"equals-ignore-case": "gasse"}], string("gaße"), False),
        ([{"equals-ignore-case": "gaße"}], string("gasse"), False),
        ([{"equals-ignore-case": "gaße"}], string("GASSE"), True),
        ([{"equals-ignore-case": "ÉTÉ"}], string("été"), True),
        ([{"anything-but": {"equals-ignore-case": ["HELD", "void"]}}], string("Void"), False),
        ([{"anything-but": {"equals-ignore-case": ["HELD", "void"]}}], string("paid"), True),
        ([{"anything-but": 5}], string("5"), True),
        ([{"anything-but": ["5"]}], number("5"), True),
        ([{"anything-but": ["x"]}], array(None), True),
        (["10.1.2.3"], string("10.1.2.3"), True),
        (["fd00::a"], string("FD00:0:0::A"), True),
        ([{"cidr": "10.9.0.0/16"}], string("10.9.255.1"), True),
        ([{"cidr": "10.9.0.0/16"}], string("::ffff:10.9.0.1"), False),
        ([{"cidr": "10.9.0.0/16"}], string("::ffff:a09:1"), True),
        ([{"numeric": ["=", 1000]}], number("1E3"), True),
        ([{"numeric": [">", 0]}], number("1_0"), False),
        ([{"numeric": ["<", 9]}], number("nan"), False),
        ([{"numeric": [">", 0]}], number("123456789012345678901234567890"), True),
        ([{"numeric": ["<=", 1.5]}], number("1.500001"), True),
        ([{"numeric": ["<=", 1.5]}], number("1.50002"), False),
        ([{"numeric": [">", 0]}], number("0.000001"), True),
        ([-1e9], number("-1000000000"), True),
        ([5], array([[4, [5]]], "x"), True),
        (["x"], array({"a": "x"}), False),
        ([{"exists": True}], array({"a": "x"}), False),
        (["x"], Attribute("String.Array", '["x"'), False),
        ([{"exists": False}], Attribute("String.Array", '["x"'), False),
        ([{"anything-but": "x"}], Attribute("String.Array", "y"), False),
        (["x"], Attribute("String.Array", '"x"'), True),
        (["a\\\\b"], string("a\\b"), True),
        (["a\\b"], string("a\\b"), False),
        (['say \\"no\\"'], string('say "no"'), True),
        (['say "no"'], string('say "no"'), False),
        ([{"suffix": '\\"'}], array('a"'), True),
        ([{"cidr": "10.0.0.0/24"}], string("10.0.0.200"), True),
        ([{"cidr": "10.0.0.0/24"}], string("10.0.1.1"), False),
        ([{"cidr": "10.0.0.0/24"}], string("no address"), False),
        ([{"numeric": ["=", 5]}], number("5"), True),
        ([{"numeric": [">", 0, "<=", 150]}], number("150"), True),
        ([{"numeric": [">", 0, "<=", 150]}], number("0"), False),
        ([{"numeric": ["<", 0]}], number("-1"), True),
        ([{"numeric": [">=", 5]}], string("6"), False),
        ([{"anything-but": "paid"}], string("held"), True),
        ([{"anything-but": ["paid", "held"]}], string("held"), False),
        ([{"anything-but": [100, 500]}], number("101"), True),
        ([{"anything-but": [100, 500]}], number("100"), False),
        ([{"anything-but": [100, 500]}], array(100, 50), True),
        ([{"anything-but": ["a"]}], array("a"), False),
        ([{"anything-but": {"prefix": "pay"}}], string("held"), True),
        ([{"anything-but": {"prefix": "pay"}}], string("paying"), False),
        ([{"anything-but": {"suffix": ["x", "y"]}}], string("my"), False),
        ([{"anything-but": {"wildcard": "p*d"}}], string("paid"), False),
        ([{"exists": True}], string("x"), True),
        ([{"exists": False}], string("x"), False),
        (["a", {"numeric": [">", 5]}], number("6"), True),
    ],
)
def test_operators(values: list[Any], attribute: Attribute, expected: bool) -> None:
    assert accepts({"k": values}, k=attribute) is expected


def test_what_is_absent_matches_only_exists_false_and_that_only_beside_something() -> None:
    for values in ([{"anything-but": "x"}], ["x"], [{"exists": True}], [None]):
        assert not accepts({"k": values}, other=string("x")), values
    assert accepts({"k": [{"exists": False}]}, other=string("x"))
    assert not accepts({"k": [{"exists": False}]})


def test_binary_attributes_are_ignored() -> None:
    assert not accepts({"k": [{"exists": True}]}, k=Attribute("Binary", b"x"), other=string("x"))


def test_keys_are_and_and_or_is_or() -> None:
    policy = {"source": ["aws"], "$or": [{"state": ["ok"]}, {"count": [{"numeric": [">", 5]}]}]}
    assert accepts(policy, source=string("aws"), state=string("ok"))
    assert accepts(policy, source=string("aws"), count=number("6"))
    assert not accepts(policy, source=string("aws"), count=number("5"))
    assert not accepts(policy, source=string("gcp"), state=string("ok"))


@pytest.mark.parametrize(
    ("policy", "body", "expected"),
    [
        ({"a": ["x"]}, {"a": "x", "b": 1}, True),
        ({"a": ["x"]}, {"a": ["y", "x"]}, True),
        ({"a": [True]}, {"a": True}, True),
        ({"a": [1]}, {"a": True}, False),
        ({"a": [None]}, {"a": None}, True),
        ({"a": {"b": ["x"]}}, {"a": {"b": "x"}}, True),
        ({"a": {"b": ["x"]}}, {"a": {"c": "x"}}, False),
        ({"a": {"b": ["x"]}}, {"a": "x"}, False),
        ({"a": {"b": ["x"]}}, {"a": [{"b": "y"}, {"b": "x"}]}, True),
        ({"a": {"b": ["x"], "c": ["y"]}}, {"a": [{"b": "x"}, {"c": "y"}]}, False),
        ({"a": {"b": [{"exists": False}]}}, {"c": 1}, True),
        ({"a": {"b": [{"exists": False}]}}, {"a": {}}, True),
        ({"a": {"b": [{"exists": False}]}}, {"a": []}, True),
        ({"a": [{"exists": False}]}, {"a": []}, True),
        ({"a": [{"exists": False}]}, {"a": [[], {}]}, True),
        ({"a": [{"exists": False}]}, {"a": {"b": 1}}, True),
        ({"a": [{"exists": False}]}, {}, True),
        ({"a": [{"exists": False}]}, {"a": False}, False),
        ({"a": {"b": [{"exists": False}]}}, {"a": [{"b": 1}, {"c": 1}]}, False),
        ({"a": {"b": ["x"], "c": [{"exists": False}]}}, {"a": [{"b": "x"}, {"b": "y", "c": 1}]}, True),
        ({"a": {"b": ["y"], "c": [{"exists": False}]}}, {"a": [{"b": "x"}, {"b": "y", "c": 1}]}, False),
        ({"station.id": ["K7"]}, {"station": {"id": "K7"}}, True),
        ({"station.id": ["K7"]}, {"station.id": "K7"}, True),
        ({"station": {"id": ["K7"]}}, {"station.id": "K7"}, True),
        ({"x.y": {"z": ["1"]}}, {"x": {"y.z": "1"}}, True),
        ({"x.y": {"z": ["1"]}}, {"x": [{"y": [[{"z": "1"}]]}]}, True),
        ({"x.y": ["1"], "x": {"z": ["2"]}}, {"x": [{"y": "1"}, {"z": "2"}]}, False),
        ({"x.y": ["1"], "x": {"z": ["2"]}}, {"x": [{"y": "1", "z": "2"}]}, True),
        ({"": ["1"]}, {"": "1"}, True),
        ({"$or": ["x"]}, {"$or": "x"}, True),
        ({"$or": {"a": ["x"]}}, {"$or": {"a": "x"}}, True),
        ({"$or": [{"numeric": ["=", 3]}, {"prefix": "a"}]}, {"$or": "abc"}, True),
        ({"a": {"$or": [{"b": ["1"]}, {"c": ["2"]}]}}, {"a": [{"b": "0"}, {"c": "2"}]}, True),
        ({"a": {"$or": [{"b": ["1"]}, {"c": ["2"]}], "d": ["3"]}}, {"a": [{"d": "3"}, {"c": "2"}]}, False),
        ({"a": [""]}, {"a": ""}, True),
        ({"a": [{"prefix": ""}]}, {"a": "any"}, True),
        ({"a": [{"anything-but": "x"}]}, {"a": None}, True),
        ({"a": [5]}, {"a": [1, "5", [5.0]]}, True),
        ({"a": ['say "no"', "back\\slash"]}, {"a": "back\\slash"}, True),
        ({"a": [1e9]}, {"a": 1000000000}, True),
        ({"a": {f"k{n}": ["x"] for n in range(6)}}, {"a": {f"k{n}": "x" for n in range(6)}}, True),
        ({"a": [{"exists": True}]}, {"a": None}, False),
        ({"a": [{"exists": True}]}, {"a": []}, False),
        ({"a": ["x"]}, ["a"], False),
        ({"a": ["x"]}, "x", False),
    ],
)
def test_bodies(policy: dict[str, Any], body: object, expected: bool) -> None:
    assert accepts_body(policy, body) is expected


@pytest.mark.parametrize(
    "body",
    [
        b"\xff{",
        b"",
        b"{}x",
        b'{"b": NaN}',
        b'{"b": 01}',
        b'{"b": }',
        b'{"b" 1}',
        b"[{}]",
        b'"x"',
        b"{}".decode().encode("utf-16"),
    ],
)
def test_a_body_that_is_no_json_matches_nothing(body: bytes) -> None:
    policy = FilterPolicy.parse({"a": [{"exists": False}]}, "MessageBody")
    assert policy.accepts({}, b'{"b": 1}')
    assert not policy.accepts({}, body)


@pytest.mark.parametrize(
    ("policy", "complaint"),
    [
        ([], "a filter policy is an object of keys"),
        ({}, "a filter policy is an object of keys"),
        ({"k": "x"}, "k is not a list of values"),
        ({"k": []}, "k is not a list of values"),
        ({"k": {"j": ["x"]}}, "k is nested"),
        ({"k": [{"prefx": "a"}]}, "k: prefx is not an operator (did you mean prefix?)"),
        ({"k": [{"prefix": 1}]}, "k: prefix takes a text"),
        ({"k": [{"prefix": "a", "suffix": "b"}]}, "k: an operator stands alone in its object"),
        ({"k": [{"numeric": [">"]}]}, "k: numeric takes one or two comparisons"),
        ({"k": [{"numeric": ["~", 1]}]}, "k: numeric takes one or two comparisons"),
        ({"k": [{"numeric": [">", 2e9]}]}, "k: numeric takes one or two comparisons"),
        ({"k": [2e9]}, "k: a value is a text"),
        ({"k": [["x"]]}, "k: a value is a text"),
        ({"k": [{"exists": "yes"}]}, "k: exists is true or false"),
        ({"k": [{"cidr": "x"}]}, "k: cidr takes a network"),
        ({"k": [{"anything-but": {"numeric": ["=", 1]}}]}, "k: anything-but takes values"),
        ({"k": [{"anything-but": ["a", 1]}]}, "k: anything-but takes texts or numbers"),
        ({"k": [{"anything-but": [None]}]}, "k: anything-but takes texts or numbers"),
        ({"k": [{"anything-but": True}]}, "k: anything-but takes a text, a number or a list"),
        ({"k": [{"anything-but": []}]}, "k: anything-but takes a text, a number or a list"),
        ({"k": [{"anything-but": {"prefix": ""}}]}, "k: anything-but prefix takes a text or a list of them"),
        ({"k": [{"anything-but": {"suffix": []}}]}, "k: anything-but suffix takes a text or a list of them"),
        ({"k": [{"anything-but": {"prefix": [1]}}]}, "k: prefix takes a text"),
        ({"k": [{"anything-but": {}}]}, "k: anything-but takes values, or one of"),
        ({"k": [{"prefix": {"wildcard": "a"}}]}, "k: prefix takes a text"),
        ({"k": [{"suffix": {"equals-ignore-case": 1}}]}, "k: suffix takes a text"),
        ({"k": [{"wildcard": "a**b"}]}, "k: a wildcard has no two * in a row"),
        ({"k": [{"wildcard": "a\\nb"}]}, "k: in a wildcard a backslash stands before"),
        ({"k": [{"wildcard": "ab\\"}]}, "k: in a wildcard a backslash stands before"),
        ({"k": [{"cidr": "10.0.0.0"}]}, "k: cidr takes a network"),
        ({"k": [{"cidr": "10.0.0.0/32"}]}, "k: cidr takes a network"),
        ({"k": [{"cidr": "10.0.0.0/-1"}]}, "k: cidr takes a network"),
        ({"k": [{"cidr": "10.0.0.0/2_0"}]}, "k: cidr takes a network"),
        ({"k": [{"cidr": "fe80::/128"}]}, "k: cidr takes a network"),
        ({"k": [{"cidr": "fe80::%eth0/64"}]}, "k: cidr takes a network"),
        ({"k": [{"cidr": ["10.0.0.0/8"]}]}, "k: cidr takes a network"),
        ({"k": [{"numeric": [">", 7, "<", 2]}]}, "k: a numeric range goes from"),
        ({"k": [{"numeric": [">=", 7, "<=", 7]}]}, "k: a numeric range goes from"),
        ({"k": [{"numeric": ["<", 7, ">", 2]}]}, "k: a numeric range goes from"),
        ({"k": [{"numeric": ["=", 7, "<", 9]}]}, "k: a numeric range goes from"),
        ({"k": [{"numeric": [">", 1, "<", 5, "<", 9]}]}, "k: numeric takes one or two comparisons"),
        ({"k": [{"numeric": [[], 1]}]}, "k: numeric takes one or two comparisons"),
        ({"k": [{"numeric": ["=", True]}]}, "k: numeric takes one or two comparisons"),
        ({"k": [{"numeric": ["=", float("nan")]}]}, "k: numeric takes one or two comparisons"),
        ({"$or": [{"a": ["x"]}, {"prefix": "x"}]}, "$or: a is not an operator"),
        ({"$or": []}, "$or takes a list of two objects or more"),
        ({"a": [f"{n}" for n in range(151)]}, "the filter policy has 151 combinations of values"),
        ({"$or": [{"a": ["x"]}]}, "$or takes a list of two objects or more"),
        ({f"k{n}": ["x"] for n in range(6)}, "the filter policy has 6 keys"),
        ({"a": list("abcdefghijklm"), "b": list("abcdefghijklm")}, "the filter policy has 169 combinations of values"),
        ({"k": ["x" * 300_000]}, "the filter policy is larger than 256 KiB"),
    ],
)
def test_complaints(policy: object, complaint: str) -> None:
    with pytest.raises(ConfigError) as raised:
        FilterPolicy.parse(policy)
    assert str(raised.value).startswith(complaint)


def test_a_name_that_comes_twice_has_both_values() -> None:
    policy = FilterPolicy.parse({"a": ["x"]}, "MessageBody")
    assert policy.accepts({}, b'{"a": "x", "a": "y"}')
    assert policy.accepts({}, b'{"a": "y", "a": "x"}')


def test_or_counts_its_choices_as_sns_counts_them() -> None:
    policy: dict[str, Any] = {"kind": list("abc"), "$or": [{"x": list("abcde")}, {"y": list("abcde"), "z": list("ab")}]}
    FilterPolicy.parse(policy)  # 3 x 5 + 3 x 5 x 2 = 45
    policy["kind"] = [f"{n}" for n in range(11)]
    with pytest.raises(ConfigError, match="165 combinations"):
        FilterPolicy.parse(policy)


def test_a_policy_of_many_choices_is_refused_before_they_are_spelled_out() -> None:
    choices = {f"k{n}": {"$or": [{"a": ["x"]}, {"b": ["x"]}]} for n in range(60)}
    with pytest.raises(ConfigError, match="combinations"):
        FilterPolicy.parse({"a": choices}, "MessageBody")
    deep: dict[str, Any] = {"a": ["x"]}
    for _ in range(100_000):
        deep = {"a": deep}
    with pytest.raises(ConfigError, match="combinations"):
        FilterPolicy.parse(deep, "MessageBody")


def test_nesting_counts_as_sns_counts_it() -> None:
    nested = {"a": {"b": {"c": list("wxyz")}, "d": list("xyz")}}  # 4 x 3 deep, 3 x 2 deep
    with pytest.raises(ConfigError, match="216 combinations"):
        FilterPolicy.parse({**nested, "e": list("xyz")}, "MessageBody")
    FilterPolicy.parse({**nested, "e": list("xy")}, "MessageBody")


# -- laws

TEXTS = st.sampled_from(["", "a", "ab", "abc", "b", "ba", "A", "1"])
NUMBERS = st.sampled_from([0, 1, -1, 1.5, 100, 0.00001])
MESSAGES = st.dictionaries(
    st.sampled_from("xyz"),
    st.one_of(
        TEXTS.filter(bool).map(string),
        NUMBERS.map(lambda value: number(str(value))),
        st.lists(TEXTS).map(lambda v: array(*v)),
    ),
    max_size=3,
)
PLAIN = TEXTS.filter(bool)
VALUES = st.one_of(
    PLAIN,
    NUMBERS,
    st.builds(lambda key, text: {key: text}, st.sampled_from(["prefix", "suffix"]), PLAIN),
    st.builds(lambda sign, limit: {"numeric": [sign, limit]}, st.sampled_from(["<", "<=", "=", ">", ">="]), NUMBERS),
    st.builds(lambda values: {"anything-but": values}, st.lists(PLAIN, min_size=1, max_size=3)),
    st.builds(lambda text: {"anything-but": {"prefix": text}}, PLAIN),
    st.booleans().map(lambda value: {"exists": value}),
)
POLICIES = st.dictionaries(st.sampled_from("xyz"), st.lists(VALUES, min_size=1, max_size=3), min_size=1, max_size=3)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=3),
)


@given(
    POLICIES, st.dictionaries(any_.NAMES, any_.ATTRIBUTES, max_size=5), st.binary(max_size=20) | JSON.map(json.dumps)
)
def test_any_message_gets_an_answer(
    policy: dict[str, Any], attributes: dict[str, Attribute], body: bytes | str
) -> None:
    raw = body.encode() if isinstance(body, str) else body
    for scope in ("MessageAttributes", "MessageBody"):
        assert FilterPolicy.parse(policy, scope).accepts(attributes, raw) in (True, False)


@given(PLAIN, PLAIN)
def test_anything_but_is_the_negation_of_equality(wanted: str, found: str) -> None:
    assert accepts({"k": [wanted]}, k=string(found)) is not accepts({"k": [{"anything-but": wanted}]}, k=string(found))


@given(MESSAGES.filter(bool), st.sampled_from("xyz"))
def test_a_key_exists_or_does_not(message: dict[str, Attribute], key: str) -> None:
    assert accepts({key: [{"exists": True}]}, **message) is not accepts({key: [{"exists": False}]}, **message)


@given(POLICIES, POLICIES, MESSAGES)
def test_or_is_the_disjunction(one: dict[str, Any], other: dict[str, Any], message: dict[str, Attribute]) -> None:
    either = accepts(one, **message) or accepts(other, **message)
    assert accepts({"$or": [one, other]}, **message) is either


@given(POLICIES, st.lists(VALUES, min_size=1, max_size=2), MESSAGES)
def test_one_more_key_never_accepts_more(
    policy: dict[str, Any], values: list[Any], message: dict[str, Attribute]
) -> None:
    if accepts({**policy, "more": values}, **message):
        assert accepts(policy, **message)


@given(POLICIES, MESSAGES.filter(bool))
def test_moto_agrees_on_what_it_implements(policy: dict[str, Any], message: dict[str, Attribute]) -> None:
    # moto walks an array letter by letter for prefix and anything-but, gives up a key at its first value that needs a
    # missing attribute, and compares texts with a Number's text; SNS, after its own pages, does none of it.
    scalars = {name: each for name, each in message.items() if each.data_type != "String.Array"}
    theirs = {name: {"Type": each.data_type, "Value": each.value} for name, each in scalars.items()}
    alone = {
        key: [value]
        for key, values in policy.items()
        for value in values
        if not (isinstance(value, str) and scalars.get(key, string("")).data_type == "Number")
        and not (
            isinstance(value, dict) and "anything-but" in value and scalars.get(key, string("")).data_type == "Number"
        )
    }
    if alone and scalars:
        expected = FilterPolicyMatcher(alone, "MessageAttributes").matches(theirs, "")
        assert FilterPolicy.parse(alone).accepts(scalars, b"") is expected
