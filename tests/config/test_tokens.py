"""The token of the HTTP actions: what is wrong with a file is told, what is in it never."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.config import load
from tests.config.test_complaints import ROUTE, complaint


@pytest.mark.parametrize(
    ("token", "sentence"),
    [
        ("short-and-secret", ""),
        ("short-secret", "the token in token is shorter than 16 characters; make one with: openssl rand -hex 32"),
        (
            "a secret with blanks in it",
            "the token in token has spaces or characters that are not ASCII; make one with: openssl rand -hex 32",
        ),
        (
            "ein-geheimnis-für-uns",
            "the token in token has spaces or characters that are not ASCII; make one with: openssl rand -hex 32",
        ),
    ],
)
def test_a_bad_token_is_reported_and_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str, sentence: str
) -> None:
    (tmp_path / "token").write_text(token)
    monkeypatch.chdir(tmp_path)
    text = f"http: {{token_file: token}}{ROUTE}"
    if not sentence:
        Path("bridge.yaml").write_text(text)
        assert token not in repr(load(None, {}))
        return
    said = complaint(tmp_path, monkeypatch, text)
    assert said == [f"bridge.yaml:1: http.token_file: {sentence}"]
    assert token not in str(said)
