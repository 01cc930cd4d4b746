"""Job stores for tests, and jobs to put into them; Firestore is Google's emulator.

With ``pytest --store=firestore`` it takes the place of SQLite and of the simulated store.
"""

import os
import resource
from collections.abc import AsyncIterator, Iterator, MutableMapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from unittest.mock import patch
from uuid import uuid4

from google.cloud.firestore import Client

from model_copier.adapters.firestore import FirestoreJobStore, _without_empty
from model_copier.adapters.firestore_documents import TTL_FIELD, Place, fields_of
from model_copier.adapters.job_record import from_record
from model_copier.adapters.sqlite import SqliteJobStore
from model_copier.domain.copy_call import Call
from model_copier.domain.copy_request import CopyRequest, Original, Source
from model_copier.domain.job import Job
from model_copier.domain.resource_names import ModelName
from model_copier.domain.timing import Timing
from model_copier.engine.ports import Clock
from simulators import START, SimulatedClock, SimulatedStore

TIMING = Timing()
SOURCE = ModelName(project="source", location="us-central1", model="7", version="1")
LATEST = START + timedelta(seconds=TIMING.max_wait_seconds)


def job(key: str = "a", **changes: Any) -> Job:
    new = Job(
        key=key,
        request_id=f"request-{key}",
        request_source="//ec2",
        digests=("d",),
        request=CopyRequest(
            source=SOURCE, target_project="target", target_location="us-central1", destination="m"
        ),
        original=Original(data=b"\xff\x00 not text", attributes={"ce-id": key}),
        accepted_at=START,
        run_started_at=START,
        due_at=START,
    )
    return replace(new, **changes)


def resolved(stored: Job) -> Job:
    """A job that knows its source, and waits for its destination; its turn stays as it is."""
    found = stored.with_source(Source(name=SOURCE, known_as=SOURCE), stored.turn or 0.0)
    return replace(found, turn=stored.turn)


def holding(stored: Job) -> Job:
    """A job that holds its destination, and waits for its start."""
    return resolved(stored).with_lock()


def requested(stored: Job, *known_versions: str) -> Job:
    """A job whose CopyModel may have been sent, when these versions were there."""
    call = Call(
        requested_at=START, visible_at=TIMING.visible_at(START), known_versions=known_versions
    )
    return holding(stored).copy_requested(START, call, TIMING)


# The address of the emulator, when it is to take the place of every other store.
emulator = ""


def new_place() -> Place:
    """Somewhere that nobody has written to: the emulator has every database."""
    return Place(project="tests", database=f"db-{uuid4().hex}", prefix="model-copier")


@asynccontextmanager
async def firestore_store(
    address: str, *, place: Place | None = None, clock: Clock | None = None, seconds: float = 10
) -> AsyncIterator[FirestoreJobStore]:
    # Google's client reads it when it is made.
    with patch.dict(os.environ, FIRESTORE_EMULATOR_HOST=address):
        store = FirestoreJobStore.open(
            place or new_place(), clock=clock or SimulatedClock(), call_seconds=seconds
        )
    yield store
    await store.close()


async def overwrite(store: SqliteJobStore | FirestoreJobStore, key: str, record: str) -> None:
    """Put a record in the place of another, as a service of another version would."""
    if isinstance(store, SqliteJobStore):
        await store._write("UPDATE jobs SET record = ? WHERE key = ?", (record.encode(), key))
    else:
        await store._jobs.document(key).update({"record": record})


# For tests that do not care which store they have.


def new_store(clock: Clock) -> Any:
    """The store of a world."""
    if not emulator:
        return SimulatedStore()
    place = new_place()
    store = EmulatedStore.open(place, clock=clock, call_seconds=10)
    store.jobs = EmulatedJobs(place, clock)
    return store


def settings() -> dict[str, str]:
    """What gives the copier's own processes a store, where a file will not do."""
    if not emulator:
        return {}
    place = new_place()
    return {"STORE": f"firestore://{place.project}/{place.database}?collection={place.prefix}"}


class EmulatedStore(FirestoreJobStore):
    """With what tests look at from outside."""

    jobs: "EmulatedJobs"


class EmulatedJobs(MutableMapping[str, Job]):
    """All jobs of a database, by key, at once: tests look at them outside of any coroutine."""

    def __init__(self, place: Place, clock: Clock) -> None:
        client = Client(project=place.project, database=place.database)
        self._jobs = client.collection(place.collection("jobs"))
        self._clock = clock

    def __getitem__(self, key: str) -> Job:
        found = self._jobs.document(key).get()
        if not found.exists:
            raise KeyError(key)
        return from_record(found.get("record"))

    def __setitem__(self, key: str, job: Job) -> None:
        self._jobs.document(key).set(_without_empty(fields_of(job)))

    def __delitem__(self, key: str) -> None:
        self._jobs.document(key).delete()

    def __iter__(self) -> Iterator[str]:
        """In the order in which they came; what has expired is gone."""
        for found in sorted(self._jobs.stream(), key=lambda each: each.create_time):
            expires_at = (found.to_dict() or {}).get(TTL_FIELD)
            if expires_at is None or expires_at > self._clock.now():
                yield found.id

    def __len__(self) -> int:
        return sum(1 for _ in self)


@contextmanager
def files_that_may_not_grow_over(size: int) -> Iterator[None]:
    """What is already on the disk may be written anew, as on a full one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
