"""Messages that ran out of deliveries at a consumer of ours. JetStream stops delivering them and leaves them in the
stream, where no consumer's count shows them; here they are found again, to be parked.

While we run, the server's advisory names each. On a work queue they are also looked for now and then: when nothing is
pending, whatever was delivered and is still there is one. May not: touch a message before it is parked.
Source: nats-server, MAX_DELIVERIES advisory; ADR-31 (direct and by-sequence gets).
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from bridge.core.errors import BridgeError, NotUsable, Refused, Unavailable
from bridge.core.models import JetStreamMessage
from bridge.legs.nats import Headers, NatsConnection

NOT_FOUND = 10037  # err_code: no message at this sequence
AGAIN_SECONDS = 30.0
LOOK_SECONDS = 60.0  # between two looks through a work queue for what no advisory told us of


class Exhausted:
    """`found` what ran out, `settle` what became of it. `removes`: the stream is a work queue, and would have forgotten
    the message had it been acknowledged. `held`: whether a sequence is on loan, for then it may still be carried."""

    def __init__(
        self, nats: NatsConnection, stream: str, consumer: str, *, removes: bool, held: Callable[[int], bool]
    ) -> None:
        self._nats = nats
        self._stream = stream
        self._consumer = consumer
        self._removes = removes
        self._held = held
        self._known: dict[int, int] = {}  # sequence -> deliveries, not lent yet
        self._lent: dict[int, int] = {}
        self._generation = 0
        self._again = 0.0
        self._look = 0.0

    async def found(self, limit: int) -> list[tuple[JetStreamMessage, BridgeError]]:
        """Up to `limit` messages and why each is hopeless. Never raises: what cannot be read now is tried again."""
        now = asyncio.get_running_loop().time()
        if now < self._again:
            return []
        found: list[tuple[JetStreamMessage, BridgeError]] = []
        try:
            await self._listen()
            if self._removes and now >= self._look:
                await self._look_behind()
            for sequence in list(self._known)[:limit]:
                if self._held(sequence):
                    del self._known[sequence]
                    continue
                deliveries = self._known[sequence]
                message = await self._message(sequence, deliveries)
                del self._known[sequence]
                if message is not None:
                    self._lent[sequence] = deliveries
                    times = f"{deliveries} times" if deliveries else "as often as its consumer allows"
                    found.append((message, Refused(f"delivered {times}, and never acknowledged")))
        except BridgeError as error:
            self._again = now + AGAIN_SECONDS
            self._nats.report(f"messages that ran out of deliveries cannot be parked: {error}")
        return found

    async def settle(self, sequence: int, *, parked: bool) -> BridgeError | None:
        """What could not be parked is found again later."""
        deliveries = self._lent.pop(sequence, 0)
        if not parked:
            self._known[sequence] = deliveries
            self._again = asyncio.get_running_loop().time() + AGAIN_SECONDS
        elif self._removes:
            try:
                await self._nats.api(f"STREAM.MSG.DELETE.{self._stream}", {"seq": sequence, "no_erase": True})
            except BridgeError as error:
                return error
        return None

    async def _listen(self) -> None:
        client = await self._nats.live()
        if self._generation == self._nats.generation:
            return
        subject = f"$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{self._stream}.{self._consumer}"

        async def heard(message: Any) -> None:
            advisory = json.loads(message.data)
            sequence = int(advisory["stream_seq"])
            if sequence not in self._lent:
                self._known[sequence] = int(advisory.get("deliveries", 0))

        await client.subscribe(subject, cb=heard)
        self._generation = self._nats.generation

    async def _look_behind(self) -> None:
        info = await self._nats.api(f"CONSUMER.INFO.{self._stream}.{self._consumer}")
        # The ack floor does not move past a message that ran out, so it tells nothing. The server gives a message up
        # only when it is pulled for, so right after the start there may still be some pending.
        if info.get("num_ack_pending"):
            self._look = asyncio.get_running_loop().time() + 1.0
            return
        self._look = asyncio.get_running_loop().time() + LOOK_SECONDS
        config, delivered = info["config"], int(info.get("delivered", {}).get("stream_seq", 0))
        for subject in config.get("filter_subjects") or [config.get("filter_subject") or ">"]:
            sequence = 1
            while sequence <= delivered:
                found = await self._get({"seq": sequence, "next_by_subj": subject})
                if found is None or (sequence := int(found["seq"])) > delivered:
                    break
                if sequence not in self._lent:
                    self._known.setdefault(sequence, 0)
                sequence += 1

    async def _message(self, sequence: int, deliveries: int) -> JetStreamMessage | None:
        found = await self._get({"seq": sequence})
        if found is None:
            return None  # gone meanwhile: consumed by somebody else, or too old
        block = base64.b64decode(found.get("hdrs", ""))
        return JetStreamMessage(
            subject=found["subject"],
            payload=base64.b64decode(found.get("data", "")),
            stream=self._stream,
            sequence=sequence,
            timestamp=datetime.fromisoformat(found["time"]).timestamp(),
            delivered=max(1, deliveries),
            headers=Headers.parse(block).pairs if block else (),
        )

    async def _get(self, request: dict[str, Any]) -> dict[str, Any] | None:
        try:
            answer = await self._nats.api(f"STREAM.MSG.GET.{self._stream}", request)
        except (NotUsable, Unavailable):
            raise
        except BridgeError as error:
            if str(NOT_FOUND) in str(error):
                return None
            raise
        message: dict[str, Any] = answer["message"]
        return message
