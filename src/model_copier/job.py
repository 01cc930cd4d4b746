"""The life of one copy job: ACCEPTED -> COPYING -> SUCCEEDED | FAILED | CANCELLED, then announced.

Pure: no I/O and no clock. Methods return the next ``Job`` instead of changing this one,
so a crash between two saves can never leave a half-made transition. What must not break:
``asked_at`` is saved before Vertex AI is asked and cleared only when it is known that
nothing was or will be made; between the two, nobody asks again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum, StrEnum, auto
from typing import Self

from model_copier.copy_request import CopyRequest, Source
from model_copier.errors import Code
from model_copier.history import MAX_DETAIL, Happened, Moment, with_moment
from model_copier.registry import Operation, operation_number
from model_copier.resource_names import ModelName
from model_copier.timing import HARD_LIMIT_AFTER_DEADLINE, KEEP_AFTER_END, Timing


class State(StrEnum):
    # Stored. Vertex AI was not asked yet or, with `asked_at` set, the answer is unknown.
    ACCEPTED = "ACCEPTED"
    # Vertex AI answered CopyModel with `operation`; it is followed until it is done.
    COPYING = "COPYING"
    # `model_version` is in the target. Nothing is left but to tell.
    SUCCEEDED = "SUCCEEDED"
    # `failure` says why. The letter is kept first, then the reply is sent.
    FAILED = "FAILED"
    # A caller asked for it and Vertex AI confirmed it.
    CANCELLED = "CANCELLED"

    @property
    def final(self) -> bool:
        return self in _FINAL


_FINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})


class Step(Enum):
    """What to do next for a job that is due."""

    START = auto()  # ask Vertex AI for the copy
    RECONCILE = auto()  # an earlier ask has an unknown outcome: look, do not ask
    POLL = auto()  # see whether the operation is done
    ANNOUNCE = auto()  # keep the letter, send the reply
    NOTHING = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    code: Code
    message: str
    hint: str = ""  # what a person can do about it

    @property
    def in_words(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """The request's message as it came: what a letter keeps."""

    data: bytes
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Everything that is known of one request; the only thing the store keeps."""

    key: str
    request_id: str
    request_source: str
    digests: tuple[str, ...]  # of each content that this job was given; the last one counts
    request: CopyRequest
    original: Original
    accepted_at: datetime
    version: int = 0  # compare-and-swap: the store adds 1 with each save
    state: State = State.ACCEPTED
    # The only clock of a job: nobody takes it up before. None: nothing is left to do.
    due_at: datetime | None
    tries: int = 0  # of the present step, without success
    bugs: int = 0  # that it met since it last moved on
    attempt: int = 1  # number of the outcome that is being worked on
    attempt_at: datetime  # when work on it began: at acceptance, or at the replay
    copy_attempts: int = 0  # how often Vertex AI was asked, for this outcome
    cancel_requested: bool = False
    requested_by: str = ""  # the account that asked over REST
    # Known only from Pub/Sub's own dead letter: nobody has tried it yet.
    untried: bool = False

    source: Source | None = None
    holds_destination: bool = False
    start_at: datetime | None = None  # its turn among the starts of its region
    asked_at: datetime | None = None
    first_asked_at: datetime | None = None  # the deadline counts from here
    known_versions: tuple[str, ...] = ()  # of the destination, before the ask
    operation: str = ""
    quiet_since: datetime | None = (
        None  # since when no operation speaks of the ask, though one should
    )
    # The store went back in time: Vertex AI may have been asked in the time that was lost, and
    # any version of our source that nobody else was told of may be ours. Look before asking.
    restored: bool = False

    copy_started_at: datetime | None = None  # by Vertex AI's clock
    copy_ended_at: datetime | None = None
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
    # After `accepted_at`; for people only. A record of an older service has none.
    history: tuple[Moment, ...] = ()

    @property
    def target(self) -> ModelName | None:
        """The destination model, once the source's version is known."""
        return self.request.target(self.source.name) if self.source else None

    @property
    def destination(self) -> str | None:
        """What this job keeps other jobs from copying to, now."""
        return str(self.target) if self.holds_destination else None

    @property
    def awaits(self) -> str | None:
        """The destination that another job held when this one wanted it."""
        if self.state is not State.ACCEPTED or self.asked_at or self.holds_destination:
            return None
        return str(self.target) if self.target else None

    @property
    def trace(self) -> str | None:
        """Where this job made a version, or may have made one: that version, or the model."""
        if self.state is State.SUCCEEDED and self.model_version and not self.already_existed:
            return f"{self.target}@{self.model_version}"
        return str(self.target) if self.asked_at else None

    @property
    def follows(self) -> str | None:
        """The number of the operation that is being followed."""
        return operation_number(self.operation) if self.state is State.COPYING else None

    @property
    def outcome_id(self) -> str:
        """The CloudEvent id of the present outcome: the same however often it is announced."""
        return f"{self.key}-{self.attempt}"

    def is_due(self, now: datetime, timing: Timing) -> bool:
        if self.due_at is None:
            return False
        return self.due_at <= now or self.due_at > timing.latest_due(now)

    def budget_seconds(self, timing: Timing) -> float:
        return self.request.deadline_seconds or timing.copy_deadline

    def deadline(self, timing: Timing) -> datetime:
        """When the copy's time is over; before the first ask it has not begun to run."""
        begun = self.first_asked_at or self.attempt_at
        return begun + timedelta(seconds=self.budget_seconds(timing))

    def is_hopeless(self, now: datetime, timing: Timing) -> bool:
        return now > self.deadline(timing) + HARD_LIMIT_AFTER_DEADLINE

    def awaits_replay(self, *, replay_of: str, digest: str) -> bool:
        """Tell whether a request that comes again is to be worked on again.

        It must name the present outcome. A letter that Pub/Sub forwarded names none: it
        is published as it is, and nobody has tried it yet.
        """
        return self.state is State.FAILED and (
            self.outcome_id == replay_of or (self.untried and digest in self.digests)
        )

    def _with(
        self, now: datetime, step: Happened, detail: str = "", code: Code | None = None
    ) -> tuple[Moment, ...]:
        moment = Moment(at=now, step=step, detail=detail[:MAX_DETAIL], code=code)
        return with_moment(self.history, moment)

    # Moves. Each is one save.

    def leased(self, now: datetime, timing: Timing) -> Self:
        """Take the job up: until the lease ends it is nobody else's."""
        return replace(self, due_at=now + timedelta(seconds=timing.lease))

    def snoozed(self, now: datetime, seconds: float) -> Self:
        """Nothing came of this step: try it again later."""
        return replace(self, due_at=now + timedelta(seconds=seconds), tries=self.tries + 1)

    def stumbled(self, now: datetime, seconds: float) -> Self:
        """This step met a bug of ours: try it again later, not for ever."""
        return replace(self.snoozed(now, seconds), bugs=self.bugs + 1)

    def waiting(self, now: datetime, seconds: float) -> Self:
        """All is well, only not over: look again later."""
        return replace(self, due_at=now + timedelta(seconds=seconds), tries=0, bugs=0)

    def seen(self) -> Self:
        """Something shows that is, or may be, what was asked for."""
        assert self.asked_at is not None
        return replace(self, quiet_since=None)

    def quiet(self, now: datetime) -> Self:
        """No operation speaks of what was asked for, though by now one should."""
        assert self.asked_at is not None
        return replace(self, quiet_since=self.quiet_since or now)

    def with_source(self, source: Source) -> Self:
        """Fix the source's version, and with it the destination."""
        assert self.state is State.ACCEPTED
        return replace(self, source=source)

    def holding(self) -> Self:
        """Take the destination: until this job has ended, no other copies there."""
        assert self.state is State.ACCEPTED
        assert self.source is not None
        return replace(self, holds_destination=True)

    def queued(self, start_at: datetime) -> Self:
        """Take a turn among the starts of the region."""
        assert self.state is State.ACCEPTED
        return replace(self, start_at=start_at)

    def asked(self, now: datetime, known_versions: tuple[str, ...]) -> Self:
        """Note, before Vertex AI is asked, that it will have been."""
        assert self.state is State.ACCEPTED
        assert self.asked_at is None
        return replace(
            self,
            history=self._with(now, Happened.ASKED, f"ask {self.copy_attempts + 1}"),
            asked_at=now,
            first_asked_at=self.first_asked_at or now,
            known_versions=known_versions,
            quiet_since=None,
            copy_attempts=self.copy_attempts + 1,
            start_at=None,
        )

    def not_asked(self, now: datetime, why: str, code: Code | None = None) -> Self:
        """Vertex AI surely did nothing with the ask, and will not."""
        assert not self.state.final
        return replace(
            self,
            history=self._with(now, Happened.NOTHING_MADE, why, code),
            state=State.ACCEPTED,
            asked_at=None,
            known_versions=(),
            operation="",
            copy_started_at=None,
            copy_ended_at=None,
            restored=False,
        )

    def came_to_nothing(self, ended_at: datetime) -> Self:
        """The operation ended without a copy, then; what it left behind may still show."""
        assert self.state is State.COPYING
        return replace(self, copy_ended_at=ended_at)

    def with_nothing_made(self) -> Self:
        """The operation ended without a copy; it stays named, for the reply."""
        assert self.state is State.COPYING
        return replace(self, asked_at=None, known_versions=())

    def copying(self, operation: str, started_at: datetime, due_at: datetime) -> Self:
        """Keep the operation that CopyModel answered."""
        assert self.state is State.ACCEPTED
        assert self.asked_at is not None
        return replace(
            self,
            history=self._with(started_at, Happened.COPYING, operation),
            state=State.COPYING,
            operation=operation,
            copy_started_at=started_at,
            due_at=due_at,
            tries=0,
            bugs=0,
        )

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
        ended = self._ended(State.FAILED, now, failure.message, failure.code)
        return replace(ended, failure=failure)

    def _ended(
        self, state: State, now: datetime, detail: str = "", code: Code | None = None
    ) -> Self:
        assert not self.state.final
        return replace(
            self,
            history=self._with(now, Happened(state.lower()), detail, code),
            state=state,
            due_at=now,
            tries=0,
            bugs=0,
            holds_destination=False,
            start_at=None,
            ended_at=now,
            letter_kept=False,
            reply_sent=False,
        )

    def cancelled(self, now: datetime) -> Self:
        """Nothing was asked for, or Vertex AI has confirmed that nothing was made."""
        assert self.asked_at is None
        return self._ended(State.CANCELLED, now)

    def with_cancel_requested(self, now: datetime) -> Self:
        assert not self.state.final
        history = self._with(now, Happened.CANCEL_REQUESTED)
        return replace(self, history=history, cancel_requested=True)

    def replayed(
        self, now: datetime, *, request: CopyRequest, digest: str, original: Original
    ) -> Self:
        """Work on a failed request once more, for a further outcome.

        What was asked of Vertex AI with an unknown outcome is not forgotten: then the
        replay looks first.
        """
        assert self.state is State.FAILED
        return replace(
            self,
            history=self._with(now, Happened.REPLAYED, f"attempt {self.attempt + 1}"),
            # The operation that was given up tells best what came of it; without one, looking does.
            state=State.COPYING if self.asked_at and self.operation else State.ACCEPTED,
            attempt=self.attempt + 1,
            attempt_at=now,
            first_asked_at=None,
            # Its attempts are its own, like its time; an ask that is still open is the first.
            copy_attempts=1 if self.asked_at else 0,
            request=request,
            original=original,
            digests=(*(known for known in self.digests if known != digest), digest),
            # With nothing asked, an alias may be resolved anew.
            source=self.source if self.asked_at else None,
            operation=self.operation if self.asked_at else "",
            copy_started_at=self.copy_started_at if self.asked_at else None,
            due_at=now,
            tries=0,
            failure=None,
            untried=False,
            cancel_requested=False,
            ended_at=None,
            copy_ended_at=None,
            letter_kept=False,
            reply_sent=False,
            expires_at=None,
        )

    def after_restore(self, now: datetime) -> Self:
        """Work on what was open when the store was backed up, without trusting what it says.

        Its further outcome has a number of its own: the one that it had may have been told in
        the time that was lost, with other content. What has ended stays as it is; but a replay
        of what failed looks first, too.
        """
        if self.state.final:
            return replace(self, restored=self.restored or self.state is State.FAILED)
        return replace(
            self,
            history=self._with(now, Happened.RESTORED, f"attempt {self.attempt + 1}"),
            restored=True,
            state=State.ACCEPTED,
            attempt=self.attempt + 1,
            attempt_at=now,
            due_at=now,
            tries=0,
            bugs=0,
            copy_attempts=0,
            start_at=None,
            asked_at=None,
            first_asked_at=None,
            known_versions=(),
            operation="",
            quiet_since=None,
            copy_started_at=None,
            copy_ended_at=None,
        )

    def asked_unseen(self, now: datetime) -> Self:
        """Take it that Vertex AI was asked in the time that was lost, so that we look first."""
        assert self.state is State.ACCEPTED
        assert self.restored
        assert self.holds_destination  # one after the other: no two find the same version
        return replace(self, asked_at=now, first_asked_at=now, quiet_since=None)

    def with_letter_kept(self, now: datetime) -> Self:
        assert self.state is State.FAILED
        history = self._with(now, Happened.LETTER_KEPT, self.outcome_id)
        return replace(self, history=history, letter_kept=True, tries=0)

    def announced(self, now: datetime) -> Self:
        assert self.state.final
        assert self.ended_at is not None
        return replace(
            self,
            history=self._with(now, Happened.ANNOUNCED, self.outcome_id),
            reply_sent=True,
            tries=0,
            due_at=None,
            expires_at=self.ended_at + KEEP_AFTER_END,
        )

    def announced_again(self, now: datetime) -> Self:
        """Send the reply once more; the letter stays where it is."""
        assert self.state.final
        return replace(self, reply_sent=False, due_at=now, tries=0)


def next_step(job: Job, now: datetime, timing: Timing) -> Step:
    """Decide what to do next from the saved job alone."""
    return step_of(job) if job.is_due(now, timing) else Step.NOTHING


def step_of(job: Job) -> Step:
    """What this job needs, once it is due."""
    match job.state:
        case State.ACCEPTED:
            return Step.START if job.asked_at is None else Step.RECONCILE
        case State.COPYING:
            return Step.POLL
        case State.SUCCEEDED | State.FAILED | State.CANCELLED:
            return Step.NOTHING if job.reply_sent else Step.ANNOUNCE
