"""How long anything waits, and how often anything is tried: every number of the engine.

The lengths hang together, and *Once* rests on how: a lease outlasts any call that is made
under it, and the grace outlasts the lease. So they are derived here, not set one by one.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

# A record outlives what can be replayed: letter and replayed letter, 31 days each, and a week.
KEEP_AFTER_END = timedelta(days=31 + 31 + 7)
MAX_COPY_ATTEMPTS = 5
# Past the deadline a cancel is sent, and the operation is watched this much longer.
HARD_LIMIT = timedelta(minutes=15)
RETRIES_UNTIL_TROUBLE = 5  # a minute of backoffs: less is what outages are like


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Every wait of the engine, in seconds. The lengths hang together: see the properties."""

    # Longest that one call to Google may take.
    call_seconds: float = 30
    # How far apart the clocks of two machines may be.
    max_skew_seconds: float = 10
    # How long after being sent an accepted CopyModel may show nowhere: what we assume of Vertex AI.
    visibility_seconds: float = 60
    # Budget of a copy that names none, from the first ask: an hour is the longest heard of.
    copy_deadline_seconds: float = 7200
    min_poll_seconds: float = 5
    max_poll_seconds: float = 60
    min_backoff_seconds: float = 2
    max_backoff_seconds: float = 300
    # How long a request may wait for its destination and its start: as Pub/Sub keeps a message
    # by default, so that it is told before its sender's copy of it expires.
    wait_limit_seconds: float = 7 * 24 * 3600
    # How many copies are started in any minute, in one project and region: Vertex AI takes 60.
    starts_per_minute: float = 50

    @property
    def skew(self) -> timedelta:
        return timedelta(seconds=self.max_skew_seconds)

    @property
    def lease_seconds(self) -> float:
        """How long whoever takes a job up has it to themselves."""
        return self.call_seconds + 3 * self.max_skew_seconds

    @property
    def grace_seconds(self) -> float:
        """How long after it was recorded an accepted CopyModel may still be invisible.

        It is sent, and has come back or timed out, within the lease; from then on it has
        its time to show.
        """
        return self.lease_seconds + self.max_skew_seconds + self.visibility_seconds

    def visible_at(self, requested_at: datetime) -> datetime:
        """When an accepted CopyModel is visible at the latest."""
        return requested_at + timedelta(seconds=self.grace_seconds)

    @property
    def second_read_seconds(self) -> float:
        """How long after one read another may still differ: a copy just ended, or was undone."""
        return self.visibility_seconds + self.max_skew_seconds

    @property
    def max_wait_seconds(self) -> float:
        """No `due_at` that we write is further away; one that is, comes from a broken clock."""
        return 1.1 * max(
            self.lease_seconds, self.grace_seconds, self.max_poll_seconds, self.max_backoff_seconds
        )

    def after(self, now: datetime, seconds: float) -> datetime:
        """The one way to a `due_at`: no wait is negative, none longer than the longest."""
        return now + timedelta(seconds=min(max(seconds, 0), self.max_wait_seconds))

    def latest_due(self, now: datetime) -> datetime:
        """What is due later than this counts as due now."""
        return now + timedelta(seconds=self.max_wait_seconds)

    def poll_wait(self, copying_for: float, jitter: float) -> float:
        """Wait a quarter of the time already spent; ``jitter`` is from 0 to 1."""
        wait = min(max(copying_for / 4, self.min_poll_seconds), self.max_poll_seconds)
        return wait * (1 + jitter / 10)

    def backoff(self, tries: int, jitter: float) -> float:
        """Double with each try; ``jitter`` is from 0 to 1."""
        wait = min(self.min_backoff_seconds * 2.0 ** min(tries, 20), self.max_backoff_seconds)
        return wait * (1 + jitter / 10)
