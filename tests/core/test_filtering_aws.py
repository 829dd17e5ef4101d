"""What AWS itself decided: policies and messages as they were published to real topics, refusals as SNS answered them.

Source: the AWS-validated tests of LocalStack (tests/aws/services/sns/test_sns_filter_policy.py), told in other values.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.core.errors import ConfigError
from bridge.core.filtering import FilterPolicy
from bridge.core.models import Attribute

ORDER: dict[str, Any] = {
    "payment": {"method": [{"prefix": "card-"}, "cash"], "dispute": [{"exists": False}]},
    "test": [{"exists": False}],
}
FILES = {"Files": {"at": {"object": {"key": [{"prefix": "tax-"}]}}, "change": [{"prefix": "Created:"}]}}
EITHER = {
    "$or": [{"metric": ["cpu", "latency"]}, {"space": ["compute", "search"]}],
    "about": {"scope": ["service"], "$or": [{"source": ["watch"]}, {"type": ["alarm"]}]},
}
NETWORKS = {"from": {"$or": [{"v4": [{"cidr": "10.4.0.0/24"}]}, {"v6": [{"cidr": "2001:db8:77:1a00::/64"}]}]}}


def file(key: str, change: str) -> dict[str, Any]:
    return {"change": change, "at": {"bucket": {"name": "b"}, "object": {"key": key, "size": 17}}}


@pytest.mark.parametrize(
    ("policy", "body", "expected"),
    [
        (ORDER, {"payment": {"method": "card-visa"}}, True),
        (ORDER, {"payment": {"method": "cash"}}, True),
        (ORDER, {"payment": {"method": "visa-card"}}, False),
        (ORDER, {"payment": {"method": "card-visa"}, "test": "yes"}, False),
        (ORDER, {"payment": {"method": "card-visa", "dispute": "d1"}}, False),
        (ORDER, {"payment": {"test": "card-visa"}}, False),
        (ORDER, {"test": "card-visa"}, False),
        (ORDER, "a text", False),
        ({"shop.till": ["till.one"]}, {"shop": {"till": "till.one"}}, True),
        ({"shop.till": ["till.one"]}, {"shop.till": "till.one"}, True),
        ({"shop.till": ["till.one"]}, {"shop": {"till": "till-one"}}, False),
        ({"shop.till.no": ["1.2"]}, {"shop": {"till": {"no": "1.2"}}}, True),
        ({"shop.till.no": ["1.2"]}, {"shop.till.no": "1.2"}, True),
        ({"shop.till.no": ["1.2"]}, {"shop.till": {"no": "1.2"}}, True),
        ({"shop.till.no": ["1.2"]}, {"shop": {"till.no": "1.2"}}, True),
        ({"shop.till.no": ["1.2"]}, {"shop": {"till": {"no": "12"}}}, False),
        ({"to": {"queue-name": ["q1"]}}, {"to": {"queue-name": ["q1", "q2"]}}, True),
        ({"to": {"queue-name": ["q1"]}}, {"to": {"queue-name": ["q3"]}}, False),
        (FILES, {"Files": [file("tax-1.xml", "Created:Put")]}, True),
        (FILES, {"Files": [file("tax-1.xml", "Removed:Delete")]}, False),
        (FILES, {"Files": [file("pay-1.xml", "Created:Put")]}, False),
        (
            FILES,
            {
                "Files": [
                    {"change": "Created:Put", "at": {"object": [[{"key": "tax-1.xml", "size": 17}]]}},
                    file("pay-1.xml", "Removed:Delete"),
                ]
            },
            True,
        ),
        (EITHER, {"metric": "cpu", "about": {"scope": "watch", "type": "alarm"}}, False),
        (EITHER, {"metric": "cpu", "about": {"scope": "service", "type": "cpu"}}, False),
        (EITHER, {"metric": "cpu", "about": {"type": "alarm"}}, False),
        (EITHER, {"metric": "cpu", "about": {"scope": "service"}}, False),
        (EITHER, {"metric": "cpu", "scope": "service"}, False),
        (EITHER, {"metric": "compute", "about": {"scope": "service", "type": "alarm"}}, False),
        (EITHER, {"space": "cpu", "about": {"scope": "service", "type": "alarm"}}, False),
        (EITHER, {"metric": "cpu", "about": {"scope": "service", "source": "watch"}}, True),
        (EITHER, {"metric": "latency", "about": {"scope": "service", "source": "watch"}}, True),
        (EITHER, {"space": "compute", "about": {"scope": "service", "source": "watch"}}, True),
        (EITHER, {"space": "search", "about": {"scope": "service", "source": "watch"}}, True),
        (EITHER, {"metric": "cpu", "about": {"scope": "service", "type": "alarm"}}, True),
        ({"about": {"version": [""]}}, {"about": {"version": "", "answer": None}, "resources": []}, True),
        (NETWORKS, {"id": "1", "from": {"v4": "10.4.0.255"}}, True),
        (NETWORKS, {"id": "2", "from": {"v4": "10.4.0.256"}}, False),
        (NETWORKS, {"id": "3", "from": {"v6": "2001:0db8:0077:1a00:0000:0000:0000:0000"}}, True),
        (NETWORKS, {"id": "4", "from": {"v6": "2001:0db8:007f:1a01:0000:0000:0000:0000"}}, False),
        (
            {"about": {"payload.nested.one-more.deep": {"in-list": [{"prefix": "q-"}]}}},
            {"about": {"payload": {"nested": {"one-more": {"deep": {"in-list": ["r-1", "q-1"]}}}}}},
            True,
        ),
    ],
)
def test_bodies(policy: dict[str, Any], body: object, expected: bool) -> None:
    assert FilterPolicy.parse(policy, "MessageBody").accepts({}, json.dumps(body).encode()) is expected


@pytest.mark.parametrize(
    ("values", "attributes", "expected"),
    [
        ([{"numeric": [">", 0, "<=", 70]}], {"k": Attribute("Number", "69")}, True),
        ([{"numeric": [">", 0, "<=", 70]}], {"k": Attribute("Number", "77")}, False),
        ([None, {"anything-but": "some"}], {}, False),
        ([{"exists": True}], {"k": Attribute("Number", "7"), "j": Attribute("Number", "7")}, True),
        ([{"exists": True}], {"j": Attribute("Number", "7")}, False),
        ([{"exists": False}], {"j": Attribute("Number", "7")}, True),
        ([{"exists": False}], {"k": Attribute("Number", "7"), "j": Attribute("Number", "7")}, False),
        (["v1"], {"k": Attribute("String", "v1")}, True),
        (["v1"], {"k": Attribute("String.Array", '["v1", "v2"]')}, True),
        (["v1"], {"k": Attribute("String.Array", '["v2", "v3"]')}, False),
    ],
)
def test_attributes(values: list[Any], attributes: dict[str, Attribute], expected: bool) -> None:
    assert FilterPolicy.parse({"k": values}).accepts(attributes, b"") is expected


def many(count: int) -> list[str]:
    return [f"v{n}" for n in range(count)]


BODY, ATTRIBUTES = "MessageBody", "MessageAttributes"


@pytest.mark.parametrize(
    ("policy", "scope"),
    [
        *(
            ({"k": [value]}, ATTRIBUTES)
            for value in (
                ["v"],
                {"no-operator": True},
                {"suffix": "a", "prefix": "b"},
                *({"suffix": each} for each in (7, None, [], ["a", "b"])),
                *({"cidr": each} for each in (["no"], "no", "no/64", "no-/64no", "xx.1.xx/8", "xxxx:db8:7::/64")),
                *({"numeric": each} for each in ([], ["sign"], [1, "<="], ["=", "00"], [">="], ["<", 70, ">", 10])),
                *({"numeric": each} for each in ([">=", 1, ">", 2], [">", 4, "<", 2], [">", 20, "<="], [">", 20, 30])),
                *({"numeric": each} for each in ([">", 20, "a"], [">", "2", "<", "3"], [">", 2, "<", "3"])),
                {"numeric": [">", 20, "<", 30, "<", 50]},
                *({"exists": each} for each in (None, "no")),
                *({"anything-but": each} for each in ({"no-operator": None}, {"exists": False}, {"prefix": False})),
            )
        ),
        ({"k": []}, ATTRIBUTES),
        ({"k": "v"}, BODY),
        ({"k": {"suffix": "a"}}, ATTRIBUTES),
        ({"k": {"suffix": "a", "prefix": "b"}}, BODY),
        ({"k": {"key": [{"prefix": "a-"}]}}, ATTRIBUTES),
        ({"k": many(151)}, ATTRIBUTES),
        ({"k": many(100), "j": many(51)}, ATTRIBUTES),
        ({each: ["v"] for each in "abcdef"}, ATTRIBUTES),
        ({each: ["v"] for each in "abcdef"}, BODY),
        ({"a": {"b": {"c": many(4)}}, "d": {"e": many(3)}, "f": many(3)}, BODY),  # 3 x 4, 2 x 3, 3: 216
        # 4 x 6 + 4 x 4 x 4 + 4 x 4 x 4 = 152
        ({"s": many(4), "$or": [{"n": many(6)}, {"t": many(4), "$or": [{"i": many(4)}, {"j": many(4)}]}]}, ATTRIBUTES),
        # (3 + 2) x 4 x (2 + 6) = 160
        (
            {
                "$or": [{"n": many(3)}, {"s": many(2)}],
                "d": {"e": many(2), "$or": [{"f": many(1)}, {"t": many(3)}]},
            },
            BODY,
        ),
    ],
)
def test_refused(policy: dict[str, Any], scope: Any) -> None:
    with pytest.raises(ConfigError):
        FilterPolicy.parse(policy, scope)


@pytest.mark.parametrize(
    ("policy", "scope"),
    [
        ({"k": [{"anything-but": {"prefix": "a-"}}]}, ATTRIBUTES),
        ({"k": [{"anything-but": ["a", "b"]}]}, ATTRIBUTES),
        ({"k": [{"anything-but": "a"}]}, ATTRIBUTES),
        ({"object": {"key": [{"prefix": "a-"}]}}, BODY),
        # 3 x 6 + 3 x 4 x 4 + 3 x 4 x 7 = 150
        ({"s": many(3), "$or": [{"n": many(6)}, {"t": many(4), "$or": [{"i": many(4)}, {"j": many(7)}]}]}, ATTRIBUTES),
    ],
)
def test_taken(policy: dict[str, Any], scope: Any) -> None:
    FilterPolicy.parse(policy, scope)
