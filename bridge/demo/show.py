"""How the demo looks: the live table and the summary. May not: connect to anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from bridge.demo.actors import Seen

FLOW = """\
SNS payments ─┬─▶ SQS payments-validation ─▶ legacy consumer
              ╰─▶ SQS payments-bridge ═ bridge ═▶ stream PAYMENTS
                                                   ├─▶ push consumer
                                                   ├─▶ core subscriber
                                                   ╰─▶ pull consumer ─╮
legacy ◀─ SQS settlements-legacy ◀═ bridge ═╦═ stream SETTLEMENTS ◀───╯
audit  ◀─ SQS ◀─ SNS settlements ◀═ bridge ═╝"""


def picture(
    *, sent: int, status: Mapping[str, Any], consumers: Sequence[Seen], url: str, left: float | None, phase: str
) -> Group:
    """One frame. `status` is the last answer of the daemon's /status, empty before the first."""
    head = Text(f" {phase}   {sent:,} payments sent   {_left(left)}", style="bold")
    links = Text(f" {url}/  /status  /metrics  /readyz", style="dim")
    return Group(
        Panel(Text(FLOW), title="nats-sqs-bridge demo", border_style="cyan"),
        head,
        routes(status),
        seen_by(sent, consumers),
        links,
    )


def line(
    *, sent: int, status: Mapping[str, Any], consumers: Sequence[Seen], url: str, left: float | None, phase: str
) -> str:
    """The same as one line, for an output that is not a terminal."""
    carried = sum(route["messages"]["carried"] for route in status.get("routes", {}).values())
    missing = sum(consumer.missing(sent) for consumer in consumers)
    counts = f"{phase}: {sent:,} sent, {carried:,} carried, {missing:,} still to be seen"
    return f"{counts}{', ' if left is not None else ''}{_left(left)}; {url}/"


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f"{max(0.0, seconds):.0f} s left"


def routes(status: Mapping[str, Any]) -> Table:
    table = Table("route", "state", title="the bridge", title_justify="left", expand=True)
    for column in ("carried", "duplicate", "parked", "in flight", "lag"):
        table.add_column(column, justify="right")
    for name, route in status.get("routes", {}).items():
        counts, pending = route["messages"], route["source_pending_messages"]
        table.add_row(
            name,
            route["state"],
            f"{counts['carried']:,}",
            f"{counts['duplicate']:,}",
            f"{counts['parked']:,}",
            f"{route['in_flight_messages']:,}",
            "unknown" if pending is None else f"{pending:,}",
        )
    return table


def seen_by(sent: int, consumers: Sequence[Seen]) -> Table:
    table = Table("consumer", "side", title="who has seen what", title_justify="left", expand=True)
    for column in ("seen", "missing", "seen again"):
        table.add_column(column, justify="right")
    for consumer in consumers:
        missing = consumer.missing(sent)
        style = "green" if not missing else "yellow"
        table.add_row(
            consumer.name,
            consumer.side,
            f"{len(consumer.payments):,}",
            f"{missing:,}",
            f"{consumer.again:,}",
            style=style,
        )
    return table


def summary(sent: int, carried: Mapping[str, int], consumers: Sequence[Seen], complaints: Sequence[str]) -> Group:
    """The result: every consumer with every message, or what differs."""
    repeats = sum(consumer.again for consumer in consumers)
    dropped = f" ({repeats:,} repeats were recognised by their number)" if repeats else ""
    verdict = (
        Text("\n".join(complaints), style="bold red")
        if complaints
        else Text(
            f"Every consumer has seen every one of {sent:,} payments, each exactly once{dropped}.", style="bold green"
        )
    )
    crossed = "   ".join(f"{route}: {count:,}" for route, count in carried.items())
    return Group(seen_by(sent, consumers), Text(f" carried   {crossed}"), verdict)
