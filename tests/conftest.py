"""Real servers for the tests: one nats-server and one moto per session, a fresh name per test."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import settings

from bridge.embedded import MotoServer, NatsServer, Server, find_program

settings.register_profile("ci", deadline=None, print_blob=True)  # two noisy cores: time proves nothing
settings.load_profile("ci")

# No test may reach a real account, whatever the machine's own credentials are.
os.environ.update(
    AWS_ACCESS_KEY_ID="test",
    AWS_SECRET_ACCESS_KEY="test",
    AWS_DEFAULT_REGION="eu-west-1",
    AWS_EC2_METADATA_DISABLED="true",
)
for variable in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
    os.environ.pop(variable, None)


class MinistackServer(Server):
    """A second SQS implementation, so that nothing is tuned to the first."""

    extra: ClassVar[dict[str, str]] = {"BIND_HOST": "127.0.0.1", "SERVICES": "sqs,sns,sts"}

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder / "ministack.log")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        return {**os.environ, **self.extra, "GATEWAY_PORT": str(self.port)}

    def command(self) -> list[str]:
        return [find_program("ministack", "ministack")]


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with NatsServer(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture(scope="session")
def moto_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MotoServer]:
    with MotoServer(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture(scope="session")
def ministack_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MinistackServer]:
    with MinistackServer(tmp_path_factory.mktemp("ministack")) as server:
        yield server


@pytest.fixture
def name() -> str:
    """A name no other test uses."""
    return f"t{uuid.uuid4().hex[:12]}"
