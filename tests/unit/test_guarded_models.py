"""One location does not hold up another, and reads keep to their budget: in virtual time."""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from model_copier.adapters.guarded_models import MOST_AT_ONCE, GuardedModelService
from model_copier.domain.errors import (
    BudgetExhaustedError,
    CircuitOpenError,
    Code,
    ExhaustedError,
    NoAnswerError,
    OutcomeUnknownError,
    PostponedError,
    RefusedError,
    UnavailableError,
)
from model_copier.domain.resource_names import ModelName
from model_copier.domain.timing import Timing
from model_copier.domain.vertex_types import CopyCall, Model, Operation
from model_copier.engine.scheduler import Scheduler
from simulators import SimulatedStore
from unit.test_read_rate import most_in_a_minute
from virtual_time import LoopClock, pass_time, run_virtually, until
from world import SOURCE, TARGET_PROJECT, World, request

HERE, DEAD = "us-central1", "europe-west4"
READ_SECONDS, CALL_SECONDS = 10.0, 30.0


def model_in(location: str) -> ModelName:
    return ModelName.parse(f"projects/{TARGET_PROJECT}/locations/{location}/models/m")


def copy_in(location: str) -> CopyCall:
    return CopyCall(
        source=ModelName.parse(f"{SOURCE}@1"),
        target_location=f"projects/{TARGET_PROJECT}/locations/{location}",
        model_id="m",
    )


class Region:
    """Vertex AI that answers each location in its own way, and counts."""

    def __init__(self, clock: LoopClock) -> None:
        self.clock = clock
        self.ways: dict[str, Callable[[], Awaitable[None]]] = {}
        self.asked: Counter[str] = Counter()
        self.at_once: Counter[str] = Counter()
        self.most_at_once: Counter[str] = Counter()
        self.reads: list[float] = []

    async def _met(self, location: str) -> None:
        self.asked[location] += 1
        self.reads.append(self.clock.monotonic())
        self.at_once[location] += 1
        self.most_at_once[location] = max(self.most_at_once[location], self.at_once[location])
        try:
            await pass_time(0.05)
            if way := self.ways.get(location):
                await way()
        finally:
            self.at_once[location] -= 1

    async def get_model(self, name: ModelName) -> Model:
        await self._met(name.location)
        return Model(name=name.at("1"), copy_of=None)

    async def get_operation(self, name: str) -> Operation:
        await self._met(name.split("/")[3])
        return Operation(name=name, done=False)

    async def copy_model(self, call: CopyCall) -> Operation:
        try:
            await self._met(call.target_location.split("/")[3])
        except NoAnswerError as error:
            raise OutcomeUnknownError(str(error), answered=False) from error
        return Operation(name=f"{call.target_location}/models/m/operations/1", done=False)


async def silent() -> None:
    await pass_time(READ_SECONDS)
    raise NoAnswerError("nobody answers")


async def refusing() -> None:
    raise RefusedError(Code.PERMISSION_DENIED, "not for you")


async def exhausted() -> None:
    raise ExhaustedError("RESOURCE_EXHAUSTED: Quota exceeded")


def guard(*, per_minute: int = 60_000) -> tuple[Region, GuardedModelService]:
    clock = LoopClock()
    region: Any = Region(clock)
    guarded = GuardedModelService(
        region,
        store=SimulatedStore(),
        clock=clock,
        call_seconds=CALL_SECONDS,
        reads_per_minute=per_minute,
    )
    return region, guarded


async def errors_of(calls: list[Awaitable[object]]) -> list[type[BaseException] | None]:
    ended = await asyncio.gather(*calls, return_exceptions=True)
    return [type(each) if isinstance(each, BaseException) else None for each in ended]


def test_a_location_that_does_not_answer_is_left_alone(capsys):
    region, guarded = guard()
    region.ways[DEAD] = silent

    async def story() -> float:
        for _ in range(3):
            with pytest.raises(NoAnswerError):
                await guarded.get_model(model_in(DEAD))
        begun = region.clock.monotonic()
        for _ in range(100):
            with pytest.raises(CircuitOpenError, match="europe-west4 does not answer; next try"):
                await guarded.get_model(model_in(DEAD))
            with pytest.raises(UnavailableError):
                await guarded.copy_model(copy_in(DEAD))
        return region.clock.monotonic() - begun

    assert run_virtually(story()) == 0
    assert region.asked[DEAD] == 3
    (line,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (line["message"], line["severity"]) == ("circuit_opened", "WARNING")
    assert line["location"] == DEAD


def test_one_probe_at_a_time_until_it_is_back(capsys):
    region, guarded = guard()
    region.ways[DEAD] = silent

    async def story() -> None:
        await errors_of([guarded.get_model(model_in(DEAD)) for _ in range(5)])
        asked = region.asked[DEAD]
        await pass_time(11)
        told = await errors_of([guarded.get_model(model_in(DEAD)) for _ in range(20)])
        assert region.asked[DEAD] == asked + 1
        assert Counter(told) == {NoAnswerError: 1, CircuitOpenError: 19}
        region.ways.clear()
        await pass_time(21)
        assert await errors_of([guarded.get_model(model_in(DEAD))]) == [None]
        assert (
            await errors_of([guarded.get_model(model_in(DEAD)) for _ in range(20)]) == [None] * 20
        )

    run_virtually(story())
    lines = [json.loads(line)["message"] for line in capsys.readouterr().out.splitlines()]
    assert lines == ["circuit_opened", "circuit_closed"]


def test_a_copy_is_never_the_probe():
    """It cannot be repeated; a read can."""
    region, guarded = guard()
    region.ways[DEAD] = silent

    async def story() -> None:
        await errors_of([guarded.get_model(model_in(DEAD)) for _ in range(3)])
        await pass_time(11)
        asked = region.asked[DEAD]
        with pytest.raises(CircuitOpenError):
            await guarded.copy_model(copy_in(DEAD))
        assert region.asked[DEAD] == asked

    run_virtually(story())


def test_copies_without_an_answer_open_it_too():
    region, guarded = guard()
    region.ways[DEAD] = silent

    async def story() -> None:
        told = await errors_of([guarded.copy_model(copy_in(DEAD)) for _ in range(3)])
        assert told == [OutcomeUnknownError] * 3
        assert await errors_of([guarded.get_model(model_in(DEAD))]) == [CircuitOpenError]

    run_virtually(story())


def test_whoever_says_no_is_alive():
    region, guarded = guard()
    region.ways[HERE] = refusing

    told = run_virtually(errors_of([guarded.get_model(model_in(HERE)) for _ in range(10)]))

    assert told == [RefusedError] * 10


def test_a_probe_that_is_cancelled_leaves_room_for_another():
    region, guarded = guard()
    region.ways[DEAD] = silent

    async def story() -> None:
        await errors_of([guarded.get_model(model_in(DEAD)) for _ in range(3)])
        await pass_time(11)
        probe = asyncio.ensure_future(guarded.get_model(model_in(DEAD)))
        await until(lambda: region.at_once[DEAD] == 1, seconds=5)
        probe.cancel()
        await asyncio.gather(probe, return_exceptions=True)
        region.ways.clear()
        assert await errors_of([guarded.get_model(model_in(DEAD))]) == [None]

    run_virtually(story())


def test_calls_to_one_location_at_once_are_bounded():
    region, guarded = guard()

    async def story() -> None:
        calls = [guarded.get_model(model_in(place)) for place in (HERE, DEAD) for _ in range(100)]
        await errors_of([*calls])

    run_virtually(story())
    assert region.most_at_once[HERE] == MOST_AT_ONCE
    assert region.most_at_once[DEAD] == MOST_AT_ONCE


def test_a_copy_and_its_wait_take_no_longer_than_a_call():
    """The lease under which it is asked counts on that."""
    region, guarded = guard()

    async def slow() -> None:
        await pass_time(2 * CALL_SECONDS)

    region.ways[HERE] = slow

    async def story() -> list[float]:
        took: list[float] = []

        async def one() -> None:
            begun = region.clock.monotonic()
            with pytest.raises((OutcomeUnknownError, PostponedError)):
                await guarded.copy_model(copy_in(HERE))
            took.append(region.clock.monotonic() - begun)

        await asyncio.gather(*(one() for _ in range(40)))
        return took

    assert max(run_virtually(story())) <= CALL_SECONDS + 0.01


def test_a_refusal_for_quota_slows_the_region_and_is_no_failure(capsys):
    region, guarded = guard(per_minute=300)
    region.ways[HERE] = exhausted

    async def story() -> None:
        told = await errors_of([guarded.get_model(model_in(HERE)) for _ in range(20)])
        assert set(told) == {BudgetExhaustedError}
        region.ways.clear()
        polls = [guarded.get_operation(f"{model_in(HERE)}/operations/{n}") for n in range(200)]
        told = await errors_of([*polls])
        assert set(told) <= {BudgetExhaustedError, None}

    run_virtually(story())
    assert region.asked[HERE] < 40
    (line,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert line["message"] == "reads_slowed"
    assert "Quota exceeded" in line["why"]


def test_an_id_and_a_number_are_one_projects_budget():
    region, guarded = guard(per_minute=300)

    async def numbered(name: ModelName) -> Model:
        await region._met(name.location)
        number = ModelName.parse(f"projects/123456/locations/{name.location}/models/m@1")
        return Model(name=number, copy_of=None)

    region.get_model = numbered  # type: ignore[method-assign]

    async def story() -> None:
        await guarded.get_model(model_in(HERE))
        for project in (TARGET_PROJECT, "123456"):
            name = f"projects/{project}/locations/{HERE}/operations"
            await errors_of([guarded.get_operation(f"{name}/{n}") for n in range(300)])

    run_virtually(story())
    assert most_in_a_minute(region.reads) <= 300


def test_names_of_locations_do_not_pile_up():
    _, guarded = guard()

    async def story() -> None:
        for number in range(2000):
            await guarded.get_model(model_in(f"x{number}"))

    run_virtually(story())
    assert len(guarded._locations) == 64
    assert len(guarded._budgets) == 256


def test_a_dead_region_delays_no_copy_elsewhere():
    """A hundred copies run where nobody answers any more; one is asked for elsewhere."""

    async def story() -> tuple[float, int]:
        clock = LoopClock()
        world = World(clock=clock, timing=Timing(starts_per_minute=6000))
        inner = world.models
        dead = False

        class DeadRegion:
            def __getattr__(self, name: str) -> Any:
                answer = getattr(inner, name)

                async def answering(asked: Any, *more: Any) -> Any:
                    clock.now()
                    where = str(getattr(asked, "target_location", asked))
                    if dead and f"/{DEAD}/" in f"{where}/":
                        await silent()
                    return await answer(asked, *more)

                return answering

        models: Any = DeadRegion()
        world.models = GuardedModelService(
            models,
            store=world.store,
            clock=clock,
            call_seconds=CALL_SECONDS,
            reads_per_minute=60_000,
        )
        world.start_worker()
        inner.copy_seconds = 3600.0
        for number in range(100):
            data = {
                "source_model_id": "7704127342733426688",
                "destination_model_id": f"model-{number}",
                "target_location": DEAD,
            }
            await world.deliver(request(data, request_id=f"dead-{number}"))
        dead = True
        following = asyncio.ensure_future(_ticking(world.ticks))
        await pass_time(90)
        inner.copy_seconds = 1.0
        begun = clock.monotonic()
        await world.deliver(request(request_id="elsewhere"))
        await until(lambda: world.replies, seconds=60)
        late = clock.monotonic() - begun
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        return late, len(world.replies)

    late, told = run_virtually(story())
    assert told == 1
    assert late < 8


async def _ticking(ticks: Scheduler) -> None:
    while True:
        await ticks.take(60)
        await pass_time(1)
