"""The filter beside a second one (second_filter.py) on generated pairs of policy and message."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bridge.core.errors import ConfigError
from bridge.core.filtering import FilterPolicy
from tests.core import policies, second_filter


@settings(max_examples=400)
@given(st.integers(0, 2**64))
def test_bodies(seed: int) -> None:
    random = Random(seed)
    policy = policies.policy(random, nested=True)
    body = policies.body(random, policy)
    try:
        accepts = FilterPolicy.parse(policy, "MessageBody").accepts({}, body.encode())
    except ConfigError:
        assume(False)
    assert accepts is second_filter.accepts(policy, {}, body), (policy, body)


@settings(max_examples=400)
@given(st.integers(0, 2**64))
def test_attributes(seed: int) -> None:
    random = Random(seed)
    policy = policies.policy(random, nested=False)
    attributes = policies.attributes(random, policy)
    try:
        accepts = FilterPolicy.parse(policy).accepts(attributes, b"")
    except ConfigError:
        assume(False)
    assert accepts is second_filter.accepts(policy, attributes, None), (policy, attributes)


@pytest.mark.parametrize("nested", [True, False])
def test_the_pairs_are_worth_comparing(nested: bool) -> None:
    """Enough policies SNS takes, and enough messages on either side of them."""
    decided = {True: 0, False: 0}
    for seed in range(300):
        random = Random(seed)
        policy = policies.policy(random, nested=nested)
        try:
            parsed = FilterPolicy.parse(policy, "MessageBody" if nested else "MessageAttributes")
        except ConfigError:
            continue
        body = policies.body(random, policy).encode() if nested else b""
        decided[parsed.accepts(policies.attributes(random, policy), body)] += 1
    assert min(decided.values()) > 50
