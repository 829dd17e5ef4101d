"""An ARN or URL that leads to another region, partition or account than its connection is refused at load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge.config import load
from bridge.core.errors import ConfigError

ORDERS = "arn:aws:sqs:eu-west-1:123456789012:orders"
IN: dict[str, Any] = {
    "name": "in",
    "source": {"kind": "sqs", "queue": ORDERS},
    "destination": {"kind": "jetstream", "subject": "orders"},
}
OUT: dict[str, Any] = {
    "name": "out",
    "source": {"kind": "jetstream", "stream": "S", "consumer": "c"},
    "destination": {"kind": "sqs", "queue": "legacy"},
}


def complaints(tmp_path: Path, *routes: object, aws: object = None, **more: object) -> list[str]:
    document = {"aws": aws or {"region": "eu-west-1"}, **more, "routes": list(routes)}
    file = tmp_path / "bridge.yaml"
    file.write_text(yaml.safe_dump(document))
    try:
        load(file, {})
    except ConfigError as error:
        return [each.split(": ", 1)[1] for each in str(error).splitlines()]
    return []


def with_(route: dict[str, Any], section: str, **keys: object) -> dict[str, Any]:
    return {**route, section: keys}


ELSEWHERE = "arn:aws:sqs:us-west-2:123456789012:orders"
URL = "https://sqs.us-west-2.amazonaws.com/123456789012/orders"
TO_SNS = {"kind": "sns", "topic": "arn:aws:sns:us-west-2:123456789012:t"}


@pytest.mark.parametrize(
    ("route", "place"),
    [
        (with_(IN, "source", kind="sqs", queue=ELSEWHERE), "source.queue"),
        (with_(IN, "source", kind="sqs", queue=URL), "source.queue"),
        (with_(OUT, "destination", kind="sqs", queue=URL), "destination.queue"),
        ({**OUT, "destination": TO_SNS}, "destination.topic"),
        (with_(OUT, "parking", kind="sqs", queue=ELSEWHERE), "parking.queue"),
        ({**OUT, "watch": [{"kind": "sqs", "queue": "near"}, {"kind": "sqs", "queue": URL}]}, "watch[1].queue"),
    ],
)
def test_what_lies_in_another_region_is_refused(tmp_path: Path, route: dict[str, Any], place: str) -> None:
    (said,) = complaints(tmp_path, route)
    assert said.startswith(f"routes[0].{place}: it is in us-west-2, and aws is for eu-west-1; ")
    if place.startswith(("source", "destination")):
        assert "connections: {us-west-2: {kind: aws, region: us-west-2}}, and aws: us-west-2" in said
    else:
        assert said.endswith("a route uses one AWS connection: name one in eu-west-1")


def test_a_connection_that_is_there_is_named(tmp_path: Path) -> None:
    there = {"west": {"kind": "aws", "region": "us-west-2"}}
    route = with_(IN, "source", kind="sqs", queue=ELSEWHERE)
    (said,) = complaints(tmp_path, route, connections=there)
    assert said.endswith("write aws: west on the route")
    assert complaints(tmp_path, {**route, "aws": "west"}, connections=there) == []
    (said,) = complaints(tmp_path, {**IN, "aws": "west"}, connections=there)
    assert "connection west is for us-west-2" in said


def test_what_is_here_or_does_not_say_is_taken(tmp_path: Path) -> None:
    queues = [ORDERS, "orders", "http://127.0.0.1:4566/000000000000/orders"]
    queues += ["https://sqs.eu-west-1.amazonaws.com/123456789012/orders/"]
    for queue in queues:
        assert complaints(tmp_path, with_(IN, "source", kind="sqs", queue=queue)) == []
    assert complaints(tmp_path, with_(IN, "source", kind="sqs", queue=ELSEWHERE), aws={"profile": "x"}) == []
    verify = ["arn:aws:sns:us-west-2:123456789012:t"]  # topics may be anywhere
    assert complaints(tmp_path, with_(IN, "source", kind="sqs", queue="q", verify=verify)) == []


def test_a_region_of_another_partition(tmp_path: Path) -> None:
    route = with_(IN, "source", kind="sqs", queue="arn:aws-cn:sqs:eu-west-1:123456789012:orders")
    (said,) = complaints(tmp_path, route)
    assert said.endswith("eu-west-1 is not in partition aws-cn; write arn:aws:sqs:eu-west-1:123456789012:orders")


@pytest.mark.parametrize(
    "url",
    [
        "https://sqs.eu-west-1.amazonaws.com/123456789012/orders/more",
        "https://sqs.eu-west-1.amazonaws.com/orders",
        "https://sqs.eu-west-1.amazonaws.com/12/orders",
        "https://sqs.eu-west-1.amazonaws.com/123456789012/orders?Action=x",
        "http://127.0.0.1:4566/1/orders#part",
        "http://user:secret@127.0.0.1:4566/1/orders",
        "http://[::/1/orders",
    ],
)
def test_a_url_that_is_not_a_queues(tmp_path: Path, url: str) -> None:
    (said,) = complaints(tmp_path, with_(IN, "source", kind="sqs", queue=url))
    assert "routes[0].source.queue: not a" in said
    assert "name instead" in said
    assert "secret" not in said


def test_copies_of_one_topic_under_two_subjects(tmp_path: Path) -> None:
    topic = "arn:aws:sns:eu-west-1:123456789012:t"

    def route(name: str, subject: str, **more: object) -> dict[str, Any]:
        return {
            "name": name,
            "source": {"kind": "sqs", "queue": name, "verify": [topic]},
            "destination": {"kind": "jetstream", "subject": subject, "stream": "S", **more},
        }

    (said,) = complaints(tmp_path, route("a", "s.a"), route("b", "s.b"))
    assert "routes[1].destination.subject: route a publishes the same messages" in said
    assert "id_scope: queue" in said
    assert complaints(tmp_path, route("a", "s.a"), route("b", "s.a")) == []
    assert complaints(tmp_path, route("a", "s.a", id_scope="queue"), route("b", "s.b", id_scope="queue")) == []
