"""Claim checks at work: a destination that fetches what pointers point to, and stores what is too large.

    fetch   the pointer's payload, where the destination takes it; else the pointer goes on as it is
    store   a payload the destination would refuse, and send the pointer; the same message has the same key each time

May not: create a bucket or delete a payload: other readers may hold the same pointer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, assert_never

from nats import errors as nats_errors
from nats.js import errors as js_errors

from bridge.core.errors import BridgeError, Failed, NotUsable, Refused, Unavailable
from bridge.core.mapping.claims import MARKS, mark_of, pointer_to
from bridge.core.mapping.headers import to_headers
from bridge.core.mapping.note import ENCODING, body_of, rebound
from bridge.core.models import Claim, JetStreamOut, Out, SnsOut, SqsOut
from bridge.core.route import Destination, Receipt
from bridge.legs.aws import AwsConnection, aws_error
from bridge.legs.nats import NatsConnection

AT_ONCE = 8  # fetches and stores side by side in one batch: each holds a whole payload in memory
LARGEST = 64 * 2**20  # bytes; a payload beyond it is not touched


Store = Literal["s3", "object_store"]


class Sized(Destination, Protocol):
    def fits(self, out: Out) -> bool:
        """Whether the destination takes a message of this size, as far as it is known now."""
        ...


class Payloads(Protocol):
    """A place for payloads. Raises a BridgeError, never an SDK's."""

    async def get(self, bucket: str, key: str) -> bytes: ...
    async def put(self, bucket: str, key: str, payload: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class Kept:
    """Where a route stores what is too large."""

    store: Store
    bucket: str
    prefix: str


class ClaimChecked:
    """A Destination in front of another. `kept` None: nothing is stored, and what is too large is refused."""

    def __init__(self, inner: Sized, stores: dict[Store, Payloads], kept: Kept | None) -> None:
        self._inner = inner
        self._stores = stores
        self._kept = kept
        self._room = asyncio.Semaphore(AT_ONCE)

    async def publish(self, messages: Sequence[Out]) -> Sequence[Receipt | BridgeError]:
        if self._kept is None:  # what does not fit is refused by the leg
            places = [place for place, out in enumerate(messages) if out.claim is not None]
        else:
            fits = self._inner.fits
            places = [place for place, out in enumerate(messages) if out.claim is not None or not fits(out)]
        if not places:
            return await self._inner.publish(messages)
        outs: list[Out | BridgeError] = list(messages)
        ready = await asyncio.gather(*(self._ready(messages[place]) for place in places))
        for place, out in zip(places, ready, strict=True):
            outs[place] = out
        good = [out for out in outs if not isinstance(out, BridgeError)]
        answers = iter(await self._inner.publish(good) if good else ())
        return [out if isinstance(out, BridgeError) else next(answers) for out in outs]

    async def _ready(self, out: Out) -> Out | BridgeError:
        async with self._room:
            try:
                return await self._stored(out) if out.claim is None else await self._fetched(out, out.claim)
            except BridgeError as error:
                return error

    async def _fetched(self, out: Out, claim: Claim) -> Out:
        whole = _with_payload(out, await self._stores[claim.store].get(claim.bucket, claim.key))
        if self._inner.fits(whole):
            return whole
        # Too large on the other side as well. A pointer into the route's own kind of store serves as it is.
        return out if self._kept is None or self._kept.store == claim.store else await self._stored(whole)

    async def _stored(self, out: Out) -> Out:
        assert self._kept is not None
        match out:
            case JetStreamOut(payload=payload, msg_id=name):
                pass
            case SqsOut(body=text, dedup_id=name) | SnsOut(message=text, dedup_id=name):
                payload = text.encode()
            case _:
                assert_never(out)
        if len(payload) > LARGEST:
            raise Refused(f"{len(payload):,} bytes; a claim check takes {LARGEST:,}")
        claim = Claim(self._kept.store, self._kept.bucket, f"{self._kept.prefix}{name}")
        pointed = _with_pointer(out, claim, len(payload))
        if not self._inner.fits(pointed):
            return out  # it is the attributes that are too large: the refusal has the numbers
        await self._stores[claim.store].put(claim.bucket, claim.key, payload)
        return pointed


def _with_payload(out: Out, payload: bytes) -> Out:
    match out:
        case JetStreamOut():
            marks = {f"{prefix}{mark}" for mark in MARKS for prefix in ("", "Sqs-Attr-", "Sqs-Type-")}
            headers = {name: value for name, value in out.headers.items() if name not in marks}
            return out._replace(payload=payload, headers=headers, claim=None)
        case SqsOut():
            body, marker = body_of(payload)
            kept = {name: each for name, each in out.attributes.items() if name not in (*MARKS, ENCODING)}
            return out._replace(body=body, attributes=rebound({**kept, **marker}, body), claim=None)
        case SnsOut():
            text, marker = body_of(payload)
            kept = {name: each for name, each in out.attributes.items() if name not in (*MARKS, ENCODING)}
            return out._replace(message=text, attributes=rebound({**kept, **marker}, text), claim=None)
        case _:
            assert_never(out)


def _with_pointer(out: Out, claim: Claim, size: int) -> Out:
    match out:
        case JetStreamOut():
            headers = {**out.headers, **to_headers(mark_of(claim, size))}
            return out._replace(payload=pointer_to(claim).encode(), headers=headers)
        case SqsOut():
            pointer = pointer_to(claim)
            return out._replace(body=pointer, attributes=rebound({**out.attributes, **mark_of(claim, size)}, pointer))
        case SnsOut():
            pointer = pointer_to(claim)
            return out._replace(
                message=pointer, attributes=rebound({**out.attributes, **mark_of(claim, size)}, pointer)
            )
        case _:
            assert_never(out)


class S3Payloads:
    def __init__(self, aws: AwsConnection) -> None:
        self._aws = aws

    async def get(self, bucket: str, key: str) -> bytes:
        answer = await self._aws.call("s3", "get_object", about=f"{bucket}/{key}", Bucket=bucket, Key=key)
        async with answer["Body"] as body:
            if int(answer.get("ContentLength", 0)) > LARGEST:
                raise Refused(f"the payload in S3 has {int(answer['ContentLength']):,} bytes; {LARGEST:,} are taken")
            try:
                found: bytes = await body.read()
            except Exception as error:
                raise aws_error(error, f"s3 get_object {bucket}/{key}") from error
        return found

    async def put(self, bucket: str, key: str, payload: bytes) -> None:
        missing = f"aws s3 mb s3://{bucket}"
        await self._aws.call(
            "s3", "put_object", about=f"{bucket}/{key}", missing=missing, Bucket=bucket, Key=key, Body=payload
        )


class ObjectPayloads:
    """Over nats-py's own Object Store, which keeps a digest and checks it. Source: ADR-20."""

    def __init__(self, nats: NatsConnection) -> None:
        self._nats = nats

    async def get(self, bucket: str, key: str) -> bytes:
        store = await self._bucket(bucket)
        try:
            found = await store.get(key)
        except js_errors.ObjectNotFoundError as error:
            raise Refused(f"object store {bucket} has no {key}: its payload is gone") from error
        except (nats_errors.Error, OSError) as error:
            raise Unavailable(f"object store {bucket}: {error or type(error).__name__}") from error
        payload: bytes = found.data
        return payload

    async def put(self, bucket: str, key: str, payload: bytes) -> None:
        store = await self._bucket(bucket)
        try:
            await store.put(key, payload)
        except (nats_errors.Error, OSError) as error:
            raise Unavailable(f"object store {bucket}: {error or type(error).__name__}") from error

    async def _bucket(self, bucket: str) -> Any:
        client = await self._nats.live()
        domain = self._nats.options.domain
        context = client.jetstream(domain=domain) if domain else client.jetstream()
        try:
            return await context.object_store(bucket)
        except js_errors.NotFoundError as error:
            raise NotUsable(f"there is no object store {bucket}", hint=f"nats object add {bucket}") from error
        except (nats_errors.Error, OSError) as error:
            raise Failed(f"object store {bucket}: {error or type(error).__name__}") from error
