"""What every job store promises (``ports.JobStore``), over the simulated one, SQLite, Firestore."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from model_copier.adapters import sqlite as adapter
from model_copier.adapters.firestore_documents import name_of
from model_copier.adapters.job_record import to_record
from model_copier.adapters.sqlite import SqliteJobStore
from model_copier.domain.copy_request import Original
from model_copier.domain.errors import (
    Code,
    DestinationTakenError,
    Failure,
    JobExistsError,
    StaleJobError,
    UnavailableError,
    UnreadableRecordError,
)
from model_copier.domain.job import Job, State
from model_copier.engine.ports import Wanted
from simulators import START, SimulatedStore
from stores import (
    LATEST,
    TIMING,
    files_that_may_not_grow_over,
    firestore_store,
    holding,
    job,
    overwrite,
    requested,
    resolved,
)


@pytest.fixture(params=["simulated", "sqlite", "firestore"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Any]:
    match request.param:
        case "simulated":
            yield SimulatedStore()
        case "sqlite":
            opened = await SqliteJobStore.open(tmp_path / "jobs.db", busy_seconds=5)
            yield opened
            await opened.close()
        case "firestore":
            async with firestore_store(request.getfixturevalue("firestore")) as emulated:
                yield emulated


async def test_a_job_comes_back_as_it_was_stored(store):
    failure = Failure(code=Code.NOT_FOUND, message="no such model", hint="look")
    full = requested(job(), "1", "2").failed(START, failure)

    stored = await store.create(full)

    assert stored == replace(full, version=1)
    assert await store.get("a") == stored


async def test_an_unknown_key_is_nothing(store):
    assert await store.get("nobody") is None


async def test_a_key_is_stored_once(store):
    await store.create(job())

    with pytest.raises(JobExistsError):
        await store.create(job())


async def test_of_two_saves_of_one_version_the_second_is_stale(store):
    read = await store.create(job())
    await store.save(replace(read, retries=1))

    with pytest.raises(StaleJobError):
        await store.save(replace(read, retries=2))

    assert (await store.get("a")).retries == 1


async def test_a_save_never_makes_a_record_anew(store):
    gone = replace(job(), version=1)

    with pytest.raises(StaleJobError):
        await store.save(gone)

    assert await store.get("a") is None


async def test_one_unfinished_job_holds_a_destination(store):
    first = await store.save(holding(await store.create(job("a"))))
    second = await store.create(job("b"))

    with pytest.raises(DestinationTakenError):
        await store.save(holding(second))

    assert await store.get("b") == second
    assert first.destination is not None


async def test_a_destination_is_free_when_its_holder_has_ended(store):
    first = await store.save(holding(await store.create(job("a"))))
    second = await store.create(job("b"))
    await store.save(first.succeeded(START, model_version="1", verified=True))

    taken = await store.save(holding(second))

    assert taken.destination == first.destination


async def test_of_many_who_want_a_destination_at_once_one_gets_it(store):
    waiting = [await store.create(job(key)) for key in "abcdefgh"]

    tried = await asyncio.gather(
        *(store.save(holding(each)) for each in waiting), return_exceptions=True
    )

    (held,) = (each for each in tried if isinstance(each, Job))
    assert sum(isinstance(each, DestinationTakenError) for each in tried) == 7
    assert [key for key in "abcdefgh" if (await store.get(key)).destination] == [held.key]


async def test_who_never_held_a_destination_does_not_free_it(store):
    held = await store.save(holding(await store.create(job("a"))))
    second = await store.create(job("b"))
    knowing = await store.save(resolved(second))
    await store.save(knowing.failed(START, Failure(code=Code.NOT_FOUND, message="no")))

    with pytest.raises(DestinationTakenError):
        await store.save(holding(await store.create(job("c"))))
    assert (await store.get("a")).destination == held.destination


async def test_due_jobs_come_longest_due_first_and_no_more_than_asked_for(store):
    for key, seconds in (("late", -1), ("later", -2), ("not yet", 1)):
        await store.create(job(key, due_at=START + timedelta(seconds=seconds)))
    await store.create(job("never", due_at=None))

    assert [found.key for found in await store.due(START, LATEST, 10)] == ["later", "late"]
    assert [found.key for found in await store.due(START, LATEST, 1)] == ["later"]
    assert await store.next_due_at() == START - timedelta(seconds=2)


async def test_a_due_time_that_no_clock_of_ours_wrote_counts_as_due(store):
    await store.create(job(due_at=START.replace(year=3000)))

    (found,) = await store.due(START, LATEST, 10)

    assert found.key == "a"


async def test_with_nothing_left_to_do_nothing_is_due(store):
    await store.create(job(due_at=None))

    assert await store.due(START, LATEST, 10) == []
    assert await store.next_due_at() is None


async def test_a_job_is_found_by_the_trace_that_it_left(store):
    """An open call may have made any version; a success made one; all else made none."""
    calling = await store.create(requested(job("calling"), "1"))
    made = requested(job("made")).succeeded(START, model_version="2", verified=True)
    await store.create(made)
    there = holding(job("there"))
    await store.create(
        there.succeeded(START, model_version="3", verified=True, already_existed=True)
    )
    await store.create(resolved(job("waits")))
    model = str(calling.target)

    async def found(*names: str) -> set[str]:
        return {left.key for left in await store.with_traces(names)}

    assert await found(model, f"{model}@1", f"{model}@2", f"{model}@3") == {"calling", "made"}
    assert await found(f"{model}@2") == {"made"}
    assert await found(f"{model}@1") == set()


async def test_who_waits_for_a_destination_is_found(store):
    await store.create(job("has no source yet"))
    await store.create(holding(job("holds it")))
    waits = await store.create(resolved(job("waits")))
    other = await store.create(resolved(job("waits too")))
    destination = str(waits.target)

    assert {found.key for found in await store.awaiting(destination, 10)} == {waits.key, other.key}
    assert len(await store.awaiting(destination, 1)) == 1
    assert await store.awaiting(destination + "x", 10) == []

    await store.save(waits.cancelled(START))
    await store.save(other.failed(START, Failure(code=Code.NOT_FOUND, message="no")))

    assert await store.awaiting(destination, 10) == []


async def test_of_many_waiters_the_first_is_first(store):
    """By turn, then acceptance, then key, however many there are."""
    places = [(turn, number % 7) for number, turn in enumerate([3.0, 1.0, None, 2.0] * 8)]
    for number, (turn, second) in enumerate(places):
        at = START + timedelta(seconds=second)
        waits = resolved(job(f"{number:02d}", turn=turn, accepted_at=at))
        await store.create(waits)
    destination = str(waits.target)

    every = [found.place for found in await store.awaiting(destination, 100)]

    assert len(every) == 32
    assert every == sorted(every)
    assert [found.place for found in await store.awaiting(destination, 5)] == every[:5]


async def test_a_job_that_follows_an_operation_is_found_by_its_number(store):
    name = "projects/1/locations/us-central1/models/m/operations/42"
    copying = await store.create(requested(job("copying")).copying(name, START, START))
    await store.create(job("other"))

    assert await store.with_operation("42") == [copying]
    assert await store.with_operation("4") == []

    await store.save(copying.succeeded(START, model_version="1", verified=True))

    assert await store.with_operation("42") == []


async def test_of_many_jobs_those_that_have_ended_are_told_in_one_answer(store):
    for key in "abc":
        await store.create(job(key))
    b = await store.get("b")
    await store.save(b.failed(START, Failure(code=Code.NOT_FOUND, message="no")))

    assert [found.key for found in await store.ended(["a", "b", "nobody"])] == ["b"]
    assert await store.ended(["a", "c"]) == []
    assert await store.ended([]) == []


async def test_a_job_that_is_worked_on_again_has_not_ended(store):
    stored = await store.create(job())
    failed = await store.save(stored.failed(START, Failure(code=Code.NOT_FOUND, message="no")))
    again = failed.replayed(
        START, TIMING, request=failed.request, digest="d", original=failed.original
    )
    await store.save(again)

    assert await store.ended(["a"]) == []


async def test_thousands_of_keys_are_one_question(store):
    await store.create(job("key-4999"))

    assert await store.ended([f"key-{number}" for number in range(5000)]) == []


async def test_a_requester_finds_their_own_the_newest_first(store):
    for number, key in enumerate("abcd"):
        await store.create(job(key, accepted_at=START + timedelta(seconds=number // 2)))
    await store.create(job("e", request_source="//somebody/else"))

    found = await store.find(Wanted(request_source="//ec2"), 3)

    assert [job.key for job in found] == ["d", "c", "b"]


async def test_a_page_begins_where_the_last_one_ended(store):
    for number, key in enumerate("abcd"):
        await store.create(job(key, accepted_at=START + timedelta(seconds=number // 2)))
    wanted = Wanted(request_source="//ec2")

    pages: list[str] = []
    while found := await store.find(wanted, 1):
        pages += [job.key for job in found]
        wanted = replace(wanted, after=(found[-1].accepted_at, found[-1].key))

    assert pages == ["d", "c", "b", "a"]


@pytest.mark.parametrize(
    ("wanted", "keys"),
    [
        ({"state": State.ACCEPTED}, ["a"]),
        ({"state": State.FAILED}, ["c"]),
        ({"source": "projects/source/locations/us-central1/models/7"}, ["c", "b", "a"]),
        ({"source": "projects/source/locations/us-central1/models/8"}, []),
        ({"target": "projects/target/locations/us-central1/models/m"}, ["b"]),
        ({"accepted_from": START + timedelta(seconds=1)}, ["c", "b"]),
        ({"accepted_before": START + timedelta(seconds=1)}, ["a"]),
    ],
)
async def test_what_is_asked_for_is_found_and_nothing_else(store, wanted, keys):
    for number, key in enumerate("abc"):
        await store.create(job(key, accepted_at=START + timedelta(seconds=number)))
    await store.save(holding(await store.get("b")))
    failed = (await store.get("c")).failed(START, Failure(code=Code.NOT_FOUND, message="no"))
    await store.save(failed)

    found = await store.find(Wanted(request_source="//ec2", **wanted), 10)

    assert [job.key for job in found] == keys


# Queues of starts


HERE = "projects/target/locations/us-central1"


def waiting(key: str, turn: float, **changes: Any) -> Job:
    """A job that only waits for its start; each has a destination of its own."""
    return replace(holding(own(key, turn)), **{"due_at": None, **changes})


def own(key: str, turn: float) -> Job:
    """A job with a destination of its own."""
    request = replace(job().request, destination=key.replace(" ", "-"))
    return job(key, turn=turn, request=request)


async def test_a_queue_is_in_the_order_of_turns(store):
    """Of one turn, whoever was accepted first; of one moment, the lower key."""
    later = START + timedelta(seconds=1)
    for key, turn, at in (("d", 10.5, START), ("c", 9, later), ("b", 9, START), ("a", 9, START)):
        await store.create(waiting(key, turn, accepted_at=at))

    assert [found.key for found in await store.queued(HERE, 10)] == ["a", "b", "c", "d"]
    assert [found.key for found in await store.queued(HERE, 2)] == ["a", "b"]
    assert await store.queued(HERE + "x", 10) == []


async def test_a_queue_has_only_jobs_that_are_ready(store):
    calling = replace(requested(own("calling", 1)), due_at=None)
    without_turn = replace(waiting("without turn", 1), turn=None)
    leased = waiting("leased", 1, due_at=START)
    no_destination = replace(resolved(own("no destination", 1)), due_at=None)
    for each in (calling, without_turn, leased, no_destination):
        await store.create(each)
    assert await store.queued(HERE, 10) == []
    assert await store.queues() == []

    ready = await store.create(waiting("ready", 2))
    assert await store.queued(HERE, 10) == [ready]

    await store.save(replace(ready, due_at=START))
    assert await store.queued(HERE, 10) == []


async def test_queues_with_waiting_jobs_are_named(store):
    for number, region in enumerate(("us-east4", "asia-east1", "us-east4")):
        request = replace(job().request, target_location=region, destination=f"m{number}")
        await store.create(waiting(f"{number}", number, request=request))

    assert {*await store.queues()} == {
        f"projects/target/locations/{region}" for region in ("us-east4", "asia-east1")
    }


async def test_a_turn_follows_the_last_one_of_its_sender(store):
    """Whether that waits for its start, for its destination, or is worked on."""
    await store.create(waiting("a", 3))
    await store.create(resolved(own("b", 4.25)))
    await store.create(waiting("c", 7, request_source="//other"))
    elsewhere = replace(job().request, target_location="us-east4", destination="e")
    await store.create(waiting("d", 8, request=elsewhere))
    await store.create(requested(own("e", 9)))
    await store.create(waiting("f", 9).failed(START, Failure(code=Code.NOT_FOUND, message="no")))

    assert await store.next_turn(HERE, "//ec2", 0.5) == 4.75
    assert await store.next_turn(HERE, "//ec2", 0.5) == 4.75
    assert await store.next_turn(HERE, "//other", 1) == 8
    assert await store.next_turn(HERE, "//new", 1) == 1


async def test_a_turn_is_behind_the_virtual_time(store):
    await store.create(waiting("a", 3))
    await store.take_starts(HERE, [5, 6, 7], START, 2)

    assert await store.next_turn(HERE, "//ec2", 0.5) == 6.5
    assert await store.next_turn(HERE + "x", "//ec2", 0.5) == 0.5

    await store.take_starts(HERE, [2], START, 3)
    assert await store.next_turn(HERE, "//new", 1) == 7


async def test_starts_of_a_minute_are_bounded(store):
    moments = [START + timedelta(seconds=each) for each in (0, 20, 59.9, 60, 79.9, 80)]

    granted = [await store.take_starts(HERE, [1, 2, 3], at, 5) for at in moments]

    assert granted == [3, 2, 0, 3, 0, 2]
    assert await store.take_starts(HERE + "x", [1, 2, 3], moments[-1], 5) == 3


async def test_starts_of_ten_seconds_are_bounded(store):
    moments = [START + timedelta(seconds=seconds) for seconds in (0, 9, 10, 20)]
    granted = [await store.take_starts(HERE, [1, 2, 3], at, 5, 2) for at in moments]

    assert granted == [2, 0, 2, 1]


async def test_concurrent_callers_share_the_starts(store):
    takes = (store.take_starts(HERE, [1.0, 2.0], START, 5) for _ in range(4))

    granted = await asyncio.gather(*takes, return_exceptions=True)

    assert sum(given for given in granted if isinstance(given, int)) <= 5
    await store.take_starts(HERE, [1.0] * 5, START, 5)
    assert await store.take_starts(HERE, [1.0], START, 5) == 0


@pytest.mark.parametrize("ahead", [timedelta(seconds=30), timedelta(days=300_000)])
async def test_a_fast_clock_blocks_starts_for_a_minute(store, ahead):
    """What it stored counts as now."""
    await store.take_starts(HERE, [1, 2], START + ahead, 2)

    assert await store.take_starts(HERE, [1], START, 2) == 0
    assert await store.take_starts(HERE, [1], START + timedelta(seconds=59), 2) == 0
    assert await store.take_starts(HERE, [1], START + timedelta(seconds=60), 2) == 1


async def test_a_lower_rate_holds_at_once(store):
    await store.take_starts(HERE, [1] * 5, START, 5)

    assert await store.take_starts(HERE, [1], START, 2) == 0
    assert await store.take_starts(HERE, [], START, 2) == 0


async def test_slots_are_a_rate_limit_without_turns(store):
    name = f"reads:{HERE}"
    assert await store.take_slots(name, 100, START, 80) == 80
    assert await store.take_slots(name, 1, START + timedelta(seconds=59), 80) == 0
    assert await store.take_slots(name, 1, START + timedelta(seconds=60), 80) == 1

    assert await store.take_starts(HERE, [1], START, 1) == 1
    assert await store.queues() == []


async def test_a_window_stays_small(store):
    """However many slots were taken: one count for each second."""
    for tenth in range(0, 1300, 9):
        await store.take_slots("reads", 7, START + timedelta(seconds=tenth / 10), 100_000)

    assert await store.take_slots("reads", 100_000, START + timedelta(seconds=129.9), 1000) <= 1000
    assert await stored_window(store, "reads") < 2_000


async def stored_window(store: Any, name: str) -> int:
    """The length of a window as it is stored."""
    if isinstance(store, SimulatedStore):
        return len(str(store.windows[name]))
    if isinstance(store, SqliteJobStore):
        found = await store._read("SELECT taken FROM queues WHERE name = ?", (name,))
        return len(found[0][0])
    return len((await store._queues.document(name_of(name)).get()).get("taken"))


async def test_unfinished_jobs_of_a_sender_are_counted(store):
    failed = Failure(code=Code.NOT_FOUND, message="no")
    await store.create(job("a"))
    await store.create(waiting("b", 1))
    await store.create(requested(own("c", 2)))
    await store.create(job("d", request_source="//ec2/other"))
    ending = await store.create(job("e"))

    assert await store.unfinished("//ec2") == 4
    await store.save(ending.failed(START, failed))
    assert await store.unfinished("//ec2") == 3
    assert await store.unfinished("//nobody") == 0


async def test_expired_records_are_forgotten(store):
    await store.create(job("old", expires_at=START))
    await store.create(job("young", expires_at=START + timedelta(days=1)))
    await store.create(job("open"))

    await store.delete_expired(START)

    assert await store.get("old") is None
    assert await store.get("young") is not None


async def test_of_many_savers_one_wins_each_version(store):
    await store.create(job())

    async def add_one() -> None:
        while True:
            read = await store.get("a")
            try:
                await store.save(replace(read, retries=read.retries + 1))
            except StaleJobError:
                continue
            return

    await asyncio.gather(*(add_one() for _ in range(20)))

    assert (await store.get("a")).retries == 20


async def test_everything_can_be_asked(store):
    await store.check()


@pytest.mark.parametrize("store", ["sqlite", "firestore"], indirect=True)
async def test_a_record_of_a_newer_service_is_left_alone_and_stops_nobody(store, capsys):
    await store.create(job("newer"))
    await store.create(job("ours"))
    await overwrite(store, "newer", "[2, {}]")

    assert [found.key for found in await store.due(START, LATEST, 1)] == ["ours"]
    assert [found.key for found in await store.find(Wanted(request_source="//ec2"), 10)] == ["ours"]
    assert "a record of version 2" in capsys.readouterr().out
    with pytest.raises(UnreadableRecordError, match="version 2"):
        await store.get("newer")


@pytest.mark.parametrize("store", ["sqlite", "firestore"], indirect=True)
async def test_a_record_of_an_older_service_is_read(store):
    """It lacks what has been added since."""
    stored = await store.create(job())
    added = ("untried", "restored", "turn")
    [number, fields] = json.loads(to_record(stored))
    older = {name: value for name, value in fields.items() if name not in added}
    await overwrite(store, "a", json.dumps([number, older]))

    assert await store.get("a") == stored
    assert await store.due(START, LATEST, 10) == [stored]


# SQLite alone.


async def test_two_openers_of_one_file_share_its_jobs(tmp_path: Path):
    """As two worker processes do; SQLite's locks are between connections."""
    one, other = [await SqliteJobStore.open(tmp_path / "jobs.db", busy_seconds=5) for _ in range(2)]
    stored = await one.create(job())

    await other.save(replace(stored, retries=1))

    with pytest.raises(StaleJobError):
        await one.save(stored)
    await one.close()
    await other.close()


async def test_openers_of_one_file_share_starts(tmp_path: Path):
    stores = [await SqliteJobStore.open(tmp_path / "jobs.db", busy_seconds=5) for _ in range(3)]

    granted = await asyncio.gather(
        *(store.take_starts(HERE, [1, 2], START, 25) for store in stores for _ in range(10))
    )

    assert sum(granted) == 25
    for store in stores:
        await store.close()


async def test_a_file_that_is_no_database_is_an_outage_that_says_so(tmp_path: Path):
    (tmp_path / "jobs.db").write_text("something else entirely, and long enough to be read")

    with pytest.raises(UnavailableError, match="job store"):
        await SqliteJobStore.open(tmp_path / "jobs.db", busy_seconds=1)


async def test_a_locked_file_is_an_outage_not_a_hang(tmp_path: Path):
    store = await SqliteJobStore.open(tmp_path / "jobs.db", busy_seconds=0.05)
    blocker = sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")

    with pytest.raises(UnavailableError, match="locked"):
        await store.create(job())

    blocker.close()
    assert await store.create(job())
    await store.close()


@pytest.mark.parametrize(
    ("statement", "values", "index"),
    [
        (adapter._DUE, (1,), "jobs_due (due_at<?)"),
        (adapter._DUE_BY_A_BROKEN_CLOCK, (1,), "jobs_due (due_at>?)"),
        (adapter._AWAITING, ("m",), "jobs_awaiting (awaits=?)"),
        (adapter._QUEUED, ("q",), "jobs_queued (start_queue=?)"),
    ],
)
async def test_a_query_of_the_engine_reads_its_range_of_an_index_and_nothing_else(
    tmp_path: Path, statement, values, index
):
    store = await SqliteJobStore.open(tmp_path / "jobs.db", busy_seconds=1)

    plan, _ = store._execute(f"EXPLAIN QUERY PLAN {statement}", values)

    assert [step[3] for step in plan] == [f"SEARCH jobs USING INDEX {index}"]
    await store.close()


@pytest.mark.parametrize(
    ("statement", "values", "indexes"),
    [
        (adapter._LAST_TURN, ("q", "s"), {"jobs_turns (start_queue=? AND request_source=?)"}),
        (adapter._UNFINISHED, ("s",), {"jobs_unfinished (sender=?)"}),
        (adapter._QUEUES, (), {"jobs_queued (start_queue>?)"}),
    ],
)
async def test_a_question_about_queues_reads_an_index(tmp_path: Path, statement, values, indexes):
    """Of it, only what is asked for: SQLite takes a minimum or maximum from its end."""
    store = await SqliteJobStore.open(tmp_path / "jobs.db", busy_seconds=1)

    plan, _ = store._execute(f"EXPLAIN QUERY PLAN {statement}", values)

    used = {step[3].split(" INDEX ")[1] for step in plan if " INDEX " in step[3]}
    assert used == indexes
    assert not [step[3] for step in plan if step[3] == "SCAN jobs"]
    await store.close()


async def test_a_page_of_copies_reads_an_index_and_not_all_jobs(tmp_path: Path):
    store = await SqliteJobStore.open(tmp_path / "jobs.db", busy_seconds=1)

    plan, _ = store._execute(
        "EXPLAIN QUERY PLAN SELECT record FROM jobs WHERE request_source = 'a'"
        " ORDER BY accepted_at DESC, key DESC LIMIT 5",
        (),
    )

    assert ["jobs_by_requester" in step[3] for step in plan] == [True]
    await store.close()


async def test_a_full_disk_is_an_outage_and_what_was_stored_stays(tmp_path: Path):
    """SQLite itself plays the full disk: the file may not grow."""
    store = await SqliteJobStore.open(tmp_path / "jobs.db", busy_seconds=1)
    stored = await store.create(job("before"))
    large = Original(data=b"x" * 60_000, attributes={})
    store._connection.execute("PRAGMA max_page_count = 1")

    with pytest.raises(UnavailableError, match="full"):
        await store.create(job("after", original=large))

    assert await store.get("before") == stored
    assert await store.get("after") is None
    await store.close()


async def test_a_store_that_can_be_read_and_not_written_will_not_do(tmp_path: Path):
    """As often as it is looked at, and only for so long."""
    store = await SqliteJobStore.open(tmp_path / "jobs.db", busy_seconds=1)
    stored = await store.create(job())
    await store.check()

    with files_that_may_not_grow_over((tmp_path / "jobs.db-wal").stat().st_size):
        assert await store.get("a") == stored
        for _ in range(2):
            with pytest.raises(UnavailableError, match="job store"):
                await store.check()

    await store.check()
    await store.close()


async def test_looking_at_a_store_does_not_make_it_grow(tmp_path: Path):
    store = await SqliteJobStore.open(tmp_path / "jobs.db", busy_seconds=1)
    await store.check()
    pages = store._connection.execute("PRAGMA page_count").fetchone()

    for _ in range(5):
        await store.check()

    assert store._connection.execute("PRAGMA page_count").fetchone() == pages
    await store.close()


async def test_a_file_that_was_deleted_or_replaced_is_an_outage(tmp_path: Path):
    """What is written then, no other process would ever see."""
    file = tmp_path / "jobs.db"
    store = await SqliteJobStore.open(file, busy_seconds=1)

    file.rename(tmp_path / "moved.db")
    with pytest.raises(UnavailableError, match="was removed"):
        await store.check()
    another = await SqliteJobStore.open(file, busy_seconds=1)
    with pytest.raises(UnavailableError, match="no longer the file that was opened"):
        await store.check()

    await another.check()
    await another.close()
    await store.close()
