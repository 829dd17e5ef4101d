"""Policies, templates, signatures, trace contexts and documents of /status: what else reads text it cannot trust."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from io import StringIO
from random import Random
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import typer
from rich.console import Console
from structlog.testing import capture_logs

from bridge.core.errors import BridgeError, ConfigError, Unmappable
from bridge.core.filtering import FilterPolicy
from bridge.core.mapping.signature import signed
from bridge.core.mapping.sqs_to_nats import sqs_to_nats
from bridge.core.mapping.subject import DueTemplate, GroupTemplate, SubjectTemplate
from bridge.core.mapping.trace import from_aws, from_w3c
from bridge.observe import Observation
from bridge.verbs.status import Looking
from tests.fuzz import hostile, inputs
from tests.fuzz.rules import must
from tests.page.documents import carried, opened, watched

# -- filter policies

OPERATORS = (
    "prefix",
    "suffix",
    "anything-but",
    "equals-ignore-case",
    "wildcard",
    "numeric",
    "exists",
    "cidr",
    "$or",
    "x",
)
STARS = ("*", "*a*b*c*", "*" * 20, "a*" * 20, "*x", "*\ud800*", "**a", "\\*", "*a*a*a*a*a*a*a*a*b")


LONGEST_POLICY = 20_000


def make_filter(rng: Random) -> dict[str, Any]:
    policy: Any = {hostile.name(rng): _leaf(rng, 0) for _ in range(rng.randrange(1, 4))}
    if rng.random() < 0.2:
        policy["$or"] = [{hostile.name(rng): _leaf(rng, 0)} for _ in range(2)]
    if rng.random() < 0.2:
        policy = hostile.mutated(rng, policy)
    if len(repr(policy)) > LONGEST_POLICY:  # whoever configures the bridge writes it: it is not hostile, only odd
        policy = {"k": ["a"]}
    long = rng.choice(("a", "ab", "aab", "abc", "x")) * 2_700 if rng.random() < 0.1 else hostile.text(rng)
    body = {name: rng.choice((long, hostile.value(rng), [hostile.value(rng)])) for name in list(_keys(policy))[:5]}
    text = json.dumps(body).encode() if rng.random() < 0.8 else hostile.payload(rng)
    given = {name: inputs.attribute(rng)._replace(value=long) for name in list(_keys(policy))[:3]}
    given |= inputs.attributes(rng, 2)
    return {
        "policy": policy,
        "scope": rng.choice(("MessageAttributes", "MessageBody")),
        "body": text,
        "attributes": given,
    }


def _keys(policy: Any) -> list[str]:
    return [str(each) for each in policy] if isinstance(policy, dict) else []


def _leaf(rng: Random, depth: int) -> Any:
    if depth < 3 and rng.random() < 0.2:
        return {hostile.name(rng): _leaf(rng, depth + 1)}
    return [_operator(rng) if rng.random() < 0.7 else hostile.value(rng) for _ in range(rng.randrange(1, 4))]


def _operator(rng: Random) -> Any:
    operator = rng.choice(OPERATORS)
    match operator:
        case "wildcard":
            return {operator: rng.choice((*STARS, hostile.text(rng)))}
        case "numeric":
            return {
                operator: rng.choice(
                    ([">", 0, "<=", 5], ["=", 1e400], ["=", "x"], [">", 3, "<", 1], hostile.value(rng))
                )
            }
        case "cidr":
            return {operator: rng.choice(("10.0.0.0/8", "::/0", "10.0.0.1", "10.0.0.0/99", hostile.value(rng)))}
        case "exists":
            return {operator: rng.choice((True, False, None, "true"))}
        case "anything-but":
            odd: tuple[Any, ...] = (
                {"prefix": "x"},
                {"wildcard": "*a*b*"},
                ["a", 1],
                [],
                {"suffix": ["a", ""]},
                hostile.value(rng),
            )
            return {operator: rng.choice(odd)}
        case _:
            return {operator: hostile.text(rng) if rng.random() < 0.8 else hostile.value(rng)}


async def check_filter(case: Mapping[str, Any]) -> None:
    """A policy is refused or decides of every message, in a time that does not explode."""
    try:
        policy = FilterPolicy.parse(case["policy"], case["scope"])
    except ConfigError:
        return
    first = policy.accepts(case["attributes"], case["body"])
    must(type(first) is bool, "verdict of a policy", type(first).__name__)
    must(policy.accepts(case["attributes"], case["body"]) is first, "verdict of a policy changes")


# -- templates

PIECES = (
    *(
        "{attributes.k1}",
        "{attributes.eventType|x}",
        "{group}",
        "{queue}",
        "{topic|t}",
        "{body.a}",
        "{body.(a || b)|x}",
    ),
    *("{body.'detail-type'}", "{body.detail-type}", "{body.a[?b=='}']}", "{body.{x: a}}", "{body.sort(@)}", "{body.@}"),
    *(
        "{subject}",
        "{subject.2}",
        "{subject.0}",
        "{subject.9999999999}",
        "{headers.k1}",
        "{headers.Nats-Msg-Id|x}",
        "{",
        "}",
    ),
    *(
        "{}",
        "{.}",
        "{x.}",
        "{body.`1`|x}",
        "{body.map(&a, @)|x}",
        "{body.a:tokens}",
        "{body.a|b|c}",
        ".",
        "orders",
        "*",
        ">",
        " ",
    ),
)
KINDS: Mapping[str, Any] = {"subject": SubjectTemplate, "group": GroupTemplate, "due": DueTemplate}


def make_template(rng: Random) -> dict[str, Any]:
    pieces = [rng.choice(PIECES) if rng.random() < 0.85 else hostile.mixed(rng) for _ in range(rng.randrange(1, 4))]
    text = rng.choice(("", ".")).join(["orders", *pieces] if rng.random() < 0.6 else pieces)
    return {
        "kind": rng.choice(list(KINDS)),
        "text": text,
        "message": inputs.sqs_message(rng),
        "stored": inputs.stored(rng),
    }


async def check_template(case: Mapping[str, Any]) -> None:
    """A template is refused, or gives something legal or Unmappable for every message."""
    try:
        template = KINDS[case["kind"]].parse(case["text"])
    except ConfigError:
        return
    message = case["message"]
    try:
        match case["kind"]:
            case "subject":
                out: Any = sqs_to_nats(template)(message)
                subject = getattr(getattr(out, "out", None), "subject", "x")
                # What the template itself says is the operator's; the server's own grammar is all it must keep.
                must(not re.search(r"[\x00\t\r\n ]", subject), "break in a subject", ascii(subject)[:80])
                must(all(subject.split(".")), "empty token", ascii(subject)[:80])
                must(len(subject) < 4_000, "length of a subject", len(subject))
            case "group":
                found = template.render(inputs.arrived_plainly(case["stored"]))
                must(re.fullmatch(r"[!-~]{1,128}", found), "group id", ascii(found)[:80])
            case _:
                at = template.render(message.attributes, message.body.encode("utf-8", "surrogatepass"))
                must(at is None or 0 <= at < 253_402_300_800, "time of a delivery", at)
    except Unmappable:
        return


# -- signatures

HOSTS = (
    *(
        "sns.eu-west-1.amazonaws.com",
        "sns.us-east-1.amazonaws.com",
        "sns.cn-north-1.amazonaws.com.cn",
        "sns.s3.amazonaws.com",
    ),
    *("evil.com", "sns.eu-west-1.amazonaws.com.evil.com", "sns.eu-west-1.amazonaws.com@evil.com", "[", "[::1]", ""),
    *(
        "sns.eu-west-1.amazonaws.com:443",
        "SNS.eu-west-1.amazonaws.com",
        "sns.eu-west-1.amazonaws.com\n",
        "sns.\u2028.amazonaws.com",
    ),
    *(
        "sns.x.amazonaws.com",
        "sns.s3-website-eu-west-1.amazonaws.com",
        "a.sns.eu-west-1.amazonaws.com",
        "sns-fips.us-east-1.amazonaws.com",
    ),
)
PATHS = (
    "/SimpleNotificationService-0a.pem",
    "/SimpleNotificationService-0a.pem?x",
    "/../SimpleNotificationService-0.pem",
    "/x",
    "",
)


def make_signed(rng: Random) -> dict[str, Any]:
    document: Any = inputs.envelope(rng)
    url = f"{rng.choice(('https', 'http', 'HTTPS', 'ftp'))}://{rng.choice(HOSTS)}{rng.choice(PATHS)}"
    document["SigningCertURL"] = url if rng.random() < 0.8 else hostile.text(rng)
    if rng.random() < 0.5:
        document = hostile.mutated(rng, document)
    return {"document": document if isinstance(document, dict) else {}}


async def check_signed(case: Mapping[str, Any]) -> None:
    """What is to be checked is known, or the envelope is parked; certificates come from SNS in the topic's region."""
    document = case["document"]
    try:
        found = signed(document)
    except Unmappable:
        return
    parts = urlsplit(found.certificate_url)
    region = str(document["TopicArn"]).split(":")[3] if str(document["TopicArn"]).count(":") >= 5 else "?"
    hosts = (f"sns.{region}.amazonaws.com", f"sns.{region}.amazonaws.com.cn")
    must(parts.scheme == "https" and parts.netloc in hosts, "host of a certificate", found.certificate_url)
    must(not parts.query, "path of a certificate", found.certificate_url)


# -- trace contexts


def make_trace(rng: Random) -> dict[str, Any]:
    genuine = "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01"
    text = inputs.trace(rng) if rng.random() < 0.5 else str(hostile.wrong(rng, genuine))
    return {"text": text}


async def check_trace(case: Mapping[str, Any]) -> None:
    for read in (from_w3c, from_aws):
        found = read(case["text"])
        if found is not None:
            must(from_w3c(found.w3c()) == found, "trace context", ascii(case["text"])[:80])
            must(found.w3c().isascii() and "\n" not in found.w3c(), "trace context", ascii(found.w3c()))


# -- /status


@lru_cache(maxsize=1)
def _genuine() -> str:
    with capture_logs():
        observation = Observation()
        route = opened(observation, "in", pending=3)
        watched(route, "new", "jetstream", "PAYMENTS/consumer")
        carried(route, 2)
    document = observation.snapshot() | {"uptime_seconds": 60.0}
    return re.sub(r"\b1\d{9}\.\d+", "1700000000.0", json.dumps(document))


def make_status(rng: Random) -> dict[str, Any]:
    document: Any = json.loads(_genuine())
    for _ in range(rng.choice((1, 1, 2))):
        document = hostile.mutated(rng, document)
    return {"document": document, "width": rng.choice((50, 80, 120)), "history": hostile.value(rng)}


async def check_status(case: Mapping[str, Any]) -> None:
    """Whatever answers in the daemon's place, `status` shows something or says that it is no bridge; and nothing in it
    acts on the terminal."""
    document = json.loads(json.dumps(case["document"]))

    def get(path: str) -> Any:
        return document if path == "/status" else case.get("history")

    out = StringIO()
    console = Console(file=out, width=case.get("width", 80), highlight=False, emoji=False)
    running: Any = SimpleNamespace(url="http://127.0.0.1:1", get=get)
    try:
        console.print(Looking(running, "", console).frame())
    except (BridgeError, typer.BadParameter) as error:
        must(_quiet(str(error)), "control character on a terminal", ascii(str(error))[:200])
        return
    must(_quiet(out.getvalue()), "control character on a terminal", ascii(out.getvalue())[-200:])


def _quiet(text: str) -> bool:
    return not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\u2066]", text)
