"""Every kind of case there is, with its share of the time."""

from __future__ import annotations

from tests.fuzz import answers, crossings, others, replies, returns, streams
from tests.fuzz.engine import Kind

KINDS = (
    Kind("sqs-in", crossings.make_forward, crossings.check_forward, 6),
    Kind("nats-out", crossings.make_back, crossings.check_back, 6),
    Kind("sqs-round", returns.make_sqs_round, returns.check_sqs_round, 2),
    Kind("nats-round", returns.make_nats_round, returns.check_nats_round, 2),
    Kind("parked", returns.make_parked, returns.check_parked, 2),
    Kind("forged-parked", returns.make_forged_parked, returns.check_forged_parked, 2),
    Kind("ledger", returns.make_ledger, returns.check_ledger, 1),
    Kind("wire", streams.make_wire, streams.check_wire, 2),
    Kind("wire-bytes", streams.make_wire_bytes, streams.check_wire_bytes, 2),
    Kind("http", streams.make_http, streams.check_http, 2),
    Kind("http-bytes", streams.make_http_bytes, streams.check_http_bytes, 2),
    Kind("sqs-answers", answers.make_sqs, answers.check_sqs, 3),
    Kind("aws-answers", answers.make_aws, answers.check_aws, 2),
    Kind("nats-answers", replies.make_api, replies.check_api, 3),
    Kind("pubacks", replies.make_puback, replies.check_puback, 1),
    Kind("deliveries", replies.make_delivery, replies.check_delivery, 1),
    Kind("filters", others.make_filter, others.check_filter, 2),
    Kind("templates", others.make_template, others.check_template, 2),
    Kind("signed", others.make_signed, others.check_signed, 1),
    Kind("traces", others.make_trace, others.check_trace, 1),
    Kind("status", others.make_status, others.check_status, 1),
)


def afresh() -> None:
    """Forgets all ends: a failure may have left one half way."""
    crossings.afresh()
