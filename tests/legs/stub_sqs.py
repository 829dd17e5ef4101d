"""A stand-in for SQS that does what the documentation says and no emulator does: batches that fail in part, throttling,
expired handles, answers that never come. It speaks the AWS JSON 1.0 protocol.

Not a queue: each test says how each operation answers.
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import formatdate
from inspect import isawaitable
from typing import Any

from aiohttp import web

Reply = Callable[[dict[str, Any]], Any]
"""The answer to a body, or an awaitable of it; a web.Response is sent as it is."""


class Fault(Exception):
    """An error response: HTTP status, modelled name, legacy code."""

    def __init__(self, status: int, name: str, legacy: str = "") -> None:
        self.status = status
        self.name = name
        self.legacy = legacy


@dataclass
class Stub:
    """`replies` by operation; `calls` is what came, in order."""

    url: str = ""
    replies: dict[str, Reply] = field(default_factory=dict)
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    bytes: list[bytes] = field(default_factory=list)
    ahead: float = 0.0
    """Seconds its clock is ahead of ours; a request signed for another time than its own is refused, as AWS does."""
    headers: list[dict[str, str]] = field(default_factory=list)

    def named(self, operation: str) -> list[dict[str, Any]]:
        return [body for name, body in self.calls if name == operation]


@asynccontextmanager
async def stub_sqs(tls: ssl.SSLContext | None = None) -> AsyncIterator[Stub]:
    stub = Stub()

    async def answer(request: web.Request) -> web.Response:
        operation = request.headers["X-Amz-Target"].removeprefix("AmazonSQS.")
        text = await request.read()
        body = json.loads(text)
        stub.calls.append((operation, body))
        stub.bytes.append(text)
        stub.headers.append(dict(request.headers))
        now = time.time() + stub.ahead
        date = {"Date": formatdate(now, usegmt=True)}
        try:
            signed = datetime.strptime(request.headers["X-Amz-Date"] + "+0000", "%Y%m%dT%H%M%SZ%z").timestamp()
            if abs(signed - now) > 300:
                raise Fault(403, "RequestTimeTooSkewed")
            reply = stub.replies[operation](body)
            if isawaitable(reply):
                reply = await reply
            if isinstance(reply, web.Response):
                return reply
        except Fault as fault:
            headers = {"x-amzn-query-error": f"{fault.legacy or fault.name};Sender", **date}
            error = json.dumps({"__type": f"com.amazonaws.sqs#{fault.name}", "message": "as the test says"})
            return web.Response(
                status=fault.status, text=error, headers=headers, content_type="application/x-amz-json-1.0"
            )
        return web.Response(text=json.dumps(reply), headers=date, content_type="application/x-amz-json-1.0")

    app = web.Application()
    app.router.add_post("/{tail:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        stub.url = f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
        yield stub
    finally:
        await runner.cleanup()


def all_good(body: dict[str, Any]) -> dict[str, Any]:
    """Every entry of a batch succeeded."""
    return {
        "Successful": [
            {"Id": each["Id"], "MessageId": f"m-{each['Id']}", "MD5OfMessageBody": ""} for each in body["Entries"]
        ]
    }


def messages(*names: str, handle: str = "h") -> dict[str, Any]:
    """What a ReceiveMessage brings."""
    return {"Messages": [{"MessageId": name, "ReceiptHandle": f"{handle}-{name}", "Body": name} for name in names]}
