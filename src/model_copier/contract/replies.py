"""What is told on the reply topic: one CloudEvent for each outcome, and answers to questions.

Pure. The types here are the contract: ``docs/schemas`` is written from them. What must
not break: the same outcome always gives the same reply, byte for byte.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from cloudevents.conversion import to_binary
from cloudevents.http import CloudEvent
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema

from model_copier.contract import attribute_names
from model_copier.contract.requests import (
    MAX_REPLY_TAG,
    Asked,
    Identity,
    Message,
    Rejection,
    cut,
    digest_of,
    rfc3339,
)
from model_copier.domain.errors import Code, Failure, RejectedError
from model_copier.domain.job import Job, State
from model_copier.domain.preconditions import losses
from model_copier.domain.vertex_types import CopyCall, Model

_TYPE = "dev.modelcopier.copy.{}.v1"
# The version of the data; it changes with the `.v1` of the type.
SCHEMA = "https://modelcopier.dev/schemas/{}.v1.json"

Time = Annotated[
    datetime,
    PlainSerializer(rfc3339, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True)


class Timings(_Data):
    """When what happened, in UTC. What did not happen is left out."""

    accepted_at: Time = Field(description="when the request was recorded")
    copy_started_at: Time | None = Field(None, description="by Vertex AI's clock")
    copy_ended_at: Time | None = Field(None, description="by Vertex AI's clock")
    ended_at: Time | None = Field(None, description="when the outcome was known to the copier")
    copy_seconds: float | None = Field(None, description="from copy_started_at to copy_ended_at")
    total_seconds: float | None = Field(None, description="from accepted_at to ended_at")


class Error(_Data):
    """Why there is no copy."""

    code: Code = Field(description="canonical code of Google's APIs, by name")
    message: str = Field(description="what went wrong, for a person; the words may change")
    hint: str = Field(description="what a person can do about it; may be empty")


class Reply(_Data):
    """What every reply tells."""

    request_id: str = Field(
        description="CloudEvent id of the request; of bare JSON, its message id"
    )
    request_source: str = Field(
        description="CloudEvent source of the request; of bare JSON, its topic"
    )
    request_digest: str | None = Field(
        None,
        description=(
            "SHA-256, in hex, of the request's data as canonical JSON (RFC 8785);"
            " left out where the data cannot be read"
        ),
    )


class OfJob(Reply):
    """What is known of a request that became a job."""

    run: int = Field(description="number of the outcome: 1, and 1 more with each replay")
    source_model: str = Field(
        description="projects/P/locations/L/models/M, with @VERSION once that is known"
    )
    target_model: str | None = Field(
        None, description="projects/P/locations/L/models/M; left out until the source is known"
    )
    operation: str | None = Field(None, description="Vertex AI's name for the copying")
    attempts: int = Field(
        description="how often Vertex AI was asked for the copy, for this outcome"
    )
    timings: Timings = Field(description="when what happened")
    requested_by: str | None = Field(
        None,
        description=(
            "account that asked over REST; left out for a message, and for content that a"
            " replay by message gave"
        ),
    )
    replayed_by: str | None = Field(
        None,
        description=(
            "who requested this run, after a replay: an account over REST (`rest` where tokens"
            " are not checked) or `message`; left out for the first run"
        ),
    )
    correlation: dict[str, Any] | None = Field(None, description="the request's own, untouched")


class Succeeded(OfJob):
    """dev.modelcopier.copy.succeeded.v1: the model is in the target."""

    outcome: Literal["succeeded"] = Field(default="succeeded", description="as in the type")
    resource_name: str = Field(description="the model: projects/P/locations/L/models/M")
    version: str = Field(description="its new version, a number")
    verified: bool = Field(description="the copy was read back and names the source as its origin")
    already_existed: bool = Field(description="nothing was copied: it was there")
    warnings: list[str] = Field(description="what somebody should know, for a person")
    possible_duplicates: list[str] = Field(
        description="more new versions of the same source: somebody should look"
    )


class Failed(OfJob):
    """dev.modelcopier.copy.failed.v1: there is no copy, and the letter is kept."""

    outcome: Literal["failed"] = Field(default="failed", description="as in the type")
    error: Error = Field(description="why there is no copy")
    outcome_unknown: bool = Field(
        default=False,
        description="whether there is a copy could not be found out: look before you ask again",
    )
    dead_letter: str | None = Field(
        None, description="`outcome_id` of the dead letter; none for one that Pub/Sub forwarded"
    )


class Cancelled(OfJob):
    """dev.modelcopier.copy.cancelled.v1: somebody asked for the end, and it came in time."""

    outcome: Literal["cancelled"] = Field(default="cancelled", description="as in the type")


class Rejected(Reply):
    """dev.modelcopier.copy.rejected.v1: the message never became a job."""

    outcome: Literal["rejected"] = Field(default="rejected", description="as in the type")
    error: Error = Field(description="what is wrong with the message")
    dead_letter: str | None = Field(
        None,
        description=(
            "`outcome_id` of the dead letter; left out where there is nothing to keep:"
            " a question that changes nothing, or what Pub/Sub forwarded itself"
        ),
    )


class EncryptionSpec(_Data):
    """The key that the copy would be encrypted with."""

    kms_key_name: str = Field(description="projects/P/locations/L/keyRings/R/cryptoKeys/K")


class CopyModelRequest(_Data):
    """What would be sent to Vertex AI, in the field names of its CopyModelRequest."""

    parent: str = Field(description="projects/P/locations/L that the copy goes to")
    source_model: str = Field(description="with the version's number")
    model_id: str | None = Field(None, description="id of the model that would be made")
    parent_model: str | None = Field(None, description="model that would get a new version")
    encryption_spec: EncryptionSpec | None = Field(None, description="the request's own key")
    custom_service_account: str | None = Field(None, description="the request's own")


class Validated(Reply):
    """dev.modelcopier.copy.validated.v1: the request would be carried out now."""

    outcome: Literal["validated"] = Field(default="validated", description="as in the type")
    copy_model_request: CopyModelRequest | None = Field(
        None, description="what would be sent to Vertex AI, where something would"
    )
    already_existed: bool | None = Field(None, description="nothing would be copied: it is there")
    resource_name: str | None = Field(None, description="what is there already")
    warnings: list[str] = Field(description="what somebody should know, for a person")
    correlation: dict[str, Any] | None = Field(None, description="the request's own, untouched")


class Status(OfJob):
    """dev.modelcopier.copy.status.v1: how a request stands; not an outcome."""

    state: State = Field(
        description=(
            "ACCEPTED: stored; QUEUED: waits for its start; REQUESTED: no response to CopyModel"
            " yet; COPYING; or how it ended: SUCCEEDED, FAILED, CANCELLED, or UNKNOWN where no"
            " copy could be proven or ruled out. A later version may know more states"
        )
    )
    in_reply_to: str = Field(description="CloudEvent id of the status request")
    # Once it has ended: what the outcome tells, for those who did not listen when it was told.
    resource_name: str | None = Field(None, description="of SUCCEEDED, as its outcome tells")
    version: str | None = Field(None, description="of SUCCEEDED, as its outcome tells")
    verified: bool | None = Field(None, description="of SUCCEEDED, as its outcome tells")
    already_existed: bool | None = Field(None, description="of SUCCEEDED, as its outcome tells")
    warnings: list[str] | None = Field(None, description="of SUCCEEDED, as its outcome tells")
    possible_duplicates: list[str] | None = Field(
        None, description="of SUCCEEDED, as its outcome tells"
    )
    error: Error | None = Field(None, description="why there is no copy, where it failed")
    outcome_unknown: bool | None = Field(None, description="of UNKNOWN, as its outcome tells")
    dead_letter: str | None = Field(None, description="of FAILED, as its outcome tells")


def outcome_of(job: Job) -> Succeeded | Failed | Cancelled:
    """Write down how a job ended."""
    known = _known_of(job)
    match job.state:
        case State.SUCCEEDED:
            return Succeeded(
                **known,
                resource_name=known["target_model"],
                version=job.model_version,
                verified=job.verified,
                already_existed=job.already_existed,
                warnings=_warnings_of(job),
                possible_duplicates=list(job.possible_duplicates),
            )
        case State.FAILED | State.UNKNOWN:
            assert job.failure is not None
            return Failed(
                **known,
                error=_error(job.failure),
                outcome_unknown=job.state is State.UNKNOWN,
                dead_letter=None if job.untried else job.outcome_id,
            )
        case _:
            assert job.state is State.CANCELLED
            return Cancelled(**known)


def _warnings_of(job: Job) -> list[str]:
    """What came up while it was copied, and what the copy lacks that the source has."""
    made = job.source is not None and not job.already_existed
    lost = losses(job.request, job.source) if made and job.source else ()
    refused = [job.cancel_refused] if job.cancel_refused else []
    return [*job.warnings, *refused, *lost]


def outcome(job: Job, source: str) -> Message:
    """Tell how a job ended; ``source`` names this service."""
    assert job.ended_at is not None
    data = outcome_of(job)
    return _cloud_event(
        data,
        kind=data.outcome,
        source=source,
        event_id=job.outcome_id,
        time=job.ended_at,
        filters=_filters_of(job),
    )


def status_of(job: Job, in_reply_to: str) -> Status:
    known = _known_of(job)
    if job.state.final:
        known = {name: value for name, value in outcome_of(job) if name != "outcome"}
    elif job.cancel_refused:
        known["warnings"] = [job.cancel_refused]
    return Status(**known, state=job.state, in_reply_to=in_reply_to)


def status(job: Job, asking: Identity, source: str, now: datetime) -> Message:
    """Answer a status request."""
    return _cloud_event(
        status_of(job, asking.request_id),
        kind="status",
        source=source,
        event_id=f"{job.key}-status-{asking.key[:8]}-{now.timestamp():.6f}",
        time=now,
        filters=_filters_of(job) | {"in_reply_to": asking.request_id},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What a request would do now."""

    plan: CopyCall | Model  # a model: it is there already
    warnings: tuple[str, ...] = ()


def validated_of(asked: Asked, planned: Planned) -> Validated:
    """Write what would be sent, or what is there already."""
    would: dict[str, Any]
    plan = planned.plan
    if isinstance(plan, Model):
        would = {"already_existed": True, "resource_name": str(plan.name.at(None))}
    else:
        would = {"copy_model_request": _copy_model_request(plan)}
    return Validated(
        request_id=asked.identity.request_id,
        request_source=asked.identity.source,
        request_digest=asked.digest,
        warnings=list(planned.warnings),
        correlation=_plain(asked.copy.correlation),
        **would,
    )


def _copy_model_request(call: CopyCall) -> CopyModelRequest:
    key = call.kms_key_name
    return CopyModelRequest(
        parent=call.target_location,
        source_model=str(call.source),
        model_id=call.model_id or None,
        parent_model=call.parent_model or None,
        encryption_spec=EncryptionSpec(kms_key_name=key) if key else None,
        custom_service_account=call.custom_service_account or None,
    )


def validated(asked: Asked, planned: Planned, source: str, now: datetime) -> Message:
    """Answer a request that only asked what would be sent.

    The event id names the moment too: asked again, the answer may be another.
    """
    return _cloud_event(
        validated_of(asked, planned),
        kind="validated",
        source=source,
        event_id=f"{asked.identity.key}-validated-{now.timestamp():.6f}",
        time=now,
        filters={"reply_tag": asked.copy.reply_tag},
    )


def rejected(rejection: Rejection, source: str) -> Message:
    """Tell whoever sent it why a message never became a job."""
    identity = rejection.identity
    assert identity is not None
    try:
        content = digest_of(rejection.received)
    except RejectedError:
        content = None  # it has none
    given = attribute_names.folded(rejection.received.attributes)
    return _cloud_event(
        Rejected(
            request_id=identity.request_id,
            request_source=identity.source,
            request_digest=content,
            error=_error(rejection.failure),
            dead_letter=rejection.outcome_id if rejection.kept else None,
        ),
        kind="rejected",
        source=source,
        event_id=rejection.outcome_id,
        # Without a time: rejected again, it is told by the same event to the last byte.
        time=None,
        filters={"reply_tag": given.get("reply_tag", "")[:MAX_REPLY_TAG]},
    )


def known_of(job: Job) -> OfJob:
    """Write down what is known of a job, ended or not."""
    return OfJob(**_known_of(job))


def _known_of(job: Job) -> dict[str, Any]:
    return {
        "request_id": job.request_id,
        "request_source": job.request_source,
        "request_digest": job.digests[-1],
        "run": job.run,
        "source_model": str(job.source.name if job.source else job.request.source),
        "target_model": str(job.target) if job.target else None,
        "operation": job.operation or None,
        "attempts": job.attempts,
        "timings": Timings(
            accepted_at=job.accepted_at,
            copy_started_at=job.copy_started_at,
            copy_ended_at=job.copy_ended_at,
            ended_at=job.ended_at,
            copy_seconds=_seconds(job.copy_started_at, job.copy_ended_at),
            total_seconds=_seconds(job.accepted_at, job.ended_at),
        ),
        "requested_by": job.requested_by or None,
        "replayed_by": job.replayed_by or None,
        "correlation": _plain(job.request.correlation),
    }


def _filters_of(job: Job) -> dict[str, str]:
    return {
        "run": str(job.run),
        "reply_tag": job.request.reply_tag,
        "source_model": str(job.source.name if job.source else job.request.source),
        "target_model": str(job.target or ""),
    }


def _cloud_event(
    data: Reply,
    *,
    kind: str,
    source: str,
    event_id: str,
    time: datetime | None,
    filters: Mapping[str, str],
) -> Message:
    """Write binary mode: the names of the HTTP binding are those of the Pub/Sub binding."""
    attributes: dict[str, Any] = {
        "specversion": "1.0",
        "id": event_id,
        "source": source,
        "type": _TYPE.format(kind),
        "subject": cut(data.request_id),
        "time": rfc3339(time) if time else None,
        "datacontenttype": "application/json",
        "dataschema": SCHEMA.format(kind),
    }
    event = CloudEvent(attributes, data.model_dump_json(exclude_none=True).encode())
    headers, body = to_binary(event)
    plain = {
        "outcome": kind,
        "request_id": data.request_id,
        "request_source": data.request_source,
        "request_digest": data.request_digest or "",
        **filters,
    }
    return Message(data=body, attributes={**headers, **{k: cut(v) for k, v in plain.items() if v}})


def _seconds(begin: datetime | None, end: datetime | None) -> float | None:
    return round((end - begin).total_seconds(), 3) if begin and end else None


def _error(failure: Failure) -> Error:
    return Error(code=failure.code, message=failure.message, hint=failure.hint)


def _plain(correlation: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if correlation is None else dict(correlation)
