"""What many copies in flight read of Vertex AI, and how late they are told: ``make bench-reads``.

The real ticks and the real workflow in virtual time, before a Vertex AI that answers 600
reads in a minute of the clock and refuses the rest. COUNT copies of four to eight minutes
run when the quota sets in; a minute later ten new ones are asked for. Without guards is what
the engine does by itself; where operations cannot be listed, each copy is polled by itself.
"""

import argparse
import asyncio
import heapq
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from local_cloud.registry import Registry
from local_cloud.vertex_dialects import DIALECTS
from local_cloud.vertex_quotas import Quotas
from local_cloud.vertex_records import VertexError
from model_copier.domain.errors import Code, StaleJobError, outcome_of_read
from model_copier.domain.job import Job
from model_copier.domain.timing import Timing
from simulators import START, SimulatedModels, SimulatedStore, SimulatedTopics
from virtual_time import LoopClock, run_virtually
from world import SOURCE, World, request

try:
    from model_copier.adapters.guarded_models import GuardedModelService
    from model_copier.adapters.shared_reads import SharedReads
except ImportError:  # an older commit, beside which this one is measured
    GUARDED = False
else:
    GUARDED = True

QUOTA = 600
READS_PER_MINUTE = 300
CALL_SECONDS = 0.05
PATIENCE_SECONDS = 3 * 3600
READS = ("get_model", "list_versions", "list_operations", "list_location", "get_operation")


class _IndexedStore(SimulatedStore):
    """As fast for ten thousand jobs as for ten; each has a destination of its own."""

    def __init__(self) -> None:
        super().__init__()
        self._heap: list[tuple[datetime, int, str, int]] = []
        self._order = count()
        self.saves = 0

    async def create(self, job: Job) -> Job:
        return self._indexed(await super().create(job))

    async def save(self, job: Job) -> Job:
        stored = self.jobs.get(job.key)
        if stored is None or stored.version != job.version:
            raise StaleJobError(job.key)
        self.saves += 1
        saved = {job.key: stored}
        everything, self.jobs = self.jobs, saved
        try:
            await super().save(job)
        finally:
            self.jobs = everything
        self.jobs[job.key] = saved[job.key]
        return self._indexed(saved[job.key])

    async def due(self, now: datetime, latest: datetime, limit: int) -> Sequence[Job]:  # noqa: ARG002
        found: list[tuple[datetime, int, str, int]] = []
        while self._heap and self._heap[0][0] <= now and len(found) < limit:
            entry = heapq.heappop(self._heap)
            if self.jobs[entry[2]].version == entry[3]:
                found.append(entry)
        for entry in found:
            heapq.heappush(self._heap, entry)
        return [self.jobs[key] for _, _, key, _ in found]

    async def next_due_at(self) -> datetime | None:
        while self._heap and self.jobs[self._heap[0][2]].version != self._heap[0][3]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    async def awaiting(self, destination: str, limit: int) -> Sequence[Job]:  # noqa: ARG002
        return ()

    async def delete_expired(self, now: datetime) -> int:  # noqa: ARG002
        return 0

    def _indexed(self, job: Job) -> Job:
        if job.due_at:
            entry = (job.due_at, next(self._order), job.key, job.version)
            heapq.heappush(self._heap, entry)
        return job


class _Topics(SimulatedTopics):
    """Notes when each reply was sent; its ticks arrive."""

    def __init__(self, clock: LoopClock) -> None:
        super().__init__()
        self.clock, self.sent = clock, list[float]()
        self.tick: Callable[[], Coroutine[Any, Any, object]] | None = None
        self.ticking = set[asyncio.Task[object]]()

    async def publish_reply(self, message: Any) -> None:
        self.sent.append(self.clock.monotonic())
        await super().publish_reply(message)

    async def publish_tick(self) -> None:
        if self.tick:
            task = asyncio.get_running_loop().create_task(self.tick())
            self.ticking.add(task)
            task.add_done_callback(self.ticking.discard)


@dataclass(kw_only=True)
class _Limited:
    """Vertex AI with its quota of reads, and with the time that a call takes."""

    models: SimulatedModels
    clock: LoopClock
    limited: bool = False
    answered: Counter[int] = field(default_factory=Counter)
    refused: Counter[int] = field(default_factory=Counter)
    copies_at: list[float] = field(default_factory=list)
    quotas: Quotas = field(default_factory=Quotas)

    def __getattr__(self, name: str) -> Any:
        call = getattr(self.models, name)

        async def calling(*asked: Any, **how: Any) -> Any:
            if not self.limited:
                self.clock.now()
                return await call(*asked, **how)
            await asyncio.sleep(CALL_SECONDS)
            now = self.clock.now()
            if name == "copy_model":
                self.copies_at.append(self.clock.monotonic())
            if name in READS:
                self._spend(str(asked[0]), now)
            return await call(*asked, **how)

        return calling

    def _spend(self, name: str, now: datetime) -> None:
        minute, project = int(self.clock.monotonic() // 60), name.split("/")[1]
        try:
            self.quotas.spend(QUOTA, project=project, location="here", submits=False, now=now)
        except VertexError as error:
            self.refused[minute] += 1
            raise outcome_of_read(Code[error.code.name], error.message) from error
        self.answered[minute] += 1


@dataclass(frozen=True, kw_only=True)
class Row:
    """What came of one run."""

    way: str
    answered: int  # reads in the fullest minute
    refused: int
    put_off: int
    saves: int
    starts: Sequence[float]
    failed: int
    lags: Sequence[float]
    seconds: float

    def cells(self) -> Sequence[str]:
        lags = sorted(self.lags)
        tenth = statistics.quantiles(lags, n=10)
        return (
            self.way,
            f"{self.answered}",
            f"{self.refused}",
            f"{self.put_off}",
            f"{self.failed}",
            f"{self.saves}",
            f"{max(self.starts):.0f} s" if len(self.starts) == 10 else "not all",
            f"{tenth[4]:.0f} s",
            f"{tenth[8]:.0f} s",
            f"{lags[-1]:.0f} s",
        )


HEADER = (
    "way", "reads in the fullest minute", "refused", "`put_off` lines", "failed", "saves",
    "ten new requests: the last CopyModel after", "end to reply, p50", "p90", "worst",
)  # fmt: skip


async def measure(way: str, copies: int, *, guarded: bool, dialect: str) -> Row:
    begun, random, clock = time.monotonic(), Random(1), LoopClock()
    inner = SimulatedModels(clock, registry=Registry(dialect=DIALECTS[dialect]))
    inner.add(SOURCE)
    limited = _Limited(models=inner, clock=clock)
    store, topics = _IndexedStore(), _Topics(clock)
    world = World(
        clock=clock,
        store=store,
        topics=topics,
        models=limited,
        timing=Timing(starts_per_minute=1e6),
    )
    for number in range(copies):
        inner.copy_seconds = random.uniform(240, 480)
        await world.deliver(_request(number))
    world.timing = Timing()
    limited.limited = True
    if guarded:
        guard = GuardedModelService(
            limited,
            store=store,
            clock=clock,
            call_seconds=30,
            reads_per_minute=READS_PER_MINUTE,
        )
        world.models = SharedReads(
            guard,
            clock=clock,
            reads_per_minute=READS_PER_MINUTE,
            on_listed=guard.leave_line,
        )
    world.start_worker()
    put_off: list[str] = []
    world.workflow.on_trouble = lambda _job, why: put_off.append(why)
    topics.tick = lambda: world.ticks.take(30)
    store.saves = 0

    async def new_ones() -> None:
        await asyncio.sleep(60)
        for number in range(10):
            inner.copy_seconds = 60.0
            await world.deliver(_request(copies + number))

    asking = asyncio.create_task(new_ones())
    while len(topics.sent) < copies + 10 and clock.monotonic() < PATIENCE_SECONDS:
        await topics.publish_tick()
        await asyncio.sleep(60)
    await asking
    world.ticks.close()
    await asyncio.gather(*topics.ticking)
    inner.registry.settle(clock.now())
    ended = {
        operation.destination.model: (operation.ends_at - START).total_seconds()
        for operation in inner.registry.operations()
    }
    told = [reply for reply in world.replies if reply["outcome"] == "succeeded"]
    sent = {reply["target_model"].rpartition("/")[2]: at
            for reply, at in zip(world.replies, topics.sent, strict=True)}  # fmt: skip
    return Row(
        way=way,
        answered=max(limited.answered.values()),
        refused=sum(limited.refused.values()),
        put_off=len(put_off),
        saves=store.saves,
        starts=[at - 60 for at in limited.copies_at[:10]],
        failed=len(world.replies) - len(told),
        lags=[at - ended[model] for model, at in sent.items() if model in ended],
        seconds=time.monotonic() - begun,
    )


def _request(number: int) -> Any:
    data = {
        "source_model_id": "7704127342733426688",
        "destination_model_id": f"model-{number}",
    }
    return request(data, request_id=f"request-{number}")


def rows(copies: int) -> Iterator[Row]:
    """Run them one after the other: each takes a minute or, with ten thousand, ten."""
    ways = [("no guards", False, "default")]
    if GUARDED:
        ways += [
            ("guards, lists", True, "default"),
            ("guards, no lists", True, "no-location-list"),
        ]
    for way, guarded, dialect in ways:
        yield run_virtually(measure(way, copies, guarded=guarded, dialect=dialect))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000, help="copies in flight")
    copies = parser.parse_args().count
    print(f"{copies:,} copies in flight; {QUOTA} reads a minute are answered\n")
    print("| " + " | ".join(HEADER) + " |")
    print("|" + " --- |" * len(HEADER))
    for row in rows(copies):
        print("| " + " | ".join(row.cells()) + " |", flush=True)
