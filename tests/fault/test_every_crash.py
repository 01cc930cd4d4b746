"""A crash before and after every outside call and every save, on each path.

The crash points are found by running, not listed: each path is run once to count its
calls, then once more for every call with the process dying just before it, and just
after. What survives is the store, Vertex AI and the topics; Pub/Sub delivers again what
was not acknowledged. Then the invariants must hold as if nothing had happened.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from model_copier.errors import Code
from simulators import SimulatedModels
from world import PARENT, REQUEST, SOURCE, TARGET, World, request


class CrashError(BaseException):
    """The process dies here. Not an Exception: no handler may hide it."""


@dataclass
class Peril:
    """Counts outside calls and dies at one of them."""

    dies_at: int = -1  # -1: never
    after: bool = False
    calls: int = 0

    def guard(self, port: Any) -> Any:
        return _Guarded(port, self)


class _Guarded:
    def __init__(self, port: Any, peril: Peril) -> None:
        self._port = port
        self._peril = peril

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._port, name)
        if not callable(member):
            return member

        async def call(*args: Any, **kwargs: Any) -> Any:
            peril = self._peril
            peril.calls += 1
            dies = peril.calls - 1 == peril.dies_at
            if dies and not peril.after:
                raise CrashError(f"before {name}")
            result = await member(*args, **kwargs)
            if dies:
                raise CrashError(f"after {name}")
            return result

        return call


@dataclass(frozen=True)
class Path:
    """A way that a request can go, and what must have come of it."""

    name: str
    data: Any
    prepare: Callable[[SimulatedModels], None]
    outcome: str
    copies: int  # versions in the target in the end

    def __str__(self) -> str:
        return self.name


def _nothing(_models: SimulatedModels) -> None:
    pass


def _parent(models: SimulatedModels) -> None:
    models.add(PARENT)


def _target(models: SimulatedModels) -> None:
    models.add(TARGET)


def _fails(models: SimulatedModels) -> None:
    # Each time: an ask whose answer was lost and that failed unseen is asked again.
    models.dooms = [Code.PERMISSION_DENIED] * 3


def _fails_twice(models: SimulatedModels) -> None:
    models.dooms = [Code.INTERNAL, Code.INTERNAL]


def _lost(models: SimulatedModels) -> None:
    models.lost_answers = 1


def _lost_with_parent(models: SimulatedModels) -> None:
    _lost(models)
    _parent(models)


def _quota(models: SimulatedModels) -> None:
    models.refusals = [Code.RESOURCE_EXHAUSTED]


VERSION = {"source_model_id": "7704127342733426688", "destination_parent_model": "shared-parent"}
PATHS = [
    Path("new model", REQUEST, _nothing, "succeeded", 1),
    Path("new version", VERSION, _parent, "succeeded", 2),
    Path("derived id", {"source_model_id": "7704127342733426688"}, _nothing, "succeeded", 1),
    Path("if_exists new_version", REQUEST | {"if_exists": "new_version"}, _target, "succeeded", 2),
    Path("if_exists skip", REQUEST | {"if_exists": "skip"}, _target, "succeeded", 1),
    Path("destination taken", REQUEST, _target, "failed", 1),
    Path("source missing", REQUEST | {"source_model_id": "1"}, _nothing, "failed", 0),
    Path("copy fails", REQUEST, _fails, "failed", 0),
    Path("copy fails and is tried again", REQUEST, _fails_twice, "succeeded", 1),
    Path("answer lost", REQUEST, _lost, "succeeded", 1),
    Path("answer lost, new version", VERSION, _lost_with_parent, "succeeded", 2),
    Path("quota", REQUEST, _quota, "succeeded", 1),
    Path("rejected", {"source_model_id": 7}, _nothing, "rejected", 0),
]


async def run(path: Path, peril: Peril) -> World:
    """Live through one history: at most one crash, then redelivery and time."""
    world = World()
    path.prepare(world.models)
    real = world.store, world.models, world.topics

    async def worker_lives() -> None:
        world.start_worker()
        await world.deliver(request(path.data))
        await world.pass_time(400)

    world.store, world.models, world.topics = (peril.guard(port) for port in real)
    try:
        await worker_lives()
    except CrashError:
        world.store, world.models, world.topics = real
        await worker_lives()
    world.store, world.models, world.topics = real
    return world


def check(world: World, path: Path) -> None:
    """The invariants: once, told, kept."""
    copies = sum(
        len(world.models.registry.versions(str(model.name)))
        for model in world.models.registry.models()
        if str(model.name.unversioned) != SOURCE
    )
    assert copies == path.copies
    outcomes = {reply["id"]: reply["outcome"] for reply in world.replies}
    assert list(outcomes.values()) == [path.outcome]
    assert len({message.data for message in world.topics.replies}) == 1
    kept = {letter.attributes["outcome_id"] for letter in world.topics.letters}
    assert kept == (set() if path.outcome == "succeeded" else set(outcomes))
    assert all(letter.data == request(path.data).data for letter in world.topics.letters)
    assert all(job.due_at is None for job in world.store.jobs.values())


@pytest.mark.parametrize("path", PATHS, ids=str)
async def test_a_crash_at_any_point_changes_nothing_in_the_end(path: Path):
    calm = Peril()
    check(await run(path, calm), path)
    assert calm.calls > 0

    for dies_at in range(calm.calls):
        for after in (False, True):
            peril = Peril(dies_at=dies_at, after=after)
            world = await run(path, peril)
            try:
                check(world, path)
            except AssertionError as error:
                raise AssertionError(
                    f"{path}: dies {'after' if after else 'before'} call {dies_at}"
                ) from error
