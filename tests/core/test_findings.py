"""What check finds: each rule on the facts that break it, and silence on a sound world."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bridge.core.errors import NotUsable
from bridge.core.facts import ConsumerFacts, QueueFacts, RouteFacts, StreamFacts, TopicFacts, World
from bridge.core.findings import Finding, findings

QUEUE = QueueFacts("orders", "arn:orders", False, 30.0, 1_048_576, True)
CONSUMER = ConsumerFacts("c", ("back.>",), 60.0, -1)
STREAM = StreamFacts("ORDERS", ("orders.>",), "limits", "old", False, 600.0, -1, (CONSUMER,))
IN = RouteFacts(
    "in",
    queue=QUEUE,
    pattern="orders.*",
    destinations=(STREAM,),
    max_payload=8_388_608,
    parked_elsewhere=True,
    sns_ids=True,
)
BACK_STREAM = replace(STREAM, name="BACK", subjects=("back.>",))
OUT = RouteFacts(
    "out",
    stream=BACK_STREAM,
    consumer=CONSUMER,
    batch=200,
    to_queue=replace(QUEUE, name="legacy", arn="arn:legacy"),
    parked_elsewhere=True,
)


def found(*routes: RouteFacts) -> list[Finding]:
    return findings(World(routes))


def only(level: str, words: str, *routes: RouteFacts) -> Finding:
    (finding,) = [each for each in found(*routes) if each.level != "ok"]
    assert finding.level == level
    assert words in finding.text
    assert finding.advice
    return finding


def test_a_sound_world_is_ok() -> None:
    assert {(each.level, each.route) for each in found(IN, OUT)} == {("ok", "in"), ("ok", "out")}


def test_what_is_missing_is_an_error_with_the_command() -> None:
    error = NotUsable("there is no queue", hint="aws sqs create-queue")
    finding = only("error", "there is no queue", replace(IN, errors=(("queue orders", error),)))
    assert finding.advice == "aws sqs create-queue"


def test_a_drain_too_short_for_the_counts_of_sqs() -> None:
    assert "60 or more" in only("warning", "drain_seconds is 5", replace(IN, drain_seconds=5.0)).advice
    assert {each.level for each in found(replace(IN, drain_seconds=60.0), replace(OUT, drain_seconds=5.0))} == {"ok"}


def test_a_short_duplicate_window() -> None:
    short = replace(STREAM, duplicate_window=20.0)
    assert "--dupe-window" in only("warning", "duplicate window (20 s)", replace(IN, destinations=(short,))).advice


def test_the_window_a_route_needs_is_reported_and_compared() -> None:
    away = replace(IN, longest_outage=1800.0)
    parts = "(1840 s: longest_outage 1800 s + visibility timeout 30 s + 10 s to settle)"
    assert f"the route needs {parts}" in only("warning", "duplicate window (600 s)", away).text
    assert not [each for each in found(away) if each.what == "window"]
    (told,) = [each for each in found(replace(away, ledger=True)) if each.what == "window"]
    assert told.text.endswith("ORDERS has 600 s; a ledger covers more")
    assert all(each.level == "ok" for each in found(replace(away, ledger=True)))


def test_an_interest_stream_whose_consumers_ask_for_other_subjects() -> None:
    stream = replace(STREAM, retention="interest", consumers=(replace(CONSUMER, filters=("orders.a",)),))
    route = replace(IN, destinations=(stream,), ledger=True)
    only("warning", "no consumer of it asks for all of orders.*", route)
    for filters in ((), ("orders.a", "orders.*")):
        wanted = replace(stream, consumers=(CONSUMER, replace(CONSUMER, filters=filters)))
        assert all(each.level == "ok" for each in found(replace(route, destinations=(wanted,))))


def test_ids_that_a_server_forgets_with_the_messages() -> None:
    queue = replace(STREAM, retention="workqueue")
    only("warning", "no longer knows the ids", replace(IN, destinations=(queue,)))


def test_what_keeps_the_order_of_groups_is_reported() -> None:
    fifo = replace(OUT, to_queue=replace(QUEUE, name="legacy.fifo", arn="arn:legacy", fifo=True))
    (told,) = [each for each in found(fifo) if each.what == "order"]
    assert "--pinned-groups" in told.advice
    (told,) = [each for each in found(replace(fifo, consumer=replace(CONSUMER, pinned=True))) if each.what == "order"]
    assert "stand by" in told.text


def test_a_max_payload_without_room_for_headers() -> None:
    only("warning", "1,114,111", replace(IN, max_payload=1_048_576))


def test_a_max_msg_size_that_is_too_small() -> None:
    only("warning", "max_msg_size", replace(IN, destinations=(replace(STREAM, max_msg_size=1000),)))


def test_a_stream_that_captures_only_a_part() -> None:
    part = only("warning", "only a part", replace(IN, destinations=(replace(STREAM, subjects=("orders.a", "x.>")),)))
    assert part.advice == 'nats stream edit ORDERS --subjects "x.>,orders.*"'


def test_a_limited_stream_that_discards_old_messages() -> None:
    only("warning", "discards old", replace(IN, destinations=(replace(STREAM, limited=True),)))
    assert found(replace(IN, destinations=(replace(STREAM, limited=True, discard="new"),)))[0].level == "ok"


def test_a_work_queue_that_another_consumer_shares() -> None:
    shared = replace(BACK_STREAM, retention="workqueue", consumers=(CONSUMER, replace(CONSUMER, name="other")))
    assert "other" in only("warning", "work queue", replace(OUT, stream=shared)).text


def test_an_ack_wait_shorter_than_a_batch_takes() -> None:
    only("warning", "ack wait is 5 s", replace(OUT, consumer=replace(CONSUMER, ack_wait=5.0)))


def test_a_visibility_timeout_shorter_than_a_publish() -> None:
    only("warning", "visibility timeout is 2 s", replace(IN, queue=replace(QUEUE, visibility_timeout=2.0)))


def test_no_parking_and_no_redrive() -> None:
    bare = replace(IN, parked_elsewhere=False)
    assert found(bare)[0].level == "ok"
    only("warning", "is redelivered forever", replace(bare, queue=replace(QUEUE, redrives=False)))
    only("warning", "redelivered forever", replace(OUT, parked_elsewhere=False))
    limited = replace(CONSUMER, max_deliver=5)
    only("warning", "after 5 times", replace(OUT, parked_elsewhere=False, consumer=limited))


def test_a_queue_that_forgets_before_an_outage_ends() -> None:
    away = replace(IN, longest_outage=1800.0, ledger=True)
    only("warning", "keeps a message for 60 s", replace(away, queue=replace(QUEUE, retention=60.0)))
    assert all(each.level == "ok" for each in found(replace(away, queue=replace(QUEUE, retention=1800.0))))


def test_a_topic_no_one_is_subscribed_to() -> None:
    topic = TopicFacts("t", "arn:t", False, (), 0)
    told = only("warning", "it has no subscription", replace(OUT, to_queue=None, to_topic=topic))
    assert "aws sns subscribe --topic-arn arn:t " in told.advice
    for subscribed in (1, None):
        route = replace(OUT, to_queue=None, to_topic=replace(topic, subscriptions=subscribed))
        assert all(each.level == "ok" for each in found(route))


def test_a_parking_place_among_the_messages() -> None:
    inside = replace(IN, parking_subject="orders.parked")
    reading = replace(
        STREAM, consumers=(replace(CONSUMER, filters=()), replace(CONSUMER, name="d", filters=("orders.a",)))
    )
    told = only("warning", "its consumers (c) are given parked messages", replace(inside, destinations=(reading,)))
    assert '--subjects "parked.>"' in told.advice
    only(
        "warning",
        "a consumer without a filter would be",
        replace(inside, destinations=(replace(STREAM, consumers=()),)),
    )
    own = replace(OUT, parking_subject="back.parked")
    only("warning", "inside stream BACK: its consumers (c)", own)
    filtered = replace(STREAM, consumers=(replace(CONSUMER, filters=("orders.a",)),))
    for route in (replace(inside, destinations=(filtered,)), replace(IN, parking_subject="parked.in")):
        assert all(each.level == "ok" for each in found(route))


def test_a_watched_place_that_is_not_there_leaves_its_lag_unknown() -> None:
    missing = (("watch[1]", NotUsable("there is no queue", hint="is the name right")),)
    told = only("warning", "there is no queue; its lag will be unknown", replace(IN, unwatched=missing))
    assert (told.what, told.advice) == ("watch[1]", "is the name right")


def test_heartbeats_that_find_no_way() -> None:
    nowhere = replace(OUT, heartbeat=30.0)
    only("warning", "no heartbeat can be sent", nowhere)
    (told,) = [each for each in found(replace(nowhere, heartbeat_from="back._heartbeat")) if each.what == "heartbeat"]
    assert (told.level, "on back._heartbeat" in told.text) == ("ok", True)
    beating = replace(IN, heartbeat=30.0, heartbeat_to="orders._heartbeat")
    assert all(each.level == "ok" for each in found(beating))
    only("warning", "does not capture", replace(beating, heartbeat_to="other._heartbeat"))


def test_two_queues_of_one_topic_in_one_stream() -> None:
    second = replace(IN, name="in2", queue=replace(QUEUE, name="orders2", arn="arn:orders2"))
    only("warning", "duplicate and is not stored", IN, second)
    assert all(each.level == "ok" for each in found(IN, replace(second, sns_ids=False)))


def reader(stream: StreamFacts, **changes: object) -> RouteFacts:
    consumer = ConsumerFacts("r", (), 60.0, -1)
    return replace(OUT, stream=stream, consumer=consumer, **changes)  # type: ignore[arg-type]


def test_two_routes_that_feed_each_other() -> None:
    back = reader(STREAM, to_queue=QUEUE)
    (told,) = [each for each in found(IN, back) if each.what == "loop"]
    assert (told.level, "in -> out -> in" in told.text) == ("ok", True)
    carrying = replace(back, carries_echo=True)
    assert "in -> out -> in" in only("error", "loop forever", IN, carrying).text


def test_a_loop_through_a_topic_is_seen_where_its_subscriptions_are() -> None:
    topic = TopicFacts("t", "arn:t", False, ("arn:orders",))
    only("error", "loop forever", IN, reader(STREAM, to_queue=None, to_topic=topic, carries_echo=True))
    unknown = replace(topic, feeds=None)
    silent = reader(STREAM, to_queue=None, to_topic=unknown, carries_echo=True)
    assert not [each for each in found(IN, silent) if each.what == "loop"]


@pytest.mark.parametrize("filters", [("orders.*.x",), ("other.>",)])
def test_filters_that_keep_routes_apart_make_no_loop(filters: tuple[str, ...]) -> None:
    back = reader(STREAM, to_queue=QUEUE)
    apart = replace(back, consumer=ConsumerFacts("r", filters, 60.0, -1))
    assert not [each for each in found(IN, apart) if each.what == "loop"]


def test_a_loop_over_four_routes_is_one_finding() -> None:
    a, b = replace(QUEUE, name="a", arn="arn:a"), replace(QUEUE, name="b", arn="arn:b")
    one, two = replace(STREAM, name="ONE"), replace(STREAM, name="TWO")
    routes = (
        replace(IN, name="1", queue=a, destinations=(one,)),
        reader(one, name="2", to_queue=b),
        replace(IN, name="3", queue=b, destinations=(two,), sns_ids=False),
        reader(two, name="4", to_queue=a),
    )
    (told,) = [each for each in found(*routes) if each.what == "loop"]
    assert "1 -> 2 -> 3 -> 4 -> 1" in told.text


def test_pointers_that_are_not_followed_are_named() -> None:
    (told,) = [each for each in found(replace(IN, pointers="kept")) if each.what == "pointers"]
    assert told.level == "ok"
    assert "source.buckets" in told.advice
    only("warning", "carried as they are", replace(IN, pointers="asked"))


def test_payloads_the_way_back_does_not_fetch_are_a_warning() -> None:
    into, back = replace(IN, claims_in="large"), replace(OUT, stream=replace(STREAM, consumers=(CONSUMER,)))
    findings = [each for each in found(into, back) if each.what == "object store large"]
    assert [(each.level, each.route) for each in findings] == [("warning", "out")]
    assert not [each for each in found(into, replace(back, claims_from=("large",))) if "large" in each.what]
    assert not [each for each in found(into, OUT) if "large" in each.what]
