"""A stand-in for S3 that answers as the documentation says and no emulator does: denials, archived objects, wrong
regions, throttling, pages of a proxy, bodies of any length. Each test says what every key answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import unquote

from aiohttp import web

from bridge.legs.aws import AwsConnection, AwsOptions

NO_KEY = "NoSuchKey"


@dataclass(frozen=True)
class Fault:
    """An error response."""

    status: int
    code: str


@dataclass(frozen=True)
class Body:
    """An answer by hand: `length` None leaves Content-Length out, and then `data` comes in chunks; a length without
    data is announced and never sent."""

    data: bytes = b""
    length: int | None = None
    headers: dict[str, str] = field(default_factory=dict)


Answer = bytes | Fault | Body | None
"""None cuts the connection."""


@dataclass
class Stub:
    """`objects` by bucket/key, `otherwise` for all others; `asked` is what came, in order."""

    url: str = ""
    objects: dict[str, Answer] = field(default_factory=dict)
    otherwise: Callable[[str], Answer] = lambda _: Fault(404, NO_KEY)
    asked: list[str] = field(default_factory=list)

    def connection(self) -> AwsConnection:
        return AwsConnection(AwsOptions(region="eu-west-1", endpoint_url=self.url, s3_endpoint_url=self.url))


@asynccontextmanager
async def stub_s3() -> AsyncIterator[Stub]:
    stub, gone = Stub(), asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        name = unquote(request.rel_url.raw_path).lstrip("/")
        stub.asked.append(name)
        found = stub.objects[name] if name in stub.objects else stub.otherwise(name)
        headers = {"x-amz-request-id": "R"}
        match found:
            case bytes():
                return web.Response(body=found[:1] if "Range" in request.headers else found, headers=headers)
            case Fault(status, code):
                text = f"<Error><Code>{code}</Code><Message>as the test says</Message></Error>"
                if status == 301 and name.startswith("elsewhere"):
                    headers["x-amz-bucket-region"] = "us-west-2"
                return web.Response(status=status, text=text, headers=headers, content_type="application/xml")
            case Body(data, length, more):
                response = web.StreamResponse(headers={**headers, **more} if "content-type" not in more else more)
                if length is None:
                    response.enable_chunked_encoding()
                else:
                    response.content_length = length
                await response.prepare(request)
                if data:
                    await response.write(data)
                elif length:
                    await gone.wait()
                return response
            case _:
                assert request.transport is not None
                request.transport.abort()
                return web.Response()

    app = web.Application(client_max_size=2**30)
    app.router.add_route("*", "/{tail:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        stub.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield stub
    finally:
        gone.set()
        await runner.cleanup()
