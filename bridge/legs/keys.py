"""NATS credentials files: an invalid one gives a clear error, where nats-py would end in a traceback or never return.

May not: keep a key, or put one into an error.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from nats import errors
from nkeys import NkeysError

from bridge.legs.wire import WireClient


class NoKey(errors.Error):  # type: ignore[misc]
    """A credentials file does not contain credentials."""


class KeyedClient(WireClient):
    """Refuses a credentials file without credentials, with a clear error, before anything is sent."""

    _signature_cb: Any
    _user_jwt_cb: Any

    def _setup_nkeys_connect(self) -> None:
        """Raises for a file with other content, before anything is sent."""
        super()._setup_nkeys_connect()
        self._signature_cb = _read_or_refused(self._signature_cb)
        if self._user_credentials is not None:
            self._user_jwt_cb = _read_or_refused(self._user_jwt_cb)
            self._signature_cb("")
            self._user_jwt_cb()

    def _read_creds_user_jwt(self, creds: str) -> bytearray:
        # nats-py does not check for the end of the file when it searches the JWT: without one, it never returns.
        if b"BEGIN NATS USER JWT" not in Path(creds).read_bytes():
            raise ValueError("it holds no user JWT")
        found: bytearray = super()._read_creds_user_jwt(creds)
        return found


def _read_or_refused(read: Callable[..., Any]) -> Callable[..., Any]:
    """nats-py treats only its own errors and OSError as a failed attempt to reconnect; after any other it
    silently gives up."""

    def reading(*arguments: Any) -> Any:
        try:
            return read(*arguments)
        except (NkeysError, TypeError, ValueError) as error:
            reason = "it holds no seed" if isinstance(error, TypeError) else str(error)
            raise NoKey(f"nats: authentication: {reason}") from error

    return reading
