"""Payloads that cannot be had: whose fault it is, on a stand-in for S3 and a real Object Store."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from bridge.core.errors import BridgeError, NotUsable, Refused, Unavailable
from bridge.embedded import NatsServer
from bridge.legs import payloads
from bridge.legs.aws import AwsConnection
from bridge.legs.nats import NatsConnection, NatsOptions
from bridge.legs.payloads import ABSENT, ObjectPayloads, Payloads, S3Payloads
from tests.legs.stub_s3 import Body, Fault, Stub, stub_s3

DENIED = Fault(403, "AccessDenied")


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world() -> AsyncIterator[tuple[Stub, AwsConnection]]:
    """One for all: a client for S3 takes half a second to make."""
    async with stub_s3() as stub, stub.connection() as aws:
        yield stub, aws


@pytest_asyncio.fixture(loop_scope="module")
async def s3(world: tuple[Stub, AwsConnection]) -> tuple[Stub, S3Payloads]:
    stub, aws = world
    stub.objects, stub.asked, stub.otherwise = {"b/good": b"good"}, [], lambda _: Fault(404, "NoSuchKey")
    return stub, S3Payloads(aws)


async def get(store: Payloads, bucket: str, key: str) -> bytes:
    async with store.open(bucket, key) as found:
        return await found.read()


async def error_of(store: Payloads, bucket: str, key: str) -> BridgeError:
    with pytest.raises(BridgeError) as caught:
        await get(store, bucket, key)
    return caught.value


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Fault(404, "NoSuchKey"), Refused),
        (Fault(404, "NoSuchVersion"), Refused),
        (Fault(404, "NoSuchBucket"), Refused),
        (Fault(403, "InvalidObjectState"), Refused),
        (Fault(400, "InvalidArgument"), Refused),
        (Fault(400, "KeyTooLongError"), Refused),
        (Fault(400, "InvalidBucketName"), Refused),
        (Fault(400, "InvalidRequest"), Refused),
        (Fault(400, "KMS.DisabledException"), Refused),
        (Fault(400, "KMS.NotFoundException"), Refused),
        (Fault(403, "AllAccessDisabled"), Refused),
        (Fault(405, "MethodNotAllowed"), Refused),
        (Fault(418, "SomethingNew"), Refused),
        (DENIED, Refused),
        (Fault(503, "SlowDown"), Unavailable),
        (Fault(503, "ServiceUnavailable"), Unavailable),
        (Fault(500, "InternalError"), Unavailable),
        (Fault(500, "SomethingNew"), Unavailable),
        (Fault(429, "SomethingNew"), Unavailable),
        (Fault(400, "RequestTimeout"), Unavailable),
        (Fault(409, "OperationAborted"), Unavailable),
        (None, Unavailable),
        (Body(b"<html>", 6, {"content-type": "text/html"}), Unavailable),
        (Fault(403, "InvalidAccessKeyId"), NotUsable),
        (Fault(403, "SignatureDoesNotMatch"), NotUsable),
        (Fault(403, "RequestTimeTooSkewed"), NotUsable),
        (Fault(400, "ExpiredToken"), NotUsable),
        (Fault(400, "InvalidToken"), NotUsable),
        (Fault(400, "TokenRefreshRequired"), NotUsable),
    ],
)
async def test_an_outage_holds_and_what_is_wrong_with_one_payload_parks(
    s3: tuple[Stub, S3Payloads], answer: Any, kind: type[BridgeError]
) -> None:
    stub, store = s3
    stub.objects["b/bad"] = answer
    error = await error_of(store, "b", "bad")
    assert isinstance(error, kind)
    assert await get(store, "b", "good") == b"good"


async def test_a_bucket_in_another_region_parks(s3: tuple[Stub, S3Payloads]) -> None:
    stub, store = s3
    stub.otherwise = lambda _: Fault(301, "PermanentRedirect")
    for bucket in ("elsewhere", "nowhere"):  # only the first says in which region it is
        assert isinstance(await error_of(store, bucket, "k"), Refused)


async def test_a_bucket_that_denies_every_key_is_the_operators(s3: tuple[Stub, S3Payloads]) -> None:
    stub, store = s3
    stub.otherwise = lambda _: DENIED
    error = await error_of(store, "b", "k")
    assert isinstance(error, NotUsable)
    assert "s3:GetObject on b/*" in error.hint
    assert "s3:ListBucket" in error.hint


async def test_a_key_that_is_denied_is_the_messages_where_another_can_be_had(s3: tuple[Stub, S3Payloads]) -> None:
    """Without s3:ListBucket, S3 denies a key that is not there: only one that was had tells."""
    stub, store = s3
    stub.otherwise = lambda _: DENIED
    assert await get(store, "b", "good") == b"good"
    assert isinstance(await error_of(store, "b", "k"), Refused)
    stub.objects["b/good"] = DENIED  # the policy has changed
    assert isinstance(await error_of(store, "b", "k"), NotUsable)
    stub.objects["b/good"] = Fault(404, "NoSuchKey")  # consumers delete what they have read
    stub.objects[f"b/{ABSENT}"] = Fault(404, "NoSuchKey")
    assert isinstance(await error_of(store, "b", "k"), Refused)


async def test_a_key_that_was_disabled_for_all_is_no_fault_of_a_message(s3: tuple[Stub, S3Payloads]) -> None:
    stub, store = s3
    assert await get(store, "b", "good") == b"good"
    stub.objects["b/good"] = stub.objects["b/k"] = Fault(400, "KMS.DisabledException")
    error = await error_of(store, "b", "k")
    assert isinstance(error, NotUsable)
    assert "kms:Decrypt" in error.hint


async def test_a_policy_for_a_prefix_is_asked_there(
    s3: tuple[Stub, S3Payloads], world: tuple[Stub, AwsConnection]
) -> None:
    stub, store = s3
    stub.otherwise = lambda name: Fault(404, "NoSuchKey") if name.startswith("b/mine/") else DENIED
    assert isinstance(await error_of(S3Payloads(world[1], {"b": ["", "mine/"]}), "b", "k"), Refused)
    assert isinstance(await error_of(store, "b", "k"), NotUsable)


async def test_an_outage_while_a_denial_is_looked_into_is_an_outage(s3: tuple[Stub, S3Payloads]) -> None:
    stub, store = s3
    stub.objects["b/bad"] = DENIED
    stub.otherwise = lambda _: Fault(503, "SlowDown")
    assert isinstance(await error_of(store, "b", "bad"), Unavailable)


async def test_check_sees_what_may_be_fetched(s3: tuple[Stub, S3Payloads]) -> None:
    stub, store = s3
    await store.see("b", "in/")
    assert stub.asked == [f"b/in/{ABSENT}"]
    for code in ("AccessDenied", "NoSuchBucket"):
        stub.otherwise = lambda _, code=code: Fault(403 if code == "AccessDenied" else 404, code)  # type: ignore[misc]
        with pytest.raises(NotUsable) as caught:
            await store.see("b", "")
        assert caught.value.hint


async def test_the_size_is_known_before_the_body_and_nothing_beyond_it_is_kept(
    s3: tuple[Stub, S3Payloads], monkeypatch: pytest.MonkeyPatch
) -> None:
    stub, store = s3
    stub.objects["b/huge"] = Body(length=2**40)
    async with store.open("b", "huge") as found:
        assert found.size == 2**40
    monkeypatch.setattr(payloads, "LARGEST", 1_000)
    stub.objects["b/chunks"] = Body(b"x" * 1_000)
    assert await get(store, "b", "chunks") == b"x" * 1_000
    stub.objects["b/chunks"] = Body(b"x" * 1_001)
    assert isinstance(await error_of(store, "b", "chunks"), Refused)


async def test_a_checksum_that_is_wrong_parks(s3: tuple[Stub, S3Payloads]) -> None:
    stub, store = s3
    stub.objects["b/k"] = Body(b"other", 5, {"x-amz-checksum-crc32": "AAAAAA=="})
    assert isinstance(await error_of(store, "b", "k"), Refused)


# -- Object Store


@pytest_asyncio.fixture(loop_scope="module")
async def objects(nats_server: NatsServer, name: str) -> AsyncIterator[tuple[NatsConnection, ObjectPayloads]]:
    async with NatsConnection(NatsOptions((nats_server.url,))) as nats:
        await (await nats.live()).jetstream().create_object_store(name)
        yield nats, ObjectPayloads(nats)


async def write(nats: NatsConnection, bucket: str, key: str, meta: bytes, *chunks: bytes, nuid: str = "N1") -> None:
    """An object as anyone may write it who may publish into the store."""
    context = (await nats.live()).jetstream()
    for chunk in chunks:
        await context.publish(f"$O.{bucket}.C.{nuid}", chunk)
    await context.publish(f"$O.{bucket}.M.{base64.urlsafe_b64encode(key.encode()).decode()}", meta)


def meta(size: Any = 4, digest: Any = None, **more: Any) -> bytes:
    found = digest or "SHA-256=" + base64.urlsafe_b64encode(hashlib.sha256(b"good").digest()).decode()
    return json.dumps({"name": "k", "bucket": "b", "nuid": "N1", "size": size, "digest": found, **more}).encode()


@pytest.mark.server
@pytest.mark.parametrize("size", [0, 5, 131_072, 300_000])
@pytest.mark.parametrize("key", ["k", "with blanks", "*", "a.>", "ä/\U0001f600"])
async def test_an_object_comes_back_whole(
    objects: tuple[NatsConnection, ObjectPayloads], name: str, size: int, key: str
) -> None:
    _, store = objects
    whole = bytes(range(256)) * (size // 256) + b"\xff" * (size % 256)
    await store.put(name, key, whole)
    async with store.open(name, key) as found:
        assert found.size == size
        assert await found.read() == whole
    await store.put(name, key, b"again")
    assert await get(store, name, key) == b"again"


@pytest.mark.server
@pytest.mark.parametrize(
    ("document", "chunks"),
    [
        (meta(), [b"g", b"ood!"]),
        (meta(), [b"goo"]),
        (meta(), []),
        (meta(3), [b"good"]),
        (meta(5), [b"good"]),
        (meta(2**62), [b"good"]),
        (meta(), [b"evil"]),
        (meta(digest="SHA-256=x"), [b"good"]),
        (meta(digest=["SHA-256=x"]), [b"good"]),
        (meta(digest=5), [b"good"]),
        (meta("4"), [b"good"]),
        (meta(-4), [b"good"]),
        (meta(4.0), [b"good"]),
        (meta(True), [b"good"]),
        (meta(nuid=None), [b"good"]),
        (meta(nuid=""), [b"good"]),
        (meta(nuid=">"), [b"good"]),
        (meta(nuid=["N1"]), [b"good"]),
        (meta(deleted=True), [b"good"]),
        (meta(options={"link": {"bucket": "secret", "name": "k"}}), [b"good"]),
        (meta(options={"link": {"bucket": "secret"}}), [b"good"]),
        (meta(options=[1]), [b"good"]),
        (b"", [b"good"]),
        (b"null", [b"good"]),
        (b"[]", [b"good"]),
        (b"{}", [b"good"]),
        (b"\xff", [b"good"]),
        (b"[" * 100_000, [b"good"]),
    ],
)
async def test_whatever_describes_an_object_it_is_refused_or_whole(
    objects: tuple[NatsConnection, ObjectPayloads], name: str, document: bytes, chunks: list[bytes]
) -> None:
    nats, store = objects
    await write(nats, name, "k", document, *chunks)
    assert isinstance(await error_of(store, name, "k"), Refused)
    subscriptions = len((await nats.live())._subs)
    assert isinstance(await error_of(store, name, "k"), Refused)
    assert len((await nats.live())._subs) == subscriptions


@pytest.mark.server
async def test_what_is_not_there_parks(objects: tuple[NatsConnection, ObjectPayloads], name: str) -> None:
    _, store = objects
    for bucket, key in ((name, "k"), (f"{name}-none", "k")):
        assert isinstance(await error_of(store, bucket, key), Refused)
    with pytest.raises(NotUsable, match="there is no object store"):
        await store.put(f"{name}-none", "k", b"x")
    with pytest.raises(NotUsable) as caught:
        await store.see(f"{name}-none", "")
    assert "nats object add" in caught.value.hint


@pytest.mark.server
async def test_an_object_stored_again_while_it_is_read_is_read_again(
    objects: tuple[NatsConnection, ObjectPayloads], name: str
) -> None:
    _, store = objects
    await store.put(name, "k", b"x" * 300_000)
    async with store.open(name, "k") as found:
        await store.put(name, "k", b"x" * 300_000)  # another bridge, after a lost answer
        assert await found.read() == b"x" * 300_000


@pytest.mark.server
async def test_a_store_that_is_down_holds(name: str) -> None:
    store = ObjectPayloads(NatsConnection(NatsOptions(("nats://127.0.0.1:1",), connect_timeout=0.2)))
    assert isinstance(await error_of(store, name, "k"), Unavailable)
