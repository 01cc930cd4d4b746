"""What becomes of a delivery: a job, an answer, a letter; never nothing.

A request is stored before it is acknowledged, and what cannot become a job is answered
and kept. Everything here may happen any number of times with the same message.
"""

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime

from model_copier import failures, replies
from model_copier.before_copy import warnings_before_copy
from model_copier.copy_request import CopyRequest
from model_copier.errors import (
    Code,
    JobExistsError,
    RefusedError,
    RejectedError,
    StaleJobError,
    UnavailableError,
)
from model_copier.job import Failure, Job
from model_copier.letters import letter_of_rejection
from model_copier.messages import (
    Asked,
    CancelAsked,
    Contract,
    Identity,
    Received,
    Rejection,
    StatusAsked,
)
from model_copier.plan import plan
from model_copier.registry import Model
from model_copier.workflow import Workflow


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """What became of a delivery, for the log."""

    # accepted, duplicate, announced_again, replayed, conflict, rejected, validated, status,
    # cancelling, forwarded
    verdict: str
    key: str = ""
    request_id: str = ""
    reason: str = ""


@dataclass(kw_only=True)
class Deliveries:
    """Takes deliveries in; the workflow moves on what they asked for."""

    workflow: Workflow
    contract: Contract

    async def accept(self, received: Received) -> Accepted:
        """Take one delivery of the request topic; on return it may be acknowledged.

        May be called any number of times with the same message.

        Raises:
            UnavailableError: nothing is safe yet; let Pub/Sub deliver it again.
        """
        try:
            asked = self.contract.read(received)
        except RejectedError as error:
            return await self.reject(received, _failure_of(error))
        try:
            match asked:
                case CancelAsked(of=identity):
                    return await self.cancel(identity)
                case StatusAsked():
                    return await self._answer_status(asked)
                case Asked() if asked.copy.validate_only:
                    return await self._answer_validation(asked)
                case Asked():
                    return await self._store(asked, received)
        except RejectedError as error:
            # They asked and changed nothing: an answer is enough, there is nothing to keep.
            failure = _failure_of(error)
            return await self.reject(received, failure, keep=False)

    async def accept_forwarded(self, received: Received) -> Accepted:
        """Take a letter that Pub/Sub wrote itself: a request that nobody could record in time.

        It lies in the dead-letter topic already; what is missing is its answer.
        """
        failure = failures.given_up(received.forwarded_after)
        try:
            asked = self.contract.read(received)
        except RejectedError as error:
            failure = _failure_of(error)
            return await self.reject(received, failure, keep=False)
        if not isinstance(asked, Asked) or asked.copy.validate_only:
            return await self.reject(received, failure, keep=False)
        now = self.workflow.clock.now()
        job = replace(
            _new_job(asked, received, now).failed(now, failure), untried=True, letter_kept=True
        )
        told = Accepted(verdict="forwarded", key=job.key, request_id=job.request_id)
        try:
            await self.workflow.take_up(
                await self.workflow.store.create(job.leased(now, self.workflow.timing))
            )
        except JobExistsError:
            stored = await self._stored(asked.identity)
            if stored and asked.digest not in stored.digests:
                return await self.reject(received, failures.conflict(stored))
            return replace(told, verdict="duplicate")  # recorded after all: the job tells
        return told

    async def _store(self, asked: Asked, received: Received) -> Accepted:
        job = _new_job(asked, received, self.workflow.clock.now())
        told = Accepted(verdict="accepted", key=job.key, request_id=job.request_id)
        try:
            await self.workflow.take_in(job)
        except JobExistsError:
            return await self._meet_again(asked, received, told)
        return told

    async def _meet_again(self, asked: Asked, received: Received, told: Accepted) -> Accepted:
        """Take a delivery of a request whose job is stored already."""
        job = await self._stored(asked.identity)
        if job is None:
            raise UnavailableError("the job was there a moment ago and is gone")
        if job.awaits_replay(replay_of=received.replay_of, digest=asked.digest):
            return await self._replay(job, asked, received, told)
        if asked.digest not in job.digests:
            failure = failures.conflict(job)
            await self.reject(received, failure)
            return replace(told, verdict="conflict", reason=failure.message)
        return replace(told, verdict=await self._announce_again(job))

    async def _announce_again(self, job: Job) -> str:
        """Tell an outcome that was told before; what is not over yet will be told anyway."""
        if not (job.state.final and job.reply_sent):
            return "duplicate"
        now = self.workflow.clock.now()
        try:
            # Leased at once: the reply goes out in this very delivery.
            job = await self.workflow.store.save(
                job.announced_again(now).leased(now, self.workflow.timing)
            )
        except StaleJobError:
            return "duplicate"  # somebody else does
        await self.workflow.take_up(job)
        return "announced_again"

    async def _replay(self, job: Job, asked: Asked, received: Received, told: Accepted) -> Accepted:
        """Work on a failed request once more, perhaps with repaired content."""
        if not job.reply_sent:
            # The letter is out, its reply is not; a further outcome now would swallow it.
            job = await self._told(job)
        if job.asked_at and asked.copy.goes_elsewhere(job.request):
            failure = failures.cannot_go_elsewhere(job)
            await self.reject(received, failure)
            return replace(told, verdict="rejected", reason=failure.message)
        again = job.replayed(
            self.workflow.clock.now(),
            request=asked.copy,
            digest=asked.digest,
            original=received.original,
        )
        try:
            await self.workflow.take_over(again)
        except StaleJobError:
            # Another replay was a moment earlier: this very one, or one that was repaired
            # otherwise, and then this one must be told that it was not applied.
            return await self._meet_again(asked, received, told)
        return replace(told, verdict="replayed")

    async def _told(self, job: Job) -> Job:
        """Tell an outcome now, if nobody else does.

        Raises:
            UnavailableError: it is not told yet; whoever waits for that comes again.
        """
        with suppress(StaleJobError):
            await self.workflow.take_over(job)
        newest = await self.workflow.store.get(job.key)
        if newest is None or newest.outcome_id != job.outcome_id or not newest.reply_sent:
            raise UnavailableError("the outcome that this replays is still being told")
        return newest

    async def reject(self, received: Received, failure: Failure, *, keep: bool = True) -> Accepted:
        """Answer a message that never becomes a job; keep it in a letter first."""
        identity = self.contract.identity(received)
        rejection = Rejection(
            identity=identity,
            received=received,
            failure=failure,
            at=self.workflow.clock.now(),
            kept=keep,
        )
        if keep:
            await self.workflow.topics.publish_letter(letter_of_rejection(rejection))
        if identity is not None:
            await self.workflow.topics.publish_reply(
                replies.rejected(rejection, self.workflow.service_name)
            )
        return Accepted(
            verdict="rejected",
            request_id=identity.request_id if identity else "",
            reason=failure.message,
        )

    async def cancel(self, identity: Identity) -> Accepted:
        """Ask for the end of a copy. Whether it came in time, the outcome tells.

        Raises:
            RejectedError: there is no such request.
        """
        told = Accepted(verdict="cancelling", key=identity.key, request_id=identity.request_id)
        for _ in range(10):
            job = await self._named(identity)
            if job.state.final:
                return replace(told, verdict=await self._announce_again(job))
            try:
                # Whoever holds it: every step of theirs either has been saved, or loses to
                # this save, or is a fact that is written onto it.
                now = self.workflow.clock.now()
                await self.workflow.take_over(job.with_cancel_requested(now))
            except StaleJobError:
                continue  # somebody moved it on just now
            return told
        raise UnavailableError("the job is moving on too fast to be cancelled")

    async def _answer_status(self, asked: StatusAsked) -> Accepted:
        job = await self._named(asked.of)
        reply = replies.status(
            job, asked.identity, self.workflow.service_name, self.workflow.clock.now()
        )
        await self.workflow.topics.publish_reply(reply)
        return Accepted(verdict="status", key=job.key, request_id=job.request_id)

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

    async def _answer_validation(self, asked: Asked) -> Accepted:
        planned = await self.validate(asked.copy)
        reply = replies.validated(
            asked, planned, self.workflow.service_name, self.workflow.clock.now()
        )
        await self.workflow.topics.publish_reply(reply)
        return Accepted(
            verdict="validated", key=asked.identity.key, request_id=asked.identity.request_id
        )

    async def validate(self, request: CopyRequest) -> replies.Planned:
        """Find out what a request would ask of Vertex AI now; change and store nothing.

        Raises:
            RejectedError: it would fail, and why.
            UnavailableError: that cannot be told now.
        """
        try:
            source = await self.workflow.looks.source(request.source)
            versions = await self.workflow.models.list_versions(request.target(source.name))
        except RefusedError as error:
            found = failures.source_failure(error.code, error.message, request, cause=error.cause)
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
        attempt=asked.identity.attempt_after(received.replay_of),
        attempt_at=now,
        due_at=now,
    )


def _failure_of(error: RejectedError) -> Failure:
    return Failure(code=error.code, message=str(error), hint=error.hint)
