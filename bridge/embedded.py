"""The servers the demo and the tests run on: a real nats-server and moto's AWS, as child processes on loopback.

May not: be imported by the daemon. Each server is closed by `stop`, and by leaving its `with` block.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from bridge.core.errors import NotUsable, Unavailable

START_SECONDS = 30.0
STOP_SECONDS = 10.0


def free_port() -> int:
    """A free loopback port. Another process may take it first, so a server that dies at start is started once more
    on another one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def find_program(name: str, package: str) -> str:
    """The program's path: next to this interpreter (a wheel put it there), else on PATH."""
    beside = Path(sys.executable).parent / name
    if beside.is_file() and os.access(beside, os.X_OK):
        return str(beside)
    if found := shutil.which(name):
        return found
    raise NotUsable(
        f"{name} is neither next to {sys.executable} nor on PATH",
        hint=f"pip install '{package}', or install it yourself",
    )


class Server:
    """One child process that listens on `port`. Killing and starting it again keeps port and data."""

    def __init__(self, log: Path) -> None:
        self.port = free_port()
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> Sequence[str]:
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    @property
    def pid(self) -> int:
        if self._process is None:
            raise Unavailable(f"{type(self).__name__} is not running")
        return self._process.pid

    def start(self) -> Self:
        """Returns when the port answers. Raises Unavailable with the end of the log when it does not."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own argument list
                list(self.command()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment(),
                start_new_session=True,  # Ctrl-C in a terminal is for the demo, which then stops its servers in order
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            with socket.socket() as probe:
                probe.settimeout(1.0)
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self
            time.sleep(0.02)
        self.kill()
        tail = self.log.read_text(errors="replace")[-800:]
        raise Unavailable(f"{type(self).__name__} did not answer on port {self.port}: {tail}")

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def _end(self, sig: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(sig)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except Unavailable:
            self.port = free_port()
            return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class NatsServer(Server):
    """nats-server with JetStream, its store under `folder`. `config` is appended to its configuration file; the
    environment variable NATS_SERVER names another program than the wheel's."""

    def __init__(self, folder: Path, *, config: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder / "nats-server.log")
        self.folder = folder
        self.config = config
        self.program = os.environ.get("NATS_SERVER") or find_program("nats-server", "nats-sqs-bridge[demo]")

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def command(self) -> Sequence[str]:
        path = self.folder / "nats-server.conf"
        # 8 MiB: a full SQS message (1 MiB) and its headers must fit; the server's default has no room for headers.
        path.write_text(
            f"host: 127.0.0.1\nport: {self.port}\nmax_payload: 8MB\n"
            f'jetstream {{ store_dir: "{self.folder}" }}\n{self.config}\n'
        )
        return [self.program, "-c", str(path)]


class MotoServer(Server):
    """moto in server mode: SQS, SNS and STS in memory. It checks no signature, so any credentials work."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder / "moto.log")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> Sequence[str]:
        return [find_program("moto_server", "nats-sqs-bridge[demo]"), "-H", "127.0.0.1", "-p", str(self.port)]
