"""How a job moves on: the only place that knows what follows what.

Each step saves what it is about to do before it does it, so any process may die at any
line and another carries on from the store alone. What must not break: CopyModel is called
only by whoever saved ``asked_at`` and still holds the lease.
"""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from model_copier import failures, replies
from model_copier.errors import (
    RETRYABLE_OPERATION,
    Code,
    DestinationTakenError,
    OutcomeUnknownError,
    RefusedError,
    RejectedError,
    StaleJobError,
    UnavailableError,
)
from model_copier.job import (
    MAX_COPY_ATTEMPTS,
    CopyRequest,
    Failure,
    Job,
    Source,
    Step,
    Timing,
    next_step,
    step_of,
)
from model_copier.letters import letter_of_job
from model_copier.plan import Absent, Made, Unclear, plan, what_came_of
from model_copier.ports import Clock, JobStore, ModelService, Topics
from model_copier.registry import CopyCall, Model, Operation
from model_copier.resource_names import ModelName

SWEEP_LIMIT = 200  # jobs looked at in one round
SWEEP_CONCURRENCY = 16  # calls to Google at a time
BUGS_UNTIL_FAILED = 5


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
    _stirred: asyncio.Event = field(default_factory=asyncio.Event)
    _following: bool = False
    _closing: bool = False

    # One job, one step.

    async def advance(self, job: Job) -> None:
        """Take a due job up and do what it needs next. Somebody else may be first: then nothing."""
        if next_step(job, self.clock.now(), self.timing) is Step.NOTHING:
            return
        try:
            job = await self.store.save(job.leased(self.clock.now(), self.timing))
        except (StaleJobError, UnavailableError):
            return  # somebody else has it, or the store is away: then it stays due
        await self.take_up(job)

    async def take_in(self, job: Job) -> None:
        """Store a new job and do its first step.

        Raises:
            JobExistsError: it is stored already.
        """
        stored = await self.store.create(job.leased(self.clock.now(), self.timing))
        # From here on the request is safe: what fails below, the next tick takes up.
        await self.take_up(stored)

    async def take_over(self, moved: Job) -> None:
        """Save a move, whoever else holds the job, and do what follows from it.

        Raises:
            StaleJobError: somebody was faster.
        """
        now = self.clock.now()
        await self.take_up(await self.store.save(moved.leased(now, self.timing)))

    async def take_up(self, job: Job) -> None:
        """Do the next step of a job that we hold the lease of.

        An outage leaves the job to its backoff or, where even that cannot be saved, to the
        end of its lease.
        """
        try:
            match step_of(job):
                case Step.START:
                    await self._start(job)
                case Step.RECONCILE:
                    await self._reconcile(job)
                case Step.POLL:
                    await self._poll(job)
                case Step.ANNOUNCE:
                    await self._announce(job)
                case Step.NOTHING:
                    pass
        except StaleJobError:
            return  # a decision that lost the race; whoever won it carries on
        except UnavailableError as error:
            await self._put_off(job, error)

    async def _put_off(self, job: Job, error: UnavailableError) -> None:
        """Give the job back, due again after its backoff; or give up, when its time is over."""
        now = self.clock.now()
        try:
            newest = await self.store.get(job.key)
            if newest is None or newest.due_at != job.due_at:
                return  # no longer ours
            if not newest.state.final and newest.is_hopeless(now, self.timing):
                await self._give_up(newest, str(error))
            else:
                wait = self.timing.backoff(newest.tries, self.jitter())
                await self.store.save(newest.snoozed(now, wait))
        except (StaleJobError, UnavailableError):
            return  # the end of the lease brings it back

    async def _give_up(self, job: Job, why: str) -> None:
        """Answer a request whose time is over, without pretending to know what came of it."""
        asked = (
            f"; what came of operation {job.operation} is unknown"
            if job.operation
            else ("; whether a copy was made is unknown" if job.asked_at else "; nothing was made")
        )
        failure = Failure(
            code=Code.DEADLINE_EXCEEDED,
            message=f"the copy did not end in {job.budget_seconds(self.timing):g} s: {why}{asked}",
            hint=f"look at {job.target} before you ask again" if job.asked_at else "",
        )
        await self._end(job.failed(self.clock.now(), failure))

    async def _start(self, job: Job) -> None:
        """Find the source, take the destination, and see what to ask; then ask."""
        if job.cancel_requested:
            await self._end(job.cancelled(self.clock.now()))
            return
        # Its time runs from the first ask; waiting for the destination before costs nothing.
        if job.first_asked_at and job.is_hopeless(self.clock.now(), self.timing):
            await self._give_up(job, f"asked for {job.copy_attempts} times, it never started")
            return
        if not job.holds_destination:
            await self._prepare(job)
            return
        assert job.source is not None
        assert job.target is not None
        try:
            # Read only now that nobody else of ours can add a version.
            versions = await self.models.list_versions(job.target)
        except RefusedError as error:
            message = f"{job.target} cannot be read: {error.message}"
            await self._fail(job, error.code, message)
            return
        planned = plan(job.request, job.source, versions)
        match planned:
            case Failure():
                await self._end(job.failed(self.clock.now(), planned))
            case Model():
                there = job.succeeded(
                    self.clock.now(),
                    model_version=planned.name.version or "",
                    verified=job.source.is_origin(planned.copy_of),
                    already_existed=True,
                )
                await self._end(there)
            case CopyCall():
                await self._ask(job, planned, tuple(v.name.version or "" for v in versions))

    async def _prepare(self, job: Job) -> None:
        """Fix the source's version, which names the destination, and take that."""
        try:
            source = job.source or await self._resolve(job.request.source)
        except RefusedError as error:
            failure = failures.source_failure(error.code, error.message, job.request)
            await self._end(job.failed(self.clock.now(), failure))
            return
        now = self.clock.now()
        try:
            ready = await self.store.save(job.with_source(source).leased(now, self.timing))
        except DestinationTakenError:
            # Not a failure: the other copy has to end first.
            waited = (now - job.attempt_at).total_seconds()
            wait = self.timing.poll_wait(waited, self.jitter())
            await self.store.save(replace(job, source=source).waiting(now, wait))
            return
        await self.take_up(ready)

    async def _ask(self, job: Job, call: CopyCall, known_versions: tuple[str, ...]) -> None:
        now, ticks = self.clock.now(), self.clock.monotonic()
        job = await self.store.save(job.asked(now, known_versions).leased(now, self.timing))
        # The save may have taken long, and the wall clock may have been set back meanwhile.
        elapsed = timedelta(seconds=self.clock.monotonic() - ticks)
        latest = max(self.clock.now(), now + elapsed)
        assert job.due_at is not None
        if latest + timedelta(seconds=self.timing.call + self.timing.max_skew) > job.due_at:
            return  # the lease may end while we ask; whoever takes it up looks first
        try:
            operation = await self.models.copy_model(call)
        except RefusedError as error:
            await self._fail(job.not_asked(), error.code, error.message)
            return
        except UnavailableError:
            wait = self.timing.backoff(job.tries, self.jitter())
            await self.store.save(job.not_asked().snoozed(self.clock.now(), wait))
            return
        except OutcomeUnknownError:
            # What was accepted may show at once; if not, reconciling waits for the grace.
            soon = self.clock.now() + timedelta(seconds=self.timing.backoff(0, self.jitter()))
            await self.store.save(replace(job, due_at=soon))
        else:
            await self._write_fact(job, operation)
        self._stirred.set()
        await self.topics.publish_tick()

    async def _write_fact(self, job: Job, operation: Operation) -> None:
        """Keep the operation that was answered to this very ask, whoever saved in between."""
        asked_at, newest = job.asked_at, job
        while newest.asked_at == asked_at and not newest.operation:
            now = self.clock.now()
            due_at = now + timedelta(seconds=self.timing.poll_wait(0, self.jitter()))
            started_at = operation.started_at or now
            try:
                await self.store.save(newest.copying(operation.name, started_at, due_at))
            except StaleJobError:
                found = await self.store.get(job.key)
                if found is None or found.state.final:
                    return
                newest = found
            else:
                return

    async def _poll(self, job: Job) -> None:
        now = self.clock.now()
        try:
            operation = await self.models.get_operation(job.operation)
        except RefusedError as error:
            if error.code is not Code.NOT_FOUND:
                raise UnavailableError(str(error)) from error
            await self.store.save(job.lost_operation(now))
            return
        if not operation.done:
            await self._wait_on(job, now)
        elif operation.code is None:
            await self._finish(job, operation)
        elif operation.code in RETRYABLE_OPERATION and job.copy_attempts < MAX_COPY_ATTEMPTS:
            wait = self.timing.backoff(job.copy_attempts, self.jitter())
            await self.store.save(job.not_asked().snoozed(now, wait))
        elif operation.code is Code.CANCELLED and job.cancel_requested:
            await self._end(job.with_nothing_made().cancelled(now))
        elif operation.code is Code.CANCELLED and now > job.deadline(self.timing):
            message = f"cancelled: the copy did not end in {job.budget_seconds(self.timing):g} s"
            await self._fail(job.with_nothing_made(), Code.DEADLINE_EXCEEDED, message)
        else:
            message = f"Vertex AI gave up the copy: {operation.message or operation.code}"
            await self._fail(job.with_nothing_made(), operation.code, message)

    async def _wait_on(self, job: Job, now: datetime) -> None:
        """The copy still runs: look again later, and see that it ends when its time is over."""
        if job.is_hopeless(now, self.timing):
            await self._give_up(job, "a cancel was asked for and did not come through")
            return
        if job.cancel_requested or now > job.deadline(self.timing):
            with suppress(RefusedError):  # no cancel there: all that is left is to watch
                await self.models.cancel_operation(job.operation)
        copying_for = (now - (job.copy_started_at or job.attempt_at)).total_seconds()
        wait = self.timing.poll_wait(copying_for, self.jitter())
        await self.store.save(job.waiting(now, wait))

    async def _finish(self, job: Job, operation: Operation) -> None:
        """The operation says that the copy is there: read it back, then tell."""
        assert job.source is not None
        assert job.target is not None
        made = job.target.at(operation.model.version if operation.model else None)
        warnings: tuple[str, ...] = ()
        verified = False
        try:
            found = await self.models.get_model(made)
        except RefusedError as error:
            warnings = (f"the copy could not be read back: {error}",)
        else:
            made = made.at(made.version or found.name.version)
            verified = job.source.is_origin(found.copy_of)
            if not verified:
                origin = found.copy_of or "nothing"
                warnings = (f"the copy names {origin} as its origin, not {job.source.name}",)
        started_at = operation.started_at or job.copy_started_at
        await self._end(
            replace(job, copy_started_at=started_at).succeeded(
                self.clock.now(),
                model_version=made.version or "",
                verified=verified,
                ended_at=operation.updated_at,
                warnings=warnings,
            )
        )

    async def _reconcile(self, job: Job) -> None:
        """Look what came of an ask with an unknown outcome, before anybody asks again."""
        assert job.target is not None
        now = self.clock.now()
        try:
            operations = await self.models.list_operations(job.target)
            versions = await self.models.list_versions(job.target)
        except RefusedError as error:
            raise UnavailableError(str(error)) from error  # no answer to the request itself
        found = what_came_of(job, operations, versions, now, self.timing)
        match found:
            case Made(model=model, operation=operation):
                if operation:
                    job = replace(
                        job, operation=operation.name, copy_started_at=operation.started_at
                    )
                made = job.succeeded(
                    self.clock.now(),
                    model_version=model.name.version or "",
                    verified=True,
                    ended_at=operation.updated_at if operation else None,
                    possible_duplicates=tuple(str(other.name) for other in found.others),
                )
                await self._end(made)
            case Absent():
                await self.store.save(replace(job.not_asked(), due_at=now))
            case Unclear() if job.is_hopeless(now, self.timing):
                await self._give_up(job, "no trace of it could be proven")
            case Unclear():
                looking_for = (now - (job.asked_at or now)).total_seconds()
                wait = self.timing.poll_wait(looking_for, self.jitter())
                await self.store.save(job.waiting(now, wait))

    async def _fail(self, job: Job, code: Code, message: str) -> None:
        failure = failures.failure(code, message, job.request, job.source)
        await self._end(job.failed(self.clock.now(), failure))

    async def _end(self, job: Job) -> None:
        """Save an outcome and tell it at once."""
        job = await self.store.save(job.leased(self.clock.now(), self.timing))
        await self._announce(job)

    async def _announce(self, job: Job) -> None:
        """Keep the letter, then send the reply; a crash in between repeats, never skips."""
        try:
            if job.failure and not job.letter_kept:
                await self.topics.publish_letter(letter_of_job(job))
                job = await self.store.save(job.with_letter_kept())
            await self.topics.publish_reply(replies.outcome(job, self.service_name))
            await self.store.save(job.announced())
        except UnavailableError as error:
            await self._put_off(job, error)

    async def _resolve(self, name: ModelName) -> Source:
        """Fix an alias or the default version to a number."""
        model = await self.models.get_model(name)
        return Source(
            name=name.at(model.name.version),
            known_as=model.name,
            copy_of=model.copy_of,
            kind=model.kind,
            container_image=model.container_image,
        )

    async def validate(self, request: CopyRequest) -> CopyCall | Model:
        """Find out what a request would ask of Vertex AI now; change and store nothing.

        Raises:
            RejectedError: it would fail, and why.
            UnavailableError: that cannot be told now.
        """
        try:
            source = await self._resolve(request.source)
            versions = await self.models.list_versions(request.target(source.name))
        except RefusedError as error:
            found = failures.source_failure(error.code, error.message, request)
            raise RejectedError(found.message, code=found.code, hint=found.hint) from error
        planned = plan(request, source, versions)
        if isinstance(planned, Failure):
            raise RejectedError(planned.message, code=planned.code, hint=planned.hint)
        return planned

    # Everything that is due.

    async def sweep(self) -> int:
        """Advance everything that is due once; return how many jobs that were."""
        now = self.clock.now()
        latest = now + timedelta(seconds=self.timing.longest_wait)
        jobs = await self.store.due(now, latest, SWEEP_LIMIT)
        turn = asyncio.Semaphore(SWEEP_CONCURRENCY)

        async def one(job: Job) -> None:
            async with turn:
                try:
                    await self.advance(job)
                except Exception as bug:
                    await self._stumble(job, bug)
                    raise

        # One job that meets a bug must not keep the others from moving.
        ended = await asyncio.gather(*(one(job) for job in jobs), return_exceptions=True)
        if bugs := [error for error in ended if isinstance(error, Exception)]:
            raise ExceptionGroup("some jobs could not be advanced", bugs)
        return len(jobs)

    async def _stumble(self, job: Job, bug: Exception) -> None:
        """Put off a job that met a bug, and answer it when it does so again and again."""
        with suppress(StaleJobError, UnavailableError):
            newest = await self.store.get(job.key)
            if newest is None:
                return
            now = self.clock.now()
            if newest.state.final or newest.tries + 1 < BUGS_UNTIL_FAILED:
                wait = self.timing.backoff(newest.tries, self.jitter())
                await self.store.save(newest.snoozed(now, wait))
            else:
                met = failures.bug(bug)
                await self.store.save(newest.failed(now, met))

    async def tick(self, follow_seconds: float) -> int:
        """Sweep, then follow young copies for at most ``follow_seconds``.

        One follower for each process; a tick that finds one wakes it and returns.
        """
        await self.store.delete_expired(self.clock.now())
        swept = await self.sweep()
        if self._following:
            self._stirred.set()
            return swept
        self._following = True
        try:
            return swept + await self._follow(follow_seconds)
        finally:
            self._following = False

    async def _follow(self, seconds: float) -> int:
        swept, until = 0, self.clock.monotonic() + seconds
        while not self._closing and (left := until - self.clock.monotonic()) > 0:
            self._stirred.clear()
            due_at = await self.store.next_due_at()
            if due_at is None:
                break
            wait = (due_at - self.clock.now()).total_seconds()
            # Young copies are looked at often; for an old one the next tick is soon enough.
            if wait > min(left, 2 * self.timing.poll_shortest):
                break
            if wait > 0:
                await self._rest(wait)
            elif not (moved := await self.sweep()):
                await self._rest(1)  # due, but nobody here can move it
            else:
                swept += moved
        return swept

    async def _rest(self, seconds: float) -> None:
        """Wait, unless stirred by a copy that was just started or by the end of the process."""
        try:
            await asyncio.wait_for(self._stirred.wait(), timeout=seconds)
        except TimeoutError:
            return

    def close(self) -> None:
        """End follows now: the process wants to leave. Safe from a signal handler's callback."""
        self._closing = True
        self._stirred.set()
