"""How a job moves on: the only place that knows what follows what.

Each step saves what it is about to do before it does it, so any process may die at any
line and another carries on from the store alone. What must not break: CopyModel is sent
only by whoever saved the call and still holds the lease.
"""

import asyncio
import math
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from model_copier.contract import replies
from model_copier.contract.dead_letters import letter_of_job
from model_copier.domain import failure_messages
from model_copier.domain.copy_call import Call, call_record
from model_copier.domain.errors import (
    BudgetExhaustedError,
    Cause,
    CircuitOpenError,
    Code,
    DestinationTakenError,
    Failure,
    OutcomeUnknownError,
    PostponedError,
    RefusedError,
    StaleJobError,
    UnavailableError,
)
from model_copier.domain.job import Job, State
from model_copier.domain.planning import after_failure, plan
from model_copier.domain.preconditions import refusal_before_copy
from model_copier.domain.reconciliation import (
    Confirmed,
    ConfirmedAbsent,
    InProgress,
    NeedsSecondRead,
    Undetermined,
    reconcile,
)
from model_copier.domain.steps import Step, give_up, next_step, step_of
from model_copier.domain.timing import RETRIES_UNTIL_TROUBLE, Timing
from model_copier.domain.vertex_types import CopyCall, Model, Operation
from model_copier.engine.ports import Clock, JobStore, ModelService, Topics
from model_copier.engine.read_priority import Reading, reading_as
from model_copier.engine.start_queue import StartQueue
from model_copier.engine.vertex_reader import VertexReader


@dataclass(kw_only=True)
class Workflow:
    """Moves jobs on. One for each process; several may share a store."""

    store: JobStore
    models: ModelService
    topics: Topics
    clock: Clock
    service_name: str  # CloudEvents source of the replies
    timing: Timing = field(default_factory=Timing)
    # Retries of many jobs should not fall on one instant; a test may want them to.
    jitter: Callable[[], float] = random.random
    # What one start costs a sender, by its request source: 1 / weight.
    start_cost: Callable[[str], float] = lambda _sender: 1.0
    # Told of a job that is retried again and again, and why.
    on_trouble: Callable[[Job, str], None] = lambda _job, _why: None
    # Set when a copy was started or may be: whoever follows copies has something to do.
    wakeup: asyncio.Event = field(default_factory=asyncio.Event)
    # When, by the monotonic clock, a job comes back that found the read budget used up.
    postponed_until: float = -math.inf
    reader: VertexReader = field(init=False)
    starts: StartQueue = field(init=False)

    def __post_init__(self) -> None:
        self.reader = VertexReader(models=self.models, store=self.store)
        self.starts = StartQueue(
            store=self.store, clock=self.clock, timing=self.timing, cost=self.start_cost
        )

    # One job, one step.

    async def claim_and_run(self, job: Job, *, may_start: bool = False) -> None:
        """Claim a job that is due or, with ``may_start``, is first in its queue; run its step.

        Somebody else may be first: then nothing happens.
        """
        try:
            now = self.clock.now()
            is_due = next_step(job, now, self.timing) is not Step.NOTHING
            if not is_due and not (may_start and job.in_queue):
                return
            job = await self.save(job.leased(now, self.timing))
        except (StaleJobError, UnavailableError):
            return  # somebody else has it, or something is away: then it stays as it is
        await self.run_step(job, may_start=may_start)

    async def create_and_run(self, job: Job) -> None:
        """Store a new job and run its first step.

        Raises:
            JobExistsError: it is stored already.
        """
        stored = await self.store.create(job.leased(self.clock.now(), self.timing))
        # From here on the request is safe: what fails below, the next tick carries on.
        await self.run_step(stored)

    async def save_and_run(self, moved: Job) -> None:
        """Save a move, whoever else holds the job, and run the step that follows from it.

        Raises:
            StaleJobError: somebody was faster.
        """
        now = self.clock.now()
        await self.run_step(await self.save(moved.leased(now, self.timing)))

    async def run_step(self, job: Job, *, may_start: bool = False) -> None:
        """Run the next step of a job whose lease we hold.

        An outage leaves the job to its backoff or, where even that cannot be saved, to the
        end of its lease.
        """
        try:
            match step_of(job, now := self.clock.now(), self.timing):
                case Step.PREPARE:
                    await self._prepare(job)
                case Step.START:
                    await self._start(job, may_start=may_start)
                case Step.RECONCILE:
                    await self._reconcile(job)
                case Step.POLL:
                    await self._poll(job)
                case Step.GIVE_UP:
                    await self.persist(give_up(job, now, self.timing))
                case Step.ANNOUNCE:
                    await self._announce(job)
                case Step.NOTHING:
                    pass
        except StaleJobError:
            return  # a decision that lost the race; whoever won it carries on
        except UnavailableError as error:
            await self._schedule_retry(job, error)

    async def _schedule_retry(self, job: Job, error: UnavailableError) -> None:
        """Give the job back, due again after its backoff."""
        with suppress(StaleJobError, UnavailableError):  # then the end of the lease brings it back
            newest = await self.store.get(job.key)
            if newest is None or newest.due_at != job.due_at:
                return  # no longer ours
            if isinstance(error, PostponedError):
                await self._postpone(newest, error)
                return
            if newest.retries >= RETRIES_UNTIL_TROUBLE:
                self.on_trouble(newest, str(error))
            await self.save(newest.retry_later(self.backoff(newest)))

    async def _postpone(self, job: Job, error: PostponedError) -> None:
        """Nobody was asked, so nothing has failed; but no job outlives its time by much for it."""
        wait = error.retry_seconds * (1 + self.jitter() / 10)
        if isinstance(error, BudgetExhaustedError):
            self.postponed_until = self.clock.monotonic() + wait
        is_late = self.clock.now() > job.gives_up_at(self.timing)
        if isinstance(error, CircuitOpenError) and is_late:
            await self.save(job.retry_later(self.after(wait)))
        else:
            await self.save(job.postponed(self.after(wait)))

    async def persist(self, job: Job) -> None:
        """Save how the job stands; an outcome is published, and its destination released."""
        if not job.state.final:
            await self.save(job)
            return
        ended = await self.save(job.leased(self.clock.now(), self.timing))
        await self._announce(ended)
        if ended.target:
            await self._wake_next_waiter(str(ended.target))

    async def _wake_next_waiter(self, destination: str) -> None:
        """Make the first that waits for this lock due. Should that fail, it looks by itself."""
        with suppress(StaleJobError, UnavailableError):
            for first in await self.store.awaiting(destination, 1):
                await self.save(first.snoozed(self.clock.now()))
                await self._wake_followers()

    async def _wake_followers(self) -> None:
        self.wakeup.set()
        await self.topics.publish_tick()

    async def save(self, job: Job) -> Job:
        """Save what this service has decided: see ``JobStore.save``."""
        latest = self.timing.latest_due(self.clock.now()) + self.timing.skew
        assert job.due_at is None or job.due_at <= latest, f"{job.key} is due at {job.due_at}"
        return await self.store.save(job)

    def after(self, seconds: float) -> datetime:
        return self.timing.after(self.clock.now(), seconds)

    def backoff(self, job: Job) -> datetime:
        return self.after(self.timing.backoff(job.retries, self.jitter()))

    async def _look_again(self, job: Job, since: datetime) -> None:
        """All is well, only not over: look again after a quarter of the time since then."""
        elapsed = (self.clock.now() - since).total_seconds()
        due_at = self.after(self.timing.poll_wait(elapsed, self.jitter()))
        await self.save(job.snoozed(due_at))

    # PREPARE and START

    async def _prepare(self, job: Job) -> None:
        """Resolve the source's version, which names the destination, and lock that."""
        if job.cancel_requested and not job.restored:
            await self.persist(job.cancelled(self.clock.now()))
            return
        try:
            source = job.source or await self.reader.source(job.request.source)
        except RefusedError as error:
            failure = failure_messages.source_failure(
                error.code, error.message, job.request, cause=error.cause
            )
            await self.persist(job.failed(self.clock.now(), failure))
            return
        if refusal := refusal_before_copy(job.request, source):
            await self.persist(job.failed(self.clock.now(), refusal))
            return
        job = job.with_source(source, await self.starts.turn_of(job))
        try:
            ready = await self.save(job.with_lock().leased(self.clock.now(), self.timing))
        except DestinationTakenError:
            # Not a failure: the other copy has to end first, and its end wakes us.
            await self.save(job.snoozed(self.after(self.timing.max_backoff_seconds)))
            return
        await self.run_step(ready)

    async def _start(self, job: Job, *, may_start: bool) -> None:
        """When it is this job's turn: see what is on the destination, and send CopyModel."""
        now = self.clock.now()
        if job.restored:
            await self.save_and_run(job.reconciles_first(now, self.timing))
            return
        if job.cancel_requested:
            await self.persist(job.cancelled(now))
            return
        # A job that watches another copy asks for no turn before it has one to use.
        if not (may_start or job.watching_since or await self.starts.admits(job)):
            await self.save(job.enqueued())
            self.starts.enqueued()
            self.wakeup.set()
            return
        assert job.source is not None
        assert job.target is not None
        try:
            # Read only now that no other job can add a version.
            operations, versions = await self.reader.before_copy(job.target)
        except RefusedError as error:
            message = f"{job.target} cannot be read: {error.message}"
            await self._fail(job, error.code, message, error.cause)
            return
        match plan(job.request, job.source, versions):
            case Failure() as failure:
                await self.persist(job.failed(self.clock.now(), failure))
            case Model() as there:
                running = any(not operation.done for operation in operations or ())
                await self._take_existing(job, there, running=running)
            case CopyCall() as call if job.watching_since is None:
                record = call_record(operations, versions, self.clock.now(), self.timing)
                await self._call_copy_model(job, call, record)
            case CopyCall():
                await self.save_and_run(job.enqueued())

    async def _take_existing(self, job: Job, there: Model, *, running: bool) -> None:
        """The model is there already: no copy is needed, once it is certainly whole."""
        assert job.source is not None
        # A copy that runs may fail yet; or it just did, and took back what was visible.
        if running or not await self.reader.exists(there.name):
            now = self.clock.now()
            await self._look_again(job.watching(now), job.watching_since or now)
            return
        await self.persist(
            job.succeeded(
                self.clock.now(),
                model_version=there.name.version or "",
                verified=job.source.is_origin(there.copy_of),
                already_existed=True,
            )
        )

    async def _call_copy_model(self, job: Job, call: CopyCall, record: Call) -> None:
        now, ticks = self.clock.now(), self.clock.monotonic()
        requested = job.copy_requested(now, record, self.timing)
        job = await self.save(requested.leased(now, self.timing))
        # The save may have taken long, and the wall clock may have been set back meanwhile.
        elapsed = timedelta(seconds=self.clock.monotonic() - ticks)
        latest = max(self.clock.now(), now + elapsed)
        assert job.due_at is not None
        ends = latest + timedelta(seconds=self.timing.call_seconds) + self.timing.skew
        if ends > job.due_at:
            return  # the lease may end during the call; whoever claims the job next looks first
        try:
            operation = await self.models.copy_model(call)
        except RefusedError as error:
            refused = job.copy_reset(self.clock.now(), error.message, error.code)
            await self._fail(refused, error.code, error.message, error.cause)
            return
        except UnavailableError as error:
            reset = job.copy_reset(self.clock.now(), error.told)
            # Each call counts its own retries; how often this run was put off, its calls tell.
            wait = self.timing.backoff(job.attempts - 1, self.jitter())
            await self.save(reset.retry_later(self.after(wait)))
            return
        except OutcomeUnknownError:
            # What was accepted may be visible at once; if not, reconciling waits for it.
            due_at = self.after(self.timing.backoff(0, self.jitter()))
            await self.save(job.snoozed(due_at))
        else:
            await self._record_operation(job, operation)
        await self._wake_followers()

    async def _record_operation(self, job: Job, operation: Operation) -> None:
        """Record the operation that was answered to this very call, whoever saved in between."""
        assert job.call is not None
        requested_at, newest = job.call.requested_at, job
        while newest.state is State.REQUESTED and newest.call:
            if newest.call.requested_at != requested_at:
                return
            now = self.clock.now()
            due_at = self.after(self.timing.poll_wait(0, self.jitter()))
            try:
                await self.save(newest.copying(operation.name, operation.started_at or now, due_at))
            except StaleJobError:
                found = await self.store.get(job.key)
                if found is None:
                    return
                newest = found
            else:
                return

    # POLL and RECONCILE

    async def _poll(self, job: Job) -> None:
        """Read the operation; where Vertex AI does not know it, look for what it made."""
        # Before it is given up, it is read for itself: a list may be a minute old.
        is_late = self.clock.now() > job.gives_up_at(self.timing)
        with reading_as(Reading.FRESH if is_late else Reading.ORDINARY):
            operation = await self.reader.operation(job.operation)
        if operation is None:
            await self._reconcile(job)  # forgotten, or not visible yet
            return
        now = self.clock.now()
        if not operation.done:
            await self._wait_for_end(job, now)
        elif operation.code is None:
            await self._finish(job, operation)
        else:
            after = after_failure(job, operation, now, self.timing)
            if after.state in {State.QUEUED, State.ACCEPTED}:
                after = after.retry_later(self.backoff(job))
            await self.persist(after)

    async def _wait_for_end(self, job: Job, now: datetime) -> None:
        """The copy still runs: look again later; past its deadline, cancel it first."""
        call = job.call
        assert call is not None
        is_late = job.deadline_at is not None and now > job.deadline_at
        # Only what CopyModel answered to us is certainly ours to cancel.
        if job.state is State.COPYING and (job.cancel_requested or is_late):
            try:
                await self.models.cancel_operation(job.operation)
            except RefusedError as error:
                job = job.cancel_answered(now, refused=failure_messages.cancel_refused(error.code))
            else:
                job = job.cancel_answered(now)
        await self._look_again(job.unfinished(now), call.requested_at)

    async def _finish(self, job: Job, operation: Operation) -> None:
        """The operation says that the copy is there: read it back, then tell."""
        found = await self.reader.copy(job, operation)
        await self.persist(
            job.succeeded(
                self.clock.now(),
                model_version=found.version,
                verified=found.verified,
                operation=operation,
                warnings=found.warnings,
            )
        )

    async def _reconcile(self, job: Job) -> None:
        """Find out what became of a call without a response, before anybody sends another."""
        assert job.call is not None
        now = self.clock.now()
        match reconcile(job, await self.reader.snapshot(job), now, self.timing):
            case Confirmed() as found:
                await self.persist(
                    job.succeeded(
                        self.clock.now(),
                        model_version=found.model.name.version or "",
                        verified=True,
                        operation=found.operation,
                        possible_duplicates=tuple(str(other.name) for other in found.others),
                    )
                )
            case ConfirmedAbsent():
                reset = job.copy_reset(now, "nothing shows of it")
                await self.save(reset.snoozed(now))
            case NeedsSecondRead():
                wait = self.timing.second_read_seconds * (1 + self.jitter() / 10)
                await self.save(job.evidence_missing(now).snoozed(self.after(wait)))
            case InProgress():
                await self._wait_for_end(job, now)
            case Undetermined():
                await self._look_again(job.unfinished(now), job.call.requested_at)

    # ANNOUNCE

    async def _announce(self, job: Job) -> None:
        """Publish the dead letter, then the reply; a crash in between repeats, never skips."""
        try:
            if job.failure and not job.letter_kept:
                await self.topics.publish_letter(letter_of_job(job))
                job = await self.save(job.with_letter_kept(self.clock.now()))
            await self.topics.publish_reply(replies.outcome(job, self.service_name))
            await self.save(job.announced(self.clock.now()))
        except UnavailableError as error:
            await self._schedule_retry(job, error)

    async def _fail(self, job: Job, code: Code, message: str, cause: Cause) -> None:
        failure = failure_messages.failure(code, message, job.request, job.source, cause=cause)
        await self.persist(job.failed(self.clock.now(), failure))
