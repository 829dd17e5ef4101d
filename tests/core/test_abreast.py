"""The laws of core/abreast.py."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bridge.core.abreast import RECOVERY, Abreast

EVENTS = st.lists(st.sampled_from(["full", "empty", "throttled"]), max_size=200)


def report(abreast: Abreast, event: str) -> None:
    """What a pump does."""
    if event == "full":
        if abreast.full():
            abreast.begun()
    elif getattr(abreast, event)():
        abreast.ended()


def grown(most: int) -> Abreast:
    abreast = Abreast(most)
    abreast.begun()
    for _ in range(most):
        report(abreast, "full")
    return abreast


@given(st.integers(1, 40), EVENTS)
def test_there_is_always_one_and_never_more_than_the_most(most: int, events: list[str]) -> None:
    abreast = Abreast(most)
    abreast.begun()
    for event in events:
        report(abreast, event)
        assert 1 <= abreast.running <= most


def test_it_grows_to_the_most_and_one_stays_when_there_is_nothing() -> None:
    abreast = grown(32)
    assert abreast.running == 32
    for _ in range(40):
        report(abreast, "empty")
    assert abreast.running == 1


@given(st.integers(2, 40), st.integers(1, 60))
def test_what_was_refused_is_not_tried_again_for_a_while(most: int, refusals: int) -> None:
    abreast = grown(most)
    for _ in range(refusals):
        report(abreast, "throttled")
    left = abreast.running
    assert left == max(1, most - refusals)
    for _ in range(RECOVERY - 1):
        report(abreast, "full")
    assert abreast.running == left
    report(abreast, "full")
    assert abreast.running == left + 1


@given(st.integers(1, 8), EVENTS)
def test_in_the_end_there_are_the_most_again(most: int, events: list[str]) -> None:
    abreast = Abreast(most)
    abreast.begun()
    for event in [*events, *["full"] * (RECOVERY * most + most)]:
        report(abreast, event)
    assert abreast.running == most
