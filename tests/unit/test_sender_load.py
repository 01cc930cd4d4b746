"""What each sender may keep busy: rates, unfinished jobs, waits."""

import asyncio
from contextlib import AsyncExitStack, ExitStack

import pytest

from model_copier.domain.errors import Code, Failure, LimitedError, UnavailableError
from model_copier.domain.job import Job
from model_copier.domain.senders import SenderLimits, SenderPolicy
from model_copier.engine.sender_load import SenderLoad
from simulators import SimulatedClock, SimulatedStore
from stores import job

POLICY = SenderPolicy(
    default=SenderLimits(max_unfinished=2, requests_per_minute=3, max_waits=2),
    named={"//large": SenderLimits(weight=4, max_unfinished=4)},
)


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock()


@pytest.fixture
def store() -> SimulatedStore:
    return SimulatedStore()


@pytest.fixture
def load(store: SimulatedStore, clock: SimulatedClock) -> SenderLoad:
    return SenderLoad(store=store, clock=clock, policy=POLICY)


def test_requests_of_a_minute_are_bounded(load, clock):
    for _ in range(3):
        load.take_request("//a")
        clock.advance(10)

    with pytest.raises(LimitedError) as told:
        load.take_request("//a")

    assert (told.value.kind, told.value.retry_seconds) == ("too-many-requests", 30)
    load.take_request("//b")
    clock.advance(30)
    load.take_request("//a")


async def store_one(load: SenderLoad, key: str, sender: str = "//a") -> Job:
    async with load.new_job(sender):
        return await load.store.create(job(key, request_source=sender))


async def test_unfinished_jobs_of_a_sender_are_bounded(load, store, clock):
    """Until some have ended; the count is believed for ten seconds."""
    first = await store_one(load, "1")
    await store_one(load, "2")
    with pytest.raises(LimitedError) as told:
        await store_one(load, "3")
    assert (told.value.kind, told.value.code) == ("too-many-unfinished", Code.RESOURCE_EXHAUSTED)
    for number in range(4):
        await store_one(load, f"large-{number}", "//large")

    await store.save(first.failed(clock.now(), Failure(code=Code.NOT_FOUND, message="no")))
    clock.advance(11)

    await store_one(load, "3")
    with pytest.raises(LimitedError):
        await store_one(load, "4")


async def test_a_job_that_is_not_stored_does_not_count(load):
    for _ in range(5):
        with pytest.raises(UnavailableError):
            async with load.new_job("//a"):
                raise UnavailableError("store down")

    await store_one(load, "1")


async def test_jobs_that_others_stored_count(load, store):
    for number in range(2):
        await store.create(job(f"{number}", request_source="//a"))

    with pytest.raises(LimitedError):
        await store_one(load, "3")


async def test_many_at_once_are_counted_once(load):
    counted: list[str] = []

    class Counting(SimulatedStore):
        async def unfinished(self, sender: str) -> int:
            counted.append(sender)
            await asyncio.sleep(0)
            return 0

    load.store = Counting()
    async with AsyncExitStack() as stack:
        entered = await asyncio.gather(
            *(stack.enter_async_context(load.new_job("//a")) for _ in range(5)),
            return_exceptions=True,
        )

    assert counted == ["//a"]
    assert sum(isinstance(each, LimitedError) for each in entered) == 3


def test_waits_of_a_sender_are_bounded(load):
    with ExitStack() as stack:
        held = [stack.enter_context(load.waiting("//a")) for _ in range(3)]
        assert held == [True, True, False]
        assert stack.enter_context(load.waiting("//b"))

    with load.waiting("//a") as may_wait:
        assert may_wait


def test_senders_without_end_are_not_remembered(load):
    for number in range(10_100):
        load.take_request(f"//{number}")

    assert len(load._windows) == 10_000
