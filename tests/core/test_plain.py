"""The law of core/plain.py: whatever comes in, what comes out does nothing to a terminal and hides nothing."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.core.plain import plain, plain_document, plain_lines

# Surrogates too: JSON may hold them.
anything = st.text(st.characters(codec=None, exclude_categories=()))
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | anything,
    lambda inner: st.lists(inner) | st.dictionaries(anything, inner),
    max_leaves=8,
)


@given(anything)
def test_what_comes_out_is_printable_and_printable_text_stays(text: str) -> None:
    shown = plain(text)
    assert shown.isprintable()
    assert plain(shown) == shown
    assert (shown == text) == text.isprintable()
    assert "\n".join(plain_lines(text)).count("\n") == text.count("\n")


@settings(max_examples=40)
@given(documents)
def test_a_document_keeps_its_numbers_and_loses_its_controls(document: object) -> None:
    shown = plain_document(document)
    text = json.dumps(shown, ensure_ascii=False)
    assert text.isprintable()
    if not isinstance(document, str | list | dict):
        assert shown is document


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", "\\x1b[2J"),
        ("\x9b31m", "\\x9b31m"),
        ("gpj.\u202etxt", "gpj.\\u202etxt"),
        ("a\u200bb\ufeff", "a\\u200bb\\ufeff"),
        ("one\r\ntwo\tthree", "one\\r\\ntwo\\tthree"),
        ("line\u2028para\u2029", "line\\u2028para\\u2029"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
        ("Zürich → 東京 [red]", "Zürich → 東京 [red]"),
    ],
)
def test_each_kind_is_shown_as_its_number(text: str, shown: str) -> None:
    assert plain(text) == shown
