"""Small plots over time, as SVG: the worst of every moment, with a hole where nothing is known.

May not: read a clock, or leave out a peak.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, log10

from bridge.core.lag import POINT_SECONDS, spelled
from bridge.page.html import Markup, el
from bridge.page.words import compact

Series = Sequence[tuple[float, float | None]]
"""(when, value), in order of time; None is unknown."""

SPANS = (300.0, 900.0, 3600.0)  # what the axis may show: the shortest that holds what is remembered
WIDTH, HEIGHT = 200, 74
LEFT, RIGHT, TOP, BOTTOM = 40, 195, 8, 56
MOST_POINTS = 120
ROUND_SECONDS = (1.0, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14_400, 28_800, 86_400)


def plot(series: Series, *, now: float, what: str, seconds: bool) -> Markup:
    """`what` describes the plot to screen readers; the values are `seconds` or a count."""
    span = span_of(series, now)
    shown = [(at, value) for at, value in series if at >= now - span]
    known = [value for _, value in shown if value is not None]
    top = ceiling(max(known, default=0.0), seconds=seconds)

    def x(at: float) -> float:
        return round(RIGHT - (now - at) / span * (RIGHT - LEFT), 1)

    def y(value: float) -> float:
        return round(BOTTOM - value / top * (BOTTOM - TOP), 1)

    lines = [[(x(at), y(value)) for at, value in run] for run in runs(thinned(shown))]
    holes = [(max(LEFT, x(start)), x(end)) for start, end in unknown(shown, now)]
    label = spelled(top) if seconds else compact(top)
    return el(
        "svg",
        [
            el("rect", class_="hole", x=left, y=TOP, width=round(right - left, 1), height=BOTTOM - TOP)
            for left, right in holes
            if right > left
        ],
        el("line", class_="grid", x1=LEFT, x2=RIGHT, y1=TOP, y2=TOP),
        el("line", class_="axis", x1=LEFT, x2=RIGHT, y1=BOTTOM, y2=BOTTOM),
        [_drawn(line) for line in lines],
        el("text", _short(label), x=LEFT - 5, y=TOP + 4, class_="end"),
        el("text", "0", x=LEFT - 5, y=BOTTOM + 1, class_="end"),
        el("text", f"{span / 60:.0f} min ago", x=LEFT, y=HEIGHT - 4),
        el("text", "now", x=RIGHT, y=HEIGHT - 4, class_="end"),
        class_="plot",
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=_spoken(what, span, known, shown, seconds=seconds),
    )


def span_of(series: Series, now: float) -> float:
    reach = now - series[0][0] if series else 0.0
    return next((span for span in SPANS if reach <= span), SPANS[-1])


def ceiling(value: float, *, seconds: bool) -> float:
    """The round number at the top of the axis, never below `value`."""
    if seconds and value <= ROUND_SECONDS[-1]:
        return next(each for each in ROUND_SECONDS if value <= each)
    if value <= 1:
        return 1.0
    size: float = 10.0 ** floor(log10(value))
    return next((size * step for step in (1, 2, 5, 10) if value <= size * step), value)


def thinned(series: Series) -> Series:
    """At most MOST_POINTS, each the worst of those it stands for; unknown only where nothing of them is known."""
    if len(series) <= MOST_POINTS:
        return series
    each = ceil(len(series) / MOST_POINTS)
    parts = [series[start : start + each] for start in range(0, len(series), each)]
    return [(part[0][0], max([value for _, value in part if value is not None], default=None)) for part in parts]


def runs(series: Series) -> list[list[tuple[float, float]]]:
    """The series in pieces without a hole."""
    found: list[list[tuple[float, float]]] = [[]]
    for at, value in series:
        if value is None:
            found.append([])
        else:
            found[-1].append((at, value))
    return [run for run in found if run]


def unknown(series: Series, now: float) -> list[tuple[float, float]]:
    """From when till when nothing was known."""
    found: list[tuple[float, float]] = []
    for at, value in series:
        if value is not None:
            continue
        end = min(now, at + POINT_SECONDS)
        if found and at - found[-1][1] <= POINT_SECONDS:
            found[-1] = (found[-1][0], end)
        else:
            found.append((at, end))
    return found


def _drawn(line: list[tuple[float, float]]) -> list[Markup]:
    (first, _), (last, height) = line[0], line[-1]
    path = " ".join(f"{x:g},{y:g}" for x, y in line)
    area = f"{first:g},{BOTTOM} {path} {last:g},{BOTTOM}"
    return [
        el("polygon", class_="area", points=area),
        el("polyline", class_="line", points=path),
        el("circle", class_="dot", cx=last, cy=height, r=2.2),
    ]


def _short(label: str) -> str:
    return label.replace(".0 ", " ")


def _spoken(what: str, span: float, known: list[float], shown: Series, *, seconds: bool) -> str:
    def said(value: float | None) -> str:
        return "unknown" if value is None else spelled(value) if seconds else f"{value:,.0f}"

    if not shown:
        return f"{what}: no data yet"
    most = f", at most {said(max(known))}" if known else ""
    return f"{what}, the last {span / 60:.0f} minutes: now {said(shown[-1][1])}{most}"
