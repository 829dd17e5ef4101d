"""The page at `/`, for the engineer on call: the worst problem first, and what to do about it.

Rendered from the document of /status and the histories of its places, as a string; complete without JavaScript, and
`script.js` fetches it again and puts the fresh parts in place. No style, script or picture from elsewhere.
May not: ask, wait, read a clock, or show what was not escaped (html.py writes every tag).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bridge.core.lag import spelled
from bridge.page import story, words
from bridge.page.flow import tone
from bridge.page.html import Child, Markup, document, el
from bridge.page.section import History, badge, moment, section

MOST_SECTIONS = 6  # routes shown in full on one page; each has its own page, so that fifty cost no more than six
SEVERITY = ("OK", "SLOW", "UNKNOWN", "STALLED", "STOPPED")
RELOAD_SECONDS = 10  # without JavaScript
ASSETS = {"style.css": "text/css", "script.js": "text/javascript", "icon.svg": "image/svg+xml"}
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

Histories = Mapping[str, Mapping[tuple[str, str, str], History]]
"""By route, and by side, system and name of the place."""


def shown_whole(status: Mapping[str, Any], only: str = "") -> list[str]:
    """The routes whose histories the page needs: the worst few, or the one it was asked for."""
    return [only] if only else story.worst_first(status)[:MOST_SECTIONS]


def page(status: Mapping[str, Any], histories: Histories, *, now: float, only: str = "") -> Markup:
    """`only` is the route to show alone; it must be one of `status`."""
    routes = status["routes"]
    names = story.worst_first(status)
    shown = shown_whole(status, only)
    found = story.headline(status)
    title = f"{found.verdict} · {found.title}" if found.verdict != "OK" else f"OK · {len(routes)} routes"
    body = el(
        "body",
        el("a", "Skip to the routes", href="#main", class_="skip"),
        _top(status, now),
        el("p", role="alert", id="stale", hidden=True),
        el("div", _headline(found, story.findings(status), now, whole=not only), id="story", data_live=True),
        el(
            "main",
            _overview(names, routes) if len(routes) > 1 and not only else None,
            [section(name, routes[name], histories.get(name, {}), now) for name in shown],
            el("p", f"The {len(names) - len(shown)} others are in the table above.", class_="quiet")
            if len(shown) < len(names) and not only
            else None,
            el("p", el("a", "All routes", href="./")) if only else None,
            id="main",
            data_live=True,
        ),
        _bottom(),
    )
    return document(el("html", _head(title, status["version"]), body, lang="en"))


def _head(title: str, version: str) -> Markup:
    return el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("meta", name="version", content=version),
        el("title", f"{title} · nats-sqs-bridge"),
        el("link", rel="icon", href="icon.svg", type="image/svg+xml"),
        el("link", rel="stylesheet", href="style.css"),
        el("noscript", el("meta", http_equiv="refresh", content=RELOAD_SECONDS)),
        el("script", src="script.js", defer=True),
    )


def _top(status: Mapping[str, Any], now: float) -> Markup:
    connections = status["connections"].items()
    return el(
        "header",
        el(
            "p",
            el("b", "nats-sqs-bridge"),
            f" {status['version']}, up for {spelled(status['uptime_seconds'])}",
            id="about",
            data_live=True,
        ),
        el(
            "p",
            "NATS: " if connections else None,
            ", ".join(f"{name} {state}" for name, state in connections),
            id="connections",
            data_live=True,
        ),
        el(
            "p",
            el("span", "As of ", el("time", words.clock(now), datetime=words.moment(now)), id="asof", data_live=True),
            el("button", "Stop refreshing", type="button", id="refreshing", hidden=True),
            el("noscript", f", reloads every {RELOAD_SECONDS} s; ", el("a", "reload now", href="")),
            class_="live",
        ),
    )


def _headline(found: story.Finding, findings: list[story.Finding], now: float, *, whole: bool) -> list[Markup | None]:
    # Only the sentence itself is read out when it changes, not every second that passes.
    others = [
        each
        for each in findings
        if each.title != found.title and not (each.rank == found.rank == story.FAILING and each.reason == found.reason)
    ]
    return [
        el(
            "div",
            el("h1", badge(found.verdict), " ", found.title, aria_live="polite", id="headline", data_live=True),
            el("p", found.reason, class_="reason") if found.reason else None,
            el("p", el("b", "What to do: "), found.advice, class_="advice") if found.advice else None,
            el("p", el("code", found.command)) if found.command else None,
            el("p", "Since ", moment(found.since, now), class_="quiet") if found.since else None,
            class_=f"headline {tone(found.verdict)}",
        ),
        el("ul", [_also(each) for each in others[:12]], class_="also", aria_label="Other findings")
        if others and whole
        else None,
    ]


def _also(found: story.Finding) -> Markup:
    sign = badge(found.verdict) if found.rank != story.NOTE else el("span", "note", class_="badge v-none")
    return el(
        "li",
        sign,
        " ",
        el("a", found.title, href=f"#route-{found.route}") if found.route else found.title,
        el("span", f" {found.reason}", class_="quiet") if found.reason else None,
        [" ", el("code", found.command)] if found.command else None,
    )


def _overview(names: list[str], routes: Mapping[str, Any]) -> Markup:
    heads = (
        "Route",
        "Verdict",
        "Lag of the bridge",
        "of legacy consumers",
        "of new consumers",
        "Pace",
        "Parked since the start",
    )
    return el(
        "div",
        el("h2", "Routes", id="h-routes"),
        el(
            "div",
            el(
                "table",
                el("thead", el("tr", [el("th", head, scope="col") for head in heads])),
                el("tbody", [_row(name, routes[name]) for name in names]),
                class_="overview",
            ),
            class_="scrolls",
            tabindex=0,
            role="region",
            aria_labelledby="h-routes",
        ),
        class_="card",
    )


def _row(name: str, route: Mapping[str, Any]) -> Markup:
    cells = (
        *(_worst(route, side) for side in ("bridge", "legacy", "new")),
        words.pace(route),
        f"{route['messages'].get('parked', 0):,}",
    )
    return el(
        "tr",
        el("th", el("a", name, href=f"?route={name}"), scope="row"),
        el("td", badge(route["verdict"], calm=story.on_purpose(route))),
        [el("td", cell) for cell in cells],
    )


def _worst(route: Mapping[str, Any], side: str) -> Child:
    """The lag of the worst one."""
    places = [place for place in route["places"] if place["side"] == side]
    if not places:
        return words.UNKNOWN if side == "bridge" else words.NOT_WATCHED
    worst = max(places, key=lambda place: (SEVERITY.index(place["verdict"]), words.waiting(place) or 0))
    lag = words.lag(worst)
    return lag if worst["verdict"] == "OK" or side == "bridge" else [badge(worst["verdict"]), " ", lag]


def _bottom() -> Markup:
    links = ("status", "metrics", "readyz", "healthz")
    return el("footer", el("p", "The same for machines: ", [[el("a", f"/{each}", href=each), " "] for each in links]))


__all__ = ["ASSETS", "CONTENT_SECURITY_POLICY", "page", "shown_whole"]
