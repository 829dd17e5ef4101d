"""JetStream as a source: a durable pull consumer.

May not: create or change a stream or consumer, log, or decide what to do after a failure.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from math import inf
from typing import Any

from nats import errors as nats_errors

from bridge.core.errors import BridgeError, NotUsable, Unavailable, Unmappable
from bridge.core.handover import Handover
from bridge.core.models import JetStreamMessage
from bridge.core.route import Ack, Backlog, Delivery, Retry, Settlement
from bridge.core.subjects import covers
from bridge.legs.acks import Acks, nak
from bridge.legs.answers import parse_ack_subject, pin_of
from bridge.legs.backlogs import ConsumerLook
from bridge.legs.consumer import PIN, SHARED, Consumer, open_consumer
from bridge.legs.exhausted import Exhausted
from bridge.legs.nats import NatsConnection
from bridge.legs.pulls import Loan, Pull
from bridge.legs.wire import WireClient, header_pairs_of, status_of

APART_SECONDS = 1.0  # two reads closer together may both see the same pull of ours end
POLL_SECONDS = 5.0  # how long one pull waits for a first message; also the longest a drain waits for a pull
MOST_SUBJECTS = 10_000  # remembered as within the filter
PULL_BYTES = 16_777_216  # of one pull, at most
KEPT = 200  # how many messages a handover holds back before it waits for the missing ones and stops pulling


class JetStreamSource:
    """A Source over a durable pull consumer. Source: ADR-13 (pull), ADR-15 (ack subjects), ADR-42 (pinned clients).

    `ordered`: it delivers in stream order, even when readers die (core/handover.py); then there is one receive at a
    time. `exhausted`: it also delivers what ran out of deliveries, to be parked.
    """

    def __init__(
        self,
        nats: NatsConnection,
        consumer: Consumer,
        *,
        batch: int = 200,
        ordered: bool = False,
        exhausted: bool = False,
    ) -> None:
        self.consumer = consumer
        self.batch = min(batch, consumer.max_batch)
        self.locks_groups = False  # a released message is redelivered behind newer ones of its group
        self._nats = nats
        self._loans: dict[int, Loan] = {}
        self.sure_until = inf
        self._idle: list[Pull] = []
        self._apart = False
        self._handover: Handover[Delivery] | None = Handover() if ordered else None
        self._missing_come = False
        self._settled = 0
        self._pulls = 0
        self._intruded = 0
        self._looked = 0.0
        self._pin = ""
        self._leases_lost = 0
        self._acks = Acks(nats, consumer)
        self._within: set[str] = set()  # subjects known to be within the filter
        self._resubscriptions = 0
        self._look = ConsumerLook(nats, consumer.stream, consumer.name)
        self._exhausted = (
            Exhausted(
                nats,
                consumer.stream,
                consumer.name,
                removes=consumer.removes,
                held=self._loans,
                wait=consumer.longest_wait,
            )
            if exhausted and consumer.max_deliver
            else None
        )

    async def receive(self, limit: int) -> Sequence[Delivery]:
        """What is available now, or the first to arrive within POLL_SECONDS. Raises Unavailable, NotUsable."""
        limit = self._acks.limit(limit)
        if self._exhausted is not None and (found := await self._exhausted.found(limit)):
            return [self._lend_hopeless(message, why) for message, why in found]
        if self._handover is None:
            return await self._receive(limit)
        if self._intruded > 1:
            names = {"name": self.consumer.name, "stream": self.consumer.stream}
            raise NotUsable(SHARED.format(**names), hint=PIN.format(**names))
        return await self._receive_in_order(self._handover, limit)

    async def _receive_in_order(self, handover: Handover[Delivery], limit: int) -> Sequence[Delivery]:
        if not handover.waiting and handover.kept:
            return handover.deliverable(limit)
        # Redeliveries come before new messages: while a pull brings one, the next brings the missing ones. Else it
        # pulls a little, beyond what may be kept: without pulls the pin goes to another reader.
        full = handover.waiting and len(handover.kept) >= KEPT and not self._missing_come
        arrived = await self._receive(1 if full else limit)
        self._missing_come = any(each.attempt > 1 for each in arrived)
        handover.keep((_sequence(each), each) for each in arrived)
        if full and not self._missing_come:
            await asyncio.sleep(0.2)
        if handover.waiting and handover.kept:
            before = self._settled
            held = sum(loan.tended and not loan.lapsed for loan in self._loans.values())
            info = await self._nats.api(f"CONSUMER.INFO.{self.consumer.stream}.{self.consumer.name}")
            # What was settled meanwhile may already be missing from the server's count.
            handover.counted(
                pending=info.number("num_ack_pending", 0),
                held=held - (self._settled - before),
                delivered=info.part("delivered").number("stream_seq", 0),
            )
        return handover.deliverable(limit)

    async def _receive(self, limit: int) -> list[Delivery]:
        client = await self._nats.live()
        pull = next((each for each in self._idle if each.client is client), None)
        if pull is not None:
            self._idle.remove(pull)
        else:
            pull = await self._new_pull(client)
        # The subscriptions of a client that closed for good ended with it. What they delivered late is in flight
        # and its ack wait is extended: left behind, it would never be carried.
        for gone in [each for each in self._idle if each.client is not client]:
            self._idle.remove(gone)
            pull.arrived += gone.arrived
        self._pulls += 1
        resubscriptions = self._resubscriptions
        try:
            return await self._pull(client, pull, min(limit, self.batch))
        except (nats_errors.Error, OSError) as error:
            raise Unavailable(f"pull on {self.consumer.name}: {error or type(error).__name__}") from error
        finally:
            self._pulls -= 1
            if resubscriptions == self._resubscriptions:
                self._idle.append(pull)
            else:
                await self._leave(pull)

    async def _new_pull(self, client: WireClient) -> Pull:
        pull = Pull(client.new_inbox(), client)
        clock = asyncio.get_running_loop().time
        inside = f"{pull.inbox}."

        def arrived(subject: str, reply: str, block: bytes, payload: bytes) -> None:
            # A message from the stream has its own subject and an ack subject of our consumer. One that a client
            # publishes to the inbox has the inbox's subject.
            if subject.startswith(inside):
                if not reply and block:
                    pull.ended(subject, *status_of(block))
            elif delivery := self._deliver(subject, reply, block, payload, clock()):
                pull.brought(delivery)

        pull.number = await client.listen(f"{inside}*", arrived)
        return pull

    async def _pull(self, client: WireClient, pull: Pull, limit: int) -> list[Delivery]:
        # Messages of an earlier pull that came after its end are in flight already: they go first.
        if late := pull.take(limit):
            return late
        reply, ended = pull.begin(limit)
        # no_wait with expires: delivers what is there and ends, or waits until something is.
        poll = min(POLL_SECONDS, self.consumer.longest_pull)
        request: dict[str, Any] = {"batch": limit, "expires": int(poll * 1e9), "no_wait": True}
        # The server cuts a connection that does not take 64 MiB in time. The largest message must fit.
        most = max(PULL_BYTES, 2 * self._nats.max_payload)
        request["max_bytes"] = min(most, self.consumer.max_bytes) if self.consumer.max_bytes else most
        if self.consumer.group is not None:
            request |= {"group": self.consumer.group, **({"id": self._pin} if self._pin else {})}
        subject = self._nats.api_subject(f"CONSUMER.MSG.NEXT.{self.consumer.stream}.{self.consumer.name}")
        client.pulls.add(ended)
        await client.publish(subject, json.dumps(request).encode(), reply=reply)
        try:
            async with asyncio.timeout(poll + 1.0):  # a server that is gone sends no status
                code, text = await ended
        except TimeoutError:
            if denied := self._nats.denied(subject):
                raise NotUsable(denied, hint=f"allow this user to publish {subject}") from None
            return pull.take(limit)
        finally:
            client.pulls.discard(ended)
        brought = pull.take(limit)
        if not brought and code:
            await self._ended(code, text)
        return brought

    async def _ended(self, code: str, text: str) -> None:
        """The pull delivered nothing and ended with a status. Ordinary ends return; others raise."""
        if code in ("404", "408"):
            return
        # It was answered in full, with what is in flight here already, or is not to be carried.
        said = text.lower()
        if "batch completed" in said or ("exceeds maxbytes" in said and not self.consumer.max_bytes):
            return
        where = f"consumer {self.consumer.name} of {self.consumer.stream}"
        if code == "423" and self.consumer.group is not None:
            await self._lost_pin()
            return
        if code == "503" or "deleted" in text.lower():
            # No responder for the consumer: it is gone, or has no leader just now. INFO shows which.
            await open_consumer(self._nats, self.consumer.stream, self.consumer.name, self.consumer.filters or None)
            raise Unavailable(f"{where} does not answer: {code} {text}".rstrip())
        if code == "409" and "maxwaiting" not in text.replace(" ", "").lower():
            raise NotUsable(f"{where} refuses the pull: {text}")
        if code in ("400", "423"):
            raise NotUsable(f"{where} refuses the pull: {code} {text}", hint="is it a consumer with priority groups?")
        raise Unavailable(f"{where}: {code} {text}")

    async def _lost_pin(self) -> None:
        """Another reader has the pin. Messages being carried are finished while their ack waits last; those held back
        are left to it."""
        self._pin = ""  # without it, the next pull waits for its turn
        for loan in self._loans.values():
            loan.lapsed = True
        await self._give_back_kept()

    async def _give_back_kept(self) -> None:
        if self._handover is not None and self._handover.kept:
            kept = [self._handover.kept.pop(sequence) for sequence in sorted(self._handover.kept)]
            with suppress(BridgeError):
                await self.release(kept)

    def _deliver(self, subject: str, reply: str, block: bytes, payload: bytes, now: float) -> Delivery | None:
        """A delivery for a new message; None for one we still hold, whose new ack subject is stored, and for what our
        consumer did not deliver. A message that cannot be read is delivered to be parked: dropped, it would be
        redelivered again and again."""
        meta = parse_ack_subject(reply)
        if meta is None:
            return None
        stream, name, delivered, sequence, consumer_sequence, timestamp = meta
        consumer = self.consumer
        if name != consumer.name or stream != consumer.stream:
            return None
        if self._handover is not None:
            self._handover.numbered(consumer_sequence)
        until = now + consumer.ack_wait
        if until < self.sure_until:
            self.sure_until = until
        if subject not in self._within and not self._covered(subject):
            return None  # it stays unacknowledged; the route opens again and judges the new filter
        if loan := self._loans.get(sequence):
            if loan.stored == timestamp:
                loan.reply, loan.until, loan.lapsed = reply, until, False
                return None
            loan.stale = True  # an ack of the old message would acknowledge this one
            self.sure_until = 0.0
        loan = self._loans[sequence] = Loan(reply, until, sequence, stored=timestamp)
        hopeless: BridgeError | None = None
        size = 512 + len(block) + len(payload)
        try:
            if block and consumer.pinned:
                self._pin, block = pin_of(block)
            pairs = header_pairs_of(block) if block else ()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is about this message
            pairs, hopeless = (), Unmappable("headers", f"they cannot be read: {type(error).__name__}")
        return Delivery(
            JetStreamMessage(subject, payload, stream, sequence, timestamp, delivered, pairs),
            f"{stream}:{sequence}",
            delivered,
            timestamp,
            time.monotonic(),
            loan,
            delivered == consumer.max_deliver,
            hopeless,
            size,
        )

    def _covered(self, subject: str) -> bool:
        """Whether the consumer's filter, as it was when the route opened, covers a subject. It may be widened while we
        read, to messages that must not reach the other side."""
        if self.consumer.filters and not any(covers(each, subject) for each in self.consumer.filters):
            return False
        if len(self._within) >= MOST_SUBJECTS:
            self._within.clear()
        self._within.add(subject)
        return True

    def _lend_hopeless(self, message: JetStreamMessage, why: BridgeError) -> Delivery:
        loan = Loan("", float("inf"), message.sequence, tended=False)
        name = f"{message.stream}:{message.sequence}"
        delivered, stored, now = message.delivered, message.timestamp, time.monotonic()
        return Delivery(message, name, delivered, stored, now, loan, last=True, hopeless=why, size=message.size)

    async def settle(self, settled: Sequence[Settlement]) -> Sequence[BridgeError | None]:
        if self._exhausted is None:
            return await self._settle(settled, repeat=True)
        answers = iter(await self._settle([each for each in settled if not _gone(each.delivery)], repeat=True))
        return [await self._settle_gone(each) if _gone(each.delivery) else next(answers) for each in settled]

    async def _settle_gone(self, settled: Settlement) -> BridgeError | None:
        assert self._exhausted is not None
        return await self._exhausted.settle(_sequence(settled.delivery), parked=isinstance(settled.outcome, Ack))

    async def _settle(self, settled: Sequence[Settlement], *, repeat: bool) -> list[BridgeError | None]:
        loans: list[Loan] = []
        words: list[bytes] = []
        for delivery, outcome in settled:
            loan = delivery.token
            assert isinstance(loan, Loan)
            loans.append(loan)
            words.append(nak(outcome.after) if isinstance(outcome, Retry) else b"+ACK")
            self._settled += loan.tended
            loan.tended = False  # a +WPI after a -NAK would undo its delay
        answers = await self._acks.tell(loans, words, repeat=repeat)
        kept = self._loans
        for loan in loans:
            if not loan.stale:
                kept.pop(loan.sequence, None)
        return answers

    def _forget(self, loan: object) -> None:
        assert isinstance(loan, Loan)
        if self._loans.get(loan.sequence) is loan:
            del self._loans[loan.sequence]

    def lapsed(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        gone = _over(deliveries)
        self._leases_lost += len(gone)
        now = asyncio.get_running_loop().time()
        self.sure_until = min([loan.until for loan in self._loans.values() if loan.until > now], default=inf)
        return gone

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        # Ordinary NAKs: JetStream counts them as deliveries. It has no way to hand a message back uncounted.
        # Not repeated: we may be shutting down, and a lost NAK only delays redelivery until the ack wait is over.
        back = [Settlement(delivery, Retry(0)) for delivery in deliveries]
        held = [each for each in back if not _gone(each.delivery)]
        over = {id(each) for each in _over([each.delivery for each in held])}
        await self._settle([each for each in held if id(each.delivery) not in over], repeat=False)
        for delivery in deliveries:
            if id(delivery) in over:
                self._forget(delivery.token)  # a NAK would take it from the reader that has it by now
        for each in back:
            if _gone(each.delivery):
                await self._settle_gone(each)

    async def tend(self) -> None:
        try:
            await self._tend()
        finally:
            await self._give_back_kept()

    async def _tend(self) -> None:
        """+WPI restarts the whole ack wait; sent every third of it, so that one may get lost."""
        loop = asyncio.get_running_loop()
        third = self.consumer.ack_wait / 3
        while True:
            await asyncio.sleep(third / 2)
            due = [
                loan
                for loan in self._loans.values()
                if loan.tended and not loan.lapsed and 0 < loan.until - loop.time() < 2 * third
            ]
            if not due:
                continue
            try:
                client = await self._nats.live()
                for loan in due:
                    await client.publish(loan.reply, b"+WPI")
                    loan.until = loop.time() + self.consumer.ack_wait
            except (BridgeError, nats_errors.Error, OSError):
                continue  # the connection is down; what expires meanwhile is redelivered and recognised by its sequence

    async def backlog(self) -> Backlog:
        backlog = await self._look.backlog()
        now = asyncio.get_running_loop().time()
        if not self.consumer.pinned and now - self._looked >= APART_SECONDS:
            # Seen twice in a row, it is not a pull of ours that has just ended.
            self._looked = now
            self._intruded = self._intruded + 1 if (backlog.readers or 0) > self._pulls else 0
        return replace(backlog, leases_lost=self._leases_lost)

    async def resubscribe(self) -> None:
        """Resubscribes from the next pull on. The subscriptions of pulls under way may have stalled: they are not used
        again. If that does not help, it opens its own connection: the shared one serves other routes."""
        self._resubscriptions += 1
        await self._leave_idle()
        if self._resubscriptions > 1:
            left, self._nats = self._nats, self._nats.apart()
            self._acks.nats = self._nats
            if self._apart:
                await left.close()
            self._apart = True

    async def close(self) -> None:
        """Ends its subscriptions, and its own connection where it has one."""
        self._resubscriptions += 1  # a pull under way ends its own subscription
        await self._leave_idle()
        if self._exhausted is not None:
            await self._exhausted.close()
        if self._apart:
            await self._nats.close()

    async def _leave_idle(self) -> None:
        idle, self._idle = self._idle, []
        for pull in idle:
            await self._leave(pull)

    async def _leave(self, pull: Pull) -> None:
        await pull.client.leave(pull.number)
        if left := pull.take(len(pull.arrived)):  # came after their pull had ended; no receive returned them
            with suppress(BridgeError):
                await self.release(left)


def _over(deliveries: Sequence[Delivery]) -> list[Delivery]:
    """Those whose ack wait is over, or whose stream was created again."""
    now = asyncio.get_running_loop().time()
    return [each for each in deliveries if each.token.until <= now or each.token.stale]  # type: ignore[attr-defined]


def _sequence(delivery: Delivery) -> int:
    assert isinstance(delivery.message, JetStreamMessage)
    return delivery.message.sequence


def _gone(delivery: Delivery) -> bool:
    """Whether it ran out of deliveries, so that there is nothing to acknowledge."""
    assert isinstance(delivery.token, Loan)
    return not delivery.token.reply
