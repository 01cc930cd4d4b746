"""A circuit breaker: whoever does not answer is left alone for a while, then tried by one.

Pure: times come in, in seconds of a monotonic clock. CLOSED lets every call through; after
FAILURES calls in a row without an answer it is OPEN, and none goes; when its time is over it
is HALF_OPEN, and one goes at a time, until one is answered. What must not break: any answer
closes it, "no" included, for it guards against waiting, not against being refused.
"""

from dataclasses import dataclass
from enum import StrEnum, auto

FAILURES = 3
SHORTEST_SECONDS = 10.0  # doubled with each probe that nobody answers
LONGEST_SECONDS = 60.0


class Circuit(StrEnum):
    """The three states, by the names that the field gives them."""

    CLOSED = auto()
    OPEN = auto()
    HALF_OPEN = auto()


@dataclass(slots=True, kw_only=True)
class CircuitBreaker:
    """One for each location. ``enter``, then one of ``answered``, ``unanswered`` and ``left``."""

    failures: int = 0
    _open_seconds: float = 0.0  # 0: closed
    _open_until: float = 0.0
    _probe: int | None = None
    _entered: int = 0

    def state(self, now: float) -> Circuit:
        if not self._open_seconds:
            return Circuit.CLOSED
        return Circuit.OPEN if now < self._open_until else Circuit.HALF_OPEN

    def wait_seconds(self, now: float) -> float:
        """How long nobody is let through; 0: somebody is."""
        match self.state(now):
            case Circuit.CLOSED:
                return 0.0
            case Circuit.OPEN:
                return self._open_until - now
            case Circuit.HALF_OPEN:
                return 0.0 if self._probe is None else SHORTEST_SECONDS / 2

    def enter(self, now: float) -> int:
        """Let a call through, for which ``wait_seconds`` must be 0; return its ticket."""
        assert not self.wait_seconds(now)
        self._entered += 1
        if self.state(now) is Circuit.HALF_OPEN:
            self._probe = self._entered
        return self._entered

    def answered(self) -> bool:
        """Note that somebody is alive there; tell whether that closed the circuit."""
        was_open = bool(self._open_seconds)
        self.failures, self._open_seconds, self._probe = 0, 0.0, None
        return was_open

    def unanswered(self, ticket: int, now: float) -> bool:
        """Note that nobody answered a call; tell whether that opened the circuit.

        Calls that were on their way when it opened say nothing new.
        """
        if self._open_seconds:
            if ticket == self._probe:
                self._open(now, min(2 * self._open_seconds, LONGEST_SECONDS))
            return False
        self.failures += 1
        if self.failures < FAILURES:
            return False
        self._open(now, SHORTEST_SECONDS)
        return True

    def left(self, ticket: int) -> None:
        """Note that whoever made a call no longer waits for it: nothing was learnt."""
        if ticket == self._probe:
            self._probe = None

    def _open(self, now: float, seconds: float) -> None:
        self._open_seconds, self._open_until, self._probe = seconds, now + seconds, None
