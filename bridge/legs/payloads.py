"""Stores for payloads that are sent as pointers: S3, and a JetStream Object Store.

Both say how large a payload is before they read it, read no more than that, and answer with a BridgeError, whatever
their SDK raises. The cause of a failed fetch decides whether the route holds or the message is parked:

    throttling, 5xx, lost connections            Unavailable, Throttled: hold, and retry
    credentials that are not accepted            NotUsable: hold, an operator has to act
    no such key, bucket or version, archived,    Refused: this payload cannot be read, and its message is parked
    another region, a digest that is wrong
    denied (S3 policies and KMS)                 the bucket is tested: if it allows another key, Refused;
                                                 if it denies all of them, NotUsable

May not: create a bucket, delete a payload, or decide which bucket may be read (core/mapping/claims.py does).
Source: S3 API reference, Error responses; ADR-20 (Object Store).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Literal, NamedTuple, Protocol

from botocore import exceptions as boto
from nats import errors as nats_errors
from nats.js import errors as js_errors

from bridge.core.errors import BridgeError, Failed, NotUsable, Refused, Unavailable
from bridge.core.mapping.claims import shown
from bridge.legs.aws import AwsConnection
from bridge.legs.aws_errors import SDK_ERRORS, aws_error
from bridge.legs.nats import NatsConnection

LARGEST = 64 * 2**20  # bytes; no destination takes a larger payload
CHUNK = 256 * 1024  # bytes of one read
ABSENT = "nats-sqs-bridge-is-there-a-key-of-this-name"
NO_MESSAGE = "(err_code 10037)"
NO_STREAM = "(err_code 10059)"

Store = Literal["s3", "object_store"]


class Payload(NamedTuple):
    """A payload that was found and not read yet. `size` is in bytes, None if the store does not say; `read` raises
    a BridgeError."""

    size: int | None
    read: Callable[[], Awaitable[bytes]]


class Payloads(Protocol):
    """A place for payloads. Raises a BridgeError, never an SDK's."""

    def open(self, bucket: str, key: str) -> AbstractAsyncContextManager[Payload]:
        """Finds one. None of it is in memory before it is read."""
        ...

    async def put(self, bucket: str, key: str, payload: bytes) -> None: ...

    async def see(self, bucket: str, prefix: str) -> None:
        """Whether payloads may be fetched from there. Raises NotUsable, Unavailable."""
        ...


# -- S3

ROUTES = frozenset(
    {"ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired", "RequestExpired"}
    | {"InvalidAccessKeyId", "InvalidClientTokenId", "UnrecognizedClientException", "SignatureDoesNotMatch"}
    | {"RequestTimeTooSkewed", "AuthFailure", "AccountProblem", "NotSignedUp", "InvalidSecurity", "OptInRequired"}
)
"""S3's codes that are not about the requested object: no key can be read with these credentials."""

OBJECTS = frozenset({"NoSuchKey", "NoSuchVersion", "NoSuchBucket", "InvalidObjectState", "InvalidRange"})
"""Its codes for an object that does not exist or is archived; some come with status 403."""

TRANSIENT = frozenset(
    {"OperationAborted", "TemporaryRedirect", "RequestTimeout", "InternalError", "ServiceUnavailable"}
)

_OF_THE_OBJECT = (
    boto.ParamValidationError,
    boto.ChecksumError,
    boto.FlexibleChecksumError,
    boto.EndpointProviderError,
    boto.UnsupportedS3ArnError,
    boto.UnsupportedS3AccesspointConfigurationError,
)


def fault_of(error: BridgeError) -> Literal["route", "object", "denied"]:
    """What caused a failed fetch, according to the S3 or botocore error that `error` was made from."""
    cause = error.__cause__
    if isinstance(error, Unavailable):
        return "route"
    if isinstance(cause, _OF_THE_OBJECT):
        return "object"
    if not isinstance(cause, boto.ClientError):
        return "object" if isinstance(error, Refused) else "route"
    code = str(cause.response.get("Error", {}).get("Code", ""))
    status = cause.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in ROUTES or code in TRANSIENT:
        return "route"
    if code in OBJECTS:
        return "object"
    return "denied" if status in (401, 403) or code == "AccessDenied" or code.startswith("KMS") else "object"


class S3Payloads:
    """Remembers one readable key of each bucket, to distinguish a denied key from a denied bucket. `prefixes` are
    those of the keys that may be read, by bucket."""

    def __init__(self, aws: AwsConnection, prefixes: Mapping[str, Sequence[str]] | None = None) -> None:
        self._aws = aws
        self._prefixes = prefixes or {}
        self._gave: dict[str, str] = {}
        self._asking: dict[str, asyncio.Lock] = {}
        self._asked: dict[str, tuple[float, BridgeError | None]] = {}

    @asynccontextmanager
    async def open(self, bucket: str, key: str) -> AsyncIterator[Payload]:
        about = f"s3 get_object {_shown(bucket, key)}"
        try:
            answer = await self._get(bucket, key)
        except BridgeError as error:
            raise await self._judged(error, bucket) from error
        try:
            body = answer["Body"]
            length = answer.get("ContentLength")
            size = None if length is None else int(length)
            if _is_page(answer):
                raise Unavailable(f"{about}: what answered is not S3: a page")
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise Unavailable(f"{about}: what answered is not S3: {type(error).__name__}") from error

        async def read() -> bytes:
            payload = await _read(body, LARGEST if size is None else size, about)
            if payload:
                self._gave[bucket] = key
            return payload

        try:
            yield Payload(size, read)
        finally:
            body.close()  # do not read the rest: the connection is closed with it

    async def put(self, bucket: str, key: str, payload: bytes) -> None:
        missing = f"aws s3 mb s3://{bucket}"
        about = _shown(bucket, key)
        try:
            await self._aws.call("s3", "put_object", about=about, missing=missing, Bucket=bucket, Key=key, Body=payload)
        except BridgeError:
            raise
        except Exception as error:
            raise Failed(f"s3 put_object {about}: {type(error).__name__}") from error

    async def see(self, bucket: str, prefix: str) -> None:
        """S3 reports a missing key as missing only to a caller that may read and list; to all others it answers with
        access denied."""
        try:
            self._close(await self._get(bucket, f"{prefix}{ABSENT}"))
        except BridgeError as error:
            if _code(error) == "NoSuchKey":
                return
            if fault_of(error) == "route":
                raise
            raise _unusable(bucket, error) from error.__cause__

    async def _get(self, bucket: str, key: str, **more: Any) -> dict[str, Any]:
        about = _shown(bucket, key)
        try:
            answer: dict[str, Any] = await self._aws.call(
                "s3", "get_object", about=about, Bucket=bucket, Key=key, **more
            )
        except BridgeError as error:
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, RecursionError):
                cause = cause.__cause__ or cause.__context__
            if cause is None:
                raise
            # botocore follows a redirect endlessly if S3 names no region
            raise Refused(f"s3 get_object {about}: S3 redirects the request and does not say where to") from error
        except Exception as error:
            raise Failed(f"s3 get_object {about}: {type(error).__name__}") from error
        return answer

    @staticmethod
    def _close(answer: dict[str, Any]) -> None:
        if (body := answer.get("Body")) is not None:
            body.close()

    async def _judged(self, error: BridgeError, bucket: str) -> BridgeError:
        match fault_of(error):
            case "route":
                return _of_the_route(error)
            case "object":
                return Refused(str(error.args[0]), hint=error.hint)
            case _:
                wrong = await self._denial(bucket)
                text = str(error.args[0])
                return Refused(f"{text}: S3 denies this key, but not the bucket") if wrong is None else wrong

    async def _denial(self, bucket: str) -> BridgeError | None:
        """Whether the bucket denies every key, None if not: tested with a key that was readable before, else with one
        that cannot exist. Keys denied at the same time share one test."""
        denied_at = time.monotonic()
        async with self._asking.setdefault(bucket, asyncio.Lock()):
            asked_at, wrong = self._asked.get(bucket, (-1.0, None))
            if asked_at < denied_at:
                asked_at = time.monotonic()
                wrong = await self._ask(bucket)
                self._asked[bucket] = (asked_at, wrong)
            return wrong

    async def _ask(self, bucket: str) -> BridgeError | None:
        try:
            if (known := self._gave.get(bucket)) is not None:
                try:
                    self._close(await self._get(bucket, known, Range="bytes=0-0"))
                except BridgeError as error:
                    if fault_of(error) != "object":
                        raise
                    del self._gave[bucket]  # deleted since, as consumers do after reading
                else:
                    return None
            *others, last = self._prefixes.get(bucket) or ("",)
            for prefix in others:
                with suppress(NotUsable):  # a policy may allow the one and not the other
                    await self.see(bucket, prefix)
                    return None
            await self.see(bucket, last)
        except BridgeError as error:
            return _of_the_route(error) if fault_of(error) == "route" else _unusable(bucket, error)
        return None


async def _read(body: Any, size: int, about: str) -> bytes:
    """A body of `size` bytes, complete; no more than that is kept."""
    parts: list[bytes] = []
    left = size
    try:
        while part := await body.read(min(CHUNK, left + 1)):
            left -= len(part)
            if left < 0:
                raise Refused(f"{about}: it is larger than the {size:,} bytes S3 announced")
            parts.append(part)
    except BridgeError:
        raise
    except _OF_THE_OBJECT as error:
        raise Refused(f"{about}: its checksum is wrong") from error
    except SDK_ERRORS as error:
        raise aws_error(error, about) from error
    except Exception as error:
        raise Failed(f"{about}: {type(error).__name__}") from error
    return b"".join(parts)


def _code(error: BridgeError) -> str:
    cause = error.__cause__
    return str(cause.response.get("Error", {}).get("Code", "")) if isinstance(cause, boto.ClientError) else ""


def _of_the_route(error: BridgeError) -> BridgeError:
    code = _code(error)
    if code in TRANSIENT:
        return Unavailable(str(error.args[0]))
    if code in ROUTES and not isinstance(error, NotUsable):
        return NotUsable(str(error.args[0]), hint="check the credentials the bridge runs with")
    return error


def _unusable(bucket: str, error: BridgeError) -> NotUsable:
    code, hint = _code(error), error.hint
    if code == "NoSuchBucket":
        hint = f"aws s3 mb s3://{bucket}, or remove it from the configuration"
    elif code == "AccessDenied":
        hint = (
            f"allow this role s3:GetObject on {bucket}/*, kms:Decrypt on its key, and s3:ListBucket on {bucket}: "
            "without it, S3 reports a missing key as denied"
        )
    elif code.startswith("KMS"):
        hint = f"allow this role kms:Decrypt on the key of {bucket}, and check that the key is enabled"
    return NotUsable(str(error.args[0]), hint=hint)


def _is_page(answer: dict[str, Any]) -> bool:
    """Whether a proxy answered with its own page: S3 puts a request id on each of its answers."""
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return "x-amz-request-id" not in headers and "html" in str(headers.get("content-type", ""))


# -- Object Store


class ObjectPayloads:
    """Read message by message with the JetStream API: bounded, without a subscription, and following no link into
    another store, as nats-py does. Written with nats-py."""

    def __init__(self, nats: NatsConnection) -> None:
        self._nats = nats

    @asynccontextmanager
    async def open(self, bucket: str, key: str) -> AsyncIterator[Payload]:
        about = f"object store {_shown(bucket, key)}"
        info = await self._info(bucket, key, about)

        async def read() -> bytes:
            try:
                return await self._read(bucket, info, about)
            except _Changed:
                # It was replaced meanwhile, and its old chunks are gone; the same metadata again is not a change.
                now = await self._info(bucket, key, about)
                if now.nuid == info.nuid or now.size != info.size:
                    raise Refused(f"{about}: a part of it is gone") from None
                try:
                    return await self._read(bucket, now, about)
                except _Changed:
                    raise Failed(f"{about}: it keeps changing while it is read") from None

        yield Payload(info.size, read)

    async def put(self, bucket: str, key: str, payload: bytes) -> None:
        about = f"object store {_shown(bucket, key)}"
        client = await self._nats.live()
        try:
            context = client.jetstream(**self._nats.js_options)
            store = await context.object_store(bucket)
            await store.put(key, payload)
        except js_errors.NotFoundError as error:
            raise NotUsable(f"there is no object store {bucket}", hint=f"nats object add {bucket}") from error
        except (nats_errors.Error, OSError, TimeoutError) as error:
            raise Unavailable(f"{about}: {error or type(error).__name__}") from error
        except Exception as error:
            raise Failed(f"{about}: {type(error).__name__}") from error

    async def see(self, bucket: str, prefix: str) -> None:  # noqa: ARG002 - permissions are for a whole stream
        missing = f"nats object add {bucket}, or remove it from the configuration"
        await self._nats.api(f"STREAM.INFO.OBJ_{bucket}", missing=missing)

    async def _info(self, bucket: str, key: str, about: str) -> _Info:
        subject = f"$O.{bucket}.M.{base64.urlsafe_b64encode(key.encode()).decode()}"
        found = await self._message(bucket, {"last_by_subj": subject}, about)
        if found is None:
            raise Refused(f"{about}: it is not there")
        return _Info.parse(found.data, about)

    async def _read(self, bucket: str, info: _Info, about: str) -> bytes:
        parts: list[bytes] = []
        left, sequence, digest = info.size, 1, hashlib.sha256()
        while left > 0:
            request = {"seq": sequence, "next_by_subj": f"$O.{bucket}.C.{info.nuid}"}
            found = await self._message(bucket, request, about)
            if found is None:
                raise _Changed
            left -= len(found.data)
            if left < 0:
                raise Refused(f"{about}: it is larger than the {info.size:,} bytes in its metadata")
            digest.update(found.data)
            parts.append(found.data)
            sequence = found.sequence + 1
        if info.digest is not None and digest.digest() != info.digest:
            raise Refused(f"{about}: its digest is wrong")
        return b"".join(parts)

    async def _message(self, bucket: str, request: dict[str, Any], about: str) -> _Kept | None:
        try:
            answer = await self._nats.api(f"STREAM.MSG.GET.OBJ_{bucket}", request)
        except BridgeError as error:
            text = str(error.args[0])
            if NO_MESSAGE in text:
                return None
            if NO_STREAM in text:
                raise Refused(
                    f"{about}: there is no object store {bucket}", hint=f"nats object add {bucket}"
                ) from error
            raise
        try:
            message = answer["message"]
            return _Kept(int(message["seq"]), base64.b64decode(message.get("data") or ""))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Unavailable(f"{about}: what answered is not JetStream: {type(error).__name__}") from error


class _Changed(Exception):
    """A chunk that the metadata lists is missing."""


class _Kept(NamedTuple):
    sequence: int
    data: bytes


class _Info(NamedTuple):
    """The content of an object's meta message: anyone who may write into the store may have written it."""

    nuid: str
    size: int
    digest: bytes | None

    @classmethod
    def parse(cls, data: bytes, about: str) -> _Info:
        """Raises Refused."""
        try:
            document = json.loads(data)
            if document.get("deleted"):
                raise Refused(f"{about}: it was deleted")
            if (document.get("options") or {}).get("link"):
                raise Refused(f"{about}: it is a link, and links are not followed")
            nuid, size, text = document["nuid"], document.get("size") or 0, document.get("digest") or ""
            if type(size) is not int or size < 0 or not isinstance(nuid, str) or not nuid.isalnum():
                raise ValueError
            kind, _, value = text.partition("=")
            digest = base64.urlsafe_b64decode(value) if kind.upper() == "SHA-256" else None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise Refused(f"{about}: its metadata is not that of an Object Store object") from error
        return cls(nuid, size, digest)


def _shown(bucket: str, key: str) -> str:
    return shown((bucket, key))
