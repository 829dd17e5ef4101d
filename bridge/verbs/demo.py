"""`demo`: starts the servers and the real daemon, runs the demo on them, shows it, and stops everything again. May
not: touch a server it did not start."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from nats.aio.client import Client
from rich.console import Console
from rich.live import Live

from bridge.core.errors import BridgeError, Failed
from bridge.core.plain import plain_document
from bridge.demo.actors import Producer, Seen, consume_core, consume_pull, consume_push, consume_sqs, enveloped, plain
from bridge.demo.show import line, picture, summary
from bridge.demo.world import REGION, create_aws, create_nats, write_config
from bridge.embedded import MotoServer, NatsServer, free_port
from bridge.verbs import loop_factory
from bridge.verbs.printed import console

Frame = Callable[[Any, Mapping[str, Any], float | None, str], Any]
"""Draws one frame: how, the /status document, seconds left if it ends by itself, phase."""

PLAY = """Try it from another terminal:
  nats-sqs-bridge status --watch --config {config}
  nats-sqs-bridge pause payments-in --config {config}
  nats-sqs-bridge drain payments-in --wait --config {config}"""

SETTLE_SECONDS = 45.0  # how long consumers may take to see what was sent before the demo calls it missing


def demo(*, seconds: float, rate: float, keep: bool) -> int:
    """Returns 0 if every consumer saw every message, 1 and prints the difference if not, 130 when interrupted."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that a plain kill cleans up like Ctrl-C
    out = console()
    with tempfile.TemporaryDirectory(prefix="nats-sqs-bridge-") as folder:
        try:
            with (
                NatsServer(Path(folder) / "nats") as nats,
                MotoServer(Path(folder) / "moto") as moto,
                asyncio.Runner(loop_factory=loop_factory()) as runner,
            ):
                stage = Stage(Path(folder), nats.url, moto.url, out, seconds=seconds, rate=rate, keep=keep)
                return runner.run(_performed(stage))
        except (KeyboardInterrupt, asyncio.CancelledError):
            out.print("Interrupted; everything is stopped.")
            return 130
        except BaseExceptionGroup as errors:
            # One task failed and took the others with it: the first error is the cause.
            if (ours := errors.subgroup(BridgeError)) is None:
                raise
            first: BaseException = ours
            while isinstance(first, BaseExceptionGroup):
                first = first.exceptions[0]
            raise first from None


async def _performed(stage: Stage) -> int:
    """Cancels the demo on a signal: a KeyboardInterrupt raised at any point may skip what has to be stopped."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await stage.play()


@dataclass(slots=True)
class Stage:
    """One performance."""

    folder: Path
    nats_url: str
    aws_url: str
    console: Console
    seconds: float
    rate: float
    keep: bool
    port: int = field(default_factory=free_port)
    status: Mapping[str, Any] = field(default_factory=dict)
    phase: str = "starting"
    ends: float = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def play(self) -> int:
        pull, push, core = Seen("pull consumer", "new"), Seen("push consumer", "new"), Seen("core subscriber", "new")
        legacy = Seen("payments-validation", "legacy")
        back, audit = Seen("settlements-legacy", "legacy"), Seen("settlements-audit", "legacy")
        consumers = [legacy, pull, push, core, back, audit]
        async with self._aws("sqs") as sqs, self._aws("sns") as sns, self._nats() as client:
            places = await create_aws(sqs, sns)
            await create_nats(client)
            await consume_push(client, push)
            await consume_core(client, core)
            producer = Producer(sns, places["topic payments"], self.rate)
            async with self._daemon() as daemon, asyncio.TaskGroup() as group:

                def frame(draw: Any, status: Mapping[str, Any], left: float | None, phase: str) -> Any:
                    return draw(
                        sent=producer.sent, status=status, consumers=consumers, url=self.url, left=left, phase=phase
                    )

                background = [
                    group.create_task(consume_sqs(sqs, places["payments-validation"], legacy, enveloped)),
                    group.create_task(consume_sqs(sqs, places["settlements-legacy"], back, plain)),
                    group.create_task(consume_sqs(sqs, places["settlements-audit"], audit, enveloped)),
                    group.create_task(consume_pull(client, pull)),
                    group.create_task(self._watch(daemon, frame)),
                ]
                await self._ready(daemon)
                self.phase, self.ends = "producing", time.monotonic() + self.seconds
                await producer.run(self.seconds)
                self.phase, self.ends = "settling", time.monotonic() + SETTLE_SECONDS
                await self._settled(producer, consumers)
                with suppress(aiohttp.ClientError):
                    await self._look()
                if self.keep:
                    self.phase, self.ends = "kept, Ctrl-C ends it", 0.0
                    self.console.print(PLAY.format(config=self.folder / "bridge.yaml"), soft_wrap=True, highlight=False)
                    await asyncio.Event().wait()
                for task in background:
                    task.cancel()
        complaints = _complaints(producer.sent, consumers)
        if daemon.returncode != 0:
            complaints.append(f"The daemon ended with {daemon.returncode} instead of 0 after SIGTERM.")
        carried = {name: route["messages"]["carried"] for name, route in self.status.get("routes", {}).items()}
        self.console.print(summary(producer.sent, carried, consumers, complaints))
        return 1 if complaints else 0

    @asynccontextmanager
    async def _aws(self, service: str) -> AsyncIterator[Any]:
        config = AioConfig(max_pool_connections=20, retries={"total_max_attempts": 5, "mode": "standard"})
        async with get_session().create_client(
            service,
            region_name=REGION,
            endpoint_url=self.aws_url,
            aws_access_key_id="demo",
            aws_secret_access_key="demo",  # noqa: S106 - moto takes any
            config=config,
        ) as client:
            yield client

    @asynccontextmanager
    async def _nats(self) -> AsyncIterator[Client]:
        client = Client()
        await client.connect(self.nats_url, name="demo")
        try:
            yield client
        finally:
            await client.close()

    @asynccontextmanager
    async def _daemon(self) -> AsyncIterator[asyncio.subprocess.Process]:
        """The real daemon in its own process, drained by SIGTERM at the end."""
        config = self.folder / "bridge.yaml"
        write_config(config, nats=self.nats_url, aws=self.aws_url, port=self.port)
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "BRIDGE_"))},
            "AWS_ACCESS_KEY_ID": "demo",
            "AWS_SECRET_ACCESS_KEY": "demo",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        with (self.folder / "daemon.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "bridge", "run", "--config", str(config)),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
                try:
                    async with asyncio.timeout(40):
                        await process.wait()
                except TimeoutError:
                    process.kill()
                    await process.wait()

    async def _ready(self, daemon: asyncio.subprocess.Process) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and daemon.returncode is None:
            with suppress(aiohttp.ClientError):
                if await self._look() and all(r["state"] == "running" for r in self.status["routes"].values()):
                    return
            await asyncio.sleep(0.1)
        tail = (self.folder / "daemon.log").read_text(errors="replace")[-2000:]
        raise Failed(f"the daemon did not become ready:\n{tail}")

    async def _look(self) -> bool:
        timeout = aiohttp.ClientTimeout(total=2)
        async with aiohttp.request("GET", f"{self.url}/status", timeout=timeout) as answer:
            self.status = plain_document(await answer.json())
        return True

    async def _watch(self, daemon: asyncio.subprocess.Process, frame: Frame) -> None:
        terminal = self.console.is_terminal
        with Live(console=self.console, refresh_per_second=4, transient=True) if terminal else nullcontext() as live:
            while daemon.returncode is None:
                with suppress(aiohttp.ClientError, TimeoutError):
                    await self._look()
                left = max(0.0, self.ends - time.monotonic()) if self.ends else None
                if live is not None:
                    live.update(frame(picture, self.status, left, self.phase))
                else:
                    self.console.print(frame(line, self.status, left, self.phase), soft_wrap=True, highlight=False)
                await asyncio.sleep(0.25 if terminal else 2)
        raise Failed(f"the daemon ended by itself, with {daemon.returncode}")

    async def _settled(self, producer: Producer, consumers: Sequence[Seen]) -> None:
        while time.monotonic() < self.ends and any(consumer.missing(producer.sent) for consumer in consumers):
            await asyncio.sleep(0.1)


def _complaints(sent: int, consumers: Sequence[Seen]) -> list[str]:
    complaints = []
    for consumer in consumers:
        if missing := consumer.missing(sent):
            complaints.append(f"{consumer.name} has not seen {missing:,} of {sent:,} payments.")
        if strangers := sum(1 for number in consumer.payments if number >= sent):
            complaints.append(f"{consumer.name} has seen {strangers:,} payments that were never sent.")
    return complaints
