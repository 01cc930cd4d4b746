"""Who may read Vertex AI next, in one project and location.

What must not break: no read is made that has no slot, and nobody waits for ever. Starts and
outcomes come before what somebody says has changed, and that before polls, but each kind
has a share, so that none starves another; polls keep their place in a queue, by the name of
their operation, even while they are away.

Slots come from two sources. A few a minute (FREE_SHARE of the rate) are this process's own,
without asking anybody; the others are taken from the store, which all processes share, some
seconds' worth at a time. So ``n`` processes together make at most ``per_minute`` reads in 60
seconds, and ``n`` times what is free and what a process takes at a time more.
"""

import asyncio
import math
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import IntEnum

from model_copier.adapters.read_rate import ReadRate
from model_copier.domain.errors import BudgetExhaustedError, UnavailableError
from model_copier.engine.ports import Clock

MOST_WAIT_SECONDS = 3.0  # in the process; whoever would wait longer comes back
MOST_WAITING = 64  # of each kind, in the process
MOST_PLACES = 50_000  # of polls that are away, by name
# Longer than this no job is put off: what was asked for meanwhile may have made room.
LONGEST_RETRY_SECONDS = 150.0
LOST_SECONDS = 300.0  # whoever is so late loses its place
FREE_SHARE = 1 / 10
CHUNK_SECONDS = 5.0  # so long a slot from the store is good for, and so much is taken at once
SHORTEST_REST_SECONDS = 0.001  # less than a clock can tell would be a hot loop
EMPTY_SECONDS = 1.0  # until the store is asked again that had no slot left


class Kind(IntEnum):
    """What a read is for, the more urgent first."""

    START = 0
    FRESH = 1  # somebody says that it changed; or one answer serves many
    OUTCOME = 2  # the copy is there: it is read back
    POLL = 3


# Of what all contend for: a third, a sixth, a third and a sixth.
_STRIDES = {Kind.START: 1.0, Kind.FRESH: 2.0, Kind.OUTCOME: 1.0, Kind.POLL: 2.0}
# There may be thousands of these: each keeps its place.
_LINES = (Kind.OUTCOME, Kind.POLL)

# How many of the ``wanted`` slots the store grants.
TakeSlots = Callable[[int], Awaitable[int]]


@dataclass(slots=True, kw_only=True)
class _Place:
    number: int
    back_at: float


@dataclass(slots=True, kw_only=True)
class _Queue:
    """Those of one kind who wait in the process: by place, then by arrival."""

    waiting: list[tuple[int, asyncio.Future[None]]] = field(default_factory=list)
    passed: float = 0.0  # how much this kind has had, by its stride


@dataclass(kw_only=True)
class ReadBudget:
    """``spend`` before each read."""

    per_minute: int
    take_slots: TakeSlots
    clock: Clock
    rate: ReadRate = field(init=False)
    _queues: dict[Kind, _Queue] = field(init=False)
    # By kind and name, the first in line first.
    _lines: dict[Kind, dict[str, _Place]] = field(init=False)
    _numbers: Counter[Kind] = field(default_factory=Counter)  # of places
    _arrivals: int = 0  # of all others
    _free: deque[float] = field(default_factory=deque)
    _granted: deque[float] = field(default_factory=deque)
    _slots: int = 0
    _slots_until: float = 0.0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _granting: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.rate = ReadRate(per_minute=self.per_minute)
        self._queues = {kind: _Queue() for kind in Kind}
        self._lines = {kind: {} for kind in _LINES}

    async def spend(self, kind: Kind, name: str = "") -> None:
        """Wait for a slot for one read, for some seconds at most.

        Args:
            kind: what it is for.
            name: of what is polled: who comes back has the place that it had.

        Raises:
            BudgetExhaustedError: there is none in time; it says when to come back.
            UnavailableError: the store cannot be asked.
        """
        now = self.clock.monotonic()
        number = self._line_up(kind, name, now)
        ahead = self._ahead(kind, number)
        # Where tokens pile up, those who are ahead by name do not come back for theirs.
        idle = self.rate.level(now) >= max(1.0, self.rate.burst - 1)
        if not idle and ahead / self.rate.per_second(now) > MOST_WAIT_SECONDS:
            raise self._exhausted(kind, name, ahead, now)
        queue = self._queues[kind]
        if len(queue.waiting) >= MOST_WAITING:
            raise self._exhausted(kind, name, ahead, now)
        slot: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not any(each.waiting for each in self._queues.values()):
            self._catch_up()
        queue.waiting.append((number, slot))
        try:
            self._grant_at_once(now)
            if not slot.done():
                self._keep_granting()
                await asyncio.wait({slot}, timeout=MOST_WAIT_SECONDS)
        finally:
            if not slot.done():
                queue.waiting.remove((number, slot))
        if not slot.done():
            raise self._exhausted(kind, name, self._ahead(kind, number), self.clock.monotonic())
        slot.result()
        self.leave(kind, name)

    def leave(self, kind: Kind, name: str) -> None:
        """Give up a place in line: it was answered otherwise."""
        self._lines.get(kind, {}).pop(name, None)

    def refused(self) -> bool:
        """Note that Vertex AI had no quota left; tell whether it had until then."""
        return self.rate.cut(self.clock.monotonic())

    def postponed(self, message: str) -> BudgetExhaustedError:
        """Say when to come back after such a refusal: it was nobody's fault."""
        again = 1 / self.rate.per_second(self.clock.monotonic())
        return BudgetExhaustedError(message, retry_seconds=min(5 + again, LONGEST_RETRY_SECONDS))

    # Who is next

    def _line_up(self, kind: Kind, name: str, now: float) -> int:
        line = self._lines.get(kind)
        if line is None or not name:
            self._arrivals += 1
            return self._arrivals
        _forget_lost_places(line, now)
        place = line.get(name)
        if place is None:
            # Not by arrival: a number that nobody has makes the line seem longer than it is.
            self._numbers[kind] += 1
            place = _Place(number=self._numbers[kind], back_at=now)
            if len(line) < MOST_PLACES:
                line[name] = place
        place.back_at = now
        return place.number

    def _ahead(self, kind: Kind, number: int) -> int:
        line = self._lines.get(kind)
        if not line:
            return len(self._queues[kind].waiting)
        # Some in between may be gone: then this is too many, and whoever comes back finds fewer.
        first = next(iter(line.values())).number
        return min(max(0, number - first), len(line))

    def _exhausted(self, kind: Kind, name: str, ahead: int, now: float) -> BudgetExhaustedError:
        wait = 1 + (ahead + 1) / self.rate.per_second(now)
        wait = min(max(wait, MOST_WAIT_SECONDS), LONGEST_RETRY_SECONDS)
        if place := self._lines.get(kind, {}).get(name):
            place.back_at = now + wait
        return BudgetExhaustedError(
            f"the read budget of {self.per_minute} a minute is used up; next try in {wait:.0f} s",
            retry_seconds=wait,
        )

    def _catch_up(self) -> None:
        """Let nobody save up for the time in which nobody waited."""
        for queue in self._queues.values():
            queue.passed = 0.0

    def _next(self) -> tuple[Kind, float] | None:
        """The kind whose turn it is, and how many tokens must be there for it."""
        waiting = [kind for kind in Kind if self._queues[kind].waiting]
        if not waiting:
            return None
        least = min(self._queues[kind].passed for kind in waiting)
        for kind in Kind:  # who joins in starts where the others are
            if kind not in waiting:
                self._queues[kind].passed = max(self._queues[kind].passed, least)
        kind = min(waiting, key=lambda each: (self._queues[each].passed, each))
        # A few tokens are kept for the start that may come next.
        kept = 0.0 if Kind.START in waiting else min(self.rate.burst / 4, self.rate.burst - 1)
        return kind, 1 + kept * self.rate.share(self.clock.monotonic())

    # Granting

    def _grant_at_once(self, now: float) -> None:
        """Grant what tokens and slots are at hand for."""
        while (turn := self._next()) and not self.rate.seconds_until(turn[1], now):
            if not self._take_slot(now):
                return
            kind = turn[0]
            queue = self._queues[kind]
            first = min(queue.waiting, key=lambda each: each[0])
            queue.waiting.remove(first)
            queue.passed += _STRIDES[kind]
            self.rate.take(now)
            self._granted.append(now)
            first[1].set_result(None)

    def _keep_granting(self) -> None:
        """See that somebody grants as long as somebody waits, and no longer."""
        self._changed.set()
        if self._granting is None or self._granting.done():
            self._granting = asyncio.get_running_loop().create_task(self._grant())

    async def _grant(self) -> None:
        while (turn := self._next()) is not None:
            self._changed.clear()
            now = self.clock.monotonic()
            wait = self.rate.seconds_until(turn[1], now)
            if not wait and not self._has_slot(now):
                try:
                    wait = 0.0 if await self._take_chunk() else EMPTY_SECONDS
                except UnavailableError as error:
                    self._fail_all(error)
                    return
            if wait:
                await self._rest(max(wait, SHORTEST_REST_SECONDS))
            self._grant_at_once(self.clock.monotonic())

    async def _rest(self, seconds: float) -> None:
        """Wait, unless somebody else comes, who may be next."""
        waiter = asyncio.ensure_future(self._changed.wait())
        await asyncio.wait({waiter}, timeout=seconds)
        waiter.cancel()

    def _fail_all(self, error: UnavailableError) -> None:
        for queue in self._queues.values():
            for _, slot in queue.waiting:
                slot.set_exception(UnavailableError(str(error)))
            queue.waiting.clear()

    # Slots

    @property
    def _free_in_a_minute(self) -> int:
        return math.floor(self.per_minute * FREE_SHARE)

    def _has_slot(self, now: float) -> bool:
        while self._free and self._free[0] <= now - 60:
            self._free.popleft()
        if now >= self._slots_until:
            self._slots = 0
        return self._slots > 0 or len(self._free) < self._free_in_a_minute

    def _take_slot(self, now: float) -> bool:
        if not self._has_slot(now):
            return False
        if self._slots:
            self._slots -= 1
        else:
            self._free.append(now)
        return True

    async def _take_chunk(self) -> bool:
        """Take as many slots as will be needed soon, going by what was."""
        before = self.clock.monotonic()
        while self._granted and self._granted[0] <= before - CHUNK_SECONDS:
            self._granted.popleft()
        waiting = sum(len(queue.waiting) for queue in self._queues.values())
        most = max(1, math.ceil(self.per_minute / 60 * CHUNK_SECONDS))
        self._slots += await self.take_slots(min(most, max(waiting, len(self._granted))))
        self._slots_until = before + CHUNK_SECONDS
        return self._slots > 0


def _forget_lost_places(line: dict[str, _Place], now: float) -> None:
    """Drop those at the head who did not come back; those behind get there in time."""
    while line:
        name, first = next(iter(line.items()))
        if now - first.back_at <= LOST_SECONDS:
            return
        del line[name]
