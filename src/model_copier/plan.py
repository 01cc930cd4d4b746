"""Decisions about a destination: what to ask of Vertex AI, and what came of an ask.

Pure: what Vertex AI and the store told comes in as values. All err on the side of not
asking, and of not claiming: what cannot be told apart is "unknown".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Self

from model_copier.copy_request import CopyRequest, IfExists, Source
from model_copier.errors import RETRYABLE_OPERATION, Code
from model_copier.failures import bug, failure
from model_copier.job import Failure, Job, State
from model_copier.registry import CopyCall, Model, Operation, operation_number
from model_copier.timing import MAX_COPY_ATTEMPTS, Timing


def plan(
    request: CopyRequest, source: Source, versions: Sequence[Model]
) -> CopyCall | Model | Failure:
    """Decide what to ask, given the versions that the destination has already.

    A ``Model`` means that nothing needs to be asked: it is there.
    """
    target = request.target(source.name)
    call = CopyCall(
        source=source.name,
        target_location=target.location_name,
        kms_key_name=request.kms_key_name,
        custom_service_account=request.custom_service_account,
    )
    if request.new_version and not versions:
        return Failure(
            code=Code.NOT_FOUND,
            message=f"destination_parent_model: {target} does not exist",
            hint="use destination_model_id to make a new model",
        )
    if not versions:
        return replace(call, model_id=target.model)
    if request.new_version or request.if_exists is IfExists.NEW_VERSION:
        return replace(call, parent_model=str(target))
    same = [model for model in versions if source.is_origin(model.copy_of)]
    if same or request.if_exists is IfExists.SKIP:
        return (same or versions)[-1]
    return failure(
        Code.ALREADY_EXISTS, f"destination_model_id: {target} is there already", request, source
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """The ask made this version."""

    model: Model
    operation: Operation | None  # where it is known
    others: tuple[Model, ...]  # more new versions of the same source: somebody should look


class Running:
    """An operation that may be ours is under way."""


class Unclear:
    """Nothing can be said yet: look again later."""


class Quiet:
    """No operation speaks; what is seen now must be seen again, once stale reads have passed."""


class Absent:
    """Surely nothing was made, and nothing will be: asking again is safe."""


Found = Made | Running | Unclear | Quiet | Absent


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What shows on a destination: read in this order, so that nothing slips between two reads.

    A copy that ends between the first two shows in the second; a version that another
    request made was asked for, and that was stored, before it could show.
    """

    operations: Sequence[Operation] | None  # None: they cannot be listed
    versions: Sequence[Model]
    neighbours: Sequence[Job]  # others that left a trace on the destination or a version of it


def what_came_of(job: Job, seen: Seen, now: datetime, timing: Timing) -> Found:
    """Judge an ask with an unknown outcome by what shows on the destination."""
    assert job.asked_at is not None
    assert job.source is not None
    operations = _Operations.read(job, seen, timing)
    if operations.ours_runs:
        return Running()
    claims = _claims(job, seen)
    made = operations.made
    ours = made.keys() - operations.shared - claims.keys()
    # The number of a version that was taken back is used again: what we made is new all the same.
    old = ({*job.known_versions} | operations.made_by_others) - ours
    new = [model for model in seen.versions if model.name.version not in old]
    proven = sorted(
        (model for model in new if job.source.is_origin(model.copy_of)),
        key=lambda model: int(model.name.version or 0),
    )
    if told := [model for model in proven if model.name.version in ours]:
        first = told[0]
        rest = tuple(model for model in proven if model is not first)
        return Made(model=first, operation=made[first.name.version], others=rest)
    if operations.anothers_runs:
        return Running()
    found = _judge_proven(job, seen, proven, claims)
    shown = {model.name.version for model in seen.versions}
    if job.restored:
        shown |= made.keys()  # all that was ever made there, also what was deleted long ago
    if (
        now <= _settled_at(job, seen, timing)
        or not made.keys() <= shown
        # Ours, perhaps: the proof may come late.
        or any(model.copy_of is None and _may_be_ours(model, job, seen, made) for model in new)
        or isinstance(found, Unclear)
    ):
        return Unclear()
    # What just ended may not show yet; what shows may have been taken back a moment ago.
    hush = timedelta(seconds=timing.hush)
    return found if job.quiet_since and now > job.quiet_since + hush else Quiet()


@dataclass(kw_only=True)
class _Operations:
    """What the operations on a destination tell of an ask."""

    made: dict[str | None, Operation] = field(default_factory=dict)  # that may be ours, by version
    shared: set[str | None] = field(default_factory=set)  # of these, what another's ask may be
    made_by_others: set[str | None] = field(default_factory=set)
    ours_runs: bool = False  # or may be ours
    anothers_runs: bool = False

    @classmethod
    def read(cls, job: Job, seen: Seen, timing: Timing) -> Self:
        told = cls()
        answered = {operation_number(other.operation) for other in seen.neighbours}
        unanswered = [o for o in seen.neighbours if _may_be_of(o, job) and not o.operation]
        for operation in seen.operations or ():
            # What CopyModel answered to somebody else, or began at another time, is not ours.
            is_anothers = operation_number(operation.name) in answered
            if not operation.done and _began_since(job, operation, timing):
                told.anothers_runs |= is_anothers
                told.ours_runs |= not is_anothers
            if operation.model is None:
                continue
            version = operation.model.version
            if is_anothers or not _began_as_asked(job, operation, timing):
                told.made_by_others.add(version)
                continue
            told.made[version] = operation
            if any(_began_as_asked(other, operation, timing) for other in unanswered):
                told.shared.add(version)
        return told


def _began_since(job: Job, operation: Operation, timing: Timing) -> bool:
    """Tell whether this began no earlier than the job's ask, by clocks that may disagree."""
    assert job.asked_at is not None
    skew = timedelta(seconds=timing.max_skew)
    if job.restored:
        return True  # nobody knows when it asked
    return (operation.started_at or job.asked_at) >= job.asked_at - skew


def _began_as_asked(job: Job, operation: Operation, timing: Timing) -> bool:
    """Tell whether the job's ask may have begun this: it was sent within the lease, or never."""
    assert job.asked_at is not None
    latest = job.asked_at + timedelta(seconds=timing.lease + timing.max_skew)
    began = operation.started_at or job.asked_at
    return (began <= latest or job.restored) and _began_since(job, operation, timing)


def _may_be_ours(model: Model, job: Job, seen: Seen, made: Mapping[str | None, Operation]) -> bool:
    """After a restore every version is new, and most were there before: not what nobody copied."""
    return not job.restored or seen.operations is None or model.name.version in made


def _settled_at(job: Job, seen: Seen, timing: Timing) -> datetime:
    """When whatever was accepted shows; before, only an operation says what became of it.

    Where operations cannot be listed, a copy that runs shows nowhere, or shows as a model
    that is not whole yet; so the longest copy heard of, and more, must have passed.
    """
    assert job.asked_at is not None
    seconds = timing.grace
    if seen.operations is None:
        seconds = max(seconds, timing.copy_deadline, job.budget_seconds(timing))
    return job.asked_at + timedelta(seconds=seconds)


def _claims(job: Job, seen: Seen) -> dict[str | None, Job]:
    """Versions that other requests were told of, by number."""
    return {
        other.model_version: other
        for other in seen.neighbours
        if other.state is State.SUCCEEDED and other.target == job.target
    }


def _judge_proven(
    job: Job, seen: Seen, proven: Sequence[Model], claims: Mapping[str | None, Job]
) -> Made | Unclear | Absent:
    """Tell by versions of our source alone, where no operation says whose they are."""
    assert job.asked_at is not None
    free = [model for model in proven if model.name.version not in claims]
    if free and not any(_may_be_of(other, job) for other in seen.neighbours):
        return Made(model=free[0], operation=None, others=tuple(free[1:]))
    # What was told before we asked should have been known then: the reads were stale, or it
    # was deleted since and this is another one, perhaps ours, that got its number.
    told_before = [
        claim
        for model in proven
        if (claim := claims.get(model.name.version))
        and (claim.ended_at is None or claim.ended_at < job.asked_at)
    ]
    # A model that was not there before is asked for by its id: a second ask makes no second one.
    return Unclear() if free or (told_before and job.known_versions) else Absent()


def _may_be_of(other: Job, job: Job) -> bool:
    """Tell whether a version that we take for ours may come from another's open ask."""
    assert job.source is not None
    assert other.source is not None
    return other.state is not State.SUCCEEDED and job.source.may_be_taken_for(other.source)


def after_failure(job: Job, operation: Operation, now: datetime, timing: Timing) -> Job:
    """Decide what follows from an operation that ended without a copy.

    A job that is ACCEPTED again is to be asked once more, after a backoff. One that is still
    COPYING keeps its destination until what the operation left shows as what it is. The next
    one there, or the next attempt, would else take a version that is about to be taken back
    for one that was there before, and miss its own, which gets that number.
    """
    assert operation.code is not None
    ended_at = job.copy_ended_at or operation.updated_at or now
    if (left := timing.hush - (now - ended_at).total_seconds()) > 0:
        return job.came_to_nothing(ended_at).waiting(now, left)
    if operation.code in RETRYABLE_OPERATION and job.copy_attempts < MAX_COPY_ATTEMPTS:
        return job.not_asked(now, operation.message, operation.code)
    ended = job.with_nothing_made()
    if operation.code is Code.CANCELLED and job.cancel_requested:
        return ended.cancelled(now)
    if operation.code is Code.CANCELLED and now > job.deadline(timing):
        message = f"cancelled: the copy did not end in {job.budget_seconds(timing):g} s"
        return ended.failed(now, Failure(code=Code.DEADLINE_EXCEEDED, message=message))
    message = f"Vertex AI gave up the copy: {operation.message or operation.code}"
    return ended.failed(now, failure(operation.code, message, job.request, job.source))


def given_up(job: Job, why: str, now: datetime, timing: Timing) -> Job:
    """Answer a request whose time is over, without pretending to know what came of it."""
    failure = Failure(
        code=Code.DEADLINE_EXCEEDED,
        message=f"the copy did not end in {job.budget_seconds(timing):g} s: {why}; {_known(job)}",
        hint=f"look at {job.target} before you ask again" if job.asked_at else "",
    )
    return job.failed(now, failure)


def stopped(job: Job, error: Exception, now: datetime) -> Job:
    """Answer a request that meets a bug again and again."""
    failure = bug(error)
    return job.failed(now, replace(failure, message=f"{failure.message}; {_known(job)}"))


def _known(job: Job) -> str:
    if job.asked_at and job.operation:
        return f"what came of operation {job.operation} is unknown"
    if job.restored:
        return "whether a copy was made is unknown"
    return "whether a copy was made is unknown" if job.asked_at else "nothing was made"
