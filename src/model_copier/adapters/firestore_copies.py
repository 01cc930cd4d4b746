"""A Firestore job store as a whole: settled after a restore, exported, imported.

A document of its own, beside the jobs, says that the store went back in time or that an import
has not ended. What must not break: as long as it is there, no worker moves a job; so whoever
settles or imports may die at any point, and the next one carries on.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from google.api_core.exceptions import AlreadyExists

from model_copier.adapters.job_record import readable
from model_copier.adapters.restored import Order, Settled
from model_copier.domain.errors import (
    DestinationTakenError,
    JobExistsError,
    RejectedError,
    StaleJobError,
    UnavailableError,
)
from model_copier.domain.job import Job

if TYPE_CHECKING:
    from model_copier.adapters.firestore import FirestoreJobStore

# Read in one query, and written at once.
_PAGE = 300
_WRITES = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """What an import was begun with: who carries on must write the same."""

    digest: str
    began_at: datetime


@dataclass(frozen=True, slots=True)
class FirestoreCopies:
    """What one does to a store as a whole; workers should be stopped meanwhile."""

    store: "FirestoreJobStore"
    seconds: float  # longest that one call to Firestore may take

    @property
    def _mark(self) -> Any:
        return self.store.mark

    async def settle(self, now: datetime) -> tuple[Settled | None, datetime | None]:
        """Have every job look before it asks, if the mark says so: what became of them, now or
        nothing; and when the store was settled last, if ever.

        Any number may do so at once: what was written after the mark was is settled.

        Raises:
            UnavailableError: an import has not ended.
        """
        mark = await self._mark.get(retry=None, timeout=self.seconds)
        if not mark.exists:
            return None, None
        if mark.get("state") == "settled":
            return None, datetime.fromisoformat(mark.get("at"))
        if mark.get("state") == "importing":
            raise UnavailableError(
                "job store: an import into it has not ended; run `model-copier-store import` with"
                " the same file again"
            )
        jobs = 0
        first: list[Job] = []
        async for page in self._pages():
            jobs += len(page)
            first += [job for job in _jobs(page) if not job.state.final]
        order, moved = Order.of(first, now), 0
        del first
        async for page in self._pages():
            settled_before = [each for each in page if each.update_time <= mark.update_time]
            for _, after in order.changes(_jobs(settled_before)):
                moved += await self._save(after)
        await self._settled(now)
        return Settled(why=str(mark.get("why")), jobs=jobs, moved=moved), now

    async def _save(self, job: Job) -> int:
        try:
            await self.store.overwrite(job)
        except StaleJobError:
            return 0  # another one settles it, or has
        return 1

    async def mark_restored(self, why: str) -> None:
        """Say that the store went back in time; whoever opens it settles it."""
        await self._mark.set({"state": "restored", "why": why}, retry=None, timeout=self.seconds)

    async def records(self) -> AsyncIterator[bytes]:
        """Every record, by key."""
        async for page in self._pages():
            for document in page:
                yield document.get("record").encode()

    async def begin_import(self, digest: str) -> Import:
        """Take an empty store, or one in which this very import was begun.

        Raises:
            RejectedError: there are jobs in it.
        """
        began = Import(digest=digest, began_at=datetime.now(UTC))
        fields = {"state": "importing", "digest": digest, "began_at": began.began_at.isoformat()}
        found = await self._mark.get(retry=None, timeout=self.seconds)
        if found.exists and found.get("state") == "importing":
            if found.get("digest") != digest:
                raise RejectedError(
                    "an import of another export has not ended in this store; run that one again"
                )
            began_at = datetime.fromisoformat(found.get("began_at"))
            return Import(digest=digest, began_at=began_at)
        async for page in self._pages(limit=1):
            if page:
                raise RejectedError(
                    "there are jobs in this store; import into another database or collection"
                )
        try:
            await self._mark.create(fields, retry=None, timeout=self.seconds)
        except AlreadyExists as error:
            raise UnavailableError("job store: somebody else is writing to it") from error
        return began

    async def add(self, jobs: Sequence[Job]) -> None:
        """Store jobs as they are, their versions too; those that are there already are let be.

        Raises:
            RejectedError: what is there is something else.
        """
        for start in range(0, len(jobs), _WRITES):
            await asyncio.gather(*(self._add(job) for job in jobs[start : start + _WRITES]))

    async def _add(self, job: Job) -> None:
        try:
            await self.store.put(job)
        except DestinationTakenError as error:
            raise RejectedError(f"job {job.key} has the destination of another one") from error
        except JobExistsError as error:
            if await self.store.stored(job.key) != job:
                raise RejectedError(
                    f"job {job.key} is there already, with other content"
                ) from error

    async def end_import(self) -> None:
        await self._settled(datetime.now(UTC))

    async def _settled(self, now: datetime) -> None:
        fields = {"state": "settled", "at": now.isoformat()}
        await self._mark.set(fields, retry=None, timeout=self.seconds)

    async def _pages(self, limit: int = _PAGE) -> AsyncIterator[Sequence[Any]]:
        """All documents of jobs, by key, in pages."""
        query = self.store.jobs_by_key().limit(limit)
        page = await query.get(retry=None, timeout=self.seconds)
        while page:
            yield page
            if limit == 1:
                return
            page = await query.start_after(page[-1]).get(retry=None, timeout=self.seconds)


def _jobs(page: Sequence[Any]) -> Sequence[Job]:
    return [*readable(document.get("record") for document in page)]
