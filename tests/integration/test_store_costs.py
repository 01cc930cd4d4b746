"""What Firestore bills for: the table in docs/stores.md is what is counted here."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from firestore_front import FirestoreFront
from model_copier.adapters.firestore_documents import INDEXED, TTL_FIELD
from model_copier.engine.ports import Wanted
from model_copier.engine.scheduler import Scheduler
from simulators import START, SimulatedClock, SimulatedModels
from stores import firestore_store
from world import SOURCE, World

PAGE = (Path(__file__).parents[2] / "docs" / "stores.md").read_text()
ROW = re.compile(r"^\| (.+?) \| +(\d+) \| +(\d+) \| +(\d+) \|$", re.MULTILINE)
SAID = {name: tuple(map(int, numbers)) for name, *numbers in ROW.findall(PAGE)}
FOLLOW_SECONDS = 30
NOBODYS = Wanted(request_source="//nobody")


@dataclass
class Counted:
    world: World
    front: FirestoreFront

    async def of(self, act: Callable[[World], Awaitable[object]]) -> tuple[int, ...]:
        self.front.billed.clear()
        await act(self.world)
        return tuple(self.front.billed[kind] for kind in ("reads", "writes", "deletes"))


@pytest.fixture
async def counted(firestore: str) -> AsyncIterator[Counted]:
    clock = SimulatedClock()
    models = SimulatedModels(clock)
    models.add(SOURCE)
    async with (
        FirestoreFront(emulator=firestore) as front,
        firestore_store(front.address, clock=clock) as store,
    ):
        await store.restored_at()  # read once, when a process starts
        yield Counted(World(clock=clock, models=models, store=store), front)


class SimulatedRests(Scheduler):
    """Ticks whose rests pass on the simulated clock."""

    async def _rest(self, seconds: float) -> None:
        if self._in_hand or self.workflow.wakeup.is_set():
            await super()._rest(seconds)
        else:
            self.workflow.clock.advance(seconds)  # type: ignore[attr-defined]


async def copy_for(world: World, seconds: float) -> None:
    """Copy once: a tick comes with the start, and one each minute from Cloud Scheduler."""
    world.models.copy_seconds = seconds
    ticks = SimulatedRests(workflow=world.workflow)
    await world.deliver()
    minutes = 0
    while not world.topics.replies:
        await ticks.take(FOLLOW_SECONDS)
        minutes += 1
        world.clock.advance(60 * minutes - world.clock.monotonic())
    assert [reply["outcome"] for reply in world.replies] == ["succeeded"]


EVENTS: dict[str, Callable[[World], Awaitable[object]]] = {
    "a copy of 42 s, followed": lambda world: copy_for(world, 42),
    "a copy of 30 minutes, followed": lambda world: copy_for(world, 1800),
    "a tick that finds nothing to do": lambda world: world.ticks.take(0),
    "the same with FOLLOW_SECONDS": lambda world: world.ticks.take(FOLLOW_SECONDS),
    "`/ready`": lambda world: world.store.check(),
    "a read for 30 waiting callers": lambda world: world.store.ended([str(n) for n in range(30)]),
    "the turn of a new job": lambda world: world.store.next_turn("queue", "//ec2", 1),
    "the unfinished jobs of a sender, counted, for each 1,000": (
        lambda world: world.store.unfinished("//ec2")
    ),
    "an empty read of the queues": lambda world: world.store.queues(),
    "starts taken from a queue": (
        lambda world: world.store.take_starts("queue", [1.0, 2.0], START, 50)
    ),
    "a page of `GET /v1/copies` that is empty": lambda world: world.store.find(NOBODYS, 20),
}


@pytest.mark.parametrize("event", EVENTS)
async def test_an_event_costs_what_the_page_says(counted: Counted, event: str):
    assert await counted.of(EVENTS[event]) == SAID[event]


async def test_a_request_that_comes_again_costs_what_the_page_says(counted: Counted):
    await copy_for(counted.world, 42)

    assert await counted.of(World.deliver) == SAID["a request that comes again, answered"]


def test_the_page_names_what_is_indexed_and_what_expires():
    for field, kind in INDEXED.items():
        assert f"| `{field}` | {kind.lower()} |" in PAGE
        index = "array-config=contains" if kind == "CONTAINS" else f"order={kind.lower()}"
        assert f"fields update {field} $JOBS --index={index}" in PAGE
    assert f"ttls update {TTL_FIELD} $JOBS --enable-ttl" in PAGE
