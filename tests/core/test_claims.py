"""Pointers: every form of Amazon's clients is read, nothing else is taken for one, and a route follows only those into
places it names."""

from __future__ import annotations

import json
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.mapping.claims import (
    CLAIM,
    LONGEST_KEY,
    SIZE,
    SIZE_BEFORE,
    Allowed,
    Place,
    claim_of,
    key_for,
    key_problem,
    mark_of,
    pointer_to,
    shown,
)
from bridge.core.models import Attribute, Claim

NUMBER = Attribute("Number", "5")
V1, V2 = "com.amazon.sqs.javamessaging.MessageS3Pointer", "software.amazon.payloadoffloading.PayloadS3Pointer"
TEXT = st.text(st.characters(codec=None), max_size=40) | st.text("ab/.=%: \ud800\udfff", max_size=12)
CLAIMS = st.builds(Claim, st.sampled_from(["s3", "object_store"]), TEXT, TEXT)


@pytest.mark.parametrize("mark", [SIZE, SIZE_BEFORE])
@pytest.mark.parametrize("kind", [V1, V2])
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")], ids=["java", "python"])
def test_either_class_is_read_with_either_attribute(kind: str, mark: str, separators: tuple[str, str]) -> None:
    """Java 1.0 writes v1 with v1, Java 2 v2's class with v1's attribute, or with v2's if told so; Python either."""
    body = json.dumps([kind, {"s3Key": "a/5f8b.txt", "s3BucketName": "payloads"}], separators=separators)
    assert claim_of(body, {mark: NUMBER, "x": NUMBER}) == Claim("s3", "payloads", "a/5f8b.txt")
    assert claim_of(body.encode(), {mark: NUMBER}) == Claim("s3", "payloads", "a/5f8b.txt")
    assert claim_of(body, {CLAIM: NUMBER}) is None
    assert claim_of(body, {}) is None


@pytest.mark.parametrize(
    ("form", "kind", "mark"), [("v1", V1, "SQSLargePayloadSize"), ("v2", V2, "ExtendedPayloadSize")]
)
def test_a_pointer_is_written_as_the_version_asked_for(form: Literal["v1", "v2"], kind: str, mark: str) -> None:
    claim = Claim("s3", "payloads", "k")
    assert json.loads(pointer_to(claim, form)) == [kind, {"s3BucketName": "payloads", "s3Key": "k"}]
    assert mark_of(claim, 300_000, form) == {mark: Attribute("Number", "300000")}


WRITTEN = st.builds(Claim, st.sampled_from(["s3", "object_store"]), st.text(), st.text())


@given(WRITTEN, st.integers(0, 2**40), st.sampled_from(["v1", "v2"]))
def test_a_pointer_is_read_as_it_was_written(claim: Claim, size: int, form: Literal["v1", "v2"]) -> None:
    assert claim_of(pointer_to(claim, form), mark_of(claim, size, form)) == claim
    assert claim_of(pointer_to(claim, form), {}) is None


@pytest.mark.parametrize(
    "body",
    [
        "x",
        "[]",
        "[1, 2]",
        "null",
        f'["{V2}"]',
        f'["{V2}", {{}}]',
        f'["{V2}", null]',
        f'["{V2}", []]',
        f'["{V2}", "s3BucketName"]',
        f'["{V2}", {{"s3BucketName": 1, "s3Key": "k"}}]',
        f'["{V2}", {{"s3BucketName": ["b"], "s3Key": "k"}}]',
        f'["{V2}", {{"s3BucketName": "b", "s3Key": null}}]',
        f'["{V2}", {{"s3BucketName": "b", "s3Key": "k"}}, 1]',
        f'{{"{V2}": {{"s3BucketName": "b", "s3Key": "k"}}}}',
        f'[["{V2}"], {{"s3BucketName": "b", "s3Key": "k"}}]',
        "[" * 9_000,
        "[" + "9" * 9_000 + ",1]",
        f'["{V2}", {{"s3BucketName": "b", "s3Key": "{"k" * 20_000}"}}]',
    ],
)
def test_a_body_that_is_no_pointer_is_the_payload(body: str) -> None:
    assert claim_of(body, {SIZE: NUMBER, CLAIM: NUMBER}) is None
    assert claim_of(body.encode("utf-16"), {SIZE: NUMBER}) is None


def test_a_pointer_in_another_encoding_is_a_payload() -> None:
    assert claim_of(pointer_to(Claim("s3", "b", "k")).encode("utf-16"), {SIZE: NUMBER}) is None


@given(st.text() | st.binary(), st.sampled_from([SIZE, SIZE_BEFORE, CLAIM]))
def test_reading_never_fails(body: str | bytes, mark: str) -> None:
    claim_of(body, {mark: NUMBER})


ALLOWED = Allowed((Place("s3", "payloads"), Place("s3", "shared", "refunds/"), Place("object_store", "Large")))


@pytest.mark.parametrize(
    ("claim", "permitted"),
    [
        (Claim("s3", "payloads", "any/key of any kind"), True),
        (Claim("s3", "shared", "refunds/1"), True),
        (Claim("s3", "shared", "refunds"), False),
        (Claim("s3", "shared", "Refunds/1"), False),
        (Claim("s3", "shared", "/refunds/1"), False),
        (Claim("s3", "shared", "refunds/../orders/1"), False),
        (Claim("s3", "shared", "refunds/..\\orders"), False),
        (Claim("s3", "payloads", "../shared/orders/1"), False),
        (Claim("s3", "payloads", "./k"), False),
        (Claim("s3", "payloads", "a..b"), True),
        (Claim("s3", "payloads", ""), False),
        (Claim("s3", "payloads", "\ud800"), False),
        (Claim("s3", "payloads", "k\r\nx: y"), False),
        (Claim("s3", "payloads", "k\x00"), False),
        (Claim("s3", "payloads", "\x1b]0;x"), False),
        (Claim("s3", "payloads", "k" * LONGEST_KEY), True),
        (Claim("s3", "payloads", "ä" * LONGEST_KEY), False),
        (Claim("s3", "Payloads", "k"), False),
        (Claim("s3", "payloads ", "k"), False),
        (Claim("s3", "payloads/", "k"), False),
        (Claim("s3", "s3://payloads", "k"), False),
        (Claim("s3", "arn:aws:s3:::payloads", "k"), False),
        (Claim("s3", "arn:aws:s3:eu-west-1:123456789012:accesspoint/payloads", "k"), False),
        (Claim("s3", "payloads-abcdefgh-s3alias", "k"), False),
        (Claim("s3", "Large", "k"), False),
        (Claim("object_store", "Large", "with blanks and * and >"), True),
        (Claim("object_store", "large", "k"), False),
        (Claim("object_store", "payloads", "k"), False),
        (Claim("object_store", "Large.>", "k"), False),
    ],
)
def test_a_pointer_is_followed_only_into_places_that_are_named_letter_for_letter(claim: Claim, permitted: bool) -> None:
    assert ALLOWED.permits(claim) is permitted


@given(CLAIMS)
def test_nothing_else_is_followed(claim: Claim) -> None:
    if ALLOWED.permits(claim):
        assert key_problem(claim.key) is None
        assert claim.bucket in ("payloads", "shared", "Large")
    assert not Allowed().permits(claim)


@given(TEXT, TEXT)
def test_different_ids_have_different_keys_and_all_are_sound(one: str, other: str) -> None:
    keys = [key_for("kept/", each, each.encode("utf-8", "surrogatepass")) for each in (one, other)]
    assert (keys[0] == keys[1]) == (one == other)
    assert all(key_problem(key) is None and key.startswith("kept/") and "/" not in key[5:] for key in keys)


def test_a_long_id_is_hashed_and_none_is_the_digest_of_the_payload() -> None:
    keys = [key_for("p" * 256, "\udfff" * 5_000 + last, b"") for last in "ab"]
    assert keys[0] != keys[1]
    assert all(key_problem(key) is None for key in keys)
    assert key_for("", None, b"one") != key_for("", None, b"two") != key_for("", "", b"three")
    assert key_for("kept/", "sqs:1f-2_3", b"") == "kept/sqs:1f-2_3=.e3b0c44298fc1c14"
    # Whoever repeats an id does not change what a pointer leads to that was delivered before.
    assert key_for("kept/", "sqs:1f-2_3", b"x") != key_for("kept/", "sqs:1f-2_3", b"y")


def test_names_out_of_a_message_are_shown_without_what_a_terminal_obeys() -> None:
    assert shown(("\x1b]0;x\x07", "k\u202e\ud800")) == "\\x1b]0;x\\x07/k\\u202e\\ud800"
