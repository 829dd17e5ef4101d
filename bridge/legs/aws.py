"""One AWS connection: credentials, clients, repeats, and the translation of every AWS error into ours.

botocore makes each call once: what is repeated, and how often, retries.py says for both transports. A send whose
answer was lost may then be a second message, as it may when the pump sends it again, which it would do anyway.
May not: know a queue or a topic, or log. Who wants to count the repeats is told by `notice`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.credentials import AioAssumeRoleCredentialFetcher, AioDeferredRefreshableCredentials
from aiobotocore.session import AioSession
from botocore import exceptions as boto
from botocore.httpsession import where
from botocore.parsers import ResponseParserError

from bridge.core.errors import BridgeError, Failed, LeaseLost, NotUsable, Refused, Throttled, Unavailable
from bridge.legs.aws_lean import CALLS, SKEW_SECONDS, SKEWED, LeanCalls, LeanError, seconds_of
from bridge.legs.http import Broken
from bridge.legs.retries import QUOTA, REPEATED, UNREPEATED, Retries

READ_SECONDS = 35  # a long poll takes 20 s by itself
CONNECT_SECONDS = 5

CODES: Mapping[type[BridgeError], frozenset[str]] = {
    LeaseLost: frozenset({"receipthandleisinvalid", "messagenotinflight"}),
    Throttled: frozenset(
        {"requestthrottled", "throttling", "throttled", "toomanyrequests", "requestlimitexceeded", "slowdown"}
        | {"overlimit", "kmsthrottled", "kmsthrottling", "bandwidthlimitexceeded"}
    ),
    Unavailable: frozenset(
        {"internalerror", "internalfailure", "serviceunavailable", "requesttimeout", "purgequeueinprogress"}
        | {"concurrentaccess", "idpcommunicationerror"}
    ),
    Refused: frozenset(
        {"invalidmessagecontents", "batchrequesttoolong", "invalidattributename", "invalidattributevalue"}
        | {"nosuchkey", "nosuchversion", "invalidobjectstate", "entitytoolarge", "keytoolong"}
        | {"invalidparametervalue", "invalidparameter", "parametervalueinvalid", "missingparameter", "validation"}
    ),
    NotUsable: frozenset(
        {"queuedoesnotexist", "nonexistentqueue", "queuedeletedrecently", "notfound", "resourcenotfound"}
        | {"accessdenied", "authorizationerror", "invalidsecurity", "invalidclienttokenid", "signaturedoesnotmatch"}
        | {"unrecognizedclient", "expiredtoken", "expiredtradeintoken", "missingauthenticationtoken", "optinrequired"}
        | {"kmsaccessdenied", "kmsdisabled", "kmsinvalidkeyusage", "kmsinvalidstate", "kmsnotfound", "kmsoptinrequired"}
        | {"invalidaddress", "unsupportedoperation", "endpointdisabled", "regiondisabled", "optedout", "verification"}
        | {"idprejectedclaim", "invalididentitytoken", "invalidauthorizationmessage", "malformedpolicydocument"}
        | {"packedpolicytoolarge", "sessiondurationescalation", "platformapplicationdisabled", "invalidclientid"}
        | {"403", "404"}  # the answer to a HEAD has no body, and its status is all there is
        | {"nosuchbucket", "allaccessdisabled", "accountproblem", "permanentredirect", "invalidbucketname"}
        | {"requesttimetooskewed", "requestexpired", "invalidsignature"}  # the clock, or the secret
        | {"jwtpayloadsizeexceeded", "outboundwebidentityfederationdisabled", "invalidaction", "notauthorized"}
    ),
    Failed: frozenset(
        # Whole-call mistakes of ours, and control-plane errors no call of ours can meet.
        {"batchentryidsnotdistinct", "emptybatchrequest", "invalidbatchentryid", "toomanyentriesinbatchrequest"}
        | {"invalididformat", "queuenameexists", "invalidstate", "filterpolicylimitexceeded", "replaylimitexceeded"}
        | {"staletag", "subscriptionlimitexceeded", "taglimitexceeded", "tagpolicy", "topiclimitexceeded", "usererror"}
    ),
}
"""Error codes and exception names of SQS, SNS and STS, lower case and without `Exception`, by what the pump does."""

_UNREACHABLE = (
    boto.HTTPClientError,  # connection refused, timeouts, closed connections, proxies, TLS
    boto.ConnectionError,
    boto.MetadataRetrievalError,
    boto.IncompleteReadError,
    boto.ResponseStreamingError,
    boto.CapacityNotAvailableError,
    ResponseParserError,  # a proxy's page instead of AWS's answer; it is no BotoCoreError
    aiohttp.ClientError,
    OSError,
    TimeoutError,
)
UNREACHED = "is aws.endpoint_url right, is the network open?"
SDK_ERRORS = (
    LeanError,
    boto.BotoCoreError,
    boto.ClientError,
    ResponseParserError,
    aiohttp.ClientError,
    OSError,
    TimeoutError,
)


@dataclass(frozen=True, slots=True)
class AwsOptions:
    """How to reach one account and region. None is left to the standard AWS chain. `pool` bounds connections; `lean`
    takes the calls of aws_lean.py past botocore."""

    region: str | None = None
    endpoint_url: str | None = None
    s3_endpoint_url: str | None = None
    profile: str | None = None
    role_arn: str | None = None
    external_id: str | None = None
    pool: int = 50
    lean: bool = True


class AwsConnection:
    """Clients are made when first needed, so a mistake here is an error of the route, not of the process. `notice` is
    told the operation of every attempt but the first; `jitter` gives a number from 0 to 1."""

    def __init__(
        self,
        options: AwsOptions,
        *,
        notice: Callable[[str], None] | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.options = options
        self._notice = notice or _silent
        self._retries = Retries(jitter)
        self._stack = AsyncExitStack()
        self._clients: dict[str, Any] = {}
        self._making = asyncio.Lock()
        self._session: AioSession | None = None
        self._lean: LeanCalls | None = None

    async def __aenter__(self) -> Self:
        await self._stack.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    async def call(
        self, service: str, operation: str, *, about: str, missing: str = "", once: bool = False, **arguments: Any
    ) -> Any:
        """One API call, by its botocore method name. `about` names the queue or topic in errors, `missing` is the hint
        when it does not exist. Those of REPEATED are made again as retries.py has it, unless `once`. Raises a
        BridgeError, never the SDK's."""
        attempt, cost, began = 1, UNREPEATED, time.monotonic()
        polled = began
        while True:
            try:
                if self.options.lean and service == "sqs" and operation in CALLS:
                    lean = self._lean or await self._make_lean()
                    answer = await lean.call(operation, arguments)
                else:
                    client = self._clients.get(service) or await self._client(service)
                    answer = await getattr(client, operation)(**arguments)
                    if service != "s3" and "html" in _content_type(answer):
                        # botocore reads a proxy's page as an answer that says nothing: an empty queue, for one.
                        raise Broken("what answered is not AWS: a page")
            except SDK_ERRORS as error:
                again = None
                if operation in REPEATED and not once:
                    again = self._retries.again(error, attempt, time.monotonic() - began)
                if again is None:
                    raise aws_error(error, f"{service} {operation} {about}", missing=missing) from error
            else:
                if self._retries.left < QUOTA:
                    self._retries.succeeded(cost)
                return answer
            await asyncio.sleep(again.after)
            attempt, cost = attempt + 1, again.cost
            self._notice(REPEATED[operation])
            if seconds := arguments.get("WaitTimeSeconds"):
                # A drain waits for one poll, not for three. Never 0: a short poll that finds nothing proves nothing.
                before, polled = polled, time.monotonic()
                arguments["WaitTimeSeconds"] = max(1, seconds - round(polled - before))

    def renew(self) -> None:
        """New HTTP connections for the hot calls from the next one on. Those under way end by themselves: cut, a
        receive would strand what it brings."""
        self._lean = None

    async def _client(self, service: str) -> Any:
        async with self._making:
            if service not in self._clients:
                if self._session is None:
                    self._session = await self._make_session()
                config = AioConfig(
                    max_pool_connections=self.options.pool,
                    connect_timeout=CONNECT_SECONDS,
                    read_timeout=READ_SECONDS,
                    retries={"total_max_attempts": 1, "mode": "standard"},
                    tcp_keepalive=True,
                    user_agent_extra="nats-sqs-bridge",
                )
                self._clients[service] = await self._stack.enter_async_context(
                    self._session.create_client(
                        service,
                        region_name=self.options.region,
                        # An endpoint_url may be a private one of SQS's, where no S3 answers.
                        endpoint_url=self.options.s3_endpoint_url if service == "s3" else self.options.endpoint_url,
                        config=config,
                    )
                )
            return self._clients[service]

    async def _make_lean(self) -> LeanCalls:
        client = await self._client("sqs")  # it knows the endpoint, the region and the credentials
        async with self._making:
            if self._lean is None:
                assert self._session is not None
                keys = await self._session.get_credentials()
                if keys is None:
                    raise boto.NoCredentialsError
                lean = LeanCalls(
                    keys,
                    endpoint=client.meta.endpoint_url,
                    region=client.meta.region_name,
                    pool=self.options.pool,
                    read=READ_SECONDS,
                    connect=CONNECT_SECONDS,
                    ca_file=self._session.get_config_variable("ca_bundle") or where(),
                )
                self._stack.push_async_callback(lean.close)
                self._lean = lean
        return self._lean

    async def _make_session(self) -> AioSession:
        options = self.options
        session = AioSession(profile=options.profile)
        if options.role_arn is None:
            return session
        source = await session.get_credentials()
        if source is None:
            raise boto.NoCredentialsError
        extra = {"RoleSessionName": "nats-sqs-bridge"}
        if options.external_id:
            extra["ExternalId"] = options.external_id
        # STS keeps its own endpoint (AWS_ENDPOINT_URL_STS changes it): endpoint_url may be a private one of SQS's.
        fetcher = AioAssumeRoleCredentialFetcher(
            partial(session.create_client, region_name=options.region), source, options.role_arn, extra_args=extra
        )
        assumed = AioSession(profile=options.profile)
        # botocore has no public way to give a session credentials that refresh themselves.
        assumed._credentials = AioDeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")  # noqa: SLF001
        return assumed


def aws_error(error: Exception, doing: str, *, missing: str = "") -> BridgeError:
    """Any error of botocore, aiobotocore or aiohttp as one of ours. `missing` is the hint for what does not exist."""
    match error:
        case LeanError():
            text = f"{doing}: {error}"
            return coded_error(error.names, text, status=error.status, missing=missing, date=error.date)
        case boto.ClientError():
            answer = error.response.get("Error", {})
            about = error.response.get("ResponseMetadata", {})
            status, date = int(about.get("HTTPStatusCode", 0)), seconds_of(about.get("HTTPHeaders", {}).get("date"))
            # SQS answers with legacy codes (AWS.SimpleQueueService.NonExistentQueue); the class has the modelled name.
            names = (type(error).__name__, str(answer.get("Code", "")))
            text = f"{doing}: {answer.get('Message') or names[1]}"
            return coded_error(names, text, status=status, missing=missing, date=date)
        case _ if isinstance(error, _UNREACHABLE):
            return Unavailable(f"{doing}: {_first_line(error)}", hint=UNREACHED)
        case boto.ParamValidationError():
            # Its text quotes the value: that is the message.
            return Refused(f"{doing}: botocore refuses a parameter")
        case boto.NoRegionError():
            return NotUsable(
                f"{doing}: no region is set", hint="set aws.region or AWS_DEFAULT_REGION (AWS_REGION alone is not read)"
            )
        case _:
            # All that is left is about configuration and credentials: no credentials, no region, no such profile.
            hint = "check the aws section, or the environment, profile or role that gives credentials"
            return NotUsable(f"{doing}: {_first_line(error)}", hint=hint)


def unreached(error: BridgeError) -> bool:
    """Whether nobody answered at all, so that the next call would wait for the same silence."""
    return isinstance(error, Unavailable) and error.hint == UNREACHED


def coded_error(
    names: tuple[str, ...], text: str, *, status: int = 0, missing: str = "", date: float | None = None
) -> BridgeError:
    """The error for AWS's own names of it: exception class, error code or the code of a failed batch entry. `date` is
    AWS's clock, in seconds since the epoch."""
    for name in names:
        plain = name.rpartition(".")[2].lower()
        for suffix in ("exception", "error"):
            for kind, codes in CODES.items():
                if plain in codes or plain.removesuffix(suffix) in codes:
                    wrong = _clock(date) if any(each in SKEWED for each in names) else ""
                    return kind(text, hint=wrong or _hint(kind, plain, missing))
    return Unavailable(text) if status >= 500 else Throttled(text) if status == 429 else Failed(text)


def _clock(date: float | None) -> str:
    """What to do about our clock, if it is so wrong that AWS refuses what it signs. In tens of seconds: the sentence
    stays the same from call to call."""
    off = 0.0 if date is None else date - time.time()
    if abs(off) <= SKEW_SECONDS:
        return ""
    return (
        f"the clock of this machine is {abs(round(off, -1)):.0f} s {'behind' if off > 0 else 'ahead'}: let NTP set it"
    )


def _hint(kind: type[BridgeError], code: str, missing: str) -> str:
    if kind is not NotUsable:
        return ""
    if "exist" in code or "notfound" in code or code in ("nosuchbucket", "404"):
        return missing
    if code.startswith("kms"):
        return "allow this role kms:GenerateDataKey and kms:Decrypt on the queue's key"
    return "check which role runs the bridge and what its policy and the queue's allow"


def _content_type(answer: Any) -> str:
    return str(answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("content-type", ""))


def _silent(_: str) -> None: ...


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
