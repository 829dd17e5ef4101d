"""The memory legs pass the exam: what is proven on them would hold on a real leg."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from bridge.core.errors import Refused
from bridge.core.models import JetStreamOut, Out, SqsMessage
from bridge.core.route import Delivery
from bridge.legs.memory import MemoryDestination, MemorySource
from tests.legs.exam import DestinationExam, SourceExam


@dataclass
class MemorySourceCandidate:
    lease: float = 0.3
    ordered: bool = True

    def __post_init__(self) -> None:
        self.source = MemorySource(batch=25, visibility=self.lease)

    async def put(self, count: int) -> None:
        self.source.put(*(SqsMessage(str(n), str(n), "q", "arn:q") for n in range(count)))

    def number(self, delivery: Delivery) -> int:
        assert isinstance(delivery.message, SqsMessage)
        return int(delivery.message.body)


class TestMemorySource(SourceExam):
    @pytest.fixture
    def candidate(self) -> MemorySourceCandidate:
        return MemorySourceCandidate()


@dataclass
class MemoryDestinationCandidate:
    recognises: bool = True
    limit: int = 1000
    destination: MemoryDestination = field(init=False)

    def __post_init__(self) -> None:
        def fault(out: Out, tries: int) -> Refused | None:
            assert isinstance(out, JetStreamOut)
            return Refused(f"takes {self.limit:,}") if len(out.payload) > self.limit else None

        self.destination = MemoryDestination(fault)

    def out(self, number: int, *, size: int = 10) -> Out:
        return JetStreamOut("s", str(number).ljust(size).encode(), f"id:{number}")

    async def arrived(self, count: int) -> list[int]:
        return [int(out.payload) for out in self.destination.kept if isinstance(out, JetStreamOut)]


class TestMemoryDestination(DestinationExam):
    @pytest.fixture
    def candidate(self) -> MemoryDestinationCandidate:
        return MemoryDestinationCandidate()
