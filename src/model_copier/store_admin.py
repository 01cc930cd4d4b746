"""``model-copier-store``: back up, restore, export and import the job store.

For a person at a terminal, and for scripts (``--output json``). Invariants: nothing is overwritten
without ``--force``, and a restored job looks for its copy in Vertex AI before it requests one.
"""

import argparse
import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, redirect_stdout
from dataclasses import dataclass, field
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from model_copier.adapters import sqlite_copies
from model_copier.adapters.export_file import Sum, read_export, write_export
from model_copier.adapters.job_record import from_record, to_record
from model_copier.adapters.restored import Order
from model_copier.domain.errors import (
    CopierError,
    RejectedError,
    UnavailableError,
    UnreadableRecordError,
)
from model_copier.domain.job import Job
from model_copier.settings import STORE_FORM

if TYPE_CHECKING:
    from model_copier.adapters.firestore_copies import FirestoreCopies

_ABOUT = """\
Back up, restore, export and import the job store of the model copier.

STORE is the value of the setting STORE:
  sqlite:///FILE                                  sqlite:////var/lib/model-copier/jobs.db
  firestore://PROJECT/DATABASE?collection=PREFIX  firestore://serving/jobs

A restored store goes back in time: copies may have been requested since the backup. Each
unfinished request therefore looks for its copy first, and requests one only if none exists.
"""
_EXAMPLES = """\
examples:
  Back up while the worker runs, once an hour:
    model-copier-store backup sqlite:////var/lib/model-copier/jobs.db /backup/jobs-$(date +%H).db
  Restore a backup (stop worker and api first):
    model-copier-store restore /backup/jobs-09.db sqlite:////var/lib/model-copier/jobs.db --force
  Move to Firestore (stop worker and api first, then start them with the new STORE):
    model-copier-store export sqlite:////var/lib/model-copier/jobs.db jobs.jsonl
    model-copier-store import jobs.jsonl firestore://serving/jobs
  Mark a Firestore database that Google's tools restored (before the worker starts):
    model-copier-store mark-restored firestore://serving/jobs

exit codes: 0 done; 1 not done, try again later; 2 usage error; 3 refused, nothing changed: a
file or a store would be overwritten, or the file is invalid.
"""
_CALL_SECONDS = 30.0
# Of an import: written together.
_TOGETHER = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The result of a command: a sentence for people, facts for scripts."""

    sentence: str
    facts: dict[str, Any] = field(default_factory=dict)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; the exit code."""
    asked = _parser().parse_args(arguments)
    try:
        with redirect_stdout(sys.stderr):  # logs are for people
            done: Done = asyncio.run(asked.run(asked))
    except RejectedError as error:
        return _not_done(asked, 3, str(error))
    except (CopierError, OSError) as error:
        return _not_done(asked, 1, str(error))
    facts = {"command": asked.command, **done.facts}
    print(json.dumps(facts) if asked.output == "json" else done.sentence)  # noqa: T201
    return 0


def _not_done(asked: argparse.Namespace, code: int, why: str) -> int:
    if asked.output == "json":
        print(json.dumps({"command": asked.command, "error": why}))  # noqa: T201
    print(f"model-copier-store {asked.command}: {_shown(why)}", file=sys.stderr)  # noqa: T201
    return code


class _Parser(argparse.ArgumentParser):
    """Suggests the nearest choice for a mistyped one, as Python 3.14 does itself."""

    def error(self, message: str) -> NoReturn:
        found = re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message)
        known = re.findall(r"[\w-]+", found[2]) if found else []
        near = get_close_matches(found[1], known, n=1, cutoff=0.5) if found else []
        super().error(message + (f". Did you mean '{near[0]}'?" if near else ""))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="model-copier-store",
        description=_ABOUT,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Any, about: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=about, description=about)
        added.add_argument(
            "--output",
            choices=["text", "json"],
            default="text",
            help="format of standard output (default: text)",
        )
        added.set_defaults(run=run)
        return added

    backup = command(
        "backup", _backup, "Copy a SQLite store to a new file (mode 0600); workers may run."
    )
    backup.add_argument("store", type=_store, metavar="STORE")
    backup.add_argument("file", type=Path, metavar="FILE", help="new file; never overwritten")
    restore = command(
        "restore", _restore, "Replace a SQLite store by a backup; stop the workers first."
    )
    restore.add_argument("file", type=Path, metavar="FILE", help="a backup")
    restore.add_argument("store", type=_store, metavar="STORE")
    restore.add_argument(
        "--force",
        action="store_true",
        help="replace a store that has jobs; the old file is kept as FILE.before-TIME",
    )
    export = command(
        "export", _export, "Write every job of a store to a new file, as JSON Lines (mode 0600)."
    )
    export.add_argument("store", type=_store, metavar="STORE")
    export.add_argument("file", type=Path, metavar="FILE", help="new file; never overwritten")
    imported = command(
        "import",
        _import,
        "Fill an empty store from an export; stop the workers first. After an interruption, run it"
        " again.",
    )
    imported.add_argument("file", type=Path, metavar="FILE", help="an export")
    imported.add_argument("store", type=_store, metavar="STORE")
    marked = command(
        "mark-restored",
        _mark_restored,
        "Mark a store that went back in time: after an import by Google's tools, a point-in-time"
        " recovery, or a file copied by hand.",
    )
    marked.add_argument("store", type=_store, metavar="STORE")
    return parser


def _store(text: str) -> str:
    if not STORE_FORM.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{_shown(text)} should be sqlite:///FILE or"
            " firestore://PROJECT/DATABASE?collection=PREFIX"
        )
    return text


def _file_of(asked: argparse.Namespace) -> Path:
    """The file of a command that is for SQLite alone."""
    if (file := _sqlite_file(asked.store)) is None:
        raise RejectedError(
            f"{asked.command} is for SQLite. For Firestore use `gcloud firestore export` or a"
            " backup schedule, and `model-copier-store mark-restored` after the restore;"
            " or `model-copier-store export`"
        )
    return file


def _sqlite_file(store: str) -> Path | None:
    return Path(store.removeprefix("sqlite:///")) if store.startswith("sqlite:") else None


# The commands


async def _backup(asked: argparse.Namespace) -> Done:
    counts = sqlite_copies.backup(_file_of(asked), asked.file)
    return Done(
        sentence=f"Backed up {counts.jobs} jobs, {counts.unfinished} of them unfinished, to"
        f" {_shown(asked.file)}.",
        facts={"file": str(asked.file), "jobs": counts.jobs, "unfinished": counts.unfinished},
    )


async def _restore(asked: argparse.Namespace) -> Done:
    counts, old = sqlite_copies.restore(asked.file, _file_of(asked), force=asked.force)
    kept = f" The old store is kept as {_shown(old)}." if old else ""
    return Done(
        sentence=f"Restored {counts.jobs} jobs. The {counts.unfinished} unfinished ones look for"
        f" their copy before they request one. Start worker and api.{kept}",
        facts={
            "jobs": counts.jobs,
            "unfinished": counts.unfinished,
            "kept": str(old) if old else None,
        },
    )


async def _export(asked: argparse.Namespace) -> Done:
    total = await write_export(asked.file, _records(asked.store), datetime.now(UTC))
    return Done(
        sentence=f"Exported {total.jobs} jobs to {_shown(asked.file)}; sha256 {total.digest}.",
        facts={"file": str(asked.file), "jobs": total.jobs, "sha256": total.digest},
    )


async def _import(asked: argparse.Namespace) -> Done:
    read = Sum()
    for record in read_export(asked.file):  # all of it, before anything is written
        read.add(record)
        try:
            from_record(record)
        except UnreadableRecordError as error:
            raise RejectedError(
                f"record {read.jobs}: {error}; import it with that version"
            ) from error
    file = _sqlite_file(asked.store)
    if file is not None:
        order = Order.of(_jobs_of(asked.file), datetime.now(UTC))
        sqlite_copies.fill_new(file, _settled(asked.file, order))
        jobs = await _verify(asked.store, _settled(asked.file, order))
    else:
        jobs = await _into_firestore(asked, read.digest)
    left = f" Skipped {read.jobs - jobs} expired jobs." if read.jobs > jobs else ""
    return Done(
        sentence=f"Imported {jobs} jobs and read them back.{left} Start worker and api with the"
        " new STORE. Unfinished requests look for their copy before they request one.",
        facts={"jobs": jobs, "expired": read.jobs - jobs, "sha256": read.digest},
    )


async def _into_firestore(asked: argparse.Namespace, digest: str) -> int:
    async with _firestore(asked.store) as copies:
        began = await copies.begin_import(digest)
        order = Order.of(_jobs_of(asked.file), began.began_at)
        together: list[Job] = []
        for job in _settled(asked.file, order):
            together.append(job)
            if len(together) == _TOGETHER:
                await copies.add(together)
                together.clear()
        await copies.add(together)
        jobs = await _verify(asked.store, _settled(asked.file, order))
        await copies.end_import()
        return jobs


async def _mark_restored(asked: argparse.Namespace) -> Done:
    if (file := _sqlite_file(asked.store)) is not None:
        counts = sqlite_copies.mark_restored(file)
        jobs = counts.jobs
    else:
        async with _firestore(asked.store) as copies:
            await copies.mark_restored(f"marked as restored on {datetime.now(UTC):%Y-%m-%d %H:%M}")
            settled, _ = await copies.settle(datetime.now(UTC))
            jobs = settled.jobs if settled else 0
    return Done(
        sentence=f"Marked {jobs} jobs as restored. Unfinished ones look for their copy before they"
        " request one.",
        facts={"jobs": jobs},
    )


# Records


def _records(store: str) -> AsyncIterator[bytes]:
    file = _sqlite_file(store)
    return _of_firestore(store) if file is None else _of_sqlite(file)


async def _of_sqlite(file: Path) -> AsyncIterator[bytes]:
    for record in sqlite_copies.records_of(file):
        yield record


async def _of_firestore(store: str) -> AsyncIterator[bytes]:
    async with _firestore(store) as copies:
        async for record in copies.records():
            yield record


def _jobs_of(file: Path) -> Iterator[Job]:
    return map(from_record, read_export(file))


def _settled(file: Path, order: Order) -> Iterator[Job]:
    for job in _jobs_of(file):
        if job.expires_at is None or job.expires_at > order.now:
            yield order.settled(job)


async def _verify(store: str, jobs: Iterator[Job]) -> int:
    """Read everything back, and return how many there are.

    Raises:
        UnavailableError: it is not what was written.
    """
    written, found = Sum(), Sum()
    for job in jobs:
        written.add(to_record(job))
    async for record in _records(store):
        found.add(record)
    if (found.jobs, found.digest) != (written.jobs, written.digest):
        raise UnavailableError(
            f"{written.jobs} jobs were written and {found.jobs} read back, or their content"
            " differs: another process wrote to the store. Do not start the worker on it"
        )
    return found.jobs


@asynccontextmanager
async def _firestore(store: str) -> AsyncIterator["FirestoreCopies"]:
    """A store to be dealt with as a whole; Google's client is imported only here."""
    from google.api_core.exceptions import GoogleAPICallError  # noqa: PLC0415
    from google.auth.exceptions import GoogleAuthError  # noqa: PLC0415

    from model_copier.adapters.firestore import FirestoreJobStore  # noqa: PLC0415
    from model_copier.adapters.firestore_copies import FirestoreCopies  # noqa: PLC0415
    from model_copier.adapters.firestore_documents import Place  # noqa: PLC0415

    place = Place.parse(store)
    opened = FirestoreJobStore.open(place, clock=_Now(), call_seconds=_CALL_SECONDS)
    try:
        yield FirestoreCopies(opened, seconds=_CALL_SECONDS)
    except (GoogleAPICallError, GoogleAuthError) as error:
        raise UnavailableError(f"job store: {error}") from error
    finally:
        await opened.close()


class _Now:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return self.now().timestamp()


def _shown(text: object) -> str:
    """Escape control characters in text that others wrote."""
    return ascii(str(text))[1:-1]


if __name__ == "__main__":
    sys.exit(main())
