"""Jobs in Firestore, which any number of instances share.

Preconditions, not transactions: what belongs together goes in one commit, which does all of
it or nothing, and nothing if somebody wrote in between. What must not break: the job's own
document says whether it holds its destination; the destination's only says whom to ask.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from itertools import chain
from typing import Any, Self, TypeAlias

import grpc.aio
from google.api_core.exceptions import (
    Aborted,
    AlreadyExists,
    Cancelled,
    FailedPrecondition,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    ServerError,
    Unauthenticated,
)
from google.auth.exceptions import GoogleAuthError
from google.cloud.firestore import (
    DELETE_FIELD,
    AsyncClient,
    AsyncQuery,
    AsyncWriteBatch,
    DocumentSnapshot,
    FieldFilter,
    Or,
    Query,
)

from model_copier.adapters.firestore_copies import FirestoreCopies
from model_copier.adapters.firestore_documents import (
    COLLECTIONS,
    INDEXED,
    TTL_FIELD,
    Place,
    awaiting_between,
    ended_mark,
    fields_of,
    listed_between,
    name_of,
    operation_mark,
    queued_between,
    trace_mark,
    turn_of,
    unfinished_between,
)
from model_copier.adapters.firestore_set_up import to_be_mended, without_index
from model_copier.adapters.job_record import from_record, readable
from model_copier.domain.errors import (
    DestinationTakenError,
    JobExistsError,
    StaleJobError,
    UnavailableError,
)
from model_copier.domain.job import Job
from model_copier.domain.rate_limit import SlidingWindow
from model_copier.engine.ports import Clock, Wanted

# How often a commit that somebody was faster than is thought over again.
_TRIES = 5
# Firestore looks for at most so many values in one query.
_MARKS_AT_ONCE = 30
# Looked through at once by a search that no index narrows down.
_SEARCHED_AT_ONCE = 300
_Snapshot: TypeAlias = DocumentSnapshot[Any]


class _Client(AsyncClient):
    """Reaches an emulator without whatever proxy the environment names; Google's asks the proxy."""

    def _emulator_channel(self, transport: Any) -> grpc.aio.Channel:
        del transport  # the asynchronous one: this client has no other
        sizes = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        options = [*sizes, ("grpc.enable_http_proxy", 0)]
        return grpc.aio.insecure_channel(str(self._emulator_host), options=options)


class FirestoreJobStore:
    """See ``ports.JobStore`` for the promises."""

    def __init__(
        self, client: AsyncClient, *, place: Place, clock: Clock, call_seconds: float
    ) -> None:
        self._client = client
        self._clock = clock
        self._call_seconds = call_seconds
        self._jobs, self._destinations, self._queues = (
            client.collection(place.collection(name)) for name in COLLECTIONS
        )
        self.mark = client.collection(place.mark[0]).document(place.mark[1])
        self._settling: asyncio.Task[None] | None = None
        self._restored_at: datetime | None = None

    @classmethod
    def open(cls, place: Place, *, clock: Clock, call_seconds: float) -> Self:
        """Connect on first use; Google's client reads FIRESTORE_EMULATOR_HOST.

        ``call_seconds``: how long one of the methods may take; keep it below the lease of a
        job.

        Raises:
            UnavailableError: there are no credentials.
        """
        try:
            client = _Client(project=place.project, database=place.database)
        except GoogleAuthError as error:
            raise UnavailableError(f"job store: {error}") from error
        return cls(client, place=place, clock=clock, call_seconds=call_seconds)

    async def close(self) -> None:
        await self._client._firestore_api.transport.close()  # noqa: SLF001  its own knows HTTP only

    def leave(self) -> None:
        """The process ends, and leaves nothing to be folded in."""

    async def create(self, job: Job) -> Job:
        job = replace(job, version=1)
        async with self._calling():
            return await self._create(job)

    async def _create(self, job: Job) -> Job:
        document, left = self._jobs.document(job.key), None
        for _ in range(_TRIES):
            batch = self._client.batch()
            if left is None:
                batch.create(document, _without_empty(fields_of(job)))
            else:  # an expired record that Firestore has not deleted yet
                batch.update(document, _changes_to(job), option=self._unchanged(left))
            if job.destination:
                await self._take(batch, job.destination, job.key)
            if await self._commit(batch):
                return job
            found = await self._look(document)
            if self._is_there(found):
                raise JobExistsError(job.key)
            left = found if found.exists else None
        raise UnavailableError(f"job store: {job.key} was written by others {_TRIES} times")

    async def get(self, key: str) -> Job | None:
        async with self._calling():
            found = await self._look(self._jobs.document(key))
        return from_record(found.get("record")) if self._is_there(found) else None

    async def save(self, job: Job) -> Job:
        async with self._calling():
            return await self._save(job, replace(job, version=job.version + 1))

    async def _save(self, job: Job, saved: Job) -> Job:
        document = self._jobs.document(job.key)
        for _ in range(_TRIES):
            stored = await self._look(document, "version", "destination", TTL_FIELD)
            if not self._is_there(stored) or stored.get("version") != job.version:
                raise StaleJobError(job.key)
            held = _field(stored, "destination")
            batch = self._client.batch()
            batch.update(document, _changes_to(saved), option=self._unchanged(stored))
            if held and held != job.destination:
                batch.delete(self._lock(held))
            if job.destination and held != job.destination:
                await self._take(batch, job.destination, job.key)
            if await self._commit(batch):
                return saved
        raise UnavailableError(f"job store: {job.key} was written by others {_TRIES} times")

    async def due(self, now: datetime, latest: datetime, limit: int) -> Sequence[Job]:
        when = Or([FieldFilter("due_at", "<=", now), FieldFilter("due_at", ">", latest)])
        return await self._first("due_at", self._jobs.where(filter=when).order_by("due_at"), limit)

    async def next_due_at(self) -> datetime | None:
        query = self._jobs.order_by("due_at").limit(1).select(["due_at"])
        async with self._calling():
            found = await self._ask("due_at", query)
        return found[0].get("due_at") if found else None

    async def awaiting(self, destination: str, limit: int) -> Sequence[Job]:
        query = _between(self._jobs, "waits", awaiting_between(destination))
        return await self._first("waits", query, limit)

    async def with_traces(self, names: Collection[str]) -> Sequence[Job]:
        # One after the other, a model before its versions: that is how a trace moves on, so a
        # job that succeeds meanwhile is seen here or there.
        found: dict[str, Job] = {}
        for marks in _parts(trace_mark(name) for name in names):
            # Not only what is readable: an ask that is overlooked may be made twice.
            jobs = map(from_record, await self._marked(marks))
            found |= {job.key: job for job in jobs}
        return [*found.values()]

    async def with_operation(self, number: str) -> Sequence[Job]:
        return [*readable(await self._marked([operation_mark(number)]))]

    async def ended(self, keys: Collection[str]) -> Sequence[Job]:
        parts = _parts(ended_mark(key) for key in keys)
        found = await asyncio.gather(*(self._marked(marks) for marks in parts))
        return [*readable(chain.from_iterable(found))]

    async def find(self, wanted: Wanted, limit: int) -> Sequence[Job]:
        lowest, before = listed_between(wanted)
        narrowed = wanted.state or wanted.source or wanted.target
        at_once = max(limit, _SEARCHED_AT_ONCE) if narrowed else limit
        found: list[Job] = []
        async with self._calling():
            while True:
                query = (
                    self._jobs.where(filter=FieldFilter("listed", ">=", lowest))
                    .where(filter=FieldFilter("listed", "<", before))
                    .order_by("listed", direction=Query.DESCENDING)
                    .limit(at_once)
                )
                page = await self._ask("listed", query)
                found += filter(wanted.takes, readable(self._records(page)))
                if len(found) >= limit or len(page) < at_once:
                    return found[:limit]
                before = page[-1].get("listed")

    async def unfinished(self, sender: str) -> int:
        query = _between(self._jobs, "unfinished", unfinished_between(sender))
        async with self._calling():
            try:
                counting = query.count().get  # whose decorator hides that it is bound
                found = await counting(retry=None, timeout=self._call_seconds)  # type: ignore[call-arg]
            except FailedPrecondition as error:
                raise without_index("unfinished", error) from error
        return int(found[0][0].value)

    async def next_turn(self, queue: str, sender: str, cost: float) -> float:
        between = unfinished_between(sender, queue)
        last = _between(self._jobs, "unfinished", between).limit(1).select(["unfinished"])
        async with self._calling():
            found = await self._ask("unfinished", last)
            stored = await self._look(self._queues.document(name_of(queue)))
        reached = stored.get("virtual_time") if stored.exists else 0.0
        return max([reached, *(turn_of(job.get("unfinished")) for job in found)]) + cost

    async def queued(self, queue: str, limit: int) -> Sequence[Job]:
        query = _between(self._jobs, "waits", queued_between(queue))
        return await self._first("waits", query, limit)

    async def queues(self) -> Sequence[str]:
        found: list[str] = []
        async with self._calling():
            while True:  # a read for each queue, whatever waits there
                between = queued_between(None, after=found[-1] if found else None)
                query = _between(self._jobs, "waits", between).limit(1).select(["start_queue"])
                first = await self._ask("waits", query)
                if not first:
                    return found
                found.append(first[0].get("start_queue"))

    async def take_starts(
        self,
        queue: str,
        turns: Sequence[float],
        now: datetime,
        per_minute: int,
        burst: int | None = None,
    ) -> int:
        document = self._queues.document(name_of(queue))
        async with self._calling():
            for _ in range(_TRIES):
                stored = await self._look(document)
                fields = stored.to_dict() or {"virtual_time": 0.0, "taken": "[]"}
                window = SlidingWindow.parse(fields["taken"])
                granted, after = window.take(len(turns), now, per_minute, burst)
                if not granted and after == window:
                    return 0
                reached = max([fields["virtual_time"], *turns[granted - 1 : granted]])
                changed = {"name": queue, "virtual_time": reached, "taken": str(after)}
                batch = self._client.batch()
                if stored.exists:
                    batch.update(document, changed, option=self._unchanged(stored))
                else:
                    batch.create(document, changed)
                if await self._commit(batch):
                    return granted
        raise UnavailableError(f"job store: {queue} was written by others {_TRIES} times")

    async def take_slots(self, name: str, wanted: int, now: datetime, per_minute: int) -> int:
        return await self.take_starts(name, [0.0] * wanted, now, per_minute)

    async def delete_expired(self, now: datetime) -> int:  # noqa: ARG002
        return 0  # Firestore deletes by TTL_FIELD

    async def check(self) -> None:
        async with self._calling():
            await self._ask("due_at", self._jobs.order_by("due_at").limit(1))
            latest = self._jobs.order_by("listed", direction=Query.DESCENDING)
            await self._ask("listed", latest.limit(1))
            await self._ask("marks", _with_marks(self._jobs, ["none"]).limit(1))
            for field in ("unfinished", "waits"):
                await self._ask(field, _between(self._jobs, field, ("none ", "none ~")).limit(1))

    # The store as a whole: see ``firestore_copies.py``.

    async def _settle(self) -> None:
        """Look once whether the store was restored, and wait until it is settled."""
        settling = self._settling
        if settling is None or (settling.done() and _failed(settling)):
            settling = self._settling = asyncio.create_task(self._settle_it())
        await asyncio.shield(settling)

    async def _settle_it(self) -> None:
        copies = FirestoreCopies(self, seconds=self._call_seconds)
        settled, self._restored_at = await copies.settle(self._clock.now())
        if settled:
            settled.tell()

    async def restored_at(self) -> datetime | None:
        """When this store went back in time last: requests from before may have been done."""
        async with self._calling():
            return self._restored_at

    def jobs_by_key(self) -> AsyncQuery:
        query: AsyncQuery = self._jobs.order_by("__name__")
        return query

    async def put(self, job: Job) -> None:
        """Store a new job as it is, its version too; the store may be marked.

        Raises:
            JobExistsError: there is such a job.
            DestinationTakenError: another job holds its destination.
        """
        async with self._bounded():
            await self._create(job)

    async def stored(self, key: str) -> Job | None:
        """As ``get``; the store may be marked."""
        async with self._bounded():
            found = await self._look(self._jobs.document(key))
        return from_record(found.get("record")) if self._is_there(found) else None

    async def overwrite(self, saved: Job) -> None:
        """As ``save``, with the next version in ``saved`` already; the store may be marked."""
        async with self._bounded():
            await self._save(replace(saved, version=saved.version - 1), saved)

    # Destinations

    async def _take(self, batch: AsyncWriteBatch, destination: str, key: str) -> None:
        """Add to the commit what takes the destination.

        A lock that nobody owns any more, whatever left it behind, is taken over.

        Raises:
            DestinationTakenError: an unfinished job owns it.
        """
        lock = await self._look(self._lock(destination))
        if not lock.exists:
            batch.create(lock.reference, {"destination": destination, "holder": key})
            return
        holder = lock.get("holder")
        if holder != key:
            stored = await self._look(self._jobs.document(holder), "destination", TTL_FIELD)
            if self._is_there(stored) and _field(stored, "destination") == destination:
                raise DestinationTakenError(destination)
        batch.update(lock.reference, {"holder": key}, option=self._unchanged(lock))

    def _lock(self, destination: str) -> Any:
        return self._destinations.document(name_of(destination))

    # Calls

    async def _look(self, document: Any, *fields: str) -> _Snapshot:
        found: _Snapshot = await document.get(
            fields or None, retry=None, timeout=self._call_seconds
        )
        return found

    async def _commit(self, batch: AsyncWriteBatch) -> bool:
        """Write all of it or nothing; False: somebody wrote in between, and nothing was done."""
        try:
            await batch.commit(retry=None, timeout=self._call_seconds)
        except (AlreadyExists, FailedPrecondition, NotFound, Aborted):
            return False
        return True

    async def _ask(self, index: str, query: AsyncQuery) -> Sequence[_Snapshot]:
        try:
            return await query.get(retry=None, timeout=self._call_seconds)
        except FailedPrecondition as error:
            raise without_index(index, error) from error

    async def _first(self, index: str, query: AsyncQuery, limit: int) -> Sequence[Job]:
        """Read on past what cannot be read, or a newer service's jobs would hide ours."""
        found: list[Job] = []
        async with self._calling():
            page = await self._ask(index, query.limit(limit))
            found += readable(self._records(page))
            while len(found) < limit == len(page):
                page = await self._ask(index, query.limit(limit).start_after(page[-1]))
                found += readable(self._records(page))
        return found[:limit]

    async def _marked(self, marks: Sequence[str]) -> list[str]:
        """Records with any of these marks."""
        async with self._calling():
            found = await self._ask("marks", _with_marks(self._jobs, marks))
        return [*self._records(found)]

    def _records(self, found: Iterable[_Snapshot]) -> Iterator[str]:
        return (job.get("record") for job in found if self._is_there(job))

    def _is_there(self, job: _Snapshot) -> bool:
        if not job.exists:
            return False
        expires_at = _field(job, TTL_FIELD)
        return expires_at is None or expires_at > self._clock.now()

    def _unchanged(self, document: _Snapshot) -> Any:
        return self._client.write_option(last_update_time=document.update_time)

    @asynccontextmanager
    async def _calling(self) -> AsyncIterator[None]:
        """Call a store that is settled."""
        async with self._bounded():
            await self._settle()
            yield

    @asynccontextmanager
    async def _bounded(self) -> AsyncIterator[None]:
        """Bound what one method does, and tell an outage from what somebody must mend."""
        try:
            async with asyncio.timeout(self._call_seconds):
                yield
        except (PermissionDenied, NotFound, FailedPrecondition) as error:
            raise to_be_mended(error) from error
        except (
            ServerError,
            Aborted,
            Cancelled,
            ResourceExhausted,
            Unauthenticated,
            GoogleAuthError,
            TimeoutError,
            OSError,
        ) as error:
            why = str(error) or "no answer in time"
            raise UnavailableError(f"job store: {why}") from error


def _failed(settling: "asyncio.Task[None]") -> bool:
    return settling.cancelled() or settling.exception() is not None


def _changes_to(job: Job) -> dict[str, Any]:
    """Every field of a job's document; away with those that it has no more."""
    return {
        name: DELETE_FIELD if value is None else value for name, value in fields_of(job).items()
    }


def _without_empty(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _field(document: _Snapshot, name: str) -> Any:
    return (document.to_dict() or {}).get(name)


def _parts(marks: Iterable[str]) -> Iterator[Sequence[str]]:
    """In the order of their names, as many at a time as one query takes."""
    every = sorted({*marks})
    for start in range(0, len(every), _MARKS_AT_ONCE):
        yield every[start : start + _MARKS_AT_ONCE]


def _between(jobs: Any, field: str, between: tuple[str, str]) -> AsyncQuery:
    """Jobs whose ``field`` is in this range, in the order of its index."""
    lowest, before = between
    query: AsyncQuery = (
        jobs.where(filter=FieldFilter(field, ">=", lowest))
        .where(filter=FieldFilter(field, "<", before))
        .order_by(field, direction=INDEXED[field])
    )
    return query


def _with_marks(jobs: Any, marks: Sequence[str]) -> AsyncQuery:
    query: AsyncQuery = jobs.where(filter=FieldFilter("marks", "array_contains_any", marks))
    return query
