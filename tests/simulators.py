"""Doubles that behave: the ports of the workflow, in memory, on a clock that is moved by hand.

Held to the same contract suites as the real adapters (``tests/contract``). Vertex AI's
rules come from the local cloud's own pure registry, so there is one idea of them.
"""

import bisect
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, TypeVar

from local_cloud.registry import Registry
from local_cloud.vertex_records import Code as VertexCode
from local_cloud.vertex_records import CopyOperation, CopyState, ModelVersion, VertexError
from local_cloud.vertex_refusals import worded
from local_cloud.vertex_view import View
from model_copier.contract.requests import Message
from model_copier.domain.errors import (
    NO_CAUSE,
    Cause,
    Code,
    DestinationTakenError,
    JobExistsError,
    OutcomeUnknownError,
    RefusedError,
    StaleJobError,
    outcome_of_copy_call,
    outcome_of_read,
)
from model_copier.domain.job import Job
from model_copier.domain.rate_limit import SlidingWindow
from model_copier.domain.resource_names import ModelName
from model_copier.domain.vertex_types import CopyCall, Model, Operation, OperationsPage
from model_copier.engine.ports import Wanted

_T = TypeVar("_T")
PAGE_SIZE = 100
START = datetime(2026, 2, 13, 9, tzinfo=UTC)


@dataclass
class SimulatedClock:
    at: datetime = START

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return (self.at - START).total_seconds()

    def advance(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@dataclass
class SimulatedStore:
    jobs: dict[str, Job] = field(default_factory=dict)
    windows: dict[str, SlidingWindow] = field(default_factory=dict)
    virtual_times: dict[str, float] = field(default_factory=dict)

    async def create(self, job: Job) -> Job:
        if job.key in self.jobs:
            raise JobExistsError(job.key)
        self.jobs[job.key] = replace(job, version=1)
        return self.jobs[job.key]

    async def get(self, key: str) -> Job | None:
        return self.jobs.get(key)

    async def save(self, job: Job) -> Job:
        stored = self.jobs.get(job.key)
        if stored is None or stored.version != job.version:
            raise StaleJobError(job.key)
        for other in self.jobs.values():
            if other.key != job.key and job.destination and other.destination == job.destination:
                raise DestinationTakenError(job.destination)
        self.jobs[job.key] = replace(job, version=job.version + 1)
        return self.jobs[job.key]

    async def due(self, now: datetime, latest: datetime, limit: int) -> Sequence[Job]:
        found: list[Job] = []
        for job in self.jobs.values():
            if job.due_at is not None and not now < job.due_at <= latest:
                bisect.insort(found, job, key=_due_at)
        return found[:limit]

    async def next_due_at(self) -> datetime | None:
        return min((job.due_at for job in self.jobs.values() if job.due_at), default=None)

    async def awaiting(self, destination: str, limit: int) -> Sequence[Job]:
        waiting = [job for job in self.jobs.values() if job.waiting_for == destination]
        return sorted(waiting, key=_place)[:limit]

    async def with_traces(self, names: Collection[str]) -> Sequence[Job]:
        return [job for job in self.jobs.values() if job.claim in names]

    async def with_operation(self, number: str) -> Sequence[Job]:
        return [job for job in self.jobs.values() if job.follows == number]

    async def ended(self, keys: Collection[str]) -> Sequence[Job]:
        return [job for job in self.jobs.values() if job.key in keys and job.state.final]

    async def find(self, wanted: Wanted, limit: int) -> Sequence[Job]:
        found = [job for job in self.jobs.values() if wanted.takes(job)]
        found.sort(key=lambda job: (job.accepted_at, job.key), reverse=True)
        return found[:limit]

    async def unfinished(self, sender: str) -> int:
        return sum(
            job.request_source == sender and not job.state.final for job in self.jobs.values()
        )

    async def next_turn(self, queue: str, sender: str, cost: float) -> float:
        turns = [
            job.turn or 0.0
            for job in self.jobs.values()
            if job.start_queue == queue and job.request_source == sender
        ]
        return max([self.virtual_times.get(queue, 0.0), *turns]) + cost

    async def queued(self, queue: str, limit: int) -> Sequence[Job]:
        waiting = [job for job in self.jobs.values() if job.in_queue and job.start_queue == queue]
        return sorted(waiting, key=_place)[:limit]

    async def queues(self) -> Sequence[str]:
        return sorted({job.start_queue or "" for job in self.jobs.values() if job.in_queue})

    async def take_starts(
        self,
        queue: str,
        turns: Sequence[float],
        now: datetime,
        per_minute: int,
        burst: int | None = None,
    ) -> int:
        window = self.windows.get(queue, SlidingWindow())
        granted, self.windows[queue] = window.take(len(turns), now, per_minute, burst)
        if granted:
            reached = self.virtual_times.get(queue, 0.0)
            self.virtual_times[queue] = max(reached, turns[granted - 1])
        return granted

    async def take_slots(self, name: str, wanted: int, now: datetime, per_minute: int) -> int:
        window = self.windows.get(name, SlidingWindow())
        granted, self.windows[name] = window.take(wanted, now, per_minute)
        return granted

    async def delete_expired(self, now: datetime) -> int:
        expired = [
            key for key, job in self.jobs.items() if job.expires_at and job.expires_at <= now
        ]
        for key in expired:
            del self.jobs[key]
        return len(expired)

    async def check(self) -> None:
        """There is nothing to set up."""


def _place(job: Job) -> tuple[float, datetime, str]:
    return job.place


def _due_at(job: Job) -> datetime:
    assert job.due_at is not None
    return job.due_at


@dataclass
class SimulatedModels:
    """Vertex AI on the simulated clock, in the dialect of its registry.

    ``lost_answers`` counts the copies that will be taken and answered with UNAVAILABLE,
    ``refusals`` the codes that the next copies are refused with, ``dooms`` those that
    they end with. ``shows_after`` holds for copies taken from now on; None: the dialect's.
    """

    clock: SimulatedClock
    registry: Registry = field(default_factory=Registry)
    copy_seconds: float = 42.0
    shows_after: float | None = None
    lost_answers: int = 0
    refusals: list[Code] = field(default_factory=list)
    dooms: list[Code] = field(default_factory=list)
    copies_asked: int = 0

    def __post_init__(self) -> None:
        self.view = View(self.registry)

    def add(self, name: str, version: str = "1", **described: Any) -> None:
        """``described``: kind, container_image, kms_key_name, deployed, ..."""
        self.registry.add_model(name, version=version, now=self.clock.at, **described)

    def versions(self, name: str) -> list[ModelVersion]:
        """What is there now, whatever a caller is told; nothing when the model is not."""
        self.registry.settle(self.clock.at)
        try:
            return self.registry.versions(name)
        except VertexError:
            return []

    async def get_model(self, name: ModelName) -> Model:
        return self._read("GetModel", lambda: self._model(self.view.model(str(name))))

    async def list_versions(self, name: ModelName) -> Sequence[Model]:
        try:
            return self._read(
                "ListModelVersions",
                lambda: [self._model(each) for each in self.view.versions(str(name))],
            )
        except RefusedError as error:
            if error.code is Code.NOT_FOUND:
                return ()
            raise

    async def list_operations(self, name: ModelName) -> Sequence[Operation] | None:
        try:
            return self._read(
                "ListOperations",
                lambda: [self._operation(each) for each in self.view.operations(str(name))],
            )
        except RefusedError as error:
            if error.code is Code.UNIMPLEMENTED:
                return None
            raise

    async def list_location(
        self, location: str, page_token: str = "", *, running_only: bool = True
    ) -> OperationsPage | None:
        try:
            listed = self._read("ListOperations", lambda: self.view.operations(location))
        except RefusedError:
            return None
        rest = (
            each
            for each in listed
            if int(each.number) > int(page_token or 0) and not (running_only and each.done)
        )
        page = list(islice(rest, PAGE_SIZE + 1))
        more = len(page) > PAGE_SIZE
        return OperationsPage(
            operations=[self._operation(each) for each in page[:PAGE_SIZE]],
            next_page_token=page[PAGE_SIZE - 1].number if more else "",
        )

    async def copy_model(self, call: CopyCall) -> Operation:
        self.copies_asked += 1
        if self.refusals:
            raise outcome_of_copy_call(self.refusals.pop(0), "refused")
        self.registry.settle(self.clock.at)
        hidden = None if self.shows_after is None else timedelta(seconds=self.shows_after)
        try:
            started = self.registry.copy(
                parent=call.target_location,
                source_model=str(call.source),
                model_id=call.model_id,
                parent_model=call.parent_model,
                kms_key_name=call.kms_key_name,
                custom_service_account=call.custom_service_account,
                now=self.clock.at,
                takes=timedelta(seconds=self.copy_seconds),
                shows_after=hidden,
            )
        except VertexError as error:
            raise outcome_of_copy_call(
                Code[error.code.name], error.message, _cause(error)
            ) from error
        if self.dooms:
            doom = self.dooms.pop(0)
            # As Google does, which names the reason of a refusal.
            reason = "IAM_PERMISSION_DENIED" if doom is Code.PERMISSION_DENIED else ""
            end = worded(VertexCode[doom.name], f"{doom} in the end", reason=reason)
            self.registry.doom(started, end)
        if self.lost_answers:
            self.lost_answers -= 1
            raise OutcomeUnknownError("UNAVAILABLE: taken, but the answer is lost")
        return self._operation(started)

    async def get_operation(self, name: str) -> Operation:
        return self._read("GetOperation", lambda: self._operation(self.view.operation(name)))

    async def cancel_operation(self, name: str) -> None:
        def cancel() -> None:
            self.registry.cancel(self.view.operation(name).name, now=self.clock.at)

        self._read("CancelOperation", cancel)

    def _read(self, method: str, read: Callable[[], _T]) -> _T:
        self.registry.settle(self.clock.at)
        try:
            self.view.serve(method)
            return read()
        except VertexError as error:
            raise outcome_of_read(Code[error.code.name], error.message, _cause(error)) from error

    def _model(self, version: ModelVersion) -> Model:
        origin = version.copied_from
        return Model(
            name=self._named(version.name),
            copy_of=self._named(origin) if origin else None,
            kind=version.kind,
            container_image=version.container_image,
            kms_key_name=version.kms_key_name,
            deployed=version.deployed,
        )

    def _operation(self, found: CopyOperation) -> Operation:
        failed = found.done and found.error
        made = found.state is CopyState.SUCCEEDED
        return Operation(
            name=self.registry.spelled(found.name),
            done=found.done,
            model=self._named(found.destination.at(found.version)) if made else None,
            code=Code[failed.code.name] if failed else None,
            message=failed.message if failed else "",
            cause=_cause(failed) if failed else NO_CAUSE,
            started_at=found.created_at,
            updated_at=found.ends_at if found.done else found.created_at,
        )

    def _named(self, name: object) -> ModelName:
        return ModelName.parse(self.registry.spelled(str(name)))


def _cause(error: VertexError) -> Cause:
    why = error.why
    if why is None:
        return NO_CAUSE
    return Cause(
        reason=why.reason, domain=why.domain, metadata=why.metadata, violations=why.violations
    )


@dataclass
class SimulatedTopics:
    replies: list[Message] = field(default_factory=list)
    letters: list[Message] = field(default_factory=list)
    ticks: int = 0

    async def publish_reply(self, message: Message) -> None:
        self.replies.append(message)

    async def publish_letter(self, message: Message) -> None:
        self.letters.append(message)

    async def publish_tick(self) -> None:
        self.ticks += 1

    async def check(self) -> None:
        """There is nothing that could be away."""
