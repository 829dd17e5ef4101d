"""What check finds about queues and topics: who may send, copies under one id, messages too large for everything."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.facts import QueueFacts, RouteFacts, TopicFacts, World
from bridge.core.findings import Finding, findings
from bridge.core.policies import Policy, read_policy
from tests.core.test_findings import IN, OUT, QUEUE, found, only

TOPIC = "arn:aws:sns:eu-west-1:123456789012:payments"
ARN = "arn:aws:sqs:eu-west-1:123456789012:orders"


def policy(**statement: Any) -> Policy | None:
    allowed = {"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": ARN, **statement}
    return read_policy(json.dumps({"Statement": [allowed]}), ARN)


FROM_SNS: dict[str, Any] = {"Principal": {"Service": "sns.amazonaws.com"}}
ONLY: dict[str, Any] = {"Condition": {"ArnEquals": {"aws:SourceArn": TOPIC}}}


@pytest.mark.parametrize(
    ("statement", "lets"),
    [
        ({**FROM_SNS, **ONLY}, True),
        (FROM_SNS, True),
        ({"Principal": "*", **ONLY}, True),
        ({"Principal": {"AWS": "*"}, "Condition": {"ArnLike": {"AWS:SourceArn": f"{TOPIC[:-4]}*"}}}, True),
        ({"Principal": "*"}, True),
        ({**FROM_SNS, **ONLY, "Action": ["SQS:SendMessage", "sqs:x"]}, True),
        ({**FROM_SNS, **ONLY, "Action": "sqs:*"}, True),
        ({**FROM_SNS, **ONLY, "Action": "*", "Resource": "*"}, True),
        ({**FROM_SNS, **ONLY, "Action": "sqs:ReceiveMessage"}, False),
        ({**FROM_SNS, **ONLY, "Resource": ARN.replace("orders", "other")}, False),
        ({**FROM_SNS, **ONLY, "Effect": "Deny"}, False),
        ({**FROM_SNS, "Condition": {"ArnEquals": {"aws:SourceArn": f"{TOPIC}-old"}}}, False),
        ({"Principal": {"Service": "s3.amazonaws.com"}}, False),
        ({"Principal": {"AWS": "arn:aws:iam::123456789012:root"}}, False),
    ],
)
def test_whether_a_policy_lets_a_topic_deliver(statement: dict[str, Any], lets: bool) -> None:
    read = policy(**statement)
    assert read is not None
    assert read.lets(TOPIC) is lets
    queue = replace(QUEUE, policy=read, topics=(TOPIC,))
    told = [each for each in found(replace(IN, queue=queue, verified=(TOPIC,))) if each.level == "error"]
    assert bool(told) is not lets
    assert all(TOPIC in each.text and "sqs:SendMessage" in each.advice for each in told)


def test_a_queue_without_a_policy_gets_nothing_of_its_topic() -> None:
    for facts in (replace(IN, queue=replace(QUEUE, topics=(TOPIC,))), replace(IN, verified=(TOPIC,))):
        assert "SNS drops" in only("error", TOPIC, facts).text
    # Without a topic it may be fed by those whose own policies let them.
    assert {each.level for each in found(replace(IN, queue=replace(QUEUE, topics=())))} == {"ok"}


def test_a_subscriber_of_the_destination_topic_that_sns_cannot_deliver_to() -> None:
    out = replace(OUT, to_queue=None, to_topic=TopicFacts("payments", TOPIC, False, (ARN,), 1))
    assert {each.level for each in found(replace(out, feeds=(replace(QUEUE, policy=policy(**FROM_SNS)),)))} == {"ok"}
    only("error", "does not let", replace(out, feeds=(QUEUE,)))


@pytest.mark.parametrize("principal", ["*", {"AWS": "*"}, {"AWS": ["arn:aws:iam::1:root", "*"]}])
def test_a_queue_that_anyone_may_write_to(principal: Any) -> None:
    queue = replace(QUEUE, policy=policy(Principal=principal))
    told = only("warning", "message ids included", replace(IN, queue=queue, envelopes=True))
    assert "`verify`" in told.advice
    assert "forged" not in only("warning", "anyone", replace(IN, queue=queue, envelopes=True, verified=(TOPIC,))).text
    assert "forged" not in only("warning", "anyone", replace(IN, queue=queue)).text


def test_envelopes_that_are_not_verified_are_worth_knowing_of() -> None:
    queue = replace(QUEUE, topics=(TOPIC,), policy=policy(**FROM_SNS, **ONLY))
    told = [each for each in found(replace(IN, queue=queue, envelopes=True)) if "forge" in each.text]
    assert [each.level for each in told] == ["ok"]
    verified = found(replace(IN, queue=queue, envelopes=True, verified=(TOPIC,)))
    assert not [each for each in verified if "forge" in each.text]


KEYS = st.sampled_from(["Statement", "Effect", "Action", "Principal", "AWS", "Service", "Resource", "Condition"])
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner)
)


@given(ANY | st.just("{"))
def test_any_policy_is_read_or_is_none(document: Any) -> None:
    text = document if document == "{" else json.dumps(document)
    read = read_policy(text, ARN)
    assert read is None or isinstance(read.lets(TOPIC), bool)


# -- copies


def second(subject: str, **changes: Any) -> RouteFacts:
    return replace(IN, name="second", subject=subject, queue=replace(QUEUE, name="b", arn="arn:b"), **changes)


def of_streams(*routes: RouteFacts) -> list[Finding]:
    return [each for each in findings(World(routes)) if each.level != "ok"]


FIRST = replace(IN, subject="orders.{attributes.type}")


def test_one_topic_two_queues_two_subjects_and_one_stream_is_an_error() -> None:
    (told,) = of_streams(FIRST, second("orders.{body.type}"))
    assert (told.level, told.route, told.what) == ("error", "second", "stream ORDERS")
    assert "`id_scope: queue`" in told.advice
    (told,) = of_streams(FIRST, second("orders.{attributes.type}"))
    assert told.level == "warning"
    assert not of_streams(FIRST, second("orders.{body.type}", sns_ids=False))  # id_scope: queue, or no envelopes


def test_queues_of_topics_that_are_known_to_differ_share_no_ids() -> None:
    def fed(route: RouteFacts, **changes: Any) -> RouteFacts:
        assert route.queue is not None
        return replace(route, queue=replace(route.queue, **changes))

    mine, other = (
        policy(**FROM_SNS, **ONLY),
        read_policy(
            json.dumps(
                {
                    "Statement": {
                        "Effect": "Allow",
                        "Action": "sqs:SendMessage",
                        **FROM_SNS,
                        "Condition": {"ArnLike": {"aws:SourceArn": "arn:aws:sns:eu-west-1:1:refunds"}},
                    }
                }
            ),
            ARN,
        ),
    )
    two = second("orders.{body.type}")
    assert not of_streams(fed(FIRST, policy=mine), fed(two, policy=other))
    assert of_streams(fed(FIRST, policy=mine), fed(two, policy=mine))[0].level == "error"
    assert of_streams(fed(FIRST, policy=mine), two)[0].level == "error"  # it may well be
    # What is subscribed counts more than what is allowed.
    assert not of_streams(fed(FIRST, policy=mine, topics=(TOPIC,)), fed(two, policy=mine, topics=()))


def test_the_third_route_is_compared_with_every_other() -> None:
    third = replace(second("orders.x"), name="third")
    told = of_streams(FIRST, second("orders.{attributes.type}"), third)
    assert [(each.route, each.level) for each in told] == [("second", "warning"), ("third", "error")]


# -- too large for everything

PARK: QueueFacts = replace(QUEUE, name="parked", arn="arn:parked")


def test_a_payload_too_large_for_the_destination_and_the_parking_queue() -> None:
    out = replace(OUT, max_payload=1_048_576, parking_queue=PARK)
    told = only("warning", "786,432", out)  # what base64 leaves of 1 MiB
    assert "claim_check" in told.advice
    for sound in (
        replace(out, claim_check=True),
        replace(out, parking_queue=None),
        replace(out, max_payload=700_000),
        replace(out, stream=replace(OUT.stream, max_msg_size=1000)),  # type: ignore[type-var]
    ):
        assert {each.level for each in found(sound)} == {"ok"}
    # A small destination whose parking queue takes more is no trouble: that is what parking is for.
    assert OUT.to_queue is not None
    small = replace(out, max_payload=200_000, to_queue=replace(OUT.to_queue, max_message_size=1024))
    assert {each.level for each in found(small)} == {"ok"}
    only("warning", "stay at the source", replace(small, parking_queue=replace(PARK, max_message_size=8192)))


def test_a_full_sqs_message_that_neither_the_stream_nor_the_parking_queue_takes() -> None:
    small = replace(IN, max_payload=1_000_000, parking_queue=PARK)
    told = [each for each in found(small) if each.what == "parking parked"]
    assert [each.level for each in told] == ["warning"]
    assert not [each for each in found(replace(small, claim_check=True)) if each.what == "parking parked"]
    assert not [each for each in found(replace(small, max_payload=8_388_608)) if each.what == "parking parked"]
