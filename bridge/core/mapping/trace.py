"""Trace context in both spellings, W3C `traceparent` and AWSTraceHeader, and where a message has it.

    traceparent   00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01
    AWS           Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1

Used only while tracing is on. May not: change or take away a context a message came with, or add one where it would
cost the message: beside ten attributes, inside an envelope, among packed attributes.
Source: W3C Trace Context, level 1; X-Ray developer guide, tracing header.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import assert_never

from bridge.core.mapping.note import ATTRIBUTES
from bridge.core.mapping.packing import MARK
from bridge.core.models import Attribute, JetStreamOut, Out, SnsOut, SqsOut

TRACEPARENT = "traceparent"
AWS = "X-Amzn-Trace-Id"
_W3C = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_ROOT = re.compile(r"1-([0-9a-fA-F]{8})-([0-9a-fA-F]{24})")
_PARENT = re.compile(r"[0-9a-fA-F]{16}")


@dataclass(frozen=True, slots=True)
class TraceContext:
    """`trace_id` is 32 hex digits, `span_id` 16, in lower case, and neither all zeros."""

    trace_id: str
    span_id: str
    sampled: bool

    def w3c(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"

    def aws(self) -> str:
        return f"Root=1-{self.trace_id[:8]}-{self.trace_id[8:]};Parent={self.span_id};Sampled={int(self.sampled)}"


def from_w3c(text: str) -> TraceContext | None:
    found = _W3C.fullmatch(text)
    if found is None or found[1] == "ff" or (found[1] == "00" and found[5]):
        return None
    return _context(found[2], found[3], sampled=bool(int(found[4], 16) & 1))


def from_aws(text: str) -> TraceContext | None:
    """None without a Parent: a trace id alone is not a position in a trace."""
    fields = dict(part.strip().partition("=")[::2] for part in text.split(";"))
    root = _ROOT.fullmatch(fields.get("Root", ""))
    parent = fields.get("Parent", "")
    if root is None or not _PARENT.fullmatch(parent):
        return None
    return _context((root[1] + root[2]).lower(), parent.lower(), sampled=fields.get("Sampled") == "1")


def _context(trace_id: str, span_id: str, *, sampled: bool) -> TraceContext | None:
    return TraceContext(trace_id, span_id, sampled) if trace_id.strip("0") and span_id.strip("0") else None


@dataclass(frozen=True, slots=True)
class Carried:
    """The trace context of a message: `w3c` and `aws` as they are written, and what they say."""

    w3c: str | None
    aws: str | None

    @property
    def context(self) -> TraceContext | None:
        if self.w3c is not None:
            return from_w3c(self.w3c)
        return None if self.aws is None else from_aws(self.aws)


def carried_by(out: Out) -> Carried:
    match out:
        case JetStreamOut():
            w3c = _named((*out.headers.items(), *out.repeated))
            return Carried(w3c, out.headers.get(AWS))
        case SqsOut() | SnsOut():
            return Carried(_named((name, each.value) for name, each in out.attributes.items()), out.trace_header)
        case _:
            assert_never(out)


def _named(pairs: Iterable[tuple[str, str | bytes]]) -> str | None:
    for name, value in pairs:
        if name == TRACEPARENT or name.lower() == TRACEPARENT:
            return value if isinstance(value, str) else ""
    return None


def passed_on(out: Out, hop: TraceContext, *, enveloped: bool = False) -> Out:
    """The message with a W3C context: of its own, where it has only the AWS form; the hop's, where it has none. The
    same message where it has one already, or no room for it. `enveloped`: the body is an SNS envelope, and
    attributes beside it would break it."""
    carried = carried_by(out)
    if carried.w3c is not None or enveloped:
        return out
    context = hop if carried.aws is None else from_aws(carried.aws)
    if context is None:
        return out
    match out:
        case JetStreamOut():
            # What was packed into the payload may have one.
            return out if MARK in out.headers else out._replace(headers={**out.headers, TRACEPARENT: context.w3c()})
        case SqsOut() | SnsOut():
            if len(out.attributes) >= ATTRIBUTES:
                return out
            mark = {TRACEPARENT: Attribute("String", context.w3c())}
            return out._replace(attributes={**out.attributes, **mark})
        case _:
            assert_never(out)
