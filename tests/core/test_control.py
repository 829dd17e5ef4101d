"""What may be asked of a route when, and who may ask."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from bridge.core.control import ACTIONS, Action, Aim, decide, unknown_route
from bridge.core.door import Door

AIMS: tuple[Aim, ...] = get_args(Aim)
TOKENS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=16, max_size=80)


class Asked(RuleBasedStateMachine):
    """Operators ask anything in any order, and now and then the source turns out to be empty."""

    def __init__(self) -> None:
        super().__init__()
        self.aim: Aim = "carry"
        self.proven = False

    @rule(action=st.sampled_from(ACTIONS))
    def ask(self, action: Action) -> None:
        before, decision = self.aim, decide(action, self.aim)
        assert decision.message
        if decision.kind == "refused":
            assert decision.aim is None
        if decision.aim is not None:
            self.aim = decision.aim
            # What was asked is what it is after now, and to ask again changes nothing.
            assert decide(action, self.aim).aim is None
            assert decide(action, self.aim).kind == "done"
        else:
            assert self.aim == before
        if action == "resume":
            assert self.aim == "carry"  # from everywhere: an operator is never stuck

    @rule()
    def becomes_empty(self) -> None:
        if self.aim == "empty":
            self.aim, self.proven = "drained", True

    @invariant()
    def drained_only_by_proof(self) -> None:
        assert self.aim != "drained" or self.proven
        assert self.aim != "stop"  # no action ends a route


TestAsked = Asked.TestCase


@pytest.mark.parametrize("action", ACTIONS)
def test_a_route_that_stops_takes_no_action(action: Action) -> None:
    assert decide(action, "stop").kind == "refused"


@pytest.mark.parametrize(
    ("action", "aim", "sentence"),
    [
        ("drain", "pause", "resume it first"),
        ("pause", "drained", "resume starts it again"),
        ("resume", "carry", "it is running already"),
        ("pause", "empty", "the drain ends"),
    ],
)
def test_the_answer_says_what_to_do(action: Action, aim: Aim, sentence: str) -> None:
    assert sentence in decide(action, aim).message


def test_an_unknown_route_is_reported_the_nearest() -> None:
    known = ["payments-in", "refunds-in"]
    assert unknown_route("payment-in", known).message == "there is no route payment-in; did you mean payments-in?"
    assert unknown_route("zzz", known).message == "there is no route zzz; there is payments-in, refunds-in"


@given(TOKENS, st.text(max_size=100))
def test_only_the_token_itself_opens_the_door(token: str, given_: str) -> None:
    door = Door(token)
    assert door.admits(f"Bearer {token}") is None
    assert door.admits(f"bearer  {token} ") is None
    refused = door.admits(f"Bearer {given_}")
    assert (refused is None) == (given_.strip() == token)
    for header in (token, f"Basic {token}", "", "Bearer", f"Bearer {token}x", f"Bearer {token[:-1]}"):
        denied = door.admits(header)
        assert denied is not None
        assert denied.kind == "denied"
        assert token not in str(denied.document())


@given(TOKENS)
def test_a_door_never_shows_its_token(token: str) -> None:
    assert token not in repr(Door(token))
    assert token not in str(Door(token))


def test_without_a_token_no_one_may_act_and_the_answer_says_how_to_open() -> None:
    for header in ("", "Bearer ", "Bearer None", "Bearer x"):
        answer = Door().admits(header)
        assert answer is not None
        assert answer.kind == "closed"
        assert "http.token_file" in answer.message
