"""What a replay of a letter publishes, or why it publishes nothing.

Pure. The one fact that must not break: a letter published any number of times is applied once.
So a replay names the outcome that it is of, and a request that came without a name, which the
copier would take for a new one each time, is given one that is always the same.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from model_copy_publisher import rows
from model_copy_publisher.errors import InvalidRequestError
from model_copy_publisher.letters import (
    OWN_ATTRIBUTES,
    REPLAYS,
    Letter,
    Origin,
    digest_of,
    event_attributes,
    parse_object,
)
from model_copy_publisher.messages import DEFAULT_SOURCE, REQUEST_TYPE, CopyRequest
from model_copy_publisher.request_schema import check_value

MAX_REPLAYS = 3
# Pub/Sub's limits for a publish call and a message's attributes.
MAX_BYTES = 10_000_000
MAX_ATTRIBUTES = 100
_FRAME_BYTES = 1024
# Known by message ids that are gone: the letter's own name them from here on.
NAMELESS_SOURCE = "//model-copier/dead-letters"

_IDENTITY = frozenset({"request_id", "request_source", "reply_tag"})
CONTENT = tuple(name for name in rows.FIELDS if name not in _IDENTITY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A message for the request topic, and the letter that it is of."""

    letter: Letter
    data: bytes = field(repr=False)
    attributes: Mapping[str, str]
    request_id: str
    request_source: str
    digest: str | None
    repaired: bool

    @property
    def size(self) -> int:
        """How much of a publish call it takes, in bytes."""
        return size_of(self.data, self.attributes)

    def to_json(self) -> dict[str, Any]:
        """Return what would be sent, for programs."""
        return {
            "message_id": self.letter.message_id,
            "request_id": self.request_id,
            "request_source": self.request_source,
            "repaired": self.repaired,
            "attributes": dict(self.attributes),
            "data": self.data.decode(errors="replace"),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """A letter that stays where it is, and why."""

    letter: Letter
    reason: str


@dataclass(frozen=True, slots=True)
class Changes:
    """Fields to be set before a letter is sent; None takes the field away."""

    fields: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, texts: Iterable[str]) -> "Changes":
        """Read ``field=value``; without a value the field is taken away.

        Raises:
            InvalidRequestError: there is no such field, or it cannot have that value.
        """
        fields: dict[str, Any] = {}
        for text in texts:
            name, equals, value = text.partition("=")
            if not equals or not name:
                raise InvalidRequestError("set", f"{text!r} is not field=value")
            if name in fields:
                raise InvalidRequestError("set", f"{name} is given twice")
            if not value:
                fields[name] = None  # also a field that nobody knows: that may be what is wrong
            elif name in CONTENT:
                fields[name] = _value_of(name, value)
            else:
                raise InvalidRequestError(
                    "set", f"{name} is not a field of a request; fields are {', '.join(CONTENT)}"
                )
        return cls(fields)

    def of(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """Return the content with the changes made."""
        changed = {**content, **self.fields}
        return {name: value for name, value in changed.items() if value is not None}


def _value_of(name: str, text: str) -> Any:
    try:
        value = rows.from_text(name, text)
    except ValueError as error:
        raise InvalidRequestError(name, str(error)) from error
    check_value(name, value)
    if name == "validate_only" and value:
        raise InvalidRequestError(
            name,
            "a dry run makes no copy, and its dead letter would be gone; use --dry-run to see"
            " what would be sent, or model-copy publish --validate-only",
        )
    return value


def plan(
    letter: Letter, *, changes: Changes | None = None, max_replays: int = MAX_REPLAYS
) -> Replay | Left:
    """Decide about one letter, from what it says alone."""
    reason = _why_left(letter, max_replays)
    if reason:
        return Left(letter=letter, reason=reason)
    content, data = letter.content or {}, letter.data
    if changes is not None and changes.fields:
        if not letter.is_copy_request:
            return Left(letter=letter, reason=f"a {letter.event_type} has no content to set")
        try:
            content = checked(changes.of(content))
            data = _written(letter, content)
        except InvalidRequestError as error:
            return Left(letter=letter, reason=str(error))
    identity = _identity(letter)
    repaired = data != letter.data
    attributes = _attributes(letter, repaired=repaired) | identity
    if len(attributes) > MAX_ATTRIBUTES:
        return Left(letter=letter, reason=f"it would have {len(attributes)} attributes, over 100")
    if size_of(data, attributes) > MAX_BYTES - _FRAME_BYTES:
        return Left(letter=letter, reason="it is too large to be published")
    return Replay(
        letter=letter,
        data=data,
        attributes=attributes,
        request_id=identity.get("ce-id", letter.request_id or ""),
        request_source=identity.get("ce-source", letter.request_source or DEFAULT_SOURCE),
        digest=digest_of(content),
        repaired=repaired,
    )


def checked(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content if a request may have it.

    Raises:
        InvalidRequestError: it breaks the contract.
    """
    values: dict[str, Any] = {}
    for name, value in content.items():
        if name not in CONTENT:
            raise InvalidRequestError(name, f"not a field of a request; --set {name}= removes it")
        if value is None:
            continue
        values[name] = value
    if "source_model_id" not in values:
        raise InvalidRequestError("source_model_id", "is missing")
    return parse_object(CopyRequest(**values).body)


def size_of(data: bytes, attributes: Mapping[str, str]) -> int:
    """Return about how much of a publish call a message takes, in bytes."""
    frames = 12 * (len(attributes) + 1)
    return (
        len(data) + sum(len(k.encode()) + len(v.encode()) for k, v in attributes.items()) + frames
    )


def _why_left(letter: Letter, max_replays: int) -> str:
    if letter.origin is Origin.STRANGER:
        return "it was not written by the copier"
    if letter.newer_version:
        return f"{letter.newer_version} is newer than this model-copy: upgrade it"
    if not _is_text(f"{letter.request_source}{letter.request_id}"):
        return "it would be rejected again: its id or source holds half of a surrogate pair"
    if letter.content is None:
        return f"it would be rejected again: {letter.unreadable}"
    if letter.replays >= max_replays:
        return f"it was replayed {letter.replays} times; --max-replays allows {max_replays}"
    return ""


def _attributes(letter: Letter, *, repaired: bool) -> dict[str, str]:
    kept = {
        name: value
        for name, value in letter.attributes.items()
        if name.lower() not in OWN_ATTRIBUTES
        and not name.startswith(("dead_letter_", "CloudPubSub", "goog"))
    }
    if letter.outcome_id:
        # A replay that was rejected ended no run: the run that it is of still awaits one.
        first = letter.attributes.get("replay_of") if letter.was_rejected else None
        kept["replay_of"] = first or letter.outcome_id
    elif letter.origin is Origin.COPIER:
        # Of an earlier replay, whose outcome is no longer the present one.
        kept.pop("replay_of", None)
    elif repaired and letter.given_up_as:
        # As it was it may come again; with other content it must say what that is to replace.
        kept.setdefault("replay_of", letter.given_up_as)
    # As ``ce-`` it does not count among the attributes that a request may have.
    return kept | {REPLAYS: str(letter.replays + 1)}


def _identity(letter: Letter) -> dict[str, str]:
    """Return what names a request that came as bare JSON; nothing for any other."""
    if letter.is_structured or any(
        name.startswith("ce-") for name in event_attributes(letter.attributes)
    ):
        return {}
    return {
        "ce-specversion": "1.0",
        "ce-id": letter.outcome_id or f"letter-{letter.message_id}",
        "ce-source": NAMELESS_SOURCE,
        "ce-type": REQUEST_TYPE,
    }


def name_for_good(letter: Letter) -> dict[str, str]:
    """Return what a letter must be given before it becomes another message.

    One of bare JSON that Pub/Sub wrote is known by its own message id alone: put back under
    another id, and perhaps twice, its replays would be other requests.
    """
    known = letter.outcome_id or letter.origin is not Origin.PUBSUB
    return {} if known else _identity(letter)


def _is_text(text: str) -> bool:
    """Tell whether it can be written: JSON can escape one half of a surrogate pair."""
    return not any("\ud800" <= each <= "\udfff" for each in text)


def _written(letter: Letter, content: Mapping[str, Any]) -> bytes:
    """Write the data anew.

    Raises:
        InvalidRequestError: the event around the content cannot be written.
    """
    if not letter.is_structured:
        return json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()
    event = parse_object(letter.data)
    event.pop("data_base64", None)
    try:
        return json.dumps(
            {**event, "data": content}, separators=(",", ":"), ensure_ascii=False
        ).encode()
    except UnicodeEncodeError as error:
        raise InvalidRequestError(
            "event", "would be rejected again: it holds half of a surrogate pair"
        ) from error


def in_lots(
    replays: Sequence[Replay], *, most: int, max_bytes: int = MAX_BYTES // 2
) -> Iterable[list[Replay]]:
    """Part into what one publish call can take; one that is large goes alone."""
    lot: list[Replay] = []
    size = 0
    for replay in replays:
        if lot and (len(lot) == most or size + replay.size > max_bytes):
            yield lot
            lot, size = [], 0
        lot.append(replay)
        size += replay.size
    if lot:
        yield lot
