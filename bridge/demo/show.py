"""How the demo looks: the live table and the summary. May not: talk to anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from bridge.demo.actors import Seen

FLOW = """\
 SNS payments ──▶ SQS payments-validation ──▶ legacy consumer
              ╰─▶ SQS payments-bridge ══ bridge ══▶ stream PAYMENTS ──▶ pull, push and core consumers
                                                                           │ one settlement for each payment
 legacy consumer ◀── SQS settlements-legacy ◀══ bridge ══ stream SETTLEMENTS ◀╯
 legacy audit    ◀── SQS settlements-audit ◀── SNS settlements ◀══ bridge ══╯"""


def picture(
    *, sent: int, status: Mapping[str, Any], consumers: Sequence[Seen], url: str, left: float, phase: str
) -> Group:
    """One frame. `status` is what the daemon's /status said last, empty before it answered."""
    head = Text(f" {phase}   {sent:,} payments sent   {max(0.0, left):.0f} s left", style="bold")
    links = Text(f" {url}/status   {url}/metrics   {url}/readyz", style="dim")
    return Group(
        Panel(Text(FLOW), title="nats-sqs-bridge demo", border_style="cyan"),
        head,
        routes(status),
        seen_by(sent, consumers),
        links,
    )


def routes(status: Mapping[str, Any]) -> Table:
    table = Table("route", "state", "from", "to", title="the bridge", title_justify="left", expand=True)
    for column in ("carried", "duplicate", "parked", "in flight", "lag"):
        table.add_column(column, justify="right")
    for name, route in status.get("routes", {}).items():
        counts, pending = route["messages"], route["source_pending_messages"]
        table.add_row(
            name,
            route["state"],
            route["source"],
            route["destination"],
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
    """The last word: every consumer with every message, or what differs."""
    verdict = (
        Text("\n".join(complaints), style="bold red")
        if complaints
        else Text(f"Every consumer has seen every one of {sent:,} payments, each exactly once.", style="bold green")
    )
    crossed = "   ".join(f"{route}: {count:,}" for route, count in carried.items())
    return Group(seen_by(sent, consumers), Text(f" carried   {crossed}"), verdict)
