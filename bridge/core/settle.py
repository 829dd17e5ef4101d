"""What to do after a failure: decide(error, attempt, policy) -> Hold | HandBack | Reject. And the backoff curve.

Laws (tests/core/test_settle.py): every delay is bounded; Reject only for what can never succeed; an error we do not
know is held, then handed back, and never acknowledged.
May not: sleep, draw random numbers or read a clock. Jitter is passed in.
"""

from __future__ import annotations

from dataclasses import dataclass

from bridge.core.errors import BridgeError, NotUsable, Refused, Throttled, Unavailable, Unexpected, Unmappable


@dataclass(frozen=True, slots=True)
class Policy:
    """Delays in seconds; `outage` is the longest while the other side is down. `attempts` bounds tries of one message
    that fails for reasons of its own, and `returned` is the longest time one is given back to the source for."""

    first: float = 0.2
    longest: float = 30.0
    outage: float = 3.0
    attempts: int = 8
    returned: float = 900.0


@dataclass(frozen=True, slots=True)
class Hold:
    """Keep it in flight and publish it again after `after` seconds: an outage must not use up receive counts."""

    after: float


@dataclass(frozen=True, slots=True)
class HandBack:
    """Give it back to the source for `after` seconds; its redrive policy counts from there."""

    after: float


@dataclass(frozen=True, slots=True)
class Reject:
    """It can never be carried: park it."""


Decision = Hold | HandBack | Reject


def backoff(attempt: int, jitter: float, policy: Policy) -> float:
    """Seconds to wait before attempt `attempt + 1`; `attempt` counts failures from 1, `jitter` is in [0, 1).

    Doubles from `first` up to `longest`, then takes between half and all of it, so that routes that failed together
    do not come back together.
    """
    exponent = min(max(attempt, 1) - 1, 32)  # 2**32 times any sane `first` is past any sane `longest`
    return min(policy.longest, policy.first * 2.0**exponent) * (0.5 + jitter / 2)


def pause(error: Exception, attempt: int, jitter: float, policy: Policy) -> float:
    """Seconds to wait after the `attempt`-th failure (from 1) in a row of this kind."""
    match error:
        case Throttled():
            # Two steps up the curve: a throttled API gets quieter sooner than a broken one.
            return backoff(attempt + 2, jitter, policy)
        case _ if isinstance(error, Unavailable) or (isinstance(error, BridgeError) and error.outage):
            # Checking whether a connection is back costs next to nothing, and traffic should not wait for us.
            return min(policy.outage, backoff(attempt, jitter, policy))
        case _:
            return backoff(attempt, jitter, policy)


def returned(attempt: int, policy: Policy) -> float:
    """Seconds to give a message back for when it may not wait here, at its `attempt`-th delivery (from 1). Twice as
    long each time: every return counts towards the source's own redrive policy."""
    return min(policy.returned, policy.longest * 2.0 ** min(max(attempt, 1) - 1, 32))


def decide(error: Exception, attempt: int, jitter: float, policy: Policy) -> Decision:
    """What the pump does with a message whose `attempt`-th try (from 1) ended in `error`."""
    match error:
        case Unmappable() | Refused() | Unexpected(guilty=True):
            return Reject()
        case Unavailable() | NotUsable() | Unexpected():
            return Hold(pause(error, attempt, jitter, policy))
        case _:
            return (
                Hold(pause(error, attempt, jitter, policy)) if attempt < policy.attempts else HandBack(policy.longest)
            )
