"""Whoever may publish and subscribe in the account, and what they cannot do: be taken for a stream, for the API, for a
consumer or for the server. On a real nats-server."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bridge.core.errors import BridgeError, NotUsable, Refused, Unavailable
from bridge.core.models import JetStreamMessage, JetStreamOut
from bridge.core.route import Ack, Backlog, Delivery, Receipt, Retry, Settlement
from bridge.embedded import NatsServer, free_port
from bridge.legs.backlogs import WatchedConsumers
from bridge.legs.consumer import open_consumer
from bridge.legs.inventory import stream_facts
from bridge.legs.jetstream import JetStreamSource
from bridge.legs.ledger import open_ledger
from bridge.legs.nats import NatsConnection, NatsOptions
from bridge.legs.parking import StreamShelf
from bridge.legs.stream import JetStreamDestination, open_destination
from bridge.legs.wire import WireClient
from tests.legs.exam import take, until
from tests.legs.test_jetstream import add_consumer, add_stream, nats

pytestmark = pytest.mark.server

__all__ = ["nats"]

FORGED: list[tuple[bytes, bytes]] = [
    *(
        (b"", payload)
        for payload in (b"", b"ok", b"{}", b"[]", b"null", b"7", b"\xff\xfe", b'{"error": {"err_code": null}}')
    ),
    (b"", b'{"stream": "OTHER", "seq": 5}'),
    (b"", b'{"stream": null, "seq": 5}'),
    (b"", b'{"stream": "NAME", "seq": "5"}'),
    (b"", b'{"stream": "NAME", "seq": 0}'),
    (b"", b'{"stream": "NAME", "seq": true}'),
    (b"", b'{"error": {"code": 400, "err_code": 10054, "description": "too large"}}'),
    (b"", b'{"stream": "OTHER", "seq": 0, "error": {"code": 400, "err_code": 10054}}'),
    (b"", b'{"stream": "NAME", "seq": 0, "error": [1]}'),
    (b"", b'{"stream": "NAME", "seq": 5, "domain": 3, "error": {"code": null}}'),
    (b"NATS/1.0 503\r\n\r\n", b""),
    (b"NATS/1.0 404 Not Found\r\n\r\n", b""),
    (b"NATS/1.0\r\nA: b\r\n\r\n", b'{"stream": "NAME", "seq": 5}'),
]


@asynccontextmanager
async def attacker(server: NatsServer) -> AsyncIterator[WireClient]:
    client = WireClient()
    await client.connect(server.url)
    try:
        yield client
    finally:
        await client.close()


async def answering(client: WireClient, subject: str, answers: Callable[[str], list[tuple[bytes, bytes]]]) -> None:
    """Answers whatever comes to `subject` with header blocks and payloads, all of them, at once."""

    async def heard(message: Any) -> None:
        if message.reply:
            await client.send([(message.reply, "", block, payload) for block, payload in answers(message.subject)])

    await client.subscribe(subject, cb=heard)
    await client.flush()


def always(*answers: tuple[bytes, bytes]) -> Callable[[str], list[tuple[bytes, bytes]]]:
    return lambda _: list(answers)


def named(name: str) -> list[tuple[bytes, bytes]]:
    return [(block, payload.replace(b"NAME", name.encode())) for block, payload in FORGED]


async def kept(nats: NatsConnection, stream: str) -> int:
    return (await nats.api(f"STREAM.INFO.{stream}")).part("state").number("messages")


async def test_a_service_that_replies_on_a_captured_subject_changes_nothing(
    nats: NatsConnection, nats_server: NatsServer, name: str
) -> None:
    await add_stream(nats, name)
    destination = await open_destination(nats, pattern=f"{name}.*", stream=None)
    async with attacker(nats_server) as other:
        for number, one in enumerate(named(name)):
            await answering(other, f"{name}.{number}", always(one, one, one))
        await answering(other, f"{name}.all", lambda _: named(name))
        outs = [JetStreamOut(f"{name}.{n}", b"x", f"id:{n}") for n in [*range(len(FORGED)), "all"]]
        answers = await destination.publish(outs)
    assert [type(answer) for answer in answers] == [Receipt] * len(outs)
    assert not any(answer.duplicate for answer in answers if isinstance(answer, Receipt))
    assert {answer.ref for answer in answers if isinstance(answer, Receipt)} == {
        f"{name}:{number + 1}" for number in range(len(outs))
    }
    assert await kept(nats, name) == len(outs)


async def test_whatever_is_no_puback_is_awaited_past_and_the_stream_is_heard(
    nats: NatsConnection, nats_server: NatsServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream that says nothing by itself, so that what others say is all that comes, or comes first."""
    monkeypatch.setattr("bridge.legs.stream.PUBLISH_SECONDS", 0.3)
    await add_stream(nats, name)
    destination = await open_destination(nats, pattern=f"{name}.*", stream=None)
    config = (await nats.api(f"STREAM.INFO.{name}"))["config"]
    await nats.api(f"STREAM.UPDATE.{name}", {**config, "no_ack": True})
    outs = [JetStreamOut(f"{name}.{n}", b"x", f"id:{n}") for n in range(len(FORGED))]
    true = (b"", json.dumps({"stream": name, "seq": 7}).encode())
    async with attacker(nats_server) as other:
        for number, one in enumerate(named(name)):
            await answering(other, f"{name}.{number}", always(one))
        assert [type(each) for each in await destination.publish(outs)] == [Unavailable] * len(outs)
    async with attacker(nats_server) as other:
        for number, one in enumerate(named(name)):
            await answering(other, f"{name}.{number}", always(one, true, one))
        assert await destination.publish(outs) == [Receipt(f"{name}:7")] * len(outs)


async def test_a_service_on_this_side_of_a_leaf_is_not_the_stream_beyond_it(tmp_path: Path, name: str) -> None:
    port = free_port()
    with (
        NatsServer(
            tmp_path / "hub", config=jetstream(tmp_path / "hub", "hub") + f"leafnodes {{ port: {port} }}"
        ) as hub,
        NatsServer(
            tmp_path / "leaf",
            config=jetstream(tmp_path / "leaf", "leaf")
            + f'leafnodes {{ remotes: [ {{ url: "nats-leaf://127.0.0.1:{port}" }} ] }}',
        ) as leaf,
    ):
        async with (
            NatsConnection(NatsOptions((hub.url,))) as there,
            NatsConnection(NatsOptions((leaf.url,), domain="hub")) as here,
            attacker(leaf) as other,
        ):
            await add_stream(there, name)
            destination = await opened(here, name)
            # In the name of a stream that is called the same in another domain, too.
            forged = [*named(name), (b"", json.dumps({"stream": name, "domain": "leaf", "seq": 9}).encode())]
            for number, one in enumerate(forged):
                await answering(other, f"{name}.{number}", always(one))
            answers = await destination.publish([JetStreamOut(f"{name}.{n}", b"", str(n)) for n in range(len(forged))])
            assert [type(each) for each in answers] == [Receipt] * len(forged)
            assert await kept(there, name) == len(forged)


def jetstream(folder: Path, domain: str) -> str:
    return f'jetstream {{ store_dir: "{folder}", domain: {domain} }}\n'


async def opened(nats: NatsConnection, name: str) -> JetStreamDestination:
    """Once the link is there."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await open_destination(nats, pattern=f"{name}.*", stream=None)
            except (NotUsable, Unavailable):
                await asyncio.sleep(0.02)


async def test_what_no_stream_keeps_is_never_carried_from_any_answer(
    nats: NatsConnection, nats_server: NatsServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.legs.stream.PUBLISH_SECONDS", 0.3)
    await add_stream(nats, name, subjects=[f"{name}.kept"])
    destination = await open_destination(nats, pattern=f"{name}.*", stream=None)
    async with attacker(nats_server) as other:
        # Even in the name of the stream: it does not capture the subject.
        forged = [*named(name), (b"", json.dumps({"stream": name, "seq": 9}).encode())]
        await answering(other, f"{name}.lost", lambda _: forged)
        answers = await destination.publish([JetStreamOut(f"{name}.{each}", b"", each) for each in ("lost", "kept")])
    assert isinstance(answers[0], Refused | Unavailable)
    assert isinstance(answers[1], Receipt)


async def test_a_stream_that_is_made_later_is_believed_once_it_is_known(
    nats: NatsConnection, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.legs.stream.PUBLISH_SECONDS", 0.3)
    await add_stream(nats, name, subjects=[f"{name}.a"])
    destination = await open_destination(nats, pattern=f"{name}.*", stream=None)
    await add_stream(nats, f"{name}2", subjects=[f"{name}.b"])
    await nats.api(f"STREAM.UPDATE.{name}", {"name": name, "subjects": [f"{name}.a", f"{name}.c"], "storage": "memory"})
    outs = [JetStreamOut(f"{name}.{each}", b"", each) for each in "bc"]
    assert [type(each) for each in await destination.publish(outs)] == [Unavailable] * 2
    answers = await destination.publish(outs)
    assert answers == [Receipt(f"{name}2:1", duplicate=True), Receipt(f"{name}:1", duplicate=True)]


async def test_what_sees_one_request_cannot_answer_another(
    nats: NatsConnection, nats_server: NatsServer, name: str
) -> None:
    await add_stream(nats, name)
    destination = await open_destination(nats, pattern=f"{name}.*", stream=None)
    seen: list[str] = []
    async with attacker(nats_server) as other:

        async def heard(message: Any) -> None:
            seen.append(message.reply)

        await other.subscribe(f"{name}.*", cb=heard)
        await other.flush()
        await destination.publish([JetStreamOut(f"{name}.{n}", b"", str(n)) for n in range(200)])
        await until(lambda: len(seen) == 200)
    tokens = {reply.rpartition(".")[2] for reply in seen}
    assert len(tokens) == 200
    # Not one character is at the same place in all of them, as a counter or a common beginning would be.
    assert all(len(set(column)) > 5 for column in zip(*tokens, strict=True))


async def test_the_api_is_not_from_any_answer_first(nats: NatsConnection, nats_server: NatsServer, name: str) -> None:
    await add_stream(nats, name)
    bad = [b"", b"[]", b"null", b"{", b'{"error": {"code": 404, "err_code": 10059}}', b'{"streams": ["other"]}']
    async with attacker(nats_server) as other:
        await answering(other, f"$JS.API.STREAM.INFO.{name}", lambda _: [(b"", each) for each in bad])
        info = await nats.api(f"STREAM.INFO.{name}")
    assert info.part("config").text("name") == name


async def test_an_ack_counts_when_the_server_confirms_it_and_not_before(
    nats: NatsConnection, nats_server: NatsServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.legs.acks.ACK_SECONDS", 0.1)
    await add_stream(nats, name)
    await add_consumer(nats, name, "c", ack_wait=3 * 10**8)
    source = JetStreamSource(nats, await open_consumer(nats, name, "c"))
    await (await nats.live()).publish(f"{name}.x", b"x")
    (lent,) = await take(source, 1)
    await nats.api(f"CONSUMER.DELETE.{name}.c")
    async with attacker(nats_server) as other:
        await answering(other, f"$JS.ACK.{name}.c.>", lambda _: [(b"", b"+OK"), (b"NATS/1.0 200\r\n\r\n", b"")])
        (answer,) = await source.settle([Settlement(lent, Ack())])
    assert isinstance(answer, BridgeError)


async def test_a_message_published_to_the_inbox_of_a_pull_is_no_delivery(
    nats: NatsConnection, nats_server: NatsServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.legs.jetstream.POLL_SECONDS", 0.3)
    await add_stream(nats, name)
    await add_consumer(nats, name, "c")
    source = JetStreamSource(nats, await open_consumer(nats, name, "c"))
    async with attacker(nats_server) as other:

        async def pulled(message: Any) -> None:
            for ack in (f"$JS.ACK.{name}.c.1.1.1.1700000000000000000.0", f"$JS.ACK.{name}.c.x.y", "elsewhere"):
                await other.publish(message.reply, b"forged", reply=ack)

        await other.subscribe(f"$JS.API.CONSUMER.MSG.NEXT.{name}.c", cb=pulled)
        await other.flush()
        assert list(await source.receive(10)) == []
    await (await nats.live()).publish(f"{name}.x", b"true")
    (lent,) = await take(source, 1)
    assert isinstance(lent.message, JetStreamMessage)
    assert (lent.message.payload, lent.attempt) == (b"true", 1)


async def test_a_header_of_the_servers_name_does_not_stall_a_pinned_consumer(
    nats: NatsConnection, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.legs.jetstream.POLL_SECONDS", 0.3)
    await add_stream(nats, name)
    pinned = {"priority_groups": ["g"], "priority_policy": "pinned_client", "priority_timeout": 60 * 10**9}
    await add_consumer(nats, name, "c", **pinned)
    consumer = await open_consumer(nats, name, "c", ordered=True)
    source = JetStreamSource(nats, consumer, ordered=True)
    client = await nats.live()
    for number in range(6):
        block = (
            b"NATS/1.0\r\nNats-Pin-Id: mine\r\nStatus: 423\r\nB: %d\r\n\r\n" % number
            if number % 2
            else b"NATS/1.0\r\nx"
        )
        await client.send([(f"{name}.x", "", block, b"%d" % number)])
    for number in range(6):
        (lent,) = await take(source, 1)
        assert isinstance(lent.message, JetStreamMessage)
        own = (("Nats-Pin-Id", "mine"), ("Status", "423"), ("B", str(number))) if number % 2 else ()
        assert (lent.message.payload, lent.message.headers) == (b"%d" % number, own)
        assert await source.settle([Settlement(lent, Ack())]) == [None]


async def test_only_what_ran_out_is_parked_whatever_advisories_say(
    nats: NatsConnection, nats_server: NatsServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.legs.jetstream.POLL_SECONDS", 0.1)
    await add_stream(nats, name, retention="workqueue")
    await add_consumer(nats, name, "c", ack_wait=60 * 10**9, max_deliver=2)
    consumer = await open_consumer(nats, name, "c")
    source = JetStreamSource(nats, consumer, exhausted=True)
    client = await nats.live()
    for each in (b"exhausted", b"waits for its second delivery", b"held"):
        await client.publish(f"{name}.x", each)
    first, second, held = await take(source, 3)
    await source.settle([Settlement(first, Retry(0))])
    await source.settle([Settlement(each, Retry(0)) for each in await take(source, 1)])
    await source.settle([Settlement(second, Retry(3600))])
    subject = f"$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{name}.c"
    async with attacker(nats_server) as other:
        good = {"stream": name, "consumer": "c", "deliveries": 2}
        sequences: list[Any] = [0, -1, 2, 3, 4, 999, None, "2", 2.0, True, [], 10**30]
        documents: list[Any] = [
            *({**good, "stream_seq": each} for each in sequences),
            [],
            None,
            {},
            {**good, "stream": 5},
        ]
        for document in documents:
            await other.publish(subject, json.dumps(document).encode())
        await other.publish(subject, b"\xff{")
        await other.flush()
    for _ in range(3):
        assert list(await source.receive(10)) == []  # one is not finished elsewhere, for all the consumer says
    await source.settle([Settlement(held, Ack())])
    assert await kept(nats, name) == 2
    # The last one pending is finished too; now what ran out is found, and nothing else.
    loan = second.token
    await client.publish(loan.reply, b"+ACK")  # type: ignore[attr-defined]
    await until_found(source, first)
    assert await kept(nats, name) == 1


async def until_found(source: JetStreamSource, what: Delivery) -> None:
    async with asyncio.timeout(20):
        while not (found := await source.receive(10)):
            pass
    assert [each.id for each in found] == [what.id]
    assert isinstance(found[0].hopeless, Refused)


async def test_the_ledger_believes_its_bucket_and_no_one_else(
    nats: NatsConnection, nats_server: NatsServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.legs.ledger.SECONDS", 0.5)
    await (await nats.live()).jetstream().create_key_value(bucket=name, ttl=60, direct=True)
    ledger = await open_ledger(nats, name, source="a", destinations=["b"])
    async with attacker(nats_server) as other:
        forged = [*named(f"KV_{name}x"), (b"NATS/1.0\r\nNats-Stream: KV_other\r\nNats-Subject: x\r\n\r\n", b"there:1")]
        await answering(other, f"$KV.{name}.>", lambda _: [(b"", b'"seq"'), *forged])
        gets = [each for each in forged if b" 404" not in each[0] and b" 503" not in each[0]]
        await answering(other, f"$JS.API.DIRECT.GET.KV_{name}.>", lambda _: gets)
        assert await ledger.note([("one", "there:1")]) == [True]
        assert await ledger.known(["one", "two"]) == ["there:1", None]
        # From now on the bucket says nothing by itself, and all that comes is forged.
        config = (await nats.api(f"STREAM.INFO.KV_{name}")).part("config")
        await nats.api(f"STREAM.UPDATE.KV_{name}", {**config, "no_ack": True, "allow_direct": False})
        assert await ledger.note([("two", "there:2")]) == [False]
        with pytest.raises(Unavailable):
            await ledger.known(["two"])


ODD: list[Any] = [
    None,
    True,
    0,
    -1,
    10**25,
    -(10**25),
    1.5,
    1e300,
    "",
    "x",
    "*",
    [],
    [None],
    [1],
    ["x"],
    {},
    {"seq": None},
]


def spoiled(answer: Any, chance: random.Random) -> Any:
    """The same answer with something odd in one place of it."""
    if not isinstance(answer, dict | list) or not answer or chance.random() < 0.1:
        return chance.choice(ODD)
    key = chance.choice(sorted(answer) if isinstance(answer, dict) else range(len(answer)))
    changed = dict(answer) if isinstance(answer, dict) else list(answer)
    changed[key] = spoiled(answer[key], chance)
    return changed


async def test_an_api_answer_of_any_shape_is_an_outage_of_the_peer_at_most(
    nats: NatsConnection, nats_server: NatsServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The true answers of a server, each spoiled in one place, from a JetStream domain that is none."""
    await add_stream(nats, name, duplicate_window=10**9)
    await add_consumer(nats, name, "c", backoff=[10**9, 2 * 10**9], max_deliver=5)
    client = await nats.live()
    await client.send([(f"{name}.x", "", b"NATS/1.0\r\nBridge-Parked-Format: plain\r\n\r\n", b"x")])
    chance: random.Random | None = None
    true: dict[tuple[str, bytes], Any] = {}
    errors: list[Exception] = []
    odd = 0
    async with attacker(nats_server) as other, NatsConnection(NatsOptions((nats_server.url,), domain=name)) as fake:

        async def heard(message: Any) -> None:
            call = message.subject.removeprefix(f"$JS.{name}.API.")
            if (call, message.data) not in true:
                reply = await other.request(f"$JS.API.{call}", message.data, timeout=5)
                true[call, message.data] = json.loads(reply.data)
            answer = true[call, message.data]
            await message.respond(json.dumps(spoiled(answer, chance) if chance else answer).encode())

        await other.subscribe(f"$JS.{name}.API.>", cb=heard)
        await other.flush()
        consumer = await open_consumer(fake, name, "c")

        async def looked() -> None:
            async for _ in StreamShelf(fake, name, f"{name}.>").look():
                pass

        async def watched() -> None:
            for seen in await WatchedConsumers(fake, name).look():
                assert isinstance(seen.backlog, Backlog | BridgeError)

        asking: list[Callable[[], Awaitable[object]]] = [
            lambda: open_consumer(fake, name, "c"),
            lambda: open_destination(fake, pattern=f"{name}.*", stream=None),
            lambda: stream_facts(fake, name),
            lambda: JetStreamSource(fake, consumer).backlog(),
            lambda: StreamShelf(fake, name, f"{name}.>").count(),
            looked,
            watched,
        ]
        for ask in asking:
            await ask()  # everything there is to spoil is known now
        monkeypatch.setattr("bridge.legs.nats.API_SECONDS", 0.02)
        for seed in range(25):
            for ask in asking:
                chance = random.Random(seed)
                try:
                    await ask()
                except BridgeError:
                    odd += 1
                except Exception as error:  # noqa: BLE001 - it is what this looks for
                    errors.append(error)
    assert errors == []
    assert odd > 25
