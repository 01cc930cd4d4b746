"""The queues in which copies wait for their start: fair turns, at a bounded rate.

One queue for each target project and region, since Vertex AI counts its quota there. Turns
go round the senders (self-clocked fair queueing), whatever each of them has waiting.

Reading the queues costs a query each time, so a process reads them only when a tick comes
and while it knows of jobs that wait. Another process's jobs are started by that process, or
with the next tick.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from model_copier.domain.job import Job
from model_copier.domain.timing import Timing
from model_copier.engine.ports import Clock, JobStore

# Requests that come at once do not see each other in the store yet; their turns count here.
REMEMBER_SECONDS = 10.0
# Of the starts of a minute, so many are used within 10 seconds; small rates need no spreading.
BURST_PART = 3
SMALLEST_BURST = 5


@dataclass(kw_only=True)
class StartQueue:
    """Every method may raise ``UnavailableError``."""

    store: JobStore
    clock: Clock
    timing: Timing
    cost: Callable[[str], float]  # of one start, by the sender's request source
    # When to read the queues next, in monotonic seconds; inf: no job is known to wait.
    look_at: float = -math.inf
    _given: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)

    async def turn_of(self, job: Job) -> float:
        """Return the job's place among the starts; it keeps the one that it has."""
        if job.turn is not None:
            return job.turn
        queue, sender = job.request.target_location_name, job.request_source
        cost = self.cost(sender)
        turn = await self.store.next_turn(queue, sender, cost)
        now = self.clock.monotonic()
        self._given = {k: v for k, v in self._given.items() if now - v[1] < REMEMBER_SECONDS}
        if last := self._given.get((queue, sender)):
            turn = max(turn, last[0] + cost)
        self._given[queue, sender] = turn, now
        return turn

    async def admits(self, job: Job) -> bool:
        """Tell whether a job that is not in its queue may start at once."""
        assert job.turn is not None
        queue = job.request.target_location_name
        first = await self.store.queued(queue, 1)
        if first and first[0].place < job.place:
            return False
        return await self._take(queue, [job]) == 1

    def tick(self) -> None:
        """Read the queues now, unless jobs are known to wait: those have their time."""
        if self.look_at == math.inf:
            self.look_at = self.clock.monotonic()

    def enqueued(self) -> None:
        """Note that this process queued a job, since it could not start at once."""
        self._look_in(self.timing.min_poll_seconds)

    async def admitted(
        self, limit: int, is_tried: Callable[[Job], bool] = lambda _job: False
    ) -> list[Job]:
        """Return queued jobs that may start now; ``look_at`` says when to ask again.

        A job that ``is_tried`` takes no start: its caller would not use it. Should this fail,
        the next tick asks again.
        """
        self.look_at = math.inf  # a job that is queued from here on lowers it
        jobs: list[Job] = []
        for queue in await self.store.queues():
            first = await self.store.queued(queue, limit)
            untried = [job for job in first if not is_tried(job)]
            granted = await self._take(queue, untried) if untried else 0
            jobs += untried[:granted]
            if granted < len(first):
                self._look_in(self.timing.min_poll_seconds)
            elif len(first) == limit:
                self._look_in(0)
        return jobs

    def _look_in(self, seconds: float) -> None:
        self.look_at = min(self.look_at, self.clock.monotonic() + seconds)

    async def _take(self, queue: str, jobs: Sequence[Job]) -> int:
        turns = [job.turn for job in jobs if job.turn is not None]
        rate = int(self.timing.starts_per_minute)
        burst = max(SMALLEST_BURST, rate // BURST_PART)
        now = self.clock.now()
        return await self.store.take_starts(queue, turns, now, rate, burst)
