"""When a call to AWS is retried: the standard retry mode of AWS's SDKs, once for both transports.

botocore's own is off (aws.py), so that its transport and the lean one obey the same rules and share one quota. This
covers calls that failed as a whole; the pump handles an entry that failed inside a 200. PATIENCE is added to the
standard. May not: wait, make a call, or judge what an error means for a message.
Source: botocore 1.43, retries/standard.py and quota.py as they are without AWS_NEW_RETRIES_2026; AWS SDKs and Tools
reference guide, Retry behavior.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import aiohttp
from botocore import exceptions as boto

from bridge.legs.aws_lean import CALLS, LeanError

REPEATED: Mapping[str, str] = {**CALLS, "publish_batch": "PublishBatch"}
"""The calls that carry messages, by botocore's method name. The callers of all others retry themselves."""

ATTEMPTS = 3
LONGEST = 20.0  # seconds between two attempts
PATIENCE = 10.0  # seconds after a call began in which it may be retried: a timeout is reported after one, not three
QUOTA = 500
COST, TIMEOUT_COST, UNREPEATED = 5, 10, 1  # of the quota: what a retry takes, what a call without one gives back

STATUSES = frozenset({500, 502, 503, 504})
CODES = frozenset(
    {"RequestTimeout", "RequestTimeoutException", "PriorRequestNotComplete"}
    | {"Throttling", "ThrottlingException", "ThrottledException", "RequestThrottledException", "RequestThrottled"}
    | {"TooManyRequestsException", "RequestLimitExceeded", "BandwidthLimitExceeded", "LimitExceededException"}
    | {"SlowDown", "EC2ThrottledException", "ProvisionedThroughputExceededException", "TransactionInProgressException"}
)
"""As botocore lists them; a code is compared as it is, so that nothing is retried that botocore would not."""

_TIMEOUTS = (boto.ConnectTimeoutError, boto.ReadTimeoutError, TimeoutError)
_NETWORK = (boto.HTTPClientError, boto.ConnectionError, boto.IncompleteReadError, aiohttp.ClientError, OSError)


class Again(NamedTuple):
    """Another attempt, `after` so many seconds; `cost` goes back into the quota when it succeeds."""

    after: float
    cost: int


class Retries:
    """The quota of one connection: while AWS keeps failing, it empties, and every call is made once. `jitter`
    gives a number from 0 to 1."""

    def __init__(self, jitter: Callable[[], float]) -> None:
        self.left = QUOTA
        self._jitter = jitter

    def again(self, error: Exception, attempt: int, used: float) -> Again | None:
        """What follows when attempt number `attempt`, from 1, ended with `error`, `used` seconds after the call began.
        Takes its cost from the quota."""
        cost = cost_of(error)
        if not cost or attempt >= ATTEMPTS or cost > self.left:
            return None
        after = self._jitter() * min(2.0 ** (attempt - 1), LONGEST)
        if used + after > PATIENCE:
            return None
        self.left -= cost
        return Again(after, cost)

    def succeeded(self, cost: int) -> None:
        """A call succeeded whose last retry took `cost`, or UNREPEATED."""
        self.left = min(QUOTA, self.left + cost)


def cost_of(error: Exception) -> int:
    """What a retry of the call costs; 0 if it would be useless."""
    match error:
        case LeanError():
            return COST if error.status in STATUSES or not CODES.isdisjoint(error.names) else 0
        case boto.ClientError():
            found = error.response.get("Error", {})
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            # SQS has two names for an error: the modelled one, and the legacy one that botocore takes for the code.
            names = (type(error).__name__, found.get("Code"), found.get("QueryErrorCode"))
            return COST if status in STATUSES or not CODES.isdisjoint(names) else 0
        case _ if isinstance(error, _TIMEOUTS):
            return TIMEOUT_COST
        case _:
            return COST if isinstance(error, _NETWORK) else 0
