"""What is said of a filter that would not do what it seems to say, and how YAML reads one."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.config import load
from tests.config.test_complaints import complaint, route

CASES: dict[str, tuple[str, list[str]]] = {
    "a filter SNS would refuse": (
        route(more="filter: {eventType: [{prefx: pay}]}"),
        ["bridge.yaml:6: routes[0].filter: eventType: prefx is not an operator (did you mean prefix?)"],
    ),
    "a filter that is no policy": (
        route(more='filter: "eventType=paid"'),
        ["bridge.yaml:6: routes[0].filter: it must hold keys and values, indented below it"],
    ),
    "what becomes of filtered messages, without a filter": (
        route(more="filtered: drop"),
        ["bridge.yaml:6: routes[0].filtered: it goes with a filter; add filter"],
    ),
    "filtered messages parked nowhere": (
        route(more="filtered: park\n    filter: {kind: [card]}"),
        ["bridge.yaml:6: routes[0].filtered: park needs a place; add parking"],
    ),
    "filtered messages parked where nothing is": (
        route(
            "{kind: sqs, queue: orders.fifo}",
            more="filtered: park\n    filter: {kind: [card]}\n    cannot_carry: block\n"
            "    parking: {kind: sqs, queue: parked}",
        ),
        [
            "bridge.yaml:6: routes[0].filtered: cannot_carry: block parks nothing; write drop, or cannot_carry: park",
        ],
    ),
    "a filter_scope without a filter": (
        route(more="filter_scope: MessageBody"),
        ["bridge.yaml:6: routes[0].filter_scope: it goes with a filter; add filter"],
    ),
    "a filter whose text YAML takes for a truth value": (
        route(more="filter: {country: [SE, NO]}"),
        ['bridge.yaml:6: routes[0].filter.country[1]: YAML reads NO as false; write "NO" or false'],
    ),
    "a filter whose text YAML takes for a number": (
        route(more="filter: {at: [12:30:00], code: [0o17, 010, 1_000]}"),
        [
            'bridge.yaml:6: routes[0].filter.at[0]: YAML reads 12:30:00 as 45000; write "12:30:00" or 45000',
            'bridge.yaml:6: routes[0].filter.code[1]: YAML reads 010 as 8; write "010" or 8',
            'bridge.yaml:6: routes[0].filter.code[2]: YAML reads 1_000 as 1000; write "1_000" or 1000',
        ],
    ),
    "a filter whose nothing is written as YAML does": (
        route(more="filter: {gone: [~]}"),
        ['bridge.yaml:6: routes[0].filter.gone[0]: YAML reads ~ as null; write "~" or null'],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_complaints(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, expected = CASES[name]
    assert complaint(tmp_path, monkeypatch, text) == expected


@pytest.mark.parametrize("number", ["3e2", "3.0E+2", "300", "300.0"])
def test_numbers_are_read_as_json_reads_them(number: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """YAML 1.1 takes 3e2 for a text, and a filter with it would match no number."""
    monkeypatch.chdir(tmp_path)
    Path("bridge.yaml").write_text(route(more=f'filter: {{amount: [{number}], name: ["3e2"], is: [true, null, x]}}'))
    (found,) = load(None, {}).routes
    assert found.filter == {"amount": [300], "name": ["3e2"], "is": [True, None, "x"]}
    assert type(found.filter["amount"][0]) is not str
