"""A store that went back in time: its jobs look before they ask, whatever was lost.

The store is put back to what it was after each of its writes, from each of some later moments.
"""

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from local_cloud.registry import Registry
from model_copier.copy_request import Source
from model_copier.errors import Code
from model_copier.job import Failure, Job, State, Step, step_of
from simulators import START, SimulatedClock, SimulatedModels, SimulatedStore
from stores import SOURCE as STORED_SOURCE
from stores import holding, job
from world import PARENT, REQUEST, SOURCE, TARGET, World, request

pytestmark = pytest.mark.timeout(300)

VERSION = {"source_model_id": REQUEST["source_model_id"], "destination_parent_model": PARENT}
REQUESTS = {
    "first": VERSION,
    "own": REQUEST,
    "second": VERSION,
    "third": VERSION,
}


@dataclass
class RecordingStore(SimulatedStore):
    """Remembers what it held after each write."""

    moments: list[dict[str, Job]] = field(default_factory=list)

    async def create(self, job: Job) -> Job:
        stored = await super().create(job)
        self.moments.append(dict(self.jobs))
        return stored

    async def save(self, job: Job) -> Job:
        stored = await super().save(job)
        self.moments.append(dict(self.jobs))
        return stored


def new_world(registry: Registry | None = None) -> World:
    clock = SimulatedClock()
    models = SimulatedModels(clock, registry or Registry())
    models.add(SOURCE)
    models.add(PARENT)
    return World(clock=clock, models=models, store=RecordingStore())


async def live(world: World, seconds: float) -> None:
    """Ask for everything; one answer of CopyModel is lost."""
    world.models.lost_answers = 1
    for request_id, data in REQUESTS.items():
        await deliver(world, request_id, data)
    await world.pass_time(seconds)


async def deliver(world: World, request_id: str, data: dict[str, Any]) -> None:
    await world.deliver(request(data, request_id=request_id, **{"ce-time": START.isoformat()}))


def go_back(world: World, moment: dict[str, Job]) -> None:
    """What an adapter does with a restored store."""
    now = world.clock.now()
    first = sorted(moment.values(), key=lambda each: (each.attempt_at, each.key))
    world.store.jobs = {
        each.key: replace(
            each.after_restore(now + timedelta(microseconds=number)), version=each.version + 1
        )
        for number, each in enumerate(first)
    }
    world.start_worker()

    async def restored_at() -> Any:
        return now

    world.deliveries.restored_at = restored_at


def made(world: World) -> tuple[int, int]:
    return len(world.models.versions(TARGET)), len(world.models.versions(PARENT)) - 1


async def moments() -> int:
    world = new_world()
    await live(world, 1200)
    assert made(world) == (1, 3)
    return len(world.store.moments)


@pytest.mark.parametrize("lost_seconds", [0, 20, 45, 100, 200, 1200])
async def test_no_backup_makes_a_second_model(lost_seconds):
    """Whenever it was made, and whatever was lost since; all is asked for again, too."""
    points = 0
    for number in range(await moments()):
        world = new_world()
        await live(world, lost_seconds)
        if number >= len(world.store.moments):
            break
        points += 1

        go_back(world, world.store.moments[number])
        for request_id, data in REQUESTS.items():
            await deliver(world, request_id, data)
        await world.pass_time(3600)

        assert made(world) == (1, 3), f"after write {number}"
        newest = {reply["request_id"]: reply for reply in world.replies}
        assert {reply["outcome"] for reply in newest.values()} == {"succeeded"}
        assert newest.keys() == REQUESTS.keys()
        told = [(reply["resource_name"], reply["version"]) for reply in newest.values()]
        assert len({*told}) == len(told)
        contents: dict[str, set[bytes]] = {}
        for message in world.topics.replies:
            contents.setdefault(message.attributes["ce-id"], set()).add(message.data)
        assert {len(each) for each in contents.values()} == {1}
    assert points > 3


async def test_without_the_look_a_backup_copies_twice():
    """What this protects from: the same story, and the store is trusted."""
    doubled = 0
    for number in range(await moments()):
        world = new_world()
        await live(world, 1200)

        world.store.jobs = dict(world.store.moments[number])
        world.start_worker()
        await world.pass_time(3600)

        doubled += sum(made(world)) > 4
    assert doubled > 0


async def test_a_cancel_is_not_confirmed_unseen():
    """The copy may have been asked for, and be there."""
    world = new_world()
    await deliver(world, "own", REQUEST)
    backup = dict(world.store.moments[0])
    await world.pass_time(600)
    (key,) = backup
    go_back(world, {key: replace(backup[key], cancel_requested=True)})

    await world.pass_time(600)

    assert [reply["outcome"] for reply in world.replies] == ["succeeded", "succeeded"]


async def test_a_request_that_is_newer_than_the_restore_is_asked_at_once():
    world = new_world()
    go_back(world, {})
    world.clock.advance(3600)

    newer = {"ce-time": world.clock.now().isoformat()}
    await world.deliver(request(VERSION, request_id="new", **newer))

    assert world.models.copies_asked == 1


async def test_one_that_is_older_looks_first():
    world = new_world()
    go_back(world, {})

    await deliver(world, "old", VERSION)

    assert world.models.copies_asked == 0
    await world.pass_time(600)
    assert made(world) == (0, 1)
    assert [reply["attempt"] for reply in world.replies] == [2]


def test_an_open_job_is_begun_anew():
    asked = holding(job()).asked(START, ("1",)).copying("operations/1", START, START)
    later = START + timedelta(days=1)

    after = asked.after_restore(later)

    assert after == replace(
        asked,
        state=State.ACCEPTED,
        restored=True,
        attempt=2,
        attempt_at=later,
        due_at=later,
        asked_at=None,
        first_asked_at=None,
        known_versions=(),
        operation="",
        copy_attempts=0,
        copy_started_at=None,
        history=after.history,
    )
    assert step_of(after) is Step.START
    assert step_of(after.asked_unseen(later)) is Step.RECONCILE


def test_what_has_ended_stays_as_it_is():
    done = holding(job()).asked(START, ()).succeeded(START, model_version="1", verified=True)
    failed = job().failed(START, Failure(code=Code.NOT_FOUND, message="no")).announced(START)

    assert done.after_restore(START) == done
    assert failed.after_restore(START) == replace(failed, restored=True)


def test_once_nothing_was_made_it_is_a_job_like_any_other():
    looking = job().with_source(Source(name=STORED_SOURCE, known_as=STORED_SOURCE))
    looking = looking.after_restore(START).holding().asked_unseen(START)

    assert not looking.not_asked(START, "nothing shows of it").restored
