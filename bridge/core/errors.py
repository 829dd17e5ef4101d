"""The error tree. Each class is an instruction to the pump; the hint is for the human.

    BridgeError
    |-- ConfigError      the file or the environment is wrong          -> exit 2, nothing starts
    |-- Unmappable       this message can never be mapped              -> park it
    |-- Refused          the destination will never take this message  -> park it
    |-- Failed           this message failed, nobody knows why         -> again a few times, then back to the source
    |-- Unavailable      the other side is down or full                -> hold everything, again with backoff
    |   `-- Throttled    it asks us to slow down                       -> the same, starting slower
    |-- NotUsable        a queue, stream or permission is missing      -> hold, again slowly, tell the operator
    `-- LeaseLost        the source has taken the message back         -> forget it, it will be lent again

May not: import anything of ours, or carry a payload or a secret in its text.
"""

from __future__ import annotations


class BridgeError(Exception):
    """What went wrong, in one sentence; `hint` says what a human can do about it (may be empty)."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        text = str(self.args[0])
        return f"{text} ({self.hint})" if self.hint else text


class ConfigError(BridgeError):
    """The configuration is wrong; the message holds every complaint, one per line."""


class Unmappable(BridgeError):
    """This message cannot be expressed on the other side; `field` names the part that cannot. It still has its place
    in its `lane`."""

    lane: str | None = None

    def __init__(self, field: str, message: str, *, hint: str = "") -> None:
        super().__init__(f"{field}: {message}", hint=hint)
        self.field = field


class Refused(BridgeError):
    """The destination will never take this message as it is."""


class Failed(BridgeError):
    """This one message failed for a reason we cannot class; another attempt may work."""


class Unavailable(BridgeError):
    """The other side cannot be reached, is down or is full; nothing is wrong with the message."""


class Throttled(Unavailable):
    """The other side works and asks us to slow down."""


class NotUsable(BridgeError):
    """A queue, topic, stream, consumer or permission is missing; a human has to act."""


class LeaseLost(BridgeError):
    """The source has taken the message back (lease expired, handle stale); it will lend it again."""
