"""A write that worked while its caller saw an error: it is found, and is not done twice."""

import sqlite3
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from firestore_front import FirestoreFront
from model_copier.adapters.sqlite import SqliteJobStore
from model_copier.domain.errors import (
    DestinationTakenError,
    JobExistsError,
    StaleJobError,
    UnavailableError,
)
from model_copier.engine.ports import JobStore
from simulators import START
from stores import firestore_store, holding, job


@dataclass
class Losing:
    """A connection that loses the answer to a statement: to the next one, where ``lost`` is 1."""

    connection: sqlite3.Connection
    lost: int = 0

    @property
    def in_transaction(self) -> bool:
        return self.connection.in_transaction

    def execute(self, *statement: Any) -> sqlite3.Cursor:
        done = self.connection.execute(*statement)
        is_lost, self.lost = self.lost == 1, max(0, self.lost - 1)
        if is_lost:
            done.fetchall()  # a statement that returns is done once it is read
            raise sqlite3.OperationalError("done, and the answer is lost")
        return done

    def close(self) -> None:
        self.connection.close()


@dataclass
class Lossy:
    store: JobStore
    lose_next: Callable[[], None]
    # SQLite does several statements in one transaction: the answer to which is lost.
    lose_statement: Callable[[int], None]


@pytest.fixture(params=["sqlite", "firestore"])
async def lossy(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Lossy]:
    if request.param == "sqlite":
        opened = await SqliteJobStore.open(tmp_path / "jobs.db", busy_seconds=5)
        losing = Losing(opened._connection)
        opened._connection = losing  # type: ignore[assignment]
        yield Lossy(
            opened,
            lambda: setattr(losing, "lost", 1),
            lambda number: setattr(losing, "lost", number),
        )
        await opened.close()
        return
    emulator = request.getfixturevalue("firestore")
    async with (
        FirestoreFront(emulator=emulator) as front,
        firestore_store(front.address) as store,
    ):
        yield Lossy(
            store,
            lambda: setattr(front, "answers_to_lose", 1),
            lambda _: setattr(front, "answers_to_lose", 1),
        )


async def test_a_job_that_was_created_unseen_is_there_once(lossy):
    lossy.lose_next()
    with pytest.raises(UnavailableError, match="the answer is lost"):
        await lossy.store.create(job())

    with pytest.raises(JobExistsError):
        await lossy.store.create(job())
    assert (await lossy.store.get("a")).version == 1


async def test_a_save_that_worked_unseen_is_stale_the_second_time(lossy):
    read = await lossy.store.create(job())
    lossy.lose_next()
    with pytest.raises(UnavailableError, match="the answer is lost"):
        await lossy.store.save(replace(read, retries=1))

    with pytest.raises(StaleJobError):
        await lossy.store.save(replace(read, retries=2))
    again = await lossy.store.get("a")
    assert (again.version, again.retries) == (2, 1)
    assert (await lossy.store.save(replace(again, retries=3))).version == 3


async def test_a_destination_that_was_taken_unseen_is_held(lossy):
    first = await lossy.store.create(job("a"))
    second = await lossy.store.create(job("b"))
    lossy.lose_next()
    with pytest.raises(UnavailableError):
        await lossy.store.save(holding(first))

    with pytest.raises(DestinationTakenError):
        await lossy.store.save(holding(second))
    held = await lossy.store.get("a")
    assert held.destination
    await lossy.store.save(held.succeeded(START, model_version="1", verified=True))
    assert await lossy.store.save(holding(second))


async def test_a_destination_that_was_left_unseen_is_free(lossy):
    first = await lossy.store.save(holding(await lossy.store.create(job("a"))))
    second = await lossy.store.create(job("b"))
    lossy.lose_next()
    with pytest.raises(UnavailableError):
        await lossy.store.save(first.succeeded(START, model_version="1", verified=True))

    assert await lossy.store.save(holding(second))


@pytest.mark.parametrize("statement", [1, 2, 3, 4])
async def test_starts_granted_unseen_are_never_exceeded(lossy, statement):
    """Nor does whatever was lost leave a transaction open, which would lock all others out."""
    await lossy.store.take_starts("here", [1], START, 5)
    lossy.lose_statement(statement)
    with pytest.raises(UnavailableError):
        await lossy.store.take_starts("here", [2, 3], START, 5)

    assert await lossy.store.take_starts("here", [4] * 9, START, 5) in {2, 4}
    await lossy.store.create(job("b"))
    assert await lossy.store.get("b")
