"""Waiting for copies: one question for all who wait, an answer or an end for each of them."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from model_copier.domain.errors import Code, Failure, UnavailableError
from model_copier.domain.job import Job
from model_copier.engine.outcome_waiter import OutcomeWaiter
from simulators import START, SimulatedStore
from world import World


class CountingStore(SimulatedStore):
    """Counts what waiting costs, and can be away."""

    questions = 0
    away = False
    bug: type[Exception] | None = None

    async def ended(self, keys: Any) -> Any:
        self.questions += 1
        if self.bug:
            raise self.bug
        if self.away:
            raise UnavailableError("away")
        return await super().ended(keys)


async def watch_of(count: int) -> tuple[OutcomeWaiter, CountingStore, list[str]]:
    """Jobs that nobody works on."""
    world = World()
    await world.deliver()
    store = CountingStore()
    for number in range(count):
        await store.create(replace(world.job, key=f"key-{number}"))
    return (
        OutcomeWaiter(store=store, look_seconds=0.01, outage_seconds=0.01),
        store,
        list(store.jobs),
    )


async def end(store: SimulatedStore, key: str) -> Job:
    job = store.jobs[key]
    return await store.save(job.failed(START, Failure(code=Code.ABORTED, message="no")))


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  the loop that is tested moves it
            await asyncio.sleep(0)


async def test_a_thousand_who_wait_are_one_question():
    watch, store, keys = await watch_of(1000)
    waiting = [asyncio.create_task(watch.until_ended(key, 30)) for key in keys]
    await until(lambda: watch.waiting == 1000 and store.questions >= 1)
    asked = store.questions

    for key in keys:
        await end(store, key)
    found = await asyncio.gather(*waiting)

    assert [job.key for job in found if job and job.state.final] == keys
    assert store.questions - asked < 20


async def test_nothing_is_asked_when_nobody_waits():
    watch, store, (key,) = await watch_of(1)
    waiting = asyncio.create_task(watch.until_ended(key, 30))
    await until(lambda: store.questions)
    await end(store, key)
    await waiting

    await until(lambda: watch._looking is None or watch._looking.done())
    assert watch.waiting == 0
    assert watch._ended == {}


async def test_many_may_wait_for_one_copy():
    watch, store, (key,) = await watch_of(1)
    waiting = [asyncio.create_task(watch.until_ended(key, 30)) for _ in range(50)]
    await until(lambda: watch.waiting == 50)
    waiting[0].cancel()
    await end(store, key)

    ended = await asyncio.gather(*waiting, return_exceptions=True)

    assert isinstance(ended[0], asyncio.CancelledError)
    assert all(isinstance(job, Job) and job.state.final for job in ended[1:])


async def test_when_the_time_is_over_it_is_told_as_it_is():
    watch, _, (key,) = await watch_of(1)

    job = await watch.until_ended(key, 0.05)

    assert job is not None
    assert not job.state.final


async def test_a_store_that_is_away_for_a_while_is_waited_for():
    watch, store, (key,) = await watch_of(1)
    store.away = True
    waiting = asyncio.create_task(watch.until_ended(key, 30))
    await until(lambda: store.questions >= 2)
    store.away = False
    await end(store, key)

    job = await waiting

    assert job is not None
    assert job.state.final


async def test_a_bug_reaches_everybody_who_waits():
    watch, store, keys = await watch_of(3)
    store.bug = ZeroDivisionError

    ended = await asyncio.gather(
        *(watch.until_ended(key, 30) for key in keys), return_exceptions=True
    )

    assert [type(error) for error in ended] == [ZeroDivisionError] * 3
    with pytest.raises(ZeroDivisionError):
        await (watch._looking or asyncio.sleep(0))


async def test_when_we_leave_everybody_is_sent_away_at_once():
    watch, _, keys = await watch_of(10)
    waiting = [asyncio.create_task(watch.until_ended(key, 3600)) for key in keys]
    await until(lambda: watch.waiting == 10)

    watch.close()
    found = await asyncio.gather(*waiting)

    assert [job.state.final for job in found if job] == [False] * 10
    assert await watch.until_ended(keys[0], 3600) is not None
