"""`check`: gathers the facts of every route, side by side, and prints what core/findings.py makes of them. May not:
change anything, or judge."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar, assert_never

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bridge.config import (
    Config,
    JetStreamDestinationConfig,
    JetStreamParkingConfig,
    JetStreamSourceConfig,
    ObjectStoreClaimCheckConfig,
    RouteConfig,
    S3ClaimCheckConfig,
    SnsDestinationConfig,
    SqsDestinationConfig,
    SqsParkingConfig,
    SqsSourceConfig,
    WatchedConsumersConfig,
    WatchedQueueConfig,
    load,
)
from bridge.core.errors import BridgeError
from bridge.core.facts import QueueFacts, RouteFacts, World
from bridge.core.findings import Finding, findings
from bridge.core.mapping.heartbeat import subject_into, subject_of
from bridge.core.mapping.subject import SubjectTemplate
from bridge.core.plain import plain
from bridge.legs import inventory
from bridge.legs.aws import AwsConnection
from bridge.legs.aws_errors import unreached
from bridge.legs.consumer import open_consumer
from bridge.legs.ledger import open_ledger
from bridge.legs.nats import NatsConnection
from bridge.legs.payloads import ObjectPayloads, S3Payloads
from bridge.legs.stream import open_destination
from bridge.routes import allowed_of, aws_config, aws_options, nats_config, nats_options, own_place
from bridge.verbs import loop_factory
from bridge.verbs.printed import console, say

T = TypeVar("T")
STYLES = {"error": "bold red", "warning": "yellow", "ok": "green"}


def check(path: Path | None, environ: Mapping[str, str], *, as_json: bool) -> int:
    """Returns 1 if anything is an error, else 0. Raises ConfigError."""
    config = load(path, environ)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        found = runner.run(_look(config))
    if as_json:
        say(json.dumps([asdict(finding) for finding in found], indent=2))
    else:
        # A log or a pipe has no width of its own, and the commands to copy should not be broken into many lines.
        _show(found, console(width=None if sys.stdout.isatty() or "COLUMNS" in environ else 160))
    return 1 if any(finding.level == "error" for finding in found) else 0


def _show(found: list[Finding], out: Console) -> None:
    table = Table("", "route", expand=True)
    for column in ("what", "finding"):
        table.add_column(column, overflow="fold")
    for each in found:
        text = Text(plain(each.text))
        if each.advice:
            text.append(f"\n{plain(each.advice)}", style="dim")
        table.add_row(Text(each.level, style=STYLES[each.level]), plain(each.route), plain(each.what), text)
    out.print(table)
    errors = sum(each.level == "error" for each in found)
    warnings = sum(each.level == "warning" for each in found)
    counted = [
        f"{count} {what}{'' if count == 1 else 's'}" for count, what in ((errors, "error"), (warnings, "warning"))
    ]
    out.print(f"{', '.join(counted)}.", style="bold red" if errors else "bold")


class _Side:
    """One connection as all routes use it. Its first request goes alone: if the server does not answer, the others fail
    at once and do not wait for the same timeout."""

    def __init__(self, name: str, lost: Callable[[BridgeError], bool]) -> None:
        self.name = name
        self.down: BridgeError | None = None
        self._lost = lost
        self._first = asyncio.Lock()
        self._asked = False

    async def ask(self, look: Coroutine[Any, Any, T]) -> T:
        if not self._asked:
            async with self._first:
                if not self._asked:
                    return await self._ask_first(look)
        if self.down is not None:
            look.close()
            raise self.down
        return await look

    async def _ask_first(self, look: Coroutine[Any, Any, T]) -> T:
        try:
            return await look
        except BridgeError as error:
            self.down = error if self._lost(error) else None
            raise
        finally:
            self._asked = True


def _not_there(nats: NatsConnection, _: BridgeError) -> bool:
    return not nats.is_connected


async def _look(config: Config) -> list[Finding]:
    async with AsyncExitStack() as stack:
        nats: dict[str | None, NatsConnection] = {}
        aws: dict[str | None, AwsConnection] = {}
        sides: dict[tuple[str, str | None], _Side] = {}
        for route in config.routes:
            if route.nats not in nats:
                options = nats_options(nats_config(config, route))
                made = NatsConnection(options, name=route.nats or "default")
                nats[route.nats] = await stack.enter_async_context(made)
                sides["nats", route.nats] = _Side(f"NATS {made.name}", partial(_not_there, made))
            if route.aws not in aws:
                connection = AwsConnection(aws_options(aws_config(config, route), pool=20))
                aws[route.aws] = await stack.enter_async_context(connection)
                sides["aws", route.aws] = _Side(f"AWS {route.aws or 'default'}", unreached)
        looks = [
            _Look(
                route,
                nats[route.nats],
                aws[route.aws],
                of_nats=sides["nats", route.nats],
                of_aws=sides["aws", route.aws],
            ).facts()
            for route in config.routes
        ]
        return findings(World(await asyncio.gather(*looks)))


@dataclass(slots=True)
class _Look:
    """One route's facts. What cannot be read becomes an error of the route, and the check continues."""

    route: RouteConfig
    nats: NatsConnection
    aws: AwsConnection
    of_nats: _Side
    of_aws: _Side
    errors: list[tuple[str, BridgeError]] = field(default_factory=list)
    unwatched: list[tuple[str, BridgeError]] = field(default_factory=list)
    rights_unknown: bool = False
    reported: set[_Side] = field(default_factory=set)
    """Connections already reported as down: once is enough."""

    async def facts(self) -> RouteFacts:
        parking = self.route.parking
        facts = RouteFacts(
            self.route.name,
            parked_elsewhere=parking is not None,
            parking_subject=parking.subject if isinstance(parking, JetStreamParkingConfig) else None,
            longest_outage=self.route.longest_outage,
            ledger=self.route.ledger is not None,
            carries_echo=self.route.echo == "carry",
            drain_seconds=self.route.drain_seconds,
            heartbeat=None if self.route.heartbeat is None else self.route.heartbeat.every,
            pointers=self._pointers(),
            claims_in=to.bucket if isinstance(to := self.route.claim_check, ObjectStoreClaimCheckConfig) else None,
            claims_from=tuple(each.bucket for each in allowed_of(self.route).places if each.store == "object_store"),
        )
        facts = await self._destination(await self._source(facts))
        facts = replace(facts, parking_queue=await self._parking(), claim_check=self.route.claim_check is not None)
        await self._stores()
        await self._watched()
        unwatched, unknown = tuple(self.unwatched), self.rights_unknown
        return replace(facts, errors=tuple(self.errors), unwatched=unwatched, rights_unknown=unknown)

    def _pointers(self) -> Literal["", "kept", "asked"]:
        source = self.route.source
        if not isinstance(source, SqsSourceConfig) or source.pointers == "keep" or source.unlisted == "park":
            return ""
        if any(place.store == "s3" for place in allowed_of(self.route).places):
            return ""
        return "asked" if "pointers" in source.model_fields_set else "kept"

    async def _source(self, facts: RouteFacts) -> RouteFacts:
        match self.route.source:
            case SqsSourceConfig() as source:
                what = f"queue {source.queue}"
                queue = await self._try(self.of_aws, what, inventory.queue_facts(self.aws, source.queue))
                if queue is not None:
                    await self._denied(what, inventory.may_consume(self.aws, source.queue))
                    if self.route.heartbeat is not None:
                        await self._denied(f"heartbeat {what}", inventory.may_send(self.aws, source.queue))
                if queue is not None and source.envelope == "auto":
                    queue = replace(queue, topics=await inventory.topics_of(self.aws, queue.arn))
                to = self.route.destination
                shared = not isinstance(to, JetStreamDestinationConfig) or to.id_scope == "topic"
                return replace(
                    facts,
                    queue=queue,
                    sns_ids=source.envelope == "auto" and shared,
                    envelopes=source.envelope == "auto",
                    verified=None if source.verify is None else tuple(source.verify),
                )
            case JetStreamSourceConfig() as source:
                what = f"consumer {source.consumer}"
                found = await self._try(
                    self.of_nats, what, open_consumer(self.nats, source.stream, source.consumer, source.filter_subjects)
                )
                if found is None:
                    return facts
                stream = await self._try(
                    self.of_nats, f"stream {source.stream}", inventory.stream_facts(self.nats, source.stream)
                )
                pull = self.nats.api_subject(f"CONSUMER.MSG.NEXT.{source.stream}.{source.consumer}")
                acks = f"$JS.ACK.{source.stream}.{source.consumer}.>"
                await self._permitted(publish=[pull, acks])
                consumer = (
                    next((each for each in stream.consumers if each.name == source.consumer), None) if stream else None
                )
                facts = replace(
                    facts,
                    stream=stream,
                    consumer=consumer,
                    batch=source.batch,
                    max_payload=await inventory.max_payload(self.nats),
                )
                if self.route.heartbeat is None or stream is None:
                    return facts
                subject = subject_into(found.filters, stream.subjects)
                await self._permitted(publish=[subject] if subject else [])
                return replace(facts, heartbeat_from=subject)
            case _:
                assert_never(self.route.source)

    async def _destination(self, facts: RouteFacts) -> RouteFacts:
        match self.route.destination:
            case JetStreamDestinationConfig() as to:
                template = SubjectTemplate.parse(to.subject)
                pattern = template.pattern
                if (
                    await self._try(
                        self.of_nats,
                        f"subject {pattern}",
                        open_destination(
                            self.nats,
                            pattern=pattern,
                            stream=to.stream,
                            ttl=to.ttl is not None,
                            schedules=to.schedules,
                        ),
                    )
                    is None
                ):
                    return facts
                await self._permitted(publish=[pattern])
                names = [to.stream] if to.stream else await inventory.streams_for(self.nats, pattern)
                streams = [
                    await self._try(self.of_nats, f"stream {name}", inventory.stream_facts(self.nats, name))
                    for name in names
                ]
                return replace(
                    facts,
                    pattern=pattern,
                    subject=to.subject,
                    heartbeat_to=None if facts.heartbeat is None else subject_of(template),
                    destinations=tuple(stream for stream in streams if stream is not None),
                    max_payload=await inventory.max_payload(self.nats),
                )
            case SqsDestinationConfig() as to:
                what = f"queue {to.queue}"
                queue = await self._try(self.of_aws, what, inventory.queue_facts(self.aws, to.queue))
                if queue is not None:
                    await self._denied(what, inventory.may_send(self.aws, to.queue))
                return replace(facts, to_queue=queue)
            case SnsDestinationConfig() as to:
                what = f"topic {to.topic}"
                found = await self._try(self.of_aws, what, inventory.topic_facts(self.aws, to.topic))
                if found is None:
                    return facts
                topic, denied = found
                self.errors += [(what, error) for error in denied]
                return replace(facts, to_topic=topic, feeds=await inventory.feeds_of(self.aws, topic))
            case _:
                assert_never(self.route.destination)

    async def _parking(self) -> QueueFacts | None:
        match self.route.parking:
            case None:
                return None
            case JetStreamParkingConfig(subject=subject):
                what = f"parking {subject}"
                if (
                    await self._try(self.of_nats, what, open_destination(self.nats, pattern=subject, stream=None))
                    is not None
                ):
                    await self._permitted(publish=[subject])
                return None
            case SqsParkingConfig(queue=queue):
                what = f"parking {queue}"
                found = await self._try(self.of_aws, what, inventory.queue_facts(self.aws, queue))
                if found is not None:
                    await self._denied(what, inventory.may_send(self.aws, queue))
                return found
            case _:
                assert_never(self.route.parking)

    async def _stores(self) -> None:
        if (ledger := self.route.ledger) is not None:
            look = open_ledger(self.nats, ledger.bucket, source="", destinations=[])
            if await self._try(self.of_nats, f"ledger {ledger.bucket}", look) is not None:
                await self._permitted(publish=[self.nats.store_subject(f"$KV.{ledger.bucket}.>")])
        for place in allowed_of(self.route).places:
            if self.route.claim_check is not None and place == own_place(self.route.claim_check):
                continue  # it is checked below
            if place.store == "s3":
                look_into = S3Payloads(self.aws).see(place.bucket, place.prefix)
                await self._try(self.of_aws, f"bucket {place.bucket}", look_into)
            else:
                look_into = ObjectPayloads(self.nats).see(place.bucket, place.prefix)
                await self._try(self.of_nats, f"object store {place.bucket}", look_into)
        match self.route.claim_check:
            case None:
                return
            case S3ClaimCheckConfig(bucket=bucket):
                look_at = self.aws.call(
                    "s3", "head_bucket", about=bucket, missing=f"aws s3 mb s3://{bucket}", Bucket=bucket
                )
                await self._try(self.of_aws, f"bucket {bucket}", look_at)
            case ObjectStoreClaimCheckConfig(bucket=bucket):
                missing = f"nats object add {bucket}"
                await self._try(
                    self.of_nats, f"object store {bucket}", self.nats.api(f"STREAM.INFO.OBJ_{bucket}", missing=missing)
                )
            case _:
                assert_never(self.route.claim_check)

    async def _watched(self) -> None:
        for at, place in enumerate(self.route.watch or ()):
            what = f"watch[{at}]"
            match place:
                case WatchedQueueConfig(queue=queue):
                    await self._try(self.of_aws, what, inventory.queue_facts(self.aws, queue), self.unwatched)
                case WatchedConsumersConfig(stream=stream, consumer=consumer):
                    look = inventory.see_watched(self.nats, stream, consumer)
                    await self._try(self.of_nats, what, look, self.unwatched)
                case _:
                    assert_never(place)

    async def _permitted(self, *, publish: list[str]) -> None:
        inbox = f"{self.nats.options.inbox_prefix}.>"
        found = await inventory.not_permitted(self.nats, publish=publish, subscribe=[inbox])
        self.rights_unknown |= found is None
        self.errors += [("permissions", error) for error in found or ()]

    async def _denied(self, what: str, look: Coroutine[Any, Any, list[BridgeError]]) -> None:
        self.errors += [(what, error) for error in await self._try(self.of_aws, what, look) or ()]

    async def _try(
        self,
        side: _Side,
        what: str,
        look: Coroutine[Any, Any, T],
        into: list[tuple[str, BridgeError]] | None = None,
    ) -> T | None:
        try:
            return await side.ask(look)
        except BridgeError as error:
            if side.down is None:
                (self.errors if into is None else into).append((what, error))
            elif side not in self.reported:
                self.reported.add(side)
                self.errors.append((side.name, side.down))
            return None
