"""JetStream as a source (a durable pull consumer) and as a destination (publish with awaited PubAcks).

May not: create or change a stream or consumer, log, or decide what to do after a failure.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nats import errors as nats_errors

from bridge.core.errors import BridgeError, Failed, LeaseLost, NotUsable, Refused, Unavailable
from bridge.core.mapping.sizes import jetstream_bytes
from bridge.core.models import JetStreamMessage, JetStreamOut, Out
from bridge.core.route import Ack, Backlog, Delivery, Receipt, Retry, Settlement
from bridge.legs.nats import Headers, NatsConnection

POLL_SECONDS = 5.0  # how long one pull waits for a first message; also the longest a drain waits for a pull
ACK_SECONDS = 2.0  # how long one awaited ack may take before it is sent again
PUBLISH_SECONDS = 5.0  # how long a PubAck may take before the message is published again under the same id
HEADER_LIMIT = 65_535  # JetStream's own limit on a header block (err_code 10097); core NATS has none
LINE_LIMIT = 4_000  # the server cuts the connection at a control line of 4,096 bytes: subject, reply and two sizes


@dataclass(frozen=True, slots=True)
class Consumer:
    """What the source must know of its consumer. `ack_wait` is in seconds."""

    stream: str
    name: str
    ack_wait: float
    max_batch: int
    filters: tuple[str, ...]


async def open_consumer(nats: NatsConnection, stream: str, name: str, filters: Sequence[str] | None = None) -> Consumer:
    """Reads the consumer and sees that it can serve a route. Raises NotUsable with the command that would mend it."""
    wanted = f" --filter {','.join(filters)}" if filters else ""
    create = (
        f"nats consumer add {stream} {name} --pull --ack explicit --deliver all --wait 60s --max-pending 5000{wanted}"
    )
    await nats.api(f"STREAM.INFO.{stream}", missing=f"nats stream add {stream}")
    info = await nats.api(f"CONSUMER.INFO.{stream}.{name}", missing=create)
    config = info["config"]
    found = tuple(config.get("filter_subjects") or filter(None, [config.get("filter_subject", "")]))
    if config.get("deliver_subject"):
        raise NotUsable(f"consumer {name} of {stream} is a push consumer; a route needs a pull consumer", hint=create)
    if config.get("ack_policy") != "explicit":
        raise NotUsable(f"consumer {name} of {stream} has ack policy {config.get('ack_policy')}", hint=create)
    if filters is not None and set(found) != set(filters):
        raise NotUsable(
            f"consumer {name} of {stream} filters {', '.join(found) or 'nothing'}; the route says {', '.join(filters)}",
            hint=f"nats consumer edit {stream} {name}{wanted}, or change filter_subjects",
        )
    # With a backoff list its steps replace ack_wait; the shortest one is what a lease can count on.
    waits = [*config.get("backoff", []), config.get("ack_wait", 30 * 10**9)]
    return Consumer(stream, name, min(waits) / 1e9, config.get("max_batch") or 10_000, found)


@dataclass(slots=True, eq=False)
class _Loan:
    """One message on loan. `reply` is the newest ack subject; `until` is loop time."""

    reply: str
    until: float
    sequence: int
    tended: bool = True


class _Pull:
    """One inbox for one pull at a time. A delivered message carries its own subject, not the inbox's, so pulls that
    run side by side each need their own subscription."""

    def __init__(self, inbox: str, generation: int) -> None:
        self.inbox = inbox
        self.generation = generation
        self.queue: asyncio.Queue[Any] = asyncio.Queue()
        self._serial = itertools.count()

    def next_reply(self) -> str:
        """A fresh reply subject, so that the late status of an earlier pull is known as such."""
        return f"{self.inbox}.{next(self._serial):x}"


class JetStreamSource:
    """A Source over a durable pull consumer. Source: ADR-13 (pull), ADR-15 (ack subjects)."""

    def __init__(self, nats: NatsConnection, consumer: Consumer, *, batch: int = 200) -> None:
        self.consumer = consumer
        self.batch = min(batch, consumer.max_batch)
        self._nats = nats
        self._loans: dict[int, _Loan] = {}
        self._idle: list[_Pull] = []

    async def receive(self, limit: int) -> Sequence[Delivery]:
        """What is there now, or what comes first within POLL_SECONDS. Raises Unavailable, NotUsable."""
        client = await self._nats.live()
        # The subscriptions of a client that closed for good died with it.
        self._idle = [pull for pull in self._idle if pull.generation == self._nats.generation]
        pull = self._idle.pop() if self._idle else await self._new_pull(client)
        try:
            return await self._pull(client, pull, min(limit, self.batch))
        except (nats_errors.Error, OSError) as error:
            raise Unavailable(f"pull on {self.consumer.name}: {error or type(error).__name__}") from error
        finally:
            self._idle.append(pull)

    async def _new_pull(self, client: Any) -> _Pull:
        pull = _Pull(client.new_inbox(), self._nats.generation)

        async def arrived(message: Any) -> None:
            if delivery := self._lend(message):
                pull.queue.put_nowait(delivery)
            elif not message.reply:
                pull.queue.put_nowait(message)

        await client.subscribe(f"{pull.inbox}.*", cb=arrived)
        return pull

    async def _pull(self, client: Any, pull: _Pull, limit: int) -> list[Delivery]:
        reply = pull.next_reply()
        brought: list[Delivery] = []
        # Messages of an earlier pull that came after its end are on loan already: they go first.
        while len(brought) < limit and not pull.queue.empty():
            late = pull.queue.get_nowait()
            if isinstance(late, Delivery):
                brought.append(late)
        if brought:
            return brought
        # no_wait with expires: hands over what is there and says so, or lingers until something is.
        request = {"batch": limit, "expires": int(POLL_SECONDS * 1e9), "no_wait": True}
        subject = f"CONSUMER.MSG.NEXT.{self.consumer.stream}.{self.consumer.name}"
        domain = self._nats.options.domain
        subject = f"$JS.{domain}.API.{subject}" if domain else f"$JS.API.{subject}"
        await client.publish(subject, json.dumps(request).encode(), reply=reply)
        try:
            async with asyncio.timeout(POLL_SECONDS + 1.0):  # no status comes from a server that went away
                while len(brought) < limit:
                    item = await pull.queue.get()
                    if isinstance(item, Delivery):
                        brought.append(item)
                    elif item.subject == reply:
                        await self._ended(item.headers or {}, brought)
                        break
        except TimeoutError:
            if denied := self._nats.denied(subject):
                raise NotUsable(denied, hint=f"allow this user to publish {subject}") from None
        return brought

    async def _ended(self, status: Mapping[str, str], brought: Sequence[Delivery]) -> None:
        """The pull ended with `status`. Ordinary ends return; others raise, unless messages came first."""
        code, text = status.get("Status", ""), status.get("Description", "")
        if brought or code in ("404", "408"):
            return
        where = f"consumer {self.consumer.name} of {self.consumer.stream}"
        if code == "503" or "deleted" in text.lower():
            # Nobody answers for the consumer: it is gone, or has no leader just now. INFO tells which.
            await open_consumer(self._nats, self.consumer.stream, self.consumer.name, self.consumer.filters or None)
            raise Unavailable(f"{where} does not answer: {code} {text}".rstrip())
        if code == "409" and "maxwaiting" not in text.replace(" ", "").lower():
            raise NotUsable(f"{where} refuses the pull: {text}")
        if code in ("400", "423"):
            raise NotUsable(f"{where} refuses the pull: {code} {text}", hint="is it a consumer with priority groups?")
        raise Unavailable(f"{where}: {code} {text}")

    def _lend(self, message: Any) -> Delivery | None:
        """A delivery for a new message; None for a status, and for one we still hold: its new ack subject is kept."""
        meta = parse_ack_subject(message.reply) if message.reply else None
        if meta is None:
            return None
        until = asyncio.get_running_loop().time() + self.consumer.ack_wait
        if loan := self._loans.get(meta.sequence):
            loan.reply, loan.until = message.reply, until
            return None
        loan = self._loans[meta.sequence] = _Loan(message.reply, until, meta.sequence)
        headers = message.headers
        pairs = headers.pairs if isinstance(headers, Headers) else tuple((headers or {}).items())
        body = JetStreamMessage(
            subject=message.subject,
            payload=message.data,
            stream=meta.stream,
            sequence=meta.sequence,
            timestamp=meta.timestamp,
            delivered=meta.delivered,
            headers=pairs,
        )
        name = f"{meta.stream}:{meta.sequence}"
        return Delivery(body, name, meta.delivered, meta.timestamp, time.monotonic(), loan)

    async def settle(self, settled: Sequence[Settlement]) -> Sequence[BridgeError | None]:
        return await self._settle(settled, repeat=True)

    async def _settle(self, settled: Sequence[Settlement], *, repeat: bool) -> list[BridgeError | None]:
        loans: list[_Loan] = []
        words: list[bytes] = []
        for settlement in settled:
            assert isinstance(settlement.delivery.token, _Loan)
            loans.append(settlement.delivery.token)
            match settlement.outcome:
                case Ack():
                    words.append(b"+ACK")
                case Retry(after):
                    words.append(_nak(after))
        for loan in loans:
            loan.tended = False  # a +WPI behind a -NAK would undo its delay
        answers = await self._tell(loans, words, repeat=repeat)
        for loan in loans:
            self._loans.pop(loan.sequence, None)
        return answers

    async def _tell(self, loans: Sequence[_Loan], words: Sequence[bytes], *, repeat: bool) -> list[BridgeError | None]:
        """Awaited acks, repeated while the lease lives: an ack that is not answered may never have arrived."""
        loop = asyncio.get_running_loop()
        answers: list[BridgeError | None] = [Unavailable("the ack was not answered")] * len(loans)
        todo = list(range(len(loans)))
        while todo:
            try:
                replies = await self._nats.replies.ask([(loans[i].reply, words[i], None) for i in todo], ACK_SECONDS)
            except BridgeError as error:
                for i in todo:
                    answers[i] = error
                if repeat:
                    await asyncio.sleep(0.2)
            else:
                for i, reply in zip(todo, replies, strict=True):
                    if reply is None:
                        answers[i] = Unavailable(f"no answer to an ack within {ACK_SECONDS:g} s")
                    elif (reply.headers or {}).get("Status") == "503":
                        answers[i] = LeaseLost(f"consumer {self.consumer.name} is gone or has no leader")
                    else:
                        answers[i] = None
            todo = [i for i in todo if repeat and answers[i] is not None and loans[i].until > loop.time()]
        return answers

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        # Ordinary NAKs: JetStream counts them as deliveries. It has no way to hand a message back uncounted.
        # Not repeated: we may be on our way out, and what is not heard comes back with the ack wait.
        await self._settle([Settlement(delivery, Retry(0)) for delivery in deliveries], repeat=False)

    async def tend(self) -> None:
        """+WPI restarts the whole ack wait; sent at a third of it, one may get lost."""
        loop = asyncio.get_running_loop()
        third = self.consumer.ack_wait / 3
        while True:
            await asyncio.sleep(third / 2)
            due = [loan for loan in self._loans.values() if loan.tended and loan.until - loop.time() < 2 * third]
            if not due:
                continue
            try:
                client = await self._nats.live()
                for loan in due:
                    await client.publish(loan.reply, b"+WPI")
                    loan.until = loop.time() + self.consumer.ack_wait
            except (BridgeError, nats_errors.Error, OSError):
                continue  # the connection is down; what expires meanwhile is lent again and recognised by its sequence

    async def backlog(self) -> Backlog:
        info = await self._nats.api(f"CONSUMER.INFO.{self.consumer.stream}.{self.consumer.name}")
        return Backlog(pending=int(info.get("num_pending", 0)), in_flight=int(info.get("num_ack_pending", 0)))


async def open_destination(nats: NatsConnection, *, pattern: str, stream: str | None) -> JetStreamDestination:
    """Sees that what `pattern` (`*` for what a template fills in) publishes would be kept. Raises NotUsable."""
    name = stream or pattern.replace("*", "").strip(".").split(".")[0].upper() or "ORDERS"
    create = f'nats stream add {name} --subjects "{pattern}"'
    names = (await nats.api("STREAM.NAMES", {"subject": pattern})).get("streams") or []
    if stream is not None:
        await nats.api(f"STREAM.INFO.{stream}", missing=create)
        if stream not in names:
            raise NotUsable(
                f"stream {stream} captures nothing of {pattern}",
                hint=f"nats stream edit {stream} --subjects …",
            )
    if not names:
        raise NotUsable(f"no stream captures {pattern}", hint=create)
    for each in [stream] if stream else names:
        info = await nats.api(f"STREAM.INFO.{each}")
        if info["config"].get("retention") == "interest" and not info["state"].get("consumer_count"):
            # The server answers such a publish with a good PubAck and keeps nothing.
            raise NotUsable(
                f"stream {each} has interest retention and no consumer: it would drop every message",
                hint=f"create its consumers first: nats consumer add {each} …",
            )
    return JetStreamDestination(nats, pattern=pattern, stream=stream)


class JetStreamDestination:
    """A Destination that publishes whole batches and awaits every PubAck. A message is published again under the same
    Nats-Msg-Id, so an answer that got lost costs a duplicate ack, not a duplicate message."""

    def __init__(self, nats: NatsConnection, *, pattern: str, stream: str | None = None) -> None:
        self._nats = nats
        self._pattern = pattern
        self._expected = {"Nats-Expected-Stream": stream} if stream else {}

    async def publish(self, messages: Sequence[Out]) -> Sequence[Receipt | BridgeError]:
        client = await self._nats.live()
        max_payload = int(client.max_payload)
        answers: list[Receipt | BridgeError] = [Failed("not published")] * len(messages)
        requests: list[tuple[str, bytes, Mapping[str, str]]] = []
        places: list[int] = []
        for place, out in enumerate(messages):
            assert isinstance(out, JetStreamOut)
            if error := self._too_large(out, max_payload):
                answers[place] = error
            else:
                requests.append(
                    (out.subject, out.payload, {**out.headers, "Nats-Msg-Id": out.msg_id, **self._expected})
                )
                places.append(place)
        replies = await self._nats.replies.ask(requests, PUBLISH_SECONDS)
        for place, request, reply in zip(places, requests, replies, strict=True):
            answers[place] = self._receipt(request[0], reply)
        if any(isinstance(answer, NotUsable) for answer in answers):
            answers = await self._whose_fault(messages, answers)
        return answers

    def _too_large(self, out: JetStreamOut, max_payload: int) -> Refused | None:
        # Found out by the server, each of these cuts the connection and takes every other message's ack with it.
        block, total = jetstream_bytes(out)
        extra = sum(len(name) + len(value) + 4 for name, value in self._expected.items())
        if total + extra > max_payload:
            return Refused(
                f"{total + extra:,} bytes with headers; the server takes {max_payload:,} (max_payload)",
                hint="raise max_payload in the server's configuration (8MB is safe)",
            )
        if block + extra > HEADER_LIMIT:
            return Refused(f"its headers take {block + extra:,} bytes; JetStream takes {HEADER_LIMIT:,}")
        if len(out.subject.encode()) > LINE_LIMIT - 200:  # the reply subject and the sizes share the line
            return Refused(f"its subject takes {len(out.subject.encode()):,} bytes, too long for the server")
        return None

    def _receipt(self, subject: str, reply: Any | None) -> Receipt | BridgeError:
        if reply is None:
            if denied := self._nats.denied(subject):
                return NotUsable(denied, hint=f"allow this user to publish {subject}")
            return Unavailable(f"no PubAck within {PUBLISH_SECONDS:g} s")
        if (reply.headers or {}).get("Status") == "503":
            return NotUsable(f"no stream captures {subject}")
        try:
            ack = json.loads(reply.data)
            if error := ack.get("error"):
                return publish_error(error)
            return Receipt(f"{ack['stream']}:{ack['seq']}", bool(ack.get("duplicate")))
        except (ValueError, KeyError, AttributeError):
            return Failed(f"what answered the publish to {subject} was no PubAck: does another subscriber reply there?")

    async def _whose_fault(
        self, messages: Sequence[Out], answers: Sequence[Receipt | BridgeError]
    ) -> list[Receipt | BridgeError]:
        """No stream took a subject. Where streams do capture others of the route's subjects, it is this message that is
        wrong, and holding it would stop the rest; where none does, a human must act and every message waits."""
        try:
            known = (await self._nats.api("STREAM.NAMES", {"subject": self._pattern})).get("streams") or []
        except BridgeError:
            return list(answers)  # not to be found out now: they are held, and asked again
        create = f'nats stream add NAME --subjects "{self._pattern}"'
        return [
            answer
            if not isinstance(answer, NotUsable) or "no stream captures" not in answer.args[0]
            else Refused(answer.args[0], hint=f"add it: nats stream edit {known[0]} --subjects …")
            if known and "*" in self._pattern and self._pattern != getattr(out, "subject", None)
            else NotUsable(answer.args[0], hint=create)
            for out, answer in zip(messages, answers, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class _Meta:
    stream: str
    delivered: int
    sequence: int
    timestamp: float


def parse_ack_subject(reply: str) -> _Meta | None:
    """What `$JS.ACK…` says of a delivery, or None. v1 has 9 tokens, v2 adds domain and account hash. Source: ADR-15."""
    tokens = reply.split(".")
    if tokens[:2] != ["$JS", "ACK"]:
        return None
    if len(tokens) >= 11:
        tokens = tokens[:2] + tokens[4:]
    try:
        # The time is that at which the stream stored the message, in nanoseconds.
        return _Meta(tokens[2], int(tokens[4]), int(tokens[5]), int(tokens[7]) / 1e9)
    except (IndexError, ValueError):
        return None


def publish_error(error: Mapping[str, Any]) -> BridgeError:
    """The error of a PubAck as ours, by err_code. Source: nats-server, server/errors.json."""
    number = int(error.get("err_code", 0))
    text = f"{error.get('description', 'refused')} (err_code {number})"
    match number:
        case 10060:
            return Refused(text, hint="another stream captures this subject than destination.stream says")
        case 10054 | 10097:  # message or headers larger than the stream takes
            return Refused(text, hint="raise max_msg_size of the stream, or park it")
        case 10077:  # discard new, and full: the same class as an outage, and nothing is wrong with the message
            return Unavailable(f"the stream is full: {text}")
        case 10047 | 10023 | 10002 | 10118 | 10194 | 10158:  # no room, offline, or the same id is being stored just now
            return Unavailable(text)
        case _:
            return Unavailable(text) if int(error.get("code", 0)) >= 500 else Failed(text)


def _nak(after: float) -> bytes:
    return b'-NAK {"delay": %d}' % int(after * 1e9) if after > 0 else b"-NAK"
