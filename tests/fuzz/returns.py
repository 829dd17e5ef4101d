"""What must come back as it was: messages over both crossings, parked messages, batches in front of a ledger."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from random import Random
from typing import Any

from bridge.core.errors import BridgeError, Failed, Refused
from bridge.core.mapping.note import MESSAGE, read
from bridge.core.mapping.parked import park_to_jetstream, park_to_sqs, parked_in_jetstream, parked_in_sqs
from bridge.core.mapping.sqs_to_nats import sqs_to_nats
from bridge.core.mapping.subject import SubjectTemplate
from bridge.core.models import Attribute, JetStreamMessage, JetStreamOut, Out, SqsMessage, SqsOut
from bridge.core.route import Delivery, Mapped, Receipt
from bridge.legs.ledger import Ledgered
from tests.fuzz import hostile, inputs, memory
from tests.fuzz.crossings import arrived, back, forward, into_aws, into_stream, mapped, message_out, stream
from tests.fuzz.ends import QUEUE_ARN
from tests.fuzz.inputs import Stored, deliverable, total
from tests.fuzz.rules import Violation, entry_legal, must, typed_message

HOME = sqs_to_nats(SubjectTemplate.parse("orders"), passage=replace(inputs.IN, skip_echo=False))
HEADERS = 40_000  # characters of system attributes beyond which they may not fit the headers, encoded
LARGE = 150_000  # bytes of a message beyond which it may be too large on the other side: JSON takes up to six for one
HELD_BACK = 50_000  # characters a message may have that must be parked, whatever they are


# -- SQS to NATS to SQS


def make_sqs_round(rng: Random) -> dict[str, Any]:
    message = SqsMessage(
        inputs.UUID, hostile.good_text(rng), "orders", QUEUE_ARN, inputs.good_attributes(rng), inputs.system(rng)
    )
    return {"message": message, "options": {"envelope": True} if rng.random() < 0.25 else {}}


async def check_sqs_round(case: Mapping[str, Any]) -> None:
    message, options = case["message"], case["options"]
    if not carriable(message):
        return
    found = mapped(forward(0, "never", False, -1, False, -1, False, False), message)
    if found is None and len("".join(message.system.values())) > HEADERS:
        return
    if found is None and total(message) > LARGE:
        return
    must(found is not None, "not carried")
    assert found is not None
    assert isinstance(found.out, JetStreamOut)
    kept = await into_stream(found.out, {})
    if kept is None and total(message) > LARGE:
        return
    must(kept is not None, "refused")
    assert kept is not None
    returned = await message_out(kept, options)
    if returned is None and total(message) > LARGE:
        return
    must(returned is not None, "refused on the way back")
    assert returned is not None
    same = message
    if "envelope" in options:
        document = json.loads(returned.body)
        returned = returned._replace(body=document["Message"], attributes=_attributes(document))
    must(returned.body == same.body, "body came back changed", ascii(returned.body[:60]))
    note = read(returned.attributes)
    over = dict(note.attributes or {}) if note is not None else {}
    seen = {**over, **{name: each for name, each in returned.attributes.items() if name != MESSAGE}}
    must(seen == dict(same.attributes), "attributes came back changed", ascii(_difference(seen, same.attributes)))


def _attributes(document: Mapping[str, Any]) -> dict[str, Attribute]:
    return {
        name: Attribute(
            each["Type"], base64.b64decode(each["Value"]) if each["Type"].startswith("Binary") else each["Value"]
        )
        for name, each in document.get("MessageAttributes", {}).items()
    }


def _difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    names = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    return ", ".join(f"{name}: {one.get(name)} for {other.get(name)}" for name in names)[:300]


def carriable(message: SqsMessage) -> bool:
    """Whether SQS would ever have brought it, and no name in it is a mark of the bridge's own."""
    marks = ("nats.message", "nats.encoding", "Bridge-Heartbeat")
    if any(name in message.attributes for name in marks):
        return False
    entry = {
        "MessageBody": message.body,
        "MessageAttributes": {
            name: {"DataType": kind, "BinaryValue" if isinstance(value, bytes) else "StringValue": value}
            for name, (kind, value) in message.attributes.items()
        },
    }
    try:
        entry_legal(entry, fifo=False, limit=1_048_576)
    except (Violation, AssertionError):
        return False
    return True


# -- NATS to SQS to NATS


def make_nats_round(rng: Random) -> dict[str, Any]:
    kept = Stored(inputs.subject(rng), inputs.good_headers(rng), hostile.payload(rng))
    return {"stored": kept, "options": {"envelope": True} if rng.random() < 0.25 else {}}


async def check_nats_round(case: Mapping[str, Any]) -> None:
    if not deliverable(case["stored"]):
        return
    message = await arrived(stream(False, False, 1_048_576), case["stored"])
    size = len(message.payload) * 2 + sum(len(name) + len(value) * 6 for name, value in message.headers)
    returned = await message_out(message, case["options"])
    if returned is None and size > 200_000:
        return
    if returned is None and message.header("Sqs-Delay-Seconds") is not None:
        return
    if returned is None and (message.header("Bridge-Via") or message.payload.startswith(b'{"heartbeat"')):
        return
    must(returned is not None, "not carried to SQS")
    assert returned is not None
    found = mapped(HOME, returned)
    if found is None and size > 30_000:
        return
    must(found is not None, "not carried back")
    assert found is not None
    assert isinstance(found.out, JetStreamOut)
    again = await into_stream(found.out, {})
    if again is None and size > 200_000:
        return
    must(again is not None, "refused on the way back")
    assert again is not None
    if again.header("Sqs-Packed"):
        return
    must(again.payload == message.payload, "payload came back changed", again.payload[:60])
    origin = json.loads(again.header("Bridge-Origin") or "{}")
    told = Counter((name, value) for name, value in origin.get("headers", ()))
    there = Counter(again.headers) + told
    missing = Counter(message.headers) - there
    must(not missing, "headers lost", ascii(list(missing)[:3]))


# -- parked


def make_parked(rng: Random) -> dict[str, Any]:
    case: dict[str, Any] = {"to": rng.choice(("jetstream", "sqs")), "attempt": rng.choice((1, 7, 1000))}
    if rng.random() < 0.5:
        case["message"] = inputs.sqs_message(rng)
    else:
        case["stored"] = inputs.stored(rng)
    case["id"] = inputs.UUID if rng.random() < 0.7 else hostile.text(rng)
    case["reason"] = "it did not work" if rng.random() < 0.5 else hostile.text(rng)
    if rng.random() < 0.3:
        case["fifo"] = True
    return case


async def check_parked(case: Mapping[str, Any]) -> None:
    original = case.get("message") or inputs.arrived_plainly(case["stored"])
    attempt = case.get("attempt", 1)
    if isinstance(original, JetStreamMessage):
        original = original._replace(delivered=attempt)
    delivery = Delivery(original, case["id"], attempt, 0.0, 0.0)
    out = parking(case)(delivery, Failed(case["reason"]))
    must(parking(case)(delivery, Failed(case["reason"])) == out, "parking is not deterministic")
    kept = await put(out, case)
    if kept is None:
        more = [case["id"], case["reason"]]
        if isinstance(original, SqsMessage):
            more += [original.message_id, *original.attributes, *original.system.values()]
        else:
            more += [original.subject, *[name for name, _ in original.headers]]
        size = original.size + len("".join(more))
        must(size > HELD_BACK, "not parked, and small", size)
        return
    found = parked_in_jetstream(kept) if isinstance(kept, JetStreamMessage) else parked_in_sqs(kept)
    must(found is not None, "parked, and not read back")
    assert found is not None
    must(type(found.message) is type(original), "kind of what was parked", type(found.message).__name__)
    for name in original._fields:
        was, now = getattr(original, name), getattr(found.message, name)
        must(now == was or name == "queue", f"{name} of what was parked", f"{ascii(now)[:90]} for {ascii(was)[:90]}")
    must(found.attempt == attempt and found.route == "in", "facts of what was parked", found.attempt)


def parking(case: Mapping[str, Any]) -> Any:
    if case["to"] == "jetstream":
        return park_to_jetstream(route="in", source="sqs:orders", subject="orders.parked.in")
    return park_to_sqs(route="in", source="sqs:orders", fifo="fifo" in case)


async def put(out: Out, case: Mapping[str, Any]) -> JetStreamMessage | SqsMessage | None:
    """Into the parking place and out of it; None where that refuses it for its size."""
    if isinstance(out, JetStreamOut):
        return await into_stream(out, {})
    assert isinstance(out, SqsOut)
    try:
        return await into_aws(out, {}, fifo="fifo" in case)
    except Violation as error:
        if error.rule == "refused, and small":
            return None  # judged by its own measure
        raise


# -- forged in the parking place


def make_forged_parked(rng: Random) -> dict[str, Any]:
    """A genuine parked message with one thing changed, as anyone who may write there can put it."""
    message: Any = inputs.sqs_message(rng) if rng.random() < 0.5 else inputs.arrived_plainly(inputs.stored(rng))
    if rng.random() < 0.7:
        message = SqsMessage(inputs.UUID, "b", "orders", QUEUE_ARN, {"k1": Attribute("String", "v")}, {"SenderId": "x"})
    if rng.random() < 0.4:
        message = JetStreamMessage("orders.x", b"b", "ORDERS", 7, 1.7e9, 1, (("k1", "v"),))
    delivery = Delivery(message, inputs.UUID, 1, 0.0, 0.0)
    case: dict[str, Any] = {"to": rng.choice(("jetstream", "sqs"))}
    out = parking(case)(delivery, Refused("no"))
    if isinstance(out, JetStreamOut):
        headers: dict[str, Any] = dict(out.headers)
        payload = out.payload
        match rng.randrange(4):
            case 0:
                changed = hostile.mutated(rng, headers)
                headers = changed if isinstance(changed, dict) else {}
            case 1 if "Bridge-Parked-Meta" in headers:
                document = {
                    "body": "Yg==",
                    "body_encoding": "base64",
                    "meta": json.loads(headers.pop("Bridge-Parked-Meta")),
                }
                headers["Bridge-Parked-Format"] = "json"
                payload = json.dumps(hostile.mutated(rng, document)).encode()
            case _ if "Bridge-Parked-Meta" in headers:
                meta = json.loads(headers["Bridge-Parked-Meta"])
                headers["Bridge-Parked-Meta"] = json.dumps(hostile.mutated(rng, meta))
            case _:
                pass
        pairs = tuple((name, str(value)) for name, value in headers.items())
        return {"kept": JetStreamMessage("orders.parked.in", payload, "P", 1, 1.7e9, 1, pairs)}
    given = dict(out.attributes)
    document = json.loads(str(given["bridge.parked"].value))
    given["bridge.parked"] = Attribute("String", json.dumps(hostile.mutated(rng, document)))
    if rng.random() < 0.3:
        given |= inputs.attributes(rng, 2)
    return {"kept": SqsMessage(inputs.UUID, out.body, "parked", "arn:p", given, {"SentTimestamp": "1"})}


async def check_forged_parked(case: Mapping[str, Any]) -> None:
    """It is none of ours, or it is one that can be carried or parked like any other: `redrive` carries it."""
    kept = case["kept"]
    found = parked_in_jetstream(kept) if isinstance(kept, JetStreamMessage) else parked_in_sqs(kept)
    if found is None:
        return
    typed(found)
    if isinstance(found.message, SqsMessage):
        carried = mapped(forward(1, "auto", False, -1, True, -1, True, False), found.message)
        if carried is not None and isinstance(carried.out, JetStreamOut):
            await into_stream(carried.out, {})
    else:
        every: tuple[dict[str, Any], ...] = ({}, {"to": "sns"}, {"envelope": True})
        for options in every:
            carried = mapped(back(options.get("to", "sqs"), False, -1, "envelope" in options, -1), found.message)
            if isinstance(carried, Mapped):
                await message_out(found.message, options)


def typed(found: Any) -> None:
    """Every field has the type its class says: whatever works on it may rely on that."""
    for name in ("id", "route", "reason"):
        must(isinstance(getattr(found, name), str), f"type of {name}", type(getattr(found, name)).__name__)
    must(type(found.attempt) is int, "type of attempt", type(found.attempt).__name__)
    typed_message(found.message)


# -- ledger


def make_ledger(rng: Random) -> dict[str, Any]:
    """Batches in which ids repeat, within a batch and after it."""
    ids = ["a", "b", hostile.text(rng)]
    batches = [
        [(rng.choice(ids), rng.random() < 0.5) for _ in range(rng.randrange(1, 6))] for _ in range(rng.randrange(1, 4))
    ]
    return {"batches": batches, "writes": rng.random() < 0.8, "refuses": rng.choice(("", "a", "b"))}


async def check_ledger(case: Mapping[str, Any]) -> None:
    """Every message has its answer; a Receipt is for what is carried; what was noted before a batch came is not
    published again when it is lent again. Within a batch the destination's own window knows it."""
    inner, noted = _Once(case.get("refuses", "")), memory.Noted(writes=case.get("writes", True))
    ledgered = Ledgered(inner, noted)  # type: ignore[arg-type]  # what it uses of a Ledger
    for batch in case["batches"]:
        outs = [JetStreamOut("s", b"x", each, again=again) for each, again in batch]
        known = {each for each, _ in batch if each in noted.notes} - {each for each, again in batch if not again}
        before = dict(inner.kept)
        answers = await ledgered.publish(outs)
        must(len(answers) == len(outs), "number of answers", f"{len(answers)} for {len(outs)}")
        for out, answer in zip(outs, answers, strict=True):
            must(isinstance(answer, Receipt | BridgeError), "answer", type(answer).__name__)
            must(not isinstance(answer, Receipt) or out.msg_id in inner.kept, "told as carried", ascii(out.msg_id))
        for each in known:
            must(inner.kept[each] == before[each], "published again", ascii(each))


class _Once:
    """Counts what was published under each id."""

    def __init__(self, refuses: str) -> None:
        self.kept: Counter[str] = Counter()
        self._refuses = refuses

    async def publish(self, messages: Any) -> list[Receipt | BridgeError]:
        return [self._one(out.msg_id) for out in messages]

    def _one(self, name: str) -> Receipt | BridgeError:
        if name == self._refuses:
            return Refused("no")
        self.kept[name] += 1
        return Receipt(f"S:{len(self.kept)}")

    def fits(self, _: Any) -> bool:
        return True
