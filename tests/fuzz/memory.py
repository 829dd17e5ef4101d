"""Stores, ledgers and recorders in memory, in front of the real destinations. May not: be gentler than real ones."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from bridge.core.errors import BridgeError, Refused
from bridge.core.mapping.claims import Allowed, Place
from bridge.core.models import Out
from bridge.core.route import Receipt
from bridge.legs.claims import ClaimChecked, Kept, Room
from bridge.legs.payloads import Payload, Store
from tests.fuzz.rules import is_xml, must

BUCKET = "claims"


class Recording:
    """A destination that remembers what it was given last."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.outs: list[Out] = []

    async def publish(self, messages: Sequence[Out]) -> Sequence[Receipt | BridgeError]:
        self.outs += messages
        found: Sequence[Receipt | BridgeError] = await self._inner.publish(messages)
        return found

    def fits(self, out: Out) -> bool:
        return bool(self._inner.fits(out))


class Payloads:
    """A store that has one payload under every name, or none. Only what the route names is asked of it."""

    def __init__(self, found: bytes | None) -> None:
        self._found = found
        self.kept: dict[tuple[str, str], bytes] = {}

    @asynccontextmanager
    async def open(self, bucket: str, key: str) -> AsyncIterator[Payload]:
        _sound(bucket, key)
        found = self._found
        if found is None:
            raise Refused("there is no such payload")

        async def read() -> bytes:
            assert found is not None
            return found

        yield Payload(len(found), read)

    async def put(self, bucket: str, key: str, payload: bytes) -> None:
        _sound(bucket, key)
        self.kept[bucket, key] = payload

    async def see(self, bucket: str, prefix: str) -> None: ...


def _sound(bucket: str, key: str) -> None:
    """Source: S3 user guide, Naming objects."""
    must(bucket == BUCKET, "a place the route does not name", ascii(bucket)[:60])
    must(is_xml(key), "name in a store", ascii(key)[:60])
    must(0 < len(key.encode()) <= 1_024, "length of a key", len(key))
    must(not {".", ".."} & set(key.split("/")), "name in a store", key[:60])


def claim_checked(inner: Any, store: str, found: bytes | None, *, park: bool) -> ClaimChecked:
    """A ClaimChecked in front; `store` where it keeps what is too large, or none; `park`: pointers elsewhere are
    parked."""
    kept = None if store == "none" else Kept("s3" if store == "s3" else "object_store", BUCKET, "bridge/")
    payloads = Payloads(found)
    allowed = Allowed((Place("s3", BUCKET), Place("object_store", BUCKET)), park=park)
    stores: dict[Store, Any] = {"s3": payloads, "object_store": payloads}
    return ClaimChecked(inner, stores, kept, allowed=allowed, room=Room(8 * 2**20))


class Noted:
    """What Ledgered uses of a ledger."""

    def __init__(self, *, writes: bool = True) -> None:
        self.notes: dict[str, str] = {}
        self._writes = writes

    async def known(self, ids: Sequence[str]) -> list[str | None]:
        return [self.notes.get(each) for each in ids]

    async def note(self, carried: Sequence[tuple[str, str]]) -> list[bool]:
        for each, ref in carried:
            must(isinstance(ref, str), "ref", type(ref).__name__)
            if self._writes:
                self.notes[each] = ref
        return [self._writes] * len(carried)
