"""`run`: the daemon in the foreground. May not: do more than put it together."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from bridge.config import load
from bridge.core.errors import BridgeError
from bridge.daemon import Daemon
from bridge.observe import Observation, configure_logs
from bridge.verbs import collect_rarely, loop_factory


def run(path: Path | None, environ: Mapping[str, str]) -> int:
    """Returns the exit code. Raises ConfigError before anything starts."""
    config = load(path, environ)
    configure_logs(config.log.format, config.log.level)
    observation = Observation()
    collect_rarely()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        try:
            return runner.run(Daemon(config, observation, partial(load, path, environ)).run())
        except BridgeError:
            raise
        except BaseException as error:  # noqa: BLE001 - the last handler there is
            # A task failed unexpectedly. The supervisor restarts the process; sources redeliver what was in flight.
            observation.crashed(error)
            return 1
