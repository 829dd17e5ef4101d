"""Signatures of SNS envelopes, checked against Amazon's certificates before a message is published.

Needs the extra: pip install 'nats-sqs-bridge[verify]'. May not: follow a redirect, or check where a certificate comes
from: the mapping has done that (core/mapping/signature.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import aiohttp
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from bridge.core.errors import BridgeError, Refused, Unavailable
from bridge.core.mapping.heartbeat import HEADER
from bridge.core.models import JetStreamOut, Out, SignedEnvelope
from bridge.core.route import Destination, Receipt

CERTIFICATES = 32  # kept at once; SNS uses a handful
BYTES = 65_536
SECONDS = 10.0
HASHES: dict[str, type[hashes.HashAlgorithm]] = {"1": hashes.SHA1, "2": hashes.SHA256}


class Signatures:
    """`check` one envelope. A certificate is fetched once, even if several checks need it at the same time."""

    def __init__(self, topics: Collection[str]) -> None:
        self._topics = frozenset(topics)
        self._known: dict[str, x509.Certificate] = {}
        self._fetching = asyncio.Lock()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def check(self, envelope: SignedEnvelope) -> BridgeError | None:
        """None if it is genuine; Refused if it is not; Unavailable if that cannot be checked now."""
        if envelope.topic_arn not in self._topics:
            return Refused(f"an envelope of {envelope.topic_arn}, which is not among the route's verify topics")
        if (algorithm := HASHES.get(envelope.version)) is None:
            return Refused("its SignatureVersion is neither 1 nor 2")
        try:
            certificate = await self._certificate(envelope.certificate_url)
        except BridgeError as error:
            return error
        if not certificate.not_valid_before_utc <= datetime.now(UTC) <= certificate.not_valid_after_utc:
            return Refused("the certificate it was signed with is not valid now")
        key = certificate.public_key()
        if not isinstance(key, rsa.RSAPublicKey):
            return Refused("the certificate it was signed with has no RSA key")
        try:
            key.verify(envelope.signature, envelope.text, padding.PKCS1v15(), algorithm())
        except InvalidSignature:
            return Refused("its signature is not genuine")
        return None

    async def _certificate(self, url: str) -> x509.Certificate:
        if url not in self._known:
            async with self._fetching:
                if url not in self._known:
                    found = await self._fetched(url)
                    if len(self._known) >= CERTIFICATES:
                        self._known.clear()
                    self._known[url] = found
        return self._known[url]

    async def _fetched(self, url: str) -> x509.Certificate:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SECONDS))
        try:
            async with self._session.get(url, allow_redirects=False) as answer:
                pem = await answer.content.read(BYTES + 1)
                while len(pem) <= BYTES and (more := await answer.content.read(BYTES)):
                    pem += more
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Unavailable(f"the certificate {url} cannot be fetched: {type(error).__name__}") from error
        if answer.status >= 500 or answer.status == 429:
            raise Unavailable(f"the certificate {url} cannot be fetched: HTTP {answer.status}")
        if answer.status != 200 or len(pem) > BYTES:
            raise Refused(f"no certificate at {url}: HTTP {answer.status}")
        try:
            return x509.load_pem_x509_certificate(pem)
        except ValueError as error:
            raise Refused(f"no certificate at {url}") from error


class Verified:
    """A Destination in front of another: what is not genuine is refused, and the rest is passed on."""

    def __init__(self, inner: Destination, signatures: Signatures) -> None:
        self._inner = inner
        self._signatures = signatures

    async def close(self) -> None:
        await self._inner.close()

    async def publish(self, messages: Sequence[Out]) -> Sequence[Receipt | BridgeError]:
        problems = [await self._problem(out) for out in messages]
        genuine = [out for out, problem in zip(messages, problems, strict=True) if problem is None]
        answers = iter(await self._inner.publish(genuine) if genuine else ())
        return [next(answers) if problem is None else problem for problem in problems]

    async def _problem(self, out: Out) -> BridgeError | None:
        assert isinstance(out, JetStreamOut)
        if out.signed is None and HEADER in out.headers:
            return None  # only the mapping can set it, on the route's own canary, which carries nothing else
        if out.signed is None:
            return Refused("it did not arrive in an SNS envelope, and the route requires a signature")
        return await self._signatures.check(out.signed)
