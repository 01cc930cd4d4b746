"""A sliding window: at most so many slots in any 60 seconds.

Pure: the store keeps a window as text and replaces it in one atomic write. What must not
break: whatever moments a broken clock stored, the window blocks for 60 seconds at most.
"""

import json
import math
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self

WINDOW_SECONDS: Final = 60
BURST_SECONDS: Final = 10


@dataclass(frozen=True, slots=True)
class SlidingWindow:
    """Slots taken lately: pairs of a moment (Unix time) and a count, the oldest first.

    Slots of one second share a pair, which has the moment of the latest of them. So there
    are 61 pairs at most, and no slot is forgotten early.
    """

    taken: tuple[tuple[float, int], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        return cls(tuple((float(at), int(count)) for at, count in json.loads(text)))

    def __str__(self) -> str:
        return json.dumps(self.taken, separators=(",", ":"))

    def take(
        self, wanted: int, now: datetime, per_minute: int, burst: int | None = None
    ) -> tuple[int, Self]:
        """Return how many of the ``wanted`` slots are granted, and the window afterwards.

        ``burst`` bounds the slots of any 10 seconds: without it a crowd takes a whole minute's
        slots at one moment, minute after minute, and the next caller waits for 60 seconds.
        A moment in the future was written by another clock and counts as now.
        """
        at = now.timestamp()
        by_second: dict[int, tuple[float, int]] = {}
        for moment, count in self._since(at):
            _, before = by_second.get(int(moment), (moment, 0))
            by_second[int(moment)] = (moment, before + count)
        used = sum(count for _, count in by_second.values())
        free = per_minute - used
        if burst is not None:
            recent = [count for moment, count in by_second.values() if moment > at - BURST_SECONDS]
            free = min(free, burst - sum(recent))
        granted = max(0, min(wanted, free))
        if granted:
            _, before = by_second.get(int(at), (at, 0))
            by_second[int(at)] = (at, before + granted)
        return granted, type(self)(tuple(sorted(by_second.values())))

    def seconds_until_free(self, now: datetime) -> int:
        """Return the whole seconds, at least one, until the oldest slot is free again."""
        first, _ = self.taken[0] if self.taken else (0.0, 0)
        return max(1, math.ceil(first + WINDOW_SECONDS - now.timestamp()))

    def _since(self, at: float) -> list[tuple[float, int]]:
        clamped = sorted((min(moment, at), count) for moment, count in self.taken)
        return [(moment, count) for moment, count in clamped if moment > at - WINDOW_SECONDS]
