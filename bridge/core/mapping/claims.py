"""Claim checks: a payload kept in a store, and the pointer that travels instead. Amazon's extended client's formats for
S3, and one of the same kind for a JetStream Object Store; and which pointers a route may follow.

    S3, v2          body  ["software.amazon.payloadoffloading.PayloadS3Pointer", {"s3BucketName", "s3Key"}]
                    attribute ExtendedPayloadSize, a Number
    S3, v1          body  ["com.amazon.sqs.javamessaging.MessageS3Pointer", {"s3BucketName", "s3Key"}]
                    attribute SQSLargePayloadSize, a Number
    Object Store    body  ["nats.object_store", {"bucket", "name"}]
                    attribute nats.claim, a Number of bytes

Either class comes with either attribute: the Java client 2.x writes v2's class with v1's attribute unless it is
configured otherwise. Anyone who may send a message may write a pointer, so a pointer is followed only into a place the
configuration names (`Allowed`), and its size is never trusted.
May not: fetch or store anything, or take a stray JSON body for a pointer: the attribute has to be there.
Source: amazon-sqs-java-extended-client-lib 1.0.2 and 2.1.2, payload-offloading-java-common-lib-for-aws 2.2,
amazon-sqs-python-extended-client-lib and amazon-sns-python-extended-client-lib 1.0.1, amazon-sns-java-extended-client
2.0.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

from bridge.core.filtering import FilterPolicy
from bridge.core.models import Attribute, Claim

PointerFormat = Literal["v1", "v2"]

S3 = "software.amazon.payloadoffloading.PayloadS3Pointer"
S3_BEFORE = "com.amazon.sqs.javamessaging.MessageS3Pointer"
OBJECT = "nats.object_store"
SIZE, SIZE_BEFORE, CLAIM = "ExtendedPayloadSize", "SQSLargePayloadSize", "nats.claim"
MARKS = frozenset((SIZE, SIZE_BEFORE, CLAIM))

LONGEST_POINTER = 16_384  # characters; a bucket and a key of 1,024 bytes take 6,300 where every byte is escaped
LONGEST_KEY = 1_024  # bytes in UTF-8. Source: S3 user guide, Naming objects
LONGEST_ID = 512  # characters of an encoded id within a key

_ENCODED = re.compile(r"[^A-Za-z0-9_:-]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def pointer_to(claim: Claim, form: PointerFormat = "v2") -> str:
    """The body that travels instead of the payload; `form` is for S3."""
    if claim.store == "s3":
        return json.dumps([S3 if form == "v2" else S3_BEFORE, {"s3BucketName": claim.bucket, "s3Key": claim.key}])
    return json.dumps([OBJECT, {"bucket": claim.bucket, "name": claim.key}])


def mark_of(claim: Claim, size: int, form: PointerFormat = "v2") -> dict[str, Attribute]:
    """The attribute that goes with the pointer. `size` in bytes; `form` is for S3."""
    name = CLAIM if claim.store != "s3" else SIZE if form == "v2" else SIZE_BEFORE
    return {name: Attribute("Number", str(size))}


def claim_of(body: str | bytes, attributes: Mapping[str, Attribute]) -> Claim | None:
    """The claim this body is the pointer of, or None if it is the payload itself. It may name any place."""
    if MARKS.isdisjoint(attributes) or len(body) > LONGEST_POINTER:
        return None
    store: Literal["s3", "object_store"]
    try:
        # Of bytes, json.loads would take UTF-16 and UTF-32 too.
        document: Any = json.loads(body if isinstance(body, str) else body.decode())
        if not isinstance(document, list) or len(document) != 2:
            return None
        kind, where = document
        if kind in (S3, S3_BEFORE) and (SIZE in attributes or SIZE_BEFORE in attributes):
            store, bucket, key = "s3", where["s3BucketName"], where["s3Key"]
        elif kind == OBJECT and CLAIM in attributes:
            store, bucket, key = "object_store", where["bucket"], where["name"]
        else:
            return None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return Claim(store, bucket, key) if isinstance(bucket, str) and isinstance(key, str) else None


class Place(NamedTuple):
    """A bucket of S3, or an Object Store, and what the keys in it that may be fetched begin with."""

    store: Literal["s3", "object_store"]
    bucket: str
    prefix: str = ""

    @classmethod
    def parse(cls, store: Literal["s3", "object_store"], text: str) -> Place:
        """`NAME` or `NAME/PREFIX`, as the configuration writes it: no bucket has a slash in its name."""
        bucket, _, prefix = text.partition("/")
        return cls(store, bucket, prefix)


class Allowed(NamedTuple):
    """The places pointers are followed into. `park`: a pointer into any other is parked; else it is carried as it
    is."""

    places: tuple[Place, ...] = ()
    park: bool = False

    @property
    def fetches(self) -> bool:
        """Whether there is anything to decide about a pointer."""
        return bool(self.places) or self.park

    def permits(self, claim: Claim) -> bool:
        """Whether it may be fetched: the bucket is one of these, letter for letter, and the key is sound."""
        return key_problem(claim.key) is None and any(
            (store, bucket) == (claim.store, claim.bucket) and claim.key.startswith(prefix)
            for store, bucket, prefix in self.places
        )


def key_problem(key: str) -> str | None:
    """What is wrong with the key of an object, or its name in an Object Store; None if nothing is."""
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        return "it has half a surrogate pair"
    if not 1 <= size <= LONGEST_KEY:
        return f"it has {size:,} bytes, and not 1 to {LONGEST_KEY:,}"
    if _CONTROL.search(key):
        return "it has control characters"
    # In a URL with the bucket in its path, a proxy or a server may resolve these, and leave the bucket or the prefix.
    if any(segment in (".", "..") for segment in re.split(r"[/\\]", key)):
        return "it has . or .. between slashes"
    return None


def points(policy: FilterPolicy | None, payload: bytes, attributes: Mapping[str, Attribute]) -> bool:
    """Whether a policy was applied to a pointer where it means the payload: its result is then not a reason to delete a
    message."""
    return policy is not None and policy.scope == "MessageBody" and claim_of(payload, attributes) is not None


def key_for(prefix: str, message_id: str | None, payload: bytes) -> str:
    """The key a payload is stored under: sound, the same for the same id and payload, and another for any other. With
    the id alone, anyone who repeats an id could change what a pointer delivered earlier leads to."""
    digest = hashlib.sha256(payload).hexdigest()
    if not message_id:
        return f"{prefix}=sha256.{digest}"
    encoded = _ENCODED.sub(_escaped, message_id)
    if len(encoded) > LONGEST_ID:
        whole = message_id.encode("utf-8", "surrogatepass")
        encoded = f"=id.{hashlib.sha256(whole).hexdigest()}"
    return f"{prefix}{encoded}=.{digest[:16]}"


def shown(texts: Iterable[str]) -> str:
    """Names out of a message as a person may read them: ASCII, without control characters, and short."""
    return "/".join(ascii(text[:80])[1:-1] for text in texts)


def _escaped(match: re.Match[str]) -> str:
    return "".join(f"={byte:02X}" for byte in match.group().encode("utf-8", "surrogatepass"))
