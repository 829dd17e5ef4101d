"""Claim checks against real stores: S3 as moto has it, a real Object Store, and Amazon's own pointer format."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.errors import NotUsable, Refused
from bridge.core.mapping.claims import CLAIM, SIZE, SIZE_BEFORE, claim_of, mark_of, pointer_to
from bridge.core.mapping.nats_to_sqs import nats_to_sns, nats_to_sqs
from bridge.core.mapping.sqs_to_nats import sqs_to_nats
from bridge.core.mapping.subject import SubjectTemplate
from bridge.core.models import Attribute, Claim, JetStreamMessage, JetStreamOut, Out, SnsOut, SqsMessage, SqsOut
from bridge.core.route import Receipt
from bridge.embedded import MotoServer, NatsServer
from bridge.legs.aws import AwsConnection, AwsOptions
from bridge.legs.claims import ClaimChecked, Kept, ObjectPayloads, Payloads, S3Payloads, Store
from bridge.legs.memory import MemoryDestination
from bridge.legs.nats import NatsConnection, NatsOptions
from tests.core.strategies import carried

pytestmark = pytest.mark.server

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
            return text.encode()


@pytest.fixture
async def stores(moto_server: MotoServer, nats_server: NatsServer, name: str) -> AsyncIterator[dict[Store, Payloads]]:
    options = AwsOptions(region="eu-west-1", endpoint_url=moto_server.url, s3_endpoint_url=moto_server.url)
    async with AwsConnection(options) as aws, NatsConnection(NatsOptions((nats_server.url,))) as nats:
        where = {"LocationConstraint": "eu-west-1"}
        await aws.call("s3", "create_bucket", about=name, Bucket=name, CreateBucketConfiguration=where)
        await (await nats.live()).jetstream().create_object_store(name)
        yield {"s3": S3Payloads(aws), "object_store": ObjectPayloads(nats)}


@pytest.mark.parametrize("store", ["s3", "object_store"])
@pytest.mark.parametrize("payload", [b"\xff\x00" * LIMIT, "ä".encode() * LIMIT], ids=["bytes", "text"])
async def test_a_payload_too_large_for_jetstream_is_stored_and_comes_back_whole(
    stores: dict[Store, Payloads], name: str, store: Store, payload: bytes
) -> None:
    inner = Narrow()
    destination = ClaimChecked(inner, stores, Kept(store, name, "kept/"))
    outs = [JetStreamOut("s", b"small", "sqs:1"), JetStreamOut("s", payload, "sqs:2", {"k": "v"})]
    for _ in range(2):  # published again after a lost answer, it has the same key
        assert all(isinstance(each, Receipt) for each in await destination.publish(outs))
    small, large = inner.kept[:2]
    assert small == outs[0]
    assert isinstance(large, JetStreamOut)
    assert large.headers["k"] == "v"
    attributes = {name: Attribute("Number", value) for name, value in large.headers.items() if name in (SIZE, CLAIM)}
    claim = claim_of(large.payload, attributes)
    assert claim == Claim(store, name, "kept/sqs:2")
    assert await stores[store].get(name, "kept/sqs:2") == payload


@pytest.mark.parametrize(("body", "mark"), [(AMAZON, SIZE), (LEGACY, SIZE_BEFORE)])
async def test_amazons_pointers_become_their_payload_where_it_fits(
    stores: dict[Store, Payloads], name: str, body: str, mark: str
) -> None:
    await stores["s3"].put(name, "k", b"the payload")
    message = SqsMessage("id", body.replace("big", name), "q", "arn:q", {mark: Attribute("Number", "11")})
    out = carried(sqs_to_nats(SubjectTemplate.parse("orders"))(message)).out
    inner = Narrow()
    await ClaimChecked(inner, stores, None).publish([out])
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
    await ClaimChecked(inner, stores, None).publish([out])
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
    await ClaimChecked(inner, stores, Kept("s3", name, "")).publish([out])
    (sent,) = inner.kept
    assert isinstance(sent, SnsOut)
    assert json.loads(sent.message)[1] == {"s3BucketName": name, "s3Key": "ORDERS-8"}
    assert await stores["s3"].get(name, "ORDERS-8") == b"x" * (LIMIT + 1)


@pytest.mark.parametrize("payload", [b"x" * (LIMIT + 1), b"\xff" * LIMIT])
async def test_what_is_too_large_for_sqs_goes_to_s3_as_the_extended_client_has_it(
    stores: dict[Store, Payloads], name: str, payload: bytes
) -> None:
    message = JetStreamMessage("orders.x", payload, "ORDERS", 7, 0.0)
    out = carried(nats_to_sqs(fifo=False)(message)).out
    assert isinstance(out, SqsOut)
    inner = Narrow()
    await ClaimChecked(inner, stores, Kept("s3", name, "")).publish([out])
    (sent,) = inner.kept
    assert isinstance(sent, SqsOut)
    kind, where = json.loads(sent.body)
    assert kind == "software.amazon.payloadoffloading.PayloadS3Pointer"
    assert where == {"s3BucketName": name, "s3Key": "ORDERS-7"}
    assert sent.attributes[SIZE] == Attribute("Number", str(len(out.body)))
    assert await stores["s3"].get(name, "ORDERS-7") == out.body.encode()


async def test_an_object_is_fetched_on_its_way_to_sqs(stores: dict[Store, Payloads], name: str) -> None:
    await stores["object_store"].put(name, "o", b"\x00whole")
    claim = Claim("object_store", name, "o")
    headers = ((CLAIM, "6"), (f"Sqs-Type-{CLAIM}", "Number"), ("a", "b"))
    message = JetStreamMessage("s", pointer_to(claim).encode(), "S", 1, 0.0, 1, headers)
    out = carried(nats_to_sqs(fifo=False)(message)).out
    inner = Narrow()
    await ClaimChecked(inner, stores, None).publish([out])
    (sent,) = inner.kept
    assert isinstance(sent, SqsOut)
    returned = SqsMessage("id", sent.body, "q", "arn:q", sent.attributes)
    assert content(carried(sqs_to_nats(SubjectTemplate.parse("s"))(returned)).out) == b"\x00whole"
    assert CLAIM not in sent.attributes
    assert sent.attributes["a"].value == "b"


async def test_one_lost_payload_or_bucket_is_one_messages_trouble(stores: dict[Store, Payloads], name: str) -> None:
    def pointing(bucket: str) -> JetStreamOut:
        return JetStreamOut("s", b"pointer", f"sqs:{bucket}", claim=Claim("s3", bucket, "missing"))

    inner = Narrow()
    good = JetStreamOut("s", b"x", "sqs:0")
    answers = await ClaimChecked(inner, stores, None).publish([pointing(name), good, pointing(f"{name}-none")])
    assert isinstance(answers[0], Refused)
    assert isinstance(answers[1], Receipt)
    assert isinstance(answers[2], NotUsable)
    gone = JetStreamOut("s", b"p", "sqs:3", claim=Claim("object_store", name, "missing"))
    none = JetStreamOut("s", b"p", "sqs:4", claim=Claim("object_store", f"{name}none", "missing"))
    answers = await ClaimChecked(inner, stores, None).publish([gone, none])
    assert [type(each) for each in answers] == [Refused, NotUsable]


async def test_without_a_store_what_is_too_large_is_left_to_the_destination() -> None:
    inner = Narrow(lambda out, tries: None)
    out = JetStreamOut("s", b"x" * (LIMIT + 1), "sqs:1")
    await ClaimChecked(inner, {}, None).publish([out])
    assert inner.kept == [out]


CLAIMS = st.builds(Claim, st.sampled_from(["s3", "object_store"]), st.text(min_size=1), st.text(min_size=1))


@given(CLAIMS, st.integers(0, 2**40))
def test_a_pointer_is_read_as_it_was_written(claim: Claim, size: int) -> None:
    assert claim_of(pointer_to(claim), mark_of(claim, size)) == claim
    assert claim_of(pointer_to(claim), {}) is None


@pytest.mark.parametrize("body", ["x", "[]", "[1, 2]", '["software.amazon.payloadoffloading.PayloadS3Pointer", {}]'])
def test_a_body_that_is_no_pointer_is_the_payload(body: str) -> None:
    assert claim_of(body, {SIZE: Attribute("Number", "1")}) is None
