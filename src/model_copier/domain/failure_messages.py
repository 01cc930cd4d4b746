"""Failures in words that a person can act on: what went wrong, and what would mend it.

Google reports most of these in a few words, and documents none of them for CopyModel. So
the sentences name what is known, with the project and the command (``hints``); they never
claim more than that.
"""

import shlex

from model_copier.domain.copy_request import CopyRequest, Source
from model_copier.domain.errors import NO_CAUSE, Cause, Code, Failure
from model_copier.domain.hints import hint_of
from model_copier.domain.job import Job


def failure(
    code: Code,
    message: str,
    request: CopyRequest,
    source: Source | None = None,
    *,
    cause: Cause = NO_CAUSE,
) -> Failure:
    """Say what failed, with the hint that fits its cause."""
    hint = hint_of(code, message, request, source, cause=cause)
    return Failure(code=code, message=message, hint=hint)


def source_failure(
    code: Code, message: str, request: CopyRequest, *, cause: Cause = NO_CAUSE
) -> Failure:
    """The source could not be read."""
    name = request.source
    where = f"--project={shlex.quote(name.project)} --region={shlex.quote(name.location)}"
    if code is not Code.NOT_FOUND:
        return Failure(
            code=code,
            message=f"source_model_id: {name} cannot be read: {message}",
            hint=hint_of(code, message, request, cause=cause, of_source=True),
        )
    if name.version:
        model = shlex.quote(name.model)
        hint = f"see its versions and aliases: gcloud ai models list-version {model} {where}"
    else:
        hint = f"see what is there: gcloud ai models list {where}"
    return Failure(code=code, message=f"source_model_id: {name} does not exist", hint=hint)


def cancel_refused(code: Code) -> str:
    """Word the warning of a cancel that Vertex AI refused: the copy goes on."""
    why = {
        Code.PERMISSION_DENIED: (
            "the copier's own service account lacks aiplatform.models.update on the target"
            " project, which Terraform grants with allow_cancel = true"
        ),
        Code.UNIMPLEMENTED: "Vertex AI does not cancel copies there",
        Code.NOT_FOUND: "Vertex AI does not know the operation",
    }
    return f"a cancel was requested and refused ({code}): {why.get(code, 'the copy goes on')}"


def conflict(job: Job) -> Failure:
    """A request id was used before, for something else."""
    return Failure(
        code=Code.ALREADY_EXISTS,
        message=f"request {job.request_id!r} was given before with other content",
        hint="use a new request id for a new request; the first one goes on unharmed",
    )


def cannot_go_elsewhere(job: Job) -> Failure:
    """A replay names another source or destination than an ask that may still come true."""
    return Failure(
        code=Code.FAILED_PRECONDITION,
        message=(
            f"request {job.request_id!r} was asked of Vertex AI and what came of it is unknown:"
            " a replay cannot change its source or destination"
        ),
        hint=f"replay it as it was, or look at {job.target} and use a new request id",
    )


def record_is_gone(request_id: str) -> Failure:
    """A dead letter outlived the record of a run that may have made a copy."""
    return Failure(
        code=Code.FAILED_PRECONDITION,
        message=(
            f"request {request_id!r} ended with an unknown outcome, and its record has expired:"
            " another copy could be the second one"
        ),
        hint="look at the destination; if nothing is there, publish it under a new request id",
    )


def not_the_callers(source: str, *, field: str = "ce-source") -> Failure:
    """A message names the identity of a REST caller, which no publisher can prove."""
    return Failure(
        code=Code.PERMISSION_DENIED,
        message=(
            f"{field}: {source[:200]!r} belongs to a caller of the REST API; a message cannot"
            " request, cancel or ask about a copy in that name"
        ),
        hint=(
            "use a ce-source of your own; the caller cancels and looks over REST, and only the"
            " present dead letter of a failed copy can be replayed by message"
        ),
    )


def beyond_the_caller(refusal: str) -> Failure:
    """A replay by message goes beyond the limits of the account whose request it was."""
    return Failure(
        code=Code.PERMISSION_DENIED,
        message=refusal,
        hint=(
            "a replay of a REST copy stays within the limits of its account in CALLERS_FILE,"
            " whoever publishes it"
        ),
    )


def given_up(deliveries: str) -> Failure:
    """Pub/Sub forwarded a request that the worker could not record."""
    return Failure(
        code=Code.UNAVAILABLE,
        message=f"the copier could not record the request in {deliveries} deliveries",
        hint="nothing was copied; replay the dead letter once the copier's store is back",
    )


def bug(error: Exception) -> Failure:
    """The copier itself is wrong."""
    return Failure(
        code=Code.INTERNAL,
        message=f"the copier met a bug: {type(error).__name__}",
        hint="the worker's log has the details; replay the dead letter once it is mended",
    )
