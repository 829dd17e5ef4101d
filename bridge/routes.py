"""One configured route made real: opens both legs and the parking place, and picks the mapping between them.

May not: create anything outside, retry, or run. It opens or raises; the daemon decides when to try again.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, assert_never

from bridge.config import (
    AwsConfig,
    Config,
    JetStreamDestinationConfig,
    JetStreamParkingConfig,
    JetStreamSourceConfig,
    NatsConfig,
    ObjectStoreClaimCheckConfig,
    RouteConfig,
    S3ClaimCheckConfig,
    SnsDestinationConfig,
    SqsDestinationConfig,
    SqsParkingConfig,
    SqsSourceConfig,
    WatchedConsumersConfig,
    WatchedQueueConfig,
)
from bridge.core.credits import COPIES
from bridge.core.errors import ConfigError, NotUsable
from bridge.core.filtering import FilterPolicy
from bridge.core.mapping.claims import Allowed, Place
from bridge.core.mapping.heartbeat import NO_SUBJECT, into_queue, into_stream, subject_into
from bridge.core.mapping.nats_to_sqs import lane_rule, nats_to_sns, nats_to_sqs
from bridge.core.mapping.parked import park_to_jetstream, park_to_sqs
from bridge.core.mapping.provenance import Passage
from bridge.core.mapping.sqs_to_nats import group_of, sqs_to_nats
from bridge.core.mapping.subject import DueTemplate, GroupTemplate, SubjectTemplate
from bridge.core.models import Canary, Out
from bridge.core.regions import beside
from bridge.core.route import Destination, Lane, Mapping, Source
from bridge.heartbeats import Heart
from bridge.legs.answers import Captures
from bridge.legs.aws import AwsConnection, AwsOptions
from bridge.legs.backlogs import Watched, WatchedConsumers, WatchedQueue
from bridge.legs.claims import ClaimChecked, Kept, Room, Sized
from bridge.legs.consumer import Consumer, open_consumer
from bridge.legs.jetstream import JetStreamSource
from bridge.legs.ledger import Ledgered, open_ledger
from bridge.legs.nats import NatsConnection, NatsOptions, Tls
from bridge.legs.payloads import ObjectPayloads, Payloads, S3Payloads, Store
from bridge.legs.sns import SnsDestination, open_topic, subscribers
from bridge.legs.sqs import SqsDestination, SqsSource, open_queue
from bridge.legs.stream import JetStreamDestination, open_destination, subjects_of
from bridge.legs.terms import Term
from bridge.rounds import Parking

if TYPE_CHECKING:
    from bridge.tracing import Tracing  # an extra

SECRET = secrets.token_hex(8)  # of this process; a message parked again after a restart is stored twice
MOST_WATCHED = 20  # places of one route: each is a handful of time series


@dataclass(frozen=True, slots=True)
class OpenRoute:
    """A route ready to be pumped. `receivers` is the most receives that may run side by side; `closing` is what it
    holds open. `system` is its source's, and `retention` how long that keeps a message, in seconds; `readers` are those
    of its destination, `dead_letter` the ARN of a queue beside it, if any; `heart` sends its heartbeats, where it has
    any; `lane` is the rule of order, None where the route keeps none. `terms` are the streams and consumers it relies
    on, as they were when it opened."""

    source: Source
    destination: Destination
    mapping: Mapping
    parking: Parking | None
    receivers: int
    source_name: str
    destination_name: str
    closing: AsyncExitStack
    retention: float
    system: Literal["sqs", "jetstream"]
    readers: Sequence[WatchedQueueConfig | WatchedConsumersConfig]
    dead_letter: str
    heart: Heart | None = None
    lane: Lane | None = None
    terms: tuple[Term, ...] = ()


async def open_route(
    route: RouteConfig,
    nats: NatsConnection,
    aws: AwsConnection,
    *,
    longest_poll: float = 20.0,
    reading: bool = True,
    tracing: Tracing | None = None,
) -> OpenRoute:
    """Destination first: nothing is taken from a source before there is a place for it.

    `longest_poll` bounds one receive, in seconds; not `reading`: the source is only inspected, while a bridge
    reads it; `tracing` puts spans around what is published. Raises NotUsable or Unavailable.
    """
    destination: Destination
    closing = AsyncExitStack()
    policy = None if route.filter is None else FilterPolicy.parse(route.filter, route.filter_scope)
    park_filtered = route.filtered == "park"
    passage = partial(Passage, route.name, skip_echo=route.echo == "skip")
    match route.destination:
        case JetStreamDestinationConfig() as to:
            template = SubjectTemplate.parse(to.subject)
            stream = await open_destination(
                nats, pattern=template.pattern, stream=to.stream, ttl=to.ttl == "retention", schedules=to.schedules
            )
            parking = await _open_parking(route, nats, aws)
            assert isinstance(route.source, SqsSourceConfig)
            queue = await open_queue(aws, route.source.queue)
            allowed = allowed_of(route)
            traced = _traced(stream, route, tracing, "nats", template.pattern)
            destination = _claim_checked(traced, route, nats, aws, allowed)
            destination = await _ledgered(destination, route, nats, queue.arn, sorted(stream.places))
            if route.source.verify is not None:
                from bridge.legs.signatures import Signatures, Verified  # an extra

                signatures = await closing.enter_async_context(Signatures(route.source.verify))
                destination = Verified(destination, signatures)
            reader = SqsSource(aws, queue, wait_seconds=min(route.source.wait_seconds, longest_poll))
            opened = OpenRoute(
                source=reader,
                destination=destination,
                mapping=sqs_to_nats(
                    template,
                    envelope=route.source.envelope,
                    fifo=queue.fifo,
                    passage=passage(queue.arn, stream.places),
                    policy=policy,
                    park_filtered=park_filtered,
                    life=(lambda: reader.queue.retention) if to.ttl == "retention" else None,
                    id_scope=to.id_scope,
                    due=None if to.deliver_at is None else DueTemplate.parse(to.deliver_at),
                    fetch=allowed.fetches,
                    verify=route.source.verify is not None,
                ),
                parking=parking,
                receivers=route.source.receivers,
                source_name=f"sqs {queue.name}",
                destination_name=f"jetstream {to.subject}",
                closing=closing,
                retention=queue.retention,
                system="sqs",
                readers=[WatchedConsumersConfig(kind="jetstream", stream=each) for each in stream.streams],
                dead_letter=queue.dead_letter,
                heart=_queue_heart(route, SqsDestination(aws, queue), passage(queue.arn)),
                lane=group_of if queue.fifo else None,
                terms=(*stream.terms, *_parking_terms(parking)),
            )
            return _closed_together(opened)
        case SqsDestinationConfig() as to:
            target = await open_queue(aws, to.queue)
            fifo, name, places = target.fifo, f"sqs {target.name}", [target.arn]
            queues, dead_letter = [to.queue], target.dead_letter
            enveloped = to.envelope is not None
            traced = _traced(SqsDestination(aws, target), route, tracing, "aws_sqs", target.name, enveloped=enveloped)
            destination = _claim_checked(traced, route, nats, aws, allowed_of(route))
            to_aws = partial(nats_to_sqs, fifo=fifo, group=_group(to.group), envelope=to.envelope, keep=to.keep)
        case SnsDestinationConfig() as to:
            topic = await open_topic(aws, to.topic)
            fifo, name = topic.fifo, f"sns {topic.name}"
            # What came from a queue would come back to it through its topic.
            queues, dead_letter = list(await subscribers(aws, topic.arn) or ()), ""
            places = [topic.arn, *queues]
            # Those in other regions cannot be asked from here, and a queue of the same name here is a different one.
            queues = beside(topic.arn, queues)
            traced = _traced(SnsDestination(aws, topic), route, tracing, "aws.sns", topic.name)
            destination = _claim_checked(traced, route, nats, aws, allowed_of(route))
            to_aws = partial(nats_to_sns, fifo=fifo, group=_group(to.group), keep=to.keep)
        case _:
            assert_never(route.destination)
    parking = await _open_parking(route, nats, aws)
    assert isinstance(route.source, JetStreamSourceConfig)
    source = route.source
    consumer = await open_consumer(
        nats, source.stream, source.consumer, source.filter_subjects, ordered=fifo and reading
    )
    destination = await _ledgered(destination, route, nats, consumer.place, places[:1])
    opened = OpenRoute(
        source=JetStreamSource(nats, consumer, batch=source.batch, ordered=fifo, exhausted=parking is not None),
        destination=destination,
        mapping=to_aws(passage=passage(consumer.place, frozenset(places)), policy=policy, park_filtered=park_filtered),
        parking=parking,
        # Two pulls side by side may come back in either order, and a FIFO target is promised one.
        receivers=1 if fifo else 2,
        source_name=f"jetstream {consumer.stream}/{consumer.name}",
        destination_name=name,
        closing=closing,
        retention=consumer.retention,
        system="jetstream",
        readers=[WatchedQueueConfig(kind="sqs", queue=each) for each in queues[:MOST_WATCHED]],
        dead_letter=dead_letter,
        heart=await _stream_heart(route, nats, consumer, passage(consumer.place)),
        lane=lane_rule(_group(route.destination.group)) if fifo else None,
        terms=(*consumer.terms, *_parking_terms(parking)),
    )
    return _closed_together(opened)


def _parking_terms(parking: Parking | None) -> tuple[Term, ...]:
    if parking is None or not isinstance(parking.destination, JetStreamDestination):
        return ()
    return parking.destination.terms


def _closed_together(opened: OpenRoute) -> OpenRoute:
    """Its legs are closed with it, the source first."""
    parking = [] if opened.parking is None else [opened.parking.destination]
    heart = [] if opened.heart is None else [opened.heart.source]
    for destination in (*heart, *parking, opened.destination):
        opened.closing.push_async_callback(destination.close)
    opened.closing.push_async_callback(opened.source.close)
    return opened


def watched(
    config: Config, route: RouteConfig, opened: OpenRoute, nats: NatsConnection, aws: AwsConnection
) -> list[Watched]:
    """The places whose lag is shown beside the route's own: those it names, or the defaults of `watch`."""
    ours = [
        (other.source.stream, other.source.consumer)
        for other in config.routes
        if isinstance(other.source, JetStreamSourceConfig) and other.nats == route.nats
    ]
    cloudwatch = config.sampling.cloudwatch
    places: list[Watched] = []
    for each in opened.readers if route.watch is None else route.watch:
        match each:
            case WatchedQueueConfig(queue=queue):
                places.append(WatchedQueue(aws, queue, cloudwatch=cloudwatch))
            case WatchedConsumersConfig(stream=stream, consumer=consumer):
                own = frozenset(name for place, name in ours if place == stream)
                places.append(WatchedConsumers(nats, stream, consumer, ours=own, most=MOST_WATCHED))
            case _:
                assert_never(each)
    if route.watch is None and opened.dead_letter:
        places.append(WatchedQueue(aws, opened.dead_letter, side="dead_letter", cloudwatch=cloudwatch))
    return places


def _queue_heart(route: RouteConfig, source: Destination, passage: Passage) -> Heart | None:
    if route.heartbeat is None:
        return None
    return Heart(route.name, passage.mark, route.heartbeat.every, source, into_queue)


async def _stream_heart(route: RouteConfig, nats: NatsConnection, consumer: Consumer, passage: Passage) -> Heart | None:
    if route.heartbeat is None:
        return None
    subjects = await subjects_of(nats, consumer.stream)
    subject = subject_into(consumer.filters, subjects)

    def out(canary: Canary) -> Out:
        if subject is None:
            raise NotUsable(NO_SUBJECT.format(consumer=consumer.name, stream=consumer.stream))
        return into_stream(canary, subject)

    known = {consumer.stream: Captures(subjects)}
    source = JetStreamDestination(nats, pattern=subject or "", known=known, stream=consumer.stream)
    return Heart(route.name, passage.mark, route.heartbeat.every, source, out)


def _traced(
    inner: Sized, route: RouteConfig, tracing: Tracing | None, system: str, to: str, *, enveloped: bool = False
) -> Sized:
    if tracing is None:
        return inner
    return tracing.around(inner, route=route.name, system=system, to=to, enveloped=enveloped)


def own_place(claim_check: S3ClaimCheckConfig | ObjectStoreClaimCheckConfig) -> Place:
    """Where a route stores, it may fetch: all of the bucket, for producers may use it too."""
    return Place(claim_check.kind, claim_check.bucket)


def allowed_of(route: RouteConfig) -> Allowed:
    """The places whose payloads a route may fetch: those it names, and no others."""
    source, claim_check = route.source, route.claim_check
    own = () if claim_check is None else (own_place(claim_check),)
    match source:
        case SqsSourceConfig(pointers="keep"):
            return Allowed()
        case SqsSourceConfig(buckets=buckets):
            return Allowed((*own, *(Place.parse("s3", each) for each in buckets)), park=source.unlisted == "park")
        case JetStreamSourceConfig(buckets=buckets):
            places = (*own, *(Place.parse("object_store", each) for each in buckets))
            return Allowed(places, park=source.unlisted == "park")
        case _:
            assert_never(source)


def _claim_checked(
    inner: Sized, route: RouteConfig, nats: NatsConnection, aws: AwsConnection, allowed: Allowed
) -> Destination:
    if route.claim_check is None and not allowed.fetches:
        return inner
    prefixes: dict[str, list[str]] = {}
    for place in allowed.places:
        prefixes.setdefault(place.bucket, []).append(place.prefix)
    kept = None
    if (to := route.claim_check) is not None:
        form = to.pointer_format if isinstance(to, S3ClaimCheckConfig) else "v2"
        kept = Kept(to.kind, to.bucket, to.prefix, form)
        prefixes.setdefault(to.bucket, []).append(to.prefix)
    stores: dict[Store, Payloads] = {"s3": S3Payloads(aws, prefixes), "object_store": ObjectPayloads(nats)}
    room = Room(route.max_in_flight_bytes // COPIES)
    return ClaimChecked(inner, stores, kept, allowed=allowed, room=room)


async def _ledgered(
    inner: Destination, route: RouteConfig, nats: NatsConnection, source: str, destinations: Sequence[str]
) -> Destination:
    if route.ledger is None:
        return inner
    ledger = await open_ledger(nats, route.ledger.bucket, source=source, destinations=destinations)
    return Ledgered(inner, ledger)


async def _open_parking(route: RouteConfig, nats: NatsConnection, aws: AwsConnection) -> Parking | None:
    source = source_of(route)
    match route.parking:
        case None:
            return None
        case JetStreamParkingConfig(subject=subject):
            stream = await open_destination(nats, pattern=subject, stream=None)
            return Parking(stream, park_to_jetstream(route=route.name, source=source, subject=subject, secret=SECRET))
        case SqsParkingConfig(queue=name):
            queue = await open_queue(aws, name)
            return Parking(SqsDestination(aws, queue), park_to_sqs(route=route.name, source=source, fifo=queue.fifo))
        case _:
            assert_never(route.parking)


def _group(text: str | None) -> GroupTemplate | None:
    return None if text is None else GroupTemplate.parse(text)


def source_of(route: RouteConfig) -> str:
    """The source as logs and parked messages name it."""
    match route.source:
        case SqsSourceConfig(queue=queue):
            return f"sqs:{queue}"
        case JetStreamSourceConfig(stream=stream, consumer=consumer):
            return f"jetstream:{stream}/{consumer}"
        case _:
            assert_never(route.source)


def nats_config(config: Config, route: RouteConfig) -> NatsConfig:
    """The NATS connection a route uses: the default one, or the one it names."""
    found = config.nats if route.nats is None else config.connections[route.nats]
    if not isinstance(found, NatsConfig):
        raise ConfigError(f"route {route.name}: connection {route.nats} is not of kind nats")
    return found


def aws_config(config: Config, route: RouteConfig) -> AwsConfig:
    """The AWS connection a route uses: the default one, or the one it names."""
    found = config.aws if route.aws is None else config.connections[route.aws]
    if not isinstance(found, AwsConfig):
        raise ConfigError(f"route {route.name}: connection {route.aws} is not of kind aws")
    return found


def nats_options(config: NatsConfig) -> NatsOptions:
    """What the NATS leg needs of the configuration."""
    tls = config.tls
    return NatsOptions(
        servers=tuple(config.servers),
        user=config.user,
        password=config.password.get_secret_value() if config.password else None,
        token=config.token.get_secret_value() if config.token else None,
        credentials_file=config.credentials_file,
        nkey_seed_file=config.nkey_seed_file,
        tls=Tls(tls.ca_file, tls.cert_file, tls.key_file, tls.required, tls.first) if tls else None,
        domain=config.domain,
        api_prefix=config.api_prefix,
        max_payload=config.max_payload,
        inbox_prefix=config.inbox_prefix,
        connect_timeout=config.connect_timeout,
    )


def aws_options(config: AwsConfig, *, pool: int) -> AwsOptions:
    """What the AWS legs need of the configuration. `pool` is the number of HTTP connections: a long poll holds one."""
    return AwsOptions(
        region=config.region,
        endpoint_url=config.endpoint_url,
        s3_endpoint_url=config.s3_endpoint_url,
        lean=config.transport == "lean",
        profile=config.profile,
        role_arn=config.role_arn,
        external_id=config.external_id,
        pool=pool,
    )
