"""The files of a SQLite database: who may read them, and whether they are still the same ones.

A database in WAL mode is two files: what was committed lies in ``-wal`` until it is folded in.
If one of them is removed or replaced while a process has it open, that process writes where
nobody will ever read. What must not break: such a write is never taken for one that was done.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from model_copier.domain.errors import UnavailableError

FOR_US_ALONE = 0o600
# Beside a store: how often one of this name was opened.
OPENED = "-opened"


def beside(file: Path, suffix: str) -> Path:
    """Name one of the files that SQLite keeps beside a database, such as ``-wal``."""
    return file.with_name(file.name + suffix)


def prepare(file: Path) -> None:
    """Make the file and its folder where they are missing, for this account alone.

    SQLite gives what it keeps beside the file the same mode.
    """
    for folder in reversed(file.parent.parents):
        folder.mkdir(mode=0o700, exist_ok=True)
    file.parent.mkdir(mode=0o700, exist_ok=True)
    with suppress(FileExistsError):
        # Never opened if it is there: closing it again would drop this process's SQLite locks.
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FOR_US_ALONE))


def times_opened(file: Path) -> int:
    """How often a store of this name was opened, by a note beside it; 0: nobody knows."""
    try:
        return int(beside(file, OPENED).read_text())
    except (FileNotFoundError, ValueError):
        return 0


def note_opened(file: Path, times: int) -> None:
    """Note it outside of the database, which may be put back to what it was."""
    note = os.open(beside(file, OPENED), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, FOR_US_ALONE)
    try:
        os.pwrite(note, f"{times}\n".encode(), 0)  # it never gets shorter
    finally:
        os.close(note)


@dataclass(frozen=True, slots=True)
class Identity:
    """Device and inode of each file: what no other file has while it is open here."""

    database: tuple[int, int]
    wal: tuple[int, int]

    @classmethod
    def of(cls, file: Path) -> Self:
        return cls(_identity(file), _identity(beside(file, "-wal")))

    def check(self, file: Path) -> None:
        """Return if these are still the files that lie there.

        Raises:
            UnavailableError: one of them was removed or replaced, and which.
        """
        for path, known in ((file, self.database), (beside(file, "-wal"), self.wal)):
            try:
                found = _identity(path)
            except FileNotFoundError as error:
                raise UnavailableError(_gone(path, "was removed")) from error
            if found != known:
                raise UnavailableError(_gone(path, "is no longer the file that was opened"))


def _identity(file: Path) -> tuple[int, int]:
    found = os.stat(file)  # noqa: PTH116  at each write: this is the cheap one
    return found.st_dev, found.st_ino


def _gone(path: Path, what: str) -> str:
    return (
        f"job store: {path} {what} while this process had it open; nothing is written any more."
        " Restart worker and api, and restore a backup if jobs are missing"
    )


def fold_in(connection: sqlite3.Connection) -> bool:
    """Move what was committed from ``-wal`` into the database; tell whether all of it was."""
    busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy


def sync(file: Path) -> None:
    """Have what was written into a file on the disk."""
    opened = os.open(file, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def sync_folder(file: Path) -> None:
    """Have the folder's entry of a file on the disk."""
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def outages() -> Iterator[None]:
    """Tell an outage from a broken promise: ``IntegrityError`` is the statement's own answer."""
    try:
        yield
    except sqlite3.IntegrityError:
        raise
    except (sqlite3.Error, OSError) as error:
        raise UnavailableError(f"job store: {error}") from error
