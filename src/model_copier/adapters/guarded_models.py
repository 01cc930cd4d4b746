"""Keeps one location of Vertex AI from holding up the others, and all of them to a read budget.

A wrapper around ``ports.ModelService`` with the same promises. What must not break: nothing
is shared between locations but the process, and CopyModel, waiting included, takes no longer
than a call may take, since the lease under which it is asked counts on that.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, TypeVar

from model_copier.adapters.circuit_breaker import Circuit, CircuitBreaker
from model_copier.adapters.pool import Pool
from model_copier.adapters.read_budget import Kind, ReadBudget
from model_copier.domain.errors import (
    CircuitOpenError,
    ExhaustedError,
    NoAnswerError,
    OutcomeUnknownError,
    PostponedError,
)
from model_copier.domain.resource_names import ModelName
from model_copier.domain.vertex_types import CopyCall, Model, Operation, OperationsPage
from model_copier.engine.ports import Clock, ModelService
from model_copier.engine.read_priority import Reading, reading
from model_copier.logs import log

MOST_AT_ONCE = 16  # reads, and as many copies, on their way to one location
MOST_WAIT_SECONDS = 2.0  # for one of these to come back
MOST_LOCATIONS = 64  # that are remembered; and four times as many budgets
MOST_PROJECTS = 1000

_T = TypeVar("_T")


class SlotStore(Protocol):
    """What a read budget needs of ``ports.JobStore``."""

    async def take_slots(self, name: str, wanted: int, now: datetime, per_minute: int) -> int: ...


@dataclass(slots=True, kw_only=True)
class _Location:
    name: str
    breaker: CircuitBreaker = field(default_factory=CircuitBreaker)
    reads: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST_AT_ONCE))
    copies: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST_AT_ONCE))


class GuardedModelService:
    """See ``ports.ModelService``; more often than there, ``UnavailableError`` comes at once."""

    def __init__(
        self,
        models: ModelService,
        *,
        store: SlotStore,
        clock: Clock,
        call_seconds: float,
        reads_per_minute: int,
    ) -> None:
        self._models = models
        self._store = store
        self._clock = clock
        self._call_seconds = call_seconds
        self._reads_per_minute = reads_per_minute
        self._locations = Pool(lambda name: _Location(name=name), most=MOST_LOCATIONS)
        self._budgets = Pool(self._budget, most=4 * MOST_LOCATIONS)
        self._projects: dict[str, str] = {}  # as Vertex AI spells those that we name

    async def get_model(self, name: ModelName) -> Model:
        kind = Kind.START if reading() is Reading.SOURCE else Kind.OUTCOME
        found = await self._read(
            name.project,
            name.location,
            kind,
            lambda: self._models.get_model(name),
            name=str(name),
        )
        self._learn(name.project, found.name.project)
        return found

    async def list_versions(self, name: ModelName) -> Sequence[Model]:
        return await self._read(
            name.project, name.location, Kind.START, lambda: self._models.list_versions(name)
        )

    async def list_operations(self, name: ModelName) -> Sequence[Operation] | None:
        return await self._read(
            name.project, name.location, Kind.START, lambda: self._models.list_operations(name)
        )

    async def list_location(
        self, location: str, page_token: str = "", *, running_only: bool = True
    ) -> OperationsPage | None:
        project, place = _where(location)
        # One page answers many polls, so it comes before them.
        return await self._read(
            project,
            place,
            Kind.FRESH,
            lambda: self._models.list_location(location, page_token, running_only=running_only),
        )

    async def get_operation(self, name: str) -> Operation:
        project, place = _where(name)
        kind = Kind.FRESH if reading() is Reading.FRESH else Kind.POLL
        return await self._read(
            project, place, kind, lambda: self._models.get_operation(name), name=name
        )

    async def leave_line(self, name: str) -> None:
        """Note that this operation was polled otherwise, and waits for no slot."""
        project, place = _where(name)
        async with self._budgets.use(f"{self._spelled(project)}/{place}") as budget:
            budget.leave(Kind.POLL, name)

    async def cancel_operation(self, name: str) -> None:
        project, place = _where(name)
        await self._read(project, place, Kind.START, lambda: self._models.cancel_operation(name))

    async def copy_model(self, call: CopyCall) -> Operation:
        project, place = _where(call.target_location)
        async with self._locations.use(place) as location:
            if location.breaker.state(self._clock.monotonic()) is not Circuit.CLOSED:
                # Whether somebody is back is found out by a read, which may be repeated.
                raise self._open(location)
            sent = False
            try:
                async with asyncio.timeout(self._call_seconds):
                    async with _one_of(location.copies, location.name):
                        sent = True
                        operation = await self._answered(
                            location, lambda: self._models.copy_model(call)
                        )
            except TimeoutError as error:
                if not sent:
                    raise _crowded(location.name) from None
                raise OutcomeUnknownError("CopyModel: no answer", answered=False) from error
        self._learn(project, _where(operation.name)[0])
        return operation

    async def _read(
        self,
        project: str,
        place: str,
        kind: Kind,
        read: Callable[[], Awaitable[_T]],
        *,
        name: str = "",
    ) -> _T:
        """Make a read when there is a slot for it, if anybody answers there."""
        async with self._locations.use(place) as location:
            self._let_through(location)
            async with self._budgets.use(f"{self._spelled(project)}/{place}") as budget:
                await budget.spend(kind, name)
                async with _one_of(location.reads, location.name):
                    try:
                        return await self._answered(location, read)
                    except ExhaustedError as error:
                        if budget.refused():
                            log("reads_slowed", severity="WARNING", location=place,
                                project=self._spelled(project), why=str(error))  # fmt: skip
                        raise budget.postponed(str(error)) from error

    def _let_through(self, location: _Location) -> None:
        if location.breaker.wait_seconds(self._clock.monotonic()):
            raise self._open(location)

    def _open(self, location: _Location) -> CircuitOpenError:
        wait = max(1.0, location.breaker.wait_seconds(self._clock.monotonic()))
        return CircuitOpenError(
            f"Vertex AI in {location.name} does not answer; next try in {wait:.0f} s",
            retry_seconds=wait,
        )

    async def _answered(self, location: _Location, call: Callable[[], Awaitable[_T]]) -> _T:
        """Make a call, and tell the breaker whether anybody answered."""
        self._let_through(location)
        breaker = location.breaker
        ticket = breaker.enter(self._clock.monotonic())
        try:
            answer = await call()
        except (NoAnswerError, OutcomeUnknownError) as error:
            if getattr(error, "answered", False):
                self._heard_of(location)
            elif breaker.unanswered(ticket, self._clock.monotonic()):
                log("circuit_opened", severity="WARNING", location=location.name, why=str(error))
            raise
        except asyncio.CancelledError:
            breaker.left(ticket)
            raise
        except Exception:
            self._heard_of(location)
            raise
        self._heard_of(location)
        return answer

    @staticmethod
    def _heard_of(location: _Location) -> None:
        if location.breaker.answered():
            log("circuit_closed", location=location.name)

    def _budget(self, name: str) -> ReadBudget:
        async def take_slots(wanted: int) -> int:
            return await self._store.take_slots(
                f"reads/{name}", wanted, self._clock.now(), self._reads_per_minute
            )

        return ReadBudget(
            per_minute=self._reads_per_minute, take_slots=take_slots, clock=self._clock
        )

    def _spelled(self, project: str) -> str:
        """One name for a project that is named by id here and by number there."""
        return self._projects.get(project, project)

    def _learn(self, named: str, spelled: str) -> None:
        if named != spelled and len(self._projects) < MOST_PROJECTS:
            self._projects[named] = spelled


@asynccontextmanager
async def _one_of(places: asyncio.Semaphore, location: str) -> AsyncIterator[None]:
    """Hold one of a location's places while its call is on its way."""
    try:
        async with asyncio.timeout(MOST_WAIT_SECONDS):
            await places.acquire()
    except TimeoutError:
        raise _crowded(location) from None
    try:
        yield
    finally:
        places.release()


def _crowded(location: str) -> PostponedError:
    why = f"{MOST_AT_ONCE} calls to Vertex AI in {location} are on their way"
    return PostponedError(why, retry_seconds=MOST_WAIT_SECONDS)


def _where(name: str) -> tuple[str, str]:
    """Return P and L of ``projects/P/locations/L[/...]``."""
    parts = name.split("/")
    return parts[1], parts[3]
