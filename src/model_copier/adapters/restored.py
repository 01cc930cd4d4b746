"""A store that went back in time, whichever it is: how its jobs are settled, and in which order.

A restored store holds what was true when it was backed up. Vertex AI may have been asked for
copies since, so every open job looks before it asks (``Job.after_restore``).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from model_copier.domain.job import Job
from model_copier.logs import log


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What became of a restored store."""

    why: str
    jobs: int
    moved: int  # of these; they look before anything is asked for them

    def tell(self) -> None:
        log("store_restored", severity="WARNING", why=self.why, jobs=self.jobs, moved=self.moved)


@dataclass(frozen=True, slots=True)
class Order:
    """Moments for jobs, a microsecond apart: who came first stays first."""

    now: datetime
    ranks: dict[str, int]  # by key

    @classmethod
    def of(cls, jobs: Iterable[Job], now: datetime) -> "Order":
        first = sorted((job.run_started_at, job.key) for job in jobs if not job.state.final)
        return cls(now, {key: rank for rank, (_, key) in enumerate(first)})

    def settled(self, job: Job) -> Job:
        rank = self.ranks.get(job.key, len(self.ranks))
        return job.after_restore(self.now + timedelta(microseconds=rank))

    def changes(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Job]]:
        """What is stored, and what is to be saved in its place."""
        for job in jobs:
            if (after := self.settled(job)) != job:
                yield job, replace(after, version=job.version + 1)
