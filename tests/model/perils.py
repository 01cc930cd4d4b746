"""The ports as a worker sees them: each call waits to be let through, and may go wrong.

A call stops twice, before it takes effect and before its answer arrives, so whoever
schedules can put anything in between: other workers, time, the death of this one. What
must not break: faults stay within what the ports promise and what *Once* assumes.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any

from local_cloud.registry import Registry
from local_cloud.vertex_records import CopyOperation, Dialect
from model_copier.domain.errors import (
    Code,
    CopierError,
    DestinationTakenError,
    RefusedError,
    StaleJobError,
    UnavailableError,
    outcome_of_copy_call,
)
from model_copier.domain.job import Job, State
from model_copier.domain.resource_names import ModelName
from model_copier.domain.timing import Timing
from model_copier.domain.vertex_types import CopyCall, Model, Operation, OperationsPage
from model_copier.engine.ports import Wanted
from model_copier.engine.request_handler import RequestHandler
from model_copier.engine.scheduler import Scheduler
from model_copier.engine.steady_clock import SteadyClock
from model_copier.engine.workflow import Workflow
from simulators import SimulatedClock, SimulatedModels, SimulatedStore, SimulatedTopics
from world import CONTRACT, TOPIC

# The job whose step the present task does: what it saved last.
_in_hand: ContextVar[str] = ContextVar("in_hand", default="")
# The present task has noted that it will ask Vertex AI, and has not done so yet.
_about_to_ask: ContextVar[bool] = ContextVar("about_to_ask", default=False)

FAULTS = (
    "store down",
    "store write worked unseen",
    "topic down",
    "publish worked unseen",
    "vertex down",
    "copy refused for now",
    "copy refused for good",
    "copy not taken, answer unknown",
    "copy taken, answer lost",
    "copy sent twice by the wire",
    "copy fails and may be retried",
    "copy fails for good",
    "copy never ends in time",
    "cancel comes to nothing",
    "operation forgotten",
    "operation hangs",
    "clock jumps",
    "store restored from a backup",
    "Vertex AI's clock is off",
    "workers with different timing",
    "outage: store down",
    "outage: topic down",
    "outage: vertex down",
    "outage: copy refused for now",
    "somebody else copies there",
    "crash before a call",
    "crash after a call",
    "crash, and the copy is taken all the same",
    "pause past the lease",
)

# Rules of the engine that a save shows, told by the move, the record before, and after.
DECISIONS: Mapping[str, Callable[[str, Job, Job], bool]] = {
    "the call made nothing, or was refused": lambda move, before, _: (
        move == "REQUESTED -> QUEUED" and not before.operation
    ),
    "found by its operation": lambda move, _, job: (
        move == "REQUESTED -> SUCCEEDED" and bool(job.operation)
    ),
    "found by its version": lambda move, _, job: (
        move == "REQUESTED -> SUCCEEDED" and not job.operation
    ),
    "another attempt": lambda move, *_: move in {"COPYING -> QUEUED", "COPYING -> ACCEPTED"},
    "succeeded without a proof": lambda move, _, job: (
        move == "COPYING -> SUCCEEDED" and not job.verified
    ),
    "it was there already": lambda move, _, job: (
        move == "QUEUED -> SUCCEEDED" and job.already_existed
    ),
    "a possible duplicate is named": lambda move, _, job: (
        move in {"REQUESTED -> SUCCEEDED", "COPYING -> SUCCEEDED"} and bool(job.possible_duplicates)
    ),
    "given up as unknown": lambda _move, _before, job: job.state is State.UNKNOWN,
    "given up while it waited": lambda move, _, job: (
        move in {"QUEUED -> FAILED", "ACCEPTED -> FAILED"}
        and job.failure is not None
        and job.failure.code is Code.DEADLINE_EXCEEDED
    ),
    "waited in its queue": lambda _move, before, job: job.in_queue and not before.in_queue,
    "watched another copy": lambda _, before, job: bool(
        job.watching_since and not before.watching_since
    ),
    "no operation speaks": lambda _, before, job: _misses(job) and not _misses(before),
    "an operation speaks after all": lambda move, before, job: (
        _misses(before) and not _misses(job) and move == "REQUESTED -> REQUESTED"
    ),
    "looked first after a restore": lambda move, _, job: bool(
        move == "QUEUED -> REQUESTED" and job.call and job.call.forgotten
    ),
    "replayed from the start": lambda move, *_: move == "FAILED -> ACCEPTED",
    "replayed as it is": lambda move, *_: move in {"UNKNOWN -> REQUESTED", "UNKNOWN -> COPYING"},
    "replayed repaired": lambda _, before, job: job.digests[-1] != before.digests[-1],
}


def _misses(job: Job) -> bool:
    return job.call is not None and job.call.missing_since is not None


# Ways of Vertex AI, not outages: they go on when all else is calm.
LASTING = frozenset({"cancel comes to nothing", "operation forgotten"})
HANGS_SECONDS = 30 * 24 * 3600.0
# More saves of one job in one second than any rule of the engine needs.
MOST_SAVES = 100


class CrashError(BaseException):
    """The process is dead. Not an Exception: no handler may hide it."""


@dataclass(kw_only=True)
class SkewedClock:
    """A machine's own clock: its wall time is off by a fixed amount."""

    true: SimulatedClock
    skew_seconds: float
    jump_seconds: float = 0.0
    jump_ends: datetime | None = None

    def now(self) -> datetime:
        is_wrong = self.jump_ends is not None and self.true.now() < self.jump_ends
        jump = self.jump_seconds if is_wrong else 0.0
        return self.true.now() + timedelta(seconds=self.skew_seconds + jump)

    def jump(self, seconds: float, until: datetime) -> None:
        """Be wrong by so much for a while, as a clock that is set twice."""
        self.jump_seconds, self.jump_ends = seconds, until

    @property
    def at(self) -> datetime:
        return self.now()

    def monotonic(self) -> float:
        return self.true.monotonic()


@dataclass(eq=False, kw_only=True)
class Gate:
    """A call that waits to be let through."""

    worker: "Worker"
    name: str
    opened: asyncio.Future[None]
    waits_since: datetime
    latest: datetime | None = None  # it cannot be held longer
    copy_call: CopyCall | None = None
    key: str = ""


@dataclass(kw_only=True)
class Cloud:
    """What outlives every process, and the faults that hit it; counts what happened."""

    rng: Random
    timing: Timing = field(default_factory=Timing)
    clock: SimulatedClock = field(default_factory=SimulatedClock)
    store: SimulatedStore = field(default_factory=SimulatedStore)
    topics: SimulatedTopics = field(default_factory=SimulatedTopics)
    models: SimulatedModels = field(init=False)
    # How often each fault strikes where it can; one that is not named never does.
    odds: dict[str, float] = field(default_factory=dict)
    dialect: Dialect = field(default_factory=Dialect)
    longest_copy: float = 300.0
    # Until when each dependency is away.
    outages: dict[str, datetime] = field(default_factory=dict)
    calm: bool = False
    gates: list[Gate] = field(default_factory=list)
    asked_by: dict[str, str] = field(default_factory=dict)  # operation number -> job's key
    reached: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    trace: list[str] | None = None
    vertex_skew: float = 0.0
    keys: dict[str, str] = field(default_factory=dict)  # of jobs, by request id
    cancels_sent: set[str] = field(default_factory=set)  # keys of jobs
    restored_at: datetime | None = None
    saves: dict[tuple[str, int], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        registry = Registry(dialect=self.dialect)
        vertex_clock: Any = SkewedClock(true=self.clock, skew_seconds=self.vertex_skew)
        self.models = SimulatedModels(vertex_clock, registry=registry)

    def begin(self) -> None:
        """Forget what an earlier history in the same context had in hand."""
        _in_hand.set("")
        _about_to_ask.set(False)

    def note(self, what: str) -> None:
        self.reached[what] = self.reached.get(what, 0) + 1

    def tell(self, line: str) -> None:
        if self.trace is not None:
            self.trace.append(f"{self.clock.monotonic():9.1f}  {line}")

    def found(self, violation: str) -> None:
        self.violations.append(violation)
        self.tell(f"VIOLATION {violation}")

    def strikes(self, fault: str) -> bool:
        ended = self.calm and fault not in LASTING
        away = self.outages.get(fault, self.clock.at) > self.clock.at
        often = fault in self.odds and self.rng.random() < self.odds[fault]
        if ended or not (away or often):
            return False
        self.note(fault)
        self.tell(f"  fault: {fault}")
        return True

    def operations_of(self, key: str) -> list[CopyOperation]:
        operations = self.models.registry._operations.values()
        return [found for found in operations if self.asked_by.get(found.number) == key]

    def take_copy(self, key: str, call: CopyCall) -> Operation:
        """Let Vertex AI take a CopyModel, and check who else copies there."""
        self.models.copy_seconds = self.rng.choice(
            [1.0, 20.0, self.rng.uniform(1, self.longest_copy)]
        )
        self.models.dooms = []
        if self.strikes("copy fails and may be retried"):
            self.models.dooms = [Code.INTERNAL]
        elif self.strikes("copy fails for good"):
            self.models.dooms = [Code.PERMISSION_DENIED]
        elif self.strikes("copy never ends in time"):
            self.models.copy_seconds = 4_000.0
        elif self.strikes("operation hangs"):
            self.models.copy_seconds = HANGS_SECONDS
        registry = self.models.registry
        registry.settle(self.models.clock.at)
        running = [op for op in registry.operations() if not op.done]
        before = len(registry._operations)
        # Not through copy_model: that is a coroutine, and this happens in one instant.
        started = _at_once(self.models.copy_model(call))
        assert isinstance(started, Operation)
        assert len(registry._operations) == before + 1
        number = started.name.rpartition("/")[2]
        self.asked_by[number] = key
        destination = registry.operation(started.name).destination
        for other in running:
            if other.destination == destination and other.number in self.asked_by:
                self._check_neighbour(other, key)
        self.tell(f"  vertex takes {number[-3:]} for {key[:4]}: {self.models.copy_seconds:.0f} s")
        return started

    def _check_neighbour(self, other: CopyOperation, key: str) -> None:
        owner = self.store.jobs.get(self.asked_by[other.number])
        if owner is None or self.restored_at:
            return
        call = owner.call
        given_up = owner.state is State.UNKNOWN or (
            call and call.requested_at < owner.run_started_at
        )
        if given_up and call and owner.key != key:
            # It was answered "unknown" at its hard limit, and waits for nobody any more; a
            # replay only looks what came of that.
            self.note("rule: a copy beside one that was given up")
            return
        self.found(f"destination: {key[:4]} and {owner.key[:4]} copy there at once")

    def somebody_copies(self, call: CopyCall) -> None:
        """Somebody else than the copier asks for a copy to one of its destinations."""
        self.models.copy_seconds = self.rng.uniform(1, 100)
        if self.strikes("operation hangs"):
            self.models.copy_seconds = HANGS_SECONDS
        self.models.dooms = []
        self.models.registry.settle(self.models.clock.at)
        try:
            _at_once(self.models.copy_model(call))
        except CopierError as refused:
            self.tell(f"somebody else is refused: {refused}")
        else:
            self.note("somebody else copies there")
            self.tell("somebody else copies there")

    def note_save(self, before: Job, job: Job) -> None:
        """Count what this save shows of the engine's rules."""
        second = (job.key, int(self.clock.monotonic()))
        self.saves[second] = self.saves.get(second, 0) + 1
        if self.saves[second] > MOST_SAVES:
            self.found(f"bounded: {job.key[:4]} is saved again and again")
            raise CrashError
        move = f"{named(before)} -> {named(job)}"
        self.note(f"move: {move}")
        for decision, shows in DECISIONS.items():
            if shows(move, before, job):
                self.note(f"rule: {decision}")


def _at_once(coroutine: Any) -> object:
    """Run a coroutine of a simulator, which never waits."""
    try:
        coroutine.send(None)
    except StopIteration as ended:
        return ended.value
    raise AssertionError("a simulator waited")


@dataclass(eq=False, kw_only=True)
class Worker:
    """One process: it knows nothing but the ports."""

    name: str
    cloud: Cloud
    skew_seconds: float
    timing: Timing
    alive: bool = True
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    workflow: Workflow = field(init=False)
    deliveries: RequestHandler = field(init=False)
    ticks: Scheduler = field(init=False)
    clock: SkewedClock = field(init=False)

    def __post_init__(self) -> None:
        self.clock = SkewedClock(true=self.cloud.clock, skew_seconds=self.skew_seconds)
        steady = SteadyClock(
            wall=self.clock.now,
            elapsed=self.cloud.clock.monotonic,
            max_skew=self.timing.max_skew_seconds,
        )
        self.workflow = Workflow(
            store=_StorePort(self),
            models=_ModelsPort(self),
            topics=_TopicsPort(self),
            clock=steady,
            service_name=f"//model-copier/{TOPIC}",
            timing=self.timing,
            jitter=self.cloud.rng.random,
        )
        self.deliveries = RequestHandler(
            workflow=self.workflow, contract=CONTRACT, restored_at=self.restored_at
        )
        self.ticks = Scheduler(workflow=self.workflow)

    async def restored_at(self) -> datetime | None:
        return self.cloud.restored_at

    async def wait(
        self, name: str, *, latest: datetime | None = None, copy_call: CopyCall | None = None
    ) -> None:
        """Wait until the scheduler lets this call go on; a dead process never does."""
        cloud = self.cloud
        if not self.alive:
            raise CrashError
        self.note_unasked()
        if cloud.calm:
            return
        gate = Gate(
            worker=self,
            name=name,
            opened=asyncio.get_running_loop().create_future(),
            waits_since=cloud.clock.at,
            latest=latest,
            copy_call=copy_call,
            key=_in_hand.get(),
        )
        cloud.gates.append(gate)
        try:
            await gate.opened
        finally:
            cloud.gates.remove(gate)
        if not self.alive:
            raise CrashError
        if cloud.clock.at - gate.waits_since > timedelta(seconds=self.timing.lease_seconds):
            cloud.note("pause past the lease")

    def note_unasked(self) -> None:
        """Whoever said that it would ask, and does something else, had no time left for it."""
        if _about_to_ask.get():
            self.cloud.note("rule: too late in the lease to ask")
            _about_to_ask.set(False)

    async def call(
        self, name: str, effect: Callable[[], Any], *, down: str, unseen: str = ""
    ) -> Any:
        """Stop, take effect, stop, answer; with an outage before or an answer lost after."""
        await self.wait(name)
        if self.cloud.strikes(down):
            raise UnavailableError(f"{name}: {down}")
        error: CopierError | None = None
        result: object = None
        try:
            result = effect()
        except CopierError as raised:
            error = raised
        self.cloud.tell(f"  {self.name} {name} {_in_hand.get()[:4]} {error or ''}")
        if self.cloud.rng.random() < 0.4:
            await self.wait(f"{name} answers")
        if error:
            raise error
        if unseen and self.cloud.strikes(unseen):
            raise UnavailableError(f"{name}: {unseen}")
        return result


def named(job: Job) -> str:
    return job.state.name


@dataclass
class _StorePort:
    worker: Worker

    async def _write(self, name: str, effect: Callable[[], Any]) -> Any:
        unseen = "store write worked unseen"
        return await self.worker.call(name, effect, down="store down", unseen=unseen)

    async def _read(self, name: str, effect: Callable[[], Any]) -> Any:
        return await self.worker.call(name, effect, down="store down")

    async def create(self, job: Job) -> Job:
        cloud = self.worker.cloud
        _in_hand.set(job.key)

        def effect() -> object:
            stored = _at_once(cloud.store.create(job))
            cloud.keys[job.request_id] = job.key
            cloud.note(f"move: new -> {named(job)}")
            return stored

        created: Job = await self._write("create", effect)
        return created

    async def get(self, key: str) -> Job | None:
        found: Job | None = await self._read("get", lambda: self.worker.cloud.store.jobs.get(key))
        return found

    async def save(self, job: Job) -> Job:
        cloud = self.worker.cloud
        _in_hand.set(job.key)
        asks: list[bool] = []

        def effect() -> object:
            before = cloud.store.jobs.get(job.key)
            try:
                stored = _at_once(cloud.store.save(job))
            except DestinationTakenError:
                cloud.note("rule: waited for the destination")
                raise
            except StaleJobError:
                cloud.note("rule: a decision that lost was dropped")
                raise
            assert before is not None
            latest = self.worker.timing.latest_due(cloud.clock.at)
            if job.due_at and job.due_at > latest + 3 * self.worker.timing.skew:
                cloud.found(f"bounded: {job.key[:4]} waits longer than any wait")
            cloud.note_save(before, job)
            asks.append(job.attempts > before.attempts and job.state is State.REQUESTED)
            cloud.tell(
                f"  {self.worker.name} saves {job.key[:4]} {named(before)} -> {named(job)}"
                f" run {job.run} retries {job.retries}"
                f" letter {job.letter_kept:d} reply {job.reply_sent:d}"
            )
            return stored

        saved: Job = await self._write("save", effect)
        _about_to_ask.set(asks == [True])
        return saved

    async def due(self, now: datetime, latest: datetime, limit: int) -> Sequence[Job]:
        store = self.worker.cloud.store
        found: Sequence[Job] = await self._read(
            "due", lambda: _at_once(store.due(now, latest, limit))
        )
        return found

    async def next_due_at(self) -> datetime | None:
        store = self.worker.cloud.store
        found: datetime | None = await self._read(
            "next_due_at", lambda: _at_once(store.next_due_at())
        )
        return found

    async def awaiting(self, destination: str, limit: int) -> Sequence[Job]:
        store = self.worker.cloud.store
        found: Sequence[Job] = await self._read(
            "awaiting", lambda: _at_once(store.awaiting(destination, limit))
        )
        if found:
            self.worker.cloud.note("rule: handed a destination on")
        return found

    async def with_traces(self, names: Collection[str]) -> Sequence[Job]:
        store = self.worker.cloud.store
        found: Sequence[Job] = await self._read(
            "with_traces", lambda: _at_once(store.with_traces(names))
        )
        return found

    async def with_operation(self, number: str) -> Sequence[Job]:
        store = self.worker.cloud.store
        found: Sequence[Job] = await self._read(
            "with_operation", lambda: _at_once(store.with_operation(number))
        )
        return found

    async def ended(self, keys: Collection[str]) -> Sequence[Job]:
        store = self.worker.cloud.store
        found: Sequence[Job] = await self._read("ended", lambda: _at_once(store.ended(keys)))
        return found

    async def find(self, wanted: Wanted, limit: int) -> Sequence[Job]:
        store = self.worker.cloud.store
        found: Sequence[Job] = await self._read("find", lambda: _at_once(store.find(wanted, limit)))
        return found

    async def unfinished(self, sender: str) -> int:
        store = self.worker.cloud.store
        count: int = await self._read("unfinished", lambda: _at_once(store.unfinished(sender)))
        return count

    async def next_turn(self, queue: str, sender: str, cost: float) -> float:
        store = self.worker.cloud.store
        turn: float = await self._read(
            "next_turn", lambda: _at_once(store.next_turn(queue, sender, cost))
        )
        return turn

    async def queued(self, queue: str, limit: int) -> Sequence[Job]:
        store = self.worker.cloud.store
        found: Sequence[Job] = await self._read(
            "queued", lambda: _at_once(store.queued(queue, limit))
        )
        return found

    async def queues(self) -> Sequence[str]:
        store = self.worker.cloud.store
        found: Sequence[str] = await self._read("queues", lambda: _at_once(store.queues()))
        return found

    async def take_starts(
        self,
        queue: str,
        turns: Sequence[float],
        now: datetime,
        per_minute: int,
        burst: int | None = None,
    ) -> int:
        store = self.worker.cloud.store
        granted: int = await self._write(
            "take_starts",
            lambda: _at_once(store.take_starts(queue, turns, now, per_minute, burst)),
        )
        if granted < len(turns):
            self.worker.cloud.note("rule: waited for its turn")
        return granted

    async def take_slots(self, name: str, wanted: int, now: datetime, per_minute: int) -> int:
        store = self.worker.cloud.store
        granted: int = await self._write(
            "take_slots", lambda: _at_once(store.take_slots(name, wanted, now, per_minute))
        )
        return granted

    async def delete_expired(self, now: datetime) -> int:
        store = self.worker.cloud.store
        deleted: int = await self._write(
            "delete_expired", lambda: _at_once(store.delete_expired(now))
        )
        return deleted

    async def check(self) -> None:
        await self._read("check", lambda: None)


@dataclass
class _TopicsPort:
    worker: Worker

    async def check(self) -> None:
        topics = self.worker.cloud.topics
        await self.worker.call("check", lambda: _at_once(topics.check()), down="topic down")

    async def _publish(self, name: str, coroutine: Callable[[], Any]) -> None:
        await self.worker.call(
            name,
            lambda: _at_once(coroutine()),
            down="topic down",
            unseen="publish worked unseen",
        )

    async def publish_reply(self, message: Any) -> None:
        topics = self.worker.cloud.topics
        await self._publish("publish_reply", lambda: topics.publish_reply(message))

    async def publish_letter(self, message: Any) -> None:
        topics = self.worker.cloud.topics
        await self._publish("publish_letter", lambda: topics.publish_letter(message))

    async def publish_tick(self) -> None:
        await self._publish("publish_tick", self.worker.cloud.topics.publish_tick)


@dataclass
class _ModelsPort:
    worker: Worker

    async def _read(self, name: str, effect: Callable[[], Any]) -> Any:
        return await self.worker.call(name, effect, down="vertex down")

    async def get_model(self, name: ModelName) -> Model:
        models = self.worker.cloud.models
        found: Model = await self._read("get_model", lambda: _at_once(models.get_model(name)))
        return found

    async def list_versions(self, name: ModelName) -> Sequence[Model]:
        models = self.worker.cloud.models
        found: Sequence[Model] = await self._read(
            "list_versions", lambda: _at_once(models.list_versions(name))
        )
        return found

    async def list_operations(self, name: ModelName) -> Sequence[Operation] | None:
        cloud = self.worker.cloud

        def effect() -> object:
            listed: Any = _at_once(cloud.models.list_operations(name))
            kept = []
            for operation in listed or ():
                if operation.done and cloud.strikes("operation forgotten"):
                    cloud.models.registry.delete(operation.name)
                else:
                    kept.append(operation)
            return None if listed is None else kept

        found: Sequence[Operation] | None = await self._read("list_operations", effect)
        return found

    async def list_location(
        self, location: str, page_token: str = "", *, running_only: bool = True
    ) -> OperationsPage | None:
        models = self.worker.cloud.models
        found: OperationsPage | None = await self._read(
            "list_location",
            lambda: _at_once(models.list_location(location, page_token, running_only=running_only)),
        )
        return found

    async def copy_model(self, call: CopyCall) -> Operation:
        worker, cloud = self.worker, self.worker.cloud
        latest = cloud.clock.at + timedelta(seconds=worker.timing.call_seconds)
        _about_to_ask.set(False)
        await worker.wait("copy_model", latest=latest, copy_call=call)
        if cloud.strikes("copy refused for now"):
            raise outcome_of_copy_call(Code.RESOURCE_EXHAUSTED, "refused")
        if cloud.strikes("copy refused for good"):
            raise outcome_of_copy_call(Code.PERMISSION_DENIED, "refused")
        if cloud.strikes("copy not taken, answer unknown"):
            raise outcome_of_copy_call(Code.INTERNAL, "not taken")
        error: CopierError | None = None
        started: Operation | None = None
        try:
            started = cloud.take_copy(_in_hand.get(), call)
        except CopierError as raised:
            error = raised
        await worker.wait("copy_model answers")
        if error or started is None:
            assert error is not None
            raise error
        answers_at_once = call.model_id and cloud.dialect.in_flight_id
        if answers_at_once and cloud.strikes("copy sent twice by the wire"):
            await cloud.models.copy_model(call)  # what it raises is all that the caller sees
        if cloud.strikes("copy taken, answer lost"):
            raise outcome_of_copy_call(Code.UNAVAILABLE, "taken, but the answer is lost")
        return started

    async def get_operation(self, name: str) -> Operation:
        cloud = self.worker.cloud

        def effect() -> object:
            found: Any = _at_once(cloud.models.get_operation(name))
            if found.done and cloud.strikes("operation forgotten"):
                cloud.models.registry.delete(name)
                raise RefusedError(Code.NOT_FOUND, "forgotten")
            return found

        found: Operation = await self._read("get_operation", effect)
        return found

    async def cancel_operation(self, name: str) -> None:
        cloud = self.worker.cloud

        def effect() -> object:
            if cloud.asked_by.get(name.rpartition("/")[2]) != _in_hand.get():
                cloud.found(f"nobody else's: {_in_hand.get()[:4]} cancels {name}")
            job = cloud.store.jobs[_in_hand.get()]
            cloud.cancels_sent.add(job.key)
            cloud.note(f"rule: cancel {'asked for' if job.cancel_requested else 'at the deadline'}")
            if cloud.strikes("cancel comes to nothing"):
                return None
            return _at_once(cloud.models.cancel_operation(name))

        await self._read("cancel_operation", effect)
