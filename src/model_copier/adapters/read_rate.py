"""How many reads a minute one process makes: a token bucket that gives way when it is refused.

Pure: times come in, in seconds of a monotonic clock. What must not break: no 60 seconds see
more than ``per_minute`` reads. So a burst is part of the minute, and what flows in afterwards
is the rest of it. Refused for a quota that others use up as well, the rate is halved for a
minute and then grows back by a tenth at a time (additive increase, multiplicative decrease).
"""

from dataclasses import dataclass

LEAST_SHARE = 1 / 16  # of the rate: enough to notice that the quota is back
CUT_SECONDS = 60.0
STEP_SECONDS, STEP_SHARE = 10.0, 0.1
# Several refusals within so many seconds are one piece of news.
SAME_REFUSAL_SECONDS = 5.0


@dataclass(slots=True, kw_only=True)
class ReadRate:
    """The reads of one project and location."""

    per_minute: int  # more than 1
    _level: float = 0.0
    _levelled_at: float | None = None
    _share: float = 1.0
    _cut_at: float = 0.0

    @property
    def burst(self) -> float:
        return max(1.0, self.per_minute / 6)

    def share(self, now: float) -> float:
        """How much of the rate is left after refusals: from LEAST_SHARE to 1."""
        if self._share == 1:
            return 1.0
        steps = (now - self._cut_at - CUT_SECONDS) // STEP_SECONDS + 1
        return min(1.0, self._share + STEP_SHARE * max(0.0, steps))

    def per_second(self, now: float) -> float:
        """How fast tokens come back."""
        return (self.per_minute - self.burst) / 60 * self.share(now)

    def level(self, now: float) -> float:
        """How many reads may be made at once."""
        burst = max(1.0, self.burst * self.share(now))
        if self._levelled_at is None:
            self._level = burst
        else:
            flowed = max(0.0, now - self._levelled_at) * self.per_second(now)
            self._level = min(burst, self._level + flowed)
        self._levelled_at = now
        return self._level

    def seconds_until(self, level: float, now: float) -> float:
        """How long until so many may be made at once; 0: now."""
        # A fraction of a token is lost in every sum of floats.
        missing = level - self.level(now) - 1e-9
        return max(0.0, missing) / self.per_second(now)

    def take(self, now: float) -> None:
        """Make one read."""
        self._level = self.level(now) - 1

    def cut(self, now: float) -> bool:
        """Note a refusal; tell whether the rate was whole until then."""
        share = self.share(now)
        if self._share < 1 and now - self._cut_at < SAME_REFUSAL_SECONDS:
            return False
        self._share, self._cut_at = max(LEAST_SHARE, share / 2), now
        self._level, self._levelled_at = 0.0, now
        return share == 1
