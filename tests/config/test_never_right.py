"""Configurations that would park every message: refused at load, with what to write instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.config import load
from tests.config.test_complaints import complaint, route

TOPIC = "arn:aws:sns:eu-west-1:123456789012"
UNSIGNED = "SNS does not sign messages of FIFO topics: all would be parked; leave it out"
CASES: dict[str, tuple[str, list[str]]] = {
    "verify of a FIFO topic": (
        route(f'{{kind: sqs, queue: orders, verify: "{TOPIC}:t, {TOPIC}:u.fifo"}}'),
        [f"routes[0].source.verify: {TOPIC}:u.fifo is a FIFO topic, and {UNSIGNED}"],
    ),
    "verify on a FIFO queue": (
        route(
            f'{{kind: sqs, queue: "https://sqs.eu-west-1.amazonaws.com/123456789012/o.fifo", verify: ["{TOPIC}:t"]}}'
        ),
        [f"routes[0].source.verify: only FIFO topics deliver to a FIFO queue, and {UNSIGNED}"],
    ),
    "a topic without envelopes": (
        route("{kind: sqs, queue: orders, envelope: never}", '{kind: jetstream, subject: "a.{topic}"}'),
        [
            (
                "routes[0].destination.subject: {topic} is known only from an envelope, and envelope is never; "
                "write {topic|direct} or leave one out"
            )
        ],
    ),
    "a constant instead of a field": (
        route(destination="""{kind: jetstream, subject: "a.{body.'detail-type'}"}"""),
        [
            (
                """routes[0].destination.subject: {body.'detail-type'} in "a.{body.'detail-type'}" is the same for """
                "every message; single quotes and backticks make a constant, a name goes into double quotes: "
                """'{body."detail-type"}'"""
            )
        ],
    ),
    "a name that needs quotes": (
        route("{kind: jetstream, stream: S, consumer: c}", '{kind: sqs, queue: o.fifo, group: "{body.account-id}"}'),
        [
            (
                "routes[0].destination.group: {body.account-id} in '{body.account-id}' is not valid JMESPath: Bad "
                "jmespath expression: Unknown token '-'; a name with other characters than letters, digits and _ needs "
                """double quotes: '{body."account-id"}'"""
            )
        ],
    ),
    "a time that is a list": (
        route(destination='{kind: jetstream, subject: a, schedules: due, deliver_at: "{body.times[*]}"}'),
        [
            (
                "routes[0].destination.deliver_at: {body.times[*]} in '{body.times[*]}' never gives a text, a number "
                "or a boolean, but array; take one element of the list: {body.(times[*] | [0])}"
            )
        ],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_would_park_every_message_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    text, sentences = CASES[name]
    said = complaint(tmp_path, monkeypatch, text)
    assert [sentence.split(": ", 1)[1] for sentence in said] == sentences


def test_what_it_says_to_write_is_taken(tmp_path: Path) -> None:
    file = tmp_path / "bridge.yaml"
    subject = """'a.{topic|direct}.{body."detail-type"}.{body.(items[*].sku | [0])|none}'"""
    file.write_text(route("{kind: sqs, queue: o, envelope: never}", f"{{kind: jetstream, subject: {subject}}}"))
    assert load(file, {}).routes[0].name == "in"
