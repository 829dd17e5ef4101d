"""Responses of JetStream in any shape: API answers, advisories, PubAcks and ack subjects, read as in answers.py."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from random import Random
from typing import Any

from bridge.core.errors import BridgeError
from bridge.core.models import JetStreamMessage, JetStreamOut
from bridge.core.route import Backlog, Receipt
from bridge.legs.backlogs import ConsumerLook, WatchedConsumers
from bridge.legs.consumer import open_consumer
from bridge.legs.exhausted import Exhausted
from bridge.legs.inventory import stream_facts
from bridge.legs.jetstream import JetStreamSource
from bridge.legs.ledger import open_ledger
from bridge.legs.parking import StreamShelf
from bridge.legs.stream import open_destination
from tests.fuzz import genuine, hostile, inputs
from tests.fuzz.answers import ASKED, answers_legal, changed, lent
from tests.fuzz.ends import Stream, connected, impatient
from tests.fuzz.rules import Published, must

# -- JetStream

CALLS = ("destination", "consumer", "consumers", "look", "shelf", "exhausted", "facts", "count")


def make_api(rng: Random) -> dict[str, Any]:
    odd = {name: changed(rng, document) for name, document in genuine.ANSWERS.items() if rng.random() < 0.35}
    if rng.random() < 0.1:
        odd[rng.choice(list(genuine.ANSWERS))] = changed(rng, genuine.API_ERROR)
    case: dict[str, Any] = {"call": rng.choice(CALLS), "answers": odd}
    if rng.random() < 0.3:
        case["advisory"] = changed(rng, genuine.ADVISORY)
    return case


class _Api:
    """A connection whose server answers API calls with what the case says, else with what a server would."""

    def __init__(self, answers: Mapping[str, bytes]) -> None:
        self.nats, self.client = connected(self._answer)
        self._answers = answers
        self.asked = 0

    def _answer(self, message: Published) -> bytes | None:
        self.asked += 1
        must(self.asked < ASKED, "asks without end", message.subject)
        if not message.reply:
            return None
        return self.client.told(message.reply, genuine.api(message.subject.decode(), message.payload, self._answers))


async def check_api(case: Mapping[str, Any]) -> None:
    with impatient():
        await _check_api(case)


async def _check_api(case: Mapping[str, Any]) -> None:
    api = _Api(case["answers"])
    nats = api.nats
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
                await _exhausted(api, case)
    except BridgeError:
        pass
    must(not api.client.errors, "error in a sink", api.client.errors)


async def _exhausted(api: _Api, case: Mapping[str, Any]) -> None:
    exhausted = Exhausted(api.nats, "ORDERS", "bridge", removes=True, held={}, wait=0.0)
    await exhausted.found(10)
    if "advisory" in case:
        subject = b"$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.ORDERS.bridge"
        await api.client._ps.parse(api.client.told(subject, case["advisory"]))
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
    end = Stream(acks=lambda _: (block, data))
    with impatient():
        try:
            answers_legal(found := await (await end.opened()).publish([JetStreamOut("orders.x", b"x", "id")]), 1)
            must(not isinstance(found[0], Receipt) or _is_ack(data), "a Receipt for no PubAck", data[:80])
            ledger = await open_ledger(end.connection, "L", source="s", destinations=["d"])
            for known in await ledger.known(["a"]):
                must(known is None or isinstance(known, str), "what a ledger knows", known)
            must((await ledger.note([("a", "b")]))[0] in (True, False), "what a ledger wrote")
        except BridgeError:
            pass
    must(not end.client.errors, "error in a sink", end.client.errors)


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
    nats = _Api({}).nats
    consumer = await open_consumer(nats, "ORDERS", "bridge", None)
    source = JetStreamSource(nats, consumer)
    found = source._deliver("orders.x", case["reply"], case["block"], case["payload"], 0.0)
    if found is not None:
        await lent(found)
