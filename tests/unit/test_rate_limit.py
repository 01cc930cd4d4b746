"""A sliding window grants no more than its rate in any 60 seconds, and forgets what is older."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from model_copier.domain.rate_limit import BURST_SECONDS, WINDOW_SECONDS, SlidingWindow

START = datetime(2026, 2, 13, 9, tzinfo=UTC)
TAKES = st.lists(
    st.tuples(st.floats(0, 40).map(lambda seconds: round(seconds, 3)), st.integers(0, 9)),
    max_size=40,
)


@given(takes=TAKES, per_minute=st.integers(0, 12))
def test_no_minute_has_more_than_the_rate(takes, per_minute):
    """Whenever its takers come; and who comes a minute after all others gets everything."""
    window, at, granted = SlidingWindow(), 0.0, list[tuple[float, int]]()
    for pause, wanted in takes:
        at += pause
        count, window = window.take(wanted, START + timedelta(seconds=at), per_minute)
        granted.append((at, count))
        window = SlidingWindow.parse(str(window))

    for begin, _ in granted:
        within = sum(count for then, count in granted if begin <= then < begin + WINDOW_SECONDS)
        assert within <= per_minute
    assert len(window.taken) <= WINDOW_SECONDS + 1
    later = START + timedelta(seconds=at + WINDOW_SECONDS)
    assert window.take(99, later, per_minute)[0] == min(99, per_minute)


@given(moments=st.lists(st.floats(-1e12, 1e12), max_size=99), count=st.integers(1, 9))
def test_stored_moments_block_for_a_minute(moments, count):
    """Whatever clocks wrote them."""
    window = SlidingWindow(tuple((moment, count) for moment in moments))

    _, window = window.take(0, START, 5)
    granted, _ = window.take(5, START + timedelta(seconds=WINDOW_SECONDS), 5)

    assert granted == 5
    assert len(window.taken) <= WINDOW_SECONDS + 1


def test_slots_come_back_one_minute_after_they_were_taken():
    _, window = SlidingWindow().take(2, START, 3)
    _, window = window.take(1, START + timedelta(seconds=30), 3)

    assert window.take(9, START + timedelta(seconds=59.9), 3)[0] == 0
    assert window.take(9, START + timedelta(seconds=60), 3)[0] == 2
    assert window.take(9, START + timedelta(seconds=90), 3)[0] == 3


@given(takes=TAKES, per_minute=st.integers(0, 12), burst=st.integers(1, 12))
def test_no_ten_seconds_have_more_than_a_burst(takes, per_minute, burst):
    """And after a pause a burst is granted whole, unless the minute's slots are used up."""
    window, at, granted = SlidingWindow(), 0.0, list[tuple[float, int]]()
    for pause, wanted in takes:
        at += pause
        now = START + timedelta(seconds=at)
        count, window = window.take(wanted, now, per_minute, burst)
        granted.append((at, count))

    for seconds, most in ((BURST_SECONDS, burst), (WINDOW_SECONDS, per_minute)):
        for begin, _ in granted:
            within = sum(count for then, count in granted if begin <= then < begin + seconds)
            assert within <= most
    later = START + timedelta(seconds=at + WINDOW_SECONDS)
    assert window.take(99, later, per_minute, burst)[0] == min(per_minute, burst)
