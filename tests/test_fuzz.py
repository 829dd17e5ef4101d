"""A short run of `make fuzz`: the same cases every time, so that what fails here fails anywhere."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fuzz.engine import Kind, run
from tests.fuzz.kinds import KINDS, afresh
from tests.fuzz.rules import Violation, block_holds, entry_legal, published, subject_legal

CASES = 450  # of a kind, for each share it has
SECONDS = 60.0  # far more than it takes: the number of cases ends it


@pytest.mark.fuzz
@pytest.mark.parametrize("kind", KINDS, ids=[each.name for each in KINDS])
async def test_no_hostile_input_gets_further_than_it_may(kind: Kind) -> None:
    report = await run([kind], seconds=SECONDS, seed=1, cases=CASES * kind.weight, afresh=afresh, patience=2.0)
    assert not report.failures, "\n".join(report.lines())


# -- the instrument itself: each of these must be caught


@pytest.mark.parametrize(
    "block",
    [
        b"NATS/1.0\r\na: x\r\nNats-Rollup: all\r\n\r\n",
        b"NATS/1.0\r\na: x\ry\r\n\r\n",
        b"NATS/1.0\r\na: x\ny\r\n\r\n",
        b"NATS/1.0\r\na: x\0\r\n\r\n",
        b"NATS/1.0\r\na: x \r\n\r\n",
        b"NATS/1.0\r\na: y\r\n\r\n",
        b"NATS/1.0\r\n\r\n",
        b"NATS/1.0 503\r\na: x\r\n\r\n",
        b"NATS/1.0\r\na: x\r\n",
    ],
)
def test_a_block_that_says_anything_else_is_seen(block: bytes) -> None:
    block_holds(b"NATS/1.0\r\na: x\r\n\r\n", [("a", "x")])
    with pytest.raises(Violation):
        block_holds(block, [("a", "x")])


@pytest.mark.parametrize("name", ["Nats-Rollup", "nats-ttl", "NATS-Msg-Id", "Status", "description"])
def test_a_header_nats_acts_on_is_seen(name: str) -> None:
    with pytest.raises(Violation):
        block_holds(b"NATS/1.0\r\n%s: x\r\n\r\n" % name.encode(), [(name, "x")])


@pytest.mark.parametrize("subject", [b"", b"a b", b"a\r\nb", b"a..b", b"a.*", b">", b"$JS.API.x", b"a\0"])
def test_a_subject_that_is_none_is_seen(subject: bytes) -> None:
    subject_legal(b"orders.paid")
    with pytest.raises(Violation):
        subject_legal(subject)


@pytest.mark.parametrize(
    "command",
    [b"PUB a 2\r\nx\r\n", b"PUB a b c 1\r\nx\r\n", b"PUB a 1\r\nx\r\nPUB", b"HPUB a 1 x\r\nx\r\n", b"SUB a 1\r\n"],
)
def test_a_command_the_server_would_cut_the_connection_for_is_seen(command: bytes) -> None:
    assert published(b"PUB a 1\r\nx\r\nHPUB b r 2 3\r\nxxy\r\n")[1].block == b"xx"
    with pytest.raises(Violation):
        published(command)


@pytest.mark.parametrize(
    "change",
    [
        {"MessageBody": ""},
        {"MessageBody": "\x00"},
        {"MessageBody": "\ufffe"},
        {"MessageBody": "x" * 2_000},
        {"MessageAttributes": {f"a{n}": {"DataType": "String", "StringValue": "v"} for n in range(11)}},
        {"MessageAttributes": {"AWS.x": {"DataType": "String", "StringValue": "v"}}},
        {"MessageAttributes": {"a": {"DataType": "String", "StringValue": ""}}},
        {"MessageAttributes": {"a": {"DataType": "Number", "StringValue": "x"}}},
        {"MessageAttributes": {"a": {"DataType": "Other", "StringValue": "v"}}},
        {"MessageAttributes": {"a": {"DataType": "Binary", "BinaryValue": b""}}},
        {"MessageGroupId": "a b"},
        {"MessageGroupId": "x" * 129},
        {"DelaySeconds": 1},
    ],
)
def test_an_entry_aws_refuses_is_seen(change: dict[str, Any]) -> None:
    good = {"MessageBody": "x", "MessageGroupId": "g", "MessageDeduplicationId": "d"}
    entry_legal(good, fifo=True, limit=1_024)
    with pytest.raises(Violation):
        entry_legal({**good, **change}, fifo=True, limit=1_024)


async def test_a_failure_is_reported_made_small_and_can_be_repeated() -> None:
    async def check(case: dict[str, str]) -> None:
        if "!" in case["text"]:
            raise ValueError("it has one")

    kind = Kind("k", lambda rng: {"text": "".join(rng.choices("abc!", k=20)), "other": "x"}, check)
    report = await run([kind], seconds=60.0, seed=1, cases=50, afresh=lambda: None)
    (failure,) = report.failures.values()
    assert failure.case == {"text": "!"}
    again = await run([kind], seconds=60.0, seed=failure.seed, cases=1, afresh=lambda: None)
    assert [each.signature for each in again.failures.values()] == [failure.signature]
    assert any(f"--only k --seed {failure.seed} --cases 1" in line for line in report.lines())


async def test_a_case_without_end_is_a_failure() -> None:
    async def check(_: object) -> None:
        while True:
            pass

    report = await run(
        [Kind("k", lambda _: 1, check)], seconds=60.0, seed=1, cases=1, afresh=lambda: None, patience=0.0, cpu=0.2
    )
    assert [each.signature.partition(" ")[0] for each in report.failures.values()] == ["Hang"]
