"""What a configuration is: every key, its type, default and meaning. The reference and the schema are made from this.

May not: read a file or the environment (load.py does), or compare one key with another (rules.py does).
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from bridge.config import grammar
from bridge.config.connections import (
    AwsConfig,
    AwsConnectionConfig,
    NatsConfig,
    NatsConnectionConfig,
    Section,
)
from bridge.core.mapping.subject import DueTemplate, SubjectTemplate


class HttpConfig(Section):
    """Where /metrics, /healthz, /readyz and /status are served, and actions are taken: POST /reload and
    /routes/NAME/pause, resume, drain. It does not serve TLS: put a proxy in front for that."""

    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on; loopback by default.")
    port: int = Field(9108, ge=0, le=65535, description="Port; 0 takes any free one.")
    allowed_hosts: Annotated[list[Annotated[str, grammar.said(grammar.host_name)]], BeforeValidator(grammar.listed)] = (
        Field(
            default_factory=list,
            description="Host names clients use, like bridge or bridge.example.com. IP addresses, localhost and `host` "
            "always work; any other name is refused with 421, to prevent DNS rebinding.",
        )
    )
    token_file: str | None = Field(
        None, description="A file with the token actions need, read again on reload; without it there are no actions."
    )

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


class LogConfig(Section):
    """Logs, on stderr. No payload is ever in them."""

    format: Literal["auto", "console", "json"] = Field("auto", description="auto: console on a terminal, else json.")
    level: Literal["debug", "info", "warning", "error"] = Field("info", description="The lowest level that is logged.")


class TracingConfig(Section):
    """Spans over OTLP/HTTP; needs nats-sqs-bridge[otel]. OTEL_* variables set the rest, secret headers included."""

    endpoint: Annotated[str, grammar.said(grammar.http_url)] | None = Field(
        None, description="Collector, like http://127.0.0.1:4318; left out: OTEL_EXPORTER_OTLP_ENDPOINT."
    )
    sample_ratio: float | None = Field(
        None, ge=0, le=1, description="Share of the batches that get a span; left out: OTEL_TRACES_SAMPLER, or all."
    )


S3Places = Annotated[
    list[Annotated[str, grammar.said(grammar.placed(grammar.s3_bucket_name))]], BeforeValidator(grammar.listed)
]
ObjectStorePlaces = Annotated[
    list[Annotated[str, grammar.said(grammar.placed(grammar.bucket_name))]], BeforeValidator(grammar.listed)
]


class SqsSourceConfig(Section):
    """Reads an SQS queue."""

    kind: Literal["sqs"] = Field(description="sqs")
    queue: grammar.QueueName = Field(description="Name, URL or ARN.")
    envelope: Literal["auto", "never"] = Field(
        "auto", description="auto: an SNS envelope is recognised and unwrapped; never: bodies are left as they are."
    )
    verify: Annotated[list[Annotated[str, grammar.said(grammar.topic_arn)]], BeforeValidator(grammar.listed)] | None = (
        Field(
            None,
            description="Topic ARNs (not FIFO): only envelopes of these topics with a genuine signature are carried.",
        )
    )
    pointers: Literal["fetch", "keep"] = Field(
        "fetch",
        description="fetch: S3 pointers of Amazon's extended client become their payload, where buckets or "
        "claim_check names the bucket and it fits; keep: they are carried as they are.",
    )
    buckets: S3Places = Field(
        [],
        description="S3 buckets whose payloads may be fetched, besides that of claim_check. NAME/PREFIX: only the "
        "keys that begin with PREFIX.",
    )
    unlisted: Literal["keep", "park"] = Field(
        "keep", description="What a pointer into any other bucket becomes: carried as it is, or parked."
    )
    wait_seconds: int = Field(20, ge=1, le=20, description="Long poll, in seconds; at most 60 % of shutdown_timeout.")
    receivers: int = Field(32, ge=1, le=64, description="Most long polls in parallel; an idle route keeps one.")


class JetStreamSourceConfig(Section):
    """Reads a durable pull consumer with explicit acks."""

    kind: Literal["jetstream"] = Field(description="jetstream")
    stream: grammar.StreamName = Field(description="Stream.")
    consumer: grammar.StreamName = Field(description="Durable pull consumer. It must exist: run creates nothing.")
    filter_subjects: (
        Annotated[list[Annotated[str, grammar.said(grammar.subject_filter)]], BeforeValidator(grammar.listed)] | None
    ) = Field(None, description="The filters the consumer must have; the route does not open if they differ.")
    batch: int = Field(200, ge=1, le=1000, description="Most messages of one pull.")
    buckets: ObjectStorePlaces = Field(
        [],
        description="Object Stores whose payloads are fetched, besides that of claim_check. NAME/PREFIX: only the "
        "names that begin with PREFIX.",
    )
    unlisted: Literal["keep", "park"] = Field(
        "keep", description="What a pointer into any other Object Store becomes: carried as it is, or parked."
    )


class JetStreamDestinationConfig(Section):
    """Publishes into JetStream."""

    kind: Literal["jetstream"] = Field(description="jetstream")
    subject: Annotated[str, grammar.said(grammar.template(SubjectTemplate.parse))] = Field(
        description="Subject; {attributes.NAME} {group} {queue} {topic} {body.PATH} are filled in, {x|default} too."
    )
    stream: grammar.StreamName | None = Field(None, description="The stream that must store it; any other is refused.")
    deliver_at: Annotated[str, grammar.said(grammar.template(DueTemplate.parse))] | None = Field(
        None, description="When to deliver, {attributes.NAME} or {body.PATH}: RFC 3339 or epoch; needs schedules."
    )
    schedules: Annotated[str, grammar.said(grammar.literal_subject)] | None = Field(
        None,
        description="Where messages wait for deliver_at: a subject of the same stream, which must allow schedules.",
    )
    id_scope: Literal["topic", "queue"] = Field(
        "topic",
        description="topic: an SNS message is stored once, even if several queues deliver it; queue: once for "
        "each queue, needed where two routes give its copies different subjects.",
    )
    ttl: Literal["retention"] | None = Field(
        None, description="retention: what is left of the queue's retention becomes Nats-TTL; the stream must allow it."
    )


AttributeNames = Annotated[list[Annotated[str, grammar.said(grammar.attribute_name)]], BeforeValidator(grammar.listed)]
KEEP = "Names of attributes that stay attributes where there are more than the ten SQS and SNS take; at most eight."


class SqsDestinationConfig(Section):
    """Sends to an SQS queue."""

    kind: Literal["sqs"] = Field(description="sqs")
    queue: grammar.QueueName = Field(description="Name, URL or ARN.")
    group: grammar.GroupText | None = Field(
        None,
        description="MessageGroupId: {subject} {subject.N} {headers.NAME} {body.PATH}; left out: the group the message "
        "had in SQS, else its subject for a FIFO queue and none for a standard one, where a group is a tenant (fair "
        "queues).",
    )
    keep: AttributeNames = Field([], max_length=8, description=KEEP)
    envelope: Annotated[str, grammar.said(grammar.topic_arn)] | None = Field(
        None, description="A topic ARN: bodies are wrapped as that topic would wrap them; the bridge signs nothing."
    )


class SnsDestinationConfig(Section):
    """Publishes to an SNS topic."""

    kind: Literal["sns"] = Field(description="sns")
    topic: grammar.TopicName = Field(description="Name or ARN.")
    group: grammar.GroupText | None = Field(None, description="MessageGroupId, as for a queue.")
    keep: AttributeNames = Field([], max_length=8, description=KEEP)


class JetStreamParkingConfig(Section):
    """Parks into JetStream."""

    kind: Literal["jetstream"] = Field(description="jetstream")
    subject: Annotated[str, grammar.said(grammar.literal_subject)] = Field(
        description="Plain subject, captured by a stream."
    )


class SqsParkingConfig(Section):
    """Parks into an SQS queue."""

    kind: Literal["sqs"] = Field(description="sqs")
    queue: grammar.QueueName = Field(description="Name, URL or ARN.")


class S3ClaimCheckConfig(Section):
    """Keeps what is too large in S3, with the pointers of Amazon's extended client."""

    kind: Literal["s3"] = Field(description="s3")
    bucket: Annotated[str, grammar.said(grammar.s3_bucket_name)] = Field(description="Bucket; it must exist.")
    prefix: Annotated[str, grammar.said(grammar.key_prefix)] = Field(
        "nats-sqs-bridge/", max_length=256, description="What the keys begin with."
    )
    pointer_format: Literal["v1", "v2"] = Field(
        "v2",
        description="v2: PayloadS3Pointer and ExtendedPayloadSize; v1: MessageS3Pointer and SQSLargePayloadSize, all "
        "that the Java client 1.0 reads; later ones read both.",
    )


class ObjectStoreClaimCheckConfig(Section):
    """Keeps what is too large in a JetStream Object Store."""

    kind: Literal["object_store"] = Field(description="object_store")
    bucket: Annotated[str, grammar.said(grammar.bucket_name)] = Field(description="Bucket; it must exist.")
    prefix: Annotated[str, grammar.said(grammar.key_prefix)] = Field(
        "nats-sqs-bridge/", max_length=256, description="What the names begin with."
    )


class LedgerConfig(Section):
    """Remembers the ids of what was carried, in a JetStream Key-Value bucket with a TTL."""

    bucket: Annotated[str, grammar.said(grammar.bucket_name)] = Field(
        description="Bucket; it must exist: nats kv add NAME --ttl 24h."
    )


class WatchedQueueConfig(Section):
    """A queue that legacy consumers read. The bridge only calls GetQueueAttributes on it."""

    kind: Literal["sqs"] = Field(description="sqs")
    queue: grammar.QueueName = Field(description="Name, URL or ARN.")


class WatchedConsumersConfig(Section):
    """Consumers of a stream."""

    kind: Literal["jetstream"] = Field(description="jetstream")
    stream: grammar.StreamName = Field(description="Stream.")
    consumer: grammar.StreamName | None = Field(
        None, description="One consumer, durable or not; left out: all durable ones but the bridge's own."
    )


class SamplingConfig(Section):
    """How often lag is measured, and where. One sample costs one AWS call for each queue of a route."""

    every: float = Field(
        4.0, ge=1, le=300, description="Seconds between two samples of a queue: at 4, 900 AWS calls an hour for each."
    )
    cloudwatch: bool = Field(
        False,
        description="Ask CloudWatch for the age of watched queues, once a minute each; cloudwatch:GetMetricStatistics.",
    )


class HeartbeatConfig(Section):
    """A message of the bridge's own through the whole route, so that an idle route proves it works.
    It goes into the route's own source: needs sqs:SendMessage on the queue, or to publish into the stream."""

    every: float = Field(30.0, ge=1, le=3600, description="Seconds between two heartbeats.")


class RouteConfig(Section):
    """Carries messages from one source to one destination: sqs to jetstream, jetstream to sqs, jetstream to sns."""

    name: Annotated[str, grammar.said(grammar.route_name)] = Field(description="Unique; the label of its metrics.")
    source: Annotated[SqsSourceConfig | JetStreamSourceConfig, Field(discriminator="kind")] = Field(
        description="Where messages come from."
    )
    destination: Annotated[
        JetStreamDestinationConfig | SqsDestinationConfig | SnsDestinationConfig, Field(discriminator="kind")
    ] = Field(description="Where they go.")
    parking: Annotated[JetStreamParkingConfig | SqsParkingConfig, Field(discriminator="kind")] | None = Field(
        None, description="Where messages that can never be carried go; without it they go back to the source."
    )
    claim_check: Annotated[S3ClaimCheckConfig | ObjectStoreClaimCheckConfig, Field(discriminator="kind")] | None = (
        Field(None, description="Where payloads too large for the destination go; without it, messages are parked.")
    )
    ledger: LedgerConfig | None = Field(
        None, description="Remembers what was carried for longer than the destination does; off when left out."
    )
    heartbeat: HeartbeatConfig | None = Field(None, description="Canaries through the whole route; off when left out.")
    nats: str | None = Field(None, description="A NATS connection under connections, instead of nats.")
    aws: str | None = Field(None, description="An AWS connection under connections, instead of aws.")
    filter: Annotated[dict[str, Any], BeforeValidator(grammar.document)] | None = Field(
        None, description="An SNS filter policy, as YAML or as its JSON: what it does not accept is not carried."
    )
    filter_scope: Literal["MessageAttributes", "MessageBody"] = Field(
        "MessageAttributes", description="What filter applies to, as FilterPolicyScope."
    )
    filtered: Literal["drop", "park"] = Field(
        "drop", description="A message that filter does not accept is deleted, as SNS does (drop), or parked (park)."
    )
    cannot_carry: Literal["park", "block"] = Field(
        "park", description="park: it is parked, others continue; block: its message group waits (ordered routes)."
    )
    echo: Literal["skip", "carry"] = Field(
        "skip", description="skip: what came from the destination is not carried back to it; carry: it is (a refill)."
    )
    watch: list[Annotated[WatchedQueueConfig | WatchedConsumersConfig, Field(discriminator="kind")]] | None = Field(
        None,
        max_length=20,
        description="What lag is shown beside the route's own. Left out: the source's dead-letter queue, and every "
        "durable consumer of the destination stream, or the destination queue and its dead-letter queue.",
    )
    longest_outage: float = Field(
        1800.0,
        ge=0,
        description="Seconds the bridge may be down and still store nothing twice; check compares duplicate windows.",
    )
    drain_seconds: float | None = Field(
        None,
        ge=1,
        le=86_400,
        description="Seconds the source must look empty before a drain is done; left out: 75 for SQS, whose counts "
        "settle only after a minute, 10 for JetStream.",
    )
    max_in_flight: int = Field(1000, ge=10, le=100_000, description="Most messages in flight at once.")
    max_in_flight_bytes: int = Field(
        201_326_592,
        ge=1_048_576,
        le=17_179_869_184,
        description="Most memory that messages in flight take, in bytes; large messages lower their number.",
    )
    held_share: float = Field(
        0.5,
        ge=0,
        le=0.9,
        description="Share of max_in_flight and max_in_flight_bytes for messages that wait for reasons of their own (a "
        "full parking place or subject). Beyond it, they go back to the source for a while, so that others move.",
    )


class Config(BaseSettings):
    """The whole file."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    nats: NatsConfig = Field(default_factory=NatsConfig, description="The NATS connection routes use.")
    aws: AwsConfig = Field(default_factory=AwsConfig, description="The AWS connection routes use.")
    connections: dict[str, Annotated[NatsConnectionConfig | AwsConnectionConfig, Field(discriminator="kind")]] = Field(
        default_factory=dict, description="Further connections by name, for routes that set nats: or aws:."
    )
    http: HttpConfig = Field(default_factory=HttpConfig, description="The HTTP surface.")
    tracing: TracingConfig | None = Field(None, description="Spans for what is carried; off when left out.")
    log: LogConfig = Field(default_factory=LogConfig, description="Logs.")
    sampling: SamplingConfig = Field(default_factory=SamplingConfig, description="How lag is measured.")
    shutdown_timeout: float = Field(
        30.0, ge=1, le=3600, description="Seconds from the first SIGTERM until what is unfinished is abandoned."
    )
    routes: list[RouteConfig] = Field(min_length=1, description="What is carried from where to where.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # The environment is laid over the file by load.py, which knows the line or the variable of every value and
        # reaches into lists, as BRIDGE_ROUTES__0__SOURCE__QUEUE does. No other source may set a value.
        return (init_settings,)
