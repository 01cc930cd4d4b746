"""Two decisions about a destination: what to ask of Vertex AI, and what came of an ask.

Pure: what Vertex AI told comes in as values. Both err on the side of not asking.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from model_copier.errors import Code
from model_copier.failures import failure
from model_copier.job import CopyRequest, Failure, IfExists, Job, Source, Timing
from model_copier.registry import CopyCall, Model, Operation


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


class Unclear:
    """Nothing can be said yet: look again later."""


class Absent:
    """Surely nothing was made, and nothing will be: asking again is safe."""


def what_came_of(
    job: Job,
    operations: Sequence[Operation] | None,
    versions: Sequence[Model],
    now: datetime,
    timing: Timing,
) -> Made | Unclear | Absent:
    """Judge an ask with an unknown outcome by what shows on the destination.

    ``operations`` (None: cannot be listed) must have been read before ``versions``: then a
    copy that ends between the two reads is seen in the second.
    """
    assert job.asked_at is not None
    assert job.source is not None
    since = job.asked_at - timedelta(seconds=timing.max_skew)
    ours = [op for op in operations or () if op.started_at is None or op.started_at >= since]
    if any(not op.done for op in ours):
        return Unclear()
    # Ours was sent within the lease; what was started later, somebody else asked for.
    sent_by = job.asked_at + timedelta(seconds=timing.lease + timing.max_skew)
    others = {
        op.model.version
        for op in operations or ()
        if op.model and op.started_at and op.started_at > sent_by
    }
    new = [
        model
        for model in versions
        if model.name.version not in job.known_versions and model.name.version not in others
    ]
    proven = sorted(
        (model for model in new if job.source.is_origin(model.copy_of)),
        key=lambda model: int(model.name.version or 0),
    )
    if proven:
        first = proven[0]
        by = (op for op in ours if op.model and op.model.version == first.name.version)
        return Made(model=first, operation=next(by, None), others=tuple(proven[1:]))
    if any(model.copy_of is None for model in new):
        return Unclear()  # it may be ours: the proof may come late, or never
    grace = timedelta(seconds=timing.grace)
    if operations is None:
        # Without the list a running copy cannot be seen, so its whole budget must pass.
        grace = max(grace, timedelta(seconds=job.budget_seconds(timing)))
    return Absent() if now > job.asked_at + grace else Unclear()
