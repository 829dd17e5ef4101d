"""What is rendered is what the library renders: the same lines, in both formats, whatever the values and labels."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from bridge.observe import Observation, exposition

parse: Callable[[str], Iterable[Metric]] = text_string_to_metric_families  # it ships without types
BOUNDS = (0.001, 0.5, 1, 2.5, 60, 3600)
values = st.floats() | st.sampled_from([0.0, -0.0, nan, inf, -inf, 1e6, 999_999.0, 1e-5, 1e22, 5.0]) | st.integers(0, 9)
positive = st.floats(0, 1e12) | st.sampled_from([0.0, 0.5, 1.0, 3600.0, 1e7])
texts = st.text(st.sampled_from(["a", "ü", '"', "\\", "\n", "{", "}", ",", " "]), max_size=5)
labels = st.tuples(texts, texts)
changes = st.lists(
    st.tuples(st.just("set"), labels, values)
    | st.tuples(st.just("inc"), labels, positive)
    | st.tuples(st.just("observe"), labels, positive)
    | st.tuples(st.just("exemplify"), labels, positive)
    | st.tuples(st.just("remove"), labels, st.just(0.0))
    | st.tuples(st.just("scrape"), labels, st.just(0.0)),
    max_size=30,
)


class Both:
    """The same metrics, ours and the library's."""

    def __init__(self, text: str) -> None:
        self.ours, self.theirs = exposition.Registry(), CollectorRegistry()
        names = ["name", "a"]  # not in the order they are written in
        self.gauges = (
            exposition.Gauge("g", text, names, registry=self.ours),
            Gauge("g", text, names, registry=self.theirs),
        )
        self.counters = (
            exposition.Counter("c", text, names, registry=self.ours),
            Counter("c", text, names, registry=self.theirs),
        )
        self.histograms = (
            exposition.Histogram("h", text, names, buckets=BOUNDS, registry=self.ours),
            Histogram("h", text, names, buckets=BOUNDS, registry=self.theirs),
        )
        self.alone = exposition.Gauge("alone", text, registry=self.ours), Gauge("alone", text, registry=self.theirs)
        for registry in (self.ours, self.theirs):
            Info("build", "A metric of the library's own.", registry=registry).info({"version": "1"})

    def change(self, what: str, where: tuple[str, str], value: float) -> None:
        match what:
            case "set":
                self.gauges[0].labels(*where).set(value)
                self.gauges[1].labels(*where).set(value)
                self.alone[0].set(value)
                self.alone[1].set(value)
            case "inc":
                self.counters[0].labels(*where).inc(value)
                self.counters[1].labels(*where).inc(value)
            case "observe":
                self.histograms[0].labels(*where).observe([value])
                self.histograms[1].labels(*where).observe(value)
            case "exemplify":
                self.histograms[0].labels(*where).observe([value], "ab12")
                self.histograms[1].labels(*where).observe(value, {"trace_id": "ab12"})
            case "remove":
                for families in (self.gauges, self.counters, self.histograms):
                    families[0].remove(*where)
                    families[1].remove(*where)
            case _:
                self.ours.exposition()


def lines(text: bytes) -> list[str]:
    """Sorted. Without the library's `_created` series, which we do not have, and the moments of exemplars."""
    found = re.sub(r"( # \{.*\} \S+) [0-9.]+$", r"\1 then", text.decode(), flags=re.MULTILINE).splitlines()
    return sorted(line for line in found if not re.match(r"(# (HELP|TYPE) )?[ch]_created\b", line))


@given(changes, texts)
def test_every_line_is_the_librarys(history: list[tuple[str, tuple[str, str], float]], text: str) -> None:
    both = Both(text)
    for change in history:
        both.change(*change)
    for openmetrics, library in ((False, generate_latest), (True, generate_openmetrics)):
        rendered = lines(both.ours.exposition(openmetrics=openmetrics))
        assert rendered == lines(library(both.theirs))
        assert rendered == lines(library(both.ours))  # through `collect`, as any collector


def test_openmetrics_is_what_a_parser_takes() -> None:
    both = Both("text")
    both.change("exemplify", ("x", "y"), 0.7)
    both.change("inc", ("x", "y"), 3)
    text = both.ours.exposition(openmetrics=True).decode()
    families = {family.name: family for family in parse(text)}
    assert set(families) == {"g", "c", "h", "alone", "build"}
    [kept] = [sample.exemplar for sample in families["h"].samples if sample.exemplar]
    assert kept.labels == {"trace_id": "ab12"}
    assert kept.value == 0.7


def test_everything_the_daemon_exposes_is_what_the_library_would_say() -> None:
    observation = Observation()
    observation.route("in").opened("sqs q", "jetstream s")
    observation.route("in").judge()
    registry = observation.metrics.registry
    for openmetrics, library in ((False, generate_latest), (True, generate_openmetrics)):
        ours = [line for line in lines(registry.exposition(openmetrics=openmetrics)) if "process_" not in line]
        assert ours == [line for line in lines(library(registry)) if "process_" not in line]
    assert b"process_cpu_seconds_total" in observation.exposition()[0]
    assert b"NaN" in observation.exposition()[0]


def test_series_go_by_one_label() -> None:
    registry = exposition.Registry()
    gauge = exposition.Gauge("g", "text", ["route", "side"], registry=registry)
    for route in ("a", "b"):
        for side in ("old", "new"):
            gauge.labels(route, side).set(1)
    gauge.remove_by_labels({"route": "a"})
    assert b'route="a"' not in registry.exposition()
    assert registry.exposition().count(b'route="b"') == 2
    with pytest.raises(ValueError, match="not in tuple"):
        gauge.remove_by_labels({"other": "a"})


def test_a_name_is_taken_once() -> None:
    registry = exposition.Registry()
    taken: Collector = exposition.Counter("c", "text", registry=registry)
    assert registry.families == [taken]
    with pytest.raises(ValueError, match="Duplicated"):
        Counter("c", "text", registry=registry)
    with pytest.raises(ValueError, match="Duplicated"):
        exposition.Gauge("c", "text", registry=registry)
    assert registry.families == [taken]
