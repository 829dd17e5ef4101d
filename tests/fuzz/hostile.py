"""Values nobody means well with: text, numbers, JSON, base64 and bytes that are wrong, or almost right.

May not: read a clock or anything else that a seed does not repeat.
"""

from __future__ import annotations

import base64
import json
import re
from random import Random
from typing import Any

CONTROLS = [chr(each) for each in (*range(32), *range(127, 160))]
FORMATS = [
    "\u00ad",
    "\u200b",
    "\u200d",
    "\u200e",
    "\u202e",
    "\u2028",
    "\u2029",
    "\u2066",
    "\ufeff",
    "\ufff9",
    "\U000e0001",
]
SURROGATES = ["\ud800", "\udbff", "\udc00", "\udc80", "\udcff", "\udfff", "\udce2\udc98\udc83"]
BREAKS = ["\r\n", "\r", "\n", "\0", "\x0b", "\x0c", "\x1c", "\x1e", "\x85", "\u2028", "\u2029", "\t", " "]
SMUGGLED = [
    "\r\nNats-Rollup: all",
    "\nNats-Rollup: all",
    "\rNats-TTL: 1s",
    "\r\n\r\nbody",
    "\r\nNats-Expected-Last-Sequence: 0",
    "\r\nStatus: 503",
    "\x0bNats-Rollup: all\x0b",
    "\x85Nats-Rollup: all",
    "\u2028Nats-Rollup: all",
    "\r\n Nats-Rollup: all",
    "\x1b]0;owned\x07",
    "\x1b[2J",
    "\r\nPUB x 1\r\nx\r\n",
    "' OR 1=1 --",
    "%s%(x)s%n{0}{x}",
]
WORDS = [
    "paid",
    "order-1",
    "payment.captured",
    "x",
    "a b",
    "Überfällig",
    "日本語",
    "😀",
    "0",
    "-1",
    "true",
    "null",
    "1.10",
]
NAMES = [
    *("Nats-Msg-Id", "nats-msg-id", "NATS-ROLLUP", "Nats-Rollup", "nAtS-TTL", "Nats-Expected-Stream", "Nats-Schedule"),
    *("Nats-Expected-Last-Sequence", "Nats-Pin-Id", "Nats-Stream", "Nats-Marker-Reason", "Nats-Scheduler", "Nats-Incr"),
    *("Status", "status", "STATUS", "Description", "description", "X-Amzn-Trace-Id", "x-amzn-trace-id", "traceparent"),
    *("Sqs-Message-Id", "sqs-message-id", "Sqs-Attr-x", "Sqs-Type-x", "Sqs-Encoding-x", "Sqs-Attributes", "Sqs-Packed"),
    *("Sns-Subject", "Sns-Subject-Encoding", "Sns-Message-Id", "Sns-Topic-Arn", "Sns-Timestamp", "Sns-Sequence-Number"),
    *("Sqs-Delay-Seconds", "Sqs-Message-Group-Id", "Sqs-Type-Nats-TTL", "Sqs-Attr-Nats-Rollup", "SQS-ATTR-x"),
    *("Bridge-Via", "Bridge-Origin", "Bridge-Route", "Bridge-Heartbeat", "bridge-heartbeat", "Bridge-Parked-Meta"),
    *("Bridge-Parked-Format", "Bridge-Parked-Id", "bridge.parked", "nats.message", "nats.encoding", "nats.claim"),
    *("ExtendedPayloadSize", "SQSLargePayloadSize", "AWS.x", "AWS.SNS.SMS.SMSType", "Amazon.y", "aws.z", "AWSx"),
    *("eventType", "EventType", "eventtype", "x", "X", "kind", "Content-Type", "tracestate", "a.b", "a..b", ".a", "a."),
    *("a b", "a:b", "a%sb", "%(a)s", "", "-", "_", "__proto__", "ä", "x" * 256, "x" * 257, "y" * 300, "Nats-", "nats-"),
]
NUMBERS: list[Any] = [
    *(0, 1, -1, 2**31, 2**53 + 1, 2**63, 2**64, 2**200, -(2**63), 10**400, 0.1, 1.1, 1e308, 5e-324, -0.0),
    *(float("nan"), float("inf"), float("-inf"), True, False),
]
NUMERALS = [
    *(
        "0",
        "1",
        "-1",
        "+1",
        " 1",
        "1 ",
        "1_000",
        "01",
        "1e3",
        "1e400",
        "-1e400",
        "nan",
        "NaN",
        "inf",
        "-inf",
        "Infinity",
    ),
    *(
        "0x10",
        "1.5",
        "1.10",
        ".5",
        "5.",
        "²",
        "\u0661",
        "\uff11",
        "9" * 40,
        "9" * 5000,
        "1700000000000",
        "1700000000",
        "9" * 15,
        "",
        "-",
    ),
    *("253402300800", "253402300799.999", "253402300800000", "1e11", "99999999999", "-0", "None", "1,000"),
]
TIMES = [
    *("2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000Z", "2026-01-01T00:00:00", "2026-01-01", "9999-12-31T23:59:59Z"),
    *("0001-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "10000-01-01T00:00:00Z"),
    *("2026-02-30T00:00:00Z", "2026-W01-1T00:00:00Z", "20260101T000000Z", "2026-01-01T24:00:00Z", "now", "1700000000"),
]
LENGTHS = [100, 101, 127, 128, 129, 199, 200, 201, 255, 256, 257, 300, 1999, 2000, 2001, 3900, 4096, 8192]
LARGE = [60_000, 63_999, 65_535, 65_536, 70_000, 200_000]
LARGEST = 1_048_576


_GOOD = re.compile(r"(?!\.)[A-Za-z0-9_.-]{1,256}(?<!\.)")


def chance(rng: Random, share: float) -> bool:
    return rng.random() < share


def text(rng: Random) -> str:
    """Any text: short for the most part, hostile for a good part."""
    at = rng.random()
    if at < 0.25:
        return rng.choice(WORDS)
    if at < 0.55:
        return mixed(rng)
    if at < 0.65:
        return rng.choice(NUMERALS)
    if at < 0.70:
        return rng.choice(NAMES)
    if at < 0.76:
        return joined("".join([chr(rng.randrange(0x110000)) for _ in range(rng.randrange(1, 9))]))
    if at < 0.80:
        return ""
    if at < 0.84:
        return almost_base64(rng)
    if at < 0.89:
        return json_text(rng)
    if at < 0.92:
        return rng.choice(TIMES)
    if at < 0.97:
        return filler(rng) * rng.choice(LENGTHS)
    if at < 0.9995:
        return rng.choice(WORDS) + (filler(rng) * rng.choice(LARGE) if at > 0.995 else filler(rng) * 1000)
    return filler(rng) * LARGEST


def filler(rng: Random) -> str:
    return rng.choice(("x", "x", "x", "ä", "€", "😀", "\n", " ", "\x01", "\ud800", "%", '"', "="))


def mixed(rng: Random) -> str:
    """Words with what breaks lines, clients or UTF-8 between them."""
    parts = []
    for _ in range(rng.randrange(1, 5)):
        at = rng.random()
        if at < 0.4:
            parts.append(rng.choice(WORDS))
        elif at < 0.55:
            parts.append(rng.choice(BREAKS))
        elif at < 0.67:
            parts.append(rng.choice(CONTROLS))
        elif at < 0.77:
            parts.append(rng.choice(SURROGATES))
        elif at < 0.87:
            parts.append(rng.choice(FORMATS))
        else:
            parts.append(rng.choice(SMUGGLED))
    return joined("".join(parts))


def joined(text: str) -> str:
    """Two halves of a surrogate pair side by side are one character: no decoder leaves them apart."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def name(rng: Random) -> str:
    """The name of an attribute, header or field."""
    at = rng.random()
    if at < 0.6:
        return rng.choice(NAMES)
    if at < 0.7:
        return _recased(rng, rng.choice(NAMES))
    if at < 0.9:
        return f"k{rng.randrange(40)}"
    return text(rng)


def _recased(rng: Random, word: str) -> str:
    return "".join([each.upper() if rng.random() < 0.5 else each.lower() for each in word])


def good_name(rng: Random) -> str:
    """One that SQS takes."""
    while True:
        found = rng.choice(NAMES) if rng.random() < 0.4 else f"{rng.choice(('k', 'K', 'a.b-', '_'))}{rng.randrange(40)}"
        if _GOOD.fullmatch(found) and ".." not in found and not found.lower().startswith(("aws.", "amazon.")):
            return found


def good_text(rng: Random) -> str:
    """Text that SQS takes: at least one character, all of XML 1.0; awkward all the same."""
    found = text(rng)
    kept = "".join([each for each in found if xml(each)])
    return kept or rng.choice(("x", " ", "\t", "\n", "\r\n", " x", "x ", "\u2028", "\x7f", "\x85", "é"))


def xml(character: str) -> bool:
    """Source: SQS API reference, SendMessage."""
    code = ord(character)
    return code in (9, 10, 13) or 0x20 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or code >= 0x10000


def payload(rng: Random) -> bytes:
    """Bytes of a body."""
    at = rng.random()
    if at < 0.15:
        return rng.choice(
            (b"", b"{}", b"\0", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf{}", b"\xc3\x28", b"[]", b"\x80" * 9)
        )
    if at < 0.3:
        return rng.randbytes(rng.randrange(40))
    if at < 0.5:
        return json_text(rng).encode("utf-8", "surrogatepass")
    return text(rng).encode("utf-8", "surrogatepass")


def almost_base64(rng: Random) -> str:
    found = base64.b64encode(rng.randbytes(rng.randrange(12))).decode()
    match rng.randrange(7):
        case 0:
            return found[:-1]
        case 1:
            return found + "="
        case 2:
            return found[:2] + "\n" + found[2:]
        case 3:
            return found.replace("+", "-").replace("/", "_")
        case 4:
            return found + " "
        case 5:
            return "===="
        case _:
            return found


def json_text(rng: Random) -> str:
    """JSON, or nearly."""
    match rng.randrange(12):
        case 0:
            return rng.choice(
                ("[", '{"a":', "{]", '{"a":1,}', "nul", "'x'", "{}{}", '"\\ud800"', '{"a":"\\u0000"}', "\ufeff{}")
            )
        case 1:
            return rng.choice(
                ('{"a":1,"a":2}', '{"a":NaN}', "NaN", "-Infinity", "1e400", "1" * 400, '{"":1}', "[1e999]")
            )
        case 2 if rng.random() < 0.1:
            return nested(rng, rng.choice((500, 1_500, 100_000)))
        case _:
            pass
    return json.dumps(value(rng), ensure_ascii=rng.random() < 0.5)


def nested(rng: Random, depth: int) -> str:
    opening, closing = rng.choice((("[", "]"), ('{"a":', "}")))
    return opening * depth + rng.choice(("1", "")) + (closing * depth if rng.random() < 0.7 else "")


def value(rng: Random, depth: int = 0) -> Any:
    """Any value JSON has, and some Python's json reads besides."""
    at = rng.random()
    if at < 0.1:
        return None
    if at < 0.3:
        return rng.choice(NUMBERS)
    if at < 0.7 or depth > 3:
        return text(rng) if rng.random() < 0.5 else rng.choice(WORDS)
    if at < 0.85:
        return [value(rng, depth + 1) for _ in range(rng.randrange(4))]
    return {name(rng): value(rng, depth + 1) for _ in range(rng.randrange(4))}


def mutated(rng: Random, document: Any) -> Any:
    """The document with one thing in it changed: a genuine one, forged."""
    if isinstance(document, dict) and document and rng.random() < 0.9:
        changed = dict(document)
        key = rng.choice(list(changed))
        match rng.randrange(8):
            case 0:
                del changed[key]
            case 1:
                changed[name(rng)] = value(rng)
            case 2 | 3:
                changed[key] = wrong(rng, changed[key])
            case _:
                changed[key] = mutated(rng, changed[key])
        return changed
    if isinstance(document, list) and document and rng.random() < 0.9:
        listed = list(document)
        at = rng.randrange(len(listed))
        match rng.randrange(6):
            case 0:
                del listed[at]
            case 1:
                listed.insert(at, value(rng))
            case 2:
                listed.append(listed[at])
            case _:
                listed[at] = mutated(rng, listed[at])
        return listed
    return wrong(rng, document)


def wrong(rng: Random, was: Any) -> Any:
    """Something else in the place of a value."""
    at = rng.random()
    if isinstance(was, str) and at < 0.25:
        cut = rng.randrange(len(was) + 1)
        return joined(was[:cut] + mixed(rng) + was[cut:])
    if isinstance(was, str) and at < 0.35:
        return was + rng.choice(SMUGGLED)
    if at < 0.5:
        return rng.choice((None, [], {}, "", 0, -1, True, [None], {"": None}, [[]], "null", 1.5))
    if at < 0.6:
        return rng.choice(NUMBERS)
    return value(rng)
