"""Claim checks against real stores: S3 as moto has it, a real Object Store, and Amazon's own pointer format."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Literal

import pytest
import pytest_asyncio

from bridge.core.errors import BridgeError, Full, Refused, Unavailable
from bridge.core.mapping.claims import CLAIM, SIZE, SIZE_BEFORE, Allowed, Place, claim_of, key_for, pointer_to
from bridge.core.mapping.nats_to_sqs import nats_to_sns, nats_to_sqs
from bridge.core.mapping.sqs_to_nats import sqs_to_nats
from bridge.core.mapping.subject import SubjectTemplate
from bridge.core.models import Attribute, Claim, JetStreamMessage, JetStreamOut, Out, SnsOut, SqsMessage, SqsOut
from bridge.core.route import Receipt
from bridge.embedded import MotoServer, NatsServer
from bridge.legs.aws import AwsConnection, AwsOptions
from bridge.legs.claims import ClaimChecked, Kept, Room, Sized
from bridge.legs.memory import MemoryDestination
from bridge.legs.nats import NatsConnection, NatsOptions
from bridge.legs.payloads import ObjectPayloads, Payload, Payloads, S3Payloads, Store
from tests.core.strategies import carried
from tests.legs.stub_s3 import stub_s3

pytestmark = [pytest.mark.server, pytest.mark.asyncio(loop_scope="module")]

AMAZON = '["software.amazon.payloadoffloading.PayloadS3Pointer",{"s3BucketName":"big","s3Key":"k"}]'
LEGACY = '["com.amazon.sqs.javamessaging.MessageS3Pointer",{"s3BucketName":"big","s3Key":"k"}]'
LIMIT = 5_000


class Narrow(MemoryDestination):
    """A destination that takes so many bytes."""

    def fits(self, out: Out) -> bool:
        return len(content(out)) <= LIMIT


def content(out: Out) -> bytes:
    match out:
        case JetStreamOut(payload=payload):
            return payload
        case SqsOut(body=text) | SnsOut(message=text):
            return text.encode("utf-8", "surrogatepass")


def checked(
    inner: Sized,
    stores: dict[Store, Payloads],
    kept: Kept | None,
    *places: Place,
    park: bool = False,
    room: Room | None = None,
) -> ClaimChecked:
    return ClaimChecked(inner, stores, kept, allowed=Allowed(places, park=park), room=room or Room(2**26))


async def get(store: Payloads, bucket: str, key: str) -> bytes:
    async with store.open(bucket, key) as found:
        return await found.read()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(
    moto_server: MotoServer, nats_server: NatsServer
) -> AsyncIterator[tuple[AwsConnection, NatsConnection]]:
    """One for all: a client for S3 takes half a second to make."""
    options = AwsOptions(region="eu-west-1", endpoint_url=moto_server.url, s3_endpoint_url=moto_server.url)
    async with AwsConnection(options) as aws, NatsConnection(NatsOptions((nats_server.url,))) as nats:
        yield aws, nats


@pytest_asyncio.fixture(loop_scope="module")
async def stores(world: tuple[AwsConnection, NatsConnection], name: str) -> dict[Store, Payloads]:
    aws, nats = world
    where = {"LocationConstraint": "eu-west-1"}
    await aws.call("s3", "create_bucket", about=name, Bucket=name, CreateBucketConfiguration=where)
    await (await nats.live()).jetstream().create_object_store(name)
    return {"s3": S3Payloads(aws), "object_store": ObjectPayloads(nats)}


@pytest.mark.parametrize("store", ["s3", "object_store"])
@pytest.mark.parametrize("payload", [b"\xff\x00" * LIMIT, "ä".encode() * LIMIT], ids=["bytes", "text"])
async def test_a_payload_too_large_for_jetstream_is_stored_and_comes_back_whole(
    stores: dict[Store, Payloads], name: str, store: Store, payload: bytes
) -> None:
    inner = Narrow()
    destination = checked(inner, stores, Kept(store, name, "kept/"))
    outs = [JetStreamOut("s", b"small", "sqs:1"), JetStreamOut("s", payload, "sqs:2", {"k": "v"})]
    for _ in range(2):  # published again after a lost answer, it has the same key
        assert all(isinstance(each, Receipt) for each in await destination.publish(outs))
    small, large = inner.kept[:2]
    assert small == outs[0]
    assert isinstance(large, JetStreamOut)
    assert large.headers["k"] == "v"
    attributes = {name: Attribute("Number", value) for name, value in large.headers.items() if name in (SIZE, CLAIM)}
    claim = claim_of(large.payload, attributes)
    assert claim == Claim(store, name, key_for("kept/", "sqs:2", payload))
    assert await get(stores[store], name, claim.key) == payload


@pytest.mark.parametrize(("body", "mark"), [(AMAZON, SIZE), (LEGACY, SIZE_BEFORE)])
async def test_amazons_pointers_become_their_payload_where_it_fits(
    stores: dict[Store, Payloads], name: str, body: str, mark: str
) -> None:
    await stores["s3"].put(name, "k", b"the payload")
    message = SqsMessage("id", body.replace("big", name), "q", "arn:q", {mark: Attribute("Number", "11")})
    out = carried(sqs_to_nats(SubjectTemplate.parse("orders"))(message)).out
    inner = Narrow()
    await checked(inner, stores, None, Place("s3", name), Place("object_store", name)).publish([out])
    (published,) = inner.kept
    assert isinstance(published, JetStreamOut)
    assert published.payload == b"the payload"
    assert not [header for header in published.headers if mark in header]


async def test_a_pointer_to_what_does_not_fit_either_goes_on_as_a_pointer(
    stores: dict[Store, Payloads], name: str
) -> None:
    await stores["s3"].put(name, "k", b"x" * (LIMIT + 1))
    body = AMAZON.replace("big", name)
    message = SqsMessage("id", body, "q", "arn:q", {SIZE: Attribute("Number", "1")})
    out = carried(sqs_to_nats(SubjectTemplate.parse("orders"))(message)).out
    inner = Narrow()
    await checked(inner, stores, None, Place("s3", name), Place("object_store", name)).publish([out])
    assert content(inner.kept[0]) == body.encode()
    again = JetStreamMessage("orders", body.encode(), "S", 1, 0.0, 1, ((SIZE, "1"), (f"Sqs-Type-{SIZE}", "Number")))
    back = carried(nats_to_sqs(fifo=False)(again)).out
    assert isinstance(back, SqsOut)
    assert (back.body, back.attributes[SIZE]) == (body, Attribute("Number", "1"))  # as legacy consumers read it


async def test_a_route_told_to_keep_pointers_fetches_none() -> None:
    message = SqsMessage("id", AMAZON, "q", "arn:q", {SIZE: Attribute("Number", "1")})
    out = carried(sqs_to_nats(SubjectTemplate.parse("orders"), fetch=False)(message)).out
    assert isinstance(out, JetStreamOut)
    assert out.claim is None


async def test_a_topic_gets_the_same_pointer(stores: dict[Store, Payloads], name: str) -> None:
    out = carried(nats_to_sns(fifo=False)(JetStreamMessage("orders.x", b"x" * (LIMIT + 1), "ORDERS", 8, 0.0))).out
    inner = Narrow()
    await checked(inner, stores, Kept("s3", name, "")).publish([out])
    (sent,) = inner.kept
    assert isinstance(sent, SnsOut)
    key = key_for("", "ORDERS-8-0", b"x" * (LIMIT + 1))
    assert json.loads(sent.message)[1] == {"s3BucketName": name, "s3Key": key}
    assert await get(stores["s3"], name, key) == b"x" * (LIMIT + 1)


@pytest.mark.parametrize("payload", [b"x" * (LIMIT + 1), b"\xff" * LIMIT])
async def test_what_is_too_large_for_sqs_goes_to_s3_as_the_extended_client_has_it(
    stores: dict[Store, Payloads], name: str, payload: bytes
) -> None:
    message = JetStreamMessage("orders.x", payload, "ORDERS", 7, 0.0)
    out = carried(nats_to_sqs(fifo=False)(message)).out
    assert isinstance(out, SqsOut)
    inner = Narrow()
    await checked(inner, stores, Kept("s3", name, "")).publish([out])
    (sent,) = inner.kept
    assert isinstance(sent, SqsOut)
    kind, where = json.loads(sent.body)
    assert kind == "software.amazon.payloadoffloading.PayloadS3Pointer"
    key = key_for("", "ORDERS-7-0", out.body.encode())
    assert where == {"s3BucketName": name, "s3Key": key}
    assert sent.attributes[SIZE] == Attribute("Number", str(len(out.body)))
    assert await get(stores["s3"], name, key) == out.body.encode()


async def test_an_object_is_fetched_on_its_way_to_sqs(stores: dict[Store, Payloads], name: str) -> None:
    await stores["object_store"].put(name, "o", b"\x00whole")
    claim = Claim("object_store", name, "o")
    headers = ((CLAIM, "6"), (f"Sqs-Type-{CLAIM}", "Number"), ("a", "b"))
    message = JetStreamMessage("s", pointer_to(claim).encode(), "S", 1, 0.0, 1, headers)
    out = carried(nats_to_sqs(fifo=False)(message)).out
    inner = Narrow()
    await checked(inner, stores, None, Place("s3", name), Place("object_store", name)).publish([out])
    (sent,) = inner.kept
    assert isinstance(sent, SqsOut)
    returned = SqsMessage("id", sent.body, "q", "arn:q", sent.attributes)
    assert content(carried(sqs_to_nats(SubjectTemplate.parse("s"))(returned)).out) == b"\x00whole"
    assert CLAIM not in sent.attributes
    assert sent.attributes["a"].value == "b"


async def test_one_lost_payload_or_bucket_is_one_messages_trouble(stores: dict[Store, Payloads], name: str) -> None:
    def pointing(store: Store, bucket: str) -> JetStreamOut:
        return JetStreamOut("s", b"pointer", f"sqs:{bucket}", claim=Claim(store, bucket, "missing"))

    inner = Narrow()
    good = JetStreamOut("s", b"x", "sqs:0")
    places = [Place(store, bucket) for store in stores for bucket in (name, f"{name}-none")]
    outs: list[Out] = [good, *(pointing(*place[:2]) for place in places), JetStreamOut("s", b"y", "sqs:1")]
    answers = await checked(inner, stores, None, *places).publish(outs)
    assert [type(each) for each in answers] == [Receipt, Refused, Refused, Refused, Refused, Receipt]
    assert [content(each) for each in inner.kept] == [b"x", b"y"]


async def test_without_a_store_what_is_too_large_is_left_to_the_destination() -> None:
    inner = Narrow(lambda out, tries: None)
    out = JetStreamOut("s", b"x" * (LIMIT + 1), "sqs:1")
    await checked(inner, {}, None).publish([out])
    assert inner.kept == [out]


# -- without servers


class Shelf:
    """A store of payloads in memory that counts what was asked of it; a BridgeError or another is raised."""

    def __init__(self, found: dict[str, bytes | Exception]) -> None:
        self.found = found
        self.asked: list[str] = []

    @asynccontextmanager
    async def open(self, bucket: str, key: str) -> AsyncIterator[Payload]:
        self.asked.append(f"{bucket}/{key}")
        found = self.found[f"{bucket}/{key}"]
        if isinstance(found, Exception):
            raise found

        async def read() -> bytes:
            await asyncio.sleep(0)
            return found

        yield Payload(len(found), read)

    async def put(self, bucket: str, key: str, payload: bytes) -> None:
        self.found[f"{bucket}/{key}"] = payload

    async def see(self, bucket: str, prefix: str) -> None: ...


def pointed(key: str, bucket: str = "b", store: Store = "s3") -> JetStreamOut:
    claim = Claim(store, bucket, key)
    return JetStreamOut("s", pointer_to(claim).encode(), f"sqs:{key}", {SIZE: "1"}, claim=claim)


@pytest.mark.parametrize("kept", [None, Kept("s3", "own", ""), Kept("object_store", "own", "")])
@pytest.mark.parametrize("store", ["s3", "object_store"])
async def test_a_pointer_into_a_place_the_route_does_not_name_is_never_followed(
    store: Store, kept: Kept | None
) -> None:
    shelf, inner = Shelf({}), Narrow()
    stores: dict[Store, Payloads] = {"s3": shelf, "object_store": shelf}
    places = Place("s3", "b", "mine/"), Place("object_store", "b", "mine/")
    outs = [
        JetStreamOut("s", b"x", "sqs:1"),
        pointed("mine/../k", store=store),
        pointed("k", store=store),
        pointed("mine/k", "B", store=store),
        pointed("mine/\ud800", store=store),
    ]
    answers = await checked(inner, stores, kept, *places).publish(outs)
    assert all(isinstance(each, Receipt) for each in answers)
    assert [content(each) for each in inner.kept] == [out.payload for out in outs]
    assert [each.headers for each in inner.kept if isinstance(each, JetStreamOut)] == [out.headers for out in outs]
    inner.kept.clear()
    answers = await checked(inner, stores, kept, *places, park=True).publish(outs)
    assert [type(each) for each in answers] == [Receipt, *[Refused] * 4]
    assert "source.buckets" in str(answers[1])
    assert "mine/../k" in str(answers[1])
    assert str(answers[4]).isascii()
    assert not shelf.asked


async def test_a_pointer_that_is_not_followed_and_too_large_itself_is_stored() -> None:
    shelf, inner = Shelf({}), Narrow()
    out = pointed("k" * LIMIT, "elsewhere")
    await checked(inner, {"s3": shelf, "object_store": shelf}, Kept("s3", "own", "")).publish([out])
    assert list(shelf.found.values()) == [out.payload]


@pytest.mark.parametrize(("form", "mark"), [("v1", SIZE_BEFORE), ("v2", SIZE)])
async def test_pointers_are_written_in_the_format_asked_for(form: Literal["v1", "v2"], mark: str) -> None:
    shelf, inner = Shelf({}), Narrow()
    kept = Kept("s3", "own", "p/", form)
    await checked(inner, {"s3": shelf}, kept).publish([SqsOut("x" * (LIMIT + 1), dedup_id="\ud800/../x")])
    (sent,) = inner.kept
    assert isinstance(sent, SqsOut)
    assert sent.attributes == {mark: Attribute("Number", str(LIMIT + 1))}
    assert json.loads(sent.body)[0] == json.loads(AMAZON if form == "v2" else LEGACY)[0]
    assert claim_of(sent.body, sent.attributes) == Claim("s3", "own", key_for("p/", "\ud800/../x", b"x" * (LIMIT + 1)))


async def test_a_body_that_is_no_text_parks() -> None:
    (answer,) = await checked(Narrow(), {"s3": Shelf({})}, Kept("s3", "own", "")).publish([SqsOut("\ud800" * LIMIT)])
    assert isinstance(answer, Refused)


async def test_a_store_that_is_down_is_not_asked_by_every_message() -> None:
    shelf, inner = Shelf({f"b/{n}": Unavailable("down") for n in range(100)}), Narrow()
    outs: list[Out] = [JetStreamOut("s", b"x", "sqs:x"), *(pointed(str(n)) for n in range(100))]
    answers = await checked(inner, {"s3": shelf}, None, Place("s3", "b")).publish(outs)
    assert [type(each) for each in answers] == [Receipt, *[Unavailable] * 100]
    assert len(shelf.asked) <= 8


async def test_a_destination_that_is_down_stops_the_fetching() -> None:
    shelf = Shelf({f"b/{n}": b"x" for n in range(100)})
    inner = Narrow(lambda out, tries: Unavailable("down"))
    answers = await checked(inner, {"s3": shelf}, None, Place("s3", "b")).publish([pointed(str(n)) for n in range(100)])
    assert [type(each) for each in answers] == [Unavailable] * 100
    assert len(shelf.asked) <= 8


async def test_one_full_subject_stops_no_message_for_another() -> None:
    full = Full("the subject is full")
    inner = Narrow(lambda out, tries: full if isinstance(out, JetStreamOut) and out.subject == "full" else None)
    outs = [JetStreamOut("full" if n < 20 else "free", bytes(LIMIT + 1), f"sqs:{n}") for n in range(30)]
    answers = await checked(inner, {"s3": Shelf({})}, Kept("s3", "own", "")).publish(outs)
    assert answers[:20] == [full] * 20
    assert all(isinstance(each, Receipt) for each in answers[20:])


async def test_an_error_no_one_expected_leaves_nothing_running_and_no_room_taken() -> None:
    class Broken(Narrow):
        async def publish(self, messages: Sequence[Out]) -> Sequence[Receipt | BridgeError]:
            if b"bad" in map(content, messages):
                raise KeyError("x")
            return await super().publish(messages)

    shelf, inner, room = Shelf({f"b/{n}": b"bad" if n == 3 else b"good" for n in range(20)}), Broken(), Room(10)
    destination = checked(inner, {"s3": shelf}, None, Place("s3", "b"), room=room)
    with pytest.raises(KeyError):
        await destination.publish([pointed(str(n)) for n in range(20)])
    assert len(inner.kept) == 19
    assert room.free == room.size


class Slow(MemoryDestination):
    """Takes its time, and counts the payloads that were read and are not published."""

    def __init__(self) -> None:
        super().__init__()
        self.resident = self.most = 0

    def fits(self, out: Out) -> bool:
        return True

    async def publish(self, messages: Sequence[Out]) -> Sequence[Receipt | BridgeError]:
        for _ in range(20):
            await asyncio.sleep(0)
        answers = await super().publish(
            [out._replace(payload=b"") for out in messages if isinstance(out, JetStreamOut)]
        )
        self.resident -= sum(len(content(out)) for out in messages)
        return answers


class Counted(S3Payloads):
    def __init__(self, aws: AwsConnection, slow: Slow) -> None:
        super().__init__(aws)
        self._slow = slow

    @asynccontextmanager
    async def open(self, bucket: str, key: str) -> AsyncIterator[Payload]:
        async with super().open(bucket, key) as found:
            assert found.size is not None
            size = found.size

            async def read() -> bytes:
                self._slow.resident += size  # from the first byte on
                self._slow.most = max(self._slow.most, self._slow.resident)
                return await found.read()

            yield Payload(size, read)


async def test_payloads_that_are_fetched_stay_within_the_memory_they_are_given() -> None:
    """Twelve of 8 MiB, in two calls side by side, with room for twenty; and one that is larger than the room, alone."""
    async with stub_s3() as stub, stub.connection() as aws:
        stub.otherwise = lambda name: bytes(2**23 if "large" not in name else 21 * 2**20)
        slow, room = Slow(), Room(20 * 2**20)
        destination = checked(slow, {"s3": Counted(aws, slow)}, None, Place("s3", "b"), room=room)
        outs = [pointed(str(n)) for n in range(12)]
        calls = [destination.publish(outs[:6]), destination.publish(outs[6:])]
        answers = [answer for call in await asyncio.gather(*calls) for answer in call]
        assert all(isinstance(each, Receipt) for each in answers)
        assert slow.most == 2 * 2**23  # two fit, and two were there
        answers = list(await destination.publish([pointed("0"), pointed("large"), pointed("1")]))
        assert all(isinstance(each, Receipt) for each in answers)
        assert slow.most == 21 * 2**20
    assert (slow.resident, room.free) == (0, room.size)


async def test_what_is_stored_stays_within_it_too() -> None:
    class Watching(Shelf):
        now = most = 0

        async def put(self, bucket: str, key: str, payload: bytes) -> None:
            self.now += len(payload)
            self.most = max(self.most, self.now)
            await asyncio.sleep(0)
            self.now -= len(payload)

    shelf = Watching({})
    outs = [JetStreamOut("s", bytes(LIMIT + 1), f"sqs:{n}") for n in range(30)]
    await checked(Narrow(), {"s3": shelf}, Kept("s3", "own", ""), room=Room(3 * LIMIT)).publish(outs)
    assert shelf.most == 2 * (LIMIT + 1)
