"""Stores, ledgers and recorders in memory, in front of the real destinations. May not: be gentler than real ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bridge.core.errors import BridgeError, Refused
from bridge.core.models import Out
from bridge.core.route import Receipt
from bridge.legs.claims import ClaimChecked, Kept
from tests.fuzz.rules import must


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
    """A store that has one payload under every name, or none."""

    def __init__(self, found: bytes | None) -> None:
        self._found = found
        self.kept: dict[tuple[str, str], bytes] = {}

    async def get(self, bucket: str, key: str, *_: Any, **__: Any) -> bytes:
        _named(bucket, key)
        if self._found is None:
            raise Refused("there is no such payload")
        return self._found

    async def put(self, bucket: str, key: str, payload: bytes) -> None:
        _named(bucket, key)
        must(0 < len(key.encode()) <= 1_024, "length of a key", len(key))  # source: S3 user guide, object keys
        self.kept[bucket, key] = payload


def _named(bucket: str, key: str) -> None:
    for each in (bucket, key):
        must(isinstance(each, str), "name in a store", type(each).__name__)
        must(not any("\ud800" <= character <= "\udfff" for character in each), "name in a store", ascii(each)[:60])


def claim_checked(inner: Any, store: str, found: bytes | None) -> Any:
    """A ClaimChecked in front; `store` where it keeps what is too large, or none."""
    kept = None if store == "none" else Kept(store, "claims", "bridge/")  # type: ignore[arg-type]
    payloads: Any = Payloads(found)
    return ClaimChecked(inner, {"s3": payloads, "object_store": payloads}, kept)


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
