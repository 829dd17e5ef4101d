"""A file that is missing, may not be read, or is no YAML, and the sentence the operator reads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bridge.config import load
from bridge.config.rules import unreadable
from bridge.core.errors import ConfigError
from tests.config.test_complaints import complaint, route


def test_what_is_no_yaml_is_reported_with_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (said,) = complaint(tmp_path, monkeypatch, "routes: [\n  a: b: c\n")
    assert said.startswith("bridge.yaml:2:7: not valid YAML: ")


def test_an_unclosed_bracket_is_reported_where_it_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (said,) = complaint(tmp_path, monkeypatch, "nats: {servers: [nats://a:4222\nroutes: []\n")
    assert said.startswith("bridge.yaml:2:7: not valid YAML: ")
    assert said.endswith("(a bracket or brace opened in line 1 is not closed)")


def test_tabs_are_reported_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (said,) = complaint(tmp_path, monkeypatch, "nats:\n\tservers: x\n")
    assert said.startswith("bridge.yaml:2:1: not valid YAML: ")
    assert said.endswith("(YAML is indented with spaces, not tabs)")


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "bridge.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"cannot read .*bridge\.yaml: not valid UTF-8"):
        load(tmp_path / "bridge.yaml", {})


def test_a_file_another_user_owns_names_the_user_who_must_read_it() -> None:
    assert unreadable(PermissionError(13, "Permission denied")) == (
        f"Permission denied; make it readable by user {os.geteuid()}, which runs this process"
    )


def test_an_unquoted_template_that_breaks_the_yaml_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (said,) = complaint(tmp_path, monkeypatch, route(destination="{kind: jetstream, subject: a.{group}}"))
    assert said == (
        "bridge.yaml:5:47: not valid YAML: expected ',' or '}', but got '{' "
        '(a template needs quotes: subject: "orders.{attributes.NAME}")'
    )


def test_a_file_that_holds_no_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (said,) = complaint(tmp_path, monkeypatch, "just text")
    assert said == "bridge.yaml:1: the file must hold keys and values (see deploy/bridge.example.yaml)"


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no configuration file .*nope\.yaml .*--config or BRIDGE_CONFIG"):
        load(tmp_path / "nope.yaml", {})
