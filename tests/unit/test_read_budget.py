"""The read budget: the minute holds, the urgent come first, and none starves."""

import asyncio
from collections import Counter
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_copier.adapters.read_budget import MOST_PLACES, Kind, ReadBudget
from model_copier.domain.errors import BudgetExhaustedError, UnavailableError
from unit.test_read_rate import most_in_a_minute
from virtual_time import LoopClock, pass_time, run_virtually


@dataclass
class Slots:
    """A window of 60 seconds that several processes share, as a store keeps it."""

    clock: LoopClock
    per_minute: int
    taken: list[float] = field(default_factory=list)
    asked: int = 0
    away: bool = False

    async def take(self, wanted: int) -> int:
        await pass_time(0.01)
        self.asked += 1
        if self.away:
            raise UnavailableError("the store is away")
        now = self.clock.monotonic()
        self.taken = [at for at in self.taken if at > now - 60]
        granted = min(wanted, self.per_minute - len(self.taken))
        self.taken += [now] * granted
        return granted


@dataclass
class Process:
    """One process that reads, and comes back when it is told to."""

    slots: Slots
    per_minute: int = 300
    reads: list[tuple[float, Kind, str]] = field(default_factory=list)
    retries: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clock = self.slots.clock
        self.budget = ReadBudget(
            per_minute=self.per_minute, take_slots=self.slots.take, clock=self.clock
        )

    async def read(self, kind: Kind, name: str = "") -> float:
        """Read in the end; return how long that took."""
        begun = self.clock.monotonic()
        while True:
            try:
                await self.budget.spend(kind, name)
            except BudgetExhaustedError as error:
                self.retries.append(error.retry_seconds)
                await pass_time(error.retry_seconds)
            else:
                self.reads.append((self.clock.monotonic(), kind, name))
                return self.clock.monotonic() - begun


def new_process(per_minute: int = 300) -> Process:
    clock = LoopClock()
    return Process(Slots(clock, per_minute), per_minute)


async def all_of(*stories: Coroutine[Any, Any, float]) -> list[float]:
    return list(await asyncio.gather(*stories))


def test_few_reads_ask_the_store_nothing():
    process = new_process()

    run_virtually(all_of(*(process.read(Kind.START) for _ in range(10))))

    assert process.slots.asked == 0
    assert len(process.reads) == 10


def test_two_thousand_polls_keep_within_the_minute():
    process = new_process()

    waits = run_virtually(all_of(*(process.read(Kind.POLL, f"o/{n}") for n in range(2000))))

    assert most_in_a_minute([at for at, _, _ in process.reads]) <= 300
    assert max(waits) < 2000 / 250 * 60 * 1.15, "and hardly any of it is lost"
    assert process.slots.asked < 300


def test_polls_are_answered_in_the_order_they_came():
    process = new_process()

    run_virtually(all_of(*(process.read(Kind.POLL, f"{n}") for n in range(1500))))

    order = [int(name) for _, _, name in process.reads]
    displaced = [abs(place - number) for place, number in enumerate(order)]
    assert max(displaced) <= 75, "nobody overtakes by more than what waits in the process"


def test_a_start_comes_before_thousands_of_polls():
    process = new_process()

    async def story() -> float:
        polls = [asyncio.ensure_future(process.read(Kind.POLL, f"{n}")) for n in range(3000)]
        await pass_time(100)
        waited = max(await all_of(*(process.read(Kind.START) for _ in range(6))))
        for poll in polls:
            poll.cancel()
        await asyncio.gather(*polls, return_exceptions=True)
        return waited

    assert run_virtually(story()) < 1


@pytest.mark.parametrize("flood", [Kind.START, Kind.FRESH, Kind.OUTCOME])
def test_no_kind_starves_another(flood: Kind):
    """Starts that never end leave polls a share, and forged nudges leave starts one."""
    process = new_process()

    async def flooding() -> None:
        while True:
            await process.read(flood)

    async def story() -> None:
        floods = [asyncio.ensure_future(flooding()) for _ in range(40)]
        others = [
            asyncio.ensure_future(process.read(kind, f"{kind}/{n}"))
            for kind in Kind
            if kind is not flood
            for n in range(200)
        ]
        await pass_time(180)
        for task in (*floods, *others):
            task.cancel()
        await asyncio.gather(*floods, *others, return_exceptions=True)

    run_virtually(story())

    counted = Counter(kind for at, kind, _ in process.reads if 60 <= at < 120)
    assert sum(counted.values()) > 200
    for kind in Kind:
        assert counted[kind] >= 0.12 * sum(counted.values())


def test_several_processes_share_a_minute():
    clock = LoopClock()
    slots = Slots(clock, 300)
    processes = [Process(slots) for _ in range(4)]

    run_virtually(all_of(*(each.read(Kind.POLL, f"{n}") for each in processes for n in range(500))))

    reads = sorted(at for each in processes for at, _, _ in each.reads)
    # Each may read a tenth of the rate without asking, and hold what it took for 5 seconds.
    assert most_in_a_minute(reads) <= 300 + 4 * (30 + 25)
    assert len(reads) == 2000


def test_a_store_that_is_away_is_said_to_be():
    process = new_process()
    process.slots.away = True

    async def story() -> list[object]:
        return await asyncio.gather(
            *(process.budget.spend(Kind.START) for _ in range(40)), return_exceptions=True
        )

    ended = run_virtually(story())
    assert sum(each is None for each in ended) == 30, "what needs no store goes on"
    others = [each for each in ended if each is not None]
    assert {type(each) for each in others} == {UnavailableError}


def test_a_refusal_slows_all_reads_of_the_region():
    process = new_process()

    async def story() -> None:
        await all_of(*(process.read(Kind.POLL, f"{n}") for n in range(20)))
        assert process.budget.refused()
        await all_of(*(process.read(Kind.POLL, f"{n}") for n in range(500)))

    run_virtually(story())

    after = [at for at, _, _ in process.reads if 1 <= at < 61]
    assert len(after) < 160


def test_whoever_gives_up_leaves_the_place_to_others():
    process = new_process()

    async def story() -> None:
        polls = [asyncio.ensure_future(process.read(Kind.POLL, f"{n}")) for n in range(400)]
        await pass_time(1)
        for poll in polls[:399]:
            poll.cancel()
        await asyncio.gather(*polls, return_exceptions=True)

    run_virtually(story())

    assert process.reads[-1][2] == "399"
    assert process.reads[-1][0] < 120


def test_a_waiting_line_is_bounded():
    """One read each of more operations than may keep their place."""
    process = new_process()

    async def once(number: int) -> None:
        with suppress(BudgetExhaustedError):
            await process.budget.spend(Kind.POLL, f"{number}")

    async def story() -> None:
        await asyncio.gather(*(once(number) for number in range(MOST_PLACES + 500)))

    run_virtually(story())

    kept = len(process.budget._lines[Kind.POLL])
    assert MOST_PLACES - 500 < kept <= MOST_PLACES


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(12, 400), st.integers(1, 3))
def test_fuzz_no_minute_too_full_and_nobody_starves(seed: int, per_minute: int, count: int):
    """Reads of all kinds come when they like, in several processes; some give up."""
    random, clock = Random(seed), LoopClock()
    slots = Slots(clock, per_minute)
    processes = [Process(slots, per_minute) for _ in range(count)]
    wanted = random.randint(1, 2 * per_minute)

    async def one(number: int) -> float:
        await pass_time(random.uniform(0, 120))
        process, kind = random.choice(processes), random.choice(list(Kind))
        reading = process.read(kind, f"{number}")
        if random.random() < 0.1:
            try:
                async with asyncio.timeout(random.uniform(0, 5)):
                    return await reading
            except TimeoutError:
                return 0
        return await reading

    waits = run_virtually(all_of(*(one(number) for number in range(wanted))))

    reads = sorted(at for each in processes for at, _, _ in each.reads)
    assert all(0 < each <= 150 for process in processes for each in process.retries)
    own = per_minute // 10 + max(1, -(-per_minute * 5 // 60))
    most = per_minute if count == 1 else per_minute + count * own
    assert not reads or most_in_a_minute(reads) <= most
    # All that came would take so long at five sixths of the rate; and some come back late.
    assert max(waits) <= wanted / (per_minute * 5 / 6) * 60 * 2 + 330
