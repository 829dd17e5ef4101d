"""Claim checks: a destination that fetches the payloads pointers refer to, and stores payloads that are too large.

    fetch   the pointer's payload, if the route allows its bucket and the destination takes its size; else the pointer
            is forwarded as it is
    store   a payload the destination would refuse, and send the pointer; the same message has the same key each time

A payload reserves its bytes in `Room`, one for each route, before it is in memory, and frees them when it is published.
May not: follow a pointer the route does not allow, create a bucket, or delete a payload: other readers may hold the
same pointer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol, assert_never

from bridge.core.errors import BridgeError, Failed, Full, Refused, Unavailable
from bridge.core.mapping.claims import MARKS, Allowed, PointerFormat, key_for, mark_of, pointer_to, shown
from bridge.core.mapping.headers import to_headers
from bridge.core.mapping.note import ENCODING, body_of, rebound
from bridge.core.models import Claim, JetStreamOut, Out, SnsOut, SqsOut
from bridge.core.route import Destination, Receipt
from bridge.legs.payloads import LARGEST, Payloads, Store

AT_ONCE = 8  # concurrent fetches and stores on one route


class Sized(Destination, Protocol):
    def fits(self, out: Out) -> bool:
        """Whether the destination takes a message of this size, as far as it is known now."""
        ...


@dataclass(frozen=True, slots=True)
class Kept:
    """Where a route stores payloads that are too large; `form` is the format of pointers into S3."""

    store: Store
    bucket: str
    prefix: str
    form: PointerFormat = "v2"


class Room:
    """A limit of bytes in memory, granted first come, first served. A request above the whole limit runs alone."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.free = size
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def take(self, size: int) -> AsyncIterator[None]:
        """Waits for so many bytes and holds them until the end of the block. A holder may not ask for more."""
        taken = min(size, self.size)
        if self._waiting or taken > self.free:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append((taken, turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self.free += taken  # granted at the moment of the cancel
                else:
                    self._waiting = deque(each for each in self._waiting if each[1] is not turn)
                self._next()
                raise
        else:
            self.free -= taken
        try:
            yield
        finally:
            self.free += taken
            self._next()

    def _next(self) -> None:
        while self._waiting and self._waiting[0][0] <= self.free:
            taken, turn = self._waiting.popleft()
            if not turn.done():
                self.free -= taken
                turn.set_result(None)


class ClaimChecked:
    """A Destination in front of another. `kept` None: nothing is stored, and what is too large is refused. `allowed`
    are the places pointers may be followed into. What is fetched or stored is published by itself, so that its memory
    is freed as soon as it is durable; messages of one lane are never in one call (core/lanes.py), so order is kept."""

    def __init__(
        self, inner: Sized, stores: dict[Store, Payloads], kept: Kept | None, *, allowed: Allowed, room: Room
    ) -> None:
        self._inner = inner
        self._stores = stores
        self._kept = kept
        self._allowed = allowed
        self._room = room
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def close(self) -> None:
        await self._inner.close()

    async def publish(self, messages: Sequence[Out]) -> Sequence[Receipt | BridgeError]:
        fits, stores = self._inner.fits, self._kept is not None
        places = [place for place, out in enumerate(messages) if out.claim is not None or (stores and not fits(out))]
        if not places:
            return await self._inner.publish(messages)
        answers: list[Receipt | BridgeError] = [Failed("not published")] * len(messages)
        outs, alone, down = list(messages), [], dict[str, BridgeError]()
        for place in places:
            out = messages[place]
            if out.claim is not None and not self._allowed.permits(out.claim):
                if self._allowed.park:
                    answers[place] = _unlisted(out.claim)
                    continue
                outs[place] = out = out._replace(claim=None)
                if not stores or fits(out):
                    continue
            alone.append(place)
        apart = {*alone, *(place for place in places if type(answers[place]) is Refused)}
        together = [place for place in range(len(outs)) if place not in apart]

        async def rest() -> None:
            try:
                found = await self._inner.publish([outs[place] for place in together])
            except BridgeError as error:
                found = [error] * len(together)
            for place, answer in zip(together, found, strict=True):
                answers[place] = answer

        async def one(place: int) -> None:
            async with self._slots:
                answers[place] = await self._one(outs[place], down)

        work = [one(place) for place in alone]
        # All of them end before an unexpected error is raised: none may still publish after the call returned.
        for ended in await asyncio.gather(*([rest()] if together else []), *work, return_exceptions=True):
            if isinstance(ended, BaseException):
                raise ended
        return answers

    async def _one(self, out: Out, down: dict[str, BridgeError]) -> Receipt | BridgeError:
        """`down` holds the stores this call could not reach, so that the others do not wait for the same timeout."""
        store = out.claim.store if out.claim is not None else self._kept.store if self._kept is not None else ""
        if (known := down.get(store) or down.get("destination")) is not None:
            return known
        held, doing = AsyncExitStack(), str(store)
        try:
            ready = await (self._stored(out, held) if out.claim is None else self._fetched(out, out.claim, held))
            doing = "destination"
            (answer,) = await self._inner.publish([ready])
        except BridgeError as error:
            answer = error
            if doing != "destination":
                # A store that is down is an outage, and uses up no receive counts. Other problems with a payload
                # or its bucket concern only the messages that need it.
                answer.outage = isinstance(answer, Unavailable)
                answer.own = not answer.outage
        finally:
            await held.aclose()
        if isinstance(answer, Unavailable) and not isinstance(answer, Full):
            down[doing] = answer
        return answer

    async def _fetched(self, out: Out, claim: Claim, held: AsyncExitStack) -> Out:
        # Too large for the destination too: a pointer into the route's own kind of store is forwarded as it is.
        serves = self._kept is None or self._kept.store == claim.store
        async with self._stores[claim.store].open(claim.bucket, claim.key) as found:
            size = LARGEST if found.size is None else found.size
            if size > LARGEST:
                if serves:
                    return out
                raise Refused(f"the payload has {size:,} bytes; a claim check takes at most {LARGEST:,}")
            await held.enter_async_context(self._room.take(size))
            payload = await found.read()
        whole = _with_payload(out, payload)
        if self._inner.fits(whole):
            return whole
        return out if serves else await self._put(whole)

    async def _stored(self, out: Out, held: AsyncExitStack) -> Out:
        await held.enter_async_context(self._room.take(len(_content(out))))
        return await self._put(out)

    async def _put(self, out: Out) -> Out:
        """Stores the payload, whose bytes are reserved."""
        assert self._kept is not None
        store, bucket, prefix, form = self._kept.store, self._kept.bucket, self._kept.prefix, self._kept.form
        content = _content(out)
        if isinstance(content, str):
            try:
                content = content.encode()
            except UnicodeEncodeError:
                raise Refused("its body has half a surrogate pair and is not valid UTF-8") from None
        if len(content) > LARGEST:
            raise Refused(f"{len(content):,} bytes; a claim check takes at most {LARGEST:,}")
        name = out.msg_id if isinstance(out, JetStreamOut) else out.dedup_id
        claim = Claim(store, bucket, key_for(prefix, name, content))
        pointed = _with_pointer(out, claim, len(content), form)
        if not self._inner.fits(pointed):
            return out  # the attributes are too large: the refusal has the numbers
        await self._stores[store].put(bucket, claim.key, content)
        return pointed


def _unlisted(claim: Claim) -> Refused:
    where = "S3 bucket" if claim.store == "s3" else "Object Store"
    return Refused(
        f"its payload is in {where} {shown((claim.bucket,))} under {shown((claim.key,))}, "
        "which this route may not read",
        hint="if this route should fetch from there, add the bucket or the prefix to source.buckets",
    )


def _content(out: Out) -> str | bytes:
    match out:
        case JetStreamOut(payload=payload):
            return payload
        case SqsOut(body=text) | SnsOut(message=text):
            return text
        case _:
            assert_never(out)


def _with_payload(out: Out, payload: bytes) -> Out:
    match out:
        case JetStreamOut():
            marks = {f"{prefix}{mark}" for mark in MARKS for prefix in ("", "Sqs-Attr-", "Sqs-Type-")}
            headers = {name: value for name, value in out.headers.items() if name not in marks}
            return out._replace(payload=payload, headers=headers, claim=None)
        case SqsOut() | SnsOut():
            body, marker = body_of(payload)
            kept = {name: each for name, each in out.attributes.items() if name not in (*MARKS, ENCODING)}
            attributes = rebound({**kept, **marker}, body)
            if isinstance(out, SqsOut):
                return out._replace(body=body, attributes=attributes, claim=None)
            return out._replace(message=body, attributes=attributes, claim=None)
        case _:
            assert_never(out)


def _with_pointer(out: Out, claim: Claim, size: int, form: PointerFormat) -> Out:
    body, mark = pointer_to(claim, form), mark_of(claim, size, form)
    match out:
        case JetStreamOut():
            return out._replace(payload=body.encode(), headers={**out.headers, **to_headers(mark)}, claim=None)
        case SqsOut():
            return out._replace(body=body, attributes=rebound({**out.attributes, **mark}, body), claim=None)
        case SnsOut():
            return out._replace(message=body, attributes=rebound({**out.attributes, **mark}, body), claim=None)
        case _:
            assert_never(out)
