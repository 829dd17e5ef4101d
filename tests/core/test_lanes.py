"""The laws of lanes, under any order of admissions, ends and abandonments."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from bridge.core.lanes import Lanes


@dataclass(frozen=True)
class Item:
    lane: str | None
    number: int


LANE = st.sampled_from(["a", "b", "c", None])
STEPS = st.lists(
    st.one_of(st.tuples(st.just("admit"), st.lists(LANE, max_size=6)), st.tuples(st.just("end"), st.integers()))
)


@given(STEPS)
def test_the_laws_hold_whatever_happens(steps: list[tuple[str, object]]) -> None:
    lanes: Lanes[Item] = Lanes(lambda item: item.lane)
    running: list[Item] = []
    ran: list[Item] = []
    abandoned: list[Item] = []
    admitted: list[Item] = []

    def start(items: list[Item]) -> None:
        for item in items:
            assert item.lane is None or all(other.lane != item.lane for other in running), "law 1"
            running.append(item)
            ran.append(item)

    for what, fact in steps:
        if what == "admit":
            assert isinstance(fact, list)
            new = [Item(lane, len(admitted) + at) for at, lane in enumerate(fact)]
            admitted += new
            busy = {item.lane for item in running}
            runnable = lanes.admit(new)
            assert all(item in runnable for item in new if item.lane is None or item.lane not in busy) or len(
                {item.lane for item in new}
            ) < len(new), "law 3"
            assert all(item in runnable for item in new if item.lane is None), "law 3"
            start(runnable)
        elif running:
            assert isinstance(fact, int)
            item = running.pop(fact % len(running))
            if fact % 5 == 0:
                abandoned += lanes.abandon(item)
            elif (following := lanes.finish(item)) is not None:
                assert following.lane == item.lane
                start([following])
    while running:
        if (following := lanes.finish(running.pop(0))) is not None:
            start([following])
    for lane in "abc":
        numbers = [item.number for item in ran if item.lane == lane]
        assert numbers == sorted(numbers), "law 2"
    assert sorted(item.number for item in ran + abandoned) == list(range(len(admitted))), "law 4"
    assert lanes.waiting() == 0
