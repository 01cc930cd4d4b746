"""What the copier tells: the outcome of a request, and how one stands.

Pure. Lenient where ``messages`` is strict: unknown fields are ignored, a known
field of another type counts as absent, and an outcome is never lost over them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self

from model_copy_publisher.messages import CopyRequest, Named
from model_copy_publisher.strict_json import json_kind, parse_json

STATUS_REPLY_TYPE = "dev.modelcopier.copy.status.v1"
_REPLY_TYPE = re.compile(r"dev\.modelcopier\.copy\.([a-z]+)\.v1")


class Outcome(StrEnum):
    """How a request ended. A ``status`` event is not an outcome and is never a ``Reply``."""

    SUCCEEDED = "succeeded"
    VALIDATED = "validated"
    FAILED = "failed"
    REJECTED = "rejected"
    CANCELLED = "cancelled"


_OUTCOMES = frozenset(Outcome)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """When what happened; ``copy_seconds`` is Vertex AI's own account of the copy."""

    accepted_at: datetime | None
    copy_started_at: datetime | None
    copy_ended_at: datetime | None
    ended_at: datetime | None
    copy_seconds: float | None
    total_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyError:
    """Why a request failed or was rejected: a canonical code, a message, perhaps a hint."""

    code: str
    message: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How a request stands: the answer to a question, never an outcome.

    Once it has ended, with what its outcome told. A later version of the service may know
    more states than this one.
    """

    event_id: str
    state: str
    in_reply_to: str | None
    request_id: str | None
    request_source: str | None
    request_digest: str | None
    source_model: str | None
    target_model: str | None
    attempts: int | None
    timings: Timings
    resource_name: str | None
    version: str | None
    verified: bool | None
    already_existed: bool | None
    warnings: tuple[str, ...]
    possible_duplicates: tuple[str, ...]
    error: ReplyError | None
    dead_letter: str | None
    data: Mapping[str, Any] = field(repr=False, compare=False)

    @property
    def ended(self) -> bool:
        """True when nothing more will happen; the outcome was announced before."""
        return self.state in {"SUCCEEDED", "FAILED", "UNKNOWN", "CANCELLED"}

    @property
    def ok(self) -> bool:
        """True when the copy is there."""
        return self.state == "SUCCEEDED"

    def answers(self, request: CopyRequest | Named) -> bool:
        """Tell whether this is about ``request`` and not about a namesake."""
        return _answers(self, request)

    def to_json(self) -> dict[str, Any]:
        """Return the status's data as it came, with ``event_id``."""
        return {**self.data, "event_id": self.event_id}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The announced outcome of one request. ``event_id`` is the same in every repeat."""

    event_id: str
    type: str
    outcome: Outcome
    request_id: str | None
    request_source: str | None
    request_digest: str | None
    run: int | None
    resource_name: str | None
    version: str | None
    source_model: str | None
    target_model: str | None
    operation: str | None
    verified: bool | None
    already_existed: bool | None
    warnings: tuple[str, ...]
    possible_duplicates: tuple[str, ...]
    attempts: int | None
    timings: Timings
    error: ReplyError | None
    dead_letter: str | None
    reply_tag: str | None
    copy_model_request: Mapping[str, Any] | None  # of a validation: what would be sent
    correlation: Mapping[str, Any] | None
    # As it came, for those who pass it on; with fields that this version does not know.
    data: Mapping[str, Any] = field(repr=False, compare=False)

    @property
    def ok(self) -> bool:
        """True when what was asked for is so: copied, or found valid."""
        return self.outcome in {Outcome.SUCCEEDED, Outcome.VALIDATED}

    @classmethod
    def from_message(
        cls, data: bytes, attributes: Mapping[str, str], *, message_id: str
    ) -> Self | None:
        """Read a message of the reply topic; None when it is no outcome.

        An outcome whose data cannot be read is still an outcome (its attributes
        say so): it comes back with empty fields and a warning.
        """
        event_type = attributes.get("ce-type", "")
        named = _REPLY_TYPE.fullmatch(event_type)
        if named is None or named[1] not in _OUTCOMES:
            return None
        fields = _Fields.of(data)
        return cls(
            event_id=attributes.get("ce-id", message_id),
            type=event_type,
            outcome=Outcome(named[1]),
            request_id=attributes.get("request_id", fields.text("request_id")),
            request_source=attributes.get("request_source", fields.text("request_source")),
            request_digest=attributes.get("request_digest", fields.text("request_digest")),
            run=fields.whole("run"),
            resource_name=fields.text("resource_name"),
            version=fields.text("version"),
            source_model=fields.text("source_model"),
            target_model=fields.text("target_model"),
            operation=fields.text("operation"),
            verified=fields.flag("verified"),
            already_existed=fields.flag("already_existed"),
            warnings=fields.texts("warnings") + fields.complaints,
            possible_duplicates=fields.texts("possible_duplicates"),
            attempts=fields.whole("attempts"),
            timings=_timings(fields),
            error=_error(fields.mapping("error")),
            dead_letter=fields.text("dead_letter"),
            reply_tag=attributes.get("reply_tag"),
            copy_model_request=fields.mapping("copy_model_request"),
            correlation=fields.mapping("correlation"),
            data=fields.values,
        )

    def answers(self, request: CopyRequest | Named) -> bool:
        """Tell whether this is the outcome of ``request`` and not of a namesake."""
        return _answers(self, request)

    def to_json(self) -> dict[str, Any]:
        """Return the reply's data as it came, with ``event_id`` and ``type``."""
        return {**self.data, "event_id": self.event_id, "type": self.type}


def read_event(
    data: bytes, attributes: Mapping[str, str], *, message_id: str
) -> Reply | Status | None:
    """Read a message of the reply topic; None for what a later version may add."""
    if attributes.get("ce-type") == STATUS_REPLY_TYPE:
        return _status(data, attributes, message_id)
    return Reply.from_message(data, attributes, message_id=message_id)


def _status(data: bytes, attributes: Mapping[str, str], message_id: str) -> Status:
    fields = _Fields.of(data)
    return Status(
        event_id=attributes.get("ce-id", message_id),
        state=fields.text("state") or "UNKNOWN",
        in_reply_to=attributes.get("in_reply_to", fields.text("in_reply_to")),
        request_id=attributes.get("request_id", fields.text("request_id")),
        request_source=attributes.get("request_source", fields.text("request_source")),
        request_digest=attributes.get("request_digest", fields.text("request_digest")),
        source_model=fields.text("source_model"),
        target_model=fields.text("target_model"),
        attempts=fields.whole("attempts"),
        timings=_timings(fields),
        resource_name=fields.text("resource_name"),
        version=fields.text("version"),
        verified=fields.flag("verified"),
        already_existed=fields.flag("already_existed"),
        warnings=fields.texts("warnings") + fields.complaints,
        possible_duplicates=fields.texts("possible_duplicates"),
        error=_error(fields.mapping("error")),
        dead_letter=fields.text("dead_letter"),
        data=fields.values,
    )


def _answers(event: Reply | Status, request: CopyRequest | Named) -> bool:
    """Compare identity and content.

    Another publisher may use the same id under its own source, or the same
    identity for other content. A source or digest that one of both does not
    have is no contradiction: content that could not be read has no digest.
    """
    return (
        event.request_id == request.request_id
        and event.request_source in {None, request.request_source}
        and (
            None in {event.request_digest, request.digest} or event.request_digest == request.digest
        )
    )


def _timings(fields: "_Fields") -> Timings:
    told = _Fields(fields.mapping("timings") or {})
    return Timings(
        accepted_at=told.time("accepted_at"),
        copy_started_at=told.time("copy_started_at"),
        copy_ended_at=told.time("copy_ended_at"),
        ended_at=told.time("ended_at"),
        copy_seconds=told.number("copy_seconds"),
        total_seconds=told.number("total_seconds"),
    )


def _error(data: Mapping[str, Any] | None) -> ReplyError | None:
    if data is None:
        return None
    fields = _Fields(data)
    return ReplyError(
        code=fields.text("code") or "UNKNOWN",
        message=fields.text("message") or "",
        hint=fields.text("hint") or "",
    )


@dataclass(frozen=True, slots=True)
class _Fields:
    """A JSON object that others wrote: each reader answers None for another type."""

    values: Mapping[str, Any]
    complaints: tuple[str, ...] = ()

    @classmethod
    def of(cls, data: bytes) -> Self:
        try:
            values = parse_json(data)
        except ValueError as error:
            return cls({}, (f"the data of the reply could not be read: {error}",))
        if not isinstance(values, dict):
            return cls({}, (f"the data of the reply is {json_kind(values)}, not an object",))
        return cls(values)

    def text(self, name: str) -> str | None:
        value = self.values.get(name)
        return value if isinstance(value, str) else None

    def texts(self, name: str) -> tuple[str, ...]:
        value = self.values.get(name)
        return (
            tuple(each for each in value if isinstance(each, str))
            if isinstance(value, list)
            else ()
        )

    def flag(self, name: str) -> bool | None:
        value = self.values.get(name)
        return value if isinstance(value, bool) else None

    def whole(self, name: str) -> int | None:
        value = self.values.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def number(self, name: str) -> float | None:
        value = self.values.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        try:
            return float(value)
        except OverflowError:  # a whole number of hundreds of digits
            return None

    def time(self, name: str) -> datetime | None:
        try:
            moment = datetime.fromisoformat(self.text(name) or "")
            return moment.astimezone(UTC) if moment.tzinfo is not None else None
        except (ValueError, OverflowError):
            return None

    def mapping(self, name: str) -> Mapping[str, Any] | None:
        value = self.values.get(name)
        return value if isinstance(value, dict) else None
