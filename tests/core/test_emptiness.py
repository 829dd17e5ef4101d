"""When a source counts as empty: laws over any sequence of readings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.emptiness import READS, Circumstances, Emptiness, Reading
from bridge.core.route import Backlog

COUNTS = st.one_of(st.just(0), st.integers(0, 3))
BACKLOGS = st.one_of(st.none(), st.just(Backlog(0)), st.just(Backlog(0)), st.builds(Backlog, COUNTS, COUNTS, COUNTS))


@st.composite
def readings(draw: st.DrawFn) -> list[Reading]:
    """Any history: time goes on, received never falls."""
    at = received = 0
    history = []
    for _ in range(draw(st.integers(0, 25))):
        at += draw(st.integers(1, 40))
        received += draw(st.sampled_from([0, 0, 0, 0, 1, 7]))
        in_flight = draw(st.sampled_from([0, 0, 0, 0, 2]))
        history.append(Reading(float(at), draw(BACKLOGS), received, in_flight))
    return history


def proof_of(history: list[Reading], needed: float = 75.0) -> Emptiness:
    proof = Emptiness(needed)
    for reading in history:
        proof = proof.read(reading)
    return proof


def zeros(count: int, step: float) -> list[Reading]:
    return [Reading(n * step, Backlog(0)) for n in range(count)]


@given(readings(), st.sampled_from([1.0, 10.0, 75.0]))
def test_proven_is_exactly_enough_zeros_in_a_row_over_the_span_with_nothing_received(
    history: list[Reading], needed: float
) -> None:
    """Said a second time, from the end of the history backwards."""
    row: list[Reading] = []
    for reading in reversed(history):
        if not reading.is_zero or (row and row[-1].received != reading.received):
            break
        row.append(reading)
    expected = len(row) >= READS and row[0].at - row[-1].at >= needed
    assert proof_of(history, needed).proven == expected


@given(readings(), BACKLOGS, st.integers(0, 2), st.integers(0, 2))
def test_any_reading_that_is_not_zero_begins_again(
    history: list[Reading], backlog: Backlog | None, in_flight: int, more: int
) -> None:
    last = history[-1] if history else Reading(0.0, None)
    reading = Reading(last.at + 1, backlog, last.received + more, in_flight)
    proof = proof_of([*history, reading])
    if not reading.is_zero:
        assert (proof.reads, proof.empty_since, proof.proven) == (0, None, False)
    elif more and history:
        assert (proof.reads, proof.empty_for) == (1, 0.0)


@given(readings())
def test_the_past_before_a_reading_that_is_not_zero_does_not_count(history: list[Reading]) -> None:
    cut = next((at for at in range(len(history) - 1, -1, -1) if not history[at].is_zero), 0)
    assert proof_of(history).proven == proof_of(history[cut:]).proven


@given(readings())
def test_there_is_always_a_sentence(history: list[Reading]) -> None:
    proof = proof_of(history)
    sentence = proof.message(Circumstances(blocked=1, parked=2))
    assert "cannot be carried and block their groups" in sentence
    assert "2 parked" in sentence
    assert ("not empty" in sentence) == bool(history and history[-1].backlog is not None and not history[-1].is_zero)


def test_many_reads_within_the_span_prove_nothing_and_few_over_it_neither() -> None:
    assert not proof_of(zeros(50, 1.0)).proven
    assert not proof_of(zeros(2, 80.0)).proven
    assert proof_of(zeros(5, 18.75)).proven


def test_what_we_still_hold_is_not_empty_whatever_the_source_counts() -> None:
    held = [Reading(n * 20.0, Backlog(0), 0, in_flight=1) for n in range(9)]
    assert not proof_of(held).proven


def test_a_clock_that_goes_back_begins_again() -> None:
    proof = proof_of([*zeros(9, 9.0), Reading(1.0, Backlog(0))])
    assert (proof.reads, proof.proven) == (1, False)


@pytest.mark.parametrize(
    ("reading", "sentence"),
    [
        (Reading(0, Backlog(14, 2), 0, 2), "not empty: 14 visible, 2 in flight"),
        (Reading(0, Backlog(0, 3, 5), 0, 1), "not empty: 0 visible, 3 in flight, 5 delayed; 2 in flight are held by"),
        (Reading(0, None), "unknown: the source does not answer"),
        (Reading(0, Backlog(0)), "empty for 0 s of 75 s (reads in a row: 1)"),
    ],
)
def test_what_is_in_the_way_is_reported(reading: Reading, sentence: str) -> None:
    assert sentence in proof_of([reading]).message(Circumstances())


def test_a_producer_that_still_sends_is_reported() -> None:
    sending = proof_of([Reading(0, Backlog(1), 5), Reading(9, Backlog(3), 8)])
    assert sending.message(Circumstances()) == "not empty: 3 visible, 0 in flight; messages still arrive"
    between = proof_of([Reading(0, Backlog(0), 5), Reading(9, Backlog(0), 6)])
    assert between.message(Circumstances()).startswith("a message arrived in between; empty for 0 s")
