"""What one subscription owes and has not handed out: in which order, and from when on.

Pure: ``now`` comes with each call. A debt is READY, or RESTING until a time, or WAITING behind
another with its ordering key; what is handed out is in none of these, but still owed.

What must not break: a debt stays owed until ``settle``; of one ordering key only the first
that is owed is ever ready.
"""

import heapq
import itertools
from collections import deque
from dataclasses import dataclass

from local_cloud.pubsub_faults import CALM, Mishap
from local_cloud.pubsub_records import Message


@dataclass(slots=True, kw_only=True, eq=False)
class Debt:
    """A message that is owed, and how often it was handed out."""

    serial: int
    message: Message
    size: int
    key: str  # empty where order does not matter
    attempts: int = 0
    rests_until: float = 0.0
    mishap: Mishap | None = None  # of its next delivery, once that was asked for


class Backlog:
    """The debts of one subscription, oldest first."""

    def __init__(self) -> None:
        self._serials = itertools.count(1)
        self._ready: list[tuple[int, Debt]] = []
        # May name debts that were taken out since; checked when they come up.
        self._resting: list[tuple[float, int, Debt]] = []
        self._queues: dict[str, deque[Debt]] = {}
        self._put_aside: list[Debt] = []
        self._owed = 0

    def __len__(self) -> int:
        """How many messages are owed, in whatever state."""
        return self._owed

    def add(self, message: Message, *, key: str) -> None:
        debt = Debt(
            serial=next(self._serials), message=message, size=message.content.size(), key=key
        )
        self._owed += 1
        if key:
            queue = self._queues.setdefault(key, deque())
            queue.append(debt)
            if len(queue) > 1:
                return
        self._make_ready(debt)

    def add_twin(self, debt: Debt) -> None:
        """Owe the message of ``debt`` once more; only they know that they are two."""
        twin = Debt(
            serial=next(self._serials),
            message=debt.message,
            size=debt.size,
            key=debt.key,
            attempts=debt.attempts,
            mishap=CALM,
        )
        self._owed += 1
        if debt.key:
            self._queues[debt.key].insert(1, twin)
        else:
            self._make_ready(twin)

    def first(self) -> Debt | None:
        """The oldest that is ready; it stays where it is."""
        return self._ready[0][1] if self._ready else None

    def hand_out(self, debt: Debt) -> None:
        """Take out ``debt``, which is the first."""
        assert self._ready[0][1] is debt
        heapq.heappop(self._ready)

    def take_back(self, debt: Debt, *, rests_until: float, now: float) -> None:
        """Owe a debt that was handed out; it is ready at ``rests_until``."""
        if rests_until <= now:
            self._make_ready(debt)
        else:
            debt.rests_until = rests_until
            heapq.heappush(self._resting, (rests_until, debt.serial, debt))

    def put_aside(self, debt: Debt, *, rests_until: float, now: float) -> None:
        """Take it back, but until ``let_go`` at most."""
        self._put_aside.append(debt)
        self.take_back(debt, rests_until=rests_until, now=now)

    def let_go(self) -> bool:
        """Make ready what was put aside; False when that was nothing."""
        waited = list(self._put_aside)
        for debt in waited:
            self._make_ready(debt)
        return bool(waited)

    def settle(self, debt: Debt) -> None:
        """Owe a debt that was handed out no longer."""
        self._owed -= 1
        if debt.key:
            queue = self._queues[debt.key]
            first = queue.popleft()
            assert first is debt
            if queue:
                self._make_ready(queue[0])
            else:
                del self._queues[debt.key]

    def advance(self, now: float) -> bool:
        """Make ready what has rested long enough; False when that was nothing."""
        some = False
        while (end := self.next_due()) is not None and end <= now:
            self._make_ready(heapq.heappop(self._resting)[2])
            some = True
        return some

    def next_due(self) -> float | None:
        """When the next rest is over."""
        while self._resting:
            end, _, debt = self._resting[0]
            if debt.rests_until == end:
                return end
            heapq.heappop(self._resting)
        return None

    def _make_ready(self, debt: Debt) -> None:
        debt.rests_until = 0.0
        if debt in self._put_aside:
            self._put_aside.remove(debt)
        heapq.heappush(self._ready, (debt.serial, debt))
