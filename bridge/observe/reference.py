"""docs/metrics.md, made from the registry: every metric, its labels, what it means and how many series it has.

May not: describe a metric other than by its help text.
"""

from __future__ import annotations

from math import prod

from bridge.core.lag import VERDICTS
from bridge.observe.exposition import Distribution, Family, Histogram, Number
from bridge.observe.metrics import AWS_CALLS, Metrics
from bridge.observe.place import STATES
from bridge.observe.route import OUTCOMES

PLACE = ("side", "system", "name")
CLOSED = {"outcome": OUTCOMES, "state": STATES, "operation": AWS_CALLS}
"""Labels with fixed values, whatever is configured."""

LABELS = {
    "route": "a route's name in the configuration",
    "outcome": ", ".join(f"`{each}`" for each in OUTCOMES),
    "side": "`bridge` (what this route reads), `legacy` (a queue that legacy consumers read), `new` (a consumer of a "
    "stream), `dead_letter`",
    "system": "`sqs` or `jetstream`",
    "name": "the queue, or `STREAM/consumer`",
    "state": ", ".join(f"`{each}`" for each in STATES),
    "operation": ", ".join(f"`{each}`" for each in AWS_CALLS),
    "le": "upper bounds of a histogram's buckets, in seconds",
}

HEAD = """\
# Metrics

`GET /metrics`, in the Prometheus text format. `nats-sqs-bridge schema --metrics` generates this page from the registry
itself; a test compares them. Alerts and recording rules are in [deploy/prometheus](../deploy/prometheus/rules.yaml),
what to do about each alert is in the [runbook](runbook.md), and a dashboard is in
[deploy/grafana](../deploy/grafana/nats-sqs-bridge.json).

**Unknown is NaN, never zero**: what could not be read has no number, and no comparison with it is true.
"""

VERDICTS_HEAD = """
## Verdicts

`nats_sqs_bridge_verdict` is a number for each verdict; `/status` and the log show the reason.

| number | verdict |
|---|---|
"""

CARDINALITY = """
## How many series there are

`P` is the number of queues and consumers that a route samples: its own source and those it watches. By default a route
watches its source's dead-letter queue and at most 20 consumers of each stream it writes to, or the queues it writes to;
with `watch:` it is what you list, and at most 20 consumers for each stream listed. The series of a queue or consumer
that is deleted are removed. No label is ever taken from a message.

**Each route has {route} series, and {place} for each queue or consumer: {route} + {place} P**; those of heartbeats
exist only for routes that send them. The process has {process} more, and some of the Prometheus client's own
(`process_cpu_seconds_total`, `process_resident_memory_bytes` and the like). Fifty routes with P = 4 are
{fifty:,} series. Rendering them takes under 5 ms of CPU: `python -m benchmarks.scrape` measures it, and
[performance](performance.md) has the numbers.
"""

LOOKS = """
## What sampling costs

JetStream answers for free, so its consumers are read every two seconds. One read of a queue is one
`GetQueueAttributes`, which AWS counts as a request: **3600 / `sampling.every` calls an hour for each queue** that a
route reads or watches, **{hourly:g} at the default of {every:g} s**, and with `sampling.cloudwatch` 60 more for each
watched queue (`GetMetricStatistics`). A route from one queue with a dead-letter queue makes {two:,.0f} calls an hour at
the default, and {slow:g} with `sampling: {{every: 60}}`. Two routes that watch the same queue read it twice. A
queue that is read less often is judged later: it is reported as stalled only after two reads in a row without progress.
"""


def metrics_reference(every: float) -> str:
    """docs/metrics.md. `every` is the default of sampling.every, in seconds."""
    metrics = Metrics()
    families = metrics.registry.families
    parts = [HEAD, "\n| metric | type | labels | series | meaning |\n|---|---|---|---|---|\n"]
    for family in families:
        labels = ", ".join(f"`{label}`" for label in family.label_names)
        name = f"{family.name}{family.suffix}"
        parts.append(f"| `{name}` | {family.kind} | {labels} | {_count(family)} | {family.text} |\n")
    parts.append("| `nats_sqs_bridge_build_info` | gauge | `version`, `python` | 1 | The version that runs. |\n")
    parts.append(
        "\nA histogram is `_bucket` (with the label `le`), `_count` and `_sum`.\n\n| label | values |\n|---|---|\n"
    )
    parts += [f"| `{label}` | {meaning} |\n" for label, meaning in LABELS.items()]
    parts.append(VERDICTS_HEAD)
    parts += [f"| {number} | {verdict} |\n" for number, verdict in enumerate(VERDICTS)]
    route, place, process = cardinality(metrics)
    fifty = 50 * (route + 4 * place) + process
    parts.append(CARDINALITY.format(route=route, place=place, process=process, fifty=fifty))
    hourly = 3600 / every
    parts.append(LOOKS.format(every=every, hourly=hourly, two=2 * hourly, slow=2 * 3600 / 60))
    return "".join(parts)


def cardinality(metrics: Metrics) -> tuple[int, int, int]:
    """Series of each route, of each of its places, and of the process."""
    route = place = 0
    process = 1  # build_info
    for family in metrics.registry.families:
        if "side" in family.label_names:
            place += _each(family)
        elif "route" in family.label_names:
            route += _each(family)
        else:
            process += _each(family)
    return route, place, process


def _each(family: Family[Number] | Family[Distribution]) -> int:
    lines = len(family.buckets) + 3 if isinstance(family, Histogram) else 1
    return lines * prod(len(CLOSED[label]) for label in family.label_names if label not in ("route", *PLACE))


def _count(family: Family[Number] | Family[Distribution]) -> str:
    each = _each(family)
    if "side" in family.label_names:
        return "P" if each == 1 else f"{each} P"
    return str(each)
