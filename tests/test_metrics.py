"""What is written about the metrics: the page, the rules, the runbook and the dashboard name what there is."""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest

from benchmarks.scrape import busy, filled
from bridge.config import SamplingConfig
from bridge.core.lag import VERDICTS, Track
from bridge.observe import Observation, metrics_reference
from bridge.observe.reference import LABELS, cardinality
from tests.system.monitoring import program

ROOT = Path(__file__).parents[1]
PROMETHEUS = ROOT / "deploy" / "prometheus"
RULES = [rule for group in yaml.safe_load((PROMETHEUS / "rules.yaml").read_text())["groups"] for rule in group["rules"]]
ALERTS = [rule for rule in RULES if "alert" in rule]
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "nats-sqs-bridge.json").read_text())
METRIC = re.compile(r"(?<![\w:])nats_sqs_bridge_[a-z_]+")


def exposed() -> Observation:
    observation = Observation()
    observation.route("in").opened("sqs q", "jetstream s")
    observation.route("in").heartbeats.expected(30)
    observation.route("in").judge()
    return observation


def series(observation: Observation) -> list[str]:
    return [line for line in observation.exposition()[0].decode().splitlines() if not line.startswith("#")]


def test_the_page_is_what_the_registry_says() -> None:
    assert (ROOT / "docs" / "metrics.md").read_text() == metrics_reference(SamplingConfig().every), (
        "nats-sqs-bridge schema --metrics > docs/metrics.md"
    )
    each_route, each_place, _ = cardinality(Observation().metrics)
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert f"(for each route {each_route}, and {each_place} for each of its backlogs)" in readme


def test_every_metric_and_label_is_explained() -> None:
    for family in exposed().metrics.registry.families:
        assert family.text.endswith("."), family.name
        assert set(family.label_names) <= set(LABELS), family.name


@given(st.integers(0, 4), st.integers(0, 5))
def test_the_page_counts_the_series_right(routes: int, watched: int) -> None:
    observation = Observation()
    for number in range(routes):
        route = observation.route(f"r{number}")
        route.opened("sqs q", "jetstream s")
        route.waiting.watches("new", "jetstream", (), {f"S/{each}": Track() for each in range(watched)})
        route.heartbeats.expected(30)
        route.judge()
    each_route, each_place, process = cardinality(observation.metrics)
    found = [line for line in series(observation) if not line.startswith("process_")]
    assert len(found) == routes * (each_route + (1 + watched) * each_place) + process


def test_rules_and_dashboard_name_metrics_that_exist() -> None:
    lines = series(exposed())
    there = {re.split(r"[{ ]", line, maxsplit=1)[0] for line in lines}
    named = [rule["expr"] for rule in RULES]
    named += [each["expr"] for panel in DASHBOARD["panels"] for each in panel.get("targets", [])]
    for expression in named:
        assert set(METRIC.findall(expression)) <= there, expression


def test_every_alert_says_what_to_do_and_has_its_section_in_the_runbook() -> None:
    sections = re.findall(r"^## (\w+)$", (ROOT / "docs" / "runbook.md").read_text(), re.MULTILINE)
    assert [rule["alert"] for rule in ALERTS] == sections  # in the same order, and none without the other
    for rule in ALERTS:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert set(rule["annotations"]) == {"summary", "description", "runbook"}
        assert len(rule["annotations"]["description"]) > 100, rule["alert"]
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{rule['alert'].lower()}"


def test_every_alert_has_a_test() -> None:
    tests = (PROMETHEUS / "tests.yaml").read_text()
    for rule in ALERTS:
        assert f'alertname="{rule["alert"]}"' in tests or f"alertname: {rule['alert']}" in tests, rule["alert"]


@pytest.mark.parametrize(
    "arguments",
    [["check", "rules", "rules.yaml"], ["test", "rules", "tests.yaml"], ["check", "config", "prometheus.yml"]],
)
def test_promtool_agrees(arguments: list[str]) -> None:
    done = subprocess.run(
        [program("promtool"), *arguments], cwd=PROMETHEUS, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard_says_verdicts_in_words_and_stands_alone() -> None:
    [timeline] = [panel for panel in DASHBOARD["panels"] if panel["type"] == "state-timeline"]
    [mapping] = timeline["fieldConfig"]["defaults"]["mappings"]
    assert {int(number): each["text"] for number, each in mapping["options"].items()} == dict(enumerate(VERDICTS))
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    assert [each["name"] for each in DASHBOARD["templating"]["list"]] == ["datasource", "route"]
    for panel in DASHBOARD["panels"]:
        assert panel["type"] == "row" or panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
    occupied = [cell for panel in DASHBOARD["panels"] for cell in cells(panel["gridPos"])]
    assert len(occupied) == len(set(occupied))  # no panel lies on another


def cells(at: dict[str, Any]) -> list[tuple[int, int]]:
    return [(at["x"] + dx, at["y"] + dy) for dx in range(at["w"]) for dy in range(at["h"])]


def test_compose_mounts_what_is_there() -> None:
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
    for service in compose["services"].values():
        assert {each["source"] for each in service.get("configs", [])} <= set(compose["configs"])
    for config in compose["configs"].values():
        assert "content" in config or (ROOT / "deploy" / config["file"]).is_file()
    example = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    [ours] = example["scrape_configs"]
    [theirs] = yaml.safe_load(compose["configs"]["prometheus"]["content"])["scrape_configs"]
    assert ours["job_name"] == theirs["job_name"] == "nats-sqs-bridge"  # the rules look for it
    assert yaml.safe_load(compose["configs"]["datasource"]["content"])["datasources"][0]["type"] == "prometheus"


def test_a_scrape_costs_a_fraction_of_the_librarys() -> None:
    """The ratio of two costs in one process: time itself proves nothing on a busy machine. It is about ten."""
    observation = filled(50)
    ours, theirs = [], []
    for _ in range(5):
        busy(observation)
        began = time.process_time()
        observation.exposition()
        between = time.process_time()
        generate_latest(observation.metrics.registry)
        ours.append(between - began)
        theirs.append(time.process_time() - between)
    assert median(ours) * 3 < median(theirs)
