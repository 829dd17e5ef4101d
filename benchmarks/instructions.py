"""How many machine instructions a message takes in the real daemon, counted by valgrind: the same number on a busy
machine as on a quiet one, so two versions can be told apart by a few parts in a thousand.

    python -m benchmarks.instructions [--direction back] [--beside ANOTHER-CHECKOUT]

It carries two counts of messages and divides the difference, so that starting and stopping do not count. Instructions
are not time: they leave out the kernel, caches and waiting, which `make bench` measures. Needs valgrind.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.contenders import ENVIRONMENT, ROUTES, Direction, Work, prepared
from benchmarks.processes import end_in_order, get, wait
from bridge.embedded import NatsServer, free_port

FEW, MANY = 2_000, 12_000
HERE = Path(__file__).resolve().parent.parent


def counted(work: Work, checkout: Path, folder: Path) -> int:
    """All instructions of one daemon that carries the work, is asked to stop, and drains."""
    with prepared(work) as sqs:
        port, log = free_port(), folder / f"{work.direction}-{work.messages}.log"
        document = {
            "nats": {"servers": [work.nats]},
            "aws": {"region": "eu-west-1", "endpoint_url": sqs.url},
            "http": {"port": port},
            "log": {"level": "warning"},
            "routes": [{"name": "bench", **ROUTES[work.direction]}],
        }
        path = folder / "bridge.yaml"
        path.write_text(json.dumps(document))
        watched = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
        command = [*watched, f"--log-file={log}", sys.executable, "-m", "bridge", "run", "-c", str(path)]
        process = subprocess.Popen(command, cwd=checkout, env={**ENVIRONMENT, "PYTHONHASHSEED": "0"})
        try:
            key = "deleted" if work.direction == "in" else "sent"
            wait(lambda: sqs.report()[key] >= work.messages, "all is carried", progress=lambda: sqs.report()[key])
            wait(lambda: _settled(get(f"http://127.0.0.1:{port}/metrics")), "all is settled")
            process.terminate()
            process.wait(120)
        finally:
            process.kill()
            process.wait()
    found = re.search(r"I\s+refs:\s+([\d,]+)", log.read_text())
    assert found is not None, log.read_text()
    return int(found[1].replace(",", ""))


def _settled(metrics: str) -> bool:
    found = re.search(r'^nats_sqs_bridge_in_flight_messages\{route="bench"\} (\S+)', metrics, re.MULTILINE)
    return found is not None and float(found[1]) == 0


def a_message(nats: str, direction: Direction, checkout: Path) -> float:
    with tempfile.TemporaryDirectory() as folder:
        few, many = [counted(Work(nats, direction, count, 0.0), checkout, Path(folder)) for count in (FEW, MANY)]
    return (many - few) / (MANY - FEW)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--direction", choices=["in", "back", "topic"], nargs="*", default=["in", "back"])
    parser.add_argument("--beside", type=Path, help="another checkout, counted as well")
    options = parser.parse_args()
    end_in_order()
    if shutil.which("valgrind") is None:
        raise SystemExit("valgrind is not installed (Debian: apt-get install valgrind)")
    with tempfile.TemporaryDirectory() as place, NatsServer(Path(place) / "nats") as server:
        for direction in options.direction:
            ours = a_message(server.url, direction, HERE)
            print(f"{direction}: {ours:,.0f} instructions a message", flush=True)
            if options.beside:
                other = a_message(server.url, direction, options.beside.resolve())
                print(f"{direction}: {other:,.0f} beside it; here {ours / other - 1:+.1%}", flush=True)
