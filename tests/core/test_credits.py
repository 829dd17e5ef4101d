"""The laws of the account of what is in flight."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bridge.core.credits import LARGE, Credits

SIZES = st.integers(min_value=1, max_value=2_000_000)


def drained(account: Credits) -> tuple[int, int]:
    return account._messages, account._bytes


@given(
    messages=st.integers(1, 300),
    size=st.integers(1, 5_000_000),
    batch=st.integers(1, 50),
    steps=st.lists(st.tuples(st.sampled_from(["ask", "come", "go"]), st.integers(0, 50), SIZES), max_size=80),
)
def test_what_was_reserved_comes_back_and_nothing_is_ever_stuck(
    messages: int, size: int, batch: int, steps: list[tuple[str, int, int]]
) -> None:
    account = Credits(messages=messages, size=size, batch=batch)
    asked: list[tuple[int, int]] = []
    lent: list[tuple[int, int]] = []
    for step, number, each in steps:
        if step == "ask":
            if (reserved := account.reserve()) is not None:
                assert 1 <= reserved[0] <= min(batch, messages)
                asked.append(reserved)
            else:
                assert asked or lent, "with nothing in flight there is always something to ask for"
        elif step == "come" and asked:
            reserved = asked.pop()
            count = min(number, reserved[0])
            account.charge(reserved, count, count * each)
            if count:
                lent.append((count, count * each))
        elif step == "go" and lent:
            account.back(*lent.pop(0))
        assert sum(count for count, _ in asked) + sum(count for count, _ in lent) <= messages
    for reserved in asked:
        account.charge(reserved, 0, 0)
    for count, total in lent:
        account.back(count, total)
    assert drained(account) == (messages, size)
    assert account.reserve() is not None


@given(size=st.integers(1, 5_000_000), each=SIZES, batch=st.integers(1, 50), rounds=st.integers(1, 40))
def test_messages_of_one_size_never_take_more_than_they_may(size: int, each: int, batch: int, rounds: int) -> None:
    account = Credits(messages=10_000, size=size, batch=batch)
    first = account.reserve()
    assert first is not None
    account.charge(first, 1, each)  # from here on it knows
    account.back(1, each)
    for _ in range(200):  # what it had guessed too high wears off
        if (reserved := account.reserve()) is not None:
            account.charge(reserved, 1, each)
            account.back(1, each)
    in_flight = 0
    for _ in range(rounds):
        if (reserved := account.reserve()) is None:
            break
        account.charge(reserved, reserved[0], reserved[0] * each)
        in_flight += reserved[0] * each
    assert in_flight <= max(size, each), "unless one alone is larger"


@given(each=SIZES, batch=st.integers(1, 200))
def test_large_messages_are_received_fewer_at_once(each: int, batch: int) -> None:
    account = Credits(messages=10_000, size=10**12, batch=batch)
    first = account.reserve()
    assert first is not None
    account.charge(first, 1, each)
    for _ in range(200):
        reserved = account.reserve()
        assert reserved is not None
        account.charge(reserved, 1, each)
    reserved = account.reserve()
    assert reserved is not None
    assert reserved[0] == batch if each <= LARGE else 1 <= reserved[0] <= max(1, batch * LARGE // each)
