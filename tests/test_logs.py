"""Errors of libraries in the log: by type and first line, never as a traceback object."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import logging
from bridge.observe.logs import configure_logs

configure_logs("json", "info")
for text in ("received 503\\nand more", "", "\\n"):
    try:
        raise RuntimeError(text)
    except RuntimeError:
        logging.getLogger("botocore.credentials").warning("refreshing failed", exc_info=True)
logging.getLogger("botocore.credentials").warning("no error at all")
"""


def test_an_error_of_a_library_is_one_line() -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in ran.stderr.splitlines()]
    errors = [line.get("error") for line in lines]
    assert errors == ["RuntimeError: received 503", "RuntimeError: ", "RuntimeError: ", None]
    assert "traceback" not in ran.stderr.lower()
