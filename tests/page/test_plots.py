"""The laws of bridge/page/plots.py: no peak is left out, and what is unknown is a hole."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from bridge.core.lag import POINT_SECONDS, POINTS_KEPT
from bridge.page.plots import BOTTOM, LEFT, MOST_POINTS, RIGHT, TOP, ceiling, plot, runs, span_of, thinned, unknown

NOW = 1_800_000_000.0
values = st.none() | st.integers(0, 10**9) | st.floats(0, 1e6)
hours = st.lists(values, max_size=POINTS_KEPT)


def series(found: list[float | None]) -> list[tuple[float, float | None]]:
    return [(NOW - POINT_SECONDS * (len(found) - place), value) for place, value in enumerate(found)]


def parsed(found: list[float | None], *, seconds: bool = False) -> ET.Element:
    return ET.fromstring(plot(series(found), now=NOW, what="lag", seconds=seconds))


@given(hours, st.booleans())
def test_everything_drawn_is_inside_and_the_peak_is_among_it(found: list[float | None], seconds: bool) -> None:
    picture = parsed(found, seconds=seconds)
    drawn = [
        tuple(map(float, pair.split(",")))
        for line in picture.iter("polyline")
        for pair in line.attrib["points"].split()
    ]
    known = [value for value in found if value is not None]
    assert bool(drawn) == bool(known)
    for x, y in drawn:
        assert LEFT <= x <= RIGHT
        assert TOP <= y <= BOTTOM
    if known:
        top = ceiling(max(known), seconds=seconds)
        assert min(y for _, y in drawn) == round(BOTTOM - max(known) / top * (BOTTOM - TOP), 1)
    assert picture.attrib["aria-label"].startswith("lag")


@given(hours)
def test_thinned_keeps_the_worst_and_calls_unknown_only_what_is(found: list[float | None]) -> None:
    thin = thinned(series(found))
    assert len(thin) <= MOST_POINTS
    known = [value for value in found if value is not None]
    assert max((value for _, value in thin if value is not None), default=None) == max(known, default=None)
    if all(value is not None for value in found):
        assert None not in [value for _, value in thin]


@given(st.floats(0, 1e12), st.booleans())
def test_the_top_of_the_axis_is_round_and_not_below(value: float, seconds: bool) -> None:
    top = ceiling(value, seconds=seconds)
    assert top >= value
    assert top > 0
    assert value <= 1 or top <= 10 * value


def test_what_is_unknown_is_a_hole_in_the_line() -> None:
    found = [1.0, 2.0, None, None, 3.0]
    assert [len(run) for run in runs(series(found))] == [2, 1]
    assert unknown(series(found), NOW) == [(NOW - 30, NOW - 10)]
    assert len(list(parsed(found).iter("polyline"))) == 2
    assert [each.attrib["class"] for each in parsed(found).iter("rect")] == ["hole"]


def test_nothing_remembered_is_said_and_not_drawn_as_zero() -> None:
    picture = parsed([])
    assert picture.attrib["aria-label"] == "lag: no data yet"
    assert not list(picture.iter("polyline"))
    assert parsed([None]).attrib["aria-label"] == "lag, the last 5 minutes: now unknown"


def test_the_axis_shows_what_is_remembered_up_to_an_hour() -> None:
    assert [span_of(series([1.0] * count), NOW) for count in (1, 30, 31, 90, 91, 360)] == [
        *(300.0, 300.0, 900.0, 900.0, 3600.0, 3600.0)
    ]
    texts = [each.text for each in parsed([70.0] * 360, seconds=True).iter("text")]
    assert texts == ["2 min", "0", "60 min ago", "now"]
