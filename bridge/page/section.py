"""Everything about one route, as a section of the page.

May not: judge, read a clock, or use anything but what it is given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bridge.core.lag import spelled
from bridge.page import story, words
from bridge.page.flow import SIGNS, flow, tone
from bridge.page.html import Child, Markup, el, join
from bridge.page.plots import plot

History = Sequence[tuple[float, int | None, float | None]]
"""(when, messages, seconds) of one place, in order of time."""

FAILURES_OPEN = 5  # the rest is folded
LOUD = frozenset({"parked", "rejected", "heartbeat_failed"})  # outcomes that need attention


def badge(verdict: str, *, calm: bool = False) -> Markup:
    """The verdict as a word and a sign; the colour repeats it. `calm`: no one has to act on it."""
    colour = "v-none" if calm else tone(verdict)
    return el("span", el("span", SIGNS.get(verdict, ""), aria_hidden="true"), f" {verdict}", class_=f"badge {colour}")


def moment(at: float | None, now: float) -> Markup:
    if at is None:
        return join(words.UNKNOWN)
    return join(el("time", words.clock(at), datetime=words.moment(at)), f" ({words.ago(at, now)})")


def section(
    name: str, route: Mapping[str, Any], histories: Mapping[tuple[str, str, str], History], now: float
) -> Markup:
    resting = story.on_purpose(route)
    since = route.get("state_since" if resting else "verdict_since")
    return el(
        "section",
        el(
            "h2",
            badge(route["verdict"], calm=story.on_purpose(route)),
            " ",
            el("a", name, href=f"?route={name}"),
            el("span", route["state"], class_="state") if route["state"] != "running" else None,
            id=f"h-{name}",
        ),
        el("p", el("strong", story.cause(route)), class_="reason"),
        el("p", route["hint"], class_="hint") if route.get("hint") else None,
        el("p", f"{route['state'] if resting else route['verdict']} since ", moment(since, now), class_="quiet")
        if since
        else None,
        _troubles(route),
        flow({**route, "name": name}),
        el("h3", "Lag, legacy and new"),
        _lags(route["places"], histories, now, calm=resting),
        _facts(route, now),
        el("h3", "Messages since the start"),
        _outcomes(route),
        _blocked(name, route),
        _failures(name, route, now),
        class_=f"route {'v-none' if story.on_purpose(route) else tone(route['verdict'])}",
        id=f"route-{name}",
        aria_labelledby=f"h-{name}",
    )


def _troubles(route: Mapping[str, Any]) -> Markup | None:
    said = story.cause(route)
    more = [each for each in route["trouble"] if str(each).partition(" (")[0] not in said]
    return el("ul", [el("li", each) for each in more], class_="trouble") if more else None


def _lags(
    places: Sequence[Mapping[str, Any]],
    histories: Mapping[tuple[str, str, str], History],
    now: float,
    *,
    calm: bool,
) -> Markup:
    if not places:
        return el("p", "No data yet.", class_="quiet")
    heads = ("Where", "Messages", "Age of the oldest", "Finished", "Growth", "Drained", "Retention left")
    return el(
        "table",
        el("caption", "Backlog, age and trend of each queue and consumer", class_="unseen"),
        el(
            "thead",
            el("tr", [el("th", each, scope="col", role="columnheader") for each in heads], role="row"),
            role="rowgroup",
        ),
        el("tbody", [_lag(place, histories, heads, now, calm=calm) for place in places], role="rowgroup"),
        class_="lags",
        role="table",  # a phone shows it as cards, and it stays a table for screen readers
    )


def _lag(
    place: Mapping[str, Any],
    histories: Mapping[tuple[str, str, str], History],
    heads: Sequence[str],
    now: float,
    *,
    calm: bool,
) -> Markup:
    side, system, name = place["side"], place["system"], place["name"]
    own = side == "bridge"
    history = histories.get((side, system, name), ())
    messages = plot([(at, count) for at, count, _ in history], now=now, what=f"messages at {name}", seconds=False)
    ages = [(at, age) for at, _, age in history]
    # A queue that reports no ages has nothing to draw, and nothing is missing.
    untold = any(count is not None for _, count, _ in history) and all(age is None for _, age in ages)
    seconds = None if untold else plot(ages, now=now, what=f"age of the oldest at {name}", seconds=True)
    facts: tuple[Child, ...] = (
        [el("b", words.count(words.waiting(place))), el("small", _parts(place)), messages],
        [el("b", words.age(place)), seconds],
        words.pace(place),
        words.trend(place),
        words.drained(place),
        words.headroom(place),
    )
    where = el(
        "th",
        el("span", words.SIDES.get(side, side), class_=f"side side-{side}"),
        el("span", name, class_="name"),
        badge(place["verdict"], calm=calm and own),
        # For the route itself both are shown above.
        el("span", place["reason"], class_="quiet") if place["verdict"] != "OK" and not own else None,
        el("span", "since ", moment(place["since"], now), class_="quiet")
        if place["verdict"] != "OK" and not own
        else None,
        scope="row",
        role="rowheader",
    )
    cells = [el("td", fact, data_label=head, role="cell") for head, fact in zip(heads[1:], facts, strict=True)]
    return el("tr", where, cells, role="row", class_="v-none" if calm and own else f"v-{place['verdict'].lower()}")


def _parts(place: Mapping[str, Any]) -> str | None:
    """What the number is made of, where that is not obvious."""
    if not words.waiting(place) and not place.get("delayed"):
        return None
    parts = [f"{place['pending']:,} wait", f"{place['in_flight']:,} in flight"]
    if place.get("delayed"):
        parts.append(f"{place['delayed']:,} delayed")
    return ", ".join(parts)


def _facts(route: Mapping[str, Any], now: float) -> Markup:
    carried = route.get("last_carried")
    facts: list[tuple[str, Any]] = [
        ("Pace", words.pace(route)),
        ("In flight", f"{route['in_flight_messages']:,}"),
        ("Last carried", moment(carried, now) if carried else "nothing yet"),
        ("Blocked groups", f"{len(route['blocked']):,}"),
        ("State", route["state"]),
        *_heartbeat(route.get("heartbeat"), now),
        *_drain(route.get("drain")),
    ]
    return el("dl", [el("div", el("dt", term), el("dd", fact)) for term, fact in facts], class_="facts")


def _heartbeat(beat: Mapping[str, Any] | None, now: float) -> list[tuple[str, Any]]:
    if not beat:
        return []
    arrived, transit = beat.get("last_arrived"), beat.get("transit")
    took = f", took {spelled(transit)}" if transit is not None else ""
    failed = f", {beat['failed']:,} failed" if beat.get("failed") else ""
    return [
        (
            f"Heartbeat, every {spelled(beat['every'])}",
            join("arrived ", moment(arrived, now), took, failed) if arrived else f"none arrived yet{failed}",
        )
    ]


def _drain(drain: Mapping[str, Any] | None) -> list[tuple[str, Any]]:
    return [("Drain", str(drain["message"]))] if drain and drain.get("message") else []


def _outcomes(route: Mapping[str, Any]) -> Markup:
    counts = route["messages"]
    return el(
        "dl",
        [
            el(
                "div",
                el("dt", words.outcome(outcome), title=words.EXPLAINED.get(outcome)),
                el("dd", f"{count:,}", class_="loud" if count and outcome in LOUD else None),
            )
            for outcome, count in counts.items()
        ],
        class_="facts counts",
    )


def _blocked(name: str, route: Mapping[str, Any]) -> Markup | None:
    if not route["blocked"]:
        return None
    return el(
        "div",
        el("h3", "Blocked groups"),
        el("p", "Each of these messages cannot be carried, and its group waits behind it.", class_="quiet"),
        el("ul", [el("li", el("code", each), ": ", reason) for each, reason in route["blocked"].items()]),
        id=f"blocked-{name}",
    )


def _failures(name: str, route: Mapping[str, Any], now: float) -> Markup | None:
    failures = list(reversed(route["failures"]))
    if not failures:
        return None
    parked = route["messages"].get("parked")
    return el(
        "div",
        el("h3", "Last failures"),
        el("p", "What is parked now: ", el("code", f"nats-sqs-bridge parked list --route {name}"), class_="quiet")
        if parked
        else None,
        _failed(failures[:FAILURES_OPEN], now),
        el(
            "details",
            el("summary", f"{len(failures) - FAILURES_OPEN} before"),
            _failed(failures[FAILURES_OPEN:], now),
            id=f"older-{name}",
        )
        if len(failures) > FAILURES_OPEN
        else None,
    )


def _failed(failures: Sequence[Mapping[str, Any]], now: float) -> Markup:
    heads = ("When", "What", "Message", "Why")
    rows = [
        el(
            "tr",
            el("th", moment(each["at"], now), scope="row", role="rowheader", data_label="When"),
            el("td", str(each["what"]).replace("_", " "), role="cell", data_label="What"),
            el("td", el("code", each["id"]), role="cell", data_label="Message"),
            el("td", each["error"], role="cell", data_label="Why"),
            role="row",
        )
        for each in failures
    ]
    return el(
        "table",
        el(
            "thead",
            el("tr", [el("th", head, scope="col", role="columnheader") for head in heads], role="row"),
            role="rowgroup",
        ),
        el("tbody", rows, role="rowgroup"),
        class_="failures",
        role="table",
    )
