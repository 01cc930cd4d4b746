"""Decisions of one job: the CopyModel call to send, what follows a failure, when to give up.

Pure: what Vertex AI and the store answered comes in as values. What must not break: a
failure says only what is true of this job, and "nothing was made" only where it is certain.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from model_copier.domain.copy_request import CopyRequest, IfExists, Source
from model_copier.domain.errors import RETRYABLE_OPERATION, Code, Failure
from model_copier.domain.failure_messages import failure
from model_copier.domain.job import Job
from model_copier.domain.preconditions import refusal_before_copy
from model_copier.domain.timing import MAX_COPY_ATTEMPTS, Timing
from model_copier.domain.vertex_types import CopyCall, Model, Operation


def plan(
    request: CopyRequest, source: Source, versions: Sequence[Model]
) -> CopyCall | Model | Failure:
    """Decide what to request, given the versions that the destination has already.

    A ``Model`` means that no copy is needed: it is there.
    """
    if refusal := refusal_before_copy(request, source):
        return refusal
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


def after_failure(job: Job, operation: Operation, now: datetime, timing: Timing) -> Job:
    """Decide what follows from an operation that ended without a copy.

    A job that is QUEUED or ACCEPTED again is to be tried once more, after a backoff. One that
    is still COPYING keeps its destination until what the operation left is visible as what it
    is. The next copy there would else take a version that is about to be taken back for one
    that was there before, and miss its own, which gets that number. The wait counts from when
    we saw the end, by our own clock: Vertex AI's may differ by any amount.
    """
    assert operation.code is not None
    job = job.operation_failed(now, operation.updated_at)
    assert job.failure_seen_at is not None
    left = timing.second_read_seconds - (now - job.failure_seen_at).total_seconds()
    if left > 0:
        return job.snoozed(timing.after(now, min(left, timing.second_read_seconds)))
    if job.restored:
        return job.reconciles_again().snoozed(now)
    if operation.code in RETRYABLE_OPERATION and job.attempts < MAX_COPY_ATTEMPTS:
        return job.copy_reset(now, operation.message, operation.code)
    ended = job.with_nothing_made()
    if operation.code is Code.CANCELLED and job.cancel_requested:
        return ended.cancelled(now)
    if operation.code is Code.CANCELLED and job.cancel_sent_at:
        message = f"cancelled: the copy did not end in {job.budget_seconds(timing):g} s"
        return ended.failed(now, Failure(code=Code.DEADLINE_EXCEEDED, message=message))
    message = f"Vertex AI gave up the copy: {operation.message or operation.code}"
    return ended.failed(
        now, failure(operation.code, message, job.request, job.source, cause=operation.cause)
    )
