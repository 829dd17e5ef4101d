"""A gate in front of SQS: holds the calls of one operation for ever, answers all with an error for a while, or lets
some fail, as they do in a bad hour."""

from __future__ import annotations

import asyncio
import json
import random
import re
import threading
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp import web

from bridge.legs.retries import ATTEMPTS

CARRYING = ("ReceiveMessage", "SendMessageBatch", "DeleteMessageBatch", "ChangeMessageVisibilityBatch")


class Gate:
    """Runs in a thread of its own. `held` counts the calls of `operation` it keeps; they are answered, with an error,
    only after `let_go`, which lets all later ones through. While `trouble` is set to (status, error name), every call
    gets that, and `refused` counts them. After `fail_one_in(n)`, one call in n fails before it is done, one in n after,
    and one batch in n in part: at uneven distances, each kind within the first ten calls that can fail so; `failed`
    counts them by kind. Whole calls fail once or, the first and every other, as often as the connection repeats them,
    so that the route has to deal with it, which `given_up` counts."""

    KINDS = ("before", "in part", "after")

    def __init__(self, target: str, operation: str = "") -> None:
        self.target = target
        self.operation = operation
        self.held = 0
        self.refused = 0
        self.trouble: tuple[int, str] | None = None
        self.failed = dict.fromkeys(self.KINDS, 0)
        self.given_up = 0
        self._one_in = 0
        self._left: dict[str, int] = {}
        self._doomed: dict[tuple[str, bytes], int] = {}  # calls that fail again as often as they are repeated
        self._random = random.Random(1)
        self.url = ""
        self._ready = threading.Event()
        self._stop: asyncio.Event | None = None
        self._free: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.let_go()
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def let_go(self) -> None:
        assert self._loop is not None
        assert self._free is not None
        self.operation = ""
        self._loop.call_soon_threadsafe(self._free.set)

    def fail_one_in(self, calls: int) -> None:
        self._left = {kind: self._random.randint(1, 10) for kind in self.KINDS}
        self._one_in = calls

    def _strikes(self, kind: str, target: str) -> bool:
        """Only calls that carry messages fail: those that open a route prove nothing."""
        if not self._one_in or not target.endswith(CARRYING):
            return False
        self._left[kind] -= 1
        if self._left[kind]:
            return False
        self._left[kind] = self._random.randrange(1, 2 * self._one_in)
        self.failed[kind] += 1
        return True

    def _fails_again(self, call: tuple[str, bytes]) -> bool:
        left = self._doomed.pop(call, 0)
        if left > 1:
            self._doomed[call] = left - 1
        self.given_up += left == 1
        return left > 0

    def _struck(self, kind: str, call: tuple[str, bytes]) -> web.Response:
        if self.failed[kind] % 2:
            self._doomed[call] = ATTEMPTS - 1
        return web.json_response({"__type": "InternalError", "message": kind}, status=500)

    async def _serve(self) -> None:
        self._loop, self._stop, self._free = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
        async with aiohttp.ClientSession() as session:

            async def forward(request: web.Request) -> web.StreamResponse:
                if self.trouble is not None:
                    self.refused += 1
                    status, name = self.trouble
                    return web.json_response({"__type": name, "message": name}, status=status)
                if self.operation and request.headers.get("X-Amz-Target", "").endswith(f".{self.operation}"):
                    self.held += 1
                    assert self._free is not None
                    await self._free.wait()
                    return web.Response(status=503)
                target = request.headers.get("X-Amz-Target", "")
                body = await request.read()
                # A receive that is repeated asks for a shorter wait.
                call = (target, re.sub(rb'"WaitTimeSeconds": ?\d+', b"", body))
                if self._fails_again(call):
                    return web.json_response({"__type": "InternalError", "message": "again"}, status=500)
                if self._strikes("before", target):
                    return self._struck("before", call)
                headers = {k: v for k, v in request.headers.items() if k.lower() not in ("host", "content-length")}
                url = self.target + request.path_qs
                spoiled: dict[str, Any] | None = None
                if body.count(b'"Id"') > 1 and self._strikes("in part", target):
                    body, spoiled = _without_one(body, self._random)
                async with session.request(request.method, url, data=body, headers=headers) as answer:
                    kept = {k: v for k, v in answer.headers.items() if k.lower().startswith(("x-amz", "content-type"))}
                    text = await answer.read()
                if self._strikes("after", target):
                    return self._struck("after", call)
                return web.Response(status=answer.status, body=_with(text, spoiled), headers=kept)

            app = web.Application(client_max_size=8 * 2**20)
            app.router.add_route("*", "/{tail:.*}", forward)
            runner = web.AppRunner(app, shutdown_timeout=1)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            self._ready.set()
            await self._stop.wait()
            await runner.cleanup()


def _without_one(body: bytes, chance: random.Random) -> tuple[bytes, dict[str, Any]]:
    """The batch without one of its several entries, and that entry."""
    document = json.loads(body)
    spoiled = document["Entries"].pop(chance.randrange(len(document["Entries"])))
    return json.dumps(document).encode(), spoiled


def _with(answer: bytes, spoiled: dict[str, Any] | None) -> bytes:
    if spoiled is None:
        return answer
    document = json.loads(answer)
    failed = {"Id": spoiled["Id"], "Code": "InternalError", "SenderFault": False, "Message": "in part"}
    return json.dumps({**document, "Failed": [*document.get("Failed", []), failed]}).encode()
