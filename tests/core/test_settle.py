"""The laws of settling: bounded delays, no acknowledgement for an error, Reject only for the hopeless."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bridge.core import errors
from bridge.core.settle import HandBack, Hold, Policy, Reject, backoff, decide

POLICIES = st.builds(
    Policy, first=st.floats(0.001, 10), longest=st.floats(10, 600), outage=st.floats(1, 10), attempts=st.integers(1, 50)
)
JITTER = st.floats(0, 1, exclude_max=True)
ATTEMPT = st.integers(1, 10_000)
OURS = [
    errors.Failed("x"),
    errors.Unavailable("x"),
    errors.Throttled("x"),
    errors.NotUsable("x"),
    errors.LeaseLost("x"),
    errors.Refused("x"),
    errors.Unmappable("body", "x"),
]


@given(ATTEMPT, JITTER, POLICIES)
def test_a_delay_is_bounded_and_never_zero(attempt: int, jitter: float, policy: Policy) -> None:
    delay = backoff(attempt, jitter, policy)
    assert 0 < delay <= policy.longest


@given(ATTEMPT, JITTER, POLICIES)
def test_delays_do_not_shrink(attempt: int, jitter: float, policy: Policy) -> None:
    assert backoff(attempt, jitter, policy) <= backoff(attempt + 1, jitter, policy)


@given(st.sampled_from([*OURS, ValueError("a stranger")]), ATTEMPT, JITTER, POLICIES)
def test_only_the_hopeless_is_rejected_and_every_delay_is_bounded(
    error: Exception, attempt: int, jitter: float, policy: Policy
) -> None:
    decision = decide(error, attempt, jitter, policy)
    assert isinstance(decision, Reject) == isinstance(error, errors.Refused | errors.Unmappable)
    if not isinstance(decision, Reject):
        assert 0 < decision.after <= policy.longest


@given(
    st.sampled_from([errors.Unavailable("x"), errors.Throttled("x"), errors.NotUsable("x")]), ATTEMPT, JITTER, POLICIES
)
def test_an_outage_never_burns_the_sources_receive_count(
    error: Exception, attempt: int, jitter: float, policy: Policy
) -> None:
    assert isinstance(decide(error, attempt, jitter, policy), Hold)


@given(JITTER, POLICIES)
def test_a_message_that_keeps_failing_goes_back_to_the_source(jitter: float, policy: Policy) -> None:
    decisions = [decide(errors.Failed("x"), attempt, jitter, policy) for attempt in range(1, policy.attempts + 1)]
    assert [type(decision) for decision in decisions] == [Hold] * (policy.attempts - 1) + [HandBack]


@given(ATTEMPT, JITTER, POLICIES)
def test_a_throttled_call_waits_longer(attempt: int, jitter: float, policy: Policy) -> None:
    throttled = decide(errors.Throttled("x"), attempt, jitter, policy)
    down = decide(errors.Unavailable("x"), attempt, jitter, policy)
    assert isinstance(throttled, Hold)
    assert isinstance(down, Hold)
    assert throttled.after >= down.after
