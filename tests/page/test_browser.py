"""The page in a real browser, served by the daemon's own HTTP surface."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from email.message import Message

import pytest

from bridge.core.errors import NotUsable, Unmappable
from bridge.core.route import Backlog, Receipt
from bridge.observe import Observation
from tests.page.browser import Browser
from tests.page.documents import Served, abandoned, carried, delivery, opened, served, watched
from tests.page.test_html import HOSTILE
from tests.page.test_page import busy
from tests.system.process import until

pytestmark = pytest.mark.server

# Elements whose content is wider than they are, and lines of a picture that leave their box.
TOO_WIDE = """
    const html = [...document.querySelectorAll("*")].filter((e) => e instanceof HTMLElement
        && !e.closest("thead, .unseen") && e.clientWidth > 1
        && e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX === "visible");
    const lines = [...document.querySelectorAll(".flow g")].flatMap((g) => {
        const box = g.querySelector(".box");
        if (!box || !box.getClientRects().length) return [];
        const right = box.getBoundingClientRect().right;
        return [...g.querySelectorAll("text")].filter((text) => text.getBoundingClientRect().right > right);
    });
    return [...html, ...lines].map((e) => `${e.tagName} ${e.textContent.slice(0, 60)}`);
"""


@pytest.fixture
def observation() -> Observation:
    return busy()


@pytest.fixture
def surface(observation: Observation) -> Iterator[Served]:
    observation.judge()
    with served(observation) as found:
        yield found


def answer(url: str) -> tuple[int, Message, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as found:
            return found.status, found.headers, found.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read().decode()


def test_every_answer_forbids_what_the_page_does_not_need(surface: Served) -> None:
    for path in ("/", "/style.css", "/script.js", "/icon.svg", "/status", "/metrics", "/history?route=third", "/none"):
        status, headers, _ = answer(surface.url + path)
        assert status == (404 if path == "/none" else 200), path
        policy = headers["Content-Security-Policy"].split("; ")
        assert policy[0] == "default-src 'none'"
        for part in ("base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'", "script-src 'self'"):
            assert part in policy
        assert not [part for part in policy if "unsafe" in part or "*" in part]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"
    assert answer(surface.url + "/style.css")[1].get_content_type() == "text/css"


def test_a_route_has_a_page_and_a_history_of_its_own(surface: Served) -> None:
    status, _, text = answer(surface.url + "/?route=settlements-back")
    assert status == 200
    assert 'id="route-settlements-back"' in text
    assert 'id="route-payments-in"' not in text
    assert answer(surface.url + "/?route=%3Cscript%3E")[0] == 404
    assert "<script>" in answer(surface.url + "/?route=%3Cscript%3E")[2]
    assert answer(surface.url + "/?route=%3Cscript%3E")[1].get_content_type() == "text/plain"
    assert answer(surface.url + "/history")[0] == 404
    assert answer(surface.url + "/history?route=third")[2] == '{"route": "third", "point_seconds": 10.0, "places": []}'
    assert '"points": [[' in answer(surface.url + "/history?route=payments-in")[2]


def test_without_javascript_the_page_is_whole_and_renews_itself(
    plain_browser: Browser, surface: Served, observation: Observation
) -> None:
    browser = plain_browser
    browser.open(surface.url)
    assert browser.run("return getComputedStyle(document.getElementById('refreshing')).display") == "none"
    for text in ("STALLED", "What to do:", "no client is reading", "payments-validation", "reload now"):
        assert text.lower() in browser.text.lower(), text
    # What the browser does with the refresh is its own affair; that it fetches again is what counts.
    observation.route("third").not_open(NotUsable("another story altogether"), 1.0)
    observation.judge()
    until(lambda: "another story altogether" in browser.text, "a reload without JavaScript")
    assert browser.console() == []


def test_with_javascript_the_page_follows_and_keeps_what_the_reader_did(
    browser: Browser, surface: Served, observation: Observation
) -> None:
    browser.open(surface.url)
    browser.run("""
        document.querySelector('details').open = true;
        document.querySelector('main a').focus();
        window.kept = document.getElementById('headline');
        window.told = 0;
        const all = {childList: true, subtree: true, characterData: true};
        new MutationObserver(() => window.told++).observe(window.kept, all);
    """)
    route = observation.route("payments-in")
    carried(route, 4_321)
    until(lambda: "4,333" in browser.text, "the new count, without a reload")
    assert browser.run("return document.querySelector('details').open")
    assert browser.run("return document.activeElement.getAttribute('href')") == "?route=third"
    # The headline says the same, so a screen reader must not hear it again.
    assert browser.run("return [window.told, window.kept.isConnected]") == [0, True]
    observation.route("settlements-back").resumed(carrying=False)
    observation.route("settlements-back").not_open(NotUsable("no such queue"), 1.0)
    observation.judge()
    until(lambda: "2 of 3 routes are STOPPED" in browser.text, "the new headline")
    assert browser.run("return [window.told > 0, window.kept.isConnected]") == [True, True]
    assert browser.run("return document.title").startswith("STOPPED · 2 of 3 routes")
    assert browser.console() == []


def test_a_daemon_that_does_not_answer_is_reported_and_so_is_its_return(
    browser: Browser, surface: Served, observation: Observation
) -> None:
    browser.open(surface.url)
    port = int(surface.url.rpartition(":")[2])
    surface.stop()
    until(lambda: "The bridge does not answer." in browser.text, "the silence")
    assert browser.run("return document.title").startswith("NO ANSWER")
    again = Served(observation, port)
    try:
        until(lambda: "does not answer" not in browser.text, "the return")
    finally:
        again.stop()
    assert all("ERR_CONNECTION_REFUSED" in line for line in browser.console())


def test_refreshing_can_be_stopped(browser: Browser, surface: Served, observation: Observation) -> None:
    browser.open(surface.url)
    said = "return document.getElementById('refreshing').textContent"
    assert browser.run(said) == "Stop refreshing"  # it pauses no route
    browser.run("document.getElementById('refreshing').click()")
    assert browser.run(said) == "Refresh again"
    carried(observation.route("payments-in"), 4_321)
    fetched = "return performance.getEntriesByType('resource').filter(e => e.initiatorType === 'fetch').length"
    browser.run("document.getElementById('refreshing').click()")
    until(lambda: "4,333" in browser.text, "going on")
    assert browser.run(fetched) >= 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 360, 768, 1280])
def test_nothing_is_wider_than_the_window(browser: Browser, surface: Served, width: int, scheme: str) -> None:
    browser.prefer(color_scheme=scheme)
    browser.size(width)
    browser.open(surface.url)
    assert browser.run("return innerWidth") == width
    assert browser.run("return document.documentElement.scrollWidth") <= width
    assert browser.run(TOO_WIDE) == []
    assert browser.console() == []


def test_dark_and_light_follow_the_reader(browser: Browser, surface: Served) -> None:
    grounds = {}
    for scheme in ("light", "dark"):
        browser.prefer(color_scheme=scheme)
        browser.open(surface.url)
        grounds[scheme] = browser.run("return getComputedStyle(document.documentElement).backgroundColor")
    assert grounds == {"light": "rgb(244, 245, 247)", "dark": "rgb(13, 17, 23)"}


def test_who_wants_less_motion_gets_none(browser: Browser, surface: Served) -> None:
    browser.prefer(reduced_motion="reduce")
    browser.open(surface.url)
    moving = (
        "return [...document.querySelectorAll('*')].filter(e => parseFloat(getComputedStyle(e).transitionDuration) > 0"
        " || getComputedStyle(e).animationName !== 'none').length"
    )
    browser.run("document.documentElement.classList.add('old')")
    assert browser.run(moving) == 0


def test_hostile_text_is_shown_and_runs_nowhere(browser: Browser) -> None:
    observation = Observation()
    route = opened(observation, "in")
    abandoned(watched(route, "new", "jetstream", HOSTILE))
    route.parked(delivery(0, HOSTILE), Unmappable(HOSTILE, HOSTILE), Receipt("PARKED:1"))
    observation.route("out").not_open(NotUsable(HOSTILE, hint=HOSTILE), 1.0)
    observation.judge()
    with served(observation) as surface:
        browser.open(surface.url)
        until(
            lambda: browser.run(
                "return performance.getEntriesByType('resource').some(e => e.initiatorType === 'fetch')"
            ),
            "an update by the script",
        )
        assert browser.text.count("<script>alert(1)</script>") >= 4
        assert browser.run("return document.querySelectorAll('script').length") == 1
        assert browser.run("return document.querySelectorAll('img').length") == 0
        assert browser.console() == []


def test_what_a_screen_reader_hears_has_names_and_roles(browser: Browser, surface: Served) -> None:
    browser.size(360)  # where the tables look like cards
    browser.open(surface.url)
    nodes = browser.devtools("Accessibility.getFullAXTree")["nodes"]
    roles = [node["role"]["value"] for node in nodes if not node.get("ignored") and "role" in node]
    for role in ("main", "banner", "contentinfo", "table", "rowheader", "columnheader", "cell", "image", "heading"):
        assert role in roles, role
    for node in nodes:
        if not node.get("ignored") and node.get("role", {}).get("value") in ("link", "button", "image", "region"):
            assert node["name"]["value"].strip(), node


def test_the_plots_show_the_hour_and_its_holes(browser: Browser) -> None:
    observation = Observation()
    route = opened(observation, "in")
    place = watched(route, "new", "jetstream", "S/c")
    place.track.history.clear()
    now = route.waiting.places()[0].since
    for second in range(3600, 0, -10):
        if 1800 > second > 1200:
            place.track.not_looked(now - second, "no answer")
        else:
            place.track.looked(now - second, Backlog(second, oldest=now - second - 30))
    observation.judge()
    with served(observation) as surface:
        browser.open(surface.url)
        row = "[...document.querySelectorAll('.lags tbody tr')].at(-1)"
        assert browser.run(f"return {row}.querySelectorAll('.hole').length") == 2
        assert browser.run(f"return {row}.querySelectorAll('.line').length") == 4
        assert "60 min ago" in browser.run(f"return {row}.textContent")
