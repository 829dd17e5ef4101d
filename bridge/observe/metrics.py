"""The metrics: names, labels and help texts, in a registry of their own, of which docs/metrics.md is made.

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
"""The calls that carry messages, which are the ones made again."""


class Metrics:
    """Every metric of the process; each is an attribute."""

    def __init__(self) -> None:
        self.registry = Registry()
        prefix = "nats_sqs_bridge_"
        self.messages = Counter(
            f"{prefix}messages",
            "Messages by what became of them; duplicate: the destination had it already.",
            ["route", "outcome"],
            registry=self.registry,
        )
        self.in_flight = Gauge(
            f"{prefix}in_flight_messages",
            "Messages on loan from the source: received, not settled yet.",
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
            "Messages waiting at the source, not on loan to anyone. NaN while unknown.",
            ["route"],
            registry=self.registry,
        )
        self.up = Gauge(
            f"{prefix}route_up",
            "1 while the route can carry: both sides are open and nothing is in the way.",
            ["route"],
            registry=self.registry,
        )
        self.at_rest = Gauge(
            f"{prefix}route_at_rest",
            "1 while the route does not run because somebody wants it so: it is paused, or has been drained.",
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
            "Carried messages the source would not let go: it may lend them again.",
            ["route"],
            registry=self.registry,
        )
        self.heals = Counter(
            f"{prefix}heals",
            "Messages waited and none arrived, so the route made its subscriptions anew.",
            ["route"],
            registry=self.registry,
        )
        self.restarts = Counter(
            f"{prefix}route_restarts",
            "Times a route failed with an error no one expected, and started again.",
            ["route"],
            registry=self.registry,
        )
        self.leases_lost = Counter(
            f"{prefix}leases_lost",
            "Messages the source took back while they were held: they come again.",
            ["route"],
            registry=self.registry,
        )
        place = ["route", "side", "system", "name"]
        self.lag_messages = Gauge(
            f"{prefix}lag_messages",
            "Messages that wait or are in flight in one place. NaN while unknown.",
            place,
            registry=self.registry,
        )
        self.lag_seconds = Gauge(
            f"{prefix}lag_seconds",
            "Age of the oldest message not finished there. NaN while unknown, and while it is only a bound.",
            place,
            registry=self.registry,
        )
        self.headroom = Gauge(
            f"{prefix}retention_headroom_seconds",
            "Seconds until the oldest message is lost to retention. +Inf where nothing ever is, NaN while unknown.",
            place,
            registry=self.registry,
        )
        self.drain = Gauge(
            f"{prefix}empty_in_seconds",
            "Seconds until nothing waits, at this pace. NaN while it does not shrink.",
            place,
            registry=self.registry,
        )
        self.verdict = Gauge(
            f"{prefix}verdict",
            "How one place does: 0 OK, 1 SLOW, 2 STALLED, 3 STOPPED, 4 UNKNOWN.",
            place,
            registry=self.registry,
        )
        self.backlog = Gauge(
            f"{prefix}backlog_messages",
            "Messages in one place by state. NaN while unknown.",
            [*place, "state"],
            registry=self.registry,
        )
        self.of_places = (self.lag_messages, self.lag_seconds, self.headroom, self.drain, self.verdict)
        self.aws_call_retries = Counter(
            f"{prefix}aws_call_retries",
            "AWS calls made again after an error that may pass, as AWS's SDKs do; what fails still is told of as ever.",
            ["operation"],
            registry=self.registry,
        )
        for each in AWS_CALLS:
            self.aws_call_retries.labels(each)
        self.reload_successful = Gauge(
            f"{prefix}config_last_reload_successful",
            "1 if the last attempt to load the configuration succeeded, else 0: an older one goes on.",
            registry=self.registry,
        )
        self.reload_timestamp = Gauge(
            f"{prefix}config_last_reload_timestamp_seconds",
            "When the configuration that runs was loaded, in seconds since the epoch.",
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
            "When the last heartbeat arrived, since the epoch. NaN before the first.",
            ["route"],
            registry=self.registry,
        )
        Info(f"{prefix}build", "The version that runs.", registry=self.registry).info(
            {"version": __version__, "python": platform.python_version()}
        )
        ProcessCollector(registry=self.registry)

    def forget(self, route: str) -> None:
        """Removes every series of a route that is no more."""
        for metric in vars(self).values():
            if isinstance(metric, Counter | Gauge | Histogram):
                with suppress(ValueError):  # it has no such label
                    metric.remove_by_labels({"route": route})

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """The metrics and their content type: OpenMetrics, which has exemplars, for who accepts it, else the Prometheus
        text format."""
        _, content_type = choose_encoder(accept)
        return self.registry.exposition(openmetrics=content_type.startswith(OPENMETRICS)), content_type
