"""What a new configuration changes of one that runs: which routes start, stop, restart or continue unchanged.

May not: apply any of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bridge.config.models import Config, RouteConfig, SqsSourceConfig

# Keys a reload applies, in one way or another. Any other key waits for a restart, and is reported as such.
AT_ONCE = frozenset({"nats", "aws", "connections", "routes", "log", "http", "sampling", "shutdown_timeout"})


@dataclass(frozen=True, slots=True)
class Changes:
    """Names of routes, each in exactly one of the four, in the order of their file; and the keys that take
    effect only when the process restarts."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    after_restart: tuple[str, ...] = ()


def longest_poll(config: Config) -> float:
    """How long one receive may wait, in seconds: a poll in flight can return well before the deadline."""
    return max(1.0, config.shutdown_timeout * 0.6)


def changes(old: Config, new: Config, started: Config) -> Changes:
    """From `old`, which runs, to `new`. `started` is what the process began with: its socket listens there."""
    before = {route.name: route for route in old.routes}
    after = {route.name: route for route in new.routes}
    both = [name for name in after if name in before]
    changed = {name for name in both if _made_of(old, before[name]) != _made_of(new, after[name])}
    return Changes(
        added=tuple(name for name in after if name not in before),
        removed=tuple(name for name in before if name not in after),
        changed=tuple(name for name in both if name in changed),
        kept=tuple(name for name in both if name not in changed),
        after_restart=tuple(_after_restart(started, new)),
    )


def _made_of(config: Config, route: RouteConfig) -> tuple[object, ...]:
    """Everything a running route took from the file."""
    nats = config.nats if route.nats is None else config.connections[route.nats]
    aws = config.aws if route.aws is None else config.connections[route.aws]
    poll = min(route.source.wait_seconds, longest_poll(config)) if isinstance(route.source, SqsSourceConfig) else None
    return route, nats, aws, poll


def _after_restart(started: Config, new: Config) -> Iterator[str]:
    for key in ("host", "port", "allowed_hosts"):
        if getattr(started.http, key) != getattr(new.http, key):
            yield f"http.{key}"
    for key in type(new).model_fields:
        if key not in AT_ONCE and getattr(started, key) != getattr(new, key):
            yield key
