"""What a publisher writes: requests to copy, and questions about them.

Pure: no I/O and no clock. Strict: a ``CopyRequest`` cannot exist outside the
contract. What comes back is read in ``events``.

The one fact that must not break: ``digest`` is taken of the very bytes that are
sent, so that a waiter can tell the replies to its own request from those to
another content under the same id.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self
from uuid import uuid4

import rfc8785

from model_copy_publisher.errors import InvalidRequestError
from model_copy_publisher.request_schema import check_data
from model_copy_publisher.strict_json import is_deeper

REQUEST_TYPE = "dev.modelcopier.copy.requested.v1"
CANCEL_TYPE = "dev.modelcopier.copy.cancel.requested.v1"
STATUS_TYPE = "dev.modelcopier.copy.status.requested.v1"
DEFAULT_SOURCE = "//model-copier/publisher"
# Of the callers of the REST API: the service takes no message in their name, but a dead letter.
REST_SOURCE = "//model-copier/rest"
MAX_DATA_BYTES = 64 * 1024
MAX_CORRELATION_BYTES = 4 * 1024
MAX_DEPTH = 32
MAX_REPLY_TAG_CHARACTERS = 64
# Pub/Sub's limit for the value of an attribute.
MAX_ATTRIBUTE_BYTES = 1024

_REQUEST_ID = re.compile(r"[A-Za-z0-9._~-]{1,128}")
_URI_REFERENCE = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+")


class IfExists(StrEnum):
    """What to do when the destination model is there already."""

    FAIL = "fail"
    SKIP = "skip"
    NEW_VERSION = "new_version"


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyRequest:
    """One model to copy. What is left out is left to the service's own settings.

    ``(request_source, request_id)`` is the identity: the same request published
    twice is one copy. Without an id it gets a random one.

    Raises:
        InvalidRequestError: a value is outside the contract.
    """

    source_model_id: str
    destination_model_id: str | None = None
    destination_parent_model: str | None = None
    if_exists: IfExists | None = None
    source_project: str | None = None
    source_location: str | None = None
    target_project: str | None = None
    target_location: str | None = None
    kms_key_name: str | None = None
    custom_service_account: str | None = None
    deadline_seconds: int | None = None
    correlation: Mapping[str, Any] | None = None
    validate_only: bool = False

    request_id: str = field(default_factory=lambda: uuid4().hex)
    request_source: str = DEFAULT_SOURCE
    reply_tag: str | None = None

    # The canonical bytes, fixed here so that a later change of ``correlation`` cannot alter them.
    body: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_identity(self.request_id, self.request_source)
        _check_reply_tag(self.reply_tag)
        data = self._data()
        check_data(data)
        if self.correlation is not None:
            _check_correlation(self.correlation)
        body = _canonical("data", data)
        if is_deeper(data, MAX_DEPTH):
            raise InvalidRequestError(
                "correlation", f"makes the request nested deeper than {MAX_DEPTH} levels"
            )
        if len(body) > MAX_DATA_BYTES:
            raise InvalidRequestError(
                "data", f"is {len(body)} bytes; at most {MAX_DATA_BYTES} can be sent"
            )
        object.__setattr__(self, "body", body)

    @property
    def digest(self) -> str:
        """``request_digest`` as replies carry it: SHA-256 of the canonical JSON, in hex."""
        return hashlib.sha256(self.body).hexdigest()

    def attributes(self, now: datetime) -> dict[str, str]:
        """Return the CloudEvents 1.0 binary-mode attributes of the message."""
        attributes = _attributes(REQUEST_TYPE, self.request_id, self.request_source, now)
        if self.reply_tag is not None:
            attributes["reply_tag"] = self.reply_tag
        return attributes

    def _data(self) -> dict[str, Any]:
        data = {
            "source_model_id": self.source_model_id,
            "destination_model_id": self.destination_model_id,
            "destination_parent_model": self.destination_parent_model,
            "if_exists": None if self.if_exists is None else str(self.if_exists),
            "source_project": self.source_project,
            "source_location": self.source_location,
            "target_project": self.target_project,
            "target_location": self.target_location,
            "kms_key_name": self.kms_key_name,
            "custom_service_account": self.custom_service_account,
            "deadline_seconds": self.deadline_seconds,
            "correlation": self.correlation,
            "validate_only": None if self.validate_only is False else self.validate_only,
        }
        return {name: value for name, value in data.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A request that is known by its identity alone; its content is not at hand.

    Other publishers make other ids and sources than we do: what came is taken as it is.
    """

    request_id: str
    request_source: str = DEFAULT_SOURCE
    digest: str | None = None

    @classmethod
    def by(cls, request_id: str, request_source: str) -> Self:
        """Name a request of ours.

        Raises:
            InvalidRequestError: none of ours can have this identity.
        """
        _check_identity(request_id, request_source)
        return cls(request_id=request_id, request_source=request_source)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A message about a request: how it stands (``STATUS_TYPE``), or to end it (``CANCEL_TYPE``).

    It has an id of its own, under which it is rejected if nobody knows the request.
    """

    kind: str
    about: Named
    question_id: str

    @property
    def body(self) -> bytes:
        """The data: which request."""
        return _canonical("data", {"request_id": self.about.request_id})

    def attributes(self, now: datetime) -> dict[str, str]:
        """Return the CloudEvents attributes; asked in the name of who asked for the copy."""
        return _attributes(self.kind, self.question_id, self.about.request_source, now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A request that Pub/Sub has taken; from here on an outcome will be announced."""

    request_id: str
    request_source: str
    request_digest: str
    message_id: str
    published_at: datetime


def rfc3339(moment: datetime) -> str:
    """Write ``moment`` the way CloudEvents wants it, in UTC to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _attributes(kind: str, event_id: str, source: str, now: datetime) -> dict[str, str]:
    return {
        "ce-specversion": "1.0",
        "ce-id": event_id,
        "ce-source": source,
        "ce-type": kind,
        "ce-time": rfc3339(now),
        "content-type": "application/json",
    }


def is_of_rest(request_source: str) -> bool:
    """Tell whether a source is that of a REST caller, which no message can take."""
    return request_source == REST_SOURCE or request_source.startswith(f"{REST_SOURCE}/")


def _check_identity(request_id: str, request_source: str) -> None:
    if _REQUEST_ID.fullmatch(request_id) is None:
        raise InvalidRequestError(
            "request_id",
            f"{request_id!r} is not 1 to 128 characters of A-Z, a-z, 0-9, . _ ~ and -",
        )
    _match(
        "request_source",
        request_source,
        _URI_REFERENCE,
        f"a URI reference, such as {DEFAULT_SOURCE}",
    )
    if is_of_rest(request_source):
        raise InvalidRequestError(
            "request_source",
            f"{request_source!r} belongs to a caller of the REST API, who requests, waits and"
            " cancels there; name a source of your own",
        )
    if len(request_source) > MAX_ATTRIBUTE_BYTES:
        raise InvalidRequestError(
            "request_source", f"is {len(request_source)} bytes; at most {MAX_ATTRIBUTE_BYTES} fit"
        )


def _check_reply_tag(reply_tag: str | None) -> None:
    if reply_tag is not None and not (
        1 <= len(reply_tag) <= MAX_REPLY_TAG_CHARACTERS and reply_tag.isprintable()
    ):
        raise InvalidRequestError(
            "reply_tag",
            f"{reply_tag!r} is not 1 to {MAX_REPLY_TAG_CHARACTERS} printable characters",
        )


def _check_correlation(correlation: Mapping[str, Any]) -> None:
    size = len(_canonical("correlation", dict(correlation)))
    if size > MAX_CORRELATION_BYTES:
        raise InvalidRequestError(
            "correlation", f"is {size} bytes; at most {MAX_CORRELATION_BYTES} are echoed"
        )


def _canonical(name: str, value: Mapping[str, Any]) -> bytes:
    try:
        canonical = rfc8785.dumps(dict(value))
        # 2.5e16 is written as a whole number and read back as one that has no canonical form:
        # the service could not take the same digest.
        rfc8785.dumps(json.loads(canonical))
    except (rfc8785.CanonicalizationError, UnicodeEncodeError, RecursionError) as error:
        raise InvalidRequestError(
            name, f"has no canonical JSON form (RFC 8785): {error}"
        ) from error
    return canonical


def _match(name: str, value: str | None, pattern: re.Pattern[str], expected: str) -> None:
    if value is not None and not (pattern.fullmatch(value) and value.isprintable()):
        raise InvalidRequestError(name, f"{value!r} is not {expected}")
