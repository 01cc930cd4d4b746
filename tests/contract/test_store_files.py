"""The files of a SQLite job store: removed, replaced, copied, hung; and who may read them."""

# Blocking is what a command does, and what a test of files may do:
# ruff: noqa: ASYNC240

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from model_copier.adapters import one_thread
from model_copier.adapters.one_thread import OneThread
from model_copier.adapters.sqlite import SqliteJobStore
from model_copier.domain.errors import JobExistsError, UnavailableError
from model_copier.domain.job import State
from simulators import START
from stores import job, requested


async def opened(file: Path, **limits: float) -> SqliteJobStore:
    return await SqliteJobStore.open(file, **{"busy_seconds": 5, **limits})


@pytest.mark.parametrize("lost", ["jobs.db", "jobs.db-wal"])
async def test_a_removed_file_takes_no_writes(tmp_path: Path, lost):
    """What is written to a removed file, no process would ever read."""
    store = await opened(tmp_path / "jobs.db")
    stored = await store.create(job("before"))
    (tmp_path / lost).unlink()

    with pytest.raises(UnavailableError, match=f"{lost} was removed"):
        await store.create(job("after"))
    with pytest.raises(UnavailableError, match="Restart worker and api"):
        await store.save(replace(stored, retries=1))

    await store.close()


@pytest.mark.parametrize("lost", ["jobs.db", "jobs.db-wal"])
async def test_a_replaced_file_takes_no_writes(tmp_path: Path, lost):
    store = await opened(tmp_path / "jobs.db")
    copy = tmp_path / "copy"
    shutil.copy(tmp_path / lost, copy)
    copy.replace(tmp_path / lost)

    with pytest.raises(UnavailableError, match=f"{lost} is no longer the file"):
        await store.create(job())

    await store.close()


async def test_an_orphan_leaves_its_successor_alone(tmp_path: Path):
    """Closing a database whose WAL was replaced would fold old pages into the new one."""
    orphan = await opened(tmp_path / "jobs.db")
    await orphan.create(job("before"))
    for file in tmp_path.iterdir():
        file.unlink()
    successor = await opened(tmp_path / "jobs.db")
    after = await successor.create(job("after"))

    await orphan.close()

    assert await successor.get("after") == after
    await successor.close()
    again = await opened(tmp_path / "jobs.db")
    assert await again.get("after") == after
    await again.close()


async def test_what_was_closed_is_one_whole_file(tmp_path: Path):
    store = await opened(tmp_path / "jobs.db")
    await store.create(job())

    await store.close()

    assert sorted(file.name for file in tmp_path.iterdir()) == ["jobs.db", "jobs.db-opened"]
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as there:
        assert there.execute("SELECT key FROM jobs").fetchall() == [("a",)]
    with pytest.raises(UnavailableError, match="closed"):
        await store.get("a")
    await store.close()


async def test_the_files_are_for_this_account_alone(tmp_path: Path):
    store = await opened(tmp_path / "one" / "two" / "jobs.db")
    await store.create(job())

    made = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}

    assert made == {
        "one": 0o700,
        "two": 0o700,
        "jobs.db": 0o600,
        "jobs.db-wal": 0o600,
        "jobs.db-shm": 0o600,
        "jobs.db-opened": 0o600,
    }
    await store.close()


LOCKER = """
import sqlite3, sys
held = sqlite3.connect(sys.argv[1], isolation_level=None)
held.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.readline()
"""


async def test_a_store_that_hangs_answers_in_time(tmp_path: Path):
    """Another process holds the database; SQLite would wait for it for 30 s, in its thread."""
    store = await opened(tmp_path / "jobs.db", busy_seconds=30, call_seconds=2)
    locker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", LOCKER, str(tmp_path / "jobs.db"),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert locker.stdout is not None
    await locker.stdout.readline()
    began, threads = time.monotonic(), threading.active_count()

    answers = await asyncio.gather(
        *(store.create(job(str(number))) for number in range(1500)), return_exceptions=True
    )
    with pytest.raises(UnavailableError, match="no answer in 2 s"):
        await store.get("0")

    assert {type(answer) for answer in answers} == {UnavailableError}
    assert sum("calls wait already" in str(answer) for answer in answers) > 0
    assert time.monotonic() - began < 15
    assert threading.active_count() <= threads
    await locker.communicate(b"\n")
    await _until_it_answers(store)
    # What had begun was done after all, and is seen; what waited behind it was not.
    with pytest.raises(JobExistsError):
        await store.create(job("0"))
    assert await store.get("1") is None
    await store.close()


async def _until_it_answers(store: SqliteJobStore) -> None:
    async with asyncio.timeout(40):
        while True:
            try:
                await store.get("0")
            except UnavailableError:
                await asyncio.sleep(0.02)
            else:
                return


async def test_who_asks_a_hung_thread_is_told_at_once():
    thread, gate = OneThread("it", seconds=0.1), threading.Event()
    with pytest.raises(UnavailableError, match=r"no answer in 0\.1 s"):
        await thread.run(gate.wait)
    began = time.monotonic()

    for _ in range(2 * one_thread.MOST_WAITING):
        with pytest.raises(UnavailableError, match="no answer"):
            await thread.run(int)

    assert time.monotonic() - began < 2
    gate.set()
    async with asyncio.timeout(10):
        while True:
            try:
                assert await thread.run(int) == 0
                break
            except UnavailableError:
                await asyncio.sleep(0.01)
    thread.end()


async def test_a_copied_file_looks_before_it_asks(tmp_path: Path, capsys):
    """As after a power cut: all three files, copied while a worker had them open."""
    store = await opened(tmp_path / "jobs.db")
    asked = await store.save(requested(await store.create(job("asked")), "1"))
    ended = await store.create(
        requested(job("ended")).succeeded(START, model_version="2", verified=True)
    )
    (tmp_path / "copy").mkdir()
    for file in tmp_path.glob("jobs.db*"):
        shutil.copy(file, tmp_path / "copy")

    copy = await opened(tmp_path / "copy" / "jobs.db")

    after = await copy.get("asked")
    assert after is not None
    assert after.call is not None
    assert (after.state, after.call.known_versions) == (State.REQUESTED, ("1",))
    assert after.restored
    assert (after.version, after.run) == (asked.version + 1, asked.run + 1)
    assert after.destination == asked.destination
    assert await copy.get("ended") == ended
    assert "store_restored" in capsys.readouterr().out
    await copy.close()
    again = await opened(tmp_path / "copy" / "jobs.db")
    assert await again.get("asked") == after
    assert await store.get("asked") == asked
    await again.close()
    await store.close()


async def test_restored_jobs_keep_their_order(tmp_path: Path):
    store = await opened(tmp_path / "jobs.db")
    for number, key in enumerate("cab"):
        await store.create(job(key, run_started_at=START.replace(minute=number)))
    await store.close()
    shutil.copy(tmp_path / "jobs.db", tmp_path / "copy.db")

    copy = await opened(tmp_path / "copy.db")

    moments = {key: (await copy.get(key)).run_started_at for key in "abc"}  # type: ignore[union-attr]
    assert sorted(moments, key=moments.__getitem__) == ["c", "a", "b"]
    await copy.close()


async def test_an_older_copy_in_its_place_looks(tmp_path: Path, capsys):
    """``cp`` before an upgrade, and ``cp`` back: the same inode, and no mark of a backup."""
    store = await opened(tmp_path / "jobs.db")
    await store.create(job())
    await store.close()
    shutil.copy2(tmp_path / "jobs.db", tmp_path / "before.db")
    store = await opened(tmp_path / "jobs.db")
    await store.create(job("since"))
    await store.close()
    assert "store_restored" not in capsys.readouterr().out
    shutil.copy2(tmp_path / "before.db", tmp_path / "jobs.db")

    back = await opened(tmp_path / "jobs.db")

    after = await back.get("a")
    assert after is not None
    assert after.restored
    assert "an older copy took its place" in capsys.readouterr().out
    await back.close()
    again = await opened(tmp_path / "jobs.db")
    assert await again.get("a") == after
    await again.close()


async def test_a_file_that_moved_is_not_a_copy(tmp_path: Path, capsys):
    store = await opened(tmp_path / "jobs.db")
    stored = await store.create(job())
    await store.close()
    os.rename(tmp_path / "jobs.db", tmp_path / "moved.db")  # noqa: PTH104

    moved = await opened(tmp_path / "moved.db")

    assert await moved.get("a") == stored
    assert "store_restored" not in capsys.readouterr().out
    await moved.close()
