"""Every kind of case there is, with its share of the time."""

from __future__ import annotations

from tests.fuzz import crossings, returns
from tests.fuzz.engine import Kind

KINDS = (
    Kind("sqs-in", crossings.make_forward, crossings.check_forward, 6),
    Kind("nats-out", crossings.make_back, crossings.check_back, 6),
    Kind("sqs-round", returns.make_sqs_round, returns.check_sqs_round, 2),
    Kind("nats-round", returns.make_nats_round, returns.check_nats_round, 2),
    Kind("parked", returns.make_parked, returns.check_parked, 2),
    Kind("forged-parked", returns.make_forged_parked, returns.check_forged_parked, 2),
    Kind("ledger", returns.make_ledger, returns.check_ledger, 1),
)


def afresh() -> None:
    """Forgets all ends: a failure may have left one half way."""
    crossings.afresh()
