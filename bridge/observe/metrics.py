"""The metrics: names, labels and help texts, in a registry of their own. Only this module imports prometheus_client.

May not: decide what is counted. Label values come from closed sets: route names, outcomes, and
the at most 22 places of a route.
"""

from __future__ import annotations

import platform
import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Gauge, Info, generate_latest
from prometheus_client.core import Exemplar, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from bridge import __version__

OPENMETRICS = "application/openmetrics-text"
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600)


class Series:
    """One histogram: how many fell into each bucket, and their sum; the newest exemplar of each bucket that has one."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.sum = 0.0
        self.exemplars: dict[int, Exemplar] = {}

    def observe(self, seconds: Sequence[float], trace: str = "") -> None:
        """Counts each of them; the slowest is an example of the `trace`, if there is one."""
        counts = self.counts
        for each in seconds:
            counts[bisect_left(BUCKETS, each)] += 1
        self.sum += sum(seconds)
        if trace and seconds:
            slowest = max(seconds)
            self.exemplars[bisect_left(BUCKETS, slowest)] = Exemplar({"trace_id": trace}, slowest, time.time())


class Durations(Collector):
    """A histogram by labels that takes a whole batch at a time: the library's own takes a lock and a search for each
    message. For one thread."""

    def __init__(self, name: str, text: str, labels: Sequence[str], *, registry: CollectorRegistry) -> None:
        self._family = (name, text, tuple(labels))
        self._series: dict[tuple[str, ...], Series] = {}
        registry.register(self)

    def labels(self, *values: str) -> Series:
        return self._series.setdefault(values, Series())

    def remove_by_labels(self, labels: Mapping[str, str]) -> None:
        """Forgets the series that have these labels."""
        names = self._family[2]
        for values in [each for each in self._series if labels.items() <= dict(zip(names, each, strict=True)).items()]:
            del self._series[values]

    def collect(self) -> Iterator[HistogramMetricFamily]:
        name, text, labels = self._family
        family = HistogramMetricFamily(name, text, labels=labels)
        for values, series in self._series.items():
            edges = [*map(floatToGoString, BUCKETS), "+Inf"]
            buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = list(
                zip(edges, accumulate(series.counts), strict=True)
            )
            for at, exemplar in series.exemplars.items():
                buckets[at] = (*buckets[at][:2], exemplar)
            family.add_metric(values, buckets, series.sum)
        yield family


class Metrics:
    """Every metric of the process; each is an attribute."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        prefix = "nats_sqs_bridge_"
        self.messages = Counter(
            f"{prefix}messages", "Messages by what became of them.", ["route", "outcome"], registry=self.registry
        )
        self.in_flight = Gauge(
            f"{prefix}in_flight_messages", "Messages on loan from the source.", ["route"], registry=self.registry
        )
        self.transit = Durations(
            f"{prefix}transit_seconds",
            "From the source's timestamp to durable at the destination.",
            ["route"],
            registry=self.registry,
        )
        self.publish = Durations(
            f"{prefix}publish_seconds",
            "From received to durable at the destination.",
            ["route"],
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
            "1 while the route can carry: both sides open, no trouble.",
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
        self.leases_lost = Counter(
            f"{prefix}leases_lost",
            "Messages the source took back while they were held: they come again.",
            ["route"],
            registry=self.registry,
        )
        place = ["route", "side", "system", "name"]
        self.lag_messages = Gauge(
            f"{prefix}lag_messages",
            "Waiting or in flight in one place. NaN while unknown.",
            place,
            registry=self.registry,
        )
        self.lag_seconds = Gauge(
            f"{prefix}lag_seconds", "Age of the oldest of them. NaN while unknown.", place, registry=self.registry
        )
        self.headroom = Gauge(
            f"{prefix}retention_headroom_seconds",
            "Until the oldest message is lost to retention. +Inf where nothing is, NaN while unknown.",
            place,
            registry=self.registry,
        )
        self.drain = Gauge(
            f"{prefix}drain_seconds",
            "Until nothing waits, at this pace. NaN while it does not shrink.",
            place,
            registry=self.registry,
        )
        self.verdict = Gauge(
            f"{prefix}verdict", "0 OK, 1 SLOW, 2 STALLED, 3 STOPPED, 4 UNKNOWN.", place, registry=self.registry
        )
        self.backlog = Gauge(
            f"{prefix}backlog_messages",
            "Messages in one place by state: pending, in_flight, delayed. NaN while unknown.",
            [*place, "state"],
            registry=self.registry,
        )
        self.of_places = (self.lag_messages, self.lag_seconds, self.headroom, self.drain, self.verdict)
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
            if isinstance(metric, Counter | Gauge | Durations):
                with suppress(ValueError):  # it has no such label
                    metric.remove_by_labels({"route": route})

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """The metrics and their content type: OpenMetrics, which has exemplars, for who accepts it, else the Prometheus
        text format."""
        if OPENMETRICS in accept:
            encode, content_type = choose_encoder(accept)
            return encode(self.registry), content_type
        return generate_latest(self.registry), "text/plain; version=0.0.4; charset=utf-8"
