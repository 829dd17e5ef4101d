"""`status`: the state of the running daemon in the terminal, as its page shows it.

What answers is not trusted: its texts are made plain before they are used, and a document that cannot be drawn is
reported in a sentence.
May not: judge, or ask anything but the daemon.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import typer
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from bridge.core.errors import Unavailable
from bridge.core.lag import spelled
from bridge.core.plain import plain, plain_document
from bridge.page import story, words
from bridge.verbs.control import STRANGE, Running
from bridge.verbs.printed import console as plain_console
from bridge.verbs.printed import say

EVERY_SECONDS = 2.0
STYLES = {"OK": "green", "SLOW": "yellow", "STALLED": "bold red", "STOPPED": "bold red", "UNKNOWN": "magenta"}
STYLES |= {story.AT_REST: "bold", story.WARNING: "yellow"}
TABLE, MIDDLING, WIDE = 60, 72, 104  # columns from which on more is shown; narrower than the first, lines
BARS = "▁▂▃▄▅▆▇█"
SPARKS = 20  # number of bars for the last hour

Histories = Mapping[str, Mapping[tuple[str, str], Sequence[float | None]]]
"""Messages over time, by route, and by side and name of the place."""


@dataclass(slots=True)
class Looking:
    """Reads the status of a daemon, once or repeatedly."""

    running: Running
    route: str
    console: Console
    histories: dict[str, Mapping[tuple[str, str], Sequence[float | None]]] = field(default_factory=dict)
    code: int = 1

    def look(self) -> dict[str, Any]:
        """The document, with the one route only if one was named. Raises Unavailable."""
        document = self.running.get("/status")
        routes = document.get("routes")
        if not isinstance(routes, dict) or not routes or not isinstance(document.get("version"), str):
            raise Unavailable(STRANGE.format(url=self.running.url))
        if not all(isinstance(route, dict) for route in routes.values()):
            raise Unavailable(STRANGE.format(url=self.running.url))
        if self.route:
            if self.route not in routes:
                known = plain(", ".join(routes) or "none")
                raise typer.BadParameter(f"there is no route {self.route}; there are: {known}", param_hint="ROUTE")
            document["routes"] = routes = {self.route: routes[self.route]}
        try:
            self.code = 0 if all(story.well(route) for route in routes.values()) else 1
        except (KeyError, TypeError) as error:
            raise Unavailable(STRANGE.format(url=self.running.url)) from error
        return document

    def frame(self) -> RenderableType:
        """Drawn here, since only drawing shows whether it can be drawn. Raises Unavailable."""
        try:
            status = plain_document(self.look())
            if self.console.width >= WIDE:
                self.histories = {name: self._history(name) for name in status["routes"]}
            drawn = picture(status, self.histories, now=time.time(), width=self.console.width)
            return _Drawn(self.console.render_lines(drawn, pad=False, new_lines=True))
        except (typer.BadParameter, Unavailable):
            raise
        except Exception as error:  # the document is not from the bridge, or from an unknown version of it
            self.code = 1
            raise Unavailable(STRANGE.format(url=self.running.url)) from error

    def _history(self, name: str) -> Mapping[tuple[str, str], Sequence[float | None]]:
        try:
            found = self.running.get(f"/history?route={quote(name, safe='')}")
        except Unavailable:
            return {}
        return {
            (place["side"], place["name"]): [messages for _, messages, _ in place["points"]]
            for place in found.get("places", ())
        }


def status(running: Running, route: str, *, watch: bool, as_json: bool) -> int:
    """Returns 0 if every route is OK or SLOW, or was paused or drained by an operator; else 1. Raises Unavailable."""
    console = plain_console()
    looking = Looking(running, route, console)
    if watch:
        return _watch(looking, as_json=as_json)
    if as_json:
        say(_json(looking.look(), indent=2))
    else:
        console.print(looking.frame(), end="")
    return looking.code


def _watch(looking: Looking, *, as_json: bool) -> int:
    """Until Ctrl-C. A daemon that does not answer is shown, not an end."""
    console = looking.console
    try:
        if console.is_terminal and not as_json:
            with Live(console=console, screen=True, auto_refresh=False) as live:
                while True:
                    live.update(_or_silence(looking), refresh=True)
                    time.sleep(EVERY_SECONDS)
        while True:
            if as_json:
                _one_line(looking)
            else:
                console.print(_or_silence(looking), end="")
                console.print()
            time.sleep(EVERY_SECONDS)
    except KeyboardInterrupt:
        return looking.code


def _or_silence(looking: Looking) -> RenderableType:
    try:
        return looking.frame()
    except Unavailable as error:
        looking.code = 1
        said = f" {words.clock(time.time())}: {plain(str(error))}\n"
        return Text.assemble((" NO ANSWER ", "bold white on red"), said)


def _one_line(looking: Looking) -> None:
    try:
        say(_json(looking.look()))
    except Unavailable as error:
        looking.code = 1
        say(json.dumps({"error": str(error)}))


def _json(document: Mapping[str, Any], indent: int | None = None) -> str:
    """Raises Unavailable for numbers that are not JSON, which Python accepts."""
    try:
        return json.dumps(document, indent=indent, allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise Unavailable("the answer is not valid JSON") from error


@dataclass(frozen=True, slots=True)
class _Drawn:
    """Lines that were drawn before."""

    lines: Sequence[Sequence[Segment]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for line in self.lines:
            yield from line


# -- layout


def picture(status: Mapping[str, Any], histories: Histories, *, now: float, width: int) -> Group:
    """The worst first. Columns that do not fit are left out, the verdicts never."""
    found = story.headline(status)
    parts: list[RenderableType] = [_about(status, now), _finding(found, now, loud=True)]
    others = [each for each in story.findings(status) if each.title != found.title and each.reason != found.reason]
    parts += [_finding(each, now, loud=False) for each in others]
    parts.append("")
    for name in story.worst_first(status):
        parts += _route(name, status["routes"][name], histories.get(name, {}), now=now, width=width)
    return Group(*parts)


def _about(status: Mapping[str, Any], now: float) -> Text:
    connections = ", ".join(f"{name} {state}" for name, state in status["connections"].items())
    text = f"nats-sqs-bridge {status['version']}, up for {spelled(status['uptime_seconds'])}, {words.clock(now)}"
    return Text(text + (f"; NATS: {connections}" if connections else ""), style="dim")


def _finding(found: story.Finding, now: float, *, loud: bool) -> RenderableType:
    note = found.rank == story.NOTE and not loud
    text = Text.assemble((f"{'note' if note else found.verdict}", "dim" if note else STYLES[found.verdict]), "  ")
    text.append(found.title, style="bold" if loud else "")
    if found.since and not note:
        text.append(f", since {words.ago(found.since, now)}".replace(" ago", ""), style="dim")
    details = [
        line for line in (found.reason, found.advice if loud else "", found.command and f"$ {found.command}") if line
    ]
    return Group(text, *(Padding(Text(line, style="" if loud else "dim"), (0, 0, 0, 2)) for line in details))


def _route(
    name: str,
    route: Mapping[str, Any],
    histories: Mapping[tuple[str, str], Sequence[float | None]],
    *,
    now: float,
    width: int,
) -> list[RenderableType]:
    style = "bold" if story.on_purpose(route) else STYLES[route["verdict"]]
    head = Text.assemble((name, "bold"), "  ", (route["verdict"], style))
    if route["state"] != "running":
        head.append(f"  {route['state']}")
    head.append(f"  {route['source']} -> {route['destination']}" if route["source"] else "", style="dim")
    parts: list[RenderableType] = [head]
    if route["verdict"] != "OK":
        said = [line for line in (story.cause(route), route.get("hint") and f"Try: {route['hint']}") if line]
        parts += [Padding(Text(line), (0, 0, 0, 2), expand=False) for line in said]
    if route["places"]:  # one that has never opened has none
        parts.append(_lines(route["places"]) if width < TABLE else _places(route["places"], histories, width=width))
    return [*parts, Padding(_counts(route, now), (0, 0, 1, 2))]


def _places(
    places: Sequence[Mapping[str, Any]], histories: Mapping[tuple[str, str], Sequence[float | None]], *, width: int
) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), expand=False)
    table.add_column("  where", overflow="fold", header_style="dim")
    table.add_column("verdict", no_wrap=True, header_style="dim")
    columns = ["messages", "oldest"]
    columns += ["finished", "growth"] if width >= MIDDLING else []
    columns += ["empty", "retention left"] if width >= WIDE else []
    for column in columns:
        table.add_column(column, justify="right", header_style="dim")
    if width >= WIDE and histories:
        table.add_column("last hour", no_wrap=True, header_style="dim")
    for place in places:
        cells = [words.count(words.waiting(place)), words.age(place)]
        if width >= MIDDLING:
            cells += [words.pace(place), words.trend(place)]
        if width >= WIDE:
            cells += [words.drained(place), words.headroom(place)]
            cells += [spark(histories.get((place["side"], place["name"]), ()))] if histories else []
        side = words.SIDES.get(place["side"], place["side"])
        where = Text(f"  {side} ", style="dim").append(place["name"], style="default not dim")
        table.add_row(where, Text(place["verdict"], style=STYLES[place["verdict"]]), *map(Text, cells))
    return table


def _lines(places: Sequence[Mapping[str, Any]]) -> Group:
    """For a terminal too narrow for columns."""
    return Group(
        *(
            Text.assemble(
                (f"  {words.SIDES.get(place['side'], place['side'])} ", "dim"),
                f"{place['name']}\n    ",
                (place["verdict"], STYLES[place["verdict"]]),
                f"  {words.lag(place)}",
            )
            for place in places
        )
    )


def _counts(route: Mapping[str, Any], now: float) -> Text:
    shown = [f"{count:,} {words.outcome(outcome)}" for outcome, count in route["messages"].items() if count]
    shown.append(f"{route['in_flight_messages']:,} in flight")
    if route["blocked"]:
        shown.append(f"{words.counted(len(route['blocked']), 'group')} blocked")
    if carried := route["last_carried"]:
        shown.append(f"last carried {words.ago(carried, now)}")
    if drain := route.get("drain"):
        shown.append(f"drain: {drain['message']}")
    return Text(", ".join(shown), style="dim")


def spark(series: Sequence[float | None]) -> str:
    """The series as bars, the worst of each part; a blank where nothing is known."""
    each = max(1, -(-len(series) // SPARKS))
    parts = [series[start : start + each] for start in range(0, len(series), each)]
    worst = [max((value for value in part if value is not None), default=None) for part in parts]
    most = max((value for value in worst if value is not None), default=0) or 1
    return "".join(" " if value is None else BARS[min(7, int(value / most * 7.999))] for value in worst)
