"""What an exception leaves in the log: its type and where it came up, never its text or the values around it."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest
import structlog

from bridge.daemon import Daemon
from bridge.observe import Observation, configure_logs
from tests.test_running import World, config, until

SECRET = "card 4111-1111"


@pytest.fixture(autouse=True)
def as_before() -> object:
    root = logging.getLogger()
    found = root.level, list(root.handlers)
    yield None
    root.setLevel(found[0])
    root.handlers[:] = found[1]
    structlog.reset_defaults()


@pytest.mark.parametrize("format", ["json", "console"])
def test_the_text_of_an_exception_and_the_values_around_it_are_left_out(
    format: str,  # noqa: A002 - the key's name in the configuration
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logs(format, "info")
    body = f"a body with {SECRET}"
    try:
        raise KeyError(body)
    except KeyError:
        logging.getLogger("aiohttp.server").exception("Error handling request")
        structlog.get_logger().error("odd", exc_info=True)
    shown = capsys.readouterr().err
    assert SECRET not in shown
    assert shown.count("KeyError") == 2
    assert shown.count("test_logs.py:") == 2


def test_a_crash_is_reported_in_both_formats(capsys: pytest.CaptureFixture[str]) -> None:
    """The console format has a meaning of its own for some names."""
    for format in ("json", "console"):  # noqa: A001
        configure_logs(format, "info")
        try:
            raise KeyError(SECRET)
        except KeyError as error:
            Observation().crashed(error)
        shown = capsys.readouterr().err
        assert "crashed" in shown
        assert SECRET not in shown


async def test_what_no_one_awaits_is_reported_by_its_type(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    configure_logs("json", "info")
    whole = config("in")
    monkeypatch.setattr("bridge.running.open_route", World().open)
    daemon = Daemon(whole, Observation(), lambda: whole)
    running = asyncio.create_task(daemon.run())
    loop = asyncio.get_running_loop()

    def odd() -> None:
        raise ValueError(SECRET)

    loop.call_soon(odd)
    shown = ""

    def told() -> bool:
        nonlocal shown
        shown += capsys.readouterr().err
        return "ValueError" in shown

    await until(told)
    await until(lambda: daemon._main is not None)
    daemon.signalled()
    assert await running == 0
    assert SECRET not in shown
    (line,) = [json.loads(each) for each in shown.splitlines() if "ValueError" in each]
    assert (line["event"], line["error"]) == ("unexpected_error", "ValueError")
    loop.set_exception_handler(None)


def test_an_error_of_what_gets_credentials_says_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("json", "info")
    for text in ("received 503\nand more", "", "\n"):
        try:
            raise RuntimeError(text)
        except RuntimeError:
            logging.getLogger("botocore.credentials").warning("refreshing failed", exc_info=True)
    errors = [json.loads(line)["error"] for line in capsys.readouterr().err.splitlines()]
    assert errors == ["RuntimeError: received 503", "RuntimeError: ", "RuntimeError: "]
