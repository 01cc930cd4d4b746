"""What following costs and gains, and what handing a destination on: ``make bench-follow``.

The real ticks and the real workflow on an event loop whose time is virtual, so hours pass
in seconds and the numbers are the same on every machine. Copies of many lengths start at
any second of the minute; Cloud Scheduler ticks once a minute, and each start ticks too.
Billed is the time in which at least one delivery is open (Cloud Run, request-based).
"""

import asyncio
import statistics
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from simulators import SimulatedStore, SimulatedTopics
from virtual_time import LoopClock, VirtualLoop
from world import PARENT, World, request

FOLLOW_SECONDS = (0, 10, 30, 60, 120)
# Short ones and long ones: seconds.
LENGTHS = (12, 45, 180, 600, 1800)
RUNS = 40  # of each length
AUDIT_SECONDS = 2  # assumed: how soon an entry of the audit log arrives
CALL_SECONDS = 0.2  # what a delivery takes besides waiting


@dataclass(frozen=True)
class Told:
    late: float  # seconds from the copy's end to its reply
    billed: float


async def one_copy(seconds: float, follow: float, phase: float) -> Told:
    """Live one copy that starts ``phase`` seconds after Cloud Scheduler's tick."""
    world = World(clock=LoopClock())
    world.models.copy_seconds = seconds
    loop = asyncio.get_running_loop()
    begun = loop.time()
    open_deliveries, billed_since, billed = 0, 0.0, 0.0

    async def delivered(story: Any) -> None:
        nonlocal open_deliveries, billed_since, billed
        if not open_deliveries:
            billed_since = loop.time()
        open_deliveries += 1
        world.clock.now()
        await story
        await asyncio.sleep(CALL_SECONDS)
        open_deliveries -= 1
        if not open_deliveries:
            billed += loop.time() - billed_since

    async def scheduler() -> None:
        await asyncio.sleep(60 - phase)
        while True:
            ticking.append(loop.create_task(delivered(world.ticks.take(follow))))
            await asyncio.sleep(60)

    ticking: list[asyncio.Task[None]] = []
    scheduled = loop.create_task(scheduler())
    await delivered(world.deliver(request()))
    ticking.append(loop.create_task(delivered(world.ticks.take(follow))))  # the start's own
    while not world.topics.replies:
        await asyncio.sleep(0.5)
        world.clock.now()
    late = loop.time() - begun - seconds
    scheduled.cancel()
    await asyncio.gather(*ticking)
    return Told(late=late, billed=billed)


async def measure(follow: float, random: Random) -> tuple[str, ...]:
    late: list[float] = []
    billed: list[float] = []
    for seconds in LENGTHS:
        for _ in range(RUNS):
            told = await one_copy(seconds * random.uniform(0.8, 1.2), follow, random.uniform(0, 60))
            late.append(told.late)
            if seconds == LENGTHS[-1]:
                billed.append(told.billed)
    return (
        f"{follow:g}",
        f"{statistics.median(late):.0f}",
        f"{max(late):.0f}",
        f"{statistics.median(billed):.0f}",
    )


class _Pushed(SimulatedTopics):
    """Its ticks arrive, too."""

    def __init__(self, tick: Callable[[], Coroutine[Any, Any, object]]) -> None:
        super().__init__()
        self.tick, self.ticking = tick, set[asyncio.Task[object]]()

    async def publish_tick(self) -> None:
        self.ticking.add(asyncio.get_running_loop().create_task(self.tick()))


class _Forgetful(SimulatedStore):
    """Nobody is handed a destination: whoever waits for it looks by itself."""

    async def awaiting(self, destination: str, limit: int) -> Sequence[Any]:  # noqa: ARG002
        return ()


async def idle_between(store: SimulatedStore, seconds: float, phase: float) -> list[float]:
    """Copy five versions of one parent; return the seconds from one's end to the next one's start.

    Cloud Scheduler's first tick comes ``phase`` seconds after the requests; the audit log
    tells of an operation's end AUDIT_SECONDS later.
    """
    world: World
    topics = _Pushed(lambda: world.ticks.take(30))
    world = World(clock=LoopClock(), store=store, topics=topics)
    world.models.add(PARENT)
    world.models.copy_seconds = seconds
    version = {"source_model_id": "7704127342733426688", "destination_parent_model": PARENT}
    for number in range(5):
        await world.deliver(request(version, request_id=f"request-{number}"))

    async def audit_log() -> None:
        told: set[str] = set()
        while True:
            await asyncio.sleep(AUDIT_SECONDS)
            world.models.registry.settle(world.clock.now())
            for operation in world.models.registry.operations():
                if operation.done and operation.name not in told:
                    told.add(operation.name)
                    await world.ticks.nudge(operation.name)

    auditing = asyncio.create_task(audit_log())
    await asyncio.sleep(phase)
    while len(topics.replies) < 5:
        await topics.publish_tick()
        await asyncio.sleep(60)
    auditing.cancel()
    await asyncio.gather(*topics.ticking)
    return [
        _moment(after["copy_started_at"]) - _moment(before["copy_ended_at"])
        for before, after in pairwise(reply["timings"] for reply in world.replies)
    ]


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


async def idle(kind: type[SimulatedStore], seconds: float, random: Random) -> str:
    between: list[float] = []
    for _ in range(RUNS):
        length = seconds * random.uniform(0.8, 1.2)
        between += await idle_between(kind(), length, random.uniform(0, 60))
    return f"{statistics.mean(between):.0f}"


def idle_rows() -> Sequence[tuple[str, ...]]:
    """Length of the copies; idle seconds, on average, without and with handing on."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return [
            (
                f"{seconds}",
                *(
                    runner.run(idle(kind, seconds, Random(1)))
                    for kind in (_Forgetful, SimulatedStore)
                ),
            )
            for seconds in LENGTHS
        ]


def rows() -> Sequence[tuple[str, ...]]:
    """FOLLOW_SECONDS, median and worst seconds from end to reply, billed of a 30-minute copy."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return [runner.run(measure(follow, Random(1))) for follow in FOLLOW_SECONDS]


if __name__ == "__main__":
    print("| `FOLLOW_SECONDS` | from end to reply, median | worst | billed of a 30-minute copy |")
    print("| --- | --- | --- | --- |")
    for row in rows():
        print("| " + " | ".join(row) + " |")
    print("\n| copies of | idle between two, each looks by itself | handed on |")
    print("| --- | --- | --- |")
    for row in idle_rows():
        print("| " + " | ".join(row) + " |")
