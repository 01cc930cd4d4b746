"""What a tick does: sweep all that is due, then follow young copies for a while.

A tick says "look", not what for; it may come twice, late or not at all, since every job
keeps its own ``due_at``. What must not break: nothing lives longer than the call that
brought the tick, and one job that meets a bug does not keep the others from moving.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from model_copier import failures
from model_copier.errors import StaleJobError, UnavailableError
from model_copier.job import Job
from model_copier.workflow import Workflow

SWEEP_LIMIT = 200  # jobs looked at in one round
SWEEP_CONCURRENCY = 16  # calls to Google at a time
BUGS_UNTIL_FAILED = 5


@dataclass(kw_only=True)
class Ticks:
    """Takes ticks. One for each process."""

    workflow: Workflow
    _following: bool = False
    _closing: bool = False

    async def take(self, follow_seconds: float) -> int:
        """Sweep, then follow young copies for at most ``follow_seconds``; count the steps.

        One follower for each process; a tick that finds one wakes it and returns.
        """
        await self.workflow.store.delete_expired(self.workflow.clock.now())
        swept = await self.sweep()
        if self._following:
            self.workflow.stirred.set()
            return swept
        self._following = True
        try:
            return swept + await self._follow(follow_seconds)
        finally:
            self._following = False

    async def nudge(self, operation: str) -> int:
        """Look at this operation now: somebody says that it ended. Count the jobs moved on.

        Whoever says so may be wrong, early or late: what is not done, or not ours, is left
        as it is, its schedule too.
        """
        flow, moved = self.workflow, 0
        for job in await flow.store.with_operation(operation.rpartition("/")[2]):
            seen = await flow.looks.operation(job.operation)
            if seen is not None and seen.done:
                with suppress(StaleJobError):  # moved on a moment ago
                    await flow.take_over(job)
                    moved += 1
        return moved

    async def sweep(self) -> int:
        """Advance everything that is due once; return how many jobs that were."""
        flow = self.workflow
        now = flow.clock.now()
        jobs = await flow.store.due(now, flow.timing.latest_due(now), SWEEP_LIMIT)
        turn = asyncio.Semaphore(SWEEP_CONCURRENCY)

        async def one(job: Job) -> None:
            async with turn:
                try:
                    await flow.advance(job)
                except Exception as bug:
                    await self._stumble(job, bug)
                    raise

        ended = await asyncio.gather(*(one(job) for job in jobs), return_exceptions=True)
        if bugs := [error for error in ended if isinstance(error, Exception)]:
            raise ExceptionGroup("some jobs could not be advanced", bugs)
        return len(jobs)

    async def _stumble(self, job: Job, bug: Exception) -> None:
        """Put off a job that met a bug, and answer it when it does so again and again."""
        flow = self.workflow
        with suppress(StaleJobError, UnavailableError):
            newest = await flow.store.get(job.key)
            if newest is None:
                return
            now = flow.clock.now()
            if newest.state.final or newest.tries + 1 < BUGS_UNTIL_FAILED:
                wait = flow.timing.backoff(newest.tries, flow.jitter())
                await flow.store.save(newest.snoozed(now, wait))
            else:
                await flow.store.save(newest.failed(now, failures.bug(bug)))

    async def _follow(self, seconds: float) -> int:
        flow = self.workflow
        swept, until = 0, flow.clock.monotonic() + seconds
        while not self._closing and (left := until - flow.clock.monotonic()) > 0:
            flow.stirred.clear()
            due_at = await flow.store.next_due_at()
            if due_at is None:
                break
            wait = (due_at - flow.clock.now()).total_seconds()
            # Young copies are looked at often; for an old one the next tick is soon enough.
            if wait > min(left, 2 * flow.timing.poll_shortest):
                break
            if wait > 0:
                await self._rest(wait)
            elif not (moved := await self.sweep()):
                await self._rest(1)  # due, but nobody here can move it
            else:
                swept += moved
        return swept

    async def _rest(self, seconds: float) -> None:
        """Wait, unless stirred by a copy that was just started or by the end of the process."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.workflow.stirred.wait(), timeout=seconds)

    def close(self) -> None:
        """End follows now: the process wants to leave. Safe from a signal handler's callback."""
        self._closing = True
        self.workflow.stirred.set()
