"""Who may act on the daemon: a client that sends its token in the Authorization header. Closed without a token.

A browser never adds that header to a request from another site, so no page can act in an operator's name.
May not: read the token's file, or show the token.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field

from bridge.core.control import Answer

CLOSED = (
    "actions are closed: write a token to a file (openssl rand -hex 32), name the file in http.token_file "
    "and send the process a SIGHUP"
)


@dataclass(frozen=True, slots=True)
class Door:
    token: str | None = field(default=None, repr=False)

    def admits(self, authorization: str) -> Answer | None:
        """None when the header holds the token; else why access is denied."""
        if self.token is None:
            return Answer("closed", CLOSED)
        scheme, _, given = authorization.strip().partition(" ")
        if scheme.lower() != "bearer" or not given.strip():
            return Answer("denied", "the token is missing; send it as Authorization: Bearer TOKEN")
        # Bytes, because a header may hold anything; in constant time, so that timing does not leak the token.
        if not hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), self.token.encode()):
            return Answer("denied", "the token is wrong; it must be what the file under http.token_file holds")
        return None
