"""``model-copier-store``: copies of a store, over SQLite and Google's Firestore emulator."""

# Blocking is what a command does, and what a test of files may do:

import asyncio
import json
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from model_copier import store_admin
from model_copier.adapters.firestore import FirestoreJobStore
from model_copier.adapters.firestore_copies import FirestoreCopies
from model_copier.adapters.firestore_documents import Place
from model_copier.adapters.restored import Order
from model_copier.adapters.sqlite import SqliteJobStore
from model_copier.domain.errors import Code, DestinationTakenError, Failure, UnavailableError
from model_copier.domain.job import Job
from simulators import START, SimulatedClock
from stores import files_that_may_not_grow_over, holding, job, new_place, requested

FAILURE = Failure(code=Code.NOT_FOUND, message="no")


def jobs() -> list[Job]:
    """One of each kind, with the destinations apart."""
    asked = requested(job("asked"), "1")
    made = requested(job("made"))
    return [
        job("new"),
        replace(holding(job("waits")), holds_destination=False),
        asked,
        made.succeeded(datetime.now(UTC), model_version="2", verified=True).announced(START),
        job("failed").failed(START, FAILURE),
    ]


def expected(stored: Job) -> tuple[Any, ...]:
    """What a restored job must be."""
    if stored.state.final:
        return (stored.state, stored.run, None, stored.due_at, stored.reply_sent)
    return (stored.state, stored.run + 1, stored.destination, stored.call is None, "")


def seen(after: Job) -> tuple[Any, ...]:
    if after.state.final:
        return (after.state, after.run, after.destination, after.due_at, after.reply_sent)
    assert after.restored
    return (after.state, after.run, after.destination, after.call is None, after.operation)


class Store:
    """A store to be dealt with by command."""

    def __init__(self, url: str) -> None:
        self.url = url

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Any]:
        if self.url.startswith("sqlite:"):
            file = Path(self.url.removeprefix("sqlite:///"))
            opened: Any = await SqliteJobStore.open(file, busy_seconds=5)
        else:
            place = Place.parse(self.url)
            opened = FirestoreJobStore.open(place, clock=SimulatedClock(), call_seconds=20)
        yield opened
        await opened.close()

    async def fill(self) -> dict[str, Job]:
        async with self.open() as store:
            return {each.key: await store.create(each) for each in jobs()}

    async def jobs(self) -> dict[str, Job]:
        async with self.open() as store:
            return {each.key: await store.get(each.key) for each in jobs()}


@pytest.fixture
def sqlite_at(tmp_path: Path) -> Store:
    return Store(f"sqlite:///{tmp_path / 'jobs.db'}")


@pytest.fixture
def firestore_at(firestore: str, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore)
    place = new_place()
    return Store(f"firestore://{place.project}/{place.database}")


def names_in(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir()]


async def run(*arguments: object, code: int = 0) -> dict[str, Any]:
    """Run the command as a process of its own, and read what it tells a script."""
    command = [sys.executable, "-m", "model_copier.store_admin", *map(str, arguments)]
    ended = await asyncio.create_subprocess_exec(
        *command, "--output", "json", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, errors = await ended.communicate()
    assert ended.returncode == code, errors.decode()
    assert b"Traceback" not in errors
    told: dict[str, Any] = json.loads(out)
    return told


async def test_a_backup_that_is_restored_looks_first(sqlite_at: Store, tmp_path: Path):
    before = await sqlite_at.fill()
    told = await run("backup", sqlite_at.url, tmp_path / "backup.db")

    again = Store(f"sqlite:///{tmp_path / 'new' / 'jobs.db'}")
    restored = await run("restore", tmp_path / "backup.db", again.url)

    assert (told["jobs"], told["unfinished"]) == (5, 3)
    assert (restored["jobs"], restored["unfinished"], restored["kept"]) == (5, 3, None)
    after = await again.jobs()
    assert {key: seen(each) for key, each in after.items()} == {
        key: expected(each) for key, each in before.items()
    }
    assert sorted(names_in(tmp_path / "new")) == ["jobs.db", "jobs.db-opened"]
    assert (tmp_path / "backup.db").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "new" / "jobs.db").stat().st_mode & 0o777 == 0o600


async def test_a_backup_put_in_place_by_hand_looks_first(sqlite_at: Store, tmp_path: Path):
    """``cp`` over the very file: it keeps its inode, and the mark of the backup tells."""
    await sqlite_at.fill()
    await run("backup", sqlite_at.url, tmp_path / "backup.db")

    (tmp_path / "jobs.db").write_bytes((tmp_path / "backup.db").read_bytes())

    assert (await sqlite_at.jobs())["asked"].restored
    once = await sqlite_at.jobs()
    assert once == await sqlite_at.jobs()  # settled once, not at each start


async def test_a_crash_while_it_is_settled_settles_it_again(sqlite_at: Store, tmp_path: Path):
    """The mark goes in the transaction that moves the jobs."""
    before = await sqlite_at.fill()
    await run("backup", sqlite_at.url, tmp_path / "backup.db")
    (tmp_path / "jobs.db").write_bytes((tmp_path / "backup.db").read_bytes())
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as broken:
        broken.execute(
            "CREATE TRIGGER crash BEFORE DELETE ON meta BEGIN SELECT RAISE(FAIL, 'crash'); END"
        )
    with pytest.raises(sqlite3.IntegrityError, match="crash"):
        async with sqlite_at.open():
            pass
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as broken:
        versions = dict(broken.execute("SELECT key, version FROM jobs"))
        broken.execute("DROP TRIGGER crash")

    after = await sqlite_at.jobs()

    assert versions == {key: each.version for key, each in before.items()}
    assert after["asked"].restored


async def test_nothing_is_overwritten_unasked(sqlite_at: Store, tmp_path: Path):
    before = await sqlite_at.fill()
    backup = tmp_path / "backup.db"
    await run("backup", sqlite_at.url, backup)
    whole = backup.read_bytes()

    again = await run("backup", sqlite_at.url, backup, code=3)
    full = await run("restore", backup, sqlite_at.url, code=3)

    assert "is there already" in again["error"]
    assert backup.read_bytes() == whole
    assert "holds 5 jobs" in full["error"]
    assert await sqlite_at.jobs() == before


async def test_what_is_replaced_is_kept_beside(sqlite_at: Store, tmp_path: Path):
    await sqlite_at.fill()
    await run("backup", sqlite_at.url, tmp_path / "backup.db")
    async with sqlite_at.open() as store:
        later = await store.create(job("later"))

    told = await run("restore", tmp_path / "backup.db", sqlite_at.url, "--force")

    async with Store(f"sqlite:///{told['kept']}").open() as old:
        assert await old.get("later") == later
    async with sqlite_at.open() as store:
        assert await store.get("later") is None


async def test_a_store_in_use_is_not_replaced(sqlite_at: Store, tmp_path: Path):
    await sqlite_at.fill()
    await run("backup", sqlite_at.url, tmp_path / "backup.db")

    async with sqlite_at.open() as store:
        told = await run("restore", tmp_path / "backup.db", sqlite_at.url, "--force", code=3)
        await store.create(job("later"))

    assert "is in use" in told["error"]
    assert not [name for name in names_in(tmp_path) if "before" in name]


@pytest.mark.parametrize("there", [b"", b"something else entirely, and long enough to be read"])
async def test_what_is_no_backup_is_refused(sqlite_at: Store, tmp_path: Path, there):
    before = await sqlite_at.fill()
    (tmp_path / "other").write_bytes(there)

    told = await run("restore", tmp_path / "other", sqlite_at.url, "--force", code=3)
    missing = await run("restore", tmp_path / "none", sqlite_at.url, "--force", code=3)

    assert "is no job store" in told["error"]
    assert "is not there" in missing["error"]
    assert await sqlite_at.jobs() == before


async def test_a_damaged_backup_is_refused(sqlite_at: Store, tmp_path: Path):
    async with sqlite_at.open() as store:
        for number in range(200):
            await store.create(job(f"{number}"))
    await run("backup", sqlite_at.url, tmp_path / "backup.db")
    damaged = bytearray((tmp_path / "backup.db").read_bytes())
    damaged[20_000:60_000] = bytes(40_000)
    (tmp_path / "damaged.db").write_bytes(damaged)

    command = ("restore", tmp_path / "damaged.db", f"sqlite:///{tmp_path / 'new.db'}")
    ended = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "model_copier.store_admin", *map(str, command),
        stderr=subprocess.PIPE,
    )  # fmt: skip
    _, errors = await ended.communicate()

    assert ended.returncode in {1, 3}
    assert b"damaged" in errors or b"malformed" in errors
    assert not (tmp_path / "new.db").exists()


async def test_a_backup_is_whole_while_others_write(sqlite_at: Store, tmp_path: Path):
    """Each write takes one destination and leaves another, so a torn copy would show."""
    stop = asyncio.Event()

    async def write(store: SqliteJobStore, name: str) -> int:
        number = 0
        while not stop.is_set():
            await store.create(job(f"{name}-{number}"))
            number += 1
        return number

    async with sqlite_at.open() as one, sqlite_at.open() as other:
        writers = [
            asyncio.create_task(write(store, name)) for name, store in (("a", one), ("b", other))
        ]
        backups = [tmp_path / f"{number}.db" for number in range(3)]
        told = [await run("backup", sqlite_at.url, backup) for backup in backups]
        stop.set()
        written = sum(await asyncio.gather(*writers))

    counts = [each["jobs"] for each in told]
    assert counts == sorted(counts)
    assert 0 < counts[-1] <= written
    for backup, count in zip(backups, counts, strict=True):
        with closing(sqlite3.connect(backup)) as there:
            keys = {key for (key,) in there.execute("SELECT key FROM jobs")}
        assert len(keys) == count
        for name in "ab":  # what one writer wrote is there up to some moment, without a gap
            own = {key for key in keys if key.startswith(name)}
            assert own == {f"{name}-{number}" for number in range(len(own))}


async def test_a_full_disk_leaves_no_half_backup(sqlite_at: Store, tmp_path: Path, capsys):
    async with sqlite_at.open() as store:
        for number in range(100):
            await store.create(job(f"{number}"))
    (tmp_path / "backups").mkdir()

    with files_that_may_not_grow_over(20_000):
        code = await asyncio.to_thread(
            store_admin.main, ["backup", sqlite_at.url, str(tmp_path / "backups" / "b.db")]
        )

    assert code == 1
    assert "disk" in capsys.readouterr().err
    assert names_in(tmp_path / "backups") == []


async def test_an_export_goes_to_firestore_and_back(
    sqlite_at: Store, firestore_at: Store, tmp_path: Path
):
    before = await sqlite_at.fill()
    told = await run("export", sqlite_at.url, tmp_path / "there.jsonl")

    there = await run("import", tmp_path / "there.jsonl", firestore_at.url)
    moved = await firestore_at.jobs()
    await run("export", firestore_at.url, tmp_path / "back.jsonl")
    back = Store(f"sqlite:///{tmp_path / 'back.db'}")
    await run("import", tmp_path / "back.jsonl", back.url)

    assert there["sha256"] == told["sha256"]
    for key, stored in before.items():
        assert seen(moved[key]) == expected(stored)
        assert moved[key].version == stored.version
    for key, again in (await back.jobs()).items():
        assert seen(again) == expected(moved[key])
    async with firestore_at.open() as store:
        fresh = await store.create(job("fresh"))
        with pytest.raises(DestinationTakenError):  # the lock came along
            await store.save(holding(fresh))


async def test_what_has_expired_is_left_out(sqlite_at: Store, tmp_path: Path):
    async with sqlite_at.open() as store:
        await store.create(job("old", due_at=None, expires_at=START))
        await store.create(job("new"))
    await run("export", sqlite_at.url, tmp_path / "export.jsonl")

    told = await run("import", tmp_path / "export.jsonl", f"sqlite:///{tmp_path / 'new.db'}")

    assert (told["jobs"], told["expired"]) == (1, 1)


async def test_an_import_wants_an_empty_store(
    sqlite_at: Store, firestore_at: Store, tmp_path: Path
):
    await sqlite_at.fill()
    before = await firestore_at.fill()
    await run("export", sqlite_at.url, tmp_path / "export.jsonl")

    into_sqlite = await run("import", tmp_path / "export.jsonl", sqlite_at.url, code=3)
    into_firestore = await run("import", tmp_path / "export.jsonl", firestore_at.url, code=3)

    assert "holds 5 jobs" in into_sqlite["error"]
    assert "there are jobs in this store" in into_firestore["error"]
    assert await firestore_at.jobs() == before


@pytest.mark.parametrize("cut", [1, 2, 4, 6])
async def test_an_export_that_was_cut_off_is_refused(sqlite_at: Store, tmp_path: Path, cut):
    await sqlite_at.fill()
    await run("export", sqlite_at.url, tmp_path / "export.jsonl")
    lines = (tmp_path / "export.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "cut.jsonl").write_text("".join(lines[:cut]))
    (tmp_path / "torn.jsonl").write_text("".join(lines[:cut]) + lines[cut][:-5])

    for name in ("cut", "torn"):
        target = f"sqlite:///{tmp_path / 'new.db'}"
        await run("import", tmp_path / f"{name}.jsonl", target, code=3)

    assert not (tmp_path / "new.db").exists()


async def test_an_edited_export_is_refused(sqlite_at: Store, tmp_path: Path):
    await sqlite_at.fill()
    await run("export", sqlite_at.url, tmp_path / "export.jsonl")
    text = (tmp_path / "export.jsonl").read_text()
    (tmp_path / "edited.jsonl").write_text(text.replace("request-new", "request-old"))

    told = await run("import", tmp_path / "edited.jsonl", f"sqlite:///{tmp_path / 'n'}", code=3)

    assert "is not whole" in told["error"]


async def test_an_import_that_was_cut_off_carries_on(
    sqlite_at: Store, firestore_at: Store, tmp_path: Path
):
    """Until it has ended, no worker takes the store for a whole one."""
    before = await sqlite_at.fill()
    told = await run("export", sqlite_at.url, tmp_path / "export.jsonl")
    async with firestore_at.open() as store:
        copies = FirestoreCopies(store, seconds=20)
        began = await copies.begin_import(told["sha256"])
        order = Order.of(before.values(), began.began_at)
        await copies.add([order.settled(before["asked"])])
    async with firestore_at.open() as store:
        with pytest.raises(UnavailableError, match="an import into it has not ended"):
            await store.get("asked")

    await run("import", tmp_path / "export.jsonl", firestore_at.url)

    after = await firestore_at.jobs()
    assert {key: seen(each) for key, each in after.items()} == {
        key: expected(each) for key, each in before.items()
    }


@pytest.mark.parametrize("kind", ["sqlite", "firestore"])
async def test_a_marked_store_looks_first(request: pytest.FixtureRequest, kind):
    store: Store = request.getfixturevalue(f"{kind}_at")
    before = await store.fill()

    await run("mark-restored", store.url)

    after = await store.jobs()
    assert {key: seen(each) for key, each in after.items()} == {
        key: expected(each) for key, each in before.items()
    }
    assert after["failed"].restored  # a replay of it looks first
    assert after["made"] == before["made"]


async def test_a_mark_outlives_who_set_it(firestore_at: Store, capsys):
    """The command dies right after it marked the store; a worker settles it, once."""
    before = await firestore_at.fill()
    async with firestore_at.open() as store:
        await FirestoreCopies(store, seconds=20).mark_restored("why")

    async with firestore_at.open() as one, firestore_at.open() as other:
        found = await asyncio.gather(*(each.get("asked") for each in (one, other)))

    assert found[0] == found[1]
    assert found[0].version == before["asked"].version + 1
    assert "store_restored" in capsys.readouterr().out
    assert await firestore_at.jobs() == await firestore_at.jobs()


async def test_a_backup_is_for_sqlite(tmp_path: Path):
    told = await run("backup", "firestore://serving/jobs", tmp_path / "b", code=3)

    assert "gcloud firestore export" in told["error"]


def test_help_teaches_the_way(capsys):
    with pytest.raises(SystemExit):
        store_admin.main(["--help"])

    told = capsys.readouterr().out
    for word in ("backup", "restore", "export", "import", "mark-restored", "exit codes", "%H"):
        assert word in told


@pytest.mark.parametrize("store", ["jobs.db", "sqlite://", "redis://a/b"])
def test_a_store_that_is_none_is_wrong_usage(store, capsys):
    with pytest.raises(SystemExit) as ended:
        store_admin.main(["mark-restored", store])

    assert ended.value.code == 2
    assert "should be sqlite:///FILE" in capsys.readouterr().err


def test_what_is_printed_steers_no_terminal(tmp_path: Path, capsys):
    assert store_admin.main(["backup", f"sqlite:///{tmp_path}/\x1b[2J", str(tmp_path / "b")]) == 3

    assert "\x1b" not in capsys.readouterr().err
