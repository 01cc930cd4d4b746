"""The life of one copy job: ACCEPTED -> COPYING -> SUCCEEDED | FAILED | CANCELLED, then announced.

Pure: no I/O and no clock. Methods return the next ``Job`` instead of changing this one,
so a crash between two saves can never leave a half-made transition. What must not break:
``asked_at`` is saved before Vertex AI is asked and cleared only when it is known that
nothing was or will be made; between the two, nobody asks again.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum, StrEnum, auto
from typing import Any, Self

from model_copier.errors import Code
from model_copier.resource_names import ModelName


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


class IfExists(StrEnum):
    """What to do when the destination model is there already."""

    FAIL = "fail"
    SKIP = "skip"
    NEW_VERSION = "new_version"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Every wait of the engine, in seconds. The lengths hang together: see the properties."""

    # Longest that one call to Google may take.
    call: float = 30
    # How far apart the clocks of two machines may be.
    max_skew: float = 10
    # How long after being sent an accepted CopyModel may show nowhere: what we assume of Vertex AI.
    visible: float = 60
    # Budget of a copy that names none, from the first ask: an hour is the longest heard of.
    copy_deadline: float = 7200
    poll_shortest: float = 5
    poll_longest: float = 60
    backoff_shortest: float = 2
    backoff_longest: float = 300

    @property
    def lease(self) -> float:
        """How long whoever takes a job up has it to themselves."""
        return self.call + 3 * self.max_skew

    @property
    def grace(self) -> float:
        """How long after `asked_at` an accepted CopyModel may still be invisible.

        It is sent, and has come back or timed out, within the lease; from then on it has
        its time to show.
        """
        return self.lease + self.max_skew + self.visible

    @property
    def longest_wait(self) -> float:
        """No `due_at` that we write is further away; one that is, comes from a broken clock."""
        return 1.1 * max(self.lease, self.grace, self.poll_longest, self.backoff_longest)

    def poll_wait(self, copying_for: float, jitter: float) -> float:
        """Wait a quarter of the time already spent; ``jitter`` is from 0 to 1."""
        wait = min(max(copying_for / 4, self.poll_shortest), self.poll_longest)
        return wait * (1 + jitter / 10)

    def backoff(self, tries: int, jitter: float) -> float:
        """Double with each try; ``jitter`` is from 0 to 1."""
        wait = min(self.backoff_shortest * 2.0 ** min(tries, 20), self.backoff_longest)
        return wait * (1 + jitter / 10)


# A record outlives what can be replayed: letter and replayed letter, 31 days each, and a week.
KEEP_AFTER_END = timedelta(days=31 + 31 + 7)
MAX_COPY_ATTEMPTS = 5
# Past the deadline a cancel is asked for and the operation is watched this much longer.
HARD_LIMIT_AFTER_DEADLINE = timedelta(minutes=15)


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyRequest:
    """What was asked for, parsed: names are whole, defaults are filled in."""

    source: ModelName  # version: number, alias, or None for the default one
    target_project: str
    target_location: str
    destination: str | None = None  # model id; None: derived from the source
    new_version: bool = False  # destination is a parent that must exist
    if_exists: IfExists = IfExists.FAIL
    kms_key_name: str = ""
    custom_service_account: str = ""
    deadline_seconds: float | None = None
    correlation: Mapping[str, Any] | None = None
    reply_tag: str = ""
    validate_only: bool = False  # never becomes a job

    def goes_elsewhere(self, other: Self) -> bool:
        """Tell whether source or destination differ."""

        def way(asked: CopyRequest) -> tuple[object, ...]:
            return (
                asked.source,
                asked.target_project,
                asked.target_location,
                asked.destination,
                asked.new_version,
            )

        return way(self) != way(other)

    def target(self, source: ModelName) -> ModelName:
        """Name the destination model; ``source`` has its version resolved to a number."""
        return ModelName(
            project=self.target_project,
            location=self.target_location,
            model=self.destination or derived_model_id(source),
        )


def derived_model_id(source: ModelName) -> str:
    """Make ``m-<id>-v<n>``; where that is no legal id, or not unique, a hash tells them apart."""
    plain = f"m-{source.model}-v{source.version}"
    if source.model.isdigit() and len(plain) <= 63:
        return plain
    digest = hashlib.sha256(str(source).encode()).hexdigest()[:8]
    tail = f"-v{source.version}-{digest}"
    return f"m-{source.model.lower()}"[: 63 - len(tail)] + tail


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The source as Vertex AI knows it, when it was asked."""

    name: ModelName  # as requested, with the version's number
    known_as: ModelName  # as GetModel gave it: the project may be a number
    copy_of: ModelName | None = None  # the source's own original, when it is a copy itself
    kind: str = ""  # GENIE, CUSTOM, BQML, ...
    container_image: str = ""

    def is_origin(self, original: ModelName | None) -> bool:
        """Tell whether a model whose `original_model_info` says ``original`` is our copy."""
        if original is None:
            return False
        return any(original.may_be(n) for n in (self.name, self.known_as, self.copy_of) if n)


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
    attempt: int = 1  # number of the outcome that is being worked on
    attempt_at: datetime  # when work on it began: at acceptance, or at the replay
    copy_attempts: int = 0  # how often Vertex AI was asked
    cancel_requested: bool = False
    # Known only from Pub/Sub's own dead letter: nobody has tried it yet.
    untried: bool = False

    source: Source | None = None
    holds_destination: bool = False
    asked_at: datetime | None = None
    first_asked_at: datetime | None = None  # the deadline counts from here
    known_versions: tuple[str, ...] = ()  # of the destination, before the ask
    operation: str = ""

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

    @property
    def target(self) -> ModelName | None:
        """The destination model, once the source's version is known."""
        return self.request.target(self.source.name) if self.source else None

    @property
    def destination(self) -> str | None:
        """What this job keeps other jobs from copying to, now."""
        return str(self.target) if self.holds_destination else None

    @property
    def outcome_id(self) -> str:
        """The CloudEvent id of the present outcome: the same however often it is announced."""
        return f"{self.key}-{self.attempt}"

    def is_due(self, now: datetime, timing: Timing) -> bool:
        if self.due_at is None:
            return False
        return self.due_at <= now or self.due_at > now + timedelta(seconds=timing.longest_wait)

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

    # Moves. Each is one save.

    def leased(self, now: datetime, timing: Timing) -> Self:
        """Take the job up: until the lease ends it is nobody else's."""
        return replace(self, due_at=now + timedelta(seconds=timing.lease))

    def snoozed(self, now: datetime, seconds: float) -> Self:
        """Nothing came of this step: try it again later."""
        return replace(self, due_at=now + timedelta(seconds=seconds), tries=self.tries + 1)

    def waiting(self, now: datetime, seconds: float) -> Self:
        """All is well, only not over: look again later."""
        return replace(self, due_at=now + timedelta(seconds=seconds), tries=0)

    def with_source(self, source: Source) -> Self:
        """Fix the source's version, and with it the destination, which is now held."""
        return replace(self, source=source, holds_destination=True)

    def asked(self, now: datetime, known_versions: tuple[str, ...]) -> Self:
        """Note, before Vertex AI is asked, that it will have been."""
        assert self.state is State.ACCEPTED
        assert self.asked_at is None
        return replace(
            self,
            asked_at=now,
            first_asked_at=self.first_asked_at or now,
            known_versions=known_versions,
            copy_attempts=self.copy_attempts + 1,
        )

    def not_asked(self) -> Self:
        """Vertex AI surely did nothing with the ask, and will not."""
        return replace(
            self,
            state=State.ACCEPTED,
            asked_at=None,
            known_versions=(),
            operation="",
            copy_started_at=None,
        )

    def with_nothing_made(self) -> Self:
        """The operation ended without a copy; it stays named, for the reply."""
        return replace(self, asked_at=None, known_versions=())

    def copying(self, operation: str, started_at: datetime | None, due_at: datetime) -> Self:
        """Keep the operation that CopyModel answered."""
        return replace(
            self,
            state=State.COPYING,
            operation=operation,
            copy_started_at=started_at,
            due_at=due_at,
            tries=0,
        )

    def lost_operation(self, now: datetime) -> Self:
        """Vertex AI no longer knows the operation: what came of it must be looked up."""
        return replace(self, state=State.ACCEPTED, operation="", due_at=now, tries=0)

    def succeeded(
        self,
        now: datetime,
        *,
        model_version: str,
        verified: bool,
        ended_at: datetime | None = None,
        already_existed: bool = False,
        warnings: tuple[str, ...] = (),
        possible_duplicates: tuple[str, ...] = (),
    ) -> Self:
        return replace(
            self._ended(State.SUCCEEDED, now),
            model_version=model_version,
            verified=verified,
            copy_ended_at=ended_at,
            already_existed=already_existed,
            warnings=warnings,
            possible_duplicates=possible_duplicates,
        )

    def failed(self, now: datetime, failure: Failure) -> Self:
        return replace(self._ended(State.FAILED, now), failure=failure)

    def _ended(self, state: State, now: datetime) -> Self:
        return replace(
            self,
            state=state,
            due_at=now,
            tries=0,
            holds_destination=False,
            ended_at=now,
            letter_kept=False,
            reply_sent=False,
        )

    def cancelled(self, now: datetime) -> Self:
        return self._ended(State.CANCELLED, now)

    def with_cancel_requested(self) -> Self:
        assert not self.state.final
        return replace(self, cancel_requested=True)

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
            # The operation that was given up tells best what came of it.
            state=State.COPYING if self.asked_at and self.operation else State.ACCEPTED,
            attempt=self.attempt + 1,
            attempt_at=now,
            first_asked_at=None,
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

    def with_letter_kept(self) -> Self:
        return replace(self, letter_kept=True, tries=0)

    def announced(self) -> Self:
        assert self.ended_at is not None
        return replace(
            self,
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
