"""Job stores for tests, and jobs to put into them; Firestore is Google's emulator."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from unittest.mock import patch
from uuid import uuid4

from model_copier.adapters.firestore import FirestoreJobStore
from model_copier.adapters.firestore_documents import Place
from model_copier.adapters.sqlite import SqliteJobStore
from model_copier.copy_request import CopyRequest, Source
from model_copier.job import Job, Original
from model_copier.ports import Clock
from model_copier.resource_names import ModelName
from model_copier.timing import Timing
from simulators import START, SimulatedClock

TIMING = Timing()
SOURCE = ModelName(project="source", location="us-central1", model="7", version="1")
LATEST = START + timedelta(seconds=TIMING.longest_wait)


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
        attempt_at=START,
        due_at=START,
    )
    return replace(new, **changes)


def holding(stored: Job) -> Job:
    return stored.with_source(Source(name=SOURCE, known_as=SOURCE)).holding()


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
