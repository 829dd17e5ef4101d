"""What JetStream really answers, for the ends to answer and for the fuzz to change."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

API = "io.nats.jetstream.api.v1."

STREAM_INFO: dict[str, Any] = {
    "type": f"{API}stream_info_response",
    "config": {
        "name": "ORDERS",
        "subjects": ["orders", "orders.>", "orders-later.*", "$KV.L.>"],
        "retention": "limits",
        "max_age": 0,
        "discard": "old",
        "allow_msg_ttl": True,
        "allow_msg_schedules": True,
        "allow_direct": True,
    },
    "created": "2026-01-01T00:00:00.000000000Z",
    "state": {"messages": 1, "consumer_count": 1, "first_seq": 1, "last_seq": 7, "subjects": {"orders.x": 1}},
}
CONSUMER_INFO: dict[str, Any] = {
    "type": f"{API}consumer_info_response",
    "stream_name": "ORDERS",
    "name": "bridge",
    "created": "2026-01-01T00:00:00.000000000Z",
    "config": {
        "durable_name": "bridge",
        "ack_policy": "explicit",
        "ack_wait": 30 * 10**9,
        "max_deliver": 5,
        "backoff": [],
    },
    "delivered": {"consumer_seq": 7, "stream_seq": 7, "last_active": "2026-01-01T00:00:00Z"},
    "ack_floor": {"consumer_seq": 6, "stream_seq": 6, "last_active": "2026-01-01T00:00:00.123456789Z"},
    "num_ack_pending": 0,
    "num_pending": 1,
    "num_waiting": 0,
}
MESSAGE: dict[str, Any] = {
    "type": f"{API}stream_msg_get_response",
    "message": {
        "subject": "orders.x",
        "seq": 7,
        "hdrs": base64.b64encode(b"NATS/1.0\r\na: b\r\n\r\n").decode(),
        "data": "Yg==",
        "time": "2026-01-01T00:00:00.123456789Z",
    },
}
NAMES = {
    "type": f"{API}stream_names_response",
    "streams": ["ORDERS"],
    "total": 1,
    "offset": 0,
    "limit": 1024,
}
CONSUMERS = {
    "type": f"{API}consumer_list_response",
    "consumers": [CONSUMER_INFO],
    "total": 1,
    "offset": 0,
    "limit": 256,
}
API_ERROR = {
    "type": f"{API}stream_info_response",
    "error": {"code": 404, "err_code": 10059, "description": "stream not found"},
}
NO_MESSAGE = {
    "type": f"{API}stream_msg_get_response",
    "error": {"code": 404, "err_code": 10037, "description": "no message found"},
}
DELETED = {"type": f"{API}stream_msg_delete_response", "success": True}
ADVISORY = {
    "type": "io.nats.jetstream.advisory.v1.max_deliver",
    "stream": "ORDERS",
    "consumer": "bridge",
    "stream_seq": 7,
    "deliveries": 5,
}
ANSWERS = {
    "STREAM.INFO": STREAM_INFO,
    "CONSUMER.INFO": CONSUMER_INFO,
    "STREAM.MSG": MESSAGE,
    "STREAM.NAMES": NAMES,
    "CONSUMER.LIST": CONSUMERS,
}


def api(subject: str, request: bytes, changed: Mapping[str, bytes]) -> bytes:
    """The answer of the API to a call: the changed one of its kind, else a genuine one."""
    words = subject.removeprefix("$JS.API.").split(".")
    kind = ".".join(words[:2])
    if kind in changed:
        return changed[kind]
    if words[:3] == ["STREAM", "MSG", "DELETE"]:
        return json.dumps(DELETED).encode()
    if kind == "STREAM.MSG" and int(json.loads(request or b"{}").get("seq", 0)) > 7:
        return json.dumps(NO_MESSAGE).encode()
    return json.dumps(ANSWERS.get(kind, API_ERROR)).encode()
