"""What the mapping remembers between messages is bounded in bytes, whatever a message holds."""

from __future__ import annotations

from bridge.core.mapping.headers import REMEMBERED, _header_names, to_headers
from bridge.core.mapping.subject import TOKEN_LIMIT, _encoded, encode_token
from bridge.core.models import Attribute


def test_long_values_in_subjects_are_not_remembered() -> None:
    encode_token("short")
    known = _encoded.cache_info().currsize
    long = [f"{number}{'x' * TOKEN_LIMIT}" for number in range(100)]
    assert len({encode_token(each) for each in long}) == 100
    assert _encoded.cache_info().currsize == known


def test_long_attribute_names_are_not_remembered() -> None:
    to_headers({"a": Attribute("String", "1")})
    known = _header_names.cache_info().currsize
    for number in range(100):
        name = f"{number}{'x' * REMEMBERED}"
        assert to_headers({name: Attribute("String", "1")}) == {name: "1"}
    assert _header_names.cache_info().currsize == known
