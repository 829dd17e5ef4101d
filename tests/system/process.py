"""The real daemon as a process, and what it shows over HTTP."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bridge.embedded import free_port

PATIENCE = 60.0


class Bridge:
    """`nats-sqs-bridge run` on a configuration; leaving the block kills it if it still runs."""

    def __init__(self, folder: Path, routes: list[dict[str, Any]], *, nats: str, aws: str, **more: Any) -> None:
        self.port = free_port()
        self.route = str(routes[0]["name"]) if routes else ""
        self.config = folder / "bridge.yaml"
        self.log = folder / "bridge.log"
        document = {
            "nats": {"servers": [nats]},
            "aws": {"region": "eu-west-1", "endpoint_url": aws, "s3_endpoint_url": aws},
            "http": {"port": self.port},
            "routes": routes,
            **more,
        }
        self.config.write_text(json.dumps(document))  # JSON is YAML
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bridge", "run", "--config", str(self.config)],
                stdout=log,
                stderr=log,
                env={name: value for name, value in os.environ.items() if not name.startswith("BRIDGE_")},
            )
        return self

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def exit_code(self) -> int:
        """Waits for the end."""
        return self.process.wait(PATIENCE)

    def get(self, path: str) -> tuple[int, str]:
        """(HTTP status, body)."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def post(self, path: str, token: str = "", body: str = "", **headers: str) -> tuple[int, dict[str, Any]]:
        """(HTTP status, JSON answer)."""
        if token:
            headers["Authorization"] = f"Bearer {token}"
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body.encode(), headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def rewrite(self, **changes: Any) -> None:
        """Changes keys of the configuration file; the daemon learns of it when it is told to reload."""
        self.config.write_text(json.dumps({**json.loads(self.config.read_text()), **changes}))

    def hang_up(self) -> None:
        self.process.send_signal(signal.SIGHUP)

    def status(self, route: str) -> dict[str, Any]:
        """The route as /status has it; empty while nothing answers."""
        try:
            found: dict[str, Any] = json.loads(self.get("/status")[1])["routes"].get(route, {})
        except OSError:
            return {}
        return found

    def state(self, route: str) -> str:
        return str(self.status(route).get("state"))

    def count(self, route: str, outcome: str) -> int:
        return int(self.status(route).get("messages", {}).get(outcome, 0))

    def events(self, name: str = "") -> list[dict[str, Any]]:
        """The log, line by line; only the events called `name` if it is given."""
        found = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [event for event in found if not name or event["event"] == name]


def until(condition: Callable[[], object], what: str) -> None:
    """Waits for an event. Raises with `what` when it does not come."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"never: {what}")
        time.sleep(0.05)
