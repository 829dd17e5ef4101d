"""The four SQS calls made for messages, without botocore's overhead per call: kept connections, orjson, and a signing
key that is derived once a day.

Credentials and their refresh, endpoints, regions and every other call are left to botocore (aws.py). Requests are
signed as botocore signs them, and answers and errors read as it reads them; one suite runs against both.
May not: retry a call that failed (aws.py does), or call anything but SQS. Only a request that was refused for its date
is signed again and sent once more, as part of the same attempt: AWS did nothing with the first, waiting would not help,
and with the clock corrected it does not happen again.
Source: AWS JSON 1.0 protocol; AWS Signature Version 4.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import ssl
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote, urlsplit

import aiohttp
import orjson
from botocore.httpsession import ProxyConfiguration
from botocore.utils import get_environ_proxies

from bridge.legs.http import IDLE_SECONDS, LIMIT, Answer, Broken, Connections, read_within

CALLS: Mapping[str, str] = {
    "receive_message": "ReceiveMessage",
    "delete_message_batch": "DeleteMessageBatch",
    "send_message_batch": "SendMessageBatch",
    "change_message_visibility_batch": "ChangeMessageVisibilityBatch",
}
"""By botocore's method name, the operation."""

CONTENT_TYPE = "application/x-amz-json-1.0"
MESSAGES = 67_108_864  # bytes: ten bodies of 1 MiB, where JSON takes up to six for each (\\u00xx), plus some
SKEW_SECONDS = 240.0  # of the five minutes AWS allows
SKEWED = ("RequestTimeTooSkewed", "RequestExpired", "SignatureDoesNotMatch", "InvalidSignatureException")


class Credentials(Protocol):
    """Credentials for one moment."""

    @property
    def access_key(self) -> str: ...
    @property
    def secret_key(self) -> str: ...
    @property
    def token(self) -> str | None: ...


class Keys(Protocol):
    """botocore's credentials, which renew themselves."""

    async def get_frozen_credentials(self) -> Credentials: ...


class LeanError(Exception):
    """AWS answered with an error. `names` are its own names for it, the modelled one and the legacy one; `date` is its
    clock, in seconds since the epoch."""

    def __init__(self, names: tuple[str, ...], message: str, status: int, date: float | None) -> None:
        super().__init__(message or names[0])
        self.names = names
        self.status = status
        self.date = date


class Unsendable(ValueError):
    """A request that JSON cannot represent."""


def limit_of(operation: str, status: int = 200) -> int:
    """The most bytes an answer of SQS may have. Messages are large, everything else is a few hundred bytes an entry."""
    return MESSAGES if operation == "ReceiveMessage" and status == 200 else LIMIT


class Signer:
    """Signature Version 4 for POSTs to one endpoint. The key depends on day and secret only, and is cached; so is
    everything that the requests of one second share."""

    def __init__(self, host: str, region: str, service: str = "sqs", path: str = "/") -> None:
        self._host = host
        self._path = quote(path, safe="/~")
        self._region = region
        self._service = service
        self._kept: tuple[str, str] = ("", "")
        self._key = Keyed(b"")
        self._second = -1
        self._whose = ("", "", "")
        self._parts: dict[str, _Second] = {}

    def headers(self, target: str, body: bytes, credentials: Credentials, at: float) -> dict[str, str]:
        """All headers of the request, at `at` seconds since the epoch."""
        whose = (credentials.access_key, credentials.secret_key, credentials.token or "")
        if self._second != int(at) or self._whose != whose:
            self._second, self._whose = int(at), whose
            self._parts = {}
        parts = self._parts.get(target)
        if parts is None:
            parts = self._parts[target] = self._of_second(target, whose)
        canonical = f"{parts.request}{hashlib.sha256(body).hexdigest()}"
        text = f"{parts.text}{hashlib.sha256(canonical.encode()).hexdigest()}"
        return {**parts.headers, "Authorization": f"{parts.authorization}{self._key.sign(text.encode())}"}

    def _of_second(self, target: str, whose: tuple[str, str, str]) -> _Second:
        access, secret, token = whose
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._second))
        day = stamp[:8]
        if self._kept != (day, secret):
            self._key = Keyed(self._derived(day, secret))
            self._kept = (day, secret)
        headers = {
            "Content-Type": CONTENT_TYPE,
            "X-Amz-Date": stamp,
            "X-Amz-Target": target,
            "x-amzn-query-mode": "true",
        }
        signed = "content-type;host;x-amz-date;x-amz-target;x-amzn-query-mode"
        also = ""
        if token:
            headers["X-Amz-Security-Token"] = token
            signed = "content-type;host;x-amz-date;x-amz-security-token;x-amz-target;x-amzn-query-mode"
            also = f"x-amz-security-token:{token}\n"
        scope = f"{day}/{self._region}/{self._service}/aws4_request"
        return _Second(
            headers,
            request=f"POST\n{self._path}\n\ncontent-type:{CONTENT_TYPE}\nhost:{self._host}\nx-amz-date:{stamp}\n{also}"
            f"x-amz-target:{target}\nx-amzn-query-mode:true\n\n{signed}\n",
            text=f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n",
            authorization=f"AWS4-HMAC-SHA256 Credential={access}/{scope}, SignedHeaders={signed}, Signature=",
        )

    def _derived(self, day: str, secret: str) -> bytes:
        key = f"AWS4{secret}".encode()
        for part in (day, self._region, self._service, "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        return key


class _Second(NamedTuple):
    """What the requests of one second with one target share. `request`, the canonical one, is completed with the hash
    of the body; `text`, what is signed, with the hash of that; `authorization` with the signature."""

    headers: Mapping[str, str]
    request: str
    text: str
    authorization: str


class Keyed:
    """HMAC-SHA256 with one key, both of whose blocks are hashed once: half the time of hmac.digest. Source: RFC 2104.
    `key` has at most 64 bytes."""

    def __init__(self, key: bytes) -> None:
        padded = key.ljust(64, b"\0")
        self._inner = hashlib.sha256(bytes([byte ^ 0x36 for byte in padded]))
        self._outer = hashlib.sha256(bytes([byte ^ 0x5C for byte in padded]))

    def sign(self, text: bytes) -> str:
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(text)
        outer.update(inner.digest())
        return outer.hexdigest()


class Road(Protocol):
    """How a signed request gets to AWS. `limit` is the most bytes of its answer. Raises what SDK_ERRORS in
    aws_errors.py holds."""

    async def post(self, headers: Mapping[str, str], body: bytes, limit: int) -> Answer: ...
    async def close(self) -> None: ...


class Direct:
    """Straight to the endpoint."""

    def __init__(self, host: str, path: str, connections: Connections) -> None:
        self._connections = connections
        self._start = (
            f"POST {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: nats-sqs-bridge\r\nAccept-Encoding: identity\r\n"
        )

    async def post(self, headers: Mapping[str, str], body: bytes, limit: int) -> Answer:
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        return await self._connections.ask(
            f"{self._start}{lines}Content-Length: {len(body)}\r\n\r\n".encode("latin-1") + body, limit
        )

    async def close(self) -> None:
        await self._connections.close()


class Proxied:
    """Through a proxy, which aiohttp knows how to speak to."""

    def __init__(self, url: str, proxy: str, *, tls: ssl.SSLContext | None, pool: int, read: float, connect: float):
        self._url = url
        self._proxy = proxy
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=pool, ssl=True if tls is None else tls, keepalive_timeout=IDLE_SECONDS
            ),
            timeout=aiohttp.ClientTimeout(total=read + connect, sock_connect=connect, sock_read=read),
            headers={"User-Agent": "nats-sqs-bridge", "Accept-Encoding": "identity"},
            auto_decompress=False,  # a few bytes may expand to very many
        )

    async def post(self, headers: Mapping[str, str], body: bytes, limit: int) -> Answer:
        # What is signed for one host is sent to no other: no redirects.
        async with self._session.post(
            self._url, data=body, headers=headers, proxy=self._proxy, allow_redirects=False
        ) as answer:
            found = {name.lower(): value for name, value in answer.headers.items()}
            return Answer(answer.status, found, await read_within(answer, limit if answer.status == 200 else LIMIT))

    async def close(self) -> None:
        await self._session.close()


class LeanCalls:
    """`call` one of CALLS. `endpoint` is where botocore would send it."""

    def __init__(
        self, keys: Keys, *, endpoint: str, region: str, pool: int, read: float, connect: float, ca_file: str | None
    ) -> None:
        parts = urlsplit(endpoint)
        host, path = parts.hostname or "", parts.path or "/"
        usual = 443 if parts.scheme == "https" else 80
        named = f"[{host}]" if ":" in host else host
        if parts.port not in (None, usual):
            named = f"{named}:{parts.port}"
        self._keys = keys
        self._signer = Signer(named, region, path=path)
        self._skew = 0.0
        tls = ssl.create_default_context(cafile=ca_file) if parts.scheme == "https" else None
        # Looked up once, as botocore does: a proxy without a scheme is http://.
        proxy = ProxyConfiguration(proxies=get_environ_proxies(endpoint)).proxy_url_for(endpoint)
        self._road: Road
        if proxy is None:
            connections = Connections(host, parts.port or usual, tls=tls, limit=pool, connect=connect, read=read)
            self._road = Direct(named, path, connections)
        else:
            url = f"{parts.scheme}://{named}{path}"
            self._road = Proxied(url, proxy, tls=tls, pool=pool, read=read, connect=connect)

    async def close(self) -> None:
        await self._road.close()

    async def call(self, operation: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The answer as botocore gives it. Raises LeanError, Unsendable, and what the road raises."""
        name = CALLS[operation]
        try:
            body = orjson.dumps(arguments, default=_base64)
        except TypeError:  # its text may quote the message
            raise Unsendable("a text that is not UTF-8") from None
        try:
            return await self._once(name, body)
        except LeanError as error:
            if not any(each in SKEWED for each in error.names) or not self._corrected(error):
                raise
            return await self._once(name, body)

    async def _once(self, name: str, body: bytes) -> dict[str, Any]:
        credentials = await self._keys.get_frozen_credentials()
        headers = self._signer.headers(f"AmazonSQS.{name}", body, credentials, time.time() + self._skew)
        answer = await self._road.post(headers, body, limit_of(name))
        if answer.status < 400:
            return parsed(name, answer.status, answer.body)
        raise _error(answer.status, answer.headers, answer.body)

    def _corrected(self, error: LeanError) -> bool:
        """Whether our clock was wrong, according to the answer's date; if so, it is corrected from now on."""
        if error.date is None:
            return False
        skew = error.date - time.time()
        changed = abs(skew - self._skew) > SKEW_SECONDS
        self._skew = skew if changed else self._skew
        return changed


def _base64(value: object) -> str:
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(value).decode("ascii")
    raise TypeError


def parsed(name: str, status: int, text: bytes) -> dict[str, Any]:
    """What the operation `name` answered. Raises Broken if that is not an answer of SQS. A value that is not base64 is
    left as text, and the caller judges its message."""
    if status != 200:
        raise Broken(f"what answered is not SQS: status {status}")  # a redirect, most likely
    try:
        answer: Any = orjson.loads(text) if text else {}
    except ValueError:
        answer = _half(text)
    if not isinstance(answer, dict):
        raise Broken("what answered is not SQS: no JSON object")  # a proxy's page, most likely
    if name == "ReceiveMessage" and b'"BinaryValue"' in text:
        messages = answer.get("Messages")
        for message in messages if isinstance(messages, list) else ():
            found = message.get("MessageAttributes") if isinstance(message, dict) else None
            for each in found.values() if isinstance(found, dict) else ():
                if isinstance(each, dict) and isinstance(value := each.get("BinaryValue"), str):
                    try:
                        each["BinaryValue"] = base64.b64decode(value, validate=True)
                    except ValueError:
                        continue
    return answer


def _half(text: bytes) -> Any:
    """JSON that orjson refuses because of half a surrogate pair in a text: that concerns one message, not all."""
    try:
        return json.loads(text) if text.startswith(b"{") else None
    except (ValueError, RecursionError):
        return None


def _error(status: int, headers: Mapping[str, str], text: bytes) -> LeanError:
    try:
        document = orjson.loads(text)
    except ValueError:
        document = {}
    if not isinstance(document, dict):
        document = {}
    kind = str(document.get("__type") or document.get("code") or status).rpartition("#")[2]
    legacy = headers.get("x-amzn-query-error", "").partition(";")[0]
    message = str(document.get("message") or document.get("Message") or "")[:1000]
    return LeanError((kind, legacy) if legacy else (kind,), message, status, seconds_of(headers.get("date")))


def seconds_of(date: str | None) -> float | None:
    """A Date header in seconds since the epoch."""
    try:
        return parsedate_to_datetime(date or "").timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
