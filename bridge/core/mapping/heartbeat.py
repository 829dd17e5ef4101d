"""Heartbeats: a message of the bridge's own (a canary) that a route puts into its source and carries like any other.

    body        {"heartbeat":"<route>","from":"<mark of its source>","id":"<32 hex digits>","sent":<seconds>}
    marked by   Bridge-Heartbeat: <route>, a header in JetStream and a String attribute in SQS and SNS

A message is a canary only if its whole body has this form, the mark names the same route, and nothing a third
party added is beside it. Such a message has no room for content, so to drop one can lose nothing; a message that merely
carries the mark is a message like any other. The form can be copied: only the sender knows, by the id, whether it is a
heartbeat that counts (observe/heartbeat.py). May not: make an id, read a clock or trust what a canary says of itself.
"""

from __future__ import annotations

import re
from collections import abc
from collections.abc import Iterable

from bridge.core.mapping.headers import reserved
from bridge.core.mapping.provenance import Passage
from bridge.core.mapping.subject import SubjectTemplate
from bridge.core.mapping.template import Placeholder
from bridge.core.models import Attribute, Canary, JetStreamMessage, JetStreamOut, SqsOut
from bridge.core.subjects import meet

HEADER = "Bridge-Heartbeat"
TOKEN = "_heartbeat"  # noqa: S105 - of a subject; also the group of canaries in a FIFO queue
OPENING = '{"heartbeat":"'
OPENING_BYTES = OPENING.encode()
NO_SUBJECT = (
    "no subject that stream {stream} captures passes the filters of consumer {consumer}: no heartbeat can be sent"
)
_FORM = re.compile(
    r'\{"heartbeat":"([a-z0-9][a-z0-9_-]{0,62})","from":"([0-9a-f]{0,8})","id":"([0-9a-f]{32})",'
    r'"sent":([0-9]{1,11}\.[0-9]{3})\}'
)
_TRACE = frozenset({"traceparent", "tracestate"})


def written(canary: Canary) -> str:
    """Its body."""
    return f'{OPENING}{canary.route}","from":"{canary.origin}","id":"{canary.id}","sent":{canary.sent:.3f}}}'


def mark_of(canary: Canary) -> dict[str, Attribute]:
    """The attribute consumers filter by."""
    return {HEADER: Attribute("String", canary.route)}


def canary_in(body: str, attributes: abc.Mapping[str, Attribute]) -> Canary | None:
    """The canary an SQS message is (unwrapped, if it came in an envelope), or None."""
    mark = attributes.get(HEADER)
    if mark is None or not attributes.keys() - {HEADER} <= _TRACE:
        return None
    return _read(body, mark.value)


def canary_in_stream(message: JetStreamMessage) -> Canary | None:
    """The canary a JetStream message is, or None."""
    marks = [value for name, value in message.headers if name == HEADER]
    if len(marks) != 1 or not all(reserved(name) or name in _TRACE for name, _ in message.headers):
        return None
    try:
        return _read(message.payload.decode("ascii"), marks[0])
    except UnicodeDecodeError:
        return None


def _read(body: str, mark: str | bytes) -> Canary | None:
    found = _FORM.fullmatch(body)
    if found is None or found[1] != mark:
        return None
    return Canary(found[1], found[2], found[3], float(found[4]))


def own(canary: Canary, passage: Passage) -> bool:
    """Whether the route of this passage put it where it was found. Any other ends here: it has proved what it had to
    where it arrived first, and if carried further it could circulate for ever."""
    return canary.route == passage.route and canary.origin == passage.mark


def into_queue(canary: Canary) -> SqsOut:
    """What is put into the queue a route reads. Group and id are for FIFO queues."""
    return SqsOut(written(canary), mark_of(canary), TOKEN, canary.id)


def into_stream(canary: Canary, subject: str) -> JetStreamOut:
    """What is put into the stream a route reads."""
    return JetStreamOut(subject, written(canary).encode(), f"heartbeat:{canary.id}", {HEADER: canary.route})


def subject_of(template: SubjectTemplate) -> str:
    """Where canaries land: on the route's subject, each placeholder filled with the same word."""
    return "".join(TOKEN if isinstance(part, Placeholder) else part for part in template.parts)


def subject_into(filters: Iterable[str], subjects: Iterable[str]) -> str | None:
    """A subject that the consumer's filters pass (none of them: all) and the stream captures; None if there is none."""
    for wanted in tuple(filters) or (">",):
        for captured in subjects:
            if (both := meet(wanted, captured)) is not None:
                return ".".join(TOKEN if token in ("*", ">") else token for token in both.split("."))
    return None
