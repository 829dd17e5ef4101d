"""A real Prometheus on loopback, with the example configuration and the rules of deploy/, and what it answers."""

from __future__ import annotations

import json
import os
import shutil
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge.embedded import Server

DEPLOY = Path(__file__).parents[2] / "deploy"


def program(name: str) -> str:
    """The path of prometheus or promtool. Without it a test is skipped at a desk, and fails in CI."""
    if found := shutil.which(name):
        return found
    words = f"there is no {name} on PATH (Debian: apt-get install prometheus)"
    if os.environ.get("CI") == "true":
        raise AssertionError(words)
    pytest.skip(words)


class PrometheusServer(Server):
    """Scrapes `target` as deploy/prometheus/prometheus.yml says."""

    def __init__(self, folder: Path, target: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder / "prometheus.log")
        self.folder = folder
        self.program = program("prometheus")
        config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
        config["rule_files"] = [str(DEPLOY / "prometheus" / each) for each in config["rule_files"]]
        config["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
        del config["alerting"]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))

    def command(self) -> list[str]:
        return [
            self.program,
            f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'tsdb'}",
            "--storage.tsdb.retention.time=1h",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--log.level=warn",
        ]

    def api(self, path: str, **parameters: str) -> Any:
        """`data` of an answer. Raises AssertionError with the server's words for a query it refuses."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                found = json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code == 503:
                return {}  # it starts
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error
        assert found["status"] == "success", found
        return found["data"]

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """(labels, value) of every series there is now."""
        found = self.api("query", query=expression).get("result", [])
        return [(each["metric"], float(each["value"][1])) for each in found]

    def value(self, expression: str) -> float | None:
        """Of the only series, None without one."""
        found = self.query(expression)
        assert len(found) <= 1, found
        return found[0][1] if found else None

    def firing(self) -> dict[str, dict[str, Any]]:
        """The alerts that fire now, by name."""
        alerts = self.api("alerts").get("alerts", [])
        return {each["labels"]["alertname"]: each for each in alerts if each["state"] == "firing"}
