"""The laws of core/lag.py, and the sentences an operator reads."""

from __future__ import annotations

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from bridge.core.lag import VERDICTS, Judgement, Track, spelled
from bridge.core.route import Backlog

START = 1_000_000.0

counts = st.integers(0, 10**6)
backlogs = st.builds(
    Backlog,
    pending=counts,
    in_flight=counts,
    delayed=counts,
    oldest=st.none() | st.floats(START - 10**6, START),
    active_at=st.none() | st.floats(START - 100, START + 1000),
    done=st.none() | counts,
    redelivered=st.integers(0, 100),
    held=st.integers(0, 100),
    readers=st.none() | st.integers(0, 5),
)
histories = st.lists(st.tuples(st.floats(0.5, 30), st.none() | backlogs), max_size=30)


def after(track: Track, looks: list[tuple[float, Backlog | None]]) -> float:
    """Every look, after so many seconds each; None is one that failed. Returns the time of the last."""
    at = START
    for wait, backlog in looks:
        at += wait
        if backlog is None:
            track.not_looked(at, "access denied")
        else:
            track.looked(at, backlog)
    return at


def steady(track: Track, seconds: float, backlog_at: object, start: float = START) -> float:
    """A look every `track.every` seconds; `backlog_at` gives what is seen after so many seconds."""
    at, passed = start, 0.0
    while passed <= seconds:
        at = start + passed
        track.looked(at, backlog_at(passed))  # type: ignore[operator]
        passed += track.every
    return at


@given(histories, st.booleans(), st.text(max_size=5), st.text(max_size=5))
def test_every_verdict_has_a_reason_and_unknown_is_never_zero(
    looks: list[tuple[float, Backlog | None]], exact: bool, trouble: str, stopped: str
) -> None:
    track = Track(every=2, exact=exact)
    now = after(track, looks)
    judged = track.judge(now, trouble=trouble, stopped=stopped)
    assert judged.verdict in VERDICTS
    assert judged.reason
    if track.backlog is None:
        assert (judged.messages, judged.seconds, judged.headroom) == (None, None, None)
        assert judged.verdict in ("UNKNOWN", "STALLED", "STOPPED")
    if stopped:
        assert judged.verdict == "STOPPED"
    for value in (judged.seconds, judged.eta):
        assert value is None or value >= 0


@given(histories)
def test_what_is_empty_is_ok(looks: list[tuple[float, Backlog | None]]) -> None:
    track = Track(every=2)
    now = after(track, [*looks, (2.0, Backlog(0))])
    judged = track.judge(now)
    assert (judged.verdict, judged.reason, judged.messages, judged.seconds, judged.eta) == (
        *("OK", "nothing waits", 0, 0.0),
        0.0,
    )


@given(st.integers(1, 10**6), st.integers(1, 1000), st.integers(2, 40))
def test_what_is_finished_steadily_is_never_stalled(pending: int, pace: int, looks: int) -> None:
    track = Track(every=2)
    for number in range(looks):
        track.looked(START + 2 * number, Backlog(pending, done=pace * number))
        assert track.judge(START + 2 * number).verdict in ("OK", "SLOW")


@given(st.integers(1, 10**6), st.sampled_from([1.0, 2.0, 5.0]))
def test_what_waits_untouched_is_stalled_within_fifteen_seconds(pending: int, every: float) -> None:
    track = Track(every=every)
    moving = steady(track, 30, lambda passed: Backlog(pending, done=int(passed * 10)))
    stopped = steady(track, 10 + every, lambda passed: Backlog(pending, done=1), moving + every)
    assert track.judge(stopped).verdict == "STALLED"
    assert stopped - moving <= 15 + every


@given(st.floats(20, 120))
def test_a_reader_that_is_slow_by_nature_is_known_after_a_while(gap: float) -> None:
    """One message each `gap` seconds: its pauses are its own pace, no stall."""
    track = Track(every=2)
    at = START
    for number in range(30 * int(gap)):
        at = START + 2 * number
        track.looked(at, Backlog(50, done=int(2 * number / gap)))
        if at - START > 12 * gap:
            assert track.judge(at).verdict != "STALLED"


def test_the_counts_of_sqs_are_believed_at_once_only_when_they_grow() -> None:
    still = Track(every=5, exact=False)
    at = steady(still, 60, lambda passed: Backlog(1, done=7))
    assert still.judge(at).verdict == "OK"
    at = steady(still, 20, lambda passed: Backlog(1, done=7), at + 5)
    assert still.judge(at).verdict == "STALLED"
    growing = Track(every=5, exact=False)
    at = steady(growing, 10, lambda passed: Backlog(10 + int(passed), done=7))
    assert growing.judge(at).verdict == "STALLED"


def test_a_queue_of_others_moves_while_someone_receives() -> None:
    """Nothing counts what they finish: more in flight, or fewer in all, takes a reader."""
    track = Track(every=5, exact=False)
    read = steady(track, 60, lambda passed: Backlog(100 + int(passed), 3 if passed % 10 else 4))
    assert track.judge(read).verdict == "SLOW"
    left = steady(track, 15, lambda passed: Backlog(160 + int(passed) * 40, 4), read + 5)
    judged = track.judge(left)
    assert judged.verdict == "STALLED"


def test_more_than_is_carried_is_slow() -> None:
    track = Track(every=5, finishing="carried")
    at = steady(track, 60, lambda passed: Backlog(100 + int(passed) * 35, done=int(passed) * 50))
    assert track.judge(at) == Judgement(
        "SLOW", "pending 2,200 and growing 35/s: more arrives than is carried", 2200, None, False, 35.0, 50.0, None, inf
    )


def test_the_sentence_at_three_in_the_morning() -> None:
    track = Track(every=5, finishing="carried", retention=345_600)
    steady(track, 5, lambda passed: Backlog(0, done=9))
    at = steady(track, 90, lambda passed: Backlog(10 + int(passed) * 35, done=9, oldest=START + 5), START + 10)
    judged = track.judge(at, trouble="NATS stream PAYMENTS is full (max_bytes)")
    assert judged.verdict == "STALLED"
    assert judged.reason == (
        "pending 3,160 and growing 35/s, nothing carried for 90 s: NATS stream PAYMENTS is full (max_bytes)"
    )
    assert judged.seconds == at - START - 5
    assert judged.headroom == 345_600 - (at - START - 5)


def test_trouble_that_lets_some_through_is_slow() -> None:
    track = Track(every=5, finishing="carried")
    at = steady(track, 30, lambda passed: Backlog(100, done=int(passed)))
    assert track.judge(at, trouble="AWS throttles").verdict == "SLOW"


def test_no_one_reads_is_said() -> None:
    track = Track(every=2)
    at = steady(track, 10, lambda passed: Backlog(5, done=3, readers=0))
    assert track.judge(at).reason == "pending 5, nothing acknowledged for 10 s: no client is reading"
    again = Track(every=2)
    at = steady(again, 10, lambda passed: Backlog(0, 2, done=3, redelivered=2, readers=1))
    assert again.judge(at).reason == ("pending 0, 2 in flight, nothing acknowledged for 10 s: 2 redelivered repeatedly")


def test_what_we_hold_and_do_not_finish_stalls_though_nothing_is_pending() -> None:
    """As when the destination takes a batch and never answers."""
    track = Track(every=2, finishing="carried")
    at = steady(track, 12, lambda passed: Backlog(0, 204, done=7, held=204))
    judged = track.judge(at)
    assert (judged.verdict, judged.reason) == ("STALLED", "pending 0, 204 in flight, nothing carried for 12 s")
    others = Track(every=2)
    at = steady(others, 12, lambda passed: Backlog(0, 204, done=7))
    assert others.judge(at).verdict == "OK"  # somebody works on them, for all we know


def test_an_age_no_one_shows_is_bounded_by_when_nothing_was_there() -> None:
    track = Track(every=5, exact=False)
    track.looked(START, Backlog(4, 1))
    assert track.judge(START).seconds is None
    track.looked(START + 5, Backlog(0))
    track.looked(START + 10, Backlog(4, 1))
    judged = track.judge(START + 12)
    assert (judged.seconds, judged.bound) == (7.0, True)


def test_how_long_until_nothing_waits() -> None:
    track = Track(every=5)
    at = steady(track, 30, lambda passed: Backlog(1000 - int(passed) * 10, done=int(passed) * 10))
    judged = track.judge(at)
    assert judged.eta == 70.0
    assert judged.reason == "pending 700 and shrinking 10/s"


def test_a_plot_keeps_the_worst_of_every_ten_seconds_for_an_hour() -> None:
    track = Track(every=2)
    for second in range(0, 7200, 2):
        track.looked(START + second, Backlog(999 if second == 7001 // 2 * 2 else 1, oldest=START))
    assert len(track.history) == 360
    assert max(point.messages or 0 for point in track.history) == 999
    track.not_looked(START + 7210, "gone")
    assert (track.history[-1].messages, track.history[-1].seconds) == (None, None)


def test_times_are_spelled_as_people_say_them() -> None:
    assert [spelled(each) for each in (0.4, 90, 720, 12_600, 345_600, inf)] == [
        *("0.4 s", "90 s", "12 min", "3.5 h", "4.0 days"),
        "forever",
    ]


def test_what_was_before_no_one_could_look_does_not_count_afterwards() -> None:
    """A queue that was deleted and made anew is judged by what is seen of it, not by the pauses of its namesake."""
    track = Track(every=4, exact=False)
    at = START
    for number in range(20):
        at = START + 40 * number
        track.looked(at, Backlog(3, 1 + number % 2))
    track.not_looked(at + 4, "gone")
    left = steady(track, 12, lambda passed: Backlog(2 + int(passed), 0), at + 8)
    assert track.judge(left).verdict == "STALLED"


def test_what_has_stopped_is_not_said_to_shrink() -> None:
    track = Track(every=2)
    moving = steady(track, 20, lambda passed: Backlog(100 - int(passed), done=int(passed)))
    stopped = steady(track, 12, lambda passed: Backlog(80, done=20), moving + 2)
    judged = track.judge(stopped)
    assert judged.verdict == "STALLED"
    assert "shrinking" not in judged.reason
