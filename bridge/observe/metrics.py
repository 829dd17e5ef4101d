"""The metrics: names, labels and help texts, in a registry of their own, from which docs/metrics.md is generated.

May not: decide what is counted, or render (exposition.py does). Label values come from closed sets: route names,
outcomes, and the places of a route, at most 20 for each thing it watches.
"""

from __future__ import annotations

import platform
from contextlib import suppress

from prometheus_client import Info
from prometheus_client.exposition import choose_encoder
from prometheus_client.process_collector import ProcessCollector

from bridge import __version__
from bridge.observe.exposition import Counter, Gauge, Histogram, Registry

OPENMETRICS = "application/openmetrics-text"
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600)


AWS_CALLS = (
    "ReceiveMessage",
    "DeleteMessageBatch",
    "ChangeMessageVisibilityBatch",
    "SendMessageBatch",
    "PublishBatch",
)
"""The calls that carry messages, which are the ones retried."""


class Metrics:
    """Every metric of the process; each is an attribute."""

    def __init__(self) -> None:
        self.registry = Registry()
        prefix = "nats_sqs_bridge_"
        self.messages = Counter(
            f"{prefix}messages",
            "Messages by outcome; duplicate: the destination already had it.",
            ["route", "outcome"],
            registry=self.registry,
        )
        self.in_flight = Gauge(
            f"{prefix}in_flight_messages",
            "Messages in flight: received from the source, not settled yet.",
            ["route"],
            registry=self.registry,
        )
        self.transit = Histogram(
            f"{prefix}transit_seconds",
            "From the source's timestamp to durable at the destination.",
            ["route"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.publish = Histogram(
            f"{prefix}publish_seconds",
            "From received to durable at the destination.",
            ["route"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.pending = Gauge(
            f"{prefix}source_pending_messages",
            "Messages waiting at the source, not in flight to any consumer. NaN while unknown.",
            ["route"],
            registry=self.registry,
        )
        self.up = Gauge(
            f"{prefix}route_up",
            "1 while the route can carry: both sides are open and no error blocks it.",
            ["route"],
            registry=self.registry,
        )
        self.at_rest = Gauge(
            f"{prefix}route_at_rest",
            "1 while the route is paused or drained, as an operator requested.",
            ["route"],
            registry=self.registry,
        )
        self.blocked = Gauge(
            f"{prefix}blocked_groups",
            "Message groups that wait behind a message that cannot be carried.",
            ["route"],
            registry=self.registry,
        )
        self.settle_failures = Counter(
            f"{prefix}settle_failures",
            "Carried messages that could not be deleted or acknowledged at the source: they may be redelivered.",
            ["route"],
            registry=self.registry,
        )
        self.resubscriptions = Counter(
            f"{prefix}resubscriptions",
            "Times the route resubscribed because messages waited and none arrived.",
            ["route"],
            registry=self.registry,
        )
        self.restarts = Counter(
            f"{prefix}route_restarts",
            "Times a route failed with an unexpected error and restarted.",
            ["route"],
            registry=self.registry,
        )
        self.leases_lost = Counter(
            f"{prefix}leases_lost",
            "Messages whose lease ended while they were in flight: the source redelivers them.",
            ["route"],
            registry=self.registry,
        )
        place = ["route", "side", "system", "name"]
        self.lag_messages = Gauge(
            f"{prefix}lag_messages",
            "Messages waiting or in flight in one queue or consumer. NaN while unknown.",
            place,
            registry=self.registry,
        )
        self.lag_seconds = Gauge(
            f"{prefix}lag_seconds",
            "Age of the oldest unfinished message. NaN while unknown, or while only an upper bound is known.",
            place,
            registry=self.registry,
        )
        self.headroom = Gauge(
            f"{prefix}retention_headroom_seconds",
            "Seconds until the oldest message is lost to retention. +Inf where there is no limit, NaN while unknown.",
            place,
            registry=self.registry,
        )
        self.drain = Gauge(
            f"{prefix}empty_in_seconds",
            "Seconds until the backlog is empty, at this pace. NaN while it does not shrink.",
            place,
            registry=self.registry,
        )
        self.verdict = Gauge(
            f"{prefix}verdict",
            "Verdict on one queue or consumer: 0 OK, 1 SLOW, 2 STALLED, 3 STOPPED, 4 UNKNOWN.",
            place,
            registry=self.registry,
        )
        self.backlog = Gauge(
            f"{prefix}backlog_messages",
            "Messages in one queue or consumer, by state. NaN while unknown.",
            [*place, "state"],
            registry=self.registry,
        )
        self.of_places = (self.lag_messages, self.lag_seconds, self.headroom, self.drain, self.verdict)
        self.aws_call_retries = Counter(
            f"{prefix}aws_call_retries",
            "Retries after transient AWS errors.",
            ["operation"],
            registry=self.registry,
        )
        for each in AWS_CALLS:
            self.aws_call_retries.labels(each)
        self.reload_successful = Gauge(
            f"{prefix}config_last_reload_successful",
            "1 if the last attempt to load the configuration succeeded, else 0: the previous one stays in use.",
            registry=self.registry,
        )
        self.reload_timestamp = Gauge(
            f"{prefix}config_last_reload_timestamp_seconds",
            "When the running configuration was loaded, in seconds since the epoch.",
            registry=self.registry,
        )
        self.heartbeat = Gauge(
            f"{prefix}heartbeat_seconds",
            "How long the last heartbeat took from sent to durable at the destination. NaN before the first.",
            ["route"],
            registry=self.registry,
        )
        self.heartbeat_at = Gauge(
            f"{prefix}heartbeat_timestamp_seconds",
            "When the last heartbeat arrived, in seconds since the epoch. NaN before the first.",
            ["route"],
            registry=self.registry,
        )
        Info(f"{prefix}build", "The running version.", registry=self.registry).info(
            {"version": __version__, "python": platform.python_version()}
        )
        ProcessCollector(registry=self.registry)

    def forget(self, route: str) -> None:
        """Removes every series of a route that no longer exists."""
        for metric in vars(self).values():
            if isinstance(metric, Counter | Gauge | Histogram):
                with suppress(ValueError):  # it has no such label
                    metric.remove_by_labels({"route": route})

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """The metrics and their content type: OpenMetrics, which has exemplars, where the client accepts it, else the
        Prometheus text format."""
        _, content_type = choose_encoder(accept)
        return self.registry.exposition(openmetrics=content_type.startswith(OPENMETRICS)), content_type
