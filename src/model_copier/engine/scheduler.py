"""What a tick does: move on all that is due, then follow young copies for a while.

A tick says "look", not what for; it may come twice, late or not at all, since every job
keeps its own ``due_at``. What must not break: nothing lives longer than the call that
brought the tick, and one job that meets a bug, or a slow answer, does not keep the others
from moving.

One tick leads in each process. One that comes while another leads, and will for long enough,
wakes it and is answered; else it takes the lead over, and the one before finishes what it
has in hand. So a thousand ticks at once read the store once, and whoever comes last is
followed for as long as whoever came first.
"""

import asyncio
import math
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

from model_copier.domain.errors import StaleJobError, UnavailableError
from model_copier.domain.job import Job
from model_copier.domain.steps import stop
from model_copier.domain.vertex_types import operation_number
from model_copier.engine.read_priority import Reading, reading_as
from model_copier.engine.workflow import Workflow

# Jobs that are moved at once, and those of one location: where nobody answers, they wait, and
# the others have room. How many calls go to a location is bounded where they are made.
IN_HAND = 128
IN_HAND_EACH = 32
SWEEP_SECONDS = 60.0  # how long a tick goes on where more and more falls due
BUGS_UNTIL_FAILED = 5


@dataclass(kw_only=True)
class _Leadership:
    """One tick's time at the head of its process; in seconds of the monotonic clock."""

    until: float
    sweeps_until: float
    moves: list[asyncio.Task[None]] = field(default_factory=list)
    _seen: set[tuple[str, int]] = field(default_factory=set)

    def is_new(self, job: Job) -> bool:
        """Each record is tried once: where that changed nothing, it is for the next tick."""
        fresh = not self.has_tried(job)
        self._seen.add((job.key, job.version))
        return fresh

    def has_tried(self, job: Job) -> bool:
        return (job.key, job.version) in self._seen


@dataclass(kw_only=True)
class Scheduler:
    """Takes ticks. One for each process."""

    workflow: Workflow
    # By how much what was due was late, when it was last looked for.
    behind_seconds: float = 0.0
    _leader: _Leadership | None = None
    _in_hand: dict[str, str] = field(default_factory=dict)  # the key of each, and its location
    _closing: bool = False

    async def take(self, follow_seconds: float) -> int:
        """Move on what is due, then follow young copies for at most ``follow_seconds``.

        Returns how many jobs were taken up.

        Raises:
            UnavailableError: the store cannot say what is due.
            ExceptionGroup: some jobs met bugs; the others were moved on.
        """
        now = self.workflow.clock.monotonic()
        self.workflow.starts.tick()
        if self._leader and self._leader.until - now > follow_seconds / 2:
            self.workflow.wakeup.set()
            return 0
        lead = _Leadership(until=now + follow_seconds, sweeps_until=now + SWEEP_SECONDS)
        self._leader = lead
        self.workflow.wakeup.set()  # whoever led until now sees that it no longer does
        try:
            # First, since from its last look on a leader wakes to nobody.
            await self.workflow.store.delete_expired(self.workflow.clock.now())
            await self._lead(lead)
        except asyncio.CancelledError:
            for move in lead.moves:
                move.cancel()
            raise
        finally:
            if self._leader is lead:
                self._leader = None
            ended = await asyncio.gather(*lead.moves, return_exceptions=True)
        if bugs := [error for error in ended if isinstance(error, Exception)]:
            raise ExceptionGroup("some jobs could not be advanced", bugs)
        return len(lead.moves)

    async def nudge(self, operation: str) -> int:
        """Look at this operation now: somebody says that it ended. Count the jobs moved on.

        Whoever says so may be wrong, early or late: what is not done, or not ours, is left
        as it is, its schedule too.
        """
        flow, moved = self.workflow, 0
        for job in await flow.store.with_operation(operation_number(operation)):
            with reading_as(Reading.FRESH):
                seen = await flow.reader.operation(job.operation)
            if seen is not None and seen.done:
                with suppress(StaleJobError):  # moved on a moment ago
                    await flow.save_and_run(job)
                    moved += 1
        return moved

    def close(self) -> None:
        """End follows now: the process wants to leave. Safe from a signal handler's callback."""
        self._closing = True
        self.workflow.wakeup.set()

    async def _lead(self, lead: _Leadership) -> None:
        """Until another leads, its time is over, or nothing young is in flight."""
        flow = self.workflow
        while self._leader is lead and not self._closing:
            flow.wakeup.clear()
            more = await self._move_due(lead)
            await self._start_queued(lead)
            now = flow.clock.monotonic()
            # What waits for the read budget comes back soon: a minute of it is not left unused.
            busy = more or now < flow.postponed_until
            end = max(lead.until, lead.sweeps_until) if busy else lead.until
            if now >= end:
                return
            if self._in_hand:  # the end of a move wakes us, and changes what is due
                await self._rest(1)
                continue
            due_at = await flow.store.next_due_at()
            wait = (due_at - flow.clock.now()).total_seconds() if due_at else math.inf
            # Young copies are looked at often; for an old one the next tick is soon enough.
            wait = min(wait, flow.starts.look_at - flow.clock.monotonic())
            far = wait > min(end - now, 2 * flow.timing.min_poll_seconds)
            if far and not flow.wakeup.is_set():
                return
            # What is due by now is in hand, or cannot be moved by us.
            await self._rest(min(wait, flow.timing.min_poll_seconds) if wait > 0 else 1)

    async def _start_queued(self, lead: _Leadership) -> None:
        """Begin to start the first jobs of each queue, once it is time to read the queues."""
        flow = self.workflow
        room = min(IN_HAND - len(self._in_hand), IN_HAND_EACH)
        if room <= 0 or flow.clock.monotonic() < flow.starts.look_at:
            return
        for job in await flow.starts.admitted(
            room, lambda job: job.key in self._in_hand or lead.has_tried(job)
        ):
            if job.key not in self._in_hand and lead.is_new(job):
                self._begin(lead, job, may_start=True)

    async def _move_due(self, lead: _Leadership) -> bool:
        """Begin to move what is due, as far as there is room; tell whether there may be more."""
        flow, now = self.workflow, self.workflow.clock.now()
        found = await flow.store.due(now, flow.timing.latest_due(now), IN_HAND)
        late = [(now - job.due_at).total_seconds() for job in found if job.due_at]
        self.behind_seconds = max([0.0, *late])
        moved, left = Counter(self._in_hand.values()), len(found) == IN_HAND
        for job in found:
            where = _location_of(job)
            if job.key in self._in_hand:
                continue
            if moved[where] >= IN_HAND_EACH or len(self._in_hand) >= IN_HAND:
                left = True
            elif lead.is_new(job):
                moved[where] += 1
                self._begin(lead, job)
        return left and bool(self._in_hand)

    def _begin(self, lead: _Leadership, job: Job, *, may_start: bool = False) -> None:
        self._in_hand[job.key] = _location_of(job)
        lead.moves.append(asyncio.create_task(self._move(job, may_start=may_start)))

    async def _move(self, job: Job, *, may_start: bool = False) -> None:
        try:
            await self.workflow.claim_and_run(job, may_start=may_start)
        except Exception as bug:
            await self._stumble(job, bug)
            raise
        finally:
            where = self._in_hand.pop(job.key)
            if list(self._in_hand.values()).count(where) in (0, IN_HAND_EACH // 2):
                self.workflow.wakeup.set()  # there is room for more

    async def _stumble(self, job: Job, bug: Exception) -> None:
        """Put off a job that met a bug, and answer it when it does so again and again."""
        flow = self.workflow
        with suppress(StaleJobError, UnavailableError):
            newest = await flow.store.get(job.key)
            if newest is None:
                return
            if newest.state.final or newest.bugs + 1 < BUGS_UNTIL_FAILED:
                await flow.save(newest.retry_after_bug(flow.backoff(newest)))
            else:
                await flow.persist(stop(newest, bug, flow.clock.now()))

    async def _rest(self, seconds: float) -> None:
        """Wait, unless woken: by a copy just started, another tick, room, or the end."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.workflow.wakeup.wait(), timeout=seconds)


def _location_of(job: Job) -> str:
    """Where Vertex AI is asked next; "" where only the store and the topics are."""
    if job.state.final:
        return ""
    return (job.target or job.request.source).location
