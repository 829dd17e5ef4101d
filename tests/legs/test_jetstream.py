"""JetStream, against a real nats-server: the exam, and what is JetStream's own."""

from __future__ import annotations

import asyncio
import gc
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nkeys
import pytest

from bridge.core.errors import NotUsable, Refused, Unavailable
from bridge.core.mapping.sizes import jetstream_bytes
from bridge.core.models import JetStreamMessage, JetStreamOut, Out
from bridge.core.route import Ack, Delivery, Receipt, Settlement
from bridge.embedded import NatsServer
from bridge.legs.answers import Answer, parse_ack_subject
from bridge.legs.consumer import open_consumer
from bridge.legs.jetstream import JetStreamSource
from bridge.legs.nats import Headers, NatsConnection, NatsOptions, Tls
from bridge.legs.stream import JetStreamDestination, open_destination, publish_error
from tests.legs.exam import DestinationExam, SourceExam, take, until
from tests.legs.test_aws_roads import certificate

pytestmark = pytest.mark.server
SEED = bytes(nkeys.encode_seed(bytes(range(32)), nkeys.PREFIX_BYTE_USER))


@pytest.fixture
async def nats(nats_server: NatsServer) -> AsyncIterator[NatsConnection]:
    async with NatsConnection(NatsOptions((nats_server.url,))) as connection:
        yield connection


async def add_stream(nats: NatsConnection, name: str, **config: Any) -> None:
    body = {"name": name, "subjects": [f"{name}.>"], "storage": "memory", **config}
    await nats.api(f"STREAM.CREATE.{name}", body)


async def add_consumer(nats: NatsConnection, stream: str, name: str, **config: Any) -> None:
    body = {"durable_name": name, "ack_policy": "explicit", "deliver_policy": "all", "max_ack_pending": 5000, **config}
    await nats.api(f"CONSUMER.CREATE.{stream}.{name}", {"stream_name": stream, "config": body})


@dataclass
class JetStreamSourceCandidate:
    nats: NatsConnection
    name: str
    source: JetStreamSource
    lease: float
    ordered: bool = True

    async def put(self, count: int) -> None:
        client = await self.nats.live()
        for number in range(count):
            await client.publish(f"{self.name}.x", str(number).encode())
        await client.flush()

    def number(self, delivery: Delivery) -> int:
        assert isinstance(delivery.message, JetStreamMessage)
        return int(delivery.message.payload)


class TestJetStreamSource(SourceExam):
    @pytest.fixture
    async def candidate(
        self, nats: NatsConnection, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> JetStreamSourceCandidate:
        monkeypatch.setattr("bridge.legs.jetstream.POLL_SECONDS", 0.3)
        await add_stream(nats, name)
        await add_consumer(nats, name, "c", ack_wait=2 * 10**9)
        return JetStreamSourceCandidate(nats, name, JetStreamSource(nats, await open_consumer(nats, name, "c")), 2.0)

    async def test_pulls_side_by_side_share_the_messages(self, candidate: JetStreamSourceCandidate) -> None:
        await candidate.put(300)
        batches = await asyncio.gather(*(candidate.source.receive(100) for _ in range(3)))
        lent = [each for batch in batches for each in batch]
        lent += await take(candidate.source, 300 - len(lent))  # a server may end a pull early (2.10 does)
        assert sorted(candidate.number(each) for each in lent) == list(range(300))

    async def test_a_poison_status_header_is_a_message_like_any_other(
        self, candidate: JetStreamSourceCandidate
    ) -> None:
        client = await candidate.nats.live()
        for status in ("404", "503", "100", "what"):
            await client.publish(f"{candidate.name}.x", b"0", headers={"Status": status, "Description": "no"})
        lent = await take(candidate.source, 4)
        assert [each.message.header("Status") for each in lent if isinstance(each.message, JetStreamMessage)] == [
            *("404", "503", "100", "what")
        ]
        assert list(await candidate.source.settle([Settlement(each, Ack()) for each in lent])) == [None] * 4

    async def test_every_value_of_a_header_arrives(self, candidate: JetStreamSourceCandidate) -> None:
        client = await candidate.nats.live()
        head = b"NATS/1.0\r\nA: one\r\na: small\r\nA: two\r\nB: caf\xc3\xa9\r\nC: \xff\r\n\r\n"
        frame = b"HPUB %s.x %d %d\r\n%s0\r\n" % (candidate.name.encode(), len(head), len(head) + 1, head)
        await client._send_command(frame)
        await client.flush()
        (lent,) = await take(candidate.source, 1)
        assert isinstance(lent.message, JetStreamMessage)
        assert lent.message.headers == (("A", "one"), ("a", "small"), ("A", "two"), ("B", "café"), ("C", "\udcff"))

    async def test_a_deleted_consumer_is_reported_and_found_again(self, candidate: JetStreamSourceCandidate) -> None:
        await candidate.nats.api(f"CONSUMER.DELETE.{candidate.name}.c")
        with pytest.raises(NotUsable, match="nats consumer add"):
            await candidate.source.receive(1)
        await add_consumer(candidate.nats, candidate.name, "c")
        await candidate.put(1)
        assert len(await take(candidate.source, 1)) == 1

    async def test_a_client_that_closed_for_good_is_replaced(self, candidate: JetStreamSourceCandidate) -> None:
        await candidate.put(1)
        client = await candidate.nats.live()
        # Headers do not count in nats-py's own check: the server answers -ERR, and nats-py closes for good.
        await client.publish(f"{candidate.name}.x", b"x" * client.max_payload, headers={"A": "b"})
        await until(lambda: client.is_closed)
        (lent,) = await take(candidate.source, 1)
        assert list(await candidate.source.settle([Settlement(lent, Ack())])) == [None]

    async def test_after_a_client_closed_every_receiver_hears_again(self, candidate: JetStreamSourceCandidate) -> None:
        source, client = candidate.source, await candidate.nats.live()
        first, second = asyncio.create_task(source.receive(1)), asyncio.create_task(source.receive(1))
        await until(lambda: len(client._subs) >= 2)
        await client.publish(f"{candidate.name}.x", b"x" * client.max_payload, headers={"A": "b"})
        await until(lambda: client.is_closed)
        await candidate.nats.live()
        await asyncio.gather(source.receive(1), first, second, return_exceptions=True)
        await candidate.put(4)
        lent = await asyncio.gather(*(take(source, 1) for _ in range(4)))
        assert sorted(candidate.number(each) for (each,) in lent) == [0, 1, 2, 3]


@dataclass
class JetStreamDestinationCandidate:
    nats: NatsConnection
    name: str
    destination: JetStreamDestination
    limit: int
    recognises: bool = True

    def out(self, number: int, *, size: int = 10) -> Out:
        bare = JetStreamOut(f"{self.name}.x", b"", f"id:{number}", {"Number": str(number)})
        return JetStreamOut(
            bare.subject, b"x" * (size - min(size, jetstream_bytes(bare)[1])), bare.msg_id, bare.headers
        )

    async def arrived(self, count: int) -> list[int]:
        await add_consumer(self.nats, self.name, "look")
        source = JetStreamSource(self.nats, await open_consumer(self.nats, self.name, "look"))
        lent = await take(source, count)
        return [int(each.message.header("Number") or -1) for each in lent if isinstance(each.message, JetStreamMessage)]


class TestJetStreamDestination(DestinationExam):
    @pytest.fixture
    async def candidate(self, nats: NatsConnection, name: str) -> JetStreamDestinationCandidate:
        await add_stream(nats, name)
        destination = await open_destination(nats, pattern=f"{name}.x", stream=None)
        return JetStreamDestinationCandidate(nats, name, destination, int((await nats.live()).max_payload))

    async def test_oversized_headers_and_subjects_are_refused_before_they_cut_the_connection(
        self, candidate: JetStreamDestinationCandidate
    ) -> None:
        client = await candidate.nats.live()
        subject = f"{candidate.name}.x"
        large = JetStreamOut(subject, b"", "a", {"Big": "x" * 70_000})
        long = JetStreamOut(f"{candidate.name}.{'x' * 4_000}", b"", "b")
        answers = await candidate.destination.publish([large, long, candidate.out(1)])
        assert isinstance(answers[0], Refused)
        assert "65,535" in str(answers[0])
        assert isinstance(answers[1], Refused)
        assert isinstance(answers[2], Receipt)
        assert client.is_connected

    async def test_the_largest_header_block_goes(self, candidate: JetStreamDestinationCandidate) -> None:
        bare = JetStreamOut(f"{candidate.name}.x", b"", "a", {"Big": ""})
        room = 65_535 - jetstream_bytes(bare)[0]
        answers = await candidate.destination.publish(
            [JetStreamOut(bare.subject, b"", "a", {"Big": "x" * (room + more)}) for more in (0, 1)]
        )
        assert isinstance(answers[0], Receipt), answers[0]
        assert isinstance(answers[1], Refused)


async def test_a_stream_that_is_full_is_an_outage_and_ends_when_there_is_room(nats: NatsConnection, name: str) -> None:
    await add_stream(nats, name, max_msgs=1, discard="new")
    destination = await open_destination(nats, pattern=f"{name}.x", stream=name)
    outs = [JetStreamOut(f"{name}.x", b"", f"id:{n}") for n in range(2)]
    answers = await destination.publish(outs)
    assert isinstance(answers[0], Receipt)
    assert isinstance(answers[1], Unavailable)
    assert "full" in str(answers[1])
    await nats.api(f"STREAM.PURGE.{name}")
    (answer,) = await destination.publish(outs[1:])
    assert isinstance(answer, Receipt)


async def test_another_stream_than_the_one_named_is_refused(nats: NatsConnection, name: str) -> None:
    await add_stream(nats, name, subjects=[f"{name}.a"])
    await add_stream(nats, f"{name}2", subjects=[f"{name}.b"])
    destination = await open_destination(nats, pattern=f"{name}.*", stream=name)
    answers = await destination.publish([JetStreamOut(f"{name}.{x}", b"", x) for x in "ab"])
    assert isinstance(answers[0], Receipt)
    assert isinstance(answers[1], Refused)


async def test_one_subject_no_one_captures_is_that_messages_fault(nats: NatsConnection, name: str) -> None:
    await add_stream(nats, name, subjects=[f"{name}.a"])
    destination = await open_destination(nats, pattern=f"{name}.*", stream=None)
    answers = await destination.publish([JetStreamOut(f"{name}.{x}", b"", x) for x in "ab"])
    assert isinstance(answers[0], Receipt)
    assert isinstance(answers[1], Refused)
    assert f"no stream captures {name}.b" in str(answers[1])


async def test_a_stream_that_went_away_holds_everything(nats: NatsConnection, name: str) -> None:
    await add_stream(nats, name)
    destination = await open_destination(nats, pattern=f"{name}.*", stream=None)
    await nats.api(f"STREAM.DELETE.{name}")
    (answer,) = await destination.publish([JetStreamOut(f"{name}.a", b"", "a")])
    assert isinstance(answer, NotUsable)
    assert "nats stream add" in answer.hint


async def test_opening_says_what_is_missing(nats: NatsConnection, name: str) -> None:
    with pytest.raises(NotUsable, match=f'nats stream add .* --subjects "{name}.x"'):
        await open_destination(nats, pattern=f"{name}.x", stream=None)
    await add_stream(nats, name)
    with pytest.raises(NotUsable) as lost:
        await open_consumer(nats, f"{name}-lost", "c")
    assert "stream not found" in str(lost.value)
    assert re.search(rf"streams here are .*\b{name}\b|more$", lost.value.hint)
    with pytest.raises(NotUsable, match=f"nats consumer add {name} c --pull --ack explicit"):
        await open_consumer(nats, name, "c")
    with pytest.raises(NotUsable, match=r'--filter "a\.>" --filter "b" --defaults'):
        await open_consumer(nats, name, "c", ["a.>", "b"])


async def test_advice_to_widen_a_stream_keeps_what_it_captures(nats: NatsConnection, name: str) -> None:
    await add_stream(nats, name, subjects=[f"{name}.a", f"{name}.b.*"])
    with pytest.raises(NotUsable, match=f"captures no subject matching {name}.x") as narrow:
        await open_destination(nats, pattern=f"{name}.x.*", stream=name)
    assert narrow.value.hint == f'nats stream edit {name} --subjects "{name}.a,{name}.b.*,{name}.x.*"'
    with pytest.raises(NotUsable, match="not in the one stream") as unscheduled:
        await open_destination(nats, pattern=f"{name}.a", stream=name, schedules=f"{name}.later")
    assert unscheduled.value.hint == f'nats stream edit {name} --subjects "{name}.a,{name}.b.*,{name}.later.*"'


async def test_consumers_that_cannot_serve_a_route_are_reported(nats: NatsConnection, name: str) -> None:
    await add_stream(nats, name)
    await add_consumer(nats, name, "push", deliver_subject="somewhere")
    await add_consumer(nats, name, "all", ack_policy="all")
    await add_consumer(nats, name, "narrow", filter_subject=f"{name}.a")
    with pytest.raises(NotUsable, match="push consumer"):
        await open_consumer(nats, name, "push")
    with pytest.raises(NotUsable, match="ack policy all"):
        await open_consumer(nats, name, "all")
    with pytest.raises(NotUsable, match="nats consumer edit"):
        await open_consumer(nats, name, "narrow", [f"{name}.>"])
    assert (await open_consumer(nats, name, "narrow", [f"{name}.a"])).filters == (f"{name}.a",)


async def test_an_interest_stream_without_consumers_is_not_opened(nats: NatsConnection, name: str) -> None:
    await add_stream(nats, name, retention="interest")
    with pytest.raises(NotUsable, match="would drop every message"):
        await open_destination(nats, pattern=f"{name}.x", stream=None)
    await add_consumer(nats, name, "c")
    await open_destination(nats, pattern=f"{name}.x", stream=None)


async def test_a_server_that_goes_and_comes_back(tmp_path: Path, name: str) -> None:
    notices: list[str] = []
    with NatsServer(tmp_path / "nats") as server:
        options = NatsOptions((server.url,), connect_timeout=1)
        async with NatsConnection(options, notice=lambda event, detail: notices.append(event)) as nats:
            await add_stream(nats, name, storage="file")
            destination = await open_destination(nats, pattern=f"{name}.x", stream=None)
            out = JetStreamOut(f"{name}.x", b"", "id")
            assert isinstance((await destination.publish([out]))[0], Receipt)
            await asyncio.to_thread(server.kill)
            await until(lambda: not nats.is_connected)
            with pytest.raises(Unavailable):
                await destination.publish([out])
            await asyncio.to_thread(server.start)
            await until(lambda: nats.is_connected)
            answers = await destination.publish([out])
            while isinstance(answers[0], Unavailable | NotUsable):  # JetStream needs a moment after its server
                answers = await destination.publish([out])
            assert isinstance(answers[0], Receipt)
            assert answers[0].duplicate
    assert notices[0] == "connected"
    assert "reconnected" in notices


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    async with NatsConnection(NatsOptions(("nats://127.0.0.1:1",), connect_timeout=0.5)) as nats:
        with pytest.raises(Unavailable):
            await nats.live()


async def test_wrong_credentials_are_not_usable_and_not_shown(tmp_path: Path) -> None:
    config = 'authorization { user: bridge, password: "right" }'
    with NatsServer(tmp_path / "nats", config=config) as server:
        options = NatsOptions((server.url,), user="bridge", password="s3cret", connect_timeout=2)
        assert "s3cret" not in repr(options)
        async with NatsConnection(options) as nats:
            with pytest.raises(NotUsable) as raised:
                await nats.live()
        assert "s3cret" not in str(raised.value)
        async with NatsConnection(NatsOptions((server.url,), user="bridge", password="right")) as nats:
            assert (await nats.live()).is_connected


@pytest.mark.parametrize(
    "options",
    [
        {"nkey_seed_file": "rubbish"},
        {"credentials_file": "rubbish"},
        {"credentials_file": "no-jwt"},
        {"tls": Tls(ca_file="rubbish")},
        {"tls": Tls(cert_file="rubbish", key_file="rubbish")},
    ],
    ids=lambda options: next(iter(options)),
)
async def test_a_file_that_holds_something_else_is_for_a_human(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rubbish").write_text("hunter2")
    lines = (b"-----BEGIN USER NKEY SEED-----", SEED, b"------END USER NKEY SEED------", b"")
    (tmp_path / "no-jwt").write_bytes(b"\n".join(lines))
    with NatsServer(tmp_path / "nats", config='authorization { users = [{user: "a", password: "b"}] }') as server:
        async with NatsConnection(NatsOptions((server.url,), **options)) as connection:
            with pytest.raises(NotUsable) as raised:
                await connection.live()
    assert "rubbish" in str(raised.value) or "no-jwt" in str(raised.value)
    assert not any(secret in str(raised.value) for secret in ("hunter2", SEED.decode()))


@pytest.mark.filterwarnings("ignore:Exception ignored in", "ignore::ResourceWarning")
async def test_a_seed_that_is_spoiled_and_fixed_while_the_server_is_away(tmp_path: Path) -> None:
    public = nkeys.from_seed(bytearray(SEED)).public_key.decode()
    (tmp_path / "seed").write_bytes(SEED)
    server = NatsServer(tmp_path / "nats", config=f"authorization {{ users = [{{nkey: {public}}}] }}")
    with server:
        options = NatsOptions((server.url,), nkey_seed_file=str(tmp_path / "seed"), connect_timeout=1)
        notices: list[str] = []
        async with NatsConnection(options, notice=lambda _, text: notices.append(text)) as connection:
            await connection.live()
            (tmp_path / "seed").write_text("spoiled")
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            await until(lambda: any("authentication" in text for text in notices))
            (tmp_path / "seed").write_bytes(SEED)
            await until(lambda: connection.is_connected)
    gc.collect()  # nats-py leaves the sockets of failed attempts unclosed; they must not be found in another test


async def test_required_tls_is_not_given_up(nats_server: NatsServer) -> None:
    options = NatsOptions((nats_server.url,), tls=Tls(required=True), connect_timeout=1)
    async with NatsConnection(options) as nats:
        with pytest.raises(NotUsable, match="offers no TLS"):
            await nats.live()


async def test_a_server_that_wants_the_tls_handshake_first(tmp_path: Path) -> None:
    _, pem = certificate(tmp_path)
    tls = f"tls {{cert_file: {pem}, key_file: {tmp_path / 'key.pem'}, handshake_first: true}}"
    with NatsServer(tmp_path / "nats", config=tls) as server:
        options = NatsOptions((server.url,), tls=Tls(ca_file=str(pem), first=True), connect_timeout=3)
        async with NatsConnection(options) as nats:
            await nats.api("INFO")


async def test_a_subject_we_may_not_publish_is_reported_as_such(tmp_path: Path, name: str) -> None:
    config = (
        "authorization { users = [ { user: a, password: a }, { user: b, password: b, permissions: "
        '{ publish: { deny: "secret.>" } } } ] }'
    )
    with NatsServer(tmp_path / "nats", config=config) as server:
        async with NatsConnection(NatsOptions((server.url,), user="b", password="b")) as nats:
            await add_stream(nats, name, subjects=["secret.>"])
            destination = await open_destination(nats, pattern="secret.x", stream=None)
            (answer,) = await destination.publish([JetStreamOut("secret.x", b"", "id")])
            assert isinstance(answer, NotUsable)
            assert "allow this user to publish secret.x" in answer.hint


def test_ack_subjects_of_both_versions_are_read() -> None:
    old = parse_ack_subject("$JS.ACK.orders.c.3.41.7.1700000000500000000.9")
    new = parse_ack_subject("$JS.ACK._.hash.orders.c.3.41.7.1700000000500000000.9.random")
    assert old is not None
    assert old == ("orders", "c", 3, 41, 7, 1700000000.5)
    assert old == new
    assert parse_ack_subject("_INBOX.x") is None
    assert parse_ack_subject("$JS.ACK.too.short") is None


@pytest.mark.parametrize(
    ("number", "code", "kind"),
    [
        *((number, 400, Refused) for number in (10060, 10054, 10097)),
        *((number, 503, Unavailable) for number in (10077, 10047, 10023, 10002, 10118, 10194)),
        (10158, 409, Unavailable),
        *((number, 400, NotUsable) for number in (10109, 10071, 10052, 99999)),
        (1, 503, Unavailable),
    ],
)
def test_each_publish_error_is_an_instruction(number: int, code: int, kind: type[Exception]) -> None:
    assert type(publish_error(Answer({"err_code": number, "code": code, "description": "d"}, "s"))) is kind


def test_headers_are_read_as_they_came() -> None:
    headers = Headers.parse(b"NATS/1.0\r\nA:  one \r\nA:two\r\nEmpty:\r\nOdd Name: x\r\n\r\n")
    assert headers.pairs == (("A", "one"), ("A", "two"), ("Empty", ""), ("Odd Name", "x"))
    assert headers["A"] == "one"
