"""Messages as they come in from the request topic: copy, cancel and status requests.

Pure. JSON dictionaries do not travel past this file. What must not break: the identity
of a request, which is its CloudEvents `source` and `id` and nothing else.
"""

import codecs
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import rfc8785
from cloudevents.exceptions import GenericException
from cloudevents.http import from_http

from model_copier.contract import attribute_names
from model_copier.contract.request_schema import (
    MAX_CORRELATION_BYTES,
    MAX_REQUEST_ID,
    Defaults,
    read_copy_data,
    read_named_request,
)
from model_copier.domain.access_policy import Caller
from model_copier.domain.copy_request import CopyRequest, Original
from model_copier.domain.errors import Failure, RejectedError
from model_copier.domain.senders import REST_SOURCE

REQUESTED = "dev.modelcopier.copy.requested.v1"
CANCEL_REQUESTED = "dev.modelcopier.copy.cancel.requested.v1"
STATUS_REQUESTED = "dev.modelcopier.copy.status.requested.v1"

# Pub/Sub's own limits: https://cloud.google.com/pubsub/quotas#resource_limits
MAX_MESSAGE_BYTES = 10_000_000
MAX_ATTRIBUTES = 100
MAX_ATTRIBUTE_NAME_BYTES = 256
MAX_ATTRIBUTE_BYTES = 1024
_REJECTED = "-rejected-"  # in the outcome id of what never became a job
SPEC_VERSION = "1.0"  # of CloudEvents
# As far as others' sources go: what is no URI reference at all, or fits in no attribute.
_SOURCE = re.compile(rf"[^\x00-\x20\x7f]{{1,{MAX_ATTRIBUTE_BYTES}}}")
# Ours. A request is a form, not a payload.
MAX_DATA_BYTES = 65_536
MAX_OWN_ATTRIBUTES = 20
# With the `ce-` ones: a replay adds at most 6 and its letter 5 more, below MAX_ATTRIBUTES.
MAX_SENT_ATTRIBUTES = 80
MAX_REPLY_TAG = 64
# What a letter adds to the request's own, the most needed first.
LETTER_ATTRIBUTES = (
    "dead_letter_code",
    "outcome_id",
    "dead_letter_at",
    "attempts",
    "dead_letter_reason",
)
# On a dead letter whose run may have made a copy. Unlike the others it comes back with a replay:
# it says that CopyModel must not be called again where the job that knows more is gone.
OUTCOME_UNKNOWN = "outcome_unknown"
_REQUEST_ID = re.compile(rf"[A-Za-z0-9._~-]{{1,{MAX_REQUEST_ID}}}")


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
    requested_by: str = ""  # whose token came with it; never what the message says of itself
    over_rest: bool = False  # a call, whose source is no claim but the caller's proven identity
    unreadable: str = ""  # what is wrong with the delivery itself; then `data` is all of it
    published_at: str = ""  # as Pub/Sub wrote it; a message that is delivered again keeps it

    @property
    def replay_of(self) -> str:
        """The outcome whose letter was published again, or nothing.

        A general tool publishes a letter as it is: then the letter itself names its outcome,
        and a `replay_of` beside it is of an earlier replay.
        """
        given = attribute_names.folded(self.attributes)
        replay_of, outcome_id = given.get("replay_of", ""), given.get("outcome_id", "")
        if "dead_letter_code" not in given or not outcome_id:
            return replay_of
        # A replay that was rejected ended no run: the run that it is of still awaits one.
        return (replay_of if _REJECTED in outcome_id else "") or outcome_id

    def is_older_than(self, moment: datetime) -> bool:
        """Tell whether the request was made before this, by Pub/Sub's clock or its sender's."""
        times = (self.published_at, attribute_names.folded(self.attributes).get("ce-time", ""))
        return any(at <= moment for text in times if (at := _moment(text)))

    @property
    def outcome_unknown(self) -> bool:
        """The dead letter that was published again may be of a request that has a copy."""
        # Not by its value: two spellings that say different things are still the mark.
        return any(name.lower() == OUTCOME_UNKNOWN for name in self.attributes)

    @property
    def forwarded_after(self) -> str:
        """How many deliveries Pub/Sub tried before it wrote the letter itself."""
        return self.attributes.get("CloudPubSubDeadLetterSourceDeliveryCount", "all")

    @property
    def original(self) -> Original:
        return Original(data=self.data, attributes=self.attributes)


def _moment(text: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at if at.tzinfo else None


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

    @property
    def is_of_rest(self) -> bool:
        """Whether a REST caller has this identity, and no publisher can."""
        return self.source == REST_SOURCE or self.source.startswith(f"{REST_SOURCE}/")

    @property
    def account(self) -> str:
        """The REST caller's account; empty where tokens are not checked."""
        return self.source.removeprefix(REST_SOURCE).removeprefix("/") if self.is_of_rest else ""

    def run_after(self, outcome_id: str) -> int:
        """The number of the outcome that follows this one; the first, where it is none of ours."""
        found = re.fullmatch(rf"{self.key}-([1-9][0-9]{{0,8}})", outcome_id, re.ASCII)
        return int(found[1]) + 1 if found else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request that keeps the contract."""

    identity: Identity
    digest: str
    copy: CopyRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelAsked:
    """Somebody wants a copy to end."""

    identity: Identity  # of this message
    of: Identity  # of the request to be cancelled


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusAsked:
    """Somebody wants to know how a request stands."""

    identity: Identity
    of: Identity


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """A message that never became a job."""

    identity: Identity | None  # None: nobody can be told, but the letter is kept
    received: Received
    failure: Failure
    at: datetime
    kept: bool = True  # in a letter of ours

    @property
    def outcome_id(self) -> str:
        """Stable for the same content under the same identity, refused for the same reason.

        The reason counts because it may change: a question asked again is answered anew.
        """
        refused = hashlib.sha256(self.received.data)
        refused.update(f"\n{self.failure.code}\n{self.failure.message}".encode(errors="replace"))
        if not self.kept:
            refused.update(b"\nnot kept")  # its reply names no letter, so it is another
        return (
            f"{self.identity.key if self.identity else 'unknown'}{_REJECTED}"
            f"{refused.hexdigest()[:16]}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """Reads requests by the operator's defaults and allow-lists."""

    request_topic: str  # projects/P/topics/T
    defaults: Defaults
    # By account; None: tokens are not checked, and nobody has limits of their own.
    callers: Mapping[str, Caller] | None = None

    def identity(self, received: Received) -> Identity | None:
        """Tell whose answer this message awaits, however broken the rest is.

        Without CloudEvents attributes the message id must do; then a second publish of
        the same data is another request. None: nothing names it at all.
        """
        event = _unchecked_event(received)
        request_id = event.get("id")
        if not isinstance(request_id, str) or not request_id:
            request_id = received.message_id
        if not request_id:
            return None
        source = event.get("source")
        if not isinstance(source, str) or not source:
            source = f"//pubsub.googleapis.com/{self.request_topic}"
        return Identity(source=source, request_id=request_id)

    def read(self, received: Received) -> Asked | CancelAsked | StatusAsked:
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
        _check_size(received.data)
        _check_attributes(received)
        if wrong := attribute_names.explain_bad_spelling(received.attributes):
            raise RejectedError(wrong)
        event_type, data = _event(received)
        match event_type:
            case "dev.modelcopier.copy.requested.v1":
                copy = self._copy(data, received)
                return Asked(identity=identity, digest=digest(data), copy=copy)
            case "dev.modelcopier.copy.cancel.requested.v1":
                return CancelAsked(identity=identity, of=_named(data, identity))
            case "dev.modelcopier.copy.status.requested.v1":
                return StatusAsked(identity=identity, of=_named(data, identity))
            case _:
                known = f"{REQUESTED}, {CANCEL_REQUESTED}, {STATUS_REQUESTED}"
                raise RejectedError(
                    f"ce-type: {event_type[:120]!r} is not known; known are {known}"
                )

    def refusal_for_account(self, asked: Asked) -> str | None:
        """Say why the REST caller whose identity a request has may not have it, if so."""
        if self.callers is None:
            return None
        account = asked.identity.account
        caller = self.callers.get(account)
        if caller is None:
            return f"ce-source: {account[:200] or 'nobody'!r} may no longer request copies"
        return caller.refusal(
            source_project=asked.copy.source.project, target_project=asked.copy.target_project
        )

    def _copy(self, data: object, received: Received) -> CopyRequest:
        reply_tag = attribute_names.folded(received.attributes).get("reply_tag", "")
        if len(reply_tag) > MAX_REPLY_TAG:
            raise RejectedError(
                f"reply_tag: has {len(reply_tag)} characters; at most {MAX_REPLY_TAG} are allowed"
            )
        copy = read_copy_data(data, self.defaults, reply_tag=reply_tag)
        if (
            copy.correlation
            and len(canonical(copy.correlation, field="correlation")) > MAX_CORRELATION_BYTES
        ):
            raise RejectedError(f"correlation: is larger than {MAX_CORRELATION_BYTES} bytes")
        return copy


def _named(data: object, asking: Identity) -> Identity:
    """Whom a cancel or a status request is about: without a source, one of the asker's own."""
    named = read_named_request(data)
    return Identity(source=named.request_source or asking.source, request_id=named.request_id)


def canonical(data: object, *, field: str = "data") -> bytes:
    """Write JSON in the one form of RFC 8785, so that equal contents are equal bytes.

    ``field`` is what the data are of.
    """
    if found := _unsafe_number(data, () if field == "data" else (field,)):
        path, number = found
        raise RejectedError(
            f"{'.'.join(path) or field}: {str(number)[:40]} is beyond ±(2^53 - 1), where JSON"
            " readers begin to round; write it as a string"
        )
    try:
        return rfc8785.dumps(data)  # type: ignore[arg-type]
    except (rfc8785.CanonicalizationError, RecursionError, UnicodeError) as error:
        raise RejectedError(f"{field}: cannot be written as canonical JSON: {error}") from error


def _unsafe_number(data: object, path: tuple[str, ...]) -> tuple[tuple[str, ...], int] | None:
    """Find the first whole number that has no canonical form, and where it stands."""
    left: list[tuple[tuple[str, ...], object]] = [(path, data)]
    while left:
        place, value = left.pop(0)
        if isinstance(value, dict):
            left += [((*place, str(name)[:80]), inner) for name, inner in value.items()]
        elif isinstance(value, list):
            left += [((*place, str(number)), inner) for number, inner in enumerate(value)]
        elif isinstance(value, int) and abs(value) >= 2**53:
            return place, value
    return None


def digest(data: object) -> str:
    """Name a request's content: SHA-256 of its canonical JSON, before defaults."""
    return hashlib.sha256(canonical(data)).hexdigest()


def digest_of(received: Received) -> str:
    """Name the content of a message that may be wrong in other ways.

    Raises:
        RejectedError: it has no content that could be named.
    """
    if received.unreadable:
        raise RejectedError("push: the content is somewhere in the envelope")
    _check_size(received.data)
    return digest(_event(received)[1])


def _check_size(data: bytes) -> None:
    if len(data) > MAX_DATA_BYTES:
        raise RejectedError(f"data: has {len(data)} bytes; at most {MAX_DATA_BYTES} are allowed")


def _check_attributes(received: Received) -> None:
    own = [
        name
        for name in attribute_names.folded(received.attributes)
        if not name.startswith(("ce-", "CloudPubSub", "goog"))
        # What is replayed was within the limit when it came first.
        and name not in {"content-type", "replay_of", OUTCOME_UNKNOWN, *LETTER_ATTRIBUTES}
    ]
    if len(own) > MAX_OWN_ATTRIBUTES:
        raise RejectedError(
            f"attributes: {len(own)} of its own; at most {MAX_OWN_ATTRIBUTES} are allowed"
        )
    sent = [
        name
        for name in attribute_names.folded(received.attributes)
        if not name.startswith(("CloudPubSub", "goog"))
        and name not in {"replay_of", "ce-replays", *LETTER_ATTRIBUTES}
    ]
    if len(sent) > MAX_SENT_ATTRIBUTES:
        raise RejectedError(
            f"attributes: {len(sent)} with those of the CloudEvent; at most"
            f" {MAX_SENT_ATTRIBUTES} are allowed, so that a dead letter has room for its reason"
        )


def _structured(attributes: Mapping[str, str], data: bytes) -> Any:
    """Return the parsed data where they are the whole event, else None.

    Without any attribute that says so, the data tell: some SDKs write none in structured mode.

    Raises:
        RejectedError: they should be an event, and cannot be read as JSON.
    """
    if attribute_names.is_structured(attributes):
        return parse_json(data)
    if any(f"ce-{name}" in attributes for name in attribute_names.REQUIRED):
        return None
    found = parse_json(data)
    return found if attribute_names.is_event(found) else None


def _unchecked_event(received: Received) -> Mapping[str, Any]:
    """Read `id` and `source` from wherever they stand, without judging."""
    given = attribute_names.folded(received.attributes)
    try:
        _check_size(received.data)
        event = _structured(given, received.data)
    except RejectedError:
        event = None
    if isinstance(event, dict):
        return event
    if attribute_names.is_structured(given):
        return {}
    return {name: given.get(f"ce-{name}") for name in ("id", "source")}


def _event(received: Received) -> tuple[str, Any]:
    """Return the event's type and its parsed data, in whichever of the three forms it came.

    The names of the HTTP binding are those of the Pub/Sub binding:
    https://github.com/googleapis/google-cloudevents/blob/main/docs/spec/pubsub.md
    """
    headers = attribute_names.folded(received.attributes)
    if wrong := attribute_names.explain_bad_format(headers):
        raise RejectedError(wrong)
    found = _structured(headers, received.data)
    if found is not None or attribute_names.is_structured(headers):
        if not isinstance(found, dict):
            raise RejectedError("data: should be a CloudEvent in JSON, an object")
        if wrong := next(attribute_names.contradictions(headers, found), None):
            raise RejectedError(wrong)
        headers["content-type"] = attribute_names.STRUCTURED
    elif any(name.startswith("ce-") for name in headers):
        found = {k.removeprefix("ce-"): v for k, v in headers.items() if k.startswith("ce-")}
    else:
        return REQUESTED, parse_json(received.data)
    _check_event(found)
    body = received.data.removeprefix(codecs.BOM_UTF8)
    try:
        event = from_http(headers, body, data_unmarshaller=lambda value: value)
    except (GenericException, ValueError, TypeError, KeyError, RecursionError) as error:
        raise RejectedError(f"CloudEvent: cannot be read: {error}") from error
    # In structured mode the package hands `data` over as JSON text again.
    data = event.data.encode() if isinstance(event.data, str) else event.data
    return event["type"], parse_json(data)


def _check_event(found: Mapping[str, Any]) -> None:
    """Hold an event's attributes to CloudEvents 1.0.

    Raises:
        RejectedError: naming the first that is missing or wrong.
    """
    for name in attribute_names.REQUIRED:
        if not isinstance(found.get(name), str) or not found[name]:
            raise RejectedError(f"ce-{name}: is required, a string")
    if "data" in found and "data_base64" in found:
        raise RejectedError("data and data_base64: give one of them, not both")
    if (version := found["specversion"]) != SPEC_VERSION:
        raise RejectedError(
            f"ce-specversion: {version[:20]!r} is not supported; send {SPEC_VERSION}"
        )
    if not _SOURCE.fullmatch(found["source"]):
        raise RejectedError(
            f"ce-source: must be a URI reference of at most {MAX_ATTRIBUTE_BYTES} characters,"
            " without blanks and control characters"
        )


def parse_json(data: bytes | None, *, field: str = "data") -> Any:
    """Parse strictly: one UTF-8 document, no field twice, no NaN, no half of a character.

    ``field`` is what a refusal names. A byte order mark, as editors on Windows write it, is
    passed over.
    """

    def no_constant(name: str) -> Any:
        raise RejectedError(f"{field}: {name} is not JSON")

    data = (data or b"").removeprefix(codecs.BOM_UTF8)
    if not data:
        raise RejectedError(f"{field}: is empty; expected a JSON object")
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise RejectedError(f"{field}: is UTF-16; JSON is sent as UTF-8")
    try:
        found = json.loads(
            data.decode(), object_pairs_hook=_no_field_twice, parse_constant=no_constant
        )
        # JSON can escape one half of a surrogate pair; no store and no topic would take it.
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        raise RejectedError(
            f"{field}: is not UTF-8: {error.reason} at byte {error.start}"
        ) from error
    except UnicodeEncodeError as error:
        raise RejectedError(f"{field}: holds half of a surrogate pair") from error
    except json.JSONDecodeError as error:
        raise RejectedError(
            f"{field}: is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from error
    except RecursionError as error:
        raise RejectedError(f"{field}: is nested too deeply") from error
    except ValueError as error:  # Python reads no more
        raise RejectedError(f"{field}: has a number of more than 4,300 digits") from error
    return found


def _no_field_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            # It may hold half of a surrogate pair, which no reply could.
            shown = name[:80].encode(errors="replace").decode()
            raise RejectedError(f"{shown}: is given twice")
        found[name] = value
    return found


def rfc3339(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def cut(text: str, most_bytes: int = MAX_ATTRIBUTE_BYTES) -> str:
    """Fit an attribute's value into Pub/Sub's limit, at a whole character."""
    return text.encode(errors="replace")[:most_bytes].decode(errors="ignore")
