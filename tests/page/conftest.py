"""Chromium for the tests that need one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.page.browser import Browser, ChromeDriver, missing


@pytest.fixture(scope="session")
def chromedriver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChromeDriver]:
    """A desk without Chromium may go without these tests; what lands may not."""
    if names := missing():
        sentence = f"not installed: {names} (Debian: apt-get install chromium chromium-driver)"
        if os.environ.get("CI"):
            pytest.fail(sentence)
        pytest.skip(sentence)
    with ChromeDriver(tmp_path_factory.mktemp("chromedriver") / "log") as driver:
        yield driver


@pytest.fixture
def browser(chromedriver: ChromeDriver, tmp_path: Path) -> Iterator[Browser]:
    with Browser(chromedriver, tmp_path / "profile") as window:
        yield window


@pytest.fixture
def plain_browser(chromedriver: ChromeDriver, tmp_path: Path) -> Iterator[Browser]:
    """One that runs no JavaScript."""
    with Browser(chromedriver, tmp_path / "profile", javascript=False) as window:
        yield window
