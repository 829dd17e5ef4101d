"""Responses of JetStream in any shape: API answers, advisories, PubAcks and ack subjects, read as in answers.py."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from random import Random
from types import SimpleNamespace
from typing import Any

from bridge.core.errors import BridgeError
from bridge.core.models import JetStreamMessage, JetStreamOut
from bridge.core.route import Backlog, Receipt
from bridge.legs import stream as stream_leg
from bridge.legs.backlogs import ConsumerLook, WatchedConsumers
from bridge.legs.consumer import open_consumer
from bridge.legs.exhausted import Exhausted
from bridge.legs.inventory import stream_facts
from bridge.legs.jetstream import JetStreamSource, parse_ack_subject
from bridge.legs.ledger import Ledger
from bridge.legs.nats import NatsConnection
from bridge.legs.parking import StreamShelf
from bridge.legs.stream import JetStreamDestination, open_destination
from tests.fuzz import hostile, inputs
from tests.fuzz.answers import ASKED, answers_legal, changed, lent
from tests.fuzz.ends import Loopback, connected
from tests.fuzz.rules import Published, must

# -- JetStream

STREAM_INFO: dict[str, Any] = {
    "type": "io.nats.jetstream.api.v1.stream_info_response",
    "config": {"name": "ORDERS", "subjects": ["orders.>"], "retention": "limits", "max_age": 0, "discard": "old"},
    "created": "2026-01-01T00:00:00.000000000Z",
    "state": {"messages": 1, "consumer_count": 1, "first_seq": 1, "last_seq": 7, "subjects": {"orders.x": 1}},
}
CONSUMER_INFO: dict[str, Any] = {
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
    "message": {
        "subject": "orders.x",
        "seq": 7,
        "hdrs": base64.b64encode(b"NATS/1.0\r\na: b\r\n\r\n").decode(),
        "data": "Yg==",
        "time": "2026-01-01T00:00:00.123456789Z",
    }
}
NAMES = {"streams": ["ORDERS"], "total": 1, "offset": 0, "limit": 1024}
CONSUMERS = {"consumers": [CONSUMER_INFO], "total": 1, "offset": 0, "limit": 256}
API_ERROR = {"error": {"code": 404, "err_code": 10059, "description": "stream not found"}}
GENUINE = {
    "STREAM.INFO": STREAM_INFO,
    "CONSUMER.INFO": CONSUMER_INFO,
    "STREAM.MSG": MESSAGE,
    "STREAM.NAMES": NAMES,
    "CONSUMER.LIST": CONSUMERS,
}
ADVISORY = {"type": "io.nats.jetstream.advisory.v1.max_deliver", "stream_seq": 7, "deliveries": 5, "consumer": "bridge"}
CALLS = ("destination", "consumer", "consumers", "look", "shelf", "exhausted", "facts", "count")


def make_api(rng: Random) -> dict[str, Any]:
    odd = {name: changed(rng, document) for name, document in GENUINE.items() if rng.random() < 0.35}
    if rng.random() < 0.1:
        odd[rng.choice(list(GENUINE))] = changed(rng, API_ERROR)
    case: dict[str, Any] = {"call": rng.choice(CALLS), "answers": odd}
    if rng.random() < 0.3:
        case["advisory"] = changed(rng, ADVISORY)
    return case


class _Api(Loopback):
    """Answers JetStream API calls with what the case says, else with what a server would."""

    def __init__(self, answers: Mapping[str, bytes]) -> None:
        super().__init__(lambda _: None)
        self._answers = answers
        self.asked = 0

    async def request(self, subject: str, payload: bytes = b"", timeout: float = 0, **_: Any) -> Any:
        self.asked += 1
        must(self.asked < ASKED, "asks without end", subject)
        kind = ".".join(subject.removeprefix("$JS.API.").split(".")[:2])
        answer = self._answers.get(kind)
        if answer is None and kind == "STREAM.MSG" and int(json.loads(payload or b"{}").get("seq", 0)) > 7:
            answer = b'{"error":{"code":404,"err_code":10037,"description":"no message found"}}'
        data = json.dumps(GENUINE.get(kind, {})).encode() if answer is None else answer
        return SimpleNamespace(data=data, headers=None, subject=subject)


def api_of(client: Loopback) -> NatsConnection:
    nats, _ = connected(lambda _: None)
    nats._client = client
    return nats


async def check_api(case: Mapping[str, Any]) -> None:
    client = _Api(case["answers"])
    nats = api_of(client)
    try:
        match case["call"]:
            case "destination":
                await open_destination(nats, pattern="orders.*", stream="ORDERS")
            case "consumer":
                found: Any = await open_consumer(nats, "ORDERS", "bridge", None)
                must(math.isfinite(found.ack_wait) and type(found.max_batch) is int, "facts of a consumer", found)
                must(found.ack_wait > 0 and found.max_batch > 0, "facts of a consumer", found)
            case "consumers":
                for seen in await WatchedConsumers(nats, "ORDERS").look():
                    must(isinstance(seen.backlog, Backlog | BridgeError), "backlog", seen.backlog)
            case "look":
                backlog = await ConsumerLook(nats, "ORDERS", "bridge").backlog()
                must(type(backlog.pending) is int, "backlog", backlog)
            case "shelf":
                async for shelved in StreamShelf(nats, "ORDERS", "orders.parked").look():
                    must(isinstance(shelved.parked.id, str), "id of what is parked")
            case "count":
                must(type(await StreamShelf(nats, "ORDERS", "orders.parked").count()) is int, "count")
            case "facts":
                await stream_facts(nats, "ORDERS")
            case _:
                await _exhausted(nats, client, case)
    except BridgeError:
        return


async def _exhausted(nats: NatsConnection, client: Loopback, case: Mapping[str, Any]) -> None:
    exhausted = Exhausted(nats, "ORDERS", "bridge", removes=True, held=lambda _: False)
    await exhausted.found(10)
    if "advisory" in case:
        for callback in client.callbacks.values():
            await callback(SimpleNamespace(data=case["advisory"], subject="$JS.EVENT", headers=None))
    exhausted._again = 0.0
    hopeless: Any = await exhausted.found(10)
    for message, why in hopeless:
        must(isinstance(message, JetStreamMessage) and isinstance(why, BridgeError), "what ran out of deliveries")
        must(type(message.sequence) is int and message.sequence > 0, "sequence", message.sequence)
        await exhausted.settle(message.sequence, parked=True)


# -- PubAcks and acks

ACK = {"stream": "ORDERS", "seq": 7, "duplicate": False}
ACK_ERROR = {"error": {"code": 400, "err_code": 10060, "description": "expected stream does not match"}}
BLOCKS = (
    b"",
    b"NATS/1.0 503\r\n\r\n",
    b"NATS/1.0 503 No Responders\r\n\r\n",
    b"NATS/1.0 404 x\r\n\r\n",
    b"NATS/1.0 \r\n\r\n",
)


def make_puback(rng: Random) -> dict[str, Any]:
    block = rng.choice(BLOCKS) if rng.random() < 0.4 else inputs.stored(rng, plain=True).block
    return {"data": changed(rng, ACK, ACK_ERROR), "block": block if rng.random() < 0.3 else b""}


async def check_puback(case: Mapping[str, Any]) -> None:
    """A Receipt for a PubAck of a stream the route knows, and for nothing else."""
    data, block = case["data"], case["block"]

    def answering(message: Published) -> bytes:
        sid = nats_client.sid_of(message.reply)
        if block:
            return b"HMSG %s %d %d %d\r\n%s%s\r\n" % (
                message.reply,
                sid,
                len(block),
                len(block) + len(data),
                block,
                data,
            )
        return b"MSG %s %d %d\r\n%s\r\n" % (message.reply, sid, len(data), data)

    nats, nats_client = connected(answering)
    destination = JetStreamDestination(nats, pattern="orders.>", streams=("ORDERS",))
    ledger = Ledger(nats, "L", "p")
    before, stream_leg.PUBLISH_SECONDS = stream_leg.PUBLISH_SECONDS, 0.002
    try:
        found = await destination.publish([JetStreamOut("orders.x", b"x", "id")])
        answers_legal(found, 1)
        if isinstance(found[0], Receipt):
            must(_is_ack(data), "a Receipt for no PubAck", data[:80])
        for known in await ledger.known(["a"]):
            must(known is None or isinstance(known, str), "what a ledger knows", known)
        must((await ledger.note([("a", "b")]))[0] in (True, False), "what a ledger wrote")
    except BridgeError:
        return
    finally:
        stream_leg.PUBLISH_SECONDS = before
    must(not nats_client.errors, "error in a sink", nats_client.errors)


def _is_ack(data: bytes) -> bool:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return False
    if not isinstance(document, dict) or document.get("error"):
        return False
    sequence = document.get("seq")
    return document.get("stream") == "ORDERS" and type(sequence) is int and sequence > 0


def make_delivery(rng: Random) -> dict[str, Any]:
    """An ack subject of any shape, before a message of any."""
    tokens: list[Any] = ["$JS", "ACK", "ORDERS", "bridge", "1", "7", "7", "1700000000000000000", "0"]
    if rng.random() < 0.3:
        tokens[2:2] = ["_", "hash"]
    for _ in range(rng.randrange(3)):
        at = rng.randrange(len(tokens))
        match rng.randrange(4):
            case 0 if len(tokens) > 1:
                del tokens[at]
            case 1:
                tokens.insert(at, rng.choice((*hostile.NUMERALS, "x")))
            case _:
                tokens[at] = rng.choice((*hostile.NUMERALS, "x", "*", "ü", "\udcff"))
    kept = inputs.stored(rng)
    return {"reply": ".".join(tokens), "block": kept.block, "payload": kept.payload}


async def check_delivery(case: Mapping[str, Any]) -> None:
    parse_ack_subject(case["reply"])
    nats = api_of(_Api({}))
    consumer = await open_consumer(nats, "ORDERS", "bridge", None)
    source = JetStreamSource(nats, consumer)
    found = source._lend("orders.x", case["reply"], case["block"], case["payload"], 0.0)
    if found is not None:
        await lent(found)
