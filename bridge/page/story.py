"""What is wrong, the worst first, and what to do about it: the same texts for the page and for `status`.

It reads the document of /status and nothing else. Everything an operator should know is a Finding, ranked so:

    messages that are being lost, or soon will be        the only thing that cannot be undone
    a route that does not run, or carries nothing        the bridge fails at its work
    messages that cannot be carried or parked            they may be lost to the source's retention
    legacy or new consumers that finish nothing          the bridge works, another service does not
    a route whose backlog is unknown or grows; blocked groups
    other queues and consumers whose backlog is unknown or grows
    notes: what was parked, dead letters, routes an operator stopped, a reload that was refused

May not: judge (core/lag.py does), read a clock, or know how it is shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bridge.core.lag import spelled
from bridge.page import words

Status = Mapping[str, Any]

ON_PURPOSE = frozenset({"pausing", "paused", "drained", "stopping", "stopped"})
"""States an operator asked for: nothing failed."""

LOSING, FAILING, LEFT, OTHERS_FAIL, WORSE, OTHERS_WORSE, NOTE = range(7)
FINE = frozenset({"OK", "SLOW"})
RECENT_SECONDS = 3600.0  # what was refused longer ago is a note
FILTERED_WARNS = 10  # a filter may rightly leave out the first few
AGAIN_SECONDS = 120.0  # what could not be carried is redelivered within this time, again and again
SHORT_SECONDS = 3600.0  # until the oldest message is lost to retention: just enough time to act
AT_REST, WARNING = "AT REST", "WARNING"
"""Shown in place of a verdict: an operator stopped a route; messages will be lost unless someone acts."""

NAMELESS = "NATS is not connected"
NATS = re.compile(r"NATS connection \S+ \([^)]*\)")  # as legs/nats.py writes it
ENDPOINT = re.compile(r"(?:endpoint URL: \"https?://|connect to host )([^\s/\"]+)")  # as botocore and aiohttp do


@dataclass(frozen=True, slots=True)
class Finding:
    """`title` is a complete sentence, `reason` explains it, `advice` is what to do. `command` may be pasted."""

    rank: int
    verdict: str
    route: str
    title: str
    reason: str
    advice: str
    command: str = ""
    since: float | None = None
    without: str = ""  # the other side that does not answer, with its address


def headline(status: Status) -> Finding:
    """The most important finding. If several routes fail, it names all of them, with the reason of the first."""
    routes: Mapping[str, Any] = status.get("routes", {})
    if status.get("draining"):
        held = sum(route["in_flight_messages"] for route in routes.values())
        reason = f"Shutdown was requested; {words.counted(held, 'message')} in flight."
        return Finding(FAILING, "STOPPED", "", "The bridge is stopping", reason, "Nothing: it finishes these first.")
    found = findings(status)
    if not found or found[0].rank == NOTE:
        if resting := {name: route for name, route in routes.items() if on_purpose(route)}:
            return _resting(resting)
        counted = words.counted(len(routes), "route")
        reason = "No errors; there are notes." if found else "Every message is carried as it arrives."
        return Finding(NOTE, "OK", "", f"All is well on {counted}", reason, "")
    first = found[0]
    failing = [each for each in found if each.rank == FAILING]
    if len(failing) < 2 or first.rank < FAILING:
        return first
    verdicts = {each.verdict for each in failing}
    what = f"are {first.verdict}" if len(verdicts) == 1 else "carry nothing"
    names = ", ".join(each.route for each in failing[:5]) + (
        f" and {len(failing) - 5} more" if len(failing) > 5 else ""
    )
    since = min((each.since for each in failing if each.since), default=None)
    same = len({each.without for each in failing}) == 1
    lacking = f" without {first.without}" if same and first.without else ""
    title = f"{len(failing)} of {len(routes)} routes {what}{lacking}: {names}"
    return Finding(first.rank, first.verdict, "", title, first.reason, first.advice, first.command, since)


def _resting(routes: Mapping[str, Mapping[str, Any]]) -> Finding:
    """Nothing fails, but not every route runs."""
    parts = []
    for state in dict.fromkeys(route["state"] for route in routes.values()):
        of_it = [route for route in routes.values() if route["state"] == state]
        since = [at for route in of_it if (at := route.get("state_since") or route.get("verdict_since"))]
        verb = "is" if len(of_it) == 1 else "are"
        parts.append(
            f"{words.counted(len(of_it), 'route')} {verb} {state}"
            + (f" since {words.hour(min(since))}" if since else "")
        )
    own = [place for route in routes.values() for place in route["places"] if place["side"] == "bridge"]
    waits = [words.waiting(place) for place in own]
    known = [each for each in waits if each is not None]
    unknown = len(known) < len(routes)
    many = f"{'at least ' if unknown and known else ''}{sum(known):,} wait" if known else "how many wait is unknown"
    paused = [name for name, route in routes.items() if route["state"] in ("pausing", "paused", "drained")]
    return Finding(
        NOTE,
        AT_REST,
        "",
        f"{', '.join(parts)}; {many}",
        f"Stopped by an operator: {', '.join(routes)}. No errors.",
        "Waiting messages stay at their source until its retention ends or the route is resumed." if paused else "",
        f"nats-sqs-bridge resume {paused[0]}" if paused else "",
    )


def findings(status: Status) -> list[Finding]:
    """The worst first."""
    found = [each for name, route in status.get("routes", {}).items() for each in _of_route(name, route, status)]
    found += _of_reload(status.get("reload"))
    return sorted(found, key=lambda each: each.rank)


def _of_reload(failed: Mapping[str, Any] | None) -> Iterator[Finding]:
    if failed:
        complaints = [str(each) for each in failed["complaints"]]
        more = f" ({len(complaints) - 1} more)" if len(complaints) > 1 else ""
        yield Finding(
            NOTE,
            "OK",
            "",
            "The configuration on disk is wrong; the next start would fail",
            f"The last reload was refused, and the routes run on unchanged: {complaints[0]}{more}"
            if complaints
            else "The last reload was refused, and the routes run on unchanged.",
            "Fix the file, then reload.",
            "nats-sqs-bridge check",
            failed["failed_at"],
        )


def worst_first(status: Status) -> list[str]:
    """The names of the routes."""
    routes: Mapping[str, Any] = status.get("routes", {})
    ranks = {
        name: min((each.rank for each in _of_route(name, route, status)), default=NOTE + 1)
        for name, route in routes.items()
    }
    return sorted(routes, key=lambda name: ranks[name])


def on_purpose(route: Mapping[str, Any]) -> bool:
    """Whether an operator paused, drained or stopped it."""
    return route["state"] in ON_PURPOSE


def well(route: Mapping[str, Any]) -> bool:
    """Whether `status` may end with 0."""
    return route["verdict"] in FINE or on_purpose(route)


def cause(route: Mapping[str, Any]) -> str:
    """The reason without the hint, which is shown separately."""
    reason, hint = str(route["reason"]), route.get("hint")
    return reason.removesuffix(f" ({hint})") if hint else reason


def _of_route(name: str, route: Mapping[str, Any], status: Status) -> Iterator[Finding]:
    verdict, since = route["verdict"], route.get("verdict_since")
    yield from _losing(name, route)
    if on_purpose(route):
        at = route.get("state_since") or since
        yield Finding(NOTE, verdict, name, f"{name} is {route['state']}", cause(route), "", since=at)
    elif verdict in ("STOPPED", "STALLED"):
        # Routes with the same cause are reported together, so the reason leaves out their own numbers.
        hint, trouble = route.get("hint") or "", [str(each) for each in route["trouble"]]
        # The error of a lost connection has no address; that of a call that tried to use it has.
        named = [each for each in trouble if NATS.match(each)] if trouble and trouble[0].startswith(NAMELESS) else []
        reason = (named or trouble)[0].removesuffix(f" ({hint})") if trouble else cause(route)
        without = _without(reason)
        title = f"{name} is {verdict}{f' without {without}' if without else ''}"
        yield Finding(
            FAILING,
            verdict,
            name,
            title,
            reason,
            hint or _advice(route, trouble, comes_again=_comes_again(route, status.get("at"))),
            since=since,
            without=without,
        )
    elif verdict == "UNKNOWN":
        yield Finding(
            WORSE,
            verdict,
            name,
            f"{name}: its lag is unknown",
            cause(route),
            "`check` shows whether the source answers and whether the bridge may read it.",
            "nats-sqs-bridge check",
            since,
        )
    elif verdict == "SLOW":
        yield Finding(
            WORSE,
            verdict,
            name,
            f"{name} is SLOW",
            cause(route),
            route.get("hint")
            or (
                "Nothing is lost: failed messages are retried."
                if route["trouble"]
                else "Raise max_in_flight, or run another replica of the bridge."
            ),
            since=since,
        )
    yield from _blocked(name, route)
    for place in route["places"]:
        if place["side"] != "bridge":
            yield from _of_place(name, place)
    yield from _parked(name, route)
    yield from _left(name, route, status.get("at"))
    yield from _filtered(name, route)


def _without(reason: str) -> str:
    if found := NATS.match(reason):
        return found.group()
    found = ENDPOINT.search(reason)
    return f"AWS at {found.group(1)}" if found else ""


def _comes_again(route: Mapping[str, Any], now: float | None) -> bool:
    """Whether messages that can be neither carried nor parked keep coming back."""
    grew = route.get("last_rejected")
    return now is not None and grew is not None and now - grew < AGAIN_SECONDS


def _losing(name: str, route: Mapping[str, Any]) -> Iterator[Finding]:
    """Messages that retention deletes before they are carried, unless an operator acts."""
    own = next((place for place in route["places"] if place["side"] == "bridge"), None)
    left = None if own is None else own.get("retention_headroom_seconds")
    if own is None or left is None or left >= SHORT_SECONDS or not words.waiting(own) or own["verdict"] == "OK":
        return
    when = f"in {spelled(left)}" if left > 0 else "now"
    resting = on_purpose(route)
    advice = "Resume it." if resting else route.get("hint") or "Fix the cause, or raise the retention of its source."
    yield Finding(
        LOSING,
        WARNING,
        name,
        f"{name} loses its oldest message to retention {when}",
        f"What is not carried by then is deleted from {route['source']}. {cause(route)}",
        advice,
        f"nats-sqs-bridge resume {name}" if resting else "",
    )


def _advice(route: Mapping[str, Any], trouble: Sequence[str], *, comes_again: bool) -> str:
    if trouble:
        return "Nothing is lost: messages wait at their source. Fix the error; the route then continues by itself."
    if comes_again:
        return "Messages that can be neither carried nor parked keep coming back: set `parking` on the route."
    if route["blocked"]:
        return "A message that cannot be carried holds its group: fix its cause, or set `cannot_carry: park`."
    if route["verdict"] == "STOPPED":
        return "The log of the bridge has the details."
    if route["in_flight_messages"]:
        return f"Check the destination, {route['destination']}: it does not answer what was sent. Nothing is lost."
    return (
        "The bridge resubscribes by itself. If messages still wait after that, check which other consumers read "
        f"{route['source']}, and read the log."
    )


def _of_place(route: str, place: Mapping[str, Any]) -> Iterator[Finding]:
    side, name, verdict, since = place["side"], place["name"], place["verdict"], place.get("since")
    if side == "dead_letter":
        if messages := words.waiting(place):
            yield Finding(
                NOTE,
                verdict,
                route,
                f"{words.counted(messages, 'message')} in the dead-letter queue {name}",
                "The source gave up on them before the bridge could carry them.",
                "Inspect them, fix the cause, and move them back with the queue's own redrive.",
                since=since,
            )
        return
    if verdict == "OK":
        return
    legacy = side == "legacy"
    who = f"Legacy consumers of {name} are" if legacy else f"Consumer {name} is"
    advice, command = "The bridge is not affected. Check the service that reads there.", _look_at(place)
    match verdict:
        case "STALLED" | "STOPPED":
            yield Finding(
                OTHERS_FAIL,
                verdict,
                route,
                f"{who} not {'deleting' if legacy else 'acknowledging'} messages",
                place["reason"],
                advice,
                command,
                since,
            )
        case "SLOW":
            yield Finding(
                OTHERS_WORSE,
                verdict,
                route,
                f"{who} falling behind",
                place["reason"],
                advice,
                command,
                since,
            )
        case _:
            yield Finding(
                OTHERS_WORSE,
                verdict,
                route,
                f"The lag of {name} is unknown",
                place["reason"],
                "`check` shows whether the bridge may read it.",
                "nats-sqs-bridge check",
                since,
            )


def _look_at(place: Mapping[str, Any]) -> str:
    if place["system"] != "jetstream":
        return ""
    stream, _, consumer = place["name"].partition("/")
    return f"nats consumer info {stream} {consumer}"


def _blocked(name: str, route: Mapping[str, Any]) -> Iterator[Finding]:
    if blocked := route.get("blocked"):
        reason = next(iter(blocked.values()))
        yield Finding(
            WORSE,
            "STALLED",
            name,
            f"{name}: {words.counted(len(blocked), 'group')} blocked by a message",
            reason,
            "Fix the cause, or set `cannot_carry: park` on the route to go on without it.",
        )


def _parked(name: str, route: Mapping[str, Any]) -> Iterator[Finding]:
    counts = route["messages"]
    if parked := counts.get("parked"):
        yield Finding(
            NOTE,
            "OK",
            name,
            f"{words.counted(parked, 'message')} of {name} parked since the start",
            f"`nats-sqs-bridge parked list` shows what is parked now. {_last(route, 'parked')}".rstrip(),
            "Inspect them, then redrive or drop them.",
            f"nats-sqs-bridge parked list --route {name}",
        )


def _left(name: str, route: Mapping[str, Any], now: float | None) -> Iterator[Finding]:
    """What could be neither carried nor parked. Every attempt counts, because the bridge does not keep the ids."""
    rejected, grew = route["messages"].get("rejected"), route.get("last_rejected")
    if not rejected:
        return
    recent = now is not None and grew is not None and now - grew < RECENT_SECONDS
    # Where they are the reason for a stall, report them and not the stall.
    because = route["verdict"] == "STALLED" and not route["trouble"] and _comes_again(route, now)
    times, left = ("once", "It is") if rejected == 1 else (f"{rejected:,} times", "They are")
    yield Finding(
        LOSING if because else LEFT if recent else NOTE,
        WARNING if recent else "OK",
        name,
        f"{name}: {times} since the start a message could be neither carried nor parked",
        f"{left} left to the source's redrive policy, or to its retention. {_last(route, 'rejected')}".rstrip(),
        "Set `parking` on the route to keep such messages with their reason, or `claim_check` if too large for it.",
    )


def _filtered(name: str, route: Mapping[str, Any]) -> Iterator[Finding]:
    """A filter that matches nothing: it is wrong, or belongs to another queue."""
    if not route.get("filter_matched_none"):
        return
    count = route["messages"]["filtered"] or route["messages"]["parked"]
    many = count >= FILTERED_WARNS
    left_out = f"{'all ' if count > 1 else ''}{words.counted(count, 'message')}"
    yield Finding(
        LEFT if many else NOTE,
        WARNING if many else "OK",
        name,
        f"{name}: its filter has left out {left_out} since the start",
        "It has matched none. "
        + ("They are deleted at the source." if route["messages"]["filtered"] else "They are parked."),
        "Compare `filter` and `filter_scope` with the subscription's policy; `filtered: park` keeps what is left out.",
    )


def _last(route: Mapping[str, Any], what: str) -> str:
    return next((f"Last: {each['error']}" for each in reversed(route["failures"]) if each["what"] == what), "")
