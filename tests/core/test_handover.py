"""The laws of a handover: what two readers of one consumer lend, in any order of deliveries, losses and acks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bridge.core.handover import Handover


def test_without_a_gap_nothing_waits() -> None:
    handover: Handover[str] = Handover()
    handover.numbered(7)
    handover.keep([(1, "a")])
    assert handover.deliverable(10) == []  # the first delivery of all: what came before it is not known
    handover.counted(pending=1, held=1, delivered=1)
    assert handover.deliverable(10) == ["a"]
    handover.numbered(8)
    handover.keep([(2, "b")])
    assert handover.deliverable(10) == ["b"]


def test_a_leader_that_does_not_know_what_arrived_decides_nothing() -> None:
    """A leader delivered 1 to 3, and 1 was lost on the way; the next leader knows of none of them, and delivers 1 as
    new. Before, 2 and 3 had been passed on by then."""
    handover: Handover[int] = Handover()
    handover.numbered(2)
    handover.numbered(3)
    handover.keep([(2, 2), (3, 3)])
    handover.counted(pending=0, held=2, delivered=0)
    assert handover.deliverable(10) == []
    handover.numbered(1)  # it begins to count again, too
    handover.keep([(1, 1)])
    handover.counted(pending=1, held=3, delivered=1)
    assert handover.deliverable(10) == []
    handover.counted(pending=3, held=3, delivered=3)
    assert handover.deliverable(10) == [1, 2, 3]


@given(
    total=st.integers(1, 30),
    lost=st.sets(st.integers(0, 29)),
    limit=st.integers(1, 7),
    acked=st.sets(st.integers(0, 29)),
)
def test_all_is_delivered_in_stream_order_whatever_went_to_a_reader_that_died(
    total: int, lost: set[int], limit: int, acked: set[int]
) -> None:
    """Sequences 0 to total - 1 are delivered; those in `lost` to another reader, who acknowledged some of them and
    whose others come again at the end."""
    handover: Handover[int] = Handover()
    lost = {each for each in lost if each < total}
    due = sorted(lost - acked)
    mine: set[int] = set()  # delivered to this reader and not acknowledged
    lent: list[int] = []

    def arrives(sequence: int, number: int, pending_elsewhere: int) -> None:
        handover.numbered(number)
        handover.keep([(sequence, sequence)])
        mine.add(sequence)
        handover.counted(pending=len(mine) + pending_elsewhere, held=len(mine), delivered=total)
        for each in handover.deliverable(limit):
            lent.append(each)
            mine.discard(each)

    for sequence in range(total):
        if sequence not in lost:
            arrives(sequence, sequence + 1, len([each for each in due if each < sequence]))
    for at, sequence in enumerate(due):
        arrives(sequence, total + at + 1, len(due) - at - 1)
    while more := handover.deliverable(limit):
        lent += more
    assert lent == [each for each in range(total) if each not in lost or each not in acked]
