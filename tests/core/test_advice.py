"""Advice is run as it is printed, so it must keep what is there and mean the same to a shell."""

from __future__ import annotations

import shlex

from hypothesis import assume, given
from hypothesis import strategies as st

from bridge.core.advice import MOST_NAMED, add_stream, add_subjects, filters, in_words, those_here
from bridge.core.subjects import covers

PATTERNS = st.builds(
    lambda tokens, last: ".".join([*tokens, last]),
    st.lists(st.sampled_from("ab*"), max_size=2),
    st.sampled_from("ab*>"),
)


def subjects_in(command: str) -> list[str]:
    words = shlex.split(command)
    return words[words.index("--subjects") + 1].split(",")


@given(st.lists(PATTERNS, unique=True, max_size=4), st.lists(PATTERNS, unique=True, min_size=1, max_size=1))
def test_a_stream_captures_all_it_did_and_all_it_should(known: list[str], more: list[str]) -> None:
    assume(not any(one != other and covers(one, other) for one in known for other in known))  # no server has such
    wanted = subjects_in(add_subjects("S", known, *more))
    for subject in (*known, *more):
        assert any(covers(each, subject) for each in wanted)
    assert set(wanted) <= {*known, *more}
    (added,) = more
    assert not [each for each in wanted if each != added and added in wanted and covers(added, each)]


def test_the_list_is_whole_and_in_quotes() -> None:
    assert add_subjects("PAYMENTS", ["payments.>"], "sched.x.*").endswith('--subjects "payments.>,sched.x.*"')
    assert subjects_in(add_stream("P", "p.>")) == ["p.>"]
    assert shlex.split(filters(["a.>", "b"])) == ["--filter", "a.>", "--filter", "b"]
    assert filters(None) == ""
    assert "replaces the whole list" in in_words("S", "a.b")


def test_what_is_here_is_named_up_to_a_number() -> None:
    assert those_here("streams", ["A", "B"]) == "streams here are A, B"
    assert those_here("streams", [f"S{n}" for n in range(MOST_NAMED + 2)]).endswith("S9 and 2 more")
    assert "right server" in those_here("streams", [])
