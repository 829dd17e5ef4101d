"""What can neither be carried nor parked: both reasons reach the operator, and what to do about it."""

from __future__ import annotations

import pytest

from bridge.core.errors import BridgeError, Failed, Refused
from bridge.core.route import Delivery
from bridge.legs.memory import MemoryDestination, MemorySource
from bridge.rounds import Parking
from tests.test_pump import Journal, Running, message, park, until


class Reasons(Journal):
    """Keeps the reasons as well."""

    def __init__(self) -> None:
        super().__init__()
        self.reasons: list[BridgeError] = []

    def rejected(self, delivery: Delivery, reason: BridgeError, after: float) -> None:
        super().rejected(delivery, reason, after)
        self.reasons.append(reason)


@pytest.mark.parametrize(
    "error", [Refused("1,200,000 bytes; queue parked takes 1,048,576"), Failed("odd", hint="look")]
)
async def test_both_errors_are_reported(error: BridgeError) -> None:
    source = MemorySource()
    destination = MemoryDestination(lambda out, tries: Refused("queue legacy takes 1,024"))
    running = Running(source, destination, parking=Parking(MemoryDestination(lambda out, tries: error), park))
    reasons = running.journal = running.pump._observer = running.pump._rounds._observer = Reasons()
    source.put(message("large"))
    async with running:
        await until(lambda: bool(reasons.reasons))
    said = reasons.reasons[0]
    assert str(said.args[0]) == f"queue legacy takes 1,024; and it cannot be parked: {error.args[0]}"
    assert ("claim_check" in said.hint) is isinstance(error, Refused)
    assert said.hint
