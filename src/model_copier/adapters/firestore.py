"""Jobs in Firestore, which any number of instances share.

Preconditions, not transactions: what belongs together goes in one commit, which does all of
it or nothing, and nothing if somebody wrote in between. What must not break: the job's own
document says whether it holds its destination; the destination's only says whom to ask.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
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
    Increment,
    Maximum,
    Or,
    Query,
)

from model_copier.adapters.firestore_documents import (
    COLLECTIONS,
    TTL_FIELD,
    Place,
    awaits_mark,
    ended_mark,
    fields_of,
    listed_between,
    name_of,
    operation_mark,
    trace_mark,
)
from model_copier.adapters.firestore_set_up import to_be_mended, without_index
from model_copier.adapters.reading import readable
from model_copier.errors import (
    DestinationTakenError,
    JobExistsError,
    StaleJobError,
    UnavailableError,
)
from model_copier.job import Job
from model_copier.ports import LONGEST_QUEUE, Clock, Wanted
from model_copier.records import from_record

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

    async def create(self, job: Job) -> Job:
        job = replace(job, version=1)
        document, left = self._jobs.document(job.key), None
        async with self._calling():
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
        saved = replace(job, version=job.version + 1)
        document = self._jobs.document(job.key)
        async with self._calling():
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
        query = self._jobs.where(filter=when).order_by("due_at").limit(limit)
        found: list[Job] = []
        async with self._calling():
            page = await self._ask("due_at", query)
            found += readable(self._records(page))
            # Read on past what cannot be read, or a newer service's jobs would hide ours.
            while len(found) < limit == len(page):
                page = await self._ask("due_at", query.start_after(page[-1]))
                found += readable(self._records(page))
        return found[:limit]

    async def next_due_at(self) -> datetime | None:
        query = self._jobs.order_by("due_at").limit(1).select(["due_at"])
        async with self._calling():
            found = await self._ask("due_at", query)
        return found[0].get("due_at") if found else None

    async def awaiting(self, destination: str, limit: int) -> Sequence[Job]:
        return [*readable(await self._marked([awaits_mark(destination)], limit))]

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

    async def take_turn(self, queue: str, now: datetime, distance: float) -> datetime:
        document, latest = self._queues.document(name_of(queue)), now + LONGEST_QUEUE
        async with self._calling():
            for _ in range(_TRIES):
                # Firestore itself reads and moves on, so no two callers get one turn.
                batch = self._client.batch()
                batch.set(document, {"ends_at": Maximum(now.timestamp())}, merge=True)
                batch.set(document, {"ends_at": Increment(distance)}, merge=True)
                _, moved_on = await batch.commit(retry=None, timeout=self._call_seconds)
                turn = moved_on.transform_results[0].double_value - distance
                if turn <= latest.timestamp():
                    return datetime.fromtimestamp(turn, UTC)
                await self._empty(document, now, latest)
        raise UnavailableError(f"job store: queue {queue} ends too far away")

    async def delete_expired(self, now: datetime) -> int:  # noqa: ARG002
        return 0  # Firestore deletes by TTL_FIELD

    async def check(self) -> None:
        async with self._calling():
            await self._ask("due_at", self._jobs.order_by("due_at").limit(1))
            latest = self._jobs.order_by("listed", direction=Query.DESCENDING)
            await self._ask("listed", latest.limit(1))
            await self._ask("marks", _with_marks(self._jobs, ["none"]).limit(1))

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

    # Queues

    async def _empty(self, document: Any, now: datetime, latest: datetime) -> None:
        """Empty a queue whose end a broken clock wrote, unless somebody has just done so."""
        found = await self._look(document)
        if found.exists and found.get("ends_at") > latest.timestamp():
            batch = self._client.batch()
            batch.update(document, {"ends_at": now.timestamp()}, option=self._unchanged(found))
            await self._commit(batch)

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

    async def _marked(self, marks: Sequence[str], limit: int | None = None) -> list[str]:
        """Records with any of these marks."""
        query = _with_marks(self._jobs, marks)
        async with self._calling():
            found = await self._ask("marks", query.limit(limit) if limit else query)
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


def _with_marks(jobs: Any, marks: Sequence[str]) -> AsyncQuery:
    query: AsyncQuery = jobs.where(filter=FieldFilter("marks", "array_contains_any", marks))
    return query
