"""What becomes of a delivery: a job, an answer, a letter; never nothing.

A request is stored before it is acknowledged, and what cannot become a job is answered
and kept. Everything here may happen any number of times with the same message.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from model_copier.contract import replies
from model_copier.contract.dead_letters import letter_of_rejection
from model_copier.contract.requests import (
    Asked,
    CancelAsked,
    Contract,
    Identity,
    Received,
    Rejection,
    StatusAsked,
)
from model_copier.domain import failure_messages
from model_copier.domain.copy_request import CopyRequest
from model_copier.domain.errors import (
    Code,
    Failure,
    JobExistsError,
    LimitedError,
    RefusedError,
    RejectedError,
    StaleJobError,
    UnavailableError,
)
from model_copier.domain.job import Job, State
from model_copier.domain.planning import plan
from model_copier.domain.preconditions import warnings_before_copy
from model_copier.domain.senders import SenderPolicy
from model_copier.domain.vertex_types import Model
from model_copier.engine.sender_load import SenderLoad
from model_copier.engine.workflow import Workflow

REMEMBERED = 1000  # letters whose replies are due: an outage's first hour, at one in four seconds
_MOVING = "the copy is being moved on at this moment: try again"


class Disposition(StrEnum):
    """How a delivery was handled."""

    ACCEPTED = "accepted"  # a new job
    DUPLICATE = "duplicate"  # its job is stored, and replies when it ends
    ANNOUNCED_AGAIN = "announced_again"  # its job has ended: the same reply once more
    REPLAYED = "replayed"  # another run of a failed job
    CONFLICT = "conflict"  # the id belongs to a request with other content
    REJECTED = "rejected"
    VALIDATED = "validated"
    STATUS = "status"
    CANCELLING = "cancelling"
    FORWARDED = "forwarded"  # a dead letter that Pub/Sub wrote itself


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlingResult:
    """The outcome of one delivery, for the log and for REST."""

    verdict: Disposition
    key: str = ""
    request_id: str = ""
    reason: str = ""
    # CloudEvents sources: of the request that this is about, and of the message that says so.
    request_source: str = ""
    asked_by: str = ""
    replayed_by: str = ""


async def _never() -> datetime | None:
    return None


@dataclass(kw_only=True)
class RequestHandler:
    """Takes deliveries in; the workflow moves on what they asked for."""

    workflow: Workflow
    contract: Contract
    # When the store went back in time, if it did: the adapter knows.
    restored_at: Callable[[], Awaitable[datetime | None]] = _never
    senders: SenderPolicy = field(default_factory=SenderPolicy)
    load: SenderLoad = field(init=False)
    # Deliveries whose letter is written and whose reply is not: by message and outcome.
    _unanswered: OrderedDict[tuple[str, str], None] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        self.load = SenderLoad(
            store=self.workflow.store, clock=self.workflow.clock, policy=self.senders
        )

    async def accept(self, received: Received, *, waits_for_it: bool = False) -> HandlingResult:
        """Take one delivery of the request topic; on return it may be acknowledged.

        May be called any number of times with the same message. ``waits_for_it``: the sender
        is told at once, and needs neither reply nor letter when its limit is reached.

        Raises:
            UnavailableError: nothing is safe yet; let Pub/Sub deliver it again.
            LimitedError: with ``waits_for_it``, its sender has too many unfinished requests.
        """
        told = await self._accept(received, waits_for_it=waits_for_it)
        asking = self.contract.identity(received)
        return replace(told, asked_by=asking.source if asking else "")

    async def _accept(self, received: Received, *, waits_for_it: bool) -> HandlingResult:
        try:
            asked = self.contract.read(received)
            _check_replay(asked, received)
        except RejectedError as error:
            return await self.reject(received, _failure_of(error))
        try:
            _check_questioner(asked, received)
            match asked:
                case Asked() if asked.identity.is_of_rest and not received.over_rest:
                    return await self._take_for_caller(asked, received)
                case Asked() if not asked.copy.validate_only:
                    return await self._store(asked, received, waits_for_it=waits_for_it)
                case _:
                    return await self._answer_question(asked)
        except RejectedError as error:
            if waits_for_it and isinstance(error, LimitedError):
                raise
            # They asked and changed nothing: an answer is enough, there is nothing to keep.
            failure = _failure_of(error)
            return await self.reject(received, failure, keep=False)

    async def _answer_question(self, asked: Asked | CancelAsked | StatusAsked) -> HandlingResult:
        """Answer what makes no copy. A copy is bounded by what is unfinished: see ADR 22."""
        self.load.take_request(asked.identity.source)
        match asked:
            case CancelAsked(of=identity):
                return await self.cancel(identity)
            case StatusAsked():
                return await self._answer_status(asked)
            case Asked():
                return await self._answer_validation(asked)

    async def accept_forwarded(self, received: Received) -> HandlingResult:
        """Take a letter that Pub/Sub wrote itself: a request that nobody could record in time.

        It lies in the dead-letter topic already; what is missing is its answer.
        """
        failure = failure_messages.given_up(received.forwarded_after)
        try:
            asked = self.contract.read(received)
        except RejectedError as error:
            failure = _failure_of(error)
            return await self.reject(received, failure, keep=False)
        if not isinstance(asked, Asked) or asked.copy.validate_only:
            return await self.reject(received, failure, keep=False)
        if asked.identity.is_of_rest:
            failure = failure_messages.not_the_callers(asked.identity.source)
            if not _replays(await self._stored(asked.identity), received):
                return await self.reject(received, failure, keep=False)
            failure = failure_messages.given_up(received.forwarded_after)
        now = self.workflow.clock.now()
        job = replace(
            _new_job(asked, received, now).failed(now, failure), untried=True, letter_kept=True
        )
        told = _told_of(asked.identity, Disposition.FORWARDED)
        try:
            await self.workflow.run_step(
                await self.workflow.store.create(job.leased(now, self.workflow.timing))
            )
        except JobExistsError:
            stored = await self._stored(asked.identity)
            if stored and asked.digest not in stored.digests:
                return await self.reject(received, failure_messages.conflict(stored), may_pass=True)
            return replace(told, verdict=Disposition.DUPLICATE)  # recorded after all: the job tells
        return told

    async def _store(
        self, asked: Asked, received: Received, *, waits_for_it: bool
    ) -> HandlingResult:
        job = _new_job(asked, received, self.workflow.clock.now())
        if await self._came_before_restore(received):
            job = job.after_restore(self.workflow.clock.now())
        told = _told_of(asked.identity, Disposition.ACCEPTED)
        if received.outcome_unknown and await self._stored(asked.identity) is None:
            failure = failure_messages.record_is_gone(job.request_id)
            await self.reject(received, failure)
            return replace(told, verdict=Disposition.REJECTED, reason=failure.message)
        try:
            async with self.load.new_job(job.request_source):
                await self.workflow.create_and_run(job)
        except JobExistsError:
            return await self._handle_duplicate(asked, received, told)
        except LimitedError as error:
            if await self._stored(asked.identity):  # it is none that is new
                return await self._handle_duplicate(asked, received, told)
            if waits_for_it:
                raise
            return await self.reject(received, _failure_of(error))
        return told

    async def _take_for_caller(self, asked: Asked, received: Received) -> HandlingResult:
        """Take a message that has a REST caller's identity: it may only replay their letter.

        A publisher can write any source, and the id of a letter can be computed. So it stays
        within the limits of the account, and is recorded as a replay by message.
        """
        job = await self._stored(asked.identity)
        if asked.copy.validate_only or not _replays(job, received):
            return await self.reject(
                received, failure_messages.not_the_callers(asked.identity.source), may_pass=True
            )
        if refusal := self.contract.refusal_for_account(asked):
            return await self.reject(
                received, failure_messages.beyond_the_caller(refusal), may_pass=True
            )
        return await self._handle_duplicate(
            asked, received, _told_of(asked.identity, Disposition.DUPLICATE)
        )

    async def _came_before_restore(self, received: Received) -> bool:
        """Tell whether a request may have been worked on in the time that the store has lost."""
        restored_at = await self.restored_at()
        if restored_at is None:
            return False
        return received.is_older_than(restored_at + self.workflow.timing.skew)

    async def _handle_duplicate(
        self, asked: Asked, received: Received, told: HandlingResult
    ) -> HandlingResult:
        """Take a delivery of a request whose job is stored already."""
        job = await self._stored(asked.identity)
        if job is None:
            raise UnavailableError("the job was there a moment ago and is gone", told=_MOVING)
        if job.awaits_replay(replay_of=received.replay_of, digest=asked.digest):
            return await self._replay(job, asked, received, told)
        if asked.digest not in job.digests:
            failure = failure_messages.conflict(job)
            await self.reject(received, failure, may_pass=True)
            return replace(told, verdict=Disposition.CONFLICT, reason=failure.message)
        return replace(told, verdict=await self._announce_again(job))

    async def _announce_again(self, job: Job) -> Disposition:
        """Tell an outcome that was told before; what is not over yet will be told anyway."""
        if not (job.state.final and job.reply_sent):
            return Disposition.DUPLICATE
        now = self.workflow.clock.now()
        try:
            # Leased at once: the reply goes out in this very delivery.
            job = await self.workflow.store.save(
                job.announced_again(now).leased(now, self.workflow.timing)
            )
        except StaleJobError:
            return Disposition.DUPLICATE  # somebody else does
        await self.workflow.run_step(job)
        return Disposition.ANNOUNCED_AGAIN

    async def _replay(
        self, job: Job, asked: Asked, received: Received, told: HandlingResult
    ) -> HandlingResult:
        """Work on a failed request once more, perhaps with repaired content."""
        if not job.reply_sent:
            # The letter is out, its reply is not; a further outcome now would swallow it.
            job = await self._told(job)
        who = (received.requested_by or "rest") if received.over_rest else "message"
        copy = asked.copy
        if job.call and asked.digest == job.digests[-1]:
            copy = job.request  # untouched: read by the defaults of then, whatever they are now
        if job.call and copy.goes_elsewhere(job.request):
            failure = failure_messages.cannot_go_elsewhere(job)
            await self.reject(received, failure, may_pass=True)
            return replace(told, verdict=Disposition.REJECTED, reason=failure.message)
        again = job.replayed(
            self.workflow.clock.now(),
            self.workflow.timing,
            request=copy,
            digest=asked.digest,
            original=received.original,
            replayed_by=who,
        )
        if received.over_rest:
            again = replace(again, requested_by=received.requested_by)
        elif asked.digest != job.digests[-1]:
            again = replace(again, requested_by="")  # the account requested other content
        try:
            await self.workflow.save_and_run(again)
        except StaleJobError:
            # Another replay was a moment earlier: this very one, or one that was repaired
            # otherwise, and then this one must be told that it was not applied.
            return await self._handle_duplicate(asked, received, told)
        return replace(told, verdict=Disposition.REPLAYED, replayed_by=who)

    async def _told(self, job: Job) -> Job:
        """Tell an outcome now, if nobody else does.

        Raises:
            UnavailableError: it is not told yet; whoever waits for that comes again.
        """
        with suppress(StaleJobError):
            await self.workflow.save_and_run(job)
        newest = await self.workflow.store.get(job.key)
        if newest is None or newest.outcome_id != job.outcome_id or not newest.reply_sent:
            raise UnavailableError(
                "the outcome of the run before is still being told", told=_MOVING
            )
        return newest

    async def reject(
        self, received: Received, failure: Failure, *, keep: bool = True, may_pass: bool = False
    ) -> HandlingResult:
        """Answer a message that never becomes a job, and keep it in a letter.

        The reply goes first: it can be repeated, since its id is stable, while a letter would be
        written with each delivery for as long as the reply topic is away. Where the message
        ``may_pass`` when it comes again, since a job or a bug was in its way, the letter goes
        first: a crash in between would leave a reply that names a letter which nobody writes.
        """
        identity = self.contract.identity(received)
        rejection = Rejection(
            identity=identity,
            received=received,
            failure=failure,
            at=self.workflow.clock.now(),
            kept=keep,
        )
        if keep and may_pass:
            await self._keep_once(rejection)
        if identity is not None:
            await self.workflow.topics.publish_reply(
                replies.rejected(rejection, self.workflow.service_name)
            )
        if keep and not may_pass:
            await self.workflow.topics.publish_letter(letter_of_rejection(rejection))
        self._unanswered.pop((received.message_id, rejection.outcome_id), None)
        return HandlingResult(
            verdict=Disposition.REJECTED,
            request_id=identity.request_id if identity else "",
            request_source=identity.source if identity else "",
            reason=failure.message,
        )

    async def _keep_once(self, rejection: Rejection) -> None:
        """Write the letter, unless this process wrote it and only its reply did not go out."""
        known = (rejection.received.message_id, rejection.outcome_id)
        if known not in self._unanswered:
            await self.workflow.topics.publish_letter(letter_of_rejection(rejection))
            self._unanswered[known] = None
            if len(self._unanswered) > REMEMBERED:
                self._unanswered.popitem(last=False)

    async def cancel(self, identity: Identity) -> HandlingResult:
        """Ask for the end of a copy. Whether it came in time, the outcome tells.

        Raises:
            RejectedError: there is no such request.
        """
        told = _told_of(identity, Disposition.CANCELLING)
        for _ in range(10):
            job = await self._named(identity)
            if job.state.final:
                return replace(told, verdict=await self._announce_again(job))
            try:
                # Whoever holds it: every step of theirs either has been saved, or loses to
                # this save, or is a fact that is written onto it.
                now = self.workflow.clock.now()
                await self.workflow.save_and_run(job.with_cancel_requested(now))
            except StaleJobError:
                continue  # somebody moved it on just now
            return told
        raise UnavailableError("the job is moving on too fast to be cancelled", told=_MOVING)

    async def _answer_status(self, asked: StatusAsked) -> HandlingResult:
        job = await self._named(asked.of)
        reply = replies.status(
            job, asked.identity, self.workflow.service_name, self.workflow.clock.now()
        )
        await self.workflow.topics.publish_reply(reply)
        return _told_of(asked.of, Disposition.STATUS)

    async def _named(self, identity: Identity) -> Job:
        job = await self._stored(identity)
        if job is None:
            raise RejectedError(
                f"request_id: no request {identity.request_id!r} of {identity.source!r} is known",
                code=Code.NOT_FOUND,
                hint="if somebody else asked for the copy, name them as request_source",
            )
        return job

    async def _stored(self, identity: Identity) -> Job | None:
        return await self.workflow.store.get(identity.key)

    async def _answer_validation(self, asked: Asked) -> HandlingResult:
        planned = await self.validate(asked.copy)
        reply = replies.validated(
            asked, planned, self.workflow.service_name, self.workflow.clock.now()
        )
        await self.workflow.topics.publish_reply(reply)
        return _told_of(asked.identity, Disposition.VALIDATED)

    async def validate(self, request: CopyRequest) -> replies.Planned:
        """Find out what a request would ask of Vertex AI now; change and store nothing.

        Raises:
            RejectedError: it would fail, and why.
            UnavailableError: that cannot be told now.
        """
        try:
            source = await self.workflow.reader.source(request.source)
            versions = await self.workflow.models.list_versions(request.target(source.name))
        except RefusedError as error:
            found = failure_messages.source_failure(
                error.code, error.message, request, cause=error.cause
            )
            raise RejectedError(found.message, code=found.code, hint=found.hint) from error
        planned = plan(request, source, versions)
        if isinstance(planned, Failure):
            raise RejectedError(planned.message, code=planned.code, hint=planned.hint)
        lost = () if isinstance(planned, Model) else warnings_before_copy(request, source)
        return replies.Planned(plan=planned, warnings=lost)


def _new_job(asked: Asked, received: Received, now: datetime) -> Job:
    return Job(
        key=asked.identity.key,
        request_id=asked.identity.request_id,
        request_source=asked.identity.source,
        digests=(asked.digest,),
        request=asked.copy,
        original=received.original,
        requested_by=received.requested_by,
        accepted_at=now,
        # A letter may outlive its record, once it was put back from a backup. Numbered on from
        # there, its replay is still applied once, and no event id tells of two outcomes.
        run=asked.identity.run_after(received.replay_of),
        run_started_at=now,
        due_at=now,
    )


def _told_of(identity: Identity, verdict: Disposition) -> HandlingResult:
    return HandlingResult(
        verdict=verdict,
        key=identity.key,
        request_id=identity.request_id,
        request_source=identity.source,
    )


def _replays(job: Job | None, received: Received) -> bool:
    """Tell whether this is a replay of a letter of this job: the present one, or an earlier one.

    An earlier one was replayed before: then this is a repeat, and changes nothing.
    """
    if job is None:
        return False
    if job.outcome_id == received.replay_of:
        return job.state is State.FAILED
    identity = Identity(source=job.request_source, request_id=job.request_id)
    return 1 < identity.run_after(received.replay_of) <= job.run


def _check_replay(asked: Asked | CancelAsked | StatusAsked, received: Received) -> None:
    """See that no replay is a dry run: its dead letter would be settled, and nothing be copied.

    Raises:
        RejectedError: it is; the message is kept in a dead letter of its own.
    """
    is_dry_run = isinstance(asked, Asked) and asked.copy.validate_only
    if is_dry_run and asked.identity.run_after(received.replay_of) > 1:
        raise RejectedError(
            "validate_only: a replay makes a copy; leave the field out,"
            " or publish the dry run as a request of its own"
        )


def _check_questioner(asked: Asked | CancelAsked | StatusAsked, received: Received) -> None:
    """See that no message asks about, or cancels, the copy of a REST caller.

    Raises:
        RejectedError: it does.
    """
    if isinstance(asked, Asked) or received.over_rest:
        return
    if asked.of.is_of_rest or asked.identity.is_of_rest:
        named = (asked.identity.source, "ce-source")
        if not asked.identity.is_of_rest:
            named = (asked.of.source, "request_source")
        failure = failure_messages.not_the_callers(named[0], field=named[1])
        raise RejectedError(failure.message, code=failure.code, hint=failure.hint)


def _failure_of(error: RejectedError) -> Failure:
    return Failure(code=error.code, message=str(error), hint=error.hint)
