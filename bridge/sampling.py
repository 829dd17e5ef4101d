"""Samples every backlog of a route periodically and reports to the observation. Resubscribes a route whose receive is
stalled.

A sample of a queue costs one AWS call, so queues are sampled every `sampling.every` seconds: 3600 / every calls an hour
for each queue of a route, and 60 more with CloudWatch. JetStream costs nothing and is sampled more often.
May not: judge, or carry a message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from bridge.core import walls
from bridge.core.errors import BridgeError
from bridge.core.lag import Track
from bridge.core.route import Source
from bridge.legs.backlogs import Watched
from bridge.observe import Observation, RouteObservation

JETSTREAM_SECONDS = 2.0
LOOK_SECONDS = 10.0  # how long one sample may take before its backlog is unknown
JUDGE_SECONDS = 1.0
STALLED_SECONDS = 15.0  # messages wait, none arrives: how long until the route resubscribes
STALLED_SQS_SECONDS = 90.0  # the counts of SQS may be a minute old


def pause_between(system: str, every: float) -> float:
    """Seconds between two samples."""
    return every if system == "sqs" else min(JETSTREAM_SECONDS, every)


async def sample(
    source: Source, watched: Sequence[Watched], observation: RouteObservation, system: str, every: Callable[[], float]
) -> None:
    """Until cancelled. `system` is the source's; `every` returns `sampling.every`, which a reload may change."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_own(source, observation, system, every), name=f"look {observation.name}")
        for each in watched:
            group.create_task(_others(each, observation, every), name=f"look {observation.name} {each.side}")


async def judge(observation: Observation) -> None:
    """Until cancelled: trouble is reported within a second or two, even while samples are waiting."""
    while True:
        try:
            observation.judge()
        except Exception as error:  # noqa: BLE001 - the wall
            observation.contained(walls.unexpected(error))
        await asyncio.sleep(JUDGE_SECONDS)


async def _own(source: Source, observation: RouteObservation, system: str, every: Callable[[], float]) -> None:
    patience = STALLED_SQS_SECONDS if system == "sqs" else STALLED_SECONDS
    while True:
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                observation.sampled(await source.backlog())
        except BridgeError as error:
            observation.not_sampled(error)
        except TimeoutError:
            observation.not_sampled(_late())
        except Exception as error:  # noqa: BLE001 - the wall: a failed sample must not stop the route
            observation.not_sampled(walls.unexpected(error))
        if observation.receive_stalled(patience):
            observation.resubscribed()
            try:
                await source.resubscribe()
            except Exception as error:  # noqa: BLE001 - the wall
                observation.not_sampled(error if isinstance(error, BridgeError) else walls.unexpected(error))
        await asyncio.sleep(pause_between(system, every()))


async def _others(watched: Watched, observation: RouteObservation, every: Callable[[], float]) -> None:
    names: list[str] = []
    while True:
        pause = pause_between(watched.system, every())
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                seen = await watched.look()
        except Exception as error:  # noqa: BLE001 - the wall
            why = _late() if isinstance(error, TimeoutError) else walls.unexpected(error)
            for name in names:
                if place := observation.waiting.watched.get((watched.side, watched.system, name)):
                    place.not_looked(str(why))
        else:
            fresh = {each.name: Track(every=pause, exact=each.exact, retention=each.retention) for each in seen}
            observation.waiting.watches(watched.side, watched.system, names, fresh)
            names = list(fresh)
            for each in seen:
                place = observation.waiting.watched[watched.side, watched.system, each.name]
                place.track.retention = each.retention
                if isinstance(each.backlog, BridgeError):
                    place.not_looked(str(each.backlog))
                else:
                    place.looked(each.backlog)
        await asyncio.sleep(pause)


def _late() -> BridgeError:
    return BridgeError(f"no answer within {LOOK_SECONDS:g} s")
