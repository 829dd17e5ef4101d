"""Counters, gauges and histograms that are cheap to write to and cheap to scrape, and the registry that renders them.

prometheus-client's own take a lock for every change and some 8 us for every line of every scrape: 40 ms with fifty
routes. These keep the text of each series and render only what changed. They are ordinary collectors, so the
library's `generate_latest` renders them too, to the same lines (tests/test_exposition.py), and its own metrics may
be in the same registry. For one thread: that of the event loop.
May not: know a metric's name or meaning; metrics.py does.
Source: Prometheus text format 0.0.4; OpenMetrics 1.0.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import ClassVar, Generic, TypeVar

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics_exposition
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

# These ship without types.
_in_go: Callable[[float], str] = floatToGoString
_in_openmetrics: Callable[[CollectorRegistry], bytes] = openmetrics_exposition.generate_latest

Labels = tuple[tuple[str, str], ...]
"""Names and values, sorted by name, as the library writes them."""


def written(value: float) -> str:
    """As Go writes it, which is what Prometheus compares `le` with."""
    return repr(value) if 0 <= value < 1e6 else _in_go(value)


def label_text(labels: Iterable[tuple[str, str]]) -> str:
    """`{a="b"}`, escaped; nothing without labels."""
    pairs = [f'{name}="{_escaped(value)}"' for name, value in labels]
    return f"{{{','.join(pairs)}}}" if pairs else ""


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


class Number:
    """One series with one value. `text` is its line when the value was `shown`."""

    __slots__ = ("_prefix", "shown", "text", "value")

    def __init__(self, name: str, labels: Labels) -> None:
        self.value = 0.0
        self.shown: float | None = None
        self.text = ""
        self._prefix = f"{name}{label_text(labels)} "

    def set(self, value: float) -> None:
        if value != self.value or not value:  # an unchanged value need not be rendered again; zero has two signs
            self.value = float(value)

    def inc(self, amount: float = 1.0) -> None:
        self.value += amount

    def show(self) -> None:
        value = self.shown = self.value
        self.text = f"{self._prefix}{repr(value) if 0 <= value < 1e6 else _in_go(value)}\n"


class Distribution:
    """One histogram: how many fell into each bucket, and their sum. `text` is its lines, empty until `show`."""

    __slots__ = ("_bounds", "_prefixes", "_template", "counts", "exemplars", "sum", "text")

    def __init__(self, name: str, labels: Labels, bounds: Sequence[float]) -> None:
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0
        self.exemplars: dict[int, Exemplar] = {}
        self.text = ""
        self._bounds = bounds
        edges = [sorted([*labels, ("le", edge)]) for edge in edges_of(bounds)]
        plain = label_text(labels)
        self._prefixes = [f"{name}_bucket{label_text(each)} " for each in edges]
        self._prefixes += [f"{name}_count{plain} ", f"{name}_sum{plain} "]
        self._template = "".join(f"{each.replace('%', '%%')}%s\n" for each in self._prefixes)

    def observe(self, amounts: Sequence[float], trace: str = "") -> None:
        """Counts each of them; the largest is an exemplar of the `trace`, if there is one."""
        counts, bounds = self.counts, self._bounds
        for each in amounts:
            counts[bisect_left(bounds, each)] += 1
        self.sum += sum(amounts)
        self.text = ""
        if trace and amounts:
            largest = max(amounts)
            self.exemplars[bisect_left(bounds, largest)] = Exemplar({"trace_id": trace}, largest, time.time())

    def show(self) -> None:
        self.text = self._template % tuple(self._values())

    def with_exemplars(self) -> str:
        """The lines with their exemplars, which only OpenMetrics has."""
        examples = [_example(self.exemplars.get(at)) for at in range(len(self._prefixes))]
        parts = zip(self._prefixes, self._values(), examples, strict=True)
        return "".join(f"{prefix}{value}{example}\n" for prefix, value, example in parts)

    def _values(self) -> list[str]:
        values, before, text = [], -1, ""
        for count in accumulate(self.counts):
            if count != before:  # beyond the slowest of them every bucket has the same count
                before, text = count, written(float(count))
            values.append(text)
        return [*values, text, written(self.sum)]


def edges_of(bounds: Sequence[float]) -> list[str]:
    """The values of `le`."""
    return [*map(_in_go, bounds), "+Inf"]


def _example(exemplar: Exemplar | None) -> str:
    if exemplar is None:
        return ""
    labels = label_text(sorted(exemplar.labels.items())) or "{}"
    return f" # {labels} {written(exemplar.value)} {exemplar.timestamp}"


Series = TypeVar("Series", Number, Distribution)


class Family(Collector, Generic[Series]):
    """One metric: its series by label values. `name` is without the suffix that its kind adds."""

    kind: ClassVar[str]
    suffix: ClassVar[str] = ""

    def __init__(self, name: str, text: str, labels: Sequence[str] = (), *, registry: CollectorRegistry) -> None:
        self.name = name
        self.text = text
        self.label_names = tuple(labels)
        self._series: dict[tuple[str, ...], Series] = {}
        registry.register(self)
        if not labels:
            self.labels()

    @abstractmethod
    def _new(self, labels: Labels) -> Series: ...

    @abstractmethod
    def _sample(self, metric: Metric, labels: dict[str, str], series: Series) -> None:
        """Adds the series to the library's form of the metric."""

    def labels(self, *values: str) -> Series:
        """The series of these label values, in the order of their names."""
        series = self._series.get(values)
        if series is None:
            labels = sorted(zip(self.label_names, values, strict=True))
            series = self._series[values] = self._new(tuple(labels))
        return series

    def remove(self, *values: str) -> None:
        """Forgets one series, if it is there."""
        self._series.pop(values, None)

    def remove_by_labels(self, labels: Mapping[str, str]) -> None:
        """Forgets every series with these values. Raises ValueError for a label the metric does not have."""
        wanted = [(self.label_names.index(name), value) for name, value in labels.items()]
        for values in [each for each in self._series if all(each[at] == value for at, value in wanted)]:
            del self._series[values]

    def describe(self) -> list[Metric]:
        return [Metric(self.name, self.text, self.kind)]

    def collect(self) -> list[Metric]:
        metric = Metric(self.name, self.text, self.kind)
        for values, series in self._series.items():
            self._sample(metric, dict(zip(self.label_names, values, strict=True)), series)
        return [metric]

    def write(self, out: list[str], *, openmetrics: bool) -> None:
        """Appends its lines to `out`."""
        # A counter's family is called as its series in the text format, and without their suffix in OpenMetrics.
        name = self.name if openmetrics else f"{self.name}{self.suffix}"
        text = _escaped(self.text) if openmetrics else self.text.replace("\\", r"\\").replace("\n", r"\n")
        out.append(f"# HELP {name} {text}\n# TYPE {name} {self.kind}\n")
        out.extend(self._texts(openmetrics=openmetrics))

    @abstractmethod
    def _texts(self, *, openmetrics: bool) -> list[str]:
        """The lines of each series, rendered again only where it changed."""


class _Numbers(Family[Number]):
    """One value for each series."""

    def _new(self, labels: Labels) -> Number:
        return Number(f"{self.name}{self.suffix}", labels)

    def _sample(self, metric: Metric, labels: dict[str, str], series: Number) -> None:
        metric.add_sample(f"{self.name}{self.suffix}", labels, series.value)

    def _texts(self, *, openmetrics: bool) -> list[str]:  # noqa: ARG002 - the same in both
        # By identity: NaN equals nothing, and a float that is the same object is the same number.
        for each in self._series.values():
            if each.value is not each.shown:
                each.show()
        return [each.text for each in self._series.values()]


class Gauge(_Numbers):
    """What goes up and down."""

    kind = "gauge"

    def set(self, value: float) -> None:
        """For one without labels."""
        self.labels().set(value)


class Counter(_Numbers):
    """What only grows."""

    kind = "counter"
    suffix = "_total"

    def inc(self, amount: float = 1.0) -> None:
        """For one without labels."""
        self.labels().inc(amount)


class Histogram(Family[Distribution]):
    """How long things take. `buckets` are upper bounds, in order, without infinity."""

    kind = "histogram"

    def __init__(
        self,
        name: str,
        text: str,
        labels: Sequence[str] = (),
        *,
        buckets: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        self.buckets = tuple(map(float, buckets))
        super().__init__(name, text, labels, registry=registry)

    def _new(self, labels: Labels) -> Distribution:
        return Distribution(self.name, labels, self.buckets)

    def _sample(self, metric: Metric, labels: dict[str, str], series: Distribution) -> None:
        counts = list(accumulate(series.counts))
        for at, edge in enumerate(edges_of(self.buckets)):
            metric.add_sample(
                f"{self.name}_bucket", {**labels, "le": edge}, counts[at], exemplar=series.exemplars.get(at)
            )
        metric.add_sample(f"{self.name}_count", labels, counts[-1])
        metric.add_sample(f"{self.name}_sum", labels, series.sum)

    def _texts(self, *, openmetrics: bool) -> list[str]:
        for each in self._series.values():
            if not each.text:
                each.show()
        return [
            each.with_exemplars() if openmetrics and each.exemplars else each.text for each in self._series.values()
        ]


class Registry(CollectorRegistry):
    """Every collector of the process. `families` are ours; what else registers is rendered by the library."""

    def __init__(self) -> None:
        super().__init__()
        self.families: list[Family[Number] | Family[Distribution]] = []
        self._others = CollectorRegistry()

    def register(self, collector: Collector) -> None:
        super().register(collector)  # raises for a name that is taken
        if isinstance(collector, Family):
            self.families.append(collector)
        else:
            self._others.register(collector)

    def exposition(self, *, openmetrics: bool = False) -> bytes:
        """The Prometheus text format, or OpenMetrics, which alone has exemplars."""
        out: list[str] = []
        for family in self.families:
            family.write(out, openmetrics=openmetrics)
        others = _in_openmetrics(self._others) if openmetrics else generate_latest(self._others)
        return "".join(out).encode() + others  # last: OpenMetrics ends with # EOF
