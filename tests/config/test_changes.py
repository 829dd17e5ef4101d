"""What a reload restarts: exactly what changed, whatever changed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.config import Config, changes

SOURCES = (
    {"kind": "sqs", "queue": "a"},
    {"kind": "sqs", "queue": "b", "wait_seconds": 2},
    {"kind": "sqs", "queue": "b", "wait_seconds": 20},
)
ROUTES = st.fixed_dictionaries(
    {
        "source": st.sampled_from(SOURCES),
        "destination": st.sampled_from([{"kind": "jetstream", "subject": name} for name in ("x", "y")]),
        "aws": st.sampled_from([None, "billing"]),
        "nats": st.sampled_from([None, "hub"]),
    }
)
CONFIGS = st.builds(
    lambda routes, default, hub, billing, timeout: config(
        [{"name": name, **route} for name, route in routes.items()], default, hub, billing, timeout
    ),
    st.dictionaries(st.sampled_from("abcde"), ROUTES, min_size=1),
    *(st.sampled_from(["1", "2"]) for _ in range(3)),
    st.sampled_from([5, 30, 60]),
)


def config(
    routes: list[dict[str, Any]],
    default: str = "1",
    hub: str = "1",
    billing: str = "1",
    timeout: float = 30,
    **more: Any,
) -> Config:
    connections = {
        "hub": {"kind": "nats", "servers": [f"nats://hub-{hub}:4222"]},
        "billing": {"kind": "aws", "region": f"eu-west-{billing}"},
    }
    return Config.model_validate(
        {
            "nats": {"servers": [f"nats://{default}:4222"]},
            "aws": {"region": f"us-east-{default}"},
            "connections": connections,
            "routes": routes,
            "shutdown_timeout": timeout,
            **more,
        }
    )


@given(CONFIGS)
def test_the_same_file_changes_nothing(one: Config) -> None:
    found = changes(one, one.model_copy(deep=True), one)
    assert (found.added, found.removed, found.changed, found.after_restart) == ((), (), (), ())
    assert found.kept == tuple(route.name for route in one.routes)


@given(CONFIGS, CONFIGS)
def test_every_route_is_in_exactly_one_place(old: Config, new: Config) -> None:
    found = changes(old, new, old)
    before, after = {route.name for route in old.routes}, {route.name for route in new.routes}
    assert set(found.added) == after - before
    assert set(found.removed) == before - after
    assert sorted(found.changed + found.kept) == sorted(before & after)


@given(CONFIGS, CONFIGS)
def test_there_and_back_is_the_mirror_image(old: Config, new: Config) -> None:
    there, back = changes(old, new, old), changes(new, old, new)
    assert (set(there.added), set(there.removed)) == (set(back.removed), set(back.added))
    assert (set(there.changed), set(there.kept)) == (set(back.changed), set(back.kept))


@given(CONFIGS, CONFIGS)
def test_a_route_is_kept_only_if_neither_it_nor_its_connections_changed(old: Config, new: Config) -> None:
    before, after = ({route.name: route for route in one.routes} for one in (old, new))
    for name in changes(old, new, old).kept:
        assert before[name] == after[name]
        assert after[name].aws == "billing" or old.aws == new.aws
        assert after[name].aws is None or old.connections["billing"] == new.connections["billing"]
        assert after[name].nats == "hub" or old.nats == new.nats
        assert after[name].nats is None or old.connections["hub"] == new.connections["hub"]


PLAIN = {"name": "plain", "source": SOURCES[2], "destination": {"kind": "jetstream", "subject": "x"}}
BILLED = {**PLAIN, "name": "billed", "aws": "billing"}


@pytest.mark.parametrize(
    ("changed", "restarted"),
    [
        ({"billing": "2"}, ("billed",)),
        ({"default": "2"}, ("plain", "billed")),
        ({"hub": "2"}, ()),
        ({"timeout": 600}, ()),  # polls are no longer than before
        ({"timeout": 10}, ("plain", "billed")),  # a poll of 20 s would outlast it
        ({"log": {"level": "debug"}}, ()),
    ],
)
def test_what_restarts_whom(changed: dict[str, Any], restarted: tuple[str, ...]) -> None:
    old, new = config([PLAIN, BILLED], timeout=60), config([PLAIN, BILLED], **{"timeout": 60, **changed})
    assert changes(old, new, old).changed == restarted


def test_a_new_secret_restarts_the_routes_that_use_it() -> None:
    old, new = (
        config([PLAIN], nats={"servers": ["nats://a:4222"], "user": "u", "password": secret}) for secret in ("1", "2")
    )
    assert changes(old, new, old).changed == ("plain",)


def test_where_it_listens_waits_for_a_restart_and_is_reported_every_time() -> None:
    started, new = config([PLAIN]), config([PLAIN], http={"host": "0.0.0.0", "port": 9200})
    assert changes(started, new, started).after_restart == ("http.host", "http.port")
    assert changes(new, new, started).after_restart == ("http.host", "http.port")
