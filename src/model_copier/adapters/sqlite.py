"""Jobs in one SQLite file, which several processes of a machine may share.

A write of a job is one statement, so compare-and-swap needs no transaction that first reads
and then writes: those starve each other ("database is locked"). The one of the rate limits
takes the write lock as it begins. ``synchronous=FULL``
makes a job that was stored survive the power plug too. Not for Cloud Run, where a file
is the memory of one instance.
"""

import asyncio
import json
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from typing import Any, Self

from model_copier.adapters.job_record import from_record, readable, to_record
from model_copier.adapters.one_thread import OneThread
from model_copier.adapters.restored import Order, Settled
from model_copier.adapters.sqlite_files import Identity, fold_in, note_opened, prepare, times_opened
from model_copier.adapters.sqlite_files import outages as _outages
from model_copier.domain.errors import (
    DestinationTakenError,
    JobExistsError,
    StaleJobError,
    UnavailableError,
)
from model_copier.domain.job import Job
from model_copier.domain.rate_limit import SlidingWindow
from model_copier.engine.ports import Wanted

# How long one method may take where nothing else is said; below every lease of the defaults.
CALL_SECONDS = 10.0
# Cloud Run and systemd give a process that is told to go more than that.
LEAVE_SECONDS = 3.0
# In ``meta``: this file is a copy, and nobody has opened it as a store yet.
RESTORED_MARK = "restored"
# And when it was settled: see ``SqliteJobStore.restored_at``.
RESTORED_AT = "restored_at"

# `destination` is set while the job holds it: the index is the lock. `sender` is the
# `request_source` of a job that is unfinished, `turn` is 0 where a job has none.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    key TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    due_at REAL,
    destination TEXT,
    trace TEXT,
    operation TEXT,
    expires_at REAL,
    record BLOB NOT NULL,
    request_source TEXT,
    accepted_at REAL,
    state TEXT,
    source TEXT,
    target TEXT,
    sender TEXT,
    awaits TEXT,
    start_queue TEXT,
    turn REAL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS jobs_due ON jobs (due_at) WHERE due_at IS NOT NULL;
CREATE UNIQUE INDEX IF NOT EXISTS jobs_destination ON jobs (destination)
    WHERE destination IS NOT NULL;
CREATE INDEX IF NOT EXISTS jobs_awaiting ON jobs (awaits, turn, accepted_at, key)
    WHERE awaits IS NOT NULL;
CREATE INDEX IF NOT EXISTS jobs_unfinished ON jobs (sender) WHERE sender IS NOT NULL;
CREATE INDEX IF NOT EXISTS jobs_turns ON jobs (start_queue, request_source, turn)
    WHERE start_queue IS NOT NULL;
CREATE INDEX IF NOT EXISTS jobs_queued ON jobs (start_queue, turn, accepted_at, key)
    WHERE start_queue IS NOT NULL AND destination IS NOT NULL AND due_at IS NULL;
CREATE INDEX IF NOT EXISTS jobs_trace ON jobs (trace) WHERE trace IS NOT NULL;
CREATE INDEX IF NOT EXISTS jobs_operation ON jobs (operation) WHERE operation IS NOT NULL;
CREATE INDEX IF NOT EXISTS jobs_expiry ON jobs (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS jobs_by_requester ON jobs (request_source, accepted_at, key);
CREATE TABLE IF NOT EXISTS queues (
    name TEXT PRIMARY KEY,
    virtual_time REAL NOT NULL,
    taken TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS checks (id INTEGER PRIMARY KEY, filling BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
_INSERT = """
INSERT INTO jobs (version, due_at, destination, trace, operation, expires_at, record,
    request_source, accepted_at, state, source, target, sender, awaits, start_queue, turn, key)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_UPDATE = """
UPDATE jobs SET version = ?, due_at = ?, destination = ?, trace = ?, operation = ?,
    expires_at = ?, record = ?, request_source = ?, accepted_at = ?, state = ?, source = ?,
    target = ?, sender = ?, awaits = ?, start_queue = ?, turn = ? WHERE key = ? AND version = ?
"""
# Two questions: with OR between them, SQLite would walk through everything unfinished.
_DUE = "SELECT record FROM jobs WHERE due_at <= ? ORDER BY due_at"
_DUE_BY_A_BROKEN_CLOCK = "SELECT record FROM jobs WHERE due_at > ? ORDER BY due_at"
_AWAITING = "SELECT record FROM jobs WHERE awaits = ? ORDER BY turn, accepted_at, key"
# As `in_queue` says it.
_IS_IN_QUEUE = "start_queue IS NOT NULL AND destination IS NOT NULL AND due_at IS NULL"
_QUEUED = f"""
SELECT record FROM jobs WHERE start_queue = ? AND {_IS_IN_QUEUE}
ORDER BY turn, accepted_at, key
"""  # noqa: S608
# A step for each queue; with DISTINCT, SQLite would walk through all that wait.
_QUEUES = f"""
WITH RECURSIVE queue (name) AS (
    SELECT min(start_queue) FROM jobs WHERE {_IS_IN_QUEUE}
    UNION ALL
    SELECT (SELECT min(start_queue) FROM jobs WHERE start_queue > queue.name AND {_IS_IN_QUEUE})
    FROM queue WHERE queue.name IS NOT NULL
)
SELECT name FROM queue WHERE name IS NOT NULL
"""  # noqa: S608
_LAST_TURN = "SELECT max(turn) FROM jobs WHERE start_queue = ? AND request_source = ?"
_UNFINISHED = "SELECT count(*) FROM jobs WHERE sender = ?"
_VIRTUAL_TIME = "SELECT virtual_time FROM queues WHERE name = ?"
_PUT_QUEUE = """
INSERT INTO queues (name, virtual_time, taken) VALUES (?, ?, ?)
ON CONFLICT (name) DO UPDATE SET virtual_time = excluded.virtual_time, taken = excluded.taken
"""
_FIND = """
SELECT record FROM jobs WHERE request_source = :request_source
    AND (:state IS NULL OR state = :state)
    AND (:source = '' OR source = :source)
    AND (:target = '' OR target = :target)
    AND (:from IS NULL OR accepted_at >= :from)
    AND (:before IS NULL OR accepted_at < :before)
    AND (:after_at IS NULL OR (accepted_at, key) < (:after_at, :after_key))
ORDER BY accepted_at DESC, key DESC LIMIT :limit
"""
# Committed, or it would not get to the disk; large, so that a job has room where it has;
# random, since SQLite does not write what is there already. It is overwritten: nothing grows.
_CHECK = """
INSERT INTO checks (id, filling) VALUES (1, randomblob(65536))
ON CONFLICT (id) DO UPDATE SET filling = excluded.filling
"""
_Values = tuple[object, ...] | Mapping[str, object]


class SqliteJobStore:
    """See ``ports.JobStore`` for the promises."""

    def __init__(
        self, connection: sqlite3.Connection, file: Path, *, identity: Identity, thread: OneThread
    ) -> None:
        self._connection = connection
        self._file = file
        self._identity = identity
        self._thread = thread

    @classmethod
    async def open(
        cls, file: Path, *, busy_seconds: float, call_seconds: float = CALL_SECONDS
    ) -> Self:
        """Open the file, and make it and its folder where they are missing.

        A file that was restored from a backup, or copied by hand, is settled first. On a disk
        that hangs this takes as long as that: the caller has a limit of its own.

        ``busy_seconds``: how long to wait for another process's write. ``call_seconds``: how
        long one of the methods may take. Keep both below the lease of a job.

        Raises:
            UnavailableError: the file cannot be opened, or is no job store.
        """
        thread = OneThread("job store", seconds=call_seconds)
        try:
            connection = await thread.begin(connect, file, busy_seconds)
            with _outages():
                identity = Identity.of(file)
        except BaseException:
            thread.end()
            raise
        return cls(connection, file, identity=identity, thread=thread)

    async def close(self) -> None:
        """Leave one whole file behind, if nobody else has it open."""
        await asyncio.to_thread(self.leave)

    def leave(self, seconds: float = LEAVE_SECONDS) -> None:
        """Do the same without a loop, as the process ends. What does not end in time is left:
        whoever opens the file next folds the rest in.
        """
        with suppress(UnavailableError):
            self._thread.run_and_wait(self._fold_and_close, seconds=seconds)
        self._thread.end()

    async def create(self, job: Job) -> Job:
        job = replace(job, version=1)
        try:
            await self._write(_INSERT, (*_columns(job), job.key))
        except sqlite3.IntegrityError as error:
            raise JobExistsError(job.key) from error
        return job

    async def get(self, key: str) -> Job | None:
        found = await self._read("SELECT record FROM jobs WHERE key = ?", (key,))
        return from_record(found[0][0]) if found else None

    async def save(self, job: Job) -> Job:
        saved = replace(job, version=job.version + 1)
        try:
            changed = await self._write(_UPDATE, (*_columns(saved), job.key, job.version))
        except sqlite3.IntegrityError as error:
            raise DestinationTakenError(job.destination) from error
        if not changed:
            raise StaleJobError(job.key)
        return saved

    async def due(self, now: datetime, latest: datetime, limit: int) -> Sequence[Job]:
        questions = [
            (_DUE, (now.timestamp(),)),
            (_DUE_BY_A_BROKEN_CLOCK, (latest.timestamp(),)),
        ]
        return await self._thread.run(self._first, questions, limit)

    async def next_due_at(self) -> datetime | None:
        found = await self._read("SELECT min(due_at) FROM jobs WHERE due_at IS NOT NULL", ())
        earliest = found[0][0]
        return None if earliest is None else datetime.fromtimestamp(earliest, UTC)

    async def awaiting(self, destination: str, limit: int) -> Sequence[Job]:
        return await self._thread.run(self._first, [(_AWAITING, (destination,))], limit)

    async def with_traces(self, names: Collection[str]) -> Sequence[Job]:
        wanted = ", ".join("?" * len(names))
        found = await self._read(
            f"SELECT record FROM jobs WHERE trace IN ({wanted})",  # noqa: S608
            tuple(names),
        )
        return [from_record(row[0]) for row in found]

    async def with_operation(self, number: str) -> Sequence[Job]:
        found = await self._read("SELECT record FROM jobs WHERE operation = ?", (number,))
        return list(readable(row[0] for row in found))

    async def ended(self, keys: Collection[str]) -> Sequence[Job]:
        found = await self._read(
            "SELECT record FROM jobs WHERE key IN (SELECT value FROM json_each(?))"
            " AND state IN ('SUCCEEDED', 'FAILED', 'UNKNOWN', 'CANCELLED')",
            (json.dumps(list(keys)),),
        )
        return list(readable(row[0] for row in found))

    async def find(self, wanted: Wanted, limit: int) -> Sequence[Job]:
        after_at, after_key = wanted.after or (None, "")
        values = {
            "request_source": wanted.request_source,
            "state": wanted.state,
            "source": wanted.source,
            "target": wanted.target,
            "from": _moment(wanted.accepted_from),
            "before": _moment(wanted.accepted_before),
            "after_at": _moment(after_at),
            "after_key": after_key,
            "limit": limit,
        }
        found = await self._read(_FIND, values)
        return list(readable(row[0] for row in found))

    async def unfinished(self, sender: str) -> int:
        found = await self._read(_UNFINISHED, (sender,))
        return int(found[0][0])

    async def next_turn(self, queue: str, sender: str, cost: float) -> float:
        last = await self._read(_LAST_TURN, (queue, sender))
        reached = await self._read(_VIRTUAL_TIME, (queue,))
        return max(last[0][0] or 0.0, reached[0][0] if reached else 0.0) + cost

    async def queued(self, queue: str, limit: int) -> Sequence[Job]:
        return await self._thread.run(self._first, [(_QUEUED, (queue,))], limit)

    async def queues(self) -> Sequence[str]:
        return [row[0] for row in await self._read(_QUEUES, ())]

    async def take_starts(
        self,
        queue: str,
        turns: Sequence[float],
        now: datetime,
        per_minute: int,
        burst: int | None = None,
    ) -> int:
        return await self._thread.run(self._take, queue, turns, now, per_minute, burst)

    async def take_slots(self, name: str, wanted: int, now: datetime, per_minute: int) -> int:
        return await self._thread.run(self._take, name, [0.0] * wanted, now, per_minute, None)

    async def delete_expired(self, now: datetime) -> int:
        return await self._write("DELETE FROM jobs WHERE expires_at <= ?", (now.timestamp(),))

    async def check(self) -> None:
        await self.next_due_at()
        await self._write(_CHECK, ())

    async def restored_at(self) -> datetime | None:
        """When this store went back in time last: requests from before may have been done."""
        found = await self._read("SELECT value FROM meta WHERE name = ?", (RESTORED_AT,))
        return datetime.fromisoformat(found[0][0]) if found else None

    async def _read(self, statement: str, values: _Values) -> list[Any]:
        return (await self._thread.run(self._execute, statement, values))[0]

    async def _write(self, statement: str, values: _Values) -> int:
        return (await self._thread.run(self._execute, statement, values))[1]

    def _first(self, questions: Sequence[tuple[str, _Values]], limit: int) -> list[Job]:
        """Read on past what cannot be read, or a newer service's jobs would hide ours."""
        with self._surely_ours():
            cursors = [self._connection.execute(*question) for question in questions]
            jobs = list(islice(readable(row[0] for row in chain(*cursors)), limit))
            for cursor in cursors:
                cursor.close()
            return jobs

    def _take(
        self,
        name: str,
        turns: Sequence[float],
        now: datetime,
        per_minute: int,
        burst: int | None,
    ) -> int:
        """Read and write a queue in one transaction that holds the write lock from its begin."""
        with self._surely_ours(), _transaction(self._connection):
            found = self._connection.execute(
                "SELECT virtual_time, taken FROM queues WHERE name = ?", (name,)
            ).fetchall()
            reached, taken = found[0] if found else (0.0, "[]")
            before = SlidingWindow.parse(taken)
            granted, window = before.take(len(turns), now, per_minute, burst)
            if granted or str(window) != taken:
                reached = max([reached, *turns[granted - 1 : granted]])
                self._connection.execute(_PUT_QUEUE, (name, reached, str(window)))
            return granted

    def _execute(self, statement: str, values: _Values) -> tuple[list[Any], int]:
        with self._surely_ours():
            cursor = self._connection.execute(statement, values)
            return cursor.fetchall(), cursor.rowcount

    @contextmanager
    def _surely_ours(self) -> Iterator[None]:
        """Look at the files before and after: what went to others was not done."""
        with _outages():
            self._identity.check(self._file)
            yield
            self._identity.check(self._file)

    def _fold_and_close(self) -> None:
        with _outages():
            # Closing what is no longer ours would fold an orphan's pages into another's file.
            self._identity.check(self._file)
            fold_in(self._connection)
            self._connection.close()


def connect(file: Path, busy_seconds: float) -> sqlite3.Connection:
    """Open a job store, and settle it if it was restored.

    Raises:
        UnavailableError: the file cannot be opened, or is no job store.
    """
    with _outages():
        prepare(file)
        connection = sqlite3.connect(
            file,
            timeout=busy_seconds,
            isolation_level=None,  # each statement commits itself
            check_same_thread=False,
        )
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.executescript(_SCHEMA)
            settled = settle(connection, file)
        except (sqlite3.Error, OSError):
            connection.close()
            raise
    if settled:
        settled.tell()
    return connection


def mark(connection: sqlite3.Connection, name: str, value: str) -> None:
    """Write down something about the file itself."""
    connection.execute("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", (name, value))


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def put(connection: sqlite3.Connection, job: Job) -> None:
    """Store a job as it is, its version too."""
    connection.execute(_INSERT, (*_columns(job), job.key))


def settle(connection: sqlite3.Connection, file: Path) -> Settled | None:
    """Have every job of a restored file look before it asks; None: the file was not restored.

    One transaction, mark included: a crash leaves the file as it was, and the next one who
    opens it settles it.
    """
    connection.execute("BEGIN IMMEDIATE")
    inode = str(file.stat().st_ino)
    marks = dict(connection.execute("SELECT name, value FROM meta"))
    (jobs,) = connection.execute("SELECT count(*) FROM jobs").fetchone()
    why = marks.get(RESTORED_MARK, "")
    times, last = int(marks.get("opened", 0)), times_opened(file)
    if not why and jobs and marks.get("inode") != inode:
        why = "this file was not made here: somebody copied it"
    if not why and jobs and times < last:
        why = "this file was opened more often than it knows: an older copy took its place"
    now = datetime.now(UTC)
    moved = _after_restore(connection, now) if why else 0
    connection.execute("DELETE FROM meta WHERE name = ?", (RESTORED_MARK,))
    mark(connection, "inode", inode)
    # Before it is committed: a crash in between costs a look too many, never one too few.
    note_opened(file, max(times, last) + 1)
    mark(connection, "opened", str(max(times, last) + 1))
    if why:
        mark(connection, RESTORED_AT, now.isoformat())
    connection.execute("COMMIT")
    return Settled(why=why, jobs=jobs, moved=moved) if why else None


def _after_restore(connection: sqlite3.Connection, now: datetime) -> int:
    order, moved = Order.of(_not_succeeded(connection), now), 0
    for job, after in order.changes(_not_succeeded(connection)):
        connection.execute(_UPDATE, (*_columns(after), job.key, job.version))
        moved += 1
    return moved


def _not_succeeded(connection: sqlite3.Connection) -> Iterator[Job]:
    """One by one: what is being read must not be written to."""
    names = connection.execute(
        "SELECT key FROM jobs WHERE state NOT IN ('SUCCEEDED', 'CANCELLED')"
    ).fetchall()
    for key in names:
        found = connection.execute("SELECT record FROM jobs WHERE key = ?", key).fetchall()
        yield from readable(row[0] for row in found)


def _columns(job: Job) -> tuple[object, ...]:
    return (
        job.version,
        job.due_at.timestamp() if job.due_at else None,
        job.destination,
        job.claim,
        job.follows,
        job.expires_at.timestamp() if job.expires_at else None,
        to_record(job),
        *_shown_columns(job),
    )


def _shown_columns(job: Job) -> tuple[object, ...]:
    return (
        job.request_source,
        job.accepted_at.timestamp(),
        job.state,
        str(job.request.source.at(None)),
        str(job.target) if job.target else None,
        None if job.state.final else job.request_source,
        job.waiting_for,
        job.start_queue,
        job.turn or 0.0,
    )


def _moment(at: datetime | None) -> float | None:
    return at.timestamp() if at else None
