"""Hostile messages through mapping, destinations and encoding, and back through the parser: each kind makes cases out
of a seed and says what must hold of every one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from random import Random
from typing import Any

from bridge.core.errors import BridgeError, Failed, NotUsable, Refused, Unavailable, Unmappable
from bridge.core.filtering import FilterPolicy
from bridge.core.mapping.nats_to_sqs import nats_to_sns, nats_to_sqs
from bridge.core.mapping.sizes import header_pairs, jetstream_bytes, sns_bytes, sqs_bytes
from bridge.core.mapping.sqs_to_nats import sqs_to_nats
from bridge.core.mapping.subject import DueTemplate, GroupTemplate, SubjectTemplate
from bridge.core.mapping.trace import TraceContext, passed_on
from bridge.core.models import JetStreamMessage, JetStreamOut, Out, SnsOut, SqsMessage, SqsOut
from bridge.core.route import Destination, Mapped, Receipt, Skip
from bridge.core.route import Mapping as Maps
from bridge.legs.ledger import Ledgered
from bridge.legs.wire import header_pairs_of
from tests.fuzz import hostile, inputs, memory
from tests.fuzz.ends import QUEUE_ARN, TOPIC_ARN, SnsEnd, SqsEnd, Stream
from tests.fuzz.inputs import IN, OUT, Stored, deliverable
from tests.fuzz.rules import Published, block_holds, entry_legal, must, no_foreign, subject_legal

TEMPLATES = (
    "orders",
    "orders.{attributes.eventType|other}",
    "orders.{attributes.k1}",
    "orders.{group|none}.{queue}",
    "orders.{topic|none}",
    "orders.{body.kind|x}.{attributes.kind|y}",
    "orders.{body.a.b[0]|x}",
    "orders.x{attributes.x|n}y{attributes.X|n}",
    "orders.{body.length(@)|x}",
    "orders.{body.(a || b)|none}",
    "orders.{body.to_string(@)|x}",
    "orders.{body.join('.', @)|x}",
    "orders.{body.sum(@)|x}",
)
GROUPS = (
    "{subject}",
    "{subject.2|x}",
    "{headers.k1|none}",
    "{body.id|none}",
    "g-{headers.Sqs-Message-Group-Id|n}",
    "{body.@|x}",
)
DUES = ("{attributes.k1}", "{attributes.eventType}", "{body.at}", "{body.@}")
POLICIES: tuple[tuple[Any, Any], ...] = (
    ({"eventType": ["paid", {"prefix": "pay"}, {"numeric": [">", 0, "<=", 100]}]}, "MessageAttributes"),
    ({"k1": [{"exists": False}], "x": [{"anything-but": ["a", "b"]}, {"anything-but": 1}]}, "MessageAttributes"),
    ({"k1": [{"wildcard": "*a*b*c*"}, {"suffix": "x"}, {"cidr": "10.0.0.0/8"}]}, "MessageAttributes"),
    ({"a": {"b": [{"equals-ignore-case": "x"}, None, True]}}, "MessageBody"),
    ({"$or": [{"kind": ["x"]}, {"a": [{"numeric": ["=", 1]}]}]}, "MessageBody"),
)
HOP = TraceContext("5759e988bd862e3fe1be46a994272793", "53995c3f42cd8ad8", sampled=True)
RETURNED = {"Nats-Expected-Stream", "Nats-TTL", "Nats-Schedule", "Nats-Schedule-Target", "Nats-Schedule-TTL"}


@lru_cache(maxsize=8)
def stream(named: bool, schedules: bool, max_payload: int) -> Stream:
    return Stream(
        stream="ORDERS" if named else None, schedules="orders-later" if schedules else None, max_payload=max_payload
    )


@lru_cache(maxsize=8)
def sqs(fifo: bool, limit: int) -> SqsEnd:
    return SqsEnd(fifo=fifo, limit=limit)


@lru_cache(maxsize=8)
def sns(fifo: bool, limit: int) -> SnsEnd:
    return SnsEnd(fifo=fifo, limit=limit)


def afresh() -> None:
    """Forgets both sides: a failure may have left one half way."""
    for each in (stream, sqs, sns):
        each.cache_clear()


@lru_cache(maxsize=256)
def forward(
    template: int, envelope: Any, fifo: bool, policy: int, life: bool, due: int, fetch: bool, verify: bool
) -> Maps:
    return sqs_to_nats(
        SubjectTemplate.parse(TEMPLATES[template]),
        envelope=envelope,
        fifo=fifo,
        passage=IN,
        policy=_policy(policy),
        life=3600.0 if life else None,
        due=None if due < 0 else DueTemplate.parse(DUES[due]),
        fetch=fetch,
        verify=verify,
    )


@lru_cache(maxsize=256)
def back(to: str, fifo: bool, group: int, envelope: bool, policy: int) -> Maps:
    template = None if group < 0 else GroupTemplate.parse(GROUPS[group])
    if to == "sns":
        return nats_to_sns(fifo=fifo, group=template, passage=OUT, policy=_policy(policy))
    arn = TOPIC_ARN if envelope else None
    return nats_to_sqs(fifo=fifo, group=template, passage=OUT, policy=_policy(policy), envelope=arn)


@lru_cache(maxsize=8)
def _policy(at: int) -> FilterPolicy | None:
    return None if at < 0 else FilterPolicy.parse(*POLICIES[at])


def mapped(mapping: Maps, message: Any) -> Mapped | None:
    """What the mapping gives, and gives again; None for what is parked or left out."""
    try:
        first = mapping(message)
    except Unmappable:
        return None
    must(mapping(message) == first, "mapping is not deterministic")
    if isinstance(first, Skip):
        return None
    must(isinstance(first, Mapped), "mapping gave", type(first).__name__)
    return first


# -- into JetStream


def make_forward(rng: Random) -> dict[str, Any]:
    options: dict[str, Any] = {"template": rng.randrange(len(TEMPLATES)) if rng.random() < 0.6 else 1}
    for name, share in (("never", 0.15), ("fifo", 0.3), ("life", 0.2), ("keep", 0.1), ("verify", 0.15), ("trace", 0.2)):
        if rng.random() < share:
            options[name] = True
    if rng.random() < 0.15:
        options["policy"] = rng.randrange(len(POLICIES))
    if rng.random() < 0.15:
        options["due"] = rng.randrange(len(DUES))
    options |= _destination(rng)
    return {"message": inputs.sqs_message(rng), "options": options}


def _destination(rng: Random) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, share in (("named", 0.3), ("ledger", 0.15), ("small", 0.15), ("unlisted", 0.2)):
        if rng.random() < share:
            options[name] = True
    if rng.random() < 0.4:
        options["claim"] = rng.choice(("s3", "object_store", "none"))
        if rng.random() < 0.7:
            options["found"] = hostile.payload(rng)
    return options


async def check_forward(case: Mapping[str, Any]) -> None:
    message, options = case["message"], case["options"]
    fifo = "fifo" in options
    mapping = forward(
        options.get("template", 0),
        "never" if "never" in options else "auto",
        fifo,
        options.get("policy", -1),
        "life" in options,
        options.get("due", -1),
        "keep" not in options,
        "verify" in options,
    )
    found = mapped(mapping, message)
    if found is None:
        return
    must(found.lane == (message.system.get("MessageGroupId") if fifo else None), "lane", ascii(found.lane))
    assert isinstance(found.out, JetStreamOut)
    if "verify" in options and found.out.signed is not None:
        must(isinstance(found.out.signed.text, bytes), "what is signed")
    await into_stream(found.out, options)


async def into_stream(out: JetStreamOut, options: Mapping[str, Any]) -> JetStreamMessage | None:
    """Through the destination, the wire and the parser; None where it is refused, as documented."""
    no_foreign([name for name, _ in (*out.headers.items(), *out.repeated)])
    must("nats-" not in [name[:5].lower() for name in out.headers], "foreign header NATS acts on")
    sent = passed_on(out, HOP) if "trace" in options else out
    limit = 4_000 if "small" in options else 1_048_576
    end = stream("named" in options, options.get("due", -1) >= 0, limit)
    inner = memory.Recording(await end.opened())
    end.taken()
    answer = await _published(inner, sent, options)
    must(not end.client.errors, "error in a sink", end.client.errors)
    taken = end.taken()
    if not isinstance(answer, Receipt):
        must(not taken, "refused, and published all the same")
        return None
    must(len(taken) == 1, "published", len(taken))
    final = inner.outs[-1]
    assert isinstance(final, JetStreamOut)
    await as_meant(end, taken[0], final, limit)
    return await received(end, taken[0])


async def as_meant(end: Stream, sent: Published, out: JetStreamOut, limit: int) -> None:
    subject_legal(sent.subject)
    later = sent.subject.startswith(b"orders-later.")
    must(later or sent.subject.decode() == out.subject, "subject", sent.subject[:80])
    must(sent.payload == out.payload, "payload")
    must(len(sent.block) + len(sent.payload) <= limit, "larger than the server takes", len(sent.payload))
    must(jetstream_bytes(out)[1] >= len(sent.payload), "counted less than it takes")
    pairs = await parsed(end, sent)
    added = [pair for pair in pairs if pair[0] in RETURNED]
    meant = header_pairs(out)
    block_holds(sent.block, [*meant, *added] if not later else pairs)
    must([pair for pair in pairs if pair[0] not in RETURNED] == meant, "pairs of the parser")


async def parsed(end: Stream, sent: Published) -> tuple[tuple[str, str], ...]:
    return (await received(end, sent)).headers


async def received(end: Stream, sent: Published) -> JetStreamMessage:
    """As a consumer of ours gets it."""
    return await arrived(end, Stored(sent.subject, (), sent.payload, first=sent.block, last=b""))


async def arrived(end: Stream, kept: Stored) -> JetStreamMessage:
    """The message of a delivery, through the real client and the parser."""
    found: list[tuple[str, bytes, bytes]] = []

    def sink(subject: str, _: str, block: bytes, payload: bytes) -> None:
        found.append((subject, block, payload))

    client = end.client
    client.sinks[b"999"] = sink
    block, reply = kept.block, b"$JS.ACK.ORDERS.bridge.1.7.7.1700000000000000000.0"
    if block:
        sizes = b"%d %d" % (len(block), len(block) + len(kept.payload))
        line = b"HMSG %s 999 %s %s\r\n" % (kept.subject, reply, sizes)
    else:
        line = b"MSG %s 999 %s %d\r\n" % (kept.subject, reply, len(kept.payload))
    await client._ps.parse(line + block + kept.payload + b"\r\n")
    errors, client.errors = client.errors, []
    must(len(found) == 1 and not errors, "delivery lost in the parser", errors)
    subject, seen, payload = found[0]
    must(seen == block and payload == kept.payload, "bytes changed in the parser")
    pairs = header_pairs_of(block) if block else ()
    return JetStreamMessage(subject, payload, "ORDERS", kept.sequence, kept.timestamp, kept.delivered, pairs)


async def _published(inner: Any, out: Out, options: Mapping[str, Any]) -> Receipt | BridgeError:
    """Through what the options put in front of the destination."""
    destination: Destination = inner
    if "claim" in options:
        destination = memory.claim_checked(inner, options["claim"], options.get("found"), park="unlisted" in options)
    if "ledger" in options:
        destination = Ledgered(destination, memory.Noted())  # type: ignore[arg-type]  # what it uses of a Ledger
    answers = await destination.publish([out])
    must(len(answers) == 1, "number of answers", len(answers))
    (answer,) = answers
    must(isinstance(answer, Receipt | BridgeError), "answer", type(answer).__name__)
    must(not isinstance(answer, Unavailable | NotUsable), "one message holds the route", answer)
    must(isinstance(answer, Receipt | Refused | Failed), "answer to a publish", type(answer).__name__)
    return answer


# -- out of JetStream


def make_back(rng: Random) -> dict[str, Any]:
    options: dict[str, Any] = {"to": "sns" if rng.random() < 0.25 else "sqs"}
    for name, share in (("fifo", 0.35), ("envelope", 0.25), ("trace", 0.2)):
        if rng.random() < share:
            options[name] = True
    if rng.random() < 0.3:
        options["group"] = rng.randrange(len(GROUPS))
    if rng.random() < 0.15:
        options["policy"] = rng.randrange(len(POLICIES))
    options |= _destination(rng)
    return {"stored": inputs.stored(rng), "options": options}


async def check_back(case: Mapping[str, Any]) -> None:
    options = case["options"]
    if not deliverable(case["stored"]):
        return
    message = await arrived(stream(False, False, 1_048_576), case["stored"])
    await message_out(message, options)


async def message_out(message: JetStreamMessage, options: Mapping[str, Any]) -> SqsMessage | None:
    fifo, to = "fifo" in options, options.get("to", "sqs")
    enveloped = "envelope" in options and to == "sqs"
    mapping = back(to, fifo, options.get("group", -1), enveloped, options.get("policy", -1))
    found = mapped(mapping, message)
    if found is None:
        return None
    out = found.out
    assert isinstance(out, SqsOut | SnsOut)
    must((found.lane is not None) == fifo, "lane", found.lane)
    must(not fifo or out.group == found.lane, "group", out.group)
    if "trace" in options:
        changed = passed_on(out, HOP, enveloped=enveloped)
        assert isinstance(changed, SqsOut | SnsOut)
        out = changed
    return await into_aws(out, options, fifo=fifo)


async def into_aws(out: SqsOut | SnsOut, options: Mapping[str, Any], *, fifo: bool) -> SqsMessage | None:
    """Through the destination and its encoding, as a consumer of the queue gets it; None where it is refused."""
    small = "small" in options
    end: SqsEnd | SnsEnd
    if isinstance(out, SnsOut):
        limit = 2_000 if small else 262_144
        end = sns(fifo, limit)
        counted = sns_bytes(out)
    else:
        limit = 2_000 if small else 1_048_576
        end = sqs(fifo, limit)
        counted = sqs_bytes(out)
    end.taken()
    inner = memory.Recording(end.destination)
    answer = await _published(inner, out, options)
    taken = end.taken()
    if not isinstance(answer, Receipt):
        must(not taken, "refused, and sent all the same")
        must(small or counted > limit // 8 or "claim" in options, "refused, and small", answer)
        return None
    must(len(taken) == 1, "sent", len(taken))
    entry = taken[0]
    entry_legal(entry, fifo=fifo, limit=limit, sns=isinstance(out, SnsOut))
    final = inner.outs[-1]
    assert isinstance(final, SqsOut | SnsOut)
    body = entry["Message" if isinstance(out, SnsOut) else "MessageBody"]
    must(body == (final.message if isinstance(final, SnsOut) else final.body), "body")
    given = {name: (each["DataType"], *_value(each)) for name, each in (entry.get("MessageAttributes") or {}).items()}
    must(given == {name: tuple(each) for name, each in final.attributes.items()}, "attributes")
    return SqsMessage(inputs.UUID, body, "orders", QUEUE_ARN, final.attributes, {"SentTimestamp": "1700000000000"})


def _value(entry: Mapping[str, Any]) -> Sequence[Any]:
    return [entry[name] for name in ("BinaryValue", "StringValue") if name in entry]
