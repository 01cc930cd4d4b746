"""What one list of the operations of a project and location tells many who poll.

The list is read page by page, by whoever polls: each waits for the page that is being read,
or reads the next. So nothing goes on when nobody polls, and a page is never read twice at
once. What must not break: an operation that is not listed is asked for by its name, since
whether Vertex AI lists the operations of models with those of their location is not
documented; where listing does not help, it stops for a while.

A list of all operations tells of ends, too, and spares asking for each; but how long Vertex
AI remembers what ended is not documented either. So all are listed only where many end, and
no more pages are read than ends were asked for in the minute before.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import islice

from model_copier.domain.errors import PostponedError
from model_copier.domain.vertex_types import Operation, OperationsPage, operation_number
from model_copier.engine.ports import Clock

PAGE_SIZE = 100
FEW = 5  # polls within FEW_SECONDS: so many are asked for one by one
FEW_SECONDS = 10.0
PAGES_SHARE = 0.4  # of a minute's reads: so many pages are read at most
MOST_ENDED = 10_000
LOST_SECONDS = 30.0  # a list that nobody has read on for so long is begun anew
# A list is as old as this at most; longer, the more pages it has, so that reading it takes no
# more than a part of the budget.
SHORTEST_SECONDS, LONGEST_SECONDS = 5.0, 90.0
SHARE = 1 / 4
MOST_WAIT_SECONDS = 3.0  # for pages that come
REST_SECONDS, LONGEST_REST_SECONDS = 600.0, 3600.0

# Takes the token of the page, and whether those that run are enough.
ReadPage = Callable[[str, bool], Awaitable[OperationsPage | None]]


@dataclass(frozen=True, slots=True)
class _Listed:
    operation: Operation
    at: float


@dataclass(kw_only=True)
class OperationScan:
    """For one project and location, as operations are named there."""

    read_page: ReadPage
    reads_per_minute: int
    clock: Clock
    _found: dict[str, _Listed] = field(default_factory=dict)  # in the scan that is the latest
    _before: dict[str, _Listed] = field(default_factory=dict)  # in the one before
    _pages: int = 0
    _all: bool = False  # not only those that run
    _all_from: float = 0.0
    _most_of_all: int = 0  # pages
    _vain: int = 0  # lists of all that were broken off
    _ended: dict[str, Operation] = field(default_factory=dict)  # what is done stays so
    _ends: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_ENDED))
    _token: str = ""
    _begun: bool = False
    _finished_at: float | None = None
    _reading: asyncio.Future[None] | None = None
    _polls: deque[float] = field(default_factory=lambda: deque(maxlen=FEW + 1))
    _page_at: float = 0.0
    _hits: int = 0
    _misses: int = 0
    _rests: int = 0
    _rests_until: float = 0.0

    async def find(self, name: str) -> Operation | None:
        """What a list says of an operation; None: ask for it by its name.

        Raises:
            PostponedError: the pages are being read; it says when they will have been.
            UnavailableError: the list could not be read.
        """
        number, begun_at = operation_number(name), self.clock.monotonic()
        if ended := self._ended.get(number):
            return ended
        if not self._helps(begun_at):
            return None
        while True:
            now = self.clock.monotonic()
            if now < self._rests_until:
                return None
            if self._is_current(now) or self._goes_on(now):
                listed = self._found.get(number)
                if listed and now - listed.at <= LONGEST_SECONDS:
                    self._hits += 1
                    return listed.operation
                if self._is_finished():
                    return None
            if now - begun_at > MOST_WAIT_SECONDS:
                wait = max(MOST_WAIT_SECONDS, (len(self._before) / PAGE_SIZE - self._pages) / 4)
                raise PostponedError("the running operations are being listed", retry_seconds=wait)
            await self._next_page(now)

    def asked_by_name(self, found: Operation) -> None:
        """Note what became of one that was not listed."""
        if found.done:
            self._ends.append(self.clock.monotonic())
        else:  # it began since, or never will be listed
            self._misses += 1

    def _helps(self, now: float) -> bool:
        """Whether enough is polled for a list to be worth its pages, and lists tell anything."""
        self._polls.append(now)
        many = len(self._polls) > FEW and now - self._polls[0] <= FEW_SECONDS
        return many and now >= self._rests_until

    def _is_finished(self) -> bool:
        return self._finished_at is not None or not self._begun

    def _goes_on(self, now: float) -> bool:
        """Whether pages are being read; else whoever comes reads on, though it was listed."""
        return not self._is_finished() and now - self._page_at <= SHORTEST_SECONDS

    def _is_current(self, now: float) -> bool:
        if self._finished_at is None:
            return False
        reads = self.reads_per_minute / 60 * SHARE
        age = min(max(self._pages / reads, SHORTEST_SECONDS), LONGEST_SECONDS)
        return now - self._finished_at <= age

    async def _next_page(self, now: float) -> None:
        if self._reading is not None:
            # Shielded: whoever gives up takes the page from nobody else.
            await asyncio.wait({self._reading}, timeout=MOST_WAIT_SECONDS)
            return
        if self._is_finished() or now - self._page_at > LOST_SECONDS:
            self._begin(now)
            if now < self._rests_until:
                return
        self._reading = asyncio.get_running_loop().create_future()
        try:
            self._keep(await self.read_page(self._token, not self._all))
        finally:
            self._reading.set_result(None)
            self._reading = None

    def _begin(self, now: float) -> None:
        if self._misses > FEW and not self._hits:
            self._rest(now)
            return
        self._rests = 0 if self._hits else self._rests
        self._choose(now)
        self._before, self._found = self._found, {}
        self._pages, self._token, self._hits, self._misses = 0, "", 0, 0
        self._begun, self._finished_at, self._page_at = True, None, now

    def _choose(self, now: float) -> None:
        """List all, where so many ends were asked for by name that the pages are worth it."""
        while self._ends and self._ends[0] <= now - 60:
            self._ends.popleft()
        self._most_of_all = len(self._ends)
        # All are at least those that run, of which the last list told.
        worth = self._most_of_all > FEW + 2 * self._pages
        self._all = worth and now >= self._all_from

    def _rest(self, now: float) -> None:
        """List nothing for a while: what runs was not found in the last list."""
        self._rests_until = now + min(REST_SECONDS * 2.0**self._rests, LONGEST_REST_SECONDS)
        self._rests += 1
        self._begun, self._finished_at = False, None
        self._found, self._before, self._misses = {}, {}, 0

    def _keep(self, page: OperationsPage | None) -> None:
        now = self.clock.monotonic()
        if page is None:
            if self._pages:  # its token is no longer taken: from the start, then
                self._begun, self._finished_at = False, None
                return
            self._rests = max(self._rests, 10)
            self._rest(now)
            return
        self._pages += 1
        self._page_at = now
        self._token = page.next_page_token
        self._found |= {operation_number(each.name): _Listed(each, now) for each in page.operations}
        if self._all:
            done = {operation_number(each.name): each for each in page.operations if each.done}
            self._ended = dict(islice(reversed((self._ended | done).items()), MOST_ENDED))
            if not self._token:
                self._all_from, self._vain = now + 60, 0
            elif self._pages >= self._most_of_all:  # too much that ended long ago
                self._all_from = now + min(60 * 2.0**self._vain, LONGEST_REST_SECONDS)
                self._vain += 1
                self._begin(now)
                return
        if not self._token or self._pages >= self.reads_per_minute * PAGES_SHARE:
            self._finished_at = now
