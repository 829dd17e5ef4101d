"""The error tree. Each class is an instruction to the pump; the hint is for the human.

    BridgeError
    |-- ConfigError      the file or the environment is wrong          -> exit 2, nothing starts
    |-- Unmappable       this message can never be mapped              -> park it
    |-- Refused          the destination will never take this message  -> park it
    |-- Failed           this message failed for an unknown reason     -> retry a few times, then back to the source
    |-- Unavailable      the other side is down or full                -> hold everything, retry with backoff
    |   |-- Full         it takes others, but not this one for now     -> hold this one, and let the others pass
    |   `-- Throttled    it asks us to slow down                       -> the same, starting slower
    |-- NotUsable        a queue, stream or permission is missing      -> hold, retry slowly, report it
    |-- Unexpected       an error no one expected, a defect of ours    -> park it if it is this message's, else hold
    `-- LeaseLost        the source has taken the message back         -> forget it, it will be redelivered

May not: import anything of ours, or carry a payload or a secret in its text.
"""

from __future__ import annotations


class BridgeError(Exception):
    """What went wrong, in one sentence; `hint` says what a human can do about it (may be empty). `own`: it concerns
    something only this message needs, so others may pass meanwhile. `outage`: never that, even if others pass: many
    messages wait for the same thing, and none of them caused it."""

    own = False
    outage = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        text = str(self.args[0])
        return f"{text} ({self.hint})" if self.hint else text


class ConfigError(BridgeError):
    """The configuration is wrong; the message holds every complaint, one per line."""


class Unmappable(BridgeError):
    """This message cannot be expressed on the other side; `field` names the part that cannot. It keeps its position
    in its `lane`."""

    lane: str | None = None

    def __init__(self, field: str, message: str, *, hint: str = "") -> None:
        super().__init__(f"{field}: {message}", hint=hint)
        self.field = field


class Refused(BridgeError):
    """The destination will never take this message as it is."""


class Failed(BridgeError):
    """This one message failed for a reason we cannot classify; another attempt may work."""

    own = True


class Unavailable(BridgeError):
    """The other side is unreachable, down or full; nothing is wrong with the message."""


class Full(Unavailable):
    """The target of this message is full (one subject of a stream, a parking place); others may pass."""

    own = True


class Throttled(Unavailable):
    """The other side works and asks us to slow down."""


class NotUsable(BridgeError):
    """A queue, topic, stream, consumer or permission is missing; a human has to act."""


class Unexpected(BridgeError):
    """An exception no one expected, by its type and where it was raised; its text may quote a message and is left out.
    `guilty`: this one message causes it, because others passed, or because the code that raised it sees only the
    message."""

    own = True

    def __init__(self, kind: str, where: str, *, guilty: bool = False) -> None:
        super().__init__(f"unexpected {kind} at {where}", hint="this is a defect of the bridge: please report it")
        self.kind = kind
        self.where = where
        self.guilty = guilty

    @property
    def signature(self) -> tuple[str, str]:
        """Two errors with the same signature are treated as the same defect."""
        return self.kind, self.where


class LeaseLost(BridgeError):
    """The source has taken the message back (lease expired, handle stale); it will redeliver it."""
