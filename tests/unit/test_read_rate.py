"""The token bucket of reads: its minute holds, and it gives way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_copier.adapters.read_rate import ReadRate

TIMES = st.lists(st.floats(0, 30), min_size=1, max_size=400)


def most_in_a_minute(reads: list[float]) -> int:
    """The most that any 60 seconds saw; the end of a minute is no longer in it."""
    most, first = 0, 0
    for last, at in enumerate(reads):
        while reads[first] <= at - 60:
            first += 1
        most = max(most, last - first + 1)
    return most


@given(st.integers(10, 600), TIMES, st.lists(st.integers(0, 399), max_size=5))
def test_no_minute_sees_more_than_its_reads(per_minute: int, gaps: list[float], cuts: list[int]):
    rate, now, reads = ReadRate(per_minute=per_minute), 0.0, list[float]()
    for number, gap in enumerate(gaps):
        now += gap
        if number in cuts:
            rate.cut(now)
        while not rate.seconds_until(1, now):
            rate.take(now)
            reads.append(now)

    assert most_in_a_minute(reads) <= per_minute + 1e-6


def test_a_burst_is_part_of_the_minute():
    rate = ReadRate(per_minute=300)

    assert rate.level(0) == 50
    assert rate.per_second(0) * 60 == pytest.approx(250)


def test_a_refusal_halves_the_rate_once_for_a_minute():
    rate = ReadRate(per_minute=300)
    rate.level(0)

    assert rate.cut(0)
    assert not rate.cut(1), "the same news"

    assert rate.level(1) < 3
    assert rate.share(59) == 0.5
    assert 0.5 < rate.share(61) < rate.share(75) < rate.share(109)
    assert rate.share(115) == 1


def test_refusal_after_refusal_leaves_a_trickle():
    rate = ReadRate(per_minute=300)
    for minute in range(20):
        rate.cut(minute * 10)

    assert rate.share(200) == 1 / 16
    assert rate.seconds_until(1, 200) < 5


def test_it_is_whole_again_in_the_end_and_tells_anew():
    rate = ReadRate(per_minute=300)
    rate.cut(0)

    assert rate.share(1000) == 1
    assert rate.cut(1000), "it was whole"
