"""How long anything waits, and how often anything is tried: every number of the engine.

The lengths hang together, and *Once* rests on how: a lease outlasts any call that is made
under it, and the grace outlasts the lease. So they are derived here, not set one by one.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

# A record outlives what can be replayed: letter and replayed letter, 31 days each, and a week.
KEEP_AFTER_END = timedelta(days=31 + 31 + 7)
MAX_COPY_ATTEMPTS = 5
# Past the deadline a cancel is asked for and the operation is watched this much longer.
HARD_LIMIT_AFTER_DEADLINE = timedelta(minutes=15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Every wait of the engine, in seconds. The lengths hang together: see the properties."""

    # Longest that one call to Google may take.
    call: float = 30
    # How far apart the clocks of two machines may be.
    max_skew: float = 10
    # How long after being sent an accepted CopyModel may show nowhere: what we assume of Vertex AI.
    visible: float = 60
    # Budget of a copy that names none, from the first ask: an hour is the longest heard of.
    copy_deadline: float = 7200
    poll_shortest: float = 5
    poll_longest: float = 60
    backoff_shortest: float = 2
    backoff_longest: float = 300
    # How many copies are started in any minute, in one project and region: Vertex AI takes 60.
    starts_per_minute: float = 50

    @property
    def lease(self) -> float:
        """How long whoever takes a job up has it to themselves."""
        return self.call + 3 * self.max_skew

    @property
    def grace(self) -> float:
        """How long after `asked_at` an accepted CopyModel may still be invisible.

        It is sent, and has come back or timed out, within the lease; from then on it has
        its time to show.
        """
        return self.lease + self.max_skew + self.visible

    @property
    def hush(self) -> float:
        """How long nothing may show of a copy that just ended, though it did before."""
        return self.visible + self.max_skew

    @property
    def longest_wait(self) -> float:
        """No `due_at` that we write is further away; one that is, comes from a broken clock."""
        return 1.1 * max(self.lease, self.grace, self.poll_longest, self.backoff_longest)

    def latest_due(self, now: datetime) -> datetime:
        """What is due later than this counts as due now."""
        return now + timedelta(seconds=self.longest_wait)

    def poll_wait(self, copying_for: float, jitter: float) -> float:
        """Wait a quarter of the time already spent; ``jitter`` is from 0 to 1."""
        wait = min(max(copying_for / 4, self.poll_shortest), self.poll_longest)
        return wait * (1 + jitter / 10)

    def backoff(self, tries: int, jitter: float) -> float:
        """Double with each try; ``jitter`` is from 0 to 1."""
        wait = min(self.backoff_shortest * 2.0 ** min(tries, 20), self.backoff_longest)
        return wait * (1 + jitter / 10)
