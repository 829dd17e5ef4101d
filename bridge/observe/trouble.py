"""What stands in a route's way, by side, and when it is over.

A success disproves trouble of its side at once. Trouble that comes back soon was not over: from then on it is one
state, in which some calls fail, until none has failed for a while. And trouble must not outlive its cause on an idle
route, where no success comes: what else disproves it is below, by side.

    open          the route has opened
    nats          the connection reports that it is connected
    source        a receive was answered; or a sample found nothing waiting, and the receive due since has not failed
    destination   something was carried; or nothing it refused is held any more, and none of it is due to be redelivered

May not: log, or know a message.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

QUIET_SECONDS = 10.0  # without a failure, until calls that failed now and then count as working
AGAIN_SECONDS = 60.0  # trouble that comes back within this time is the same one
ANSWERED_SECONDS = 5.0  # a retried receive that fails does so within this time; one that takes longer is a long poll
BY_CALLS = ("source", "destination")  # sides whose trouble and success are single calls


@dataclass(slots=True)
class Trouble:
    """What stands in the way on one side of a route, and since when. Times are monotonic. `again_at` is when it is
    retried, `worked_at` the last success since it began; `returned`: it was over, and came back soon."""

    error: str
    since: float
    hint: str = ""
    failed_at: float = 0.0
    again_at: float = 0.0
    worked_at: float | None = None
    returned: bool = False

    def is_partial(self, now: float) -> bool:
        """Whether some calls work."""
        return self.returned and self.worked_at is not None and now - self.worked_at < QUIET_SECONDS


class Troubles(dict[str, Trouble]):
    """By side, in the order they began."""

    def __init__(self) -> None:
        super().__init__()
        self._past: dict[str, tuple[Trouble, float]] = {}
        self._owed_until = 0.0

    def began(self, side: str, error: str, hint: str, now: float, after: float = 0.0) -> None:
        """A failure. It is retried `after` seconds from now."""
        known, returned = self.get(side), False
        if known is None and side in BY_CALLS and side in self._past:
            past, ended = self._past.pop(side)
            if now - ended < AGAIN_SECONDS:
                known, returned = past, True
        since = now if known is None else known.since
        worked_at = None if known is None else known.worked_at
        returned = returned or (known is not None and known.returned)
        self[side] = Trouble(error, since, hint, now, now + after, worked_at, returned)

    def worked(self, side: str, now: float) -> bool:
        """A success. Whether it ends the trouble of its side."""
        trouble = self.get(side)
        if trouble is None:
            return False
        trouble.worked_at = now
        if trouble.returned and now - trouble.failed_at < QUIET_SECONDS:
            return False
        self._end(side, now)
        return True

    def handed_back(self, now: float, after: float) -> None:
        """A message the destination did not take is with the source for `after` seconds."""
        self._owed_until = max(self._owed_until, now + after + ANSWERED_SECONDS)

    def over(self, now: float, *, held: bool, idle_since: float | None) -> Iterator[str]:
        """Ends what is over without a success, and yields those sides. `held`: something is on its way to the
        destination; `idle_since`: when a sample last found the source empty, None if the newest did not."""
        for side in BY_CALLS:
            trouble = self.get(side)
            if trouble is None:
                continue
            if trouble.returned and now - trouble.failed_at < QUIET_SECONDS:
                continue
            ended = trouble.worked_at is not None and trouble.worked_at > trouble.failed_at
            if side == "source" and idle_since is not None:
                ended = ended or idle_since > trouble.again_at + ANSWERED_SECONDS
            if side == "destination" and not held:
                ended = ended or now > self._owed_until
            if ended:
                self._end(side, now)
                yield side

    def _end(self, side: str, now: float) -> None:
        self._past[side] = (self.pop(side), now)
