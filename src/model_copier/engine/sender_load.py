"""How much each sender keeps busy now, and its turns: what the policy of senders is held to.

Requests of a minute and waits are counted in this process alone; unfinished jobs in the store.
What must not break: a request that is known already never counts as a new one.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from model_copier.domain.errors import LimitedError
from model_copier.domain.rate_limit import SlidingWindow
from model_copier.domain.senders import SenderPolicy
from model_copier.engine.ports import Clock, JobStore

# How long a count of the store is believed; jobs that this process adds are added to it.
_COUNT_SECONDS = 10.0
_UNFINISHED_RETRY_SECONDS = 60
# So many senders are remembered, the latest: each message can name another.
_SENDERS_REMEMBERED = 10_000


@dataclass
class _Unfinished:
    """A sender's unfinished jobs, as they were counted lately."""

    count: int = 0
    counted_at: float = float("-inf")  # monotonic
    counting: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(kw_only=True)
class SenderLoad:
    """Counts what senders ask for, and refuses what is too much."""

    store: JobStore
    clock: Clock
    policy: SenderPolicy = field(default_factory=SenderPolicy)
    _windows: OrderedDict[str, SlidingWindow] = field(default_factory=OrderedDict)
    _unfinished: OrderedDict[str, _Unfinished] = field(default_factory=OrderedDict)
    _waits: Counter[str] = field(default_factory=Counter)

    def take_request(self, sender: str) -> None:
        """Count a request of this sender.

        Raises:
            LimitedError: it had its requests of this minute.
        """
        most, now = self.policy.limits(sender).requests_per_minute, self.clock.now()
        window = self._windows.pop(sender, SlidingWindow())
        granted, window = window.take(1, now, most)
        self._windows[sender] = window
        _forget_oldest(self._windows)
        if not granted:
            raise LimitedError(
                f"requests: this sender may send {most} a minute",
                kind="too-many-requests",
                retry_seconds=window.seconds_until_free(now),
                hint="send it again, later",
            )

    @asynccontextmanager
    async def new_job(self, sender: str) -> AsyncIterator[None]:
        """Count a new job of this sender, which is stored in this context. An error uncounts it.

        Raises:
            LimitedError: too many of its jobs are unfinished.
            UnavailableError: the store cannot count them now.
        """
        most = self.policy.limits(sender).max_unfinished
        known = self._unfinished.setdefault(sender, _Unfinished())
        self._unfinished.move_to_end(sender)
        _forget_oldest(self._unfinished)
        async with known.counting:
            if self.clock.monotonic() - known.counted_at > _COUNT_SECONDS:
                known.count = await self.store.unfinished(sender)
                known.counted_at = self.clock.monotonic()
        if known.count >= most:
            raise LimitedError(
                f"requests: {most} of this sender may be unfinished at once, and so many are",
                kind="too-many-unfinished",
                retry_seconds=_UNFINISHED_RETRY_SECONDS,
                hint="send it again once some of them have ended; the operator sets the limit:"
                " MAX_UNFINISHED, or max_unfinished in CALLERS_FILE",
            )
        known.count += 1
        try:
            yield
        except BaseException:
            known.count -= 1
            raise

    @contextmanager
    def waiting(self, sender: str) -> Iterator[bool]:
        """Hold a wait of this sender; False: it holds as many as it may, so it must not wait."""
        if self._waits[sender] >= self.policy.limits(sender).max_waits:
            yield False
            return
        self._waits[sender] += 1
        try:
            yield True
        finally:
            self._waits[sender] -= 1
            if not self._waits[sender]:
                del self._waits[sender]


def _forget_oldest(remembered: OrderedDict[str, Any]) -> None:
    while len(remembered) > _SENDERS_REMEMBERED:
        remembered.popitem(last=False)
