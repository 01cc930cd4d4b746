"""The wall clock is believed only while it agrees with elapsed time."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_copier.domain.errors import UnavailableError
from model_copier.engine.steady_clock import STEADY_SECONDS, SteadyClock
from simulators import START

SKEW = 10.0
DAY = 24 * 3600.0


@dataclass
class Machine:
    """A machine whose wall clock can be set, and drifts."""

    passed: float = 0.0
    wall: datetime = START
    adopted: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clock = SteadyClock(
            wall=lambda: self.wall,
            elapsed=lambda: self.passed,
            max_skew=SKEW,
            on_adopted=self.adopted.append,
        )

    def wait(self, seconds: float, *, drift: float = 0.0) -> None:
        self.passed += seconds
        self.wall += timedelta(seconds=seconds * (1 + drift))

    def wait_asking(self, seconds: float) -> None:
        """Wait, with a question once a minute, as ticks ask."""
        while seconds > 0:
            self.wait(min(seconds, 60.0))
            seconds -= 60.0
            self.is_believed()

    def set_clock(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)

    def is_believed(self) -> bool:
        try:
            return self.clock.now() == self.wall
        except UnavailableError:
            return False


def test_a_steady_clock_tells_the_wall_time():
    machine = Machine()
    assert machine.is_believed()

    machine.wait(DAY)

    assert machine.clock.now() == START + timedelta(days=1)
    assert machine.clock.monotonic() == DAY


@pytest.mark.parametrize("seconds", [SKEW + 0.1, 3600, 70 * DAY, -SKEW - 0.1, -3600, -70 * DAY])
def test_a_jump_is_an_outage(seconds: float):
    """Not a fact: nothing expires by it, and no copy looks late."""
    machine = Machine()
    machine.clock.now()
    machine.wait(1)
    machine.set_clock(seconds)

    with pytest.raises(UnavailableError, match=rf"set by {seconds:.0f} s; .* in 300 s"):
        machine.clock.now()
    machine.wait(60)
    with pytest.raises(UnavailableError, match=r"in 240 s"):
        machine.clock.now()


@pytest.mark.parametrize("seconds", [SKEW, -SKEW])
def test_a_step_within_the_skew_is_believed(seconds: float):
    """Clocks do that; each step counts from the last time that was believed."""
    machine = Machine()

    for _ in range(5):
        assert machine.is_believed()
        machine.set_clock(seconds)


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_a_clock_that_is_back_is_believed(seconds: float):
    machine = Machine()
    machine.clock.now()
    machine.set_clock(seconds)
    assert not machine.is_believed()

    machine.wait(20)
    machine.set_clock(-seconds)

    assert machine.is_believed()
    assert machine.adopted == []


def test_a_jump_that_came_back_begins_anew():
    """Its next jump waits its full time, though it be to the same time."""
    machine = Machine()
    machine.clock.now()
    for _ in range(3):
        machine.set_clock(3600)
        assert not machine.is_believed()
        machine.wait(STEADY_SECONDS - 1)
        assert not machine.is_believed()
        machine.set_clock(-3600)
        assert machine.is_believed()


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_a_corrected_clock_is_adopted(seconds: float):
    """It stood by its new time for long; somebody is told."""
    machine = Machine()
    machine.clock.now()
    machine.set_clock(seconds)
    assert not machine.is_believed()

    machine.wait_asking(STEADY_SECONDS - 1)
    assert not machine.is_believed()
    machine.wait(1)

    assert machine.is_believed()
    assert machine.adopted == [pytest.approx(seconds)]
    machine.wait(DAY)
    assert machine.is_believed()
    assert len(machine.adopted) == 1


def test_after_it_was_adopted_the_old_time_jumps():
    machine = Machine()
    machine.clock.now()
    machine.set_clock(3600)
    assert not machine.is_believed()
    machine.wait_asking(STEADY_SECONDS)
    assert machine.is_believed()

    machine.set_clock(-3600)

    assert not machine.is_believed()


def test_a_clock_that_keeps_jumping_is_not_adopted():
    machine = Machine()
    machine.clock.now()

    for _ in range(10):
        machine.set_clock(60)
        assert not machine.is_believed()
        machine.wait(STEADY_SECONDS - 1)
        assert not machine.is_believed()


def test_a_jump_counts_from_the_first_question():
    """Until somebody asks, nobody knows when it jumped."""
    machine = Machine()
    machine.clock.now()
    machine.set_clock(3600)
    machine.wait(DAY)

    assert not machine.is_believed()
    machine.wait_asking(STEADY_SECONDS)
    assert machine.is_believed()


def test_two_short_jumps_are_not_one_long():
    """Nobody asked in between, when it was right: the second one waits its full time."""
    machine = Machine()
    machine.clock.now()
    machine.set_clock(70 * DAY)
    assert not machine.is_believed()
    machine.set_clock(-70 * DAY)
    machine.wait(2 * STEADY_SECONDS)
    machine.set_clock(70 * DAY)

    assert not machine.is_believed()


@given(drift=st.floats(-0.01, 0.01), waits=st.lists(st.floats(0, 900), max_size=50))
def test_a_drift_is_followed(drift: float, waits: list[float]):
    """However much it adds up to; machines slew their clocks instead of setting them."""
    machine = Machine()
    machine.clock.now()

    for seconds in waits:
        machine.wait(seconds, drift=drift)
        assert machine.is_believed()


@given(jumps=st.lists(st.tuples(st.floats(-DAY, DAY), st.floats(0, 2 * STEADY_SECONDS))))
def test_what_is_believed_was_steady(jumps: list[tuple[float, float]]):
    """The time told is within the skew of the last one told, or stood for 300 seconds."""
    machine = Machine()
    believed_offset = machine.clock.now().timestamp() - machine.passed
    offsets: list[tuple[float, float]] = []

    for seconds, pause in jumps:
        machine.set_clock(seconds)
        machine.wait(pause)
        offset = machine.wall.timestamp() - machine.passed
        offsets.append((machine.passed, offset))
        if not machine.is_believed():
            continue
        lately = [o for at, o in offsets if at > machine.passed - STEADY_SECONDS]
        near = abs(offset - believed_offset) <= SKEW + 1e-3
        assert near or all(abs(offset - other) <= 2 * SKEW for other in lately)
        believed_offset = offset
