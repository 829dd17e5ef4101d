"""The page as a string: complete, well-formed, escaped, and readable in both palettes."""

from __future__ import annotations

import re
import time
from importlib import resources
from itertools import pairwise
from typing import Any

import pytest

from bridge.core.errors import Unavailable, Unmappable
from bridge.core.route import Backlog, Receipt
from bridge.observe import Observation
from bridge.page import MOST_SECTIONS, page, shown_whole
from bridge.page.html import VOID
from tests.page.documents import abandoned, carried, delivery, opened, watched
from tests.page.test_html import HOSTILE, Heard


def rendered(observation: Observation, only: str = "") -> str:
    observation.judge()
    status = observation.snapshot()
    histories = {name: observation.history(name) for name in shown_whole(status, only)}
    return page(status, histories, now=time.time(), only=only)


def busy() -> Observation:
    """Something of everything."""
    observation = Observation()
    observation.connection("default", "connected", "")
    route = opened(observation, "payments-in", pending=7)
    carried(route, 12)
    watched(route, "legacy", "sqs", "payments-validation", Backlog(1_204, 3))
    watched(route, "dead_letter", "sqs", "payments-dlq", Backlog(2))
    abandoned(watched(route, "new", "jetstream", "PAYMENTS/validation"))
    watched(route, "new", "jetstream", "PAYMENTS/gateway", Unavailable("no answer within 10 s"))
    route.blocked(delivery(90), Unmappable("body", "it is too large"), 5.0)
    for number in range(8):
        route.parked(delivery(number), Unmappable("subject", f"no attribute {number}"), Receipt("PARKED:1"))
    route.emptying(75.0)
    opened(observation, "settlements-back").paused()
    observation.route("third").not_open(Unavailable("connection refused"), 1.0)
    return observation


def test_it_says_everything_an_operator_asks_for() -> None:
    said = Heard(rendered(busy())).said
    for text in (
        *("payments-in", "settlements-back", "third", "connection refused", "paused", "1,204 wait, 3 in flight"),
        *("PAYMENTS/validation", "no client is reading", "What to do: ", "NATS: default connected", "payments-dlq"),
        *("carried", "duplicate", "filtered", "echo", "no attribute 7", "Blocked groups", "it is too large"),
        *(
            "Parked since the start",
            "What is parked now: nats-sqs-bridge parked list --route payments-in",
            "4.0 days",
            "unknown",
            "not read yet",
            "0.1.0, up for",
        ),
    ):
        assert text in said, text


def test_a_route_that_rests_on_purpose_alarms_no_one() -> None:
    observation = Observation()
    opened(observation, "in", pending=5).paused()
    text = rendered(observation)
    assert re.search(
        r'class="headline v-none".*AT REST.*1 route is paused since \d\d:\d\d UTC; 5 wait', text, re.DOTALL
    )
    assert '<section class="route v-none"' in text
    assert "badge v-stopped" not in text.partition('class="lags"')[0]
    assert "badge v-ok" not in text


def test_a_refused_reload_is_seen_until_one_succeeds() -> None:
    observation = Observation()
    opened(observation, "in")
    observation.reload_failed("alice", ["bridge.yaml:3: routes[0].colour: <b>unknown key</b>", "another"])
    said = Heard(rendered(observation)).said
    assert "The configuration on disk is wrong; the next start would fail" in said
    assert "bridge.yaml:3: routes[0].colour: <b>unknown key</b> (1 more)" in said
    assert "nats-sqs-bridge check" in said
    assert 'href="#route-"' not in rendered(observation)
    observation.reloaded("alice")
    assert "The configuration on disk" not in Heard(rendered(observation)).said


def test_what_is_left_to_the_source_is_a_warning() -> None:
    observation = Observation()
    opened(observation, "in").rejected(delivery(1), Unmappable("subject", "no attribute"), 1.0)
    text = rendered(observation)
    assert re.search(r'class="headline v-warning">.*▲.* WARNING.*could be neither carried nor parked', text, re.DOTALL)


def test_a_connection_that_came_back_is_connected() -> None:
    observation = Observation()
    for event, said in (("connected", "connected"), ("disconnected", "disconnected"), ("reconnected", "connected")):
        observation.connection("default", event, "")
        assert observation.snapshot()["connections"] == {"default": said}
        assert f"NATS: default {said}" in Heard(rendered(observation)).said


def test_heartbeats_of_others_are_explained() -> None:
    text = rendered(busy())
    assert re.search(r'<dt title="[^"]*those of neighbouring routes that end here too.">heartbeats</dt>', text)
    assert "<dt>carried</dt>" in text


def test_every_tag_is_closed_and_every_id_is_there_once() -> None:
    text = rendered(busy())
    stack: list[str] = []
    for closing, tag in re.findall(r"<(/?)([a-zA-Z][\w]*)[^>]*>", text):
        if not closing and tag not in VOID:
            stack.append(tag)
        elif closing:
            assert stack.pop() == tag
    assert stack == []
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))


def test_every_heading_of_a_table_has_a_scope_and_headings_skip_no_level() -> None:
    tags = Heard(rendered(busy())).tags
    assert {attributes.get("scope") for tag, attributes in tags if tag == "th"} == {"row", "col"}
    levels = [int(tag[1]) for tag, _ in tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_nothing_from_outside_becomes_markup() -> None:
    observation = Observation()
    observation.connection(HOSTILE, HOSTILE, "")
    route = observation.route("in")
    route.opened(f"sqs {HOSTILE}", f"jetstream {HOSTILE}")
    route.sampled(Backlog(1))
    watched(route, "new", "jetstream", HOSTILE, Unavailable(HOSTILE, hint=HOSTILE))
    route.parked(delivery(0, HOSTILE), Unmappable(HOSTILE, HOSTILE), Receipt("PARKED:1"))
    route.blocked(delivery(1, HOSTILE), Unmappable("body", HOSTILE), 5.0)
    route.not_open(Unavailable(HOSTILE, hint=HOSTILE), 1.0)
    harmless = Heard(rendered(busy()))
    heard = Heard(rendered(observation))
    assert "alert(1)" in heard.said
    assert {tag for tag, _ in heard.tags} <= {tag for tag, _ in harmless.tags} | {"strong"}
    assert [attributes for tag, attributes in heard.tags if tag == "script"] == [{"src": "script.js", "defer": None}]
    assert not [name for _, attributes in heard.tags for name in attributes if name.startswith("on") or name == "style"]


def test_nothing_comes_from_elsewhere() -> None:
    for text in (rendered(busy()), asset("style.css"), asset("script.js")):
        assert not re.search(r"https?://|//[a-z]|@import|url\(", re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE))


def test_fifty_routes_cost_no_more_than_a_few_and_each_has_a_page_of_its_own() -> None:
    observation = Observation()
    for number in range(50):
        watched(opened(observation, f"r{number}"), "new", "jetstream", f"S/c{number}")
    observation.route("r49").not_open(Unavailable("down"), 1.0)
    text = rendered(observation)
    assert text.count("<section") == MOST_SECTIONS
    assert "The 44 others are in the table above." in text
    assert text.index('id="route-r49"') < text.index('id="route-r0"')
    assert all(f'href="?route=r{number}"' in text for number in range(50))
    alone = rendered(observation, only="r30")
    assert re.findall(r'id="route-([^"]+)"', alone) == ["r30"]


def test_a_name_longer_than_a_box_is_cut_in_the_picture_and_whole_in_the_table() -> None:
    observation = Observation()
    name = "PAYMENTS/" + "a" * 70 + "-validation"
    watched(opened(observation, "in"), "new", "jetstream", name)
    text = rendered(observation)
    drawn = re.findall(r'<text class="name"[^>]*>([^<]*)', text) or re.findall(
        r'<text [^>]*class="name"[^>]*>([^<]*)', text
    )
    assert any("…" in each for each in drawn)
    assert all(len(each) < 40 for each in drawn)
    assert f'<span class="name">{name}</span>' in text


def test_more_consumers_than_a_picture_holds_are_counted() -> None:
    observation = Observation()
    route = opened(observation, "in")
    for number in range(20):
        watched(route, "new", "jetstream", f"S/c{number:02}")
    text = rendered(observation)
    assert "13 more" in text
    assert text.count('role="rowheader"') == 21


# -- the style sheet


def asset(name: str) -> str:
    return resources.files("bridge.page").joinpath(name).read_text()


def palettes() -> dict[str, dict[str, str]]:
    css = asset("style.css")
    blocks = re.findall(r":root \{([^}]*)\}", css)
    assert len(blocks) == 2
    light, dark = (dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", block)) for block in blocks)
    assert light.keys() == dark.keys()
    return {"light": light, "dark": dark}


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("palette", ["light", "dark"])
@pytest.mark.parametrize(
    ("ink", "ground"),
    [
        *[(ink, ground) for ink in ("ink", "quiet", "link") for ground in ("ground", "card")],
        *[(tone, ground) for tone in ("ok", "slow", "bad", "none") for ground in ("card", f"{tone}-tint")],
        *[("ink", f"{tone}-tint") for tone in ("ok", "slow", "bad", "none")],
        ("on-bad", "bad"),
    ],
)
def test_every_text_has_the_contrast_wcag_asks_for(palette: str, ink: str, ground: str) -> None:
    colours: dict[str, Any] = palettes()[palette]
    lighter, darker = sorted((luminance(colours[ink]), luminance(colours[ground])), reverse=True)
    assert (lighter + 0.05) / (darker + 0.05) >= 4.5
