"""The life of one copy job: its states and its legal moves.

Pure: no I/O and no clock. Methods return the next ``Job`` instead of changing this one,
so a crash between two saves can never leave a half-made transition. What must not break:
``call`` is saved before CopyModel is sent and removed only when it is certain that this
call made nothing and never will; while it is there, nobody sends another.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Self

from model_copier.domain.copy_call import Call
from model_copier.domain.copy_request import CopyRequest, Original, Source
from model_copier.domain.errors import Code, Failure
from model_copier.domain.job_events import MAX_DETAIL, Happened, Moment, with_moment
from model_copier.domain.resource_names import ModelName
from model_copier.domain.timing import HARD_LIMIT, KEEP_AFTER_END, RETRIES_UNTIL_TROUBLE, Timing
from model_copier.domain.vertex_types import Operation, operation_number


class State(StrEnum):
    """Where a job stands."""

    # ``_STEPS`` says what each state needs next.

    # Stored. Its source is not resolved yet, or another job holds its destination.
    ACCEPTED = "ACCEPTED"
    # It holds its destination and waits for its turn among the starts of the region.
    QUEUED = "QUEUED"
    # CopyModel was sent, or may have been; no response is recorded.
    REQUESTED = "REQUESTED"
    # CopyModel answered with `operation`, which is polled until it is done.
    COPYING = "COPYING"
    # `model_version` is in the target.
    SUCCEEDED = "SUCCEEDED"
    # There is no copy, and there will be none. `failure` says why.
    FAILED = "FAILED"
    # The time is over, and whether there is a copy could not be found out. Told as failed.
    UNKNOWN = "UNKNOWN"
    # A caller asked for it, and it is certain that nothing was made.
    CANCELLED = "CANCELLED"

    @property
    def final(self) -> bool:
        return self in _FINAL


_FINAL = frozenset({State.SUCCEEDED, State.FAILED, State.UNKNOWN, State.CANCELLED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Everything that is known of one request; the only thing that the store holds."""

    # Identity.
    key: str
    request_id: str
    request_source: str
    requested_by: str = ""  # the account of a REST caller
    digests: tuple[str, ...]  # of each content that this job was given; the last one counts
    accepted_at: datetime

    # The request as it stands; a replay may have repaired it.
    request: CopyRequest
    original: Original
    run: int = 1  # number of the run, which ends in one outcome
    run_started_at: datetime  # when the run began
    replayed_by: str = ""  # who asked for this run; empty: the first one
    untried: bool = False  # known only from Pub/Sub's own dead letter
    restored: bool = False  # the store went back in time; reconcile before the next call

    # Lease and schedule.
    version: int = 0  # compare-and-swap: the store adds 1 with each save
    # Nobody takes the job up before. It is the lease, the backoff and the poll schedule in one.
    # None: nothing is left to do, or the job waits in its start queue.
    due_at: datetime | None
    retries: int = 0  # of the present step, without success
    bugs: int = 0  # met since it last moved on

    # Destination and start queue.
    state: State = State.ACCEPTED
    source: Source | None = None
    holds_destination: bool = False
    turn: float | None = None  # its place among the starts of its region
    watching_since: datetime | None = None  # a copy by somebody else that runs on its destination

    # The copy.
    attempts: int = 0  # CopyModel calls of this run
    call: Call | None = None
    operation: str = ""
    deadline_at: datetime | None = None  # of the run's copy; its time begins with the first call
    looked_at: datetime | None = None  # the last read that found the copy unfinished
    failure_seen_at: datetime | None = None  # when a read found that the operation had failed
    copy_started_at: datetime | None = None  # by Vertex AI's clock, for people
    copy_ended_at: datetime | None = None  # likewise
    cancel_requested: bool = False
    cancel_sent_at: datetime | None = None  # CancelOperation was accepted
    cancel_refused: str = ""  # why it was not

    # The outcome.
    model_version: str = ""
    already_existed: bool = False
    verified: bool = False
    warnings: tuple[str, ...] = ()
    possible_duplicates: tuple[str, ...] = ()
    failure: Failure | None = None
    ended_at: datetime | None = None
    letter_kept: bool = False
    reply_sent: bool = False
    expires_at: datetime | None = None

    # Since `accepted_at`; for people, nothing is decided by it.
    history: tuple[Moment, ...] = ()

    @property
    def target(self) -> ModelName | None:
        """The destination model, once the source's version is known."""
        return self.request.target(self.source.name) if self.source else None

    @property
    def destination(self) -> str | None:
        """The lock that this job holds."""
        return str(self.target) if self.holds_destination else None

    @property
    def waiting_for(self) -> str | None:
        """The lock that this job waits for."""
        is_waiting = self.state is State.ACCEPTED and not self.holds_destination
        return str(self.target) if is_waiting and self.target else None

    @property
    def start_queue(self) -> str | None:
        """The queue that this job's turn is in, until its copy is requested."""
        waits = self.state in {State.ACCEPTED, State.QUEUED} and self.turn is not None
        return self.request.target_location_name if waits else None

    @property
    def in_queue(self) -> bool:
        """Ready to start: nothing but its turn is missing."""
        return self.state is State.QUEUED and self.turn is not None and self.due_at is None

    @property
    def place(self) -> tuple[float, datetime, str]:
        """The order of those that wait for one destination, or in one queue."""
        return (self.turn or 0.0, self.accepted_at, self.key)

    @property
    def claim(self) -> str | None:
        """The version that this job made, or the model on which it may have made one."""
        if self.state is State.SUCCEEDED and self.model_version and not self.already_existed:
            return f"{self.target}@{self.model_version}"
        return str(self.target) if self.call else None

    @property
    def follows(self) -> str | None:
        """The number of the operation that is polled."""
        return operation_number(self.operation) if self.state is State.COPYING else None

    @property
    def replayable(self) -> bool:
        return self.state in {State.FAILED, State.UNKNOWN}

    @property
    def outcome_id(self) -> str:
        """The CloudEvent id of the present outcome: the same however often it is published."""
        return f"{self.key}-{self.run}"

    @property
    def may_have_copied(self) -> bool:
        """A call is open, or may have been forgotten."""
        return self.call is not None or self.restored

    def is_due(self, now: datetime, timing: Timing) -> bool:
        if self.due_at is None:
            return False
        return self.due_at <= now or self.due_at > timing.latest_due(now)

    def budget_seconds(self, timing: Timing) -> float:
        return self.request.deadline_seconds or timing.copy_deadline_seconds

    def gives_up_at(self, timing: Timing) -> datetime:
        """When this job's time is over, whatever it waits for."""
        if self.call:
            begun = self.deadline_at or self.run_started_at
            return max(begun, self.cancel_sent_at or begun) + HARD_LIMIT
        waits = [self.run_started_at + timedelta(seconds=timing.wait_limit_seconds)]
        if self.deadline_at:  # an earlier call of this run came to nothing
            waits.append(self.deadline_at + HARD_LIMIT)
        if self.watching_since:
            watches = timedelta(seconds=self.budget_seconds(timing))
            waits.append(self.watching_since + watches + HARD_LIMIT)
        return min(waits)

    def is_over(self, now: datetime, timing: Timing) -> bool:
        """Tell whether to give up; a copy only after a look, or where nothing can be read."""
        limit = self.gives_up_at(timing)
        if self.state.final or now <= limit:
            return False
        looked = self.looked_at is not None and self.looked_at > limit
        return self.call is None or looked or self.retries >= RETRIES_UNTIL_TROUBLE

    def awaits_replay(self, *, replay_of: str, digest: str) -> bool:
        """Tell whether a request that comes again starts another run.

        It must name the present outcome. A dead letter that Pub/Sub forwarded names none: it
        is published as it is, and nobody has tried it yet.
        """
        return self.replayable and (
            self.outcome_id == replay_of or (self.untried and digest in self.digests)
        )

    def _with(
        self, now: datetime, step: Happened, detail: str = "", code: Code | None = None
    ) -> tuple[Moment, ...]:
        moment = Moment(at=now, step=step, detail=detail[:MAX_DETAIL], code=code)
        return with_moment(self.history, moment)

    # Moves. Each is one save.

    def leased(self, now: datetime, timing: Timing) -> Self:
        """Claim the job: until the lease ends it is nobody else's."""
        return replace(self, due_at=timing.after(now, timing.lease_seconds))

    def retry_later(self, due_at: datetime) -> Self:
        """The step did not work: try it again later."""
        return replace(self, due_at=due_at, retries=self.retries + 1)

    def postponed(self, due_at: datetime) -> Self:
        """The step was not even tried, to spare whoever would have been asked."""
        return replace(self, due_at=due_at)

    def retry_after_bug(self, due_at: datetime) -> Self:
        """The step met a bug of ours: try it again later, not for ever."""
        return replace(self.retry_later(due_at), bugs=self.bugs + 1)

    def snoozed(self, due_at: datetime) -> Self:
        """The step worked, and there is more to wait for: look again later."""
        return replace(self, due_at=due_at, retries=0, bugs=0)

    def unfinished(self, now: datetime) -> Self:
        """A read found that the copy, or what may be it, is not finished."""
        assert self.call is not None
        return replace(self, looked_at=now, call=replace(self.call, missing_since=None))

    def evidence_missing(self, now: datetime) -> Self:
        """A read found nothing of the call, though by now something should show."""
        assert self.call is not None
        since = self.call.missing_since or now
        return replace(self, looked_at=now, call=replace(self.call, missing_since=since))

    def with_source(self, source: Source, turn: float) -> Self:
        """Fix the source's version, which names the destination, and the place in the queue."""
        assert self.state is State.ACCEPTED
        return replace(self, source=source, turn=turn)

    def with_lock(self) -> Self:
        """Lock the destination: until this job has ended, no other copies there."""
        assert self.state is State.ACCEPTED
        assert self.source is not None
        return replace(self, holds_destination=True, state=State.QUEUED, retries=0)

    def enqueued(self) -> Self:
        """Wait for the turn to start."""
        assert self.state is State.QUEUED
        return replace(self, due_at=None, watching_since=None, retries=0, bugs=0)

    def watching(self, now: datetime) -> Self:
        """Somebody else copies to the destination, or just did: see how that ends."""
        assert self.state is State.QUEUED
        return replace(self, watching_since=self.watching_since or now)

    def copy_requested(self, now: datetime, call: Call, timing: Timing) -> Self:
        """Note, before CopyModel is sent, that it may have been."""
        assert self.state is State.QUEUED
        assert self.call is None
        budget = timedelta(seconds=self.budget_seconds(timing))
        return replace(
            self,
            history=self._with(now, Happened.ASKED, f"ask {self.attempts + 1}"),
            state=State.REQUESTED,
            call=call,
            deadline_at=self.deadline_at or now + budget,
            attempts=self.attempts + 1,
            watching_since=None,
            restored=False,
            retries=0,
        )

    def reconciles_first(self, now: datetime, timing: Timing) -> Self:
        """Look for an earlier call that a restored store has forgotten, before sending one."""
        assert self.state is State.QUEUED
        call = Call(requested_at=now, visible_at=timing.visible_at(now), forgotten=True)
        looking = self.copy_requested(now, call, timing)
        return replace(looking, attempts=self.attempts, history=self.history)

    def copy_reset(self, now: datetime, why: str, code: Code | None = None) -> Self:
        """The call made nothing, and never will."""
        assert not self.state.final
        return replace(
            self,
            history=self._with(now, Happened.NOTHING_MADE, why, code),
            state=State.QUEUED if self.holds_destination else State.ACCEPTED,
            call=None,
            operation="",
            restored=False,
            looked_at=None,
            failure_seen_at=None,
            copy_started_at=None,
            copy_ended_at=None,
        )

    def operation_failed(self, now: datetime, ended_at: datetime | None) -> Self:
        """The operation ended without a copy; what it left behind may still be visible."""
        assert self.state is State.COPYING
        seen_at = self.failure_seen_at or now
        return replace(self, failure_seen_at=seen_at, copy_ended_at=ended_at)

    def reconciles_again(self) -> Self:
        """The operation failed, and a call after it may have been forgotten: look for that."""
        assert self.state is State.COPYING
        return replace(
            self, state=State.REQUESTED, operation="", restored=False, failure_seen_at=None
        )

    def with_nothing_made(self) -> Self:
        """The operation ended without a copy; it stays named, for the reply."""
        assert self.state is State.COPYING
        return replace(self, call=None)

    def copying(self, operation: str, started_at: datetime, due_at: datetime) -> Self:
        """Record the operation that CopyModel answered."""
        assert self.state is State.REQUESTED
        return replace(
            self,
            history=self._with(started_at, Happened.COPYING, operation),
            state=State.COPYING,
            operation=operation,
            copy_started_at=started_at,
            due_at=due_at,
            retries=0,
            bugs=0,
        )

    def cancel_answered(self, now: datetime, refused: str = "") -> Self:
        """CancelOperation was answered: accepted, or refused for this reason."""
        assert self.state is State.COPYING
        if refused:
            return replace(self, cancel_refused=refused)
        return replace(self, cancel_sent_at=self.cancel_sent_at or now, cancel_refused="")

    def succeeded(
        self,
        now: datetime,
        *,
        model_version: str,
        verified: bool,
        operation: Operation | None = None,
        already_existed: bool = False,
        warnings: tuple[str, ...] = (),
        possible_duplicates: tuple[str, ...] = (),
    ) -> Self:
        """The copy is there; ``operation`` is what made it, where that is known."""
        made = f"{self.target}@{model_version}"
        return replace(
            self._ended(State.SUCCEEDED, now, f"{made} was there" if already_existed else made),
            model_version=model_version,
            verified=verified,
            operation=operation.name if operation else self.operation,
            copy_started_at=(operation and operation.started_at) or self.copy_started_at,
            copy_ended_at=operation.updated_at if operation else None,
            already_existed=already_existed,
            warnings=warnings,
            possible_duplicates=possible_duplicates,
        )

    def failed(self, now: datetime, failure: Failure) -> Self:
        """End without a copy or, while a call is open, without knowing of one."""
        state = State.UNKNOWN if self.may_have_copied else State.FAILED
        ended = self._ended(state, now, failure.message, failure.code)
        return replace(ended, failure=failure)

    def cancelled(self, now: datetime) -> Self:
        """Nothing was requested, or Vertex AI has confirmed that nothing was made."""
        assert not self.may_have_copied
        return self._ended(State.CANCELLED, now)

    def _ended(
        self, state: State, now: datetime, detail: str = "", code: Code | None = None
    ) -> Self:
        assert not self.state.final
        step = Happened.FAILED if state is State.UNKNOWN else Happened(state.lower())
        return replace(
            self,
            history=self._with(now, step, detail, code),
            state=state,
            due_at=now,
            retries=0,
            bugs=0,
            holds_destination=False,
            turn=None,
            ended_at=now,
            letter_kept=False,
            reply_sent=False,
        )

    def with_cancel_requested(self, now: datetime) -> Self:
        assert not self.state.final
        history = self._with(now, Happened.CANCEL_REQUESTED)
        return replace(self, history=history, cancel_requested=True)

    def replayed(
        self,
        now: datetime,
        timing: Timing,
        *,
        request: CopyRequest,
        digest: str,
        original: Original,
        replayed_by: str = "",
    ) -> Self:
        """Begin the next run of a failed request.

        A call whose outcome is unknown is not forgotten: then the run begins by looking. The
        operation tells best what became of it; without one, the destination does.
        """
        assert self.replayable
        begun = State.COPYING if self.operation else State.REQUESTED
        budget = timedelta(seconds=request.deadline_seconds or timing.copy_deadline_seconds)
        open_call = self.call is not None
        return replace(
            self,
            history=self._with(
                now,
                Happened.REPLAYED,
                f"run {self.run + 1}" + f", by {replayed_by}" * bool(replayed_by),
            ),
            replayed_by=replayed_by,
            state=begun if open_call else State.ACCEPTED,
            run=self.run + 1,
            run_started_at=now,
            # Its calls are its own, like its time; one that is still open is the first.
            attempts=1 if open_call else 0,
            deadline_at=now + budget if open_call else None,
            request=request,
            original=original,
            digests=(*(known for known in self.digests if known != digest), digest),
            # With no open call an alias may be resolved anew.
            source=self.source if open_call else None,
            operation=self.operation if open_call else "",
            copy_started_at=self.copy_started_at if open_call else None,
            copy_ended_at=None,
            watching_since=None,
            looked_at=None,
            failure_seen_at=None,
            due_at=now,
            retries=0,
            failure=None,
            untried=False,
            cancel_requested=False,
            cancel_sent_at=None,
            cancel_refused="",
            ended_at=None,
            letter_kept=False,
            reply_sent=False,
            expires_at=None,
        )

    def after_restore(self, now: datetime) -> Self:
        """Go on from a store that went back in time: later calls may have been forgotten.

        What succeeded or was cancelled stays so. Everything else looks at its destination
        before it sends CopyModel: what was there before a recorded call is known, and stays
        known; without one, whatever is of our source and nobody's claim may be this job's. The
        outcome gets another number: the present one may have been told, with other content.
        """
        if self.state in {State.SUCCEEDED, State.CANCELLED}:
            return self
        call, late = self.call, timedelta()
        if call:
            late = now - call.requested_at
            call = replace(call, visible_at=call.visible_at + late, missing_since=None)
        if self.state.final:
            return replace(self, call=call, restored=True)
        return replace(
            self,
            history=self._with(now, Happened.RESTORED, f"run {self.run + 1}"),
            restored=True,
            call=call,
            run=self.run + 1,
            run_started_at=now,
            due_at=now,
            deadline_at=self.deadline_at + late if self.deadline_at and call else None,
            watching_since=None,
            looked_at=None,
            retries=0,
            bugs=0,
        )

    def with_letter_kept(self, now: datetime) -> Self:
        assert self.failure is not None
        history = self._with(now, Happened.LETTER_KEPT, self.outcome_id)
        return replace(self, history=history, letter_kept=True, retries=0)

    def announced(self, now: datetime) -> Self:
        assert self.state.final
        assert self.ended_at is not None
        return replace(
            self,
            history=self._with(now, Happened.ANNOUNCED, self.outcome_id),
            reply_sent=True,
            retries=0,
            due_at=None,
            expires_at=self.ended_at + KEEP_AFTER_END,
        )

    def announced_again(self, now: datetime) -> Self:
        """Publish the reply once more; the dead letter stays where it is."""
        assert self.state.final
        return replace(self, reply_sent=False, due_at=now, retries=0)
