"""Buckets and stores whose payloads a route may fetch, as the file names them."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.config import JetStreamSourceConfig, SqsSourceConfig, load
from bridge.core.errors import ConfigError
from bridge.core.mapping.claims import Place
from bridge.routes import allowed_of

SQS = "{kind: sqs, queue: q%s}"
JETSTREAM = "{kind: jetstream, stream: S, consumer: c%s}"


def route(path: Path, source: str, more: str = "", environ: dict[str, str] | None = None):  # type: ignore[no-untyped-def]
    to = "{kind: jetstream, subject: s}" if "sqs" in source else "{kind: sqs, queue: q}"
    file = path / "bridge.yaml"
    file.write_text(f"routes:\n  - name: r\n    source: {source}\n    destination: {to}\n    {more}\n")
    return load(file, environ or {}).routes[0]


def test_a_route_fetches_from_nowhere_unless_it_says_where(tmp_path: Path) -> None:
    for source in (SQS % "", JETSTREAM % ""):
        assert allowed_of(route(tmp_path, source)) == ((), False)


@pytest.mark.parametrize(
    ("source", "more", "places"),
    [
        (SQS % ", buckets: [one, two/in/]", "", [Place("s3", "one"), Place("s3", "two", "in/")]),
        (SQS % ", buckets: [one]", "claim_check: {kind: s3, bucket: own}", [Place("s3", "own"), Place("s3", "one")]),
        (SQS % "", "claim_check: {kind: object_store, bucket: Own}", [Place("object_store", "Own")]),
        (SQS % ", pointers: keep", "claim_check: {kind: s3, bucket: own}", []),
        (JETSTREAM % ", buckets: [One/x]", "", [Place("object_store", "One", "x")]),
        (JETSTREAM % "", "claim_check: {kind: s3, bucket: own}", [Place("s3", "own")]),
    ],
)
def test_the_places_are_those_of_claim_check_and_source(
    tmp_path: Path, source: str, more: str, places: list[Place]
) -> None:
    assert list(allowed_of(route(tmp_path, source, more)).places) == places


def test_the_environment_names_them_too(tmp_path: Path) -> None:
    found = route(tmp_path, SQS % "", environ={"BRIDGE_ROUTES__0__SOURCE__BUCKETS": "one, two/in"})
    assert isinstance(found.source, SqsSourceConfig)
    assert found.source.buckets == ["one", "two/in"]


def test_park_is_for_both_kinds_of_source(tmp_path: Path) -> None:
    for source in (SQS % ", unlisted: park", JETSTREAM % ", unlisted: park"):
        found = route(tmp_path, source)
        assert isinstance(found.source, SqsSourceConfig | JetStreamSourceConfig)
        assert allowed_of(found).park


@pytest.mark.parametrize(
    ("source", "more", "words"),
    [
        (SQS % ", buckets: [One]", "", "not an S3 bucket name"),
        (SQS % ", buckets: ['s3://one']", "", "not an S3 bucket name"),
        (SQS % ", buckets: ['arn:aws:s3:::one']", "", "not an S3 bucket name"),
        (SQS % ", buckets: ['one/../two']", "", "between slashes"),
        (SQS % ", buckets: ['one//x']", "", "begins with a slash"),
        (SQS % ", buckets: ['']", "", "not an S3 bucket name"),
        (JETSTREAM % ", buckets: [a.b]", "", "not a bucket name"),
        (JETSTREAM % ", buckets: ['a.>']", "", "not a bucket name"),
        (SQS % ", unlisted: drop", "", "must be keep or park"),
        (SQS % ", pointers: keep, buckets: [one]", "", "pointers is keep"),
        (SQS % ", pointers: keep, unlisted: park", "", "pointers is keep"),
        (SQS % "", "claim_check: {kind: s3, bucket: own, prefix: /x}", "begins with a slash"),
        (SQS % "", "claim_check: {kind: s3, bucket: own, prefix: a/../b}", "between slashes"),
        (SQS % "", 'claim_check: {kind: object_store, bucket: own, prefix: "a\\x00"}', "control characters"),
        (SQS % "", "claim_check: {kind: s3, bucket: own, pointer_format: v3}", "must be v1 or v2"),
        (SQS % "", "claim_check: {kind: object_store, bucket: own, pointer_format: v1}", "unknown key"),
    ],
)
def test_what_is_no_place_is_refused(tmp_path: Path, source: str, more: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        route(tmp_path, source, more)
