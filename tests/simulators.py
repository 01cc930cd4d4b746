"""Doubles that behave: the ports of the workflow, in memory, on a clock that is moved by hand.

Held to the same contract suites as the real adapters (``tests/contract``). Vertex AI's
rules come from the local cloud's own pure registry, so there is one idea of them.
"""

import bisect
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from local_cloud.registry import Registry
from local_cloud.vertex_records import Code as VertexCode
from local_cloud.vertex_records import CopyOperation, CopyState, ModelVersion, VertexError
from model_copier.errors import (
    Code,
    DestinationTakenError,
    JobExistsError,
    OutcomeUnknownError,
    StaleJobError,
    outcome_of_copy_call,
    outcome_of_read,
)
from model_copier.job import Job
from model_copier.messages import Message
from model_copier.ports import LONGEST_QUEUE
from model_copier.registry import CopyCall, Model, Operation
from model_copier.resource_names import ModelName

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
    queues: dict[str, datetime] = field(default_factory=dict)

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

    async def with_traces(self, names: Collection[str]) -> Sequence[Job]:
        return [job for job in self.jobs.values() if job.trace in names]

    async def with_operation(self, number: str) -> Sequence[Job]:
        return [job for job in self.jobs.values() if job.follows == number]

    async def take_turn(self, queue: str, now: datetime, distance: float) -> datetime:
        end = self.queues.get(queue, now)
        turn = now if end > now + LONGEST_QUEUE else max(end, now)
        self.queues[queue] = turn + timedelta(seconds=distance)
        return turn

    async def delete_expired(self, now: datetime) -> int:
        expired = [
            key for key, job in self.jobs.items() if job.expires_at and job.expires_at <= now
        ]
        for key in expired:
            del self.jobs[key]
        return len(expired)


def _due_at(job: Job) -> datetime:
    assert job.due_at is not None
    return job.due_at


@dataclass
class SimulatedModels:
    """Vertex AI on the simulated clock.

    ``lost_answers`` counts the copies that will be taken and answered with UNAVAILABLE,
    ``refusals`` the codes that the next copies are refused with.
    """

    clock: SimulatedClock
    registry: Registry = field(default_factory=Registry)
    copy_seconds: float = 42.0
    lost_answers: int = 0
    refusals: list[Code] = field(default_factory=list)
    dooms: list[Code] = field(default_factory=list)
    copies_asked: int = 0

    def add(self, name: str, version: str = "1") -> None:
        self.registry.add_model(name, version=version, now=self.clock.at)

    def versions(self, name: str) -> list[ModelVersion]:
        """What is there now; nothing when the model is not."""
        self.registry.settle(self.clock.at)
        try:
            return self.registry.versions(name)
        except VertexError:
            return []

    async def get_model(self, name: ModelName) -> Model:
        self.registry.settle(self.clock.at)
        try:
            return _model(self.registry.model(str(name)))
        except VertexError as error:
            raise outcome_of_read(Code[error.code.name], error.message) from error

    async def list_versions(self, name: ModelName) -> Sequence[Model]:
        return [_model(version) for version in self.versions(str(name))]

    async def list_operations(self, name: ModelName) -> Sequence[Operation] | None:
        self.registry.settle(self.clock.at)
        return [_operation(found) for found in self.registry.operations(str(name))]

    async def copy_model(self, call: CopyCall) -> Operation:
        self.copies_asked += 1
        if self.refusals:
            raise outcome_of_copy_call(self.refusals.pop(0), "refused")
        self.registry.settle(self.clock.at)
        try:
            started = self.registry.copy(
                parent=call.target_location,
                source_model=str(call.source),
                model_id=call.model_id,
                parent_model=call.parent_model,
                now=self.clock.at,
                takes=timedelta(seconds=self.copy_seconds),
            )
        except VertexError as error:
            raise outcome_of_copy_call(Code[error.code.name], error.message) from error
        if self.dooms:
            doom = self.dooms.pop(0)
            self.registry.doom(started, VertexError(VertexCode[doom.name], f"{doom} in the end"))
        if self.lost_answers:
            self.lost_answers -= 1
            raise OutcomeUnknownError("UNAVAILABLE: taken, but the answer is lost")
        return _operation(started)

    async def get_operation(self, name: str) -> Operation:
        self.registry.settle(self.clock.at)
        try:
            return _operation(self.registry.operation(name))
        except VertexError as error:
            raise outcome_of_read(Code[error.code.name], error.message) from error

    async def cancel_operation(self, name: str) -> None:
        self.registry.settle(self.clock.at)
        self.registry.cancel(name, now=self.clock.at)


def _model(version: ModelVersion) -> Model:
    origin = version.copied_from
    return Model(
        name=ModelName.parse(str(version.name)),
        copy_of=ModelName.parse(str(origin)) if origin else None,
    )


def _operation(found: CopyOperation) -> Operation:
    failed = found.done and found.error
    made = found.state is CopyState.SUCCEEDED
    return Operation(
        name=found.name,
        done=found.done,
        model=ModelName.parse(str(found.destination.at(found.version))) if made else None,
        code=Code[failed.code.name] if failed else None,
        message=failed.message if failed else "",
        started_at=found.created_at,
        updated_at=found.ends_at if found.done else found.created_at,
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
