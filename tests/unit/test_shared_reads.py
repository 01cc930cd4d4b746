"""Many who ask the same at once share an answer, and none gets one from before it asked."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from local_cloud.vertex_dialects import DIALECTS
from model_copier.adapters.operation_scan import FEW
from model_copier.adapters.shared_reads import SharedReads
from model_copier.domain.errors import (
    Code,
    CopierError,
    PostponedError,
    RefusedError,
    UnavailableError,
)
from model_copier.domain.resource_names import ModelName
from model_copier.domain.vertex_types import CopyCall, Model, Operation, OperationsPage
from model_copier.engine.read_priority import Reading, reading_as
from simulators import SimulatedModels
from virtual_time import LoopClock, run_virtually
from world import SOURCE, TARGET

LOCATION = TARGET.rpartition("/models/")[0]


class SlowModels(SimulatedModels):
    """Each read takes a moment, and is counted."""

    def __init__(self, clock: LoopClock, seconds: float = 0.1) -> None:
        super().__init__(clock)
        self.seconds = seconds
        self.asked: Counter[str] = Counter()
        self.error: CopierError | None = None
        self.newest = "1"  # the default version
        self.add(SOURCE)

    async def _meet(self, what: str) -> None:
        self.asked[what] += 1
        self.clock.now()
        if self.error:
            await asyncio.sleep(self.seconds)
            raise self.error

    async def get_model(self, name: ModelName) -> Model:
        await self._meet("get_model")
        found = await super().get_model(name)
        if name.version is None:
            found = replace(found, name=name.at(self.newest))
        await asyncio.sleep(self.seconds)
        return found

    async def get_operation(self, name: str) -> Operation:
        await self._meet("get_operation")
        found = await super().get_operation(name)
        await asyncio.sleep(self.seconds)
        return found

    async def list_location(
        self, location: str, page_token: str = "", *, running_only: bool = True
    ) -> OperationsPage | None:
        await self._meet("list_location")
        found = await super().list_location(location, page_token, running_only=running_only)
        await asyncio.sleep(self.seconds)
        return found


def shared(dialect: str = "default", per_minute: int = 300) -> tuple[SlowModels, SharedReads]:
    clock = LoopClock()
    models = SlowModels(clock)
    models.registry.dialect = DIALECTS[dialect]
    return models, SharedReads(models, clock=clock, reads_per_minute=per_minute)


async def source(reads: SharedReads, name: str = SOURCE) -> Model:
    with reading_as(Reading.SOURCE):
        return await reads.get_model(ModelName.parse(name))


async def copies(models: SlowModels, count: int, seconds: float = 600) -> Sequence[str]:
    """Start so many; return their operations' names."""
    models.copy_seconds = seconds
    calls = (
        CopyCall(
            source=ModelName.parse(f"{SOURCE}@1"), target_location=LOCATION, model_id=f"m{number}"
        )
        for number in range(count)
    )
    models.clock.now()
    return [(await models.copy_model(call)).name for call in calls]


# Sources


def test_a_thousand_requests_of_one_source_read_it_twice():
    models, reads = shared()

    async def story() -> None:
        await asyncio.gather(*(source(reads) for _ in range(1000)))

    run_virtually(story())
    assert models.asked["get_model"] == 2, "the first, and one for all who came while it was read"


def test_an_alias_is_never_told_as_it_was_before():
    """A pipeline that moves the default version, and then publishes, copies the new one."""
    models, reads = shared()

    async def story() -> str | None:
        early = asyncio.ensure_future(source(reads))
        await asyncio.sleep(0.05)  # it has been read by now, and is on its way
        models.newest = "2"
        late = await source(reads)
        assert (await early).name.version == "1"
        return late.name.version

    assert run_virtually(story()) == "2"


def test_a_numbered_version_is_kept_for_some_seconds():
    models, reads = shared()

    async def story() -> None:
        for _ in range(20):
            await source(reads, f"{SOURCE}@1")
        await asyncio.sleep(11)
        await source(reads, f"{SOURCE}@1")

    run_virtually(story())
    assert models.asked["get_model"] == 2


def test_an_error_is_shared_too_and_not_kept():
    models, reads = shared()
    models.error = RefusedError(Code.NOT_FOUND, "no such model")

    async def story() -> None:
        told = await asyncio.gather(*(source(reads) for _ in range(500)), return_exceptions=True)
        assert {type(each) for each in told} == {RefusedError}
        assert models.asked["get_model"] == 2
        models.error = None
        await source(reads)

    run_virtually(story())


def test_other_reads_of_models_are_nobody_elses():
    models, reads = shared()

    async def story() -> None:
        await asyncio.gather(*(reads.get_model(ModelName.parse(SOURCE)) for _ in range(10)))

    run_virtually(story())
    assert models.asked["get_model"] == 10


# Operations


async def poll_all(reads: SharedReads, names: Sequence[str]) -> list[Any]:
    return await asyncio.gather(*(reads.get_operation(n) for n in names), return_exceptions=True)


def test_one_page_answers_a_hundred_polls():
    models, reads = shared()

    async def story() -> list[Any]:
        return await poll_all(reads, await copies(models, 100))

    told = run_virtually(story())
    assert all(not each.done for each in told)
    assert models.asked["list_location"] == 1
    assert models.asked["get_operation"] == FEW


def test_few_polls_are_asked_for_by_name():
    models, reads = shared()

    async def story() -> None:
        await poll_all(reads, await copies(models, FEW))

    run_virtually(story())
    assert models.asked == {"get_operation": FEW}


def test_what_ended_is_asked_for_by_name():
    models, reads = shared()

    async def story() -> list[Any]:
        short = await copies(models, 10, seconds=5)
        await asyncio.sleep(6)
        models.clock.now()
        return await poll_all(reads, short)

    assert all(each.done for each in run_virtually(story()))


def test_a_fresh_read_is_never_answered_by_a_list():
    models, reads = shared()

    async def story() -> bool:
        names = await copies(models, 20, seconds=3)
        await poll_all(reads, names)
        await asyncio.sleep(3)
        with reading_as(Reading.FRESH):
            return (await reads.get_operation(names[-1])).done

    assert run_virtually(story())


def test_pages_are_read_once_by_whoever_polls():
    models, reads = shared()

    async def story() -> None:
        names = await copies(models, 1000)
        for _ in range(5):
            told = await poll_all(reads, names)
            if all(isinstance(each, Operation) for each in told):
                return
            await asyncio.sleep(1)
        raise AssertionError("never answered")

    run_virtually(story())
    assert models.asked["list_location"] == 10


def test_a_list_grows_old():
    models, reads = shared()

    async def story() -> None:
        names = await copies(models, 50)
        for _ in range(10):
            await poll_all(reads, names)
            await asyncio.sleep(6)

    run_virtually(story())
    assert 8 <= models.asked["list_location"] <= 11


@pytest.mark.parametrize("dialect", ["location-list-empty", "no-location-list", "no-list"])
def test_where_lists_do_not_help_they_stop(dialect: str):
    models, reads = shared(dialect)

    async def story() -> None:
        names = await copies(models, 50)
        for _ in range(20):
            told = await poll_all(reads, names)
            assert all(isinstance(each, Operation) for each in told)
            await asyncio.sleep(6)

    run_virtually(story())
    assert models.asked["list_location"] <= 2
    assert models.asked["get_operation"] == 20 * 50


def test_whoever_waits_too_long_for_pages_comes_back():
    models, reads = shared()
    models.seconds = 2.0

    async def story() -> list[Any]:
        return await poll_all(reads, await copies(models, 1000))

    told = run_virtually(story())
    late = [each for each in told if isinstance(each, BaseException)]
    assert late
    assert all(isinstance(each, PostponedError) and each.retry_seconds >= 3 for each in late)


def test_a_reader_that_goes_away_keeps_no_page_from_others():
    models, reads = shared()

    async def story() -> list[Any]:
        names = await copies(models, 60)
        await poll_all(reads, names[:FEW])
        first = asyncio.ensure_future(reads.get_operation(names[-1]))
        await asyncio.sleep(0.01)
        others = asyncio.ensure_future(poll_all(reads, names))
        await asyncio.sleep(0.01)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        return await others

    assert all(isinstance(each, Operation) for each in run_virtually(story()))


def test_an_outage_is_everybodys_and_passes():
    models, reads = shared()

    async def story() -> None:
        names = await copies(models, 30)
        models.error = UnavailableError("away")
        assert {type(each) for each in await poll_all(reads, names)} == {UnavailableError}
        models.error = None
        assert all(isinstance(each, Operation) for each in await poll_all(reads, names))

    run_virtually(story())
