"""A cluster of nats-servers with JetStream, whose leaders can be found, moved, killed and stopped.

May not: know the bridge.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from nats.aio.client import Client

from bridge.embedded import NatsServer, free_port

PATIENCE = 30.0


class Cluster:
    """Nodes n1, n2, … of one cluster. `config` is appended to each node's configuration."""

    def __init__(self, folder: Path, *, nodes: int = 3, config: str = "") -> None:
        ports = [free_port() for _ in range(nodes)]
        routes = ", ".join(f"nats://127.0.0.1:{port}" for port in ports)
        shared = f"cluster {{name: c, listen: 127.0.0.1:%d, routes: [{routes}]}}\n{config}"
        self.nodes = {
            f"n{at + 1}": NatsServer(
                folder / f"n{at + 1}",
                config=f"server_name: n{at + 1}\n{shared % port}",
            )
            for at, port in enumerate(ports)
        }
        self._stack = ExitStack()

    @property
    def urls(self) -> tuple[str, ...]:
        return tuple(node.url for node in self.nodes.values())

    def __enter__(self) -> Self:
        for node in self.nodes.values():
            self._stack.enter_context(node)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for node in self.nodes.values():
            self.wake(node)
        self._stack.close()

    def kill(self, node: str) -> None:
        self.nodes[node].kill()

    def start(self, node: str) -> None:
        self.nodes[node].start()

    def freeze(self, node: str) -> None:
        """It goes silent: connections stay open, nothing is answered."""
        os.kill(self.nodes[node].pid, signal.SIGSTOP)

    def wake(self, node: str | NatsServer) -> None:
        server = self.nodes[node] if isinstance(node, str) else node
        if server._process is not None:
            os.kill(server.pid, signal.SIGCONT)


async def ask(client: Client, call: str, request: object = None, *, seconds: float = PATIENCE) -> dict[str, Any]:
    """One call of the JetStream API, until it is answered without an error."""
    payload = json.dumps(request).encode() if request is not None else b""
    deadline = time.monotonic() + seconds
    while True:
        try:
            found: dict[str, Any] = json.loads((await client.request(f"$JS.API.{call}", payload, timeout=2)).data)
            if "error" not in found:
                return found
            problem: object = found["error"]
        except Exception as error:  # noqa: BLE001 - a cluster without a leader answers with anything
            problem = error
        if time.monotonic() > deadline:
            raise AssertionError(f"{call}: {problem}")


async def leader_of(client: Client, stream: str, consumer: str = "") -> str:
    call = f"CONSUMER.INFO.{stream}.{consumer}" if consumer else f"STREAM.INFO.{stream}"
    deadline = time.monotonic() + PATIENCE
    while True:
        found = await ask(client, call)
        if leader := found["cluster"].get("leader"):
            return str(leader)
        assert time.monotonic() < deadline, f"{stream} {consumer} has no leader"


async def until(condition: Callable[[], bool], *, seconds: float = PATIENCE) -> float:
    """Seconds it took."""
    import asyncio

    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "it never came true"
        await asyncio.sleep(0.02)
    return time.monotonic() - began
