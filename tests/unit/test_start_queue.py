"""Starts take fair turns, at a bounded rate."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

import stores
from model_copier.domain.copy_request import Source
from model_copier.domain.errors import UnavailableError
from model_copier.domain.job import Job
from model_copier.domain.timing import Timing
from model_copier.engine.start_queue import REMEMBER_SECONDS, StartQueue
from simulators import SimulatedClock, SimulatedStore

QUEUE = "projects/target/locations/us-central1"
PER_MINUTE = 3


class Queue:
    """A start queue over a simulated store, and jobs for it."""

    def __init__(self, cost: float = 1.0, per_minute: int = PER_MINUTE) -> None:
        self.clock, self.store, self.cost = SimulatedClock(), SimulatedStore(), cost
        self.per_minute = per_minute
        self.starts = self.another()

    def another(self) -> StartQueue:
        """The queue as another process has it."""
        return StartQueue(
            store=self.store,
            clock=self.clock,
            timing=Timing(starts_per_minute=self.per_minute),
            cost=lambda _sender: self.cost,
        )

    def job(self, key: str, sender: str = "//a", location: str = "us-central1") -> Job:
        job = stores.job(key, request_source=sender)
        request = replace(job.request, destination=f"m-{key}", target_location=location)
        return replace(job, request=request)

    async def stored(self, job: Job, turn: float, *, waits: bool = True) -> Job:
        """Put it into the store, in its queue or ready to start."""
        source = Source(name=stores.SOURCE, known_as=stores.SOURCE)
        ready = (await self.store.create(job)).with_source(source, turn).with_lock()
        return await self.store.save(ready.enqueued() if waits else ready)


# Turns


async def test_a_burst_of_one_sender_gets_turns_apart():
    """The store does not know them yet: none of them is saved."""
    queue = Queue()

    turns = [await queue.starts.turn_of(queue.job(str(number))) for number in range(4)]

    assert turns == [1, 2, 3, 4]


async def test_each_sender_has_turns_of_its_own():
    """A flood of one sender keeps no other waiting."""
    queue = Queue()
    for number in range(100):
        await queue.starts.turn_of(queue.job(str(number), "//flood"))

    assert await queue.starts.turn_of(queue.job("b", "//b")) == 1


async def test_each_region_has_turns_of_its_own():
    queue = Queue()
    await queue.starts.turn_of(queue.job("a"))

    assert await queue.starts.turn_of(queue.job("b", location="europe-west4")) == 1


async def test_a_heavier_weight_gets_closer_turns():
    queue = Queue(cost=0.25)

    turns = [await queue.starts.turn_of(queue.job(str(number))) for number in range(4)]

    assert turns == [0.25, 0.5, 0.75, 1]


async def test_a_job_keeps_its_turn():
    queue = Queue()
    job = replace(queue.job("a"), turn=7.0)

    assert await queue.starts.turn_of(job) == 7
    assert await queue.starts.turn_of(queue.job("b")) == 1


async def test_a_turn_is_behind_the_stored_ones():
    """Another process gave those."""
    queue = Queue()
    await queue.stored(queue.job("a"), 5.0)

    assert await queue.starts.turn_of(queue.job("b")) == 6
    assert await queue.another().turn_of(queue.job("c")) == 6


async def test_unsaved_turns_are_forgotten_soon():
    """A job that failed before it was saved leaves no hole for ever."""
    queue = Queue()
    await queue.starts.turn_of(queue.job("a"))

    queue.clock.advance(REMEMBER_SECONDS - 0.1)
    assert await queue.starts.turn_of(queue.job("b")) == 2
    queue.clock.advance(REMEMBER_SECONDS + 0.1)
    assert await queue.starts.turn_of(queue.job("c")) == 1


async def test_who_comes_late_starts_at_the_virtual_time():
    """An idle sender saves up no turns."""
    queue = Queue()
    await queue.stored(queue.job("a"), 41.0)
    await queue.starts.admitted(9)

    assert await queue.starts.turn_of(queue.job("b", "//b")) == 42


# Starting at once


async def test_an_empty_queue_admits_up_to_the_rate():
    queue = Queue()
    jobs = [replace(queue.job(str(number)), turn=float(number)) for number in range(5)]

    admitted = [await queue.starts.admits(job) for job in jobs]

    assert admitted == [True] * PER_MINUTE + [False] * 2
    queue.clock.advance(60)
    assert await queue.starts.admits(jobs[4])


async def test_nobody_overtakes_the_queue():
    queue = Queue()
    await queue.stored(queue.job("a", "//a"), 5.0)

    later = await queue.stored(queue.job("b", "//b"), 6.0, waits=False)
    earlier = await queue.stored(queue.job("c", "//c"), 4.0, waits=False)

    assert not await queue.starts.admits(later)
    assert await queue.starts.admits(earlier)


async def test_who_is_not_admitted_takes_no_start():
    queue = Queue()
    await queue.stored(queue.job("a"), 1.0)
    late = await queue.stored(queue.job("b"), 2.0, waits=False)
    for _ in range(10):
        assert not await queue.starts.admits(late)

    jobs = await queue.starts.admitted(9)

    assert [job.key for job in jobs] == ["a"]


async def test_another_region_s_queue_is_not_in_the_way():
    queue = Queue()
    await queue.stored(queue.job("a", location="europe-west4"), 1.0)
    job = await queue.stored(queue.job("b"), 2.0, waits=False)

    assert await queue.starts.admits(job)


# Starting from the queue


async def test_the_queue_starts_in_order_of_place():
    queue = Queue()
    for key, turn in (("c", 3.0), ("a", 1.0), ("b", 2.0)):
        await queue.stored(queue.job(key, f"//{key}"), turn)

    jobs = await queue.starts.admitted(9)

    assert [job.key for job in jobs] == ["a", "b", "c"]


async def test_the_queue_starts_at_most_the_rate():
    """In any minute, whoever asks."""
    queue = Queue()
    for number in range(5):
        await queue.stored(queue.job(str(number)), float(number))

    jobs = await queue.starts.admitted(9)
    again = await queue.another().admitted(9)

    assert [job.key for job in jobs] == ["0", "1", "2"]
    assert again == []


async def test_a_limit_leaves_more_waiting():
    queue = Queue()
    for number in range(3):
        await queue.stored(queue.job(str(number)), float(number))

    jobs = await queue.starts.admitted(2)

    assert [job.key for job in jobs] == ["0", "1"]
    assert queue.starts.look_at == queue.clock.monotonic()


async def test_each_region_starts_at_its_own_rate():
    queue = Queue()
    for location in ("us-central1", "europe-west4"):
        for number in range(4):
            job = queue.job(f"{location}-{number}", location=location)
            await queue.stored(job, float(number))

    jobs = await queue.starts.admitted(9)

    assert len(jobs) == 2 * PER_MINUTE


async def test_an_empty_queue_asks_for_no_start():
    queue = Queue()

    assert await queue.starts.admitted(9) == []
    assert queue.store.windows == {}


@pytest.mark.parametrize("cost", [1.0, 0.5])
async def test_senders_take_turns_in_the_end(cost: float):
    """A hundred of one sender were there first; the other's start among the first."""
    queue = Queue(cost=cost)
    for number in range(100):
        job = queue.job(f"flood-{number}", "//flood")
        await queue.stored(job, await queue.starts.turn_of(job))
    for number in range(3):
        job = queue.job(f"calm-{number}", "//calm")
        await queue.stored(job, await queue.starts.turn_of(job))

    started: list[str] = []
    for _ in range(3):
        jobs = await queue.starts.admitted(9)
        started += [job.key for job in jobs]
        for job in jobs:
            del queue.store.jobs[job.key]
        queue.clock.advance(60)

    assert sum(key.startswith("calm") for key in started[:6]) == 3


# When to read the queues


async def test_a_new_process_reads_the_queues():
    """Another process may have left jobs there."""
    queue = Queue()

    assert queue.starts.look_at <= queue.clock.monotonic()


async def test_queues_without_jobs_wait_for_a_tick():
    queue = Queue()
    await queue.starts.admitted(9)
    assert queue.starts.look_at == math.inf

    queue.starts.tick()

    assert queue.starts.look_at == queue.clock.monotonic()


async def test_jobs_without_a_slot_wait_the_shortest_poll():
    """No tick brings that forward: each read costs what waits, and the rate decides."""
    queue = Queue()
    for number in range(PER_MINUTE + 1):
        await queue.stored(queue.job(str(number)), float(number))
    await queue.starts.admitted(9)
    due = queue.clock.monotonic() + queue.starts.timing.min_poll_seconds
    queue.clock.advance(1)

    queue.starts.tick()
    queue.starts.enqueued()

    assert queue.starts.look_at == due


async def test_a_job_queued_during_a_read_counts():
    queue = Queue()
    queues = queue.store.queues

    async def queues_before_it() -> Sequence[str]:
        found = await queues()
        queue.starts.enqueued()
        return found

    queue.store.queues = queues_before_it  # type: ignore[method-assign]
    await queue.starts.admitted(9)

    assert queue.starts.look_at < math.inf


async def test_a_failed_read_is_repeated_by_a_tick():
    queue = Queue()
    queues = queue.store.queues

    async def away() -> Sequence[str]:
        raise UnavailableError("job store: away")

    queue.store.queues = away  # type: ignore[method-assign]
    with pytest.raises(UnavailableError):
        await queue.starts.admitted(9)
    queue.store.queues = queues  # type: ignore[method-assign]

    queue.starts.tick()

    assert queue.starts.look_at == queue.clock.monotonic()


@pytest.mark.parametrize("arrives", range(0, 120, 5))
async def test_a_flood_delays_nobody_for_a_minute(arrives: int):
    """Whenever the other comes: the flood leaves starts for the rest of each minute."""
    queue = Queue(per_minute=50)
    for number in range(200):
        job = queue.job(f"flood-{number}", "//flood")
        turn = await queue.starts.turn_of(job)
        ready = await queue.stored(job, turn, waits=False)
        if not await queue.starts.admits(ready):
            await queue.store.save(ready.enqueued())
        else:
            del queue.store.jobs[job.key]

    for seconds in range(0, arrives + 60, 5):
        if seconds == arrives:
            job = queue.job("calm", "//calm")
            await queue.stored(job, await queue.starts.turn_of(job))
        jobs = await queue.starts.admitted(32)
        for job in jobs:
            del queue.store.jobs[job.key]
        if "calm" in {job.key for job in jobs}:
            assert seconds - arrives <= 45
            return
        queue.clock.advance(5)
    pytest.fail("it did not start")


async def test_a_tried_job_takes_no_start():
    """Its caller has it in hand already: the starts are for those behind it."""
    queue = Queue()
    for number in range(4):
        await queue.stored(queue.job(str(number)), float(number))

    jobs = await queue.starts.admitted(9, lambda job: job.key == "0")

    assert [job.key for job in jobs] == ["1", "2", "3"]
    assert queue.starts.look_at < math.inf
