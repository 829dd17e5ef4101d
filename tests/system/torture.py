"""Hostile messages of every kind among good ones, each way, standard and FIFO, through one daemon, beside a route that
has nothing to do with them. A small one runs with the tests, a large one with `make torture`.

Every good message must come out once, FIFO groups in order; every hostile one must be carried or parked, or be counted
as what it says it is: an echo, a heartbeat or a duplicate. The process must stay the same.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bridge.embedded import NatsServer
from tests.conftest import MinistackServer
from tests.fuzz import inputs, known
from tests.fuzz.inputs import deliverable, total
from tests.fuzz.rules import Violation, entry_legal
from tests.legs.aws_world import World, world
from tests.system.process import Bridge, until
from tests.system.raw_nats import Kept, RawNats
from tests.system.world import Aws, Nats

GROUPS = 20
LARGEST = 60_000  # bytes of a hostile message: what is larger is another test's
BEAT = 0.02  # seconds between two messages of the route beside
LEFT_OUT = ("echo", "heartbeat", "heartbeat_failed", "duplicate")
ROUTES = ("in", "in-fifo", "out", "out-fifo")


@dataclass
class Sent:
    """What was sent into one route: bodies of good ones, and names of hostile ones as they are known afterwards."""

    good: list[str] = field(default_factory=list)
    hostile: dict[str, str] = field(default_factory=dict)


@dataclass
class Result:
    """`waits` are seconds from sent to stored of the route beside; `counts` the outcomes of each route."""

    counts: dict[str, dict[str, int]]
    waits: list[float]
    seconds: float

    def percentile(self, share: float) -> float:
        return sorted(self.waits)[min(len(self.waits) - 1, int(len(self.waits) * share))]


class Torture:
    """One world: queues, streams and a daemon with five routes."""

    def __init__(self, folder: Path, aws_server: MinistackServer, nats_server: NatsServer, *, seed: int) -> None:
        self.rng = random.Random(seed)
        self.name = f"t{self.rng.randrange(10**9)}x{time.monotonic_ns() % 10**9}"
        self.aws, self.nats = Aws(aws_server.url), Nats(nats_server.url)
        self.folder = folder
        self.sent = {route: Sent() for route in ROUTES}
        self.beside: list[str] = []
        self.urls: dict[str, str] = {}

    def run(self, *, good: int, hostile: int) -> Result:
        """Raises AssertionError for what must not be."""
        self._build()
        self._fill(good, hostile)
        began = time.monotonic()
        with Bridge(self.folder, self._routes(), nats=self.nats.url, aws=self.aws.url) as bridge:
            process = bridge.process.pid
            until(lambda: bridge.status("beside"), "it answers")
            began_with = json.loads(bridge.get("/status")[1])["uptime_seconds"]
            stop = threading.Event()
            beating = threading.Thread(target=lambda: asyncio.run(self._beat(stop)), daemon=True)
            beating.start()
            try:
                until(lambda: self._empty(bridge), "every source is empty")
            except AssertionError as error:
                raise AssertionError(f"{error}: {self._left(bridge)}") from None
            finally:
                stop.set()
                beating.join(30)
            seconds = time.monotonic() - began
            until(
                lambda: self.nats.count(f"{self.name}-beside") >= len(self.beside), "the route beside has carried all"
            )
            until(lambda: self.aws.counts(self.urls["beside"]) == (0, 0), "the route beside is done")
            assert bridge.process.poll() is None, "the daemon ended"
            assert bridge.process.pid == process
            assert not bridge.events("crashed"), bridge.events("crashed")
            status = json.loads(bridge.get("/status")[1])
            assert status["uptime_seconds"] >= began_with, "it is another process"
            counts = {name: dict(status["routes"][name]["messages"]) for name in (*ROUTES, "beside")}
        waits = self._judge(counts)
        return Result(counts, waits, seconds)

    # -- the world

    def _build(self) -> None:
        name = self.name
        for queue in ("in", "in-fifo", "out", "out-fifo", "beside", "parked"):
            full = f"{name}-{queue}.fifo" if queue.endswith("fifo") else f"{name}-{queue}"
            self.urls[queue] = self.aws.queue(full, VisibilityTimeout="30")
        for stream in ("in", "in-fifo", "out", "out-fifo", "beside", "parked"):
            # Rollups allowed: a header that gets through purges what is there, and is seen.
            self.nats.stream(f"{name}-{stream}", f"{name}-{stream}.>", allow_rollup_hdrs=True, allow_direct=True)
        for stream in ("out", "out-fifo"):
            self.nats.consumer(f"{name}-{stream}", "bridge", ack_wait=30 * 10**9)

    def _routes(self) -> list[dict[str, Any]]:
        name = self.name
        parked = {"kind": "sqs", "queue": f"{name}-parked"}

        def stream(route: str) -> dict[str, Any]:
            return {"kind": "jetstream", "subject": f"{name}-parked.{route}"}

        def source(route: str) -> dict[str, Any]:
            return {"kind": "jetstream", "stream": f"{name}-{route}", "consumer": "bridge"}

        def queue(route: str) -> dict[str, Any]:
            return {"kind": "sqs", "queue": f"{name}-{route}", "wait_seconds": 1}

        subject = {"kind": "jetstream", "subject": f"{name}-in.{{attributes.eventType|other}}"}
        fifo = {"kind": "jetstream", "subject": f"{name}-in-fifo.{{group}}"}
        beside = {"kind": "jetstream", "subject": f"{name}-beside.x"}
        back = {"kind": "sqs", "queue": f"{name}-out"}
        back_fifo = {"kind": "sqs", "queue": f"{name}-out-fifo.fifo", "group": "{subject.2|none}"}
        return [
            {"name": "in", "source": queue("in"), "destination": subject, "parking": stream("in")},
            {"name": "in-fifo", "source": queue("in-fifo.fifo"), "destination": fifo, "parking": parked},
            {"name": "out", "source": source("out"), "destination": back, "parking": parked},
            {"name": "out-fifo", "source": source("out-fifo"), "destination": back_fifo, "parking": stream("out-fifo")},
            {"name": "beside", "source": queue("beside"), "destination": beside, "parking": stream("beside")},
        ]

    # -- sending

    def _fill(self, good: int, hostile: int) -> None:
        for route in ("in", "in-fifo"):
            self.aws.do(lambda found, route=route: self._send(found, route, good, hostile))  # type: ignore[misc]
        with RawNats(self.nats.url) as raw:
            for route in ("out", "out-fifo"):
                self._publish(raw, route, good, hostile)

    def _places(self, good: int, hostile: int) -> list[bool]:
        """Whether each in turn is a good one."""
        places = [True] * good + [False] * hostile
        self.rng.shuffle(places)
        return places

    async def _send(self, found: World, route: str, good: int, hostile: int) -> None:
        fifo, sent, tried = route.endswith("fifo"), self.sent[route], known.entries()
        entries: list[Entry] = []
        for is_good in self._places(good, hostile):
            if is_good:
                number = len(sent.good)
                body = f"good:{number % GROUPS}:{number}"
                sent.good.append(body)
                entry: dict[str, Any] = {"MessageBody": body}
                group = f"g{number % GROUPS}"
            else:
                entry = tried.pop(0) if tried else hostile_entry(self.rng)
                body, group = "", f"g{self.rng.randrange(GROUPS)}"
            if fifo:
                entry |= {"MessageGroupId": group, "MessageDeduplicationId": f"d{len(entries)}"}
            entries.append((body or None, entry))
        url = self.urls[route]
        for batch in _batches(entries):
            if len(batch) == 1:  # ministack takes a trace header with SendMessage alone
                names = [(await found.sqs.send_message(QueueUrl=url, **batch[0][1]))["MessageId"]]
            else:
                numbered = [{"Id": str(at), **entry} for at, (_, entry) in enumerate(batch)]
                answer = await found.sqs.send_message_batch(QueueUrl=url, Entries=numbered)
                assert not answer.get("Failed"), answer["Failed"]
                names = [each["MessageId"] for each in sorted(answer["Successful"], key=lambda each: int(each["Id"]))]
            for (text, entry), name in zip(batch, names, strict=True):
                if text is None:
                    sent.hostile[name] = ascii(entry)

    def _publish(self, raw: RawNats, route: str, good: int, hostile: int) -> None:
        sent, tried = self.sent[route], known.messages()
        messages: list[tuple[bytes, bytes, bytes]] = []
        names: list[str | None] = []
        stream = f"{self.name}-{route}"
        for is_good in self._places(good, hostile):
            group = self.rng.randrange(GROUPS)
            if is_good:
                group = len(sent.good) % GROUPS
                body = f"good:{group}:{len(sent.good)}"
                sent.good.append(body)
                messages.append((f"{stream}.g{group}".encode(), b"", body.encode()))
                names.append(None)
            else:
                mark = f"torture-{len(names)}-x"
                kept = tried.pop(0) if tried else None
                messages.append(hostile_message(self.rng, f"{stream}.g{group}", mark, kept))
                names.append(mark)
        for given, message, sequence in zip(names, messages, raw.publish(messages), strict=True):
            if given is None:
                assert sequence is not None, message
            elif sequence is not None:  # the server itself refuses some
                sent.hostile[f"{stream}:{sequence}"] = ascii((given, message))

    async def _beat(self, stop: threading.Event) -> None:
        async with world(self.aws.url) as found:
            while not stop.is_set():
                body = f"beside:{len(self.beside)}"
                await found.sqs.send_message(QueueUrl=self.urls["beside"], MessageBody=body)
                self.beside.append(body)
                await asyncio.sleep(BEAT)

    # -- waiting

    def _left(self, bridge: Bridge) -> dict[str, Any]:
        status = json.loads(bridge.get("/status")[1])["routes"] if bridge.process.poll() is None else {}
        return {
            name: (route.get("state"), route.get("trouble"), route.get("messages"), route.get("in_flight_messages"))
            for name, route in status.items()
        } or {"exit": bridge.process.poll(), "log": bridge.log.read_text()[-1_500:]}

    def _empty(self, bridge: Bridge) -> bool:
        assert bridge.process.poll() is None, f"the daemon ended: {bridge.log.read_text()[-1_500:]}"
        time.sleep(0.2)
        if any(self.aws.counts(self.urls[queue]) != (0, 0) for queue in ("in", "in-fifo")):
            return False
        infos = [self.nats.api(f"CONSUMER.INFO.{self.name}-{stream}.bridge") for stream in ("out", "out-fifo")]
        return not any(info["num_pending"] or info["num_ack_pending"] for info in infos)

    # -- judging

    def _judge(self, counts: dict[str, dict[str, int]]) -> list[float]:
        with RawNats(self.nats.url) as raw:
            streams = {name: raw.stream(f"{self.name}-{name}") for name in ("in", "in-fifo", "beside", "parked")}
        queues = {name: self.aws.do(lambda found, name=name: _drained(found, self.urls[name])) for name in QUEUES}  # type: ignore[misc]
        parked = {each.header("Bridge-Parked-Id") or "" for each in streams["parked"]}
        parked |= {str(json.loads(_attribute(each, "bridge.parked"))["id"]) for each in queues["parked"]}
        for route in ("in", "in-fifo"):
            bodies = [each.payload.decode("utf-8", "replace") for each in streams[route]]
            self._good(route, [body for body in bodies if body.startswith("good:")])
            carried = {each.header("Sqs-Message-Id") or "" for each in streams[route]}
            self._hostile(route, carried | parked, counts[route])
        for route in ("out", "out-fifo"):
            self._good(route, [each["Body"] for each in queues[route] if each["Body"].startswith("good:")])
            sent = self.sent[route].hostile
            marks = {re.findall(r"torture-\d+-x", text)[0]: name for name, text in sent.items()}
            seen = {mark for each in queues[route] for mark in re.findall(r"torture-\d+-x", _whole(each))}
            self._hostile(route, {marks[mark] for mark in seen if mark in marks} | parked, counts[route])
        assert sorted(each.payload.decode() for each in streams["beside"]) == sorted(self.beside), "the route beside"
        return [_wait(each) for each in streams["beside"]]

    def _good(self, route: str, bodies: Sequence[str]) -> None:
        assert sorted(bodies) == sorted(self.sent[route].good), (
            f"{route}: {len(bodies)} good messages came out, {len(set(bodies))} of them different, "
            f"and {len(self.sent[route].good)} went in"
        )
        if route.endswith("fifo"):
            for group in range(GROUPS):
                numbers = [int(body.split(":")[2]) for body in bodies if body.startswith(f"good:{group}:")]
                assert numbers == sorted(numbers), f"{route}: group {group} came out as {numbers}"

    def _hostile(self, route: str, found: set[str], counts: dict[str, int]) -> None:
        """Each is somewhere, or is one of those the route counted as left out."""
        missing = {name: text for name, text in self.sent[route].hostile.items() if name not in found}
        told = sum(counts.get(outcome, 0) for outcome in LEFT_OUT)
        assert len(missing) <= told, (
            f"{route}: {len(missing)} vanished, {told} are told of: {list(missing.items())[:3]}"
        )


QUEUES = ("out", "out-fifo", "parked")

Entry = tuple[str | None, dict[str, Any]]
"""The body of a good one, and the entry."""


def _batches(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """In order; one with a system attribute goes alone."""
    batch: list[Entry] = []
    for each in entries:
        if "MessageSystemAttributes" in each[1]:
            yield from ([batch] if batch else [])
            yield [each]
            batch = []
            continue
        batch.append(each)
        if len(batch) == 10:
            yield batch
            batch = []
    if batch:
        yield batch


def hostile_entry(rng: random.Random) -> dict[str, Any]:
    """Something anyone can send to a queue: AWS takes it, whatever it says."""
    while True:
        message = inputs.sqs_message(rng)
        body = message.body.replace(inputs.UUID, f"{rng.getrandbits(128):032x}")
        entry: dict[str, Any] = {"MessageBody": body}
        attributes: dict[str, Any] = {}
        for name, (kind, value) in list(message.attributes.items())[:10]:
            field = "BinaryValue" if isinstance(value, bytes) else "StringValue"
            one = {name: {"DataType": kind, field: value}}
            if _legal({**entry, "MessageBody": "x", "MessageAttributes": one}):
                attributes |= one
        if attributes:
            entry["MessageAttributes"] = attributes
        if trace := message.system.get("AWSTraceHeader"):
            system = {"AWSTraceHeader": {"DataType": "String", "StringValue": trace}}
            if _legal({"MessageBody": "x", "MessageSystemAttributes": system}):
                entry["MessageSystemAttributes"] = system
        if _legal(entry) and total(message) < LARGEST and not body.startswith("good:"):
            return entry


def _legal(entry: dict[str, Any]) -> bool:
    try:
        entry_legal(entry, fifo=False, limit=LARGEST)
    except (Violation, AssertionError):
        return False
    return True


def hostile_message(
    rng: random.Random, subject: str, mark: str, given: inputs.Stored | None = None
) -> tuple[bytes, bytes, bytes]:
    """Something anyone can publish on a subject of the stream, the given one if it is: subject, block and payload.
    `mark` is in its headers."""
    while True:
        kept, given = given or inputs.stored(rng), None
        headers = tuple(
            (name, value)
            for name, value in kept.headers
            if not name.lower().startswith(ACTED_ON) and b"\r\n" not in name + value
        )
        kept = kept._replace(headers=(*headers, (b"Torture", mark.encode())), first=b"NATS/1.0\r\n", last=b"\r\n")
        place = subject.encode() + kept.subject.removeprefix(b"orders")
        if len(kept.block) + len(kept.payload) < LARGEST and deliverable(kept._replace(subject=place)):
            return place, kept.block, kept.payload


ACTED_ON = (
    b"nats-rollup",
    b"nats-expected",
    b"nats-ttl",
    b"nats-schedule",
    b"nats-batch",
    b"nats-incr",
    b"nats-msg-id",
)
"""What nats-server itself acts on when a producer publishes it: that is between the two."""


async def _drained(found: World, url: str) -> list[dict[str, Any]]:
    taken: list[dict[str, Any]] = []
    while True:
        answer = await found.sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], MessageSystemAttributeNames=["All"]
        )
        if not (messages := answer.get("Messages")):
            return taken
        taken += messages
        entries = [{"Id": str(n), "ReceiptHandle": each["ReceiptHandle"]} for n, each in enumerate(messages)]
        await found.sqs.delete_message_batch(QueueUrl=url, Entries=entries)


def _attribute(message: dict[str, Any], name: str) -> str:
    return str(message.get("MessageAttributes", {}).get(name, {}).get("StringValue", "{}"))


def _whole(message: dict[str, Any]) -> str:
    """All text of a message, base64 read."""
    texts = [message["Body"]]
    for name, each in message.get("MessageAttributes", {}).items():
        texts += [name, str(each.get("StringValue", ""))]
    with suppress(ValueError):
        texts.append(base64.b64decode(message["Body"], validate=True).decode("utf-8", "replace"))
    return "\n".join(texts)


def _wait(kept: Kept) -> float:
    return kept.at - int(kept.header("Sqs-Sent-Timestamp") or 0) / 1000
