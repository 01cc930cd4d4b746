"""Ticks and nudges: what they move on, and what they leave alone."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_copier.contract.tick import Ended, Look, Nothing, read_tick
from model_copier.domain.errors import UnavailableError
from model_copier.domain.job import Job, State
from model_copier.domain.timing import Timing
from model_copier.engine.scheduler import IN_HAND_EACH as IN_HAND
from simulators import SimulatedStore
from world import World, request

OPERATION = "projects/1/locations/us-central1/models/m/operations/42"


def entry(**operation: object) -> bytes:
    """An audit log entry as a sink publishes it."""
    return json.dumps(
        {
            "logName": "projects/p/logs/cloudaudit.googleapis.com%2Factivity",
            "protoPayload": {
                "serviceName": "aiplatform.googleapis.com",
                "methodName": "google.cloud.aiplatform.v1.ModelService.CopyModel",
            },
            "operation": {"producer": "aiplatform.googleapis.com", **operation},
        }
    ).encode()


# What a tick's data says


def test_an_entry_at_the_end_of_an_operation_names_it():
    assert read_tick(entry(id=OPERATION, last=True)) == Ended(OPERATION)


def test_an_entry_at_the_start_of_an_operation_is_ignored():
    assert read_tick(entry(id=OPERATION, first=True)) == Nothing()


def test_an_operation_that_ended_as_it_began_is_not_ignored():
    assert read_tick(entry(id=OPERATION, first=True, last=True)) == Ended(OPERATION)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"null",
        b"[1]",
        b"\xff\xfe",
        b"[" * 100_000,
        entry(id="something else", last=True),
        entry(id=7, last=True),
        json.dumps({"operation": "projects/p"}).encode(),
    ],
)
def test_whatever_else_a_tick_carries_it_only_says_look(data: bytes):
    assert read_tick(data) == Look()


@given(st.binary() | st.recursive(st.text(), st.lists).map(lambda each: json.dumps(each).encode()))
def test_no_data_whatever_makes_reading_a_tick_fail(data: bytes):
    assert read_tick(data) in (Look(), Nothing())


# Nudges


async def test_a_nudge_tells_an_ended_copy_before_its_job_is_due():
    world = World()
    await world.deliver()
    later = world.clock.at + timedelta(seconds=60)
    await world.store.save(replace(world.job, due_at=later))
    world.clock.advance(43)

    moved = await world.ticks.nudge(world.job.operation)

    assert moved == 1
    assert [reply["outcome"] for reply in world.replies] == ["succeeded"]


async def test_a_nudge_finds_its_job_however_the_operation_is_spelled():
    """Audit logs may name the project by number and leave the model out."""
    world = World()
    await world.deliver()
    number = world.job.operation.rpartition("/")[2]
    world.clock.advance(43)

    await world.ticks.nudge(f"projects/123/locations/us-central1/operations/{number}")

    assert world.job.state is State.SUCCEEDED


async def test_a_nudge_that_comes_early_leaves_the_schedule_as_it_is():
    world = World()
    await world.deliver()
    before = world.job

    assert await world.ticks.nudge(before.operation) == 0
    assert world.job == before


async def test_a_nudge_for_an_operation_that_we_do_not_know_does_nothing():
    world = World()
    await world.deliver()
    before = world.job

    assert await world.ticks.nudge(OPERATION) == 0
    assert await world.ticks.nudge("rubbish") == 0
    assert world.job == before


async def test_a_nudge_for_a_copy_that_was_told_long_ago_does_nothing():
    world = World()
    await world.deliver()
    operation = world.job.operation
    await world.pass_time(60)

    assert await world.ticks.nudge(operation) == 0
    assert len(world.replies) == 1


# Records


async def test_a_job_whose_record_was_deleted_under_us_is_dropped_quietly():
    """Somebody emptied the store while Vertex AI was asked: nothing is made anew."""
    world = World()

    class Deleting:
        def __init__(self, models):
            self._models = models

        def __getattr__(self, name):
            return getattr(self._models, name)

        async def copy_model(self, call):
            world.store.jobs.clear()
            return await self._models.copy_model(call)

    world.models = Deleting(world.models)
    world.start_worker()

    told = await world.deliver()
    await world.pass_time(600)

    assert told.verdict == "accepted"
    assert world.store.jobs == {}
    assert world.topics.replies == []


# Turns


def destinations(count: int) -> list[dict[str, str]]:
    source = "7704127342733426688"
    return [
        {"source_model_id": source, "destination_model_id": f"target-{number}"}
        for number in range(count)
    ]


async def test_no_more_copies_start_in_any_minute_than_the_quota_admits():
    """120 requests at once, each for a model of its own: 50 in any minute, first come first."""
    world = World()
    world.models.copy_seconds = 1

    for number, data in enumerate(destinations(120)):
        await world.deliver(request(data, request_id=f"request-{number}"))
    await world.pass_time(300)

    started = sorted(
        (operation.created_at - world.store.jobs[job].accepted_at).total_seconds()
        for operation in world.models.registry.operations()
        for job in world.store.jobs
        if str(world.store.jobs[job].target) == str(operation.destination)
    )
    assert len(started) == 120
    busiest = max(sum(at <= then < at + 60 for then in started) for at in started)
    assert busiest <= 50
    assert started[-1] < 60 * 120 / 40 + 10
    assert {reply["outcome"] for reply in world.replies} == {"succeeded"}


async def test_turns_are_taken_in_the_order_of_the_requests():
    world = World()
    for number, data in enumerate(destinations(30)):
        await world.deliver(request(data, request_id=f"request-{number}"))

    await world.pass_time(120)

    made = [operation.destination.model for operation in world.models.registry.operations()]
    assert made == [f"target-{number}" for number in range(30)]


async def test_regions_have_queues_of_their_own():
    world = World()
    world.models.add("projects/gemini-fine-tuning-source/locations/europe-west4/models/1")
    for number, data in enumerate(destinations(18)):
        await world.deliver(request(data, request_id=f"request-{number}"))
    elsewhere = {"source_model_id": "1", "source_location": "europe-west4"}

    await world.deliver(
        request(elsewhere | {"target_location": "europe-west4"}, request_id="elsewhere")
    )

    states = [job.state for job in world.store.jobs.values()]
    assert states == [State.COPYING] * 16 + [State.QUEUED] * 2 + [State.COPYING]


class CountedStore(SimulatedStore):
    """It counts how often the queues are read."""

    looks = 0

    async def queues(self) -> Any:
        self.looks += 1
        return await super().queues()


async def test_following_a_copy_reads_the_queues_once():
    """No job is known to wait: only a tick may bring one of another process."""
    world = World(store=CountedStore())
    await world.deliver()
    following = asyncio.create_task(world.ticks.take(30))
    await come(lambda: world.store.looks)

    for _ in range(5):
        world.clock.advance(5)
        world.workflow.wakeup.set()
        await come(lambda: not world.workflow.wakeup.is_set())

    assert world.store.looks == 1
    world.ticks.close()
    async with asyncio.timeout(10):
        await following


async def test_a_follower_starts_another_process_s_jobs():
    """Its tick wakes whoever leads here, who then reads the queues."""
    world, other = World(store=CountedStore(), timing=Timing(starts_per_minute=1)), World()
    await world.deliver()
    following = asyncio.create_task(world.ticks.take(300))
    await come(lambda: world.store.looks)
    other.store, other.models = world.store, world.models
    other.clock, other.timing = world.clock, world.timing
    other.start_worker()
    await other.deliver(request(destinations(1)[0], request_id="other"))
    queued = (await world.store.queued((await world.store.queues())[0], 9))[0]
    world.clock.advance(60)

    assert await world.ticks.take(30) == 0

    await come(lambda: world.store.jobs[queued.key].state is not State.QUEUED)
    world.ticks.close()
    async with asyncio.timeout(10):
        await following


async def test_queued_jobs_start_while_one_tick_follows():
    """Nothing else happens: the one that leads knows of them."""
    world = World(store=CountedStore(), timing=Timing(starts_per_minute=1))
    world.models.copy_seconds = 1
    for number, data in enumerate(destinations(3)):
        await world.deliver(request(data, request_id=f"request-{number}"))

    following = asyncio.create_task(world.ticks.take(300))
    while not following.done():
        await come(lambda: following.done() or not world.workflow.wakeup.is_set())
        world.clock.advance(5)
        world.workflow.wakeup.set()

    assert len(world.replies) == 3
    assert world.store.looks < 200 / world.timing.min_poll_seconds


async def test_what_needs_no_copy_waits_for_no_turn():
    world = World()
    world.models.add("projects/gemini-fine-tuning-target/locations/us-central1/models/there")
    for number, data in enumerate(destinations(12)):
        await world.deliver(request(data, request_id=f"request-{number}"))
    skip = {"source_model_id": "7704127342733426688", "if_exists": "skip"}

    await world.deliver(request(skip | {"destination_model_id": "there"}, request_id="there"))

    assert [reply["request_id"] for reply in world.replies] == ["there"]


# One leads


class SlowReads:
    """Models that let nobody read an operation until they are told to."""

    def __init__(self, models: Any) -> None:
        self._models = models
        self.asked = 0
        self.released = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._models, name)

    async def get_operation(self, name: str) -> Any:
        self.asked += 1
        if self.asked == 1:
            await self.released.wait()
        return await self._models.get_operation(name)


async def come(so: Callable[[], object]) -> None:
    """Let everything else run until it is so."""
    for _ in range(10_000):
        if so():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came")


async def started(count: int) -> World:
    """A world in which so many copies ended, and nobody knows yet."""
    world = World(timing=Timing(starts_per_minute=6000))
    for number, data in enumerate(destinations(count)):
        await world.deliver(request(data, request_id=f"request-{number}"))
    world.clock.advance(43)
    return world


async def test_a_tick_goes_on_until_all_that_was_due_is_done():
    world = await started(IN_HAND * 3 + 5)

    moved = await world.ticks.take(0)

    assert moved == IN_HAND * 3 + 5
    assert len(world.replies) == IN_HAND * 3 + 5


async def test_a_slow_answer_keeps_no_other_job_waiting():
    world = await started(IN_HAND * 2)
    world.models = SlowReads(world.models)
    world.start_worker()
    tick = asyncio.create_task(world.ticks.take(0))

    await come(lambda: len(world.replies) == IN_HAND * 2 - 1)
    assert not tick.done()
    world.models.released.set()
    await tick

    assert len(world.replies) == IN_HAND * 2


async def test_a_tick_that_comes_while_another_leads_is_answered_at_once():
    world = await started(1)
    world.models = SlowReads(world.models)
    world.start_worker()
    leader = asyncio.create_task(world.ticks.take(30))
    await come(lambda: world.models.asked)

    assert await world.ticks.take(30) == 0
    assert not leader.done()
    world.models.released.set()
    assert await leader == 1
    assert len(world.replies) == 1


async def test_a_tick_takes_over_from_one_whose_time_is_nearly_over():
    """Else the copy that it was sent for would be followed for seconds only."""
    world = World()
    await world.deliver()
    first = asyncio.create_task(world.ticks.take(30))
    await asyncio.sleep(0)
    world.clock.advance(2)
    await asyncio.sleep(0)
    world.clock.advance(20)

    second = asyncio.create_task(world.ticks.take(30))
    async with asyncio.timeout(10):
        await first

    assert not second.done(), "it follows the copy"
    world.clock.advance(25)  # it has ended by now, and the second's time has not
    world.workflow.wakeup.set()
    async with asyncio.timeout(10):
        await second
    assert len(world.replies) == 1


async def test_what_cannot_be_moved_is_tried_once_by_each_tick():
    """A store whose writes fail is asked again by the next tick, not in a circle."""
    world = await started(IN_HAND + 1)
    tries = 0

    async def full(_job: Job) -> Job:
        nonlocal tries
        tries += 1
        raise UnavailableError("disk full")

    world.store.save = full

    assert await world.ticks.take(0) == tries
    assert tries <= IN_HAND + 1


async def test_a_tick_that_comes_at_the_end_of_a_leader_is_not_lost():
    """Whenever it comes, somebody follows the copy that it was sent for."""
    world = World()
    forget = world.store.delete_expired
    late: list[asyncio.Task[int]] = []

    async def forgetting(now: datetime) -> Any:
        if not late:  # a copy starts just now, and sends its tick
            await world.deliver()
            late.append(asyncio.create_task(world.ticks.take(30)))
            await asyncio.sleep(0)
        return await forget(now)

    world.store.delete_expired = forgetting
    first = asyncio.create_task(world.ticks.take(30))
    await come(lambda: late)
    await come(late[0].done)

    assert not first.done(), "it follows the copy"
    world.ticks.close()
    async with asyncio.timeout(10):
        await first
