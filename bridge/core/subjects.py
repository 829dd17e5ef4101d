"""NATS subject sets: do two patterns share a subject, does one hold all of another. Source: ADR-6.

May not: validate a subject for publishing (mapping/subject.py does).
"""

from __future__ import annotations


def overlap(one: str, other: str) -> bool:
    """Whether some subject matches both patterns."""
    a, b = one.split("."), other.split(".")
    for left, right in zip(a, b, strict=False):
        if ">" in (left, right):
            return True
        if left != right and "*" not in (left, right):
            return False
    return len(a) == len(b)


def covers(wide: str, narrow: str) -> bool:
    """Whether every subject that matches `narrow` matches `wide` too."""
    a, b = wide.split("."), narrow.split(".")
    for left, right in zip(a, b, strict=False):
        if left == ">":
            return True
        if right == ">" or (left != "*" and left != right):
            return False
    return len(a) == len(b)


def permitted(subject: str, allow: list[str] | None, deny: list[str] | None) -> bool:
    """Whether a user with these permissions may use all of `subject`. None or no allow list allows everything."""
    if any(overlap(denied, subject) for denied in deny or []):
        return False
    return not allow or any(covers(allowed, subject) for allowed in allow)


def meet(one: str, other: str) -> str | None:
    """A pattern of subjects that match both, the widest there is; None where no subject does."""
    if not overlap(one, other):
        return None
    a, b = one.split("."), other.split(".")
    tokens: list[str] = []
    for place, (left, right) in enumerate(zip(a, b, strict=False)):
        if left == ">":
            return ".".join([*tokens, *b[place:]])
        if right == ">":
            return ".".join([*tokens, *a[place:]])
        tokens.append(right if left == "*" else left)
    return ".".join(tokens)
