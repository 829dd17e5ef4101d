"""Attributes that do not fit the headers: JetStream takes 64 KiB of headers, SQS a mebibyte of attributes.

The smallest stay headers; the others travel in the payload, which is then a JSON document and marked as one:
`Sqs-Packed: 1`, payload {"body": text, "attributes": {name: [type, value]}}; a body that is not text is in base64,
with "encoding": "base64". May not: drop anything, or pack what fits.
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Mapping, Sequence

from bridge.core.errors import Unmappable
from bridge.core.mapping.headers import base64_of, packed, strict_json, to_headers, unpacked
from bridge.core.mapping.sizes import header_bytes, pair_bytes
from bridge.core.models import Attribute

ROOM = 64_000  # of the 65,535 bytes JetStream takes; the rest is for what the leg adds
LONGEST = 64  # characters of a header line of the bridge without its value; no line has as many
MARK = "Sqs-Packed"
MOST = 32_768  # attributes: more than fit the mebibyte SQS and SNS allow, so more is never a document of ours


def fitted(
    attributes: Mapping[str, Attribute], fixed: Mapping[str, str], repeated: Sequence[tuple[str, str]], payload: bytes
) -> tuple[dict[str, str], bytes]:
    """The headers of all that fits beside the others, and the payload. Raises Unmappable if those alone do not."""
    headers = to_headers(attributes)
    # A character takes at most four bytes: nearly every message is known to fit without counting them.
    characters = len("".join([*headers, *headers.values(), *fixed.values()])) + 4 * len(headers) + LONGEST * len(fixed)
    if 4 * characters < ROOM and not repeated:
        return headers, payload
    others = (*fixed.items(), *repeated)
    taken = pair_bytes(others)
    if header_bytes(headers) + taken <= ROOM:
        return headers, payload
    left = ROOM - taken - len(f"{MARK}: 1\r\n")
    if left < header_bytes({}):
        raise Unmappable("headers", "the headers it needs take more than the 64 KiB JetStream allows")
    kept: dict[str, Attribute] = {}
    left -= header_bytes({})
    times = Counter([name.lower() for name in attributes])
    for cost, name in sorted([(_cost(name, each), name) for name, each in attributes.items()]):
        # Of twins (names that differ only in case) each may get a prefix.
        left -= cost if times[name.lower()] == 1 else cost + len("Sqs-Attr-")
        if left < 0:
            break
        kept[name] = attributes[name]
    document: dict[str, object] = {}
    try:
        document["body"] = payload.decode()
    except UnicodeDecodeError:
        document |= {"body": base64_of(payload), "encoding": "base64"}
    document["attributes"] = packed({name: each for name, each in attributes.items() if name not in kept})
    # Names and values may hold half a surrogate pair, which only an escape can write.
    return {**to_headers(kept), MARK: "1"}, json.dumps(document, separators=(",", ":")).encode("ascii")


def _cost(name: str, attribute: Attribute) -> int:
    """At most so many bytes does it add to a header block. Judged one by one, for there may be tens of thousands."""
    return pair_bytes(to_headers({name: attribute}).items())


def unfitted(payload: bytes) -> tuple[bytes, dict[str, Attribute]] | None:
    """What `fitted` packed, or None for what it cannot have written: whatever else is in it would be lost."""
    try:
        document = strict_json(payload)
        body, attributes = document.pop("body"), document.pop("attributes")
        if len(attributes) > MOST:
            return None  # each would be looked at several times, and every other route waits meanwhile
        match document:
            case {"encoding": "base64", **rest} if not rest:
                return base64.b64decode(body, validate=True), unpacked(attributes)
            case {**rest} if not rest:
                return body.encode(), unpacked(attributes)
            case _:
                return None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
