"""One AWS connection: calls and their retries, with our own errors, and credentials that are read again when refused.

botocore makes each call once: retries.py decides for both transports what is retried and how often. A retried send
whose answer was lost may create a second message; the pump would send it again anyway, with the same risk.
May not: know a queue or a topic, or log. Retries go to `notice`, what an operator should know to `report`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from bridge.legs.aws_clients import AwsOptions, Clients
from bridge.legs.aws_errors import SDK_ERRORS, aws_error, missing, stale
from bridge.legs.retries import QUOTA, REPEATED, UNREPEATED, Retries

__all__ = ["AwsConnection", "AwsOptions", "aws_error"]

RENEW_SECONDS = 3.0  # between two reads of the credentials while those in use are refused


class AwsConnection:
    """Clients are made when first needed, so a mistake here is an error of the route, not of the process. `notice` is
    called with the operation of every attempt but the first, `report` with (event, detail) of what concerns the
    connection; `jitter` gives a number from 0 to 1."""

    def __init__(
        self,
        options: AwsOptions,
        *,
        notice: Callable[[str], None] | None = None,
        report: Callable[[str, str], None] | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.options = options
        self.report = report or _unreported
        self._notice = notice or _silent
        self._retries = Retries(jitter)
        self._clients = Clients(options)
        self._retired: list[Clients] = []
        self._renewing = asyncio.Lock()
        self._renewed = -RENEW_SECONDS

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for clients in (self._clients, *self._retired):
            await clients.aclose()

    async def region(self) -> str:
        """The region its calls go to, no matter how it is set. Raises a BridgeError."""
        try:
            return str((await self._clients.client("sqs")).meta.region_name)
        except SDK_ERRORS as error:
            raise aws_error(error, "sqs") from error

    async def call(
        self,
        service: str,
        operation: str,
        *,
        about: str,
        missing: str = "",
        key: str = "",
        once: bool = False,
        **arguments: Any,
    ) -> Any:
        """One API call, by its botocore method name. `about` names the queue or topic in errors, `missing` is the hint
        when it does not exist, `key` its KMS key. Those of REPEATED are retried as retries.py decides, unless `once`;
        one refused for its credentials is retried if there are newer ones. Raises a BridgeError, never the SDK's."""
        attempt, cost, began, renewed = 1, UNREPEATED, time.monotonic(), False
        polled = began
        while True:
            clients = self._clients
            try:
                answer = await clients.call(service, operation, arguments)
            except SDK_ERRORS as error:
                if not renewed and stale(error) and await self._renewed_since(clients, error):
                    renewed = True  # AWS did nothing with a call it refused
                    continue
                again = None
                if operation in REPEATED and not once:
                    again = self._retries.again(error, attempt, time.monotonic() - began)
                if again is None:
                    raise aws_error(error, f"{service} {operation} {about}", missing=missing, key=key) from error
            else:
                if self._retries.left < QUOTA:
                    self._retries.succeeded(cost)
                return answer
            await asyncio.sleep(again.after)
            attempt, cost = attempt + 1, again.cost
            self._notice(REPEATED[operation])
            if seconds := arguments.get("WaitTimeSeconds"):
                # A drain waits for one poll, not for three. Never 0: an empty short poll does not prove an empty queue.
                before, polled = polled, time.monotonic()
                arguments["WaitTimeSeconds"] = max(1, seconds - round(polled - before))

    def renew(self) -> None:
        """New HTTP connections from the next call on. Calls under way finish first, then the old connections are
        closed: cancelling a receive would leave its messages leased until the visibility timeout."""
        self._replace(Clients(self.options))

    def _replace(self, clients: Clients) -> None:
        old, self._clients = self._clients, clients
        self._retired = [each for each in self._retired if not each.closed]
        self._retired.append(old)
        old.retire()

    async def _renewed_since(self, refused: Clients, error: Exception) -> bool:
        """Whether there are clients other than `refused` by now: reads the credentials again, and uses them if they
        differ from those that were refused, or if there were none."""
        async with self._renewing:
            if self._clients is not refused:
                return True
            if time.monotonic() - self._renewed < RENEW_SECONDS:
                return False
            self._renewed = time.monotonic()
            fresh = Clients(self.options)
            try:
                keys = await fresh.keys()
            except SDK_ERRORS:
                return False  # they cannot be read; the refused call has the reason
            if keys is None or (not missing(error) and keys == await _keys(refused)):
                return False
            self._replace(fresh)
        self.report("credentials", "the credentials were refused or missing; new ones were read and are in use")
        return True


async def _keys(clients: Clients) -> tuple[str, str, str] | None:
    try:
        return await clients.keys()
    except SDK_ERRORS:
        return None


def _silent(_: str) -> None: ...


def _unreported(_: str, __: str) -> None: ...
