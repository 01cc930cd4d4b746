"""Copies of a SQLite job store: backups, restored ones, exports and imports.

What must not break: a copy is whole or not there, nothing is overwritten that was not asked
for, and every copy has whoever opens it as a store look before anything is asked.
"""

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from model_copier.adapters.export_file import new_part, publish
from model_copier.adapters.sqlite import RESTORED_AT, RESTORED_MARK, connect, mark, put
from model_copier.adapters.sqlite_files import OPENED, beside, outages, prepare, sync, sync_folder
from model_copier.domain.errors import RejectedError
from model_copier.domain.job import Job

_BUSY_SECONDS = 5.0
_BESIDE = ("-wal", "-shm", "-journal", OPENED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    jobs: int
    unfinished: int


def backup(store: Path, file: Path) -> Counts:
    """Copy a store that may be in use, as it is at one moment, into a new file.

    Raises:
        RejectedError: the store is none, or there is such a file.
        UnavailableError: the store cannot be read, or the copy cannot be written.
    """
    with outages(), _existing(store) as source:
        part = new_part(file)
        try:
            with closing(_plain(part)) as copy:
                source.backup(copy)
                copy.execute("PRAGMA journal_mode=DELETE")  # one file, with nothing beside it
                mark(copy, RESTORED_MARK, f"a backup of {_now()}")
                counts = _counts(copy)
            sync(part)
            publish(part, file)
        finally:
            _remove(part)
    return counts


def restore(file: Path, store: Path, *, force: bool) -> tuple[Counts, Path | None]:
    """Put a backup in the place of a store, settled; say where the old one was left.

    Raises:
        RejectedError: the file is no backup, or the store is in use, or has jobs.
        UnavailableError: something cannot be read or written.
    """

    def fill(part: Path) -> None:
        with closing(_plain(part)) as copy:
            source.backup(copy)
            (found,) = copy.execute("PRAGMA integrity_check(1)").fetchone()
            if found != "ok":
                raise RejectedError(f"{_shown(file)} is damaged: {found}. Take an older backup")
            mark(copy, RESTORED_MARK, f"restored from {file.name} on {_now()}")

    with outages(), _existing(file) as source:
        hint = "--force keeps it beside, as {store}.before-TIME"
        return _put_in_place(fill, store, force=force, hint=hint)


def fill_new(store: Path, jobs: Iterable[Job]) -> None:
    """Make a store of these jobs as they are, whole or not at all.

    Raises:
        RejectedError: the store is in use, or has jobs; or two jobs have one key or destination.
        UnavailableError: something cannot be read or written.
    """

    def fill(part: Path) -> None:
        with closing(connect(part, _BUSY_SECONDS)) as copy:
            copy.execute("BEGIN")
            for job in jobs:
                try:
                    put(copy, job)
                except sqlite3.IntegrityError as error:
                    raise RejectedError(
                        f"job {job.key} has the key or the destination of another one"
                    ) from error
            mark(copy, RESTORED_AT, datetime.now(UTC).isoformat())
            copy.execute("COMMIT")

    with outages():
        _put_in_place(fill, store, force=False, hint="import into a new store")


def mark_restored(store: Path) -> Counts:
    """Have the open jobs of a store look before they ask; it is done at once.

    Raises:
        RejectedError: the store is none.
        UnavailableError: the store cannot be written to.
    """
    with outages(), _existing(store) as connection:
        mark(connection, RESTORED_MARK, f"marked as restored on {_now()}")
        counts = _counts(connection)
    connect(store, _BUSY_SECONDS).close()
    return counts


def records_of(store: Path) -> Iterator[bytes]:
    """Every record, by key, as they are at one moment.

    Raises:
        RejectedError: the store is none.
        UnavailableError: the store cannot be read.
    """
    with outages(), _existing(store) as source:
        for (record,) in source.execute("SELECT record FROM jobs ORDER BY key"):
            yield record if isinstance(record, bytes) else str(record).encode()


# The way into place


def _put_in_place(
    fill: Callable[[Path], None], store: Path, *, force: bool, hint: str
) -> tuple[Counts, Path | None]:
    there = _check_place(store, force=force, hint=hint)
    if not there:
        prepare(store.with_name(f".{store.name}.part"))  # the folder
        _remove(store.with_name(f".{store.name}.part"))
    part = store.with_name(f".{store.name}.part-{os.getpid()}")
    try:
        prepare(part)
        fill(part)
        with closing(connect(part, _BUSY_SECONDS)) as copy:
            counts = _counts(copy)
        sync(part)
        old = _keep_beside(store) if there else None
        part.replace(store)
        beside(store, OPENED).unlink(missing_ok=True)  # it is another file's
        sync_folder(store)
    finally:
        _remove(part)
    return counts, old


def _check_place(store: Path, *, force: bool, hint: str) -> bool:
    """Tell whether there is a store that has to be kept; it is folded into one file.

    Raises:
        RejectedError: it may not be replaced.
    """
    if not store.exists():
        return False
    keeps = hint.format(store=_shown(store))
    try:
        with _existing(store) as connection:
            if (jobs := _counts(connection).jobs) and not force:
                raise RejectedError(f"{_shown(store)} holds {jobs} jobs; {keeps}")
            try:
                # Only who has it alone may; whoever has it open holds a lock, idle or not.
                connection.execute("PRAGMA journal_mode=DELETE")
            except sqlite3.OperationalError as error:
                raise RejectedError(
                    f"{_shown(store)} is in use ({error}); stop worker and api first"
                ) from error
    except NotAStoreError as error:
        if not force:
            raise RejectedError(f"{error}; {keeps}") from error
    return True


def _keep_beside(store: Path) -> Path:
    """Give the store that is there another name too; its own is kept until another takes it.

    Were there no store for a moment, a worker would take that for a new one.
    """
    old = store.with_name(f"{store.name}.before-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}")
    os.link(store, old)
    for suffix in _BESIDE:  # SQLite would read them into whatever file has the name
        with suppress(FileNotFoundError):
            beside(store, suffix).replace(beside(old, suffix))
    sync_folder(store)
    return old


class NotAStoreError(RejectedError):
    """The file is something else, or is not there."""


@contextmanager
def _existing(file: Path) -> Iterator[sqlite3.Connection]:
    if not file.is_file():
        raise NotAStoreError(f"{_shown(file)} is not there")
    connection = sqlite3.connect(
        f"{file.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=_BUSY_SECONDS,
        isolation_level=None,
    )
    with closing(connection):
        try:
            found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            tables = {name for (name,) in found}
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise  # locked, or the disk: not what the file is
            raise NotAStoreError(f"{_shown(file)} is no job store: {error}") from error
        if not {"jobs", "meta"} <= tables:
            raise NotAStoreError(f"{_shown(file)} is no job store: it has no jobs")
        yield connection


def _plain(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(file, isolation_level=None)


def _counts(connection: sqlite3.Connection) -> Counts:
    jobs, unfinished = connection.execute(
        "SELECT count(*), count(*) FILTER"
        " (WHERE state NOT IN ('SUCCEEDED', 'FAILED', 'UNKNOWN', 'CANCELLED')) FROM jobs"
    ).fetchone()
    return Counts(jobs=jobs, unfinished=unfinished)


def _remove(part: Path) -> None:
    for file in (part, *(beside(part, suffix) for suffix in _BESIDE)):
        file.unlink(missing_ok=True)


def _shown(file: Path) -> str:
    """A path may hold anything; on a terminal it steers nothing."""
    return ascii(str(file))[1:-1]


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
