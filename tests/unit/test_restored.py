"""A store that went back in time: its jobs look before they ask, whatever was lost.

The store is put back to what it was after each of its writes, from each of some later moments.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from local_cloud.registry import Registry
from model_copier.domain.job import Job
from simulators import START, SimulatedClock, SimulatedModels, SimulatedStore
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
    world.store.jobs = {
        key: replace(each.after_restore(now), version=each.version + 1)
        for key, each in moment.items()
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
    assert [reply["run"] for reply in world.replies] == [2]
