"""Waits for jobs to end: one question to the store at a time, however many wait.

Calls of one process share it. What must not break: it asks only while somebody waits, so
nothing lives on after the last answer; whoever waits is told, or their time is over.
"""

import asyncio
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

from model_copier.domain.errors import UnavailableError
from model_copier.domain.job import Job
from model_copier.engine.ports import JobStore
from model_copier.logs import log

# A copy takes ten seconds at least, and its worker looks every five: a quarter is not noticed.
LOOK_SECONDS = 0.25
OUTAGE_SECONDS = 2.0


@dataclass(kw_only=True)
class OutcomeWaiter:
    """One for each process."""

    store: JobStore
    look_seconds: float = LOOK_SECONDS
    outage_seconds: float = OUTAGE_SECONDS  # until the next look at a store that is away
    looks: int = 0  # questions asked so far
    _waiting: Counter[str] = field(default_factory=Counter)
    _ended: dict[str, asyncio.Future[Job]] = field(default_factory=dict)
    _looking: asyncio.Task[None] | None = None
    _closing: asyncio.Event = field(default_factory=asyncio.Event)

    async def until_ended(self, key: str, seconds: float) -> Job | None:
        """Return the job once it has ended; past ``seconds``, or when we leave: as it is then.

        Raises:
            UnavailableError: the store cannot say how it is.
        """
        if seconds > 0 and not self._closing.is_set():
            ended = self._join(key)
            try:
                job = await self.store.get(key)
                if job is None or job.state.final:
                    return job
                async with asyncio.timeout(seconds):
                    return await asyncio.shield(ended)
            except (TimeoutError, _LeavingError):
                pass
            finally:
                self._leave(key)
        return await self.store.get(key)

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return self._waiting.total()

    def close(self) -> None:
        """Send everybody away with what is known. Safe from a signal handler's callback."""
        self._closing.set()
        for ended in self._ended.values():
            if not ended.done():
                ended.set_exception(_LeavingError())

    def _join(self, key: str) -> asyncio.Future[Job]:
        self._waiting[key] += 1
        ended = self._ended.get(key)
        if ended is None or ended.done():  # done: ended before, and is worked on again
            ended = self._ended[key] = asyncio.get_running_loop().create_future()
            ended.add_done_callback(_seen)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        return ended

    def _leave(self, key: str) -> None:
        self._waiting[key] -= 1
        if not self._waiting[key]:
            del self._waiting[key]
            self._ended.pop(key).cancel()

    async def _look(self) -> None:
        started, looks, most = time.monotonic(), self.looks, 0
        try:
            while self._waiting and not self._closing.is_set():
                pause, most = self.look_seconds, max(most, self.waiting)
                try:
                    found = await self.store.ended(list(self._waiting))
                except UnavailableError:
                    found, pause = (), self.outage_seconds  # they wait on: it may come back in time
                self.looks += 1
                for job in found:
                    ended = self._ended.get(job.key)
                    if ended is not None and not ended.done():
                        ended.set_result(job)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._closing.wait(), pause)
        except Exception as bug:
            for ended in self._ended.values():
                if not ended.done():
                    ended.set_exception(bug)
            raise
        finally:
            seconds = round(time.monotonic() - started, 3)
            log("watched", looks=self.looks - looks, most_waiting=most, seconds=seconds)


class _LeavingError(Exception):
    """The process wants to leave."""


def _seen(ended: asyncio.Future[Job]) -> None:
    """Whoever still waits is told of it; if nobody does, that is no error of the loop."""
    if not ended.cancelled():
        ended.exception()
