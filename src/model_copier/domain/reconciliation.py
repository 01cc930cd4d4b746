"""What became of a CopyModel call without a response, judged by what its destination shows.

Pure. Every rule errs on the side of not sending another call, and of not claiming: what
cannot be told apart is ``Undetermined``. No rule compares Vertex AI's clock with ours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Self

from model_copier.domain.job import Job, State
from model_copier.domain.timing import Timing
from model_copier.domain.vertex_types import Model, Operation, operation_number


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """The call made this version."""

    model: Model
    operation: Operation | None  # where it is known
    others: tuple[Model, ...]  # more new versions of the same source, for a person to look at


class InProgress:
    """An operation that may be ours is running."""


class Undetermined:
    """Nothing can be said yet: read again later."""


class NeedsSecondRead:
    """No operation is ours; read once more when stale reads have passed."""


class ConfirmedAbsent:
    """Nothing was made, and nothing will be: another call is safe."""


Finding = Confirmed | InProgress | Undetermined | NeedsSecondRead | ConfirmedAbsent


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationSnapshot:
    """What a destination shows: read in this order, so that nothing slips between two reads.

    A copy that ends between the first two reads is in the second; a version that another
    request made was requested, and that was stored, before it could be visible.
    """

    operations: Sequence[Operation] | None  # None: they cannot be listed
    versions: Sequence[Model]
    neighbours: Sequence[Job]  # other jobs that claim the destination or a version of it


def reconcile(job: Job, snapshot: DestinationSnapshot, now: datetime, timing: Timing) -> Finding:
    """Judge a call whose outcome is unknown."""
    assert job.call is not None
    assert job.source is not None
    if job.call.known_operations is None:
        # Which operations were there before is not known, so none of them can be told to be ours.
        snapshot = replace(snapshot, operations=None)
    operations = _Operations.read(job, snapshot)
    if operations.ours_runs:
        return InProgress()
    claims = _claims(job, snapshot)
    made = operations.made
    ours = made.keys() - operations.shared - claims.keys()
    # The number of a version that was taken back is given again: then it is ours all the same.
    old = ({*job.call.known_versions} | operations.made_by_others) - ours
    new = [model for model in snapshot.versions if model.name.version not in old]
    proven = sorted(
        (model for model in new if job.source.is_origin(model.copy_of)),
        key=lambda model: int(model.name.version or 0),
    )
    if certain := [model for model in proven if model.name.version in ours]:
        first = certain[0]
        rest = tuple(model for model in proven if model is not first)
        return Confirmed(model=first, operation=made[first.name.version], others=rest)
    if operations.anothers_runs:
        return InProgress()
    finding = _judge_proven(job, snapshot, proven, claims)
    if operations.older_runs and isinstance(finding, Confirmed):
        # A version without an operation may be of one that ran before the call, and runs still.
        return Undetermined()
    shown = {model.name.version for model in snapshot.versions}
    # Without a proof a version may be ours. A store that went back in time knows no versions
    # from before: there, only a version that an operation made.
    unproven = {model.name.version for model in new if model.copy_of is None}
    if job.call.forgotten and snapshot.operations is not None:
        unproven &= made.keys()
    if (
        now <= _visible_at(job, snapshot, timing)
        or not (made.keys() <= shown or job.call.forgotten)  # they may be of long ago
        or unproven
        or isinstance(finding, Undetermined)
    ):
        return Undetermined()
    # What just ended may not be visible yet; what is visible may be taken back already.
    since, second_read = job.call.missing_since, timedelta(seconds=timing.second_read_seconds)
    return finding if since and now > since + second_read else NeedsSecondRead()


@dataclass(kw_only=True)
class _Operations:
    """What the operations on a destination say of a call."""

    made: dict[str | None, Operation] = field(default_factory=dict)  # maybe ours, by version
    shared: set[str | None] = field(default_factory=set)  # of these, maybe another job's too
    made_by_others: set[str | None] = field(default_factory=set)
    ours_runs: bool = False  # or what may be ours
    anothers_runs: bool = False
    older_runs: bool = False  # one that was there before the call

    @classmethod
    def read(cls, job: Job, snapshot: DestinationSnapshot) -> Self:
        assert job.call is not None
        read = cls()
        neighbours = snapshot.neighbours
        answered = {operation_number(other.operation) for other in neighbours if other.operation}
        unanswered = [o for o in neighbours if _may_be_of(o, job) and not o.operation]
        for operation in snapshot.operations or ():
            # What CopyModel answered to another job, or what was there before, is not ours.
            is_anothers = operation_number(operation.name) in answered
            is_older = job.call.precedes(operation)
            if not operation.done:
                read.older_runs |= is_older
                read.anothers_runs |= is_anothers and not is_older
                read.ours_runs |= not is_anothers and not is_older
            if operation.model is None:
                continue
            version = operation.model.version
            if is_anothers or is_older:
                read.made_by_others.add(version)
                continue
            read.made[version] = operation
            if any(other.call and not other.call.precedes(operation) for other in unanswered):
                read.shared.add(version)
        return read


def _visible_at(job: Job, snapshot: DestinationSnapshot, timing: Timing) -> datetime:
    """When whatever was accepted is visible; before, only an operation says what became of it.

    Where operations cannot be listed, a copy that runs is visible nowhere, or as a model that
    is not whole yet; so the longest copy heard of, and more, must have passed.
    """
    assert job.call is not None
    if snapshot.operations is not None:
        return job.call.visible_at
    longest = max(timing.copy_deadline_seconds, job.budget_seconds(timing))
    return max(job.call.visible_at, job.call.requested_at + timedelta(seconds=longest))


def _claims(job: Job, snapshot: DestinationSnapshot) -> dict[str | None, Job]:
    """Versions that other requests were told of, by number."""
    return {
        other.model_version: other
        for other in snapshot.neighbours
        if other.state is State.SUCCEEDED and other.target == job.target
    }


def _judge_proven(
    job: Job,
    snapshot: DestinationSnapshot,
    proven: Sequence[Model],
    claims: Mapping[str | None, Job],
) -> Confirmed | Undetermined | ConfirmedAbsent:
    """Judge by versions of our source alone, where no operation says whose they are."""
    assert job.call is not None
    free = [model for model in proven if model.name.version not in claims]
    if free and not any(_may_be_of(other, job) for other in snapshot.neighbours):
        return Confirmed(model=free[0], operation=None, others=tuple(free[1:]))
    # What was claimed before the call should have been known then: the reads were stale, or it
    # was deleted since and this is another one, perhaps ours, that got its number.
    claimed_before = [
        claim
        for model in proven
        if (claim := claims.get(model.name.version))
        and (claim.ended_at is None or claim.ended_at < job.call.requested_at)
    ]
    # A model that was not there before is requested by its id: another call makes no second one.
    is_open = free or (claimed_before and job.call.known_versions)
    return Undetermined() if is_open else ConfirmedAbsent()


def _may_be_of(other: Job, job: Job) -> bool:
    """Tell whether a version that we take for ours may come from another's open call."""
    assert job.source is not None
    if other.state is State.SUCCEEDED or other.source is None:
        return False
    return job.source.may_be_taken_for(other.source)
