"""A dead letter: a request as it came, and why it failed.

Pure. Whatever lies in the topic becomes a ``Letter``, also what is no letter of ours: nobody
is asked to believe in what a person cannot see. Its bytes and attributes are kept as they are.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self

import rfc8785

from model_copy_publisher.errors import InvalidRequestError
from model_copy_publisher.messages import REQUEST_TYPE, rfc3339
from model_copy_publisher.strict_json import DuplicateFieldError, json_kind, parse_json

# Those of the copier, which a replay leaves behind.
OWN_ATTRIBUTES = frozenset(
    {"dead_letter_code", "outcome_id", "dead_letter_at", "attempts", "dead_letter_reason"}
)
FORWARDED_BY = "CloudPubSubDeadLetterSource"
REPLAYS = "ce-replays"
UNKNOWN_CODE = "UNKNOWN"

_OUR_TYPE = re.compile(r"dev\.modelcopier\.copy\.[a-z.]*requested\.v(?P<version>[0-9]+)")
_OUTCOME_ID = re.compile(r"[0-9a-f]{32}-(?P<run>[1-9][0-9]{0,8})")


class Origin(StrEnum):
    """Who put it into the topic."""

    COPIER = "copier"  # failed or rejected, with the reason
    PUBSUB = "pubsub"  # forwarded: nobody could record it
    STRANGER = "stranger"  # no letter of ours


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """One message of the dead-letter topic, as it came, and what can be read of it."""

    message_id: str
    published_at: datetime
    data: bytes = field(repr=False)
    attributes: Mapping[str, str] = field(repr=False)
    ordering_key: str = ""

    origin: Origin
    event_type: str
    request_id: str | None  # None: it was bare JSON, known by the id of a message that is gone
    request_source: str | None
    content: Mapping[str, Any] | None = field(repr=False)  # None: ``unreadable`` says why
    unreadable: str = ""

    @classmethod
    def read(
        cls,
        data: bytes,
        attributes: Mapping[str, str],
        *,
        message_id: str,
        published_at: datetime,
        ordering_key: str = "",
    ) -> Self:
        """Read a message; there is none that cannot be read as a letter of some origin."""
        event, content, unreadable = _open(data, attributes)
        event_type, request_id = _text(event, "type"), _text(event, "id")
        return cls(
            message_id=message_id,
            published_at=published_at,
            data=data,
            attributes=dict(attributes),
            ordering_key=ordering_key,
            origin=_origin(attributes, event_type),
            event_type=event_type,
            request_id=request_id or None,
            request_source=_text(event, "source") or None,
            content=content,
            unreadable=unreadable,
        )

    @property
    def code(self) -> str:
        """Why it is here, in one word; what Pub/Sub forwards could not be recorded."""
        default = "UNAVAILABLE" if self.origin is Origin.PUBSUB else UNKNOWN_CODE
        return self.attributes.get("dead_letter_code", default)

    @property
    def reason(self) -> str:
        """The error and its hint, as the copier wrote them, or what Pub/Sub tells."""
        if self.origin is Origin.PUBSUB:
            count = self.attributes.get(f"{FORWARDED_BY}DeliveryCount", "all")
            return f"nobody could record it; Pub/Sub gave it up after {count} deliveries"
        return self.attributes.get("dead_letter_reason", "")

    @property
    def outcome_id(self) -> str:
        """The outcome that the letter tells of, or nothing."""
        return self.attributes.get("outcome_id", "")

    @property
    def given_up_as(self) -> str:
        """The outcome by which the copier answers what Pub/Sub gave up: the request's first."""
        if self.origin is not Origin.PUBSUB or not (self.request_id and self.request_source):
            return ""
        named = f"{self.request_source}\n{self.request_id}"
        return f"{hashlib.sha256(named.encode()).hexdigest()[:32]}-1"

    @property
    def was_rejected(self) -> bool:
        """True when it never became a job."""
        return "-rejected-" in self.outcome_id

    @property
    def died_at(self) -> datetime:
        """When it failed, or when Pub/Sub first had it."""
        for name in ("dead_letter_at", f"{FORWARDED_BY}TopicPublishTime"):
            moment = _moment(self.attributes.get(name, ""))
            if moment is not None:
                return moment
        return self.published_at

    @property
    def attempts(self) -> int | None:
        """How often Vertex AI was asked, or how often Pub/Sub delivered it."""
        number = self.attributes.get(
            "attempts", self.attributes.get(f"{FORWARDED_BY}DeliveryCount", "")
        )
        return int(number) if number.isascii() and number.isdigit() else None

    @property
    def replays(self) -> int:
        """How often it was replayed before: the number of its outcome tells, or our own mark."""
        outcome = _OUTCOME_ID.fullmatch(self.outcome_id)
        marked = self.attributes.get(REPLAYS, "")
        counted = int(marked) if re.fullmatch("[0-9]{1,9}", marked, re.ASCII) else 0
        return max(counted, int(outcome["run"]) - 1 if outcome else 0)

    @property
    def is_structured(self) -> bool:
        """True when the event, and not only the request, is in the data."""
        return is_structured(self.attributes, self.data)

    @property
    def newer_version(self) -> str:
        """The type, where it is ours and of a version that this one does not know."""
        ours = _OUR_TYPE.fullmatch(self.event_type)
        return self.event_type if ours and ours["version"] != "1" else ""

    @property
    def is_copy_request(self) -> bool:
        """True when the content is a copy request: by its type, or as bare JSON."""
        return self.event_type in {REQUEST_TYPE, ""} and self.origin is not Origin.STRANGER

    @property
    def source(self) -> str:
        """The model to be copied, as asked for."""
        return _text(self.content or {}, "source_model_id")

    @property
    def target(self) -> str:
        """Where the copy goes, as asked for."""
        content = self.content or {}
        return _text(content, "destination_model_id") or _text(content, "destination_parent_model")

    def to_json(self) -> dict[str, Any]:
        """Return everything, for programs."""
        return {
            "message_id": self.message_id,
            "request_id": self.request_id,
            "request_source": self.request_source,
            "origin": self.origin.value,
            "code": self.code,
            "reason": self.reason,
            "died_at": rfc3339(self.died_at),
            "outcome_id": self.outcome_id or None,
            "attempts": self.attempts,
            "replays": self.replays,
            "content": self.content,
            "unreadable": self.unreadable or None,
            "text": self.data.decode(errors="replace") if self.content is None else None,
            "attributes": dict(self.attributes),
        }


def digest_of(content: Mapping[str, Any]) -> str | None:
    """Name the content as replies do; None where it has no canonical form."""
    try:
        return hashlib.sha256(rfc8785.dumps(dict(content))).hexdigest()
    except (rfc8785.CanonicalizationError, UnicodeEncodeError, RecursionError):
        return None


def is_structured(attributes: Mapping[str, str], data: bytes) -> bool:
    """Tell whether the data hold the whole event; some senders write no attribute that says so."""
    given = event_attributes(attributes)
    if given.get("content-type", "").lower().startswith("application/cloudevents"):
        return True
    if {"ce-specversion", "ce-id", "ce-source", "ce-type"} & given.keys():
        return False
    try:
        return "specversion" in parse_object(data)
    except ValueError:
        return False


def event_attributes(attributes: Mapping[str, str]) -> dict[str, str]:
    """Return what makes it a CloudEvent, in lower case: the case of attribute names is free."""
    lower = ((name.lower(), value) for name, value in attributes.items())
    return {
        name: value for name, value in lower if name.startswith("ce-") or name == "content-type"
    }


def parse_object(data: bytes) -> dict[str, Any]:
    """Parse an object.

    Raises:
        ValueError: it is none.
    """
    try:
        found = parse_json(data.decode("utf-8-sig"))
    except DuplicateFieldError as error:
        raise ValueError(f"in its data {error}") from error
    except UnicodeDecodeError as error:
        raise ValueError("its data are not text") from error
    except ValueError as error:
        raise ValueError(f"its data are not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(  # noqa: TRY004  who reads a message knows one kind of wrong
            f"its data are {json_kind(found)}, not a JSON object"
        )
    return found


def _open(
    data: bytes, attributes: Mapping[str, str]
) -> tuple[Mapping[str, Any], Mapping[str, Any] | None, str]:
    """Return the event's own attributes, its content, and why there is none."""
    event: Mapping[str, Any] = {
        name.removeprefix("ce-"): value
        for name, value in event_attributes(attributes).items()
        if name.startswith("ce-")
    }
    try:
        found = parse_object(data)
        if is_structured(attributes, data):
            event = found
            found = _inside(event)
    except ValueError as error:
        return event, None, str(error)
    return event, found, ""


def _inside(event: Mapping[str, Any]) -> dict[str, Any]:
    if "data_base64" in event:
        return parse_object(base64.b64decode(str(event["data_base64"]), validate=True))
    inner = event.get("data")
    if not isinstance(inner, dict):
        raise ValueError("its event has no JSON object in data")  # noqa: TRY004  as parse_object
    return inner


def _origin(attributes: Mapping[str, str], event_type: str) -> Origin:
    if "dead_letter_code" in attributes:
        return Origin.COPIER
    if any(name.startswith(FORWARDED_BY) for name in attributes):
        return Origin.PUBSUB
    # The copier leaves its own attributes out where Pub/Sub's limits leave no room for them.
    return Origin.COPIER if _OUR_TYPE.fullmatch(event_type) else Origin.STRANGER


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    return value if isinstance(value, str) else ""


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo is not None else None
    except (ValueError, OverflowError):  # the latter at either end of the calendar
        return None


# A backup holds letters as lines.


def to_line(letter: Letter) -> bytes:
    """Write a letter so that nothing of it is lost."""
    line = {
        "message_id": letter.message_id,
        "published_at": rfc3339(letter.published_at),
        "ordering_key": letter.ordering_key,
        "attributes": dict(letter.attributes),
        "data": base64.b64encode(letter.data).decode(),
    }
    return json.dumps(line, ensure_ascii=False).encode() + b"\n"


def of_line(line: bytes, *, number: int) -> Letter:
    """Read a letter from a backup.

    Raises:
        InvalidRequestError: the line is none of a backup.
    """
    try:
        found = parse_object(line)
        attributes = {name: str(value) for name, value in found["attributes"].items()}
        return Letter.read(
            base64.b64decode(found["data"], validate=True),
            attributes,
            message_id=str(found["message_id"]),
            published_at=datetime.fromisoformat(found["published_at"]),
            ordering_key=str(found["ordering_key"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidRequestError(
            "backup", f"line {number} is not a dead letter: {error}"
        ) from error
