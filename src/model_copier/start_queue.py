"""The queues in which copies wait for their start: fair turns, at a bounded rate.

One queue for each target project and region, since Vertex AI counts its quota there. Turns
go round the senders (self-clocked fair queueing), whatever each of them has waiting.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from model_copier.job import Job
from model_copier.ports import Clock, JobStore
from model_copier.timing import Timing

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

    async def admitted(
        self, limit: int, is_tried: Callable[[Job], bool] = lambda _job: False
    ) -> tuple[list[Job], bool]:
        """Return queued jobs that may start now, and whether more are waiting.

        A job that ``is_tried`` takes no start: its caller would not use it.
        """
        jobs: list[Job] = []
        more = False
        for queue in await self.store.queues():
            first = await self.store.queued(queue, limit)
            untried = [job for job in first if not is_tried(job)]
            granted = await self._take(queue, untried) if untried else 0
            jobs += untried[:granted]
            more = more or granted < len(first) or len(first) == limit
        return jobs, more

    async def _take(self, queue: str, jobs: Sequence[Job]) -> int:
        turns = [job.turn for job in jobs if job.turn is not None]
        rate = int(self.timing.starts_per_minute)
        burst = max(SMALLEST_BURST, rate // BURST_PART)
        now = self.clock.now()
        return await self.store.take_starts(queue, turns, now, rate, burst)
