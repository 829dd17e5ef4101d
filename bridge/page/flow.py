"""The picture of one route: source, bridge, destination, and the readers on both sides, with the verdict of each.

Drawn twice, wide and tall; the style sheet shows the one that fits. Colour only repeats what the words say.
Only the hop that is broken is marked: what lies beyond it is not at fault.
May not: judge, or measure anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bridge.page import words
from bridge.page.html import Markup, el
from bridge.page.story import ON_PURPOSE

SIGNS = {"OK": "✓", "SLOW": "▲", "STALLED": "■", "STOPPED": "✕", "UNKNOWN": "?", "WARNING": "▲"}
BOX, ROW = 58, 70  # a box and the way to the next one
GAP, COLUMN = 60, 232
TALL, ARROW = 320, 34
PLAIN = ("starting", "running", "holding", "down")  # states the verdict already shows
MOST_DRAWN = 8  # consumers; the table below has all


@dataclass(frozen=True, slots=True)
class Box:
    """Three lines of text; `verdict` is empty where there is none."""

    role: str
    name: str
    says: str
    verdict: str = ""


def flow(route: Mapping[str, Any]) -> Markup:
    source, beside, bridge, destination, readers = _boxes(route)
    hops = [_hop(route, side) for side in ("source", "destination")]
    broken = [f"broken between the bridge and its {hop.side}" for hop in hops if hop.broken]
    spoken = "; ".join([*map(_spoken, (source, bridge, destination, *readers, *beside)), *broken])
    wide = _wide(source, beside, bridge, destination, readers, hops)
    tall = _tall(source, beside, bridge, destination, readers, hops)
    return el("div", el("p", spoken, class_="unseen"), wide, tall, class_="flow")


@dataclass(frozen=True, slots=True)
class Hop:
    """The way between the bridge and one `side`: its verdict (empty for none), and its pace, empty where nothing
    moves."""

    side: str
    verdict: str
    pace: str
    broken: bool


def _hop(route: Mapping[str, Any], side: str) -> Hop:
    broken = side in route.get("broken", ())
    moves = route["verdict"] not in ("STALLED", "STOPPED")
    pace = words.rate(route.get("pace_per_second")) if moves else ""
    return Hop(side, route["verdict"] if broken or moves else "", pace, broken and not moves)


def _boxes(route: Mapping[str, Any]) -> tuple[Box, list[Box], Box, Box, list[Box]]:
    own = next((place for place in route["places"] if place["side"] == "bridge"), None)
    system, _, place = str(route["source"]).partition(" ")
    target, _, goal = str(route["destination"]).partition(" ")
    others = [each for each in route["places"] if each["side"] != "bridge"]
    # Readers in the source's system are drawn next to the source; those in the other system, behind the destination.
    beside = [_reader(each) for each in others if each["system"] == system]
    behind = [_reader(each) for each in others if each["system"] != system]
    source = Box(
        f"source · {_system(system)}" if system else "source",
        place or "not opened yet",
        "unknown" if own is None else _waits(own),
        _of_side(route, "source"),
    )
    says = f"{route['in_flight_messages']:,} in flight"
    state = route["state"]
    role = "bridge" if state in PLAIN else f"bridge · {state}"
    # Where an operator stopped it, its state is enough, without red.
    bridge = Box(role, route.get("name", "the bridge"), says, "" if state in ON_PURPOSE else route["verdict"])
    counts = route["messages"]
    destination = Box(
        f"destination · {_system(target)}" if target else "destination",
        goal or "not opened yet",
        f"{counts['carried'] + counts['duplicate']:,} carried",
        route["verdict"] if "destination" in route.get("broken", ()) else "",
    )
    return source, _few(beside), bridge, destination, _few(behind)


def _of_side(route: Mapping[str, Any], side: str) -> str:
    """The verdict to show at the source: the route's own, if it concerns that `side`."""
    about = route["verdict"] in ("OK", "UNKNOWN") or side in route.get("broken", ())
    return str(route["verdict"]) if about else ""


def _few(boxes: list[Box]) -> list[Box]:
    if len(boxes) <= MOST_DRAWN:
        return boxes
    rest = boxes[MOST_DRAWN - 1 :]
    return [*boxes[: MOST_DRAWN - 1], Box("more", f"{len(rest)} more", "see the table")]


def _reader(place: Mapping[str, Any]) -> Box:
    role = {"legacy": "legacy consumers", "new": "new consumer", "dead_letter": "dead letters"}.get(
        place["side"], place["side"]
    )
    return Box(role, place["name"], _waits(place), place["verdict"])


def _waits(place: Mapping[str, Any]) -> str:
    messages = words.waiting(place)
    if messages is None:
        return "lag unknown"
    return words.lag(place).replace("at most ", "≤ ")


def _system(name: str) -> str:
    return {"sqs": "SQS", "sns": "SNS", "jetstream": "JetStream"}.get(name, name)


def _spoken(box: Box) -> str:
    return f"{box.role} {box.name}: {box.says}{f' ({box.verdict})' if box.verdict else ''}"


def _wide(
    source: Box, beside: Sequence[Box], bridge: Box, destination: Box, readers: Sequence[Box], hops: Sequence[Hop]
) -> Markup:
    step = COLUMN + GAP
    rows = max(1 + len(beside), len(readers), 1)
    middle = BOX / 2
    drawn = [
        _arrow(COLUMN, middle, step, middle, hops[0]),
        _arrow(step + COLUMN, middle, 2 * step, middle, hops[1]),
        [
            _branch(2 * step + COLUMN, middle, 3 * step, row * ROW + middle, box.verdict)
            for row, box in enumerate(readers)
        ],
        _box(source, 0, 0, COLUMN),
        [_box(box, 0, (row + 1) * ROW, COLUMN) for row, box in enumerate(beside)],
        _box(bridge, step, 0, COLUMN),
        _box(destination, 2 * step, 0, COLUMN),
        [_box(box, 3 * step, row * ROW, COLUMN) for row, box in enumerate(readers)],
    ]
    width = 4 * step - GAP if readers else 3 * step - GAP
    return _svg("wide", width, rows * ROW - (ROW - BOX), drawn)


def _tall(
    source: Box, beside: Sequence[Box], bridge: Box, destination: Box, readers: Sequence[Box], hops: Sequence[Hop]
) -> Markup:
    step, inset = BOX + ARROW, 28
    below = 2 * step + BOX + (ROW - BOX)
    others = below + len(readers) * ROW + (18 if beside else 0)
    drawn = [
        _arrow(TALL / 2, BOX, TALL / 2, step, hops[0]),
        _arrow(TALL / 2, step + BOX, TALL / 2, 2 * step, hops[1]),
        [
            _branch(inset / 2, 2 * step + BOX, inset, below + row * ROW + BOX / 2, box.verdict, down=True)
            for row, box in enumerate(readers)
        ],
        _box(source, 0, 0, TALL),
        _box(bridge, 0, step, TALL),
        _box(destination, 0, 2 * step, TALL),
        [_box(box, inset, below + row * ROW, TALL - inset) for row, box in enumerate(readers)],
        el("text", "on the source side", x=0, y=others - 6, class_="role") if beside else None,
        [_box(box, inset, others + row * ROW, TALL - inset) for row, box in enumerate(beside)],
    ]
    return _svg("tall", TALL, others + len(beside) * ROW - (ROW - BOX), drawn)


def _svg(kind: str, width: int, height: int, drawn: Sequence[Any]) -> Markup:
    # The text next to it says the same, so it is hidden from screen readers.
    return el("svg", *drawn, class_=kind, viewBox=f"-1 -1 {width + 2} {height + 2}", aria_hidden="true")


def tone(verdict: str) -> str:
    return f"v-{verdict.lower()}" if verdict in SIGNS else "v-none"


def _box(box: Box, x: float, y: float, width: float) -> Markup:
    sign = f"{SIGNS[box.verdict]} {box.verdict} · " if box.verdict in SIGNS else ""
    return el(
        "g",
        el("title", _spoken(box)),
        el("rect", class_="box", x=x, y=y, width=width, height=BOX, rx=7),
        el("rect", class_="tone", x=x, y=y + 7, width=5, height=BOX - 14, rx=2),
        el("text", _cut(box.role.upper(), (width - 22) / 7.2), x=x + 15, y=y + 17, class_="role"),
        el("text", _cut(box.name, (width - 22) / 8.4), x=x + 15, y=y + 33, class_="name"),
        el("text", _cut(sign + box.says, (width - 22) / 7), x=x + 15, y=y + 49, class_="says"),
        class_=tone(box.verdict),
    )


def _arrow(x1: float, y1: float, x2: float, y2: float, hop: Hop) -> Markup:
    """Labelled with the pace, with a cross where it is broken, or not at all where nothing moves for another reason."""
    down = x1 == x2
    head = (
        f"{x2 - 6},{y2 - 9} {x2},{y2} {x2 + 6},{y2 - 9}" if down else f"{x2 - 9},{y2 - 6} {x2},{y2} {x2 - 9},{y2 + 6}"
    )
    middle_x, middle_y = (x1 + x2) / 2, (y1 + y2) / 2
    label = el(
        "text",
        SIGNS["STOPPED"] if hop.broken else hop.pace,
        class_="pace",
        x=middle_x + (10 if down else -3),
        y=middle_y + 4 if down else middle_y - 9,
    )
    stops = "" if hop.pace else " stops"
    line = el("line", class_="way", x1=x1, y1=y1, x2=x2 if down else x2 - 8, y2=y2 - 8 if down else y2)
    return el(
        "g",
        line,
        el("polygon", class_="head", points=head),
        label,
        class_=f"{tone(hop.verdict)}{' down' if down else ''}{stops}",
    )


def _branch(x1: float, y1: float, x2: float, y2: float, verdict: str, *, down: bool = False) -> Markup:
    """From the destination to one of its readers."""
    path = f"M{x1:g} {y1:g} V{y2:g} H{x2:g}" if down else f"M{x1:g} {y1:g} H{x1 + GAP / 2:g} V{y2:g} H{x2:g}"
    return el("path", class_=f"branch {tone(verdict)}{' stops' if verdict in ('STALLED', 'STOPPED') else ''}", d=path)


def _cut(text: str, fits: float) -> str:
    """Cuts out the middle, because names differ at their ends."""
    most = max(8, int(fits))
    if len(text) <= most:
        return text
    head = (most - 1) // 2
    return f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"
