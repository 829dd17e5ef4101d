"""The clients of one AWS connection: one session with its credentials, botocore's clients and the lean calls.

They are replaced as a whole (aws.py): an existing session picks up credentials that were renewed at their source only
when its own expire. Replaced clients are closed once nothing is under way on them.
May not: retry a call, or translate an error.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiobotocore.awsrequest import AioAWSResponse
from aiobotocore.config import AioConfig
from aiobotocore.credentials import AioAssumeRoleCredentialFetcher, AioDeferredRefreshableCredentials
from aiobotocore.httpsession import AIOHTTPSession
from aiobotocore.session import AioSession
from botocore import exceptions as boto
from botocore.httpsession import where

from bridge.legs.aws_errors import SDK_ERRORS, UNREADABLE
from bridge.legs.aws_lean import CALLS, LeanCalls, Unsendable, limit_of, parsed
from bridge.legs.http import Broken, read_within

READ_SECONDS = 35  # a long poll takes 20 s by itself
CONNECT_SECONDS = 5


@dataclass(frozen=True, slots=True)
class AwsOptions:
    """How to reach one account and region. None means the standard AWS chain. `pool` bounds connections; `lean`
    takes the calls of aws_lean.py past botocore."""

    region: str | None = None
    endpoint_url: str | None = None
    s3_endpoint_url: str | None = None
    profile: str | None = None
    role_arn: str | None = None
    external_id: str | None = None
    pool: int = 50
    lean: bool = True


class Bounded(AIOHTTPSession):  # type: ignore[misc]  # aiobotocore has no types
    """botocore's HTTP, which reads every answer whole: here limited to the size the operation allows."""

    async def send(self, request: Any) -> Any:
        streamed, request.stream_output = request.stream_output, True
        try:
            answer: AioAWSResponse = await super().send(request)
        finally:
            request.stream_output = streamed
        if not streamed:
            target = request.headers.get("X-Amz-Target", b"")
            name = target.decode("latin-1") if isinstance(target, bytes) else str(target)
            # What its own reader would store.
            answer._content = await read_within(  # noqa: SLF001
                answer.raw, limit_of(name.rpartition(".")[2], answer.status_code)
            )
        return answer


class Clients:
    """Made when first needed. `busy` calls are under way; once `retire`d and idle, everything is closed."""

    def __init__(self, options: AwsOptions, session: AioSession | None = None) -> None:
        self.options = options
        self.busy = 0
        self._stack = AsyncExitStack()
        self._clients: dict[str, Any] = {}
        self._making = asyncio.Lock()
        self._session = session
        self.lean: LeanCalls | None = None
        self._retired = False
        self._closing: asyncio.Task[None] | None = None

    async def call(self, service: str, operation: str, arguments: dict[str, Any]) -> Any:
        """One attempt. Raises what SDK_ERRORS in aws_errors.py holds."""
        self.busy += 1
        try:
            if self.options.lean and service == "sqs" and operation in CALLS:
                lean = self.lean or await self.make_lean()
                return await lean.call(operation, arguments)
            client = self._clients.get(service) or await self.client(service)
            return await _asked(service, getattr(client, operation), arguments)
        finally:
            self.busy -= 1
            if self._retired and not self.busy:
                self._close_soon()

    def retire(self) -> None:
        """Calls under way finish: cancelling a receive would leave its messages leased until the visibility timeout."""
        self._retired = True
        if not self.busy:
            self._close_soon()

    def _close_soon(self) -> None:
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._stack.aclose(), name="close AWS clients")

    @property
    def closed(self) -> bool:
        return self._closing is not None and self._closing.done()

    async def aclose(self) -> None:
        """Immediately, even with calls under way."""
        self._close_soon()
        if self._closing is not None:
            await self._closing

    async def client(self, service: str) -> Any:
        """botocore's client, made once."""
        async with self._making:
            if service not in self._clients:
                session = await self._opened()
                config = AioConfig(
                    max_pool_connections=self.options.pool,
                    connect_timeout=CONNECT_SECONDS,
                    read_timeout=READ_SECONDS,
                    retries={"total_max_attempts": 1, "mode": "standard"},
                    tcp_keepalive=True,
                    user_agent_extra="nats-sqs-bridge",
                    http_session_cls=Bounded,
                )
                client = await self._stack.enter_async_context(
                    session.create_client(
                        service,
                        region_name=self.options.region,
                        # endpoint_url may be a private SQS endpoint, where no S3 answers.
                        endpoint_url=self.options.s3_endpoint_url if service == "s3" else self.options.endpoint_url,
                        config=config,
                    )
                )
                if service == "sqs":
                    client.meta.events.register("before-parse.sqs", _read)
                self._clients[service] = client
            return self._clients[service]

    async def make_lean(self) -> LeanCalls:
        """The lean calls, made once."""
        client = await self.client("sqs")  # it knows the endpoint, the region and the credentials
        async with self._making:
            if self.lean is None:
                session = await self._opened()
                keys = await session.get_credentials()
                if keys is None:
                    raise boto.NoCredentialsError
                lean = LeanCalls(
                    keys,
                    endpoint=client.meta.endpoint_url,
                    region=client.meta.region_name,
                    pool=self.options.pool,
                    read=READ_SECONDS,
                    connect=CONNECT_SECONDS,
                    ca_file=session.get_config_variable("ca_bundle") or where(),
                )
                self._stack.push_async_callback(lean.close)
                self.lean = lean
        return self.lean

    async def keys(self) -> tuple[str, str, str] | None:
        """The credentials it signs with now, or None without any. Raises what SDK_ERRORS holds."""
        credentials = await (await self._opened()).get_credentials()
        if credentials is None:
            return None
        now = await credentials.get_frozen_credentials()
        return now.access_key, now.secret_key, now.token or ""

    async def _opened(self) -> AioSession:
        if self._session is None:
            self._session = await _session(self.options)
        return self._session


async def _asked(service: str, operation: Any, arguments: dict[str, Any]) -> Any:
    try:
        answer = await operation(**arguments)
    except UNREADABLE as error:
        if isinstance(error, SDK_ERRORS):
            raise
        if isinstance(error, UnicodeEncodeError):
            raise Unsendable("a text that is not UTF-8") from None
        # Its text may quote the answer, and that a message.
        raise Broken(f"what answered is not AWS: botocore cannot read it ({type(error).__name__})") from None
    if not isinstance(answer, dict):
        raise Broken("what answered is not AWS")
    if service != "s3" and "html" in _content_type(answer):
        # botocore reads a proxy's page as an empty answer: an empty queue, for example.
        raise Broken("what answered is not AWS: a page")
    return answer


def _read(
    response_dict: dict[str, Any], customized_response_dict: dict[str, Any], operation_model: Any, **_: Any
) -> None:
    """Answers of SQS are read as the lean transport reads them: botocore's parser rejects a whole answer because of
    one malformed message, and its error may quote it."""
    if response_dict["status_code"] < 400:
        found = parsed(str(operation_model.name), int(response_dict["status_code"]), response_dict["body"])
        customized_response_dict.update({name: each for name, each in found.items() if name != "ResponseMetadata"})
        response_dict["body"] = b"{}"


def _content_type(answer: dict[str, Any]) -> str:
    return str(answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("content-type", ""))


async def _session(options: AwsOptions) -> AioSession:
    session = AioSession(profile=options.profile)
    if options.role_arn is None:
        return session
    source = await session.get_credentials()
    if source is None:
        raise boto.NoCredentialsError
    extra = {"RoleSessionName": "nats-sqs-bridge"}
    if options.external_id:
        extra["ExternalId"] = options.external_id
    # STS keeps its own endpoint (AWS_ENDPOINT_URL_STS changes it): endpoint_url may be a private SQS endpoint.
    fetcher = AioAssumeRoleCredentialFetcher(
        partial(session.create_client, region_name=options.region), source, options.role_arn, extra_args=extra
    )
    assumed = AioSession(profile=options.profile)
    # botocore has no public way to give a session credentials that refresh themselves.
    assumed._credentials = AioDeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")  # noqa: SLF001
    return assumed
