"""Rules between keys, on the raw values, so that they report even when something else is wrong too.

May not: raise, or look at one key alone (models.py does). Each rule yields (path, sentence).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bridge.config.grammar import listed
from bridge.config.tokens import read_token
from bridge.core.advice import connection_for
from bridge.core.errors import ConfigError
from bridge.core.filtering import FilterPolicy
from bridge.core.mapping.signature import FIFO_IS_UNSIGNED
from bridge.core.regions import arn_place, name_of, partition_of, queue_place

Place = tuple[str | int, ...]
Complaint = tuple[Place, str]

PAIRS = {("sqs", "jetstream"), ("jetstream", "sqs"), ("jetstream", "sns")}


def complaints(raw: Mapping[str, Any]) -> Iterator[Complaint]:
    connections = _mapping(raw.get("connections"))
    for place, nats in [(("nats",), raw.get("nats")), *((("connections", str(n)), c) for n, c in connections.items())]:
        if isinstance(nats, Mapping):
            yield from _nats_way(place, nats)
            yield from _pairs_of_keys(place, nats)
    if isinstance(file := _mapping(raw.get("http")).get("token_file"), str):
        try:
            read_token(file)
        except ConfigError as error:
            yield ("http", "token_file"), str(error)
    if raw.get("tracing") is not None and not _otel():
        yield ("tracing",), "it needs an extra; pip install 'nats-sqs-bridge[otel]'"
    seen: dict[Any, str] = {}
    routes = raw.get("routes")
    for at, route in enumerate(routes if isinstance(routes, list) else []):
        if isinstance(route, Mapping):
            yield from _route(("routes", at), route, connections, seen)
            yield from _regions(("routes", at), route, _mapping(raw.get("aws")), connections)
    yield from _copies(routes if isinstance(routes, list) else [])


def _otel() -> bool:
    try:
        return find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        return False


def _nats_way(place: Place, nats: Mapping[str, Any]) -> Iterator[Complaint]:
    ways = [name for name in ("credentials_file", "nkey_seed_file", "user", "token", "token_file") if nats.get(name)]
    if len(ways) > 1:
        yield (*place, ways[1]), f"{ways[0]} is set too; keep one way to authenticate"
    if nats.get("domain") and nats.get("api_prefix"):
        yield (*place, "api_prefix"), "domain is set too; keep one of them"
    if nats.get("password") and nats.get("password_file"):
        yield (*place, "password"), "password_file is set too; keep one of them"
    if nats.get("user") and not (nats.get("password") or nats.get("password_file")):
        yield (*place, "user"), "it needs a password; add password_file"
    if (nats.get("password") or nats.get("password_file")) and not nats.get("user"):
        yield (*place, "password" if nats.get("password") else "password_file"), "it needs a user; add user"


def _pairs_of_keys(place: Place, section: Mapping[str, Any]) -> Iterator[Complaint]:
    tls = _mapping(section.get("tls"))
    for one, other in (("cert_file", "key_file"), ("key_file", "cert_file")):
        if tls.get(one) and not tls.get(other):
            yield (*place, "tls", one), f"it needs {other}; add it"
    for name in ("credentials_file", "nkey_seed_file"):
        yield from _file((*place, name), section.get(name))
    for name in ("ca_file", "cert_file", "key_file"):
        yield from _file((*place, "tls", name), tls.get(name))


def _file(place: Place, name: Any) -> Iterator[Complaint]:
    if not isinstance(name, str):
        return
    try:
        with Path(name).open("rb"):
            return
    except OSError as error:
        yield place, f"cannot read {name}: {unreadable(error)}"


def unreadable(error: OSError | UnicodeDecodeError) -> str:
    """Why a file could not be read; in a container, a denied one is most often owned by another user."""
    if isinstance(error, UnicodeDecodeError):
        return "not valid UTF-8"
    reason = error.strerror or type(error).__name__
    if isinstance(error, PermissionError) and hasattr(os, "geteuid"):
        return f"{reason}; make it readable by user {os.geteuid()}, which runs this process"
    return reason


def external_ids(raw: Mapping[str, Any]) -> Iterator[Complaint]:
    connections = _mapping(raw.get("connections"))
    for place, aws in [(("aws",), raw.get("aws")), *((("connections", str(n)), c) for n, c in connections.items())]:
        if isinstance(aws, Mapping) and aws.get("external_id") and not aws.get("role_arn"):
            yield (*place, "external_id"), "it goes with a role; add role_arn"


def _route(
    place: Place, route: Mapping[str, Any], connections: Mapping[str, Any], seen: dict[Any, str]
) -> Iterator[Complaint]:
    name = str(route.get("name", f"number {place[1]}"))
    if ("name", name) in seen:
        yield (*place, "name"), f"another route is called {name}; names are unique"
    seen["name", name] = name
    for kind in ("nats", "aws"):
        yield from _connection((*place, kind), route.get(kind), kind, connections)
    source, destination = _mapping(route.get("source")), _mapping(route.get("destination"))
    pair = (source.get("kind"), destination.get("kind"))
    known = all(kind in {each for legal in PAIRS for each in legal} for kind in pair)
    if known and pair not in PAIRS:
        ways = "sqs to jetstream, jetstream to sqs and jetstream to sns"
        yield (*place, "destination", "kind"), f"{pair[0]} to {pair[1]} is not supported; supported: {ways}"
    if source.get("kind") == "sqs" and (queue := source.get("queue")):
        key: tuple[Any, ...] = ("queue", route.get("aws"), _last(queue))
        if key in seen:
            yield (*place, "source", "queue"), f"route {seen[key]} reads this queue too; each would get half of it"
        seen[key] = name
        parking = _mapping(route.get("parking"))
        if parking.get("kind") == "sqs" and _last(parking.get("queue")) == _last(queue):
            yield (*place, "parking", "queue"), "it is the queue the route reads; a parked message would come back"
    if source.get("verify") and source.get("envelope") == "never":
        yield (*place, "source", "verify"), "envelope is never, so there is nothing to verify; leave one of them out"
    yield from _never_signed((*place, "source", "verify"), source)
    if source.get("envelope") == "never" and "{topic}" in str(destination.get("subject", "")):
        yield (
            (*place, "destination", "subject"),
            "{topic} is known only from an envelope, and envelope is never; write {topic|direct} or leave one out",
        )
    if source.get("pointers") == "keep":
        for name in ("buckets", "unlisted"):
            if source.get(name):
                yield (*place, "source", name), "pointers is keep, so nothing is fetched; leave one of them out"
    if source.get("verify") and find_spec("cryptography") is None:
        yield (*place, "source", "verify"), "it needs an extra; pip install 'nats-sqs-bridge[verify]'"
    if source.get("kind") == "jetstream" and (consumer := source.get("consumer")):
        key = ("consumer", route.get("nats"), source.get("stream"), consumer)
        if key in seen:
            yield (
                (*place, "source", "consumer"),
                f"route {seen[key]} reads this consumer too; each would get half of it",
            )
        seen[key] = name
    if isinstance(policy := _document(route.get("filter")), Mapping):
        scope = "MessageBody" if route.get("filter_scope") == "MessageBody" else "MessageAttributes"
        try:
            FilterPolicy.parse(policy, scope)  # type: ignore[arg-type]  # one of two literals
        except ConfigError as error:
            yield (*place, "filter"), str(error)
    elif route.get("filter_scope") is not None and route.get("filter") is None:
        yield (*place, "filter_scope"), "it goes with a filter; add filter"
    if route.get("filtered") is not None and route.get("filter") is None:
        yield (*place, "filtered"), "it goes with a filter; add filter"
    elif route.get("filtered") == "park" and not route.get("parking"):
        yield (*place, "filtered"), "park needs a place; add parking"
    elif route.get("filtered") == "park" and route.get("cannot_carry") == "block":
        yield (*place, "filtered"), "cannot_carry: block parks nothing; write drop, or cannot_carry: park"
    ordered = _last(
        (source if source.get("kind") == "sqs" else destination).get("queue") or destination.get("topic") or ""
    )
    if route.get("cannot_carry") == "block" and ordered and not ordered.endswith(".fifo"):
        yield (*place, "cannot_carry"), f"{ordered} is not a FIFO queue or topic (.fifo) and has no groups; write park"
    for one, other in (("deliver_at", "schedules"), ("schedules", "deliver_at")):
        if destination.get(one) and not destination.get(other):
            yield (*place, "destination", one), f"it needs {other}; add it"


def _never_signed(place: Place, source: Mapping[str, Any]) -> Iterator[Complaint]:
    """Verification that would park every message. Source: SNS developer guide: FIFO topics deliver to FIFO queues and
    standard ones, standard topics to standard queues only."""
    topics = listed(source.get("verify"))
    for topic in topics if isinstance(topics, list) else []:
        if _last(topic).endswith(".fifo"):
            yield place, f"{topic} is a FIFO topic, and {FIFO_IS_UNSIGNED}: all would be parked; leave it out"
            return
    if topics and _last(source.get("queue")).endswith(".fifo"):
        yield (
            place,
            f"only FIFO topics deliver to a FIFO queue, and {FIFO_IS_UNSIGNED}: all would be parked; leave it out",
        )


def _regions(
    place: Place, route: Mapping[str, Any], aws: Mapping[str, Any], connections: Mapping[str, Any]
) -> Iterator[Complaint]:
    """The rest of an ARN or URL is not ignored: a queue of the same name elsewhere is another queue."""
    named = route.get("aws")
    section = aws if named is None else _mapping(connections.get(named))
    here = section.get("region")
    parts = [(("source", "queue"), True), (("destination", "queue"), True), (("destination", "topic"), True)]
    parts += [(("parking", "queue"), False)]
    found = [((*place, *keys), _mapping(route.get(keys[0])).get(keys[1]), main) for keys, main in parts]
    watch = route.get("watch")
    for at, each in enumerate(watch if isinstance(watch, list) else []):
        found.append(((*place, "watch", at, "queue"), _mapping(each).get("queue"), False))
    for where, text, main in found:
        if not isinstance(text, str):
            continue
        arn, there = arn_place(text), queue_place(text)
        if arn is not None and (partition := partition_of(arn[1])) not in (None, arn[0]):
            yield where, f"{arn[1]} is not in partition {arn[0]}; write arn:{partition}:{text.split(':', 2)[-1]}"
        elif there is not None and isinstance(here, str) and here and there[0] != here:
            whose = "aws" if named is None else f"connection {named}"
            yield where, f"it is in {there[0]}, and {whose} is for {here}; {_way_to(there[0], here, connections, main)}"


def _way_to(region: str, here: str, connections: Mapping[str, Any], main: bool) -> str:
    if not main:
        return f"a route uses one AWS connection: name one in {here}"
    for name, each in connections.items():
        if _mapping(each).get("kind") == "aws" and _mapping(each).get("region") == region:
            return f"write aws: {name} on the route"
    return connection_for(region)


def _copies(routes: list[Any]) -> Iterator[Complaint]:
    """Copies of one message under one id, of which a stream keeps one: which subject it gets would be a race."""
    seen: dict[tuple[Any, ...], tuple[str, Any]] = {}
    for at, route in enumerate(routes):
        source, to = _mapping(_mapping(route).get("source")), _mapping(_mapping(route).get("destination"))
        topics, stream = source.get("verify"), to.get("stream")
        if source.get("kind") != "sqs" or not isinstance(topics, list) or to.get("id_scope") == "queue" or not stream:
            continue
        for topic in topics:
            name, subject = seen.setdefault(
                (route.get("nats"), str(stream), str(topic)), (str(route.get("name")), to.get("subject"))
            )
            if subject != to.get("subject"):
                text = f"route {name} publishes the same messages ({topic}) into {stream} under another subject"
                advice = "only one copy would be stored; write id_scope: queue on both destinations"
                yield ("routes", at, "destination", "subject"), f"{text}; {advice}"


def _connection(place: Place, name: Any, kind: str, connections: Mapping[str, Any]) -> Iterator[Complaint]:
    if name is None or not isinstance(name, str):
        return
    if name not in connections:
        near = get_close_matches(name, map(str, connections), 1)
        known = f'; did you mean "{near[0]}"?' if near else "; add it under connections, or leave this out"
        yield place, f"there is no connection {name}{known}"
    elif _mapping(connections[name]).get("kind") not in (kind, None):
        yield place, f"connection {name} is of kind {connections[name]['kind']}; name one of kind {kind}"


def _document(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _last(name: Any) -> str:
    """The name in a name, URL or ARN."""
    return name_of(str(name))
