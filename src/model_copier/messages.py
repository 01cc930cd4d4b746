"""The messages themselves: requests as they come in, replies and letters as they go out.

Pure. JSON dictionaries do not travel past this file. What must not break: the identity
of a request (CloudEvents `source` and `id`), and that the same outcome always gives the
same reply, byte for byte.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import rfc8785
from cloudevents.conversion import to_binary
from cloudevents.exceptions import GenericException
from cloudevents.http import CloudEvent, from_http

from model_copier.errors import Code, RejectedError
from model_copier.job import CopyRequest, Failure, Job, Original, State
from model_copier.registry import CopyCall, Model
from model_copier.request_data import MAX_CORRELATION_BYTES, Defaults, read_copy_data

_TYPE = "dev.modelcopier.copy.{}.v1"
REQUESTED = _TYPE.format("requested")
# The version of the data; it changes with the `.v1` of the type.
_SCHEMA = "https://modelcopier.dev/schemas/{}.v1.json"

# Pub/Sub's own limits: https://cloud.google.com/pubsub/quotas#resource_limits
MAX_MESSAGE_BYTES = 10_000_000
MAX_ATTRIBUTES = 100
MAX_ATTRIBUTE_BYTES = 1024
# Ours. A request is a form, not a payload.
MAX_DATA_BYTES = 65_536
MAX_OWN_ATTRIBUTES = 20
MAX_REPLY_TAG = 64
_REQUEST_ID = re.compile(r"[A-Za-z0-9._~-]{1,128}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What is published: bytes and attributes."""

    data: bytes
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One delivery of a message from the request topic."""

    data: bytes
    attributes: Mapping[str, str]
    message_id: str
    delivery_attempt: int = 0  # 0: the subscription does not count them
    unreadable: str = ""  # what is wrong with the delivery itself; then `data` is all of it

    @property
    def original(self) -> Original:
        return Original(data=self.data, attributes=self.attributes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What makes two messages the same request. Message ids do not: a publish that is
    retried, a letter and a replay all get new ones.
    """

    source: str
    request_id: str

    @property
    def key(self) -> str:
        return hashlib.sha256(f"{self.source}\n{self.request_id}".encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request that keeps the contract."""

    identity: Identity
    digest: str
    copy: CopyRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """Reads requests by the operator's defaults and allow-lists."""

    request_topic: str  # projects/P/topics/T
    defaults: Defaults

    def identity(self, received: Received) -> Identity | None:
        """Tell whose answer this message awaits, however broken the rest is.

        Without CloudEvents attributes the message id must do; then a second publish of
        the same data is another request. None: nothing names it at all.
        """
        event = _unchecked_event(received)
        request_id = event.get("id") or received.message_id
        if not isinstance(request_id, str) or not request_id:
            return None
        source = event.get("source")
        if not isinstance(source, str) or not source:
            source = f"//pubsub.googleapis.com/{self.request_topic}"
        return Identity(source=source, request_id=request_id)

    def read(self, received: Received) -> Asked:
        """Parse a delivery.

        Raises:
            RejectedError: the message breaks the contract; the error says where.
        """
        if received.unreadable:
            raise RejectedError(f"push: {received.unreadable}")
        identity = self.identity(received)
        if identity is None:
            raise RejectedError("ce-id: is required, since the message has no id of its own")
        if not _REQUEST_ID.fullmatch(identity.request_id):
            raise RejectedError(
                f"ce-id: {identity.request_id[:80]!r} should be 1 to 128 of A-Z a-z 0-9 . _ ~ -"
            )
        _check_size(received)
        event_type, data = _event(received)
        if event_type != REQUESTED:
            raise RejectedError(f"ce-type: {event_type[:120]!r} is not known; known is {REQUESTED}")
        reply_tag = received.attributes.get("reply_tag", "")
        if len(reply_tag) > MAX_REPLY_TAG:
            raise RejectedError(
                f"reply_tag: has {len(reply_tag)} characters; at most {MAX_REPLY_TAG} are allowed"
            )
        copy = read_copy_data(data, self.defaults, reply_tag=reply_tag)
        if copy.correlation and len(canonical(copy.correlation)) > MAX_CORRELATION_BYTES:
            raise RejectedError(f"correlation: is larger than {MAX_CORRELATION_BYTES} bytes")
        return Asked(identity=identity, digest=digest(data), copy=copy)


def canonical(data: object) -> bytes:
    """Write JSON in the one form of RFC 8785, so that equal contents are equal bytes."""
    try:
        return rfc8785.dumps(data)  # type: ignore[arg-type]
    except (rfc8785.CanonicalizationError, RecursionError, UnicodeError) as error:
        raise RejectedError(f"data: cannot be written as canonical JSON: {error}") from error


def digest(data: object) -> str:
    """Name a request's content: SHA-256 of its canonical JSON, before defaults."""
    return hashlib.sha256(canonical(data)).hexdigest()


def _check_size(received: Received) -> None:
    if len(received.data) > MAX_DATA_BYTES:
        raise RejectedError(
            f"data: has {len(received.data)} bytes; at most {MAX_DATA_BYTES} are allowed"
        )
    own = [k for k in received.attributes if not k.startswith(("ce-", "CloudPubSub", "goog"))]
    if len(own) > MAX_OWN_ATTRIBUTES:
        raise RejectedError(
            f"attributes: {len(own)} of its own; at most {MAX_OWN_ATTRIBUTES} are allowed"
        )


def _is_structured(attributes: Mapping[str, str]) -> bool:
    return attributes.get("content-type", "").startswith("application/cloudevents")


def _unchecked_event(received: Received) -> Mapping[str, Any]:
    """Read `id` and `source` from wherever they stand, without judging."""
    if _is_structured(received.attributes):
        try:
            event = _json(received.data)
        except RejectedError:
            return {}
        return event if isinstance(event, dict) else {}
    return {name: received.attributes.get(f"ce-{name}") for name in ("id", "source")}


def _event(received: Received) -> tuple[str, Any]:
    """Return the event's type and its parsed data, in whichever of the three forms it came.

    The names of the HTTP binding are those of the Pub/Sub binding:
    https://github.com/googleapis/google-cloudevents/blob/main/docs/spec/pubsub.md
    """
    headers = dict(received.attributes)
    structured = _is_structured(headers)
    if not structured and not any(name.startswith("ce-") for name in headers):
        return REQUESTED, _json(received.data)
    if structured:
        found = _json(received.data)
        if not isinstance(found, dict):
            raise RejectedError("data: should be a CloudEvent in JSON, an object")
    else:
        found = {name.removeprefix("ce-"): value for name, value in headers.items()}
    for name in ("specversion", "id", "source", "type"):
        if not isinstance(found.get(name), str) or not found[name]:
            raise RejectedError(f"ce-{name}: is required, a string")
    try:
        event = from_http(headers, received.data, data_unmarshaller=lambda value: value)
    except (GenericException, ValueError, TypeError, KeyError) as error:
        raise RejectedError(f"CloudEvent: cannot be read: {error}") from error
    # In structured mode the package hands `data` over as JSON text again.
    data = event.data.encode() if isinstance(event.data, str) else event.data
    return event["type"], _json(data)


def _json(data: bytes | None) -> Any:
    """Parse strictly: one UTF-8 document, no field twice, no NaN."""
    if not data:
        raise RejectedError("data: is empty; expected a JSON object")
    try:
        return json.loads(
            data.decode(), object_pairs_hook=_no_field_twice, parse_constant=_no_constant
        )
    except UnicodeDecodeError as error:
        raise RejectedError(f"data: is not UTF-8: {error.reason} at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise RejectedError(
            f"data: is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from error
    except RecursionError as error:
        raise RejectedError("data: is nested too deeply") from error
    except ValueError as error:  # an integer of more than 4,300 digits
        raise RejectedError(f"data: is not JSON we can read: {error}") from error


def _no_field_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise RejectedError(f"{name[:80]}: is given twice")
        found[name] = value
    return found


def _no_constant(name: str) -> Any:
    raise RejectedError(f"data: {name} is not JSON")


# Going out.


def reply(job: Job, source: str) -> Message:
    """Tell the outcome of a job that has ended; ``source`` names this service."""
    assert job.ended_at is not None
    outcome = job.state.lower()
    target = str(job.target or "")
    data: dict[str, Any] = {
        "request_id": job.request_id,
        "request_source": job.request_source,
        "request_digest": job.digests[-1],
        "outcome": outcome,
        "attempt": job.attempt,
        "source_model": str(job.source.name if job.source else job.request.source),
        "target_model": target or None,
        "operation": job.operation or None,
        "copy_attempts": job.copy_attempts,
        "timings": _timings(job),
        "correlation": job.request.correlation,
    }
    if job.state is State.SUCCEEDED:
        data |= {
            "resource_name": target,
            "version": job.model_version,
            "verified": job.verified,
            "already_existed": job.already_existed,
            "warnings": list(job.warnings),
            "possible_duplicates": list(job.possible_duplicates),
        }
    if job.failure:
        data |= {"error": _error(job.failure), "dead_letter": job.outcome_id}
    return _cloud_event(
        source=source,
        event_id=job.outcome_id,
        outcome=outcome,
        subject=job.request_id,
        time=job.ended_at,
        data=data,
        filters={
            "request_id": job.request_id,
            "request_source": job.request_source,
            "request_digest": job.digests[-1],
            "attempt": str(job.attempt),
            "reply_tag": job.request.reply_tag,
            "source_model": data["source_model"],
            "target_model": target,
        },
    )


def validated(asked: Asked, plan: CopyCall | Model, source: str, now: datetime) -> Message:
    """Answer a request that only asked what would be sent."""
    identity = asked.identity
    if isinstance(plan, CopyCall):
        would: dict[str, Any] = {"copy_model_request": _copy_model_request(plan)}
    else:
        would = {"already_existed": True, "resource_name": str(plan.name.at(None))}
    return _cloud_event(
        source=source,
        event_id=f"{identity.key}-validated-{asked.digest[:16]}",
        outcome="validated",
        subject=identity.request_id,
        time=now,
        data={
            "request_id": identity.request_id,
            "request_source": identity.source,
            "request_digest": asked.digest,
            "outcome": "validated",
            "correlation": asked.copy.correlation,
            **would,
        },
        filters={
            "request_id": identity.request_id,
            "request_source": identity.source,
            "request_digest": asked.digest,
            "reply_tag": asked.copy.reply_tag,
        },
    )


def _copy_model_request(call: CopyCall) -> dict[str, Any]:
    """Write the call in the field names of CopyModelRequest."""
    request: dict[str, Any] = {"parent": call.target_location, "source_model": str(call.source)}
    if call.model_id:
        request["model_id"] = call.model_id
    if call.parent_model:
        request["parent_model"] = call.parent_model
    if call.kms_key_name:
        request["encryption_spec"] = {"kms_key_name": call.kms_key_name}
    if call.custom_service_account:
        request["custom_service_account"] = call.custom_service_account
    return request


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """A message that never became a job."""

    identity: Identity | None  # None: nobody can be told, but the letter is kept
    received: Received
    failure: Failure
    at: datetime

    @property
    def outcome_id(self) -> str:
        """Stable for the same content under the same identity."""
        content = hashlib.sha256(self.received.data).hexdigest()[:16]
        return f"{self.identity.key if self.identity else 'unknown'}-rejected-{content}"


def rejected(rejection: Rejection, source: str) -> Message:
    """Tell a publisher why its request never became a job."""
    identity = rejection.identity
    assert identity is not None
    try:
        found = digest(_event(rejection.received)[1])
    except RejectedError:
        found = ""  # no content that has a digest
    return _cloud_event(
        source=source,
        event_id=rejection.outcome_id,
        outcome="rejected",
        subject=identity.request_id,
        time=rejection.at,
        data={
            "request_id": identity.request_id,
            "request_source": identity.source,
            "request_digest": found or None,
            "outcome": "rejected",
            "error": _error(rejection.failure),
            "dead_letter": rejection.outcome_id,
        },
        filters={
            "request_id": identity.request_id,
            "request_source": identity.source,
            "request_digest": found,
            "reply_tag": rejection.received.attributes.get("reply_tag", "")[:MAX_REPLY_TAG],
        },
    )


def letter_of_job(job: Job) -> Message:
    assert job.failure is not None
    assert job.ended_at is not None
    return _letter(
        job.original,
        failure=job.failure,
        outcome_id=job.outcome_id,
        attempts=job.copy_attempts,
        at=job.ended_at,
    )


def letter_of_rejection(rejection: Rejection) -> Message:
    return _letter(
        rejection.received.original,
        failure=rejection.failure,
        outcome_id=rejection.outcome_id,
        attempts=0,
        at=rejection.at,
    )


def _letter(
    original: Original, *, failure: Failure, outcome_id: str, attempts: int, at: datetime
) -> Message:
    """Keep the bytes as they came; what we add gives way where Pub/Sub has no room for it."""
    # Pub/Sub refuses to be given attributes of its own prefix.
    attributes = {k: v for k, v in original.attributes.items() if not k.startswith("goog")}
    size = len(original.data) + sum(
        len(k.encode()) + len(v.encode()) for k, v in attributes.items()
    )
    for name, value in (
        ("dead_letter_code", str(failure.code)),
        ("outcome_id", outcome_id),
        ("dead_letter_at", _rfc3339(at)),
        ("attempts", str(attempts)),
        ("dead_letter_reason", _cut(f"{failure.message} {failure.hint}".strip())),
    ):
        added = len(name) + len(value.encode())
        if name in attributes or (
            len(attributes) < MAX_ATTRIBUTES and size + added < MAX_MESSAGE_BYTES - 1024
        ):
            attributes[name] = value
            size += added
    return Message(data=original.data, attributes=attributes)


def _cloud_event(
    *,
    source: str,
    event_id: str,
    outcome: str,
    subject: str,
    time: datetime,
    data: dict[str, Any],
    filters: Mapping[str, str],
) -> Message:
    event = CloudEvent(
        {
            "specversion": "1.0",
            "id": event_id,
            "source": source,
            "type": _TYPE.format(outcome),
            "subject": _cut(subject),
            "time": _rfc3339(time),
            "datacontenttype": "application/json",
            "dataschema": _SCHEMA.format(outcome),
        },
        json.dumps({k: v for k, v in data.items() if v is not None}).encode(),
    )
    headers, body = to_binary(event)
    plain = {"outcome": outcome, **filters}
    return Message(data=body, attributes={**headers, **{k: _cut(v) for k, v in plain.items() if v}})


def _timings(job: Job) -> dict[str, Any]:
    assert job.ended_at is not None
    started, ended = job.copy_started_at, job.copy_ended_at
    return {
        "accepted_at": _rfc3339(job.accepted_at),
        "copy_started_at": _rfc3339(started) if started else None,
        "copy_ended_at": _rfc3339(ended) if ended else None,
        "ended_at": _rfc3339(job.ended_at),
        "copy_seconds": round((ended - started).total_seconds(), 3) if started and ended else None,
        "total_seconds": round((job.ended_at - job.accepted_at).total_seconds(), 3),
    }


def _error(failure: Failure) -> dict[str, str]:
    return {"code": failure.code, "message": failure.message, "hint": failure.hint}


def _rfc3339(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _cut(text: str) -> str:
    """Fit an attribute's value into Pub/Sub's limit, at a whole character."""
    return text.encode(errors="replace")[:MAX_ATTRIBUTE_BYTES].decode(errors="ignore")


def conflict(job: Job) -> Failure:
    """Say that a request id was used before, for something else."""
    return Failure(
        code=Code.ALREADY_EXISTS,
        message=f"request {job.request_id!r} was given before with other content",
        hint="use a new request id for a new request; the first one goes on unharmed",
    )
