"""What the page and `status` say of a place: nothing that leads nowhere, and nothing that nobody knows."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.page import words


def place(verdict: str = "OK", **more: Any) -> dict[str, Any]:
    return {"verdict": verdict, "pending": 7, "in_flight": 0, "pace_per_second": 2.0, "growth_per_second": 0.0, **more}


def test_a_stalled_place_has_no_time_at_which_it_is_empty() -> None:
    shrank = place("STALLED", growth_per_second=-0.9, empty_in_seconds=7.4, pace_per_second=0.9)
    assert words.pace(shrank) == "none"
    assert words.pace({**shrank, "verdict": "SLOW"}) == "0.9/s"
    assert words.pace(place("STALLED", pace_per_second=None)) == "unknown"
    assert (words.drained(shrank), words.trend(shrank)) == ("not while STALLED", "none")
    assert words.trend(place("STALLED", growth_per_second=5.0)) == "+5.0/s"  # that it grows is news
    assert words.trend(place("STALLED", growth_per_second=None)) == "unknown"
    assert words.drained({**shrank, "verdict": "SLOW"}) == "in 7.4 s"
    assert words.drained(place("STALLED", pending=0)) == "empty"


@pytest.mark.parametrize(("pace", "said"), [(None, "unknown"), (0.0, "keeps up"), (2.0, "keeps up")])
def test_no_one_is_said_to_keep_up_at_an_unknown_pace(pace: float | None, said: str) -> None:
    assert words.drained(place(pace_per_second=pace)) == said


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("carried", "carried"),
        ("parked", "parked since the start"),
        ("retried", "attempts retried"),
        ("heartbeat", "heartbeats"),
        ("heartbeat_failed", "heartbeats failed"),
    ],
)
def test_outcomes_have_names_a_newcomer_reads(name: str, said: str) -> None:
    assert words.outcome(name) == said
