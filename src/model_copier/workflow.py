"""How a job moves on: the only place that knows what follows what.

Each step saves what it is about to do before it does it, so any process may die at any
line and another carries on from the store alone. What must not break: CopyModel is called
only by whoever saved ``asked_at`` and still holds the lease.
"""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from model_copier import failures, replies
from model_copier.errors import (
    BudgetExhaustedError,
    Code,
    DestinationTakenError,
    OutcomeUnknownError,
    PostponedError,
    RefusedError,
    StaleJobError,
    UnavailableError,
)
from model_copier.job import Failure, Job, State, Step, next_step, step_of
from model_copier.letters import letter_of_job
from model_copier.looks import Looks
from model_copier.plan import (
    Absent,
    Made,
    Quiet,
    Running,
    Unclear,
    after_failure,
    given_up,
    plan,
    what_came_of,
)
from model_copier.ports import Clock, JobStore, ModelService, Topics
from model_copier.reading import Reading, reading_as
from model_copier.registry import CopyCall, Model, Operation
from model_copier.timing import Timing

# Of so many that wait for a destination, whoever came first is next: each is a read.
WAITING_LOOKED_AT = 20
TRIES_UNTIL_TROUBLE = 5  # a minute of backoffs: less is what outages are like


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
    # Told of a job that is put off again and again, and why.
    on_trouble: Callable[[Job, str], None] = lambda _job, _why: None
    # Set when a copy was started: whoever follows has one more.
    stirred: asyncio.Event = field(default_factory=asyncio.Event)
    # When, by the monotonic clock, a job comes back that found the read budget used up.
    postponed_until: float = 0.0

    @property
    def looks(self) -> Looks:
        return Looks(models=self.models, store=self.store)

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
            # The budget is ours: no reason to give up; and no news either, when it may be over.
            spared = isinstance(error, BudgetExhaustedError)
            if not spared and not newest.state.final and newest.is_hopeless(now, self.timing):
                await self.keep(given_up(newest, str(error), now, self.timing))
            elif isinstance(error, PostponedError):  # nobody was asked, so nothing has failed
                wait = min(error.retry_seconds, self.timing.backoff_longest)
                if spared:
                    self.postponed_until = self.clock.monotonic() + wait
                await self.store.save(newest.waiting(now, wait * (1 + self.jitter() / 10)))
            else:
                if newest.tries >= TRIES_UNTIL_TROUBLE:
                    self.on_trouble(newest, str(error))
                wait = self.timing.backoff(newest.tries, self.jitter())
                await self.store.save(newest.snoozed(now, wait))
        except (StaleJobError, UnavailableError):
            return  # the end of the lease brings it back

    async def keep(self, job: Job) -> None:
        """Save how the job stands now; an outcome is told, and its destination handed on."""
        if not job.state.final:
            await self.store.save(job)
            return
        ended = await self.store.save(job.leased(self.clock.now(), self.timing))
        await self._announce(ended)
        if ended.target:
            await self._hand_on(str(ended.target))

    async def _hand_on(self, destination: str) -> None:
        """Make due whoever waits longest. Should that fail, it looks by itself, only later."""
        with suppress(StaleJobError, UnavailableError):
            waiting = await self.store.awaiting(destination, WAITING_LOOKED_AT)
            if not waiting:
                return
            first = min(waiting, key=lambda job: (job.attempt_at, job.key))
            await self.store.save(first.waiting(self.clock.now(), 0))
            self.stirred.set()
            await self.topics.publish_tick()

    async def _wait(self, job: Job, since: datetime) -> None:
        """All is well, only not over: look again after a quarter of the time since then."""
        now = self.clock.now()
        wait = self.timing.poll_wait((now - since).total_seconds(), self.jitter())
        await self.store.save(job.waiting(now, wait))

    # START

    async def _start(self, job: Job) -> None:
        """Find the source, take the destination, see what to ask; then ask, when it is our turn."""
        now = self.clock.now()
        if job.cancel_requested:
            await self.keep(job.cancelled(now))
            return
        # Its time runs from the first ask; waiting for the destination before costs nothing.
        if job.first_asked_at and job.is_hopeless(now, self.timing):
            why = f"asked for {job.copy_attempts} times, it never started"
            await self.keep(given_up(job, why, now, self.timing))
            return
        if not job.holds_destination:
            await self._prepare(job)
            return
        assert job.source is not None
        assert job.target is not None
        if await self._queue(job) is None:
            return  # first of all, since whoever waits for a turn reads nothing
        try:
            # Read only now that nobody else of ours can add a version.
            versions = await self.models.list_versions(job.target)
        except RefusedError as error:
            message = f"{job.target} cannot be read: {error.message}"
            await self._fail(job, error.code, message)
            return
        match plan(job.request, job.source, versions):
            case Failure() as failure:
                await self.keep(job.failed(self.clock.now(), failure))
            case Model() as there:
                await self._leave(job, there)
            case CopyCall() as call:
                await self._ask(job, call, tuple(v.name.version or "" for v in versions))

    async def _leave(self, job: Job, there: Model) -> None:
        """The model is there already: nothing is asked, once it is surely whole."""
        assert job.source is not None
        assert job.target is not None
        copying = await self.looks.somebody_copies_to(job.target)
        # That may fail yet; or it just did, and took back what had shown.
        if copying or not await self.looks.is_there(there.name):
            await self._wait(job, job.attempt_at)
            return
        await self.keep(
            job.succeeded(
                self.clock.now(),
                model_version=there.name.version or "",
                verified=job.source.is_origin(there.copy_of),
                already_existed=True,
            )
        )

    async def _prepare(self, job: Job) -> None:
        """Fix the source's version, which names the destination, and take that."""
        try:
            source = job.source or await self.looks.source(job.request.source)
        except RefusedError as error:
            failure = failures.source_failure(error.code, error.message, job.request)
            await self.keep(job.failed(self.clock.now(), failure))
            return
        job = job.with_source(source)
        try:
            ready = await self.store.save(job.holding().leased(self.clock.now(), self.timing))
        except DestinationTakenError:
            await self._wait(job, job.attempt_at)  # not a failure: the other copy has to end first
            return
        await self.take_up(ready)

    async def _queue(self, job: Job) -> Job | None:
        """Take one of the starts of the region, or wait for one: then None."""
        assert job.target is not None
        now, per_minute = self.clock.now(), max(1, int(self.timing.starts_per_minute))
        queue = job.target.location_name
        if await self.store.take_starts(queue, [job.turn or 0.0], now, per_minute):
            return job
        await self.store.save(job.waiting(now, 60 / per_minute))
        return None

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
            refused = job.not_asked(self.clock.now(), error.message, error.code)
            await self._fail(refused, error.code, error.message)
            return
        except UnavailableError as error:
            now, wait = self.clock.now(), self.timing.backoff(job.tries, self.jitter())
            await self.store.save(job.not_asked(now, str(error)).snoozed(now, wait))
            return
        except OutcomeUnknownError:
            # What was accepted may show at once; if not, reconciling waits for the grace.
            await self.store.save(
                job.waiting(self.clock.now(), self.timing.backoff(0, self.jitter()))
            )
        else:
            await self._write_fact(job, operation)
        self.stirred.set()
        await self.topics.publish_tick()

    async def _write_fact(self, job: Job, operation: Operation) -> None:
        """Keep the operation that was answered to this very ask, whoever saved in between."""
        asked_at, newest = job.asked_at, job
        while newest.asked_at == asked_at and newest.state is State.ACCEPTED:
            now = self.clock.now()
            due_at = now + timedelta(seconds=self.timing.poll_wait(0, self.jitter()))
            try:
                await self.store.save(
                    newest.copying(operation.name, operation.started_at or now, due_at)
                )
            except StaleJobError:
                found = await self.store.get(job.key)
                if found is None:
                    return
                newest = found
            else:
                return

    # POLL and RECONCILE

    async def _poll(self, job: Job) -> None:
        """See what the operation says; where Vertex AI does not know it, look for its work."""
        # Before it is given up, it is read for itself: a list may be a minute old.
        last = job.is_hopeless(self.clock.now(), self.timing)
        with reading_as(Reading.FRESH if last else Reading.ORDINARY):
            operation = await self.looks.operation(job.operation)
        if operation is None:
            await self._reconcile(job)  # forgotten, or not to be seen yet
            return
        now = self.clock.now()
        if not operation.done:
            await self._watch(job, now)
        elif operation.code is None:
            await self._finish(job, operation)
        else:
            after = after_failure(job, operation, now, self.timing)
            if after.state is State.ACCEPTED:
                after = after.snoozed(now, self.timing.backoff(job.tries, self.jitter()))
            await self.keep(after)

    async def _watch(self, job: Job, now: datetime) -> None:
        """The copy still runs: look again later, and see that it ends when its time is over."""
        if job.is_hopeless(now, self.timing):
            cancelled = "a cancel was asked for and did not come through"
            why = cancelled if job.operation else "something still runs there"
            await self.keep(given_up(job, why, now, self.timing))
            return
        # Only what CopyModel answered to us is surely ours to cancel.
        if job.operation and (job.cancel_requested or now > job.deadline(self.timing)):
            with suppress(RefusedError):  # no cancel there: all that is left is to watch
                await self.models.cancel_operation(job.operation)
        await self._wait(job.seen(), job.copy_started_at or job.attempt_at)

    async def _finish(self, job: Job, operation: Operation) -> None:
        """The operation says that the copy is there: read it back, then tell."""
        found = await self.looks.copy(job, operation)
        await self.keep(
            job.succeeded(
                self.clock.now(),
                model_version=found.version,
                verified=found.verified,
                operation=operation,
                warnings=found.warnings,
            )
        )

    async def _reconcile(self, job: Job) -> None:
        """Look what came of an ask with an unknown outcome, before anybody asks again."""
        now = self.clock.now()
        found = what_came_of(job, await self.looks.destination(job), now, self.timing)
        match found:
            case Made():
                await self.keep(
                    job.succeeded(
                        self.clock.now(),
                        model_version=found.model.name.version or "",
                        verified=True,
                        operation=found.operation,
                        possible_duplicates=tuple(str(other.name) for other in found.others),
                    )
                )
            case Absent():
                await self.store.save(job.not_asked(now, "nothing shows of it").waiting(now, 0))
            case Quiet():
                hush = self.timing.hush * (1 + self.jitter() / 10)
                await self.store.save(job.quiet(now).waiting(now, hush))
            case Running():
                await self._watch(job, now)
            case Unclear() if job.is_hopeless(now, self.timing):
                why = "no trace of it could be proven"
                await self.keep(given_up(job, why, now, self.timing))
            case Unclear():
                await self._wait(job.seen(), job.asked_at or now)

    # ANNOUNCE

    async def _announce(self, job: Job) -> None:
        """Keep the letter, then send the reply; a crash in between repeats, never skips."""
        try:
            if job.failure and not job.letter_kept:
                await self.topics.publish_letter(letter_of_job(job))
                job = await self.store.save(job.with_letter_kept(self.clock.now()))
            await self.topics.publish_reply(replies.outcome(job, self.service_name))
            await self.store.save(job.announced(self.clock.now()))
        except UnavailableError as error:
            await self._put_off(job, error)

    async def _fail(self, job: Job, code: Code, message: str) -> None:
        failure = failures.failure(code, message, job.request, job.source)
        await self.keep(job.failed(self.clock.now(), failure))
