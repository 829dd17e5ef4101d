"""Claim checks: a payload kept in a store, and the pointer that travels instead. Amazon's extended client's format for
S3, and one of the same kind for a JetStream Object Store.

    S3              body  ["software.amazon.payloadoffloading.PayloadS3Pointer", {"s3BucketName", "s3Key"}]
                    attribute ExtendedPayloadSize, a Number
    Object Store    body  ["nats.object_store", {"bucket", "name"}]
                    attribute nats.claim, a Number of bytes

May not: fetch or store anything, or take a stray JSON body for a pointer: the attribute has to be there.
Source: amazon-sqs-java-extended-client-lib and payload-offloading-java-common-lib-for-aws.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from bridge.core.models import Attribute, Claim

S3 = "software.amazon.payloadoffloading.PayloadS3Pointer"
S3_BEFORE = "com.amazon.sqs.javamessaging.MessageS3Pointer"
OBJECT = "nats.object_store"
SIZE, SIZE_BEFORE, CLAIM = "ExtendedPayloadSize", "SQSLargePayloadSize", "nats.claim"
MARKS = frozenset((SIZE, SIZE_BEFORE, CLAIM))


def pointer_to(claim: Claim) -> str:
    """The body that travels instead of the payload."""
    if claim.store == "s3":
        return json.dumps([S3, {"s3BucketName": claim.bucket, "s3Key": claim.key}])
    return json.dumps([OBJECT, {"bucket": claim.bucket, "name": claim.key}])


def mark_of(claim: Claim, size: int) -> dict[str, Attribute]:
    """The attribute that goes with the pointer. `size` in bytes."""
    return {SIZE if claim.store == "s3" else CLAIM: Attribute("Number", str(size))}


def claim_of(body: str | bytes, attributes: Mapping[str, Attribute]) -> Claim | None:
    """The claim this body is the pointer of, or None if it is the payload itself."""
    if MARKS.isdisjoint(attributes):
        return None
    try:
        kind, where = json.loads(body)
        if kind in (S3, S3_BEFORE) and (SIZE in attributes or SIZE_BEFORE in attributes):
            return Claim("s3", str(where["s3BucketName"]), str(where["s3Key"]))
        if kind == OBJECT and CLAIM in attributes:
            return Claim("object_store", str(where["bucket"]), str(where["name"]))
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    return None
