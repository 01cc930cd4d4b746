"""The circuit breaker: when it opens, who may try, and what closes it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_copier.adapters.circuit_breaker import FAILURES, Circuit, CircuitBreaker


def opened(at: float = 0.0) -> CircuitBreaker:
    breaker = CircuitBreaker()
    for _ in range(FAILURES):
        breaker.unanswered(breaker.enter(at), at)
    return breaker


def test_it_opens_after_failures_in_a_row():
    breaker = CircuitBreaker()

    told = [breaker.unanswered(breaker.enter(0), 0) for _ in range(FAILURES)]

    assert told == [False] * (FAILURES - 1) + [True]
    assert breaker.state(0) is Circuit.OPEN
    assert breaker.wait_seconds(4) == 6


def test_an_answer_in_between_starts_the_count_anew():
    breaker = CircuitBreaker()
    for _ in range(FAILURES - 1):
        breaker.unanswered(breaker.enter(0), 0)
    breaker.enter(0)

    assert not breaker.answered(), "it was closed"
    breaker.unanswered(breaker.enter(0), 0)

    assert breaker.state(0) is Circuit.CLOSED


def test_one_at_a_time_tries_whether_somebody_is_back():
    breaker = opened()

    probe = breaker.enter(10)

    assert breaker.state(10) is Circuit.HALF_OPEN
    assert breaker.wait_seconds(10) > 0
    breaker.left(probe)
    assert breaker.wait_seconds(10) == 0, "who went away keeps nobody out"


def test_an_answer_closes_it():
    breaker = opened()
    breaker.enter(10)

    assert breaker.answered()

    assert breaker.state(10) is Circuit.CLOSED
    assert breaker.wait_seconds(10) == 0


def test_each_failed_probe_doubles_the_wait():
    breaker, now, waits = opened(), 0.0, []
    for _ in range(5):
        waits.append(breaker.wait_seconds(now))
        now += waits[-1]
        assert not breaker.unanswered(breaker.enter(now), now), "it tells once"

    assert waits == [10, 20, 40, 60, 60]


def test_calls_from_before_it_opened_say_nothing_new():
    breaker = CircuitBreaker()
    early = breaker.enter(0)
    for _ in range(FAILURES):
        breaker.unanswered(breaker.enter(0), 0)

    breaker.unanswered(early, 5)

    assert breaker.wait_seconds(5) == 5


def test_whoever_was_not_let_through_must_not_enter():
    with pytest.raises(AssertionError):
        opened().enter(1)


@given(st.lists(st.sampled_from(["enter", "answered", "unanswered", "left", "wait"]), max_size=80))
def test_it_is_never_open_for_longer_than_a_minute(events: list[str]):
    breaker, now, tickets = CircuitBreaker(), 0.0, list[int]()
    for event in events:
        if event == "enter" and not breaker.wait_seconds(now):
            tickets.append(breaker.enter(now))
        elif event == "answered" and tickets:
            tickets.pop(0)
            breaker.answered()
        elif event == "unanswered" and tickets:
            breaker.unanswered(tickets.pop(0), now)
        elif event == "left" and tickets:
            breaker.left(tickets.pop(0))
        elif event == "wait":
            now += 15
        assert 0 <= breaker.wait_seconds(now) <= 60
        if breaker.state(now) is Circuit.HALF_OPEN and not tickets:
            assert breaker.wait_seconds(now) == 0, "somebody may always try in the end"
