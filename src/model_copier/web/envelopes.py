"""The envelope that Pub/Sub puts around a message it pushes; Eventarc uses the same.

https://cloud.google.com/pubsub/docs/push#receive_push
What must not break: no body whatever makes this fail, and nothing of it is lost.
"""

import base64
import json
from collections.abc import Mapping
from typing import Any, TypeGuard

from model_copier.messages import (
    MAX_ATTRIBUTE_BYTES,
    MAX_ATTRIBUTE_NAME_BYTES,
    MAX_ATTRIBUTES,
    Received,
)


def open_envelope(body: bytes | bytearray) -> Received:
    """Take the message out. What cannot be taken out is kept whole, with what is wrong."""
    try:
        envelope = json.loads(body)
    except (ValueError, RecursionError):
        return _unreadable(body, "is not JSON")
    message = envelope.get("message") if isinstance(envelope, dict) else None
    if not isinstance(message, dict):
        return _unreadable(body, "has no object `message`")
    message_id = message.get("messageId") or message.get("message_id") or ""
    attributes = _or_if_null(message.get("attributes"), {})
    if not _is_text(message_id, MAX_ATTRIBUTE_BYTES) or not _are_attributes(attributes):
        return _unreadable(
            body,
            "has a `messageId` or `attributes` that are not strings within Pub/Sub's limits",
            attributes=_naming(attributes),
            message_id=message_id if _is_text(message_id, MAX_ATTRIBUTE_BYTES) else "",
        )
    try:
        data = base64.b64decode(_or_if_null(message.get("data"), ""), validate=True)
    except (ValueError, TypeError):
        return _unreadable(
            body, "has `data` that is not base64", attributes=attributes, message_id=message_id
        )
    return Received(
        data=data,
        attributes=attributes,
        message_id=message_id,
        delivery_attempt=_count(envelope.get("deliveryAttempt")),
        published_at=_or_empty(message.get("publishTime") or message.get("publish_time")),
    )


def _unreadable(
    body: bytes | bytearray,
    what: str,
    *,
    attributes: Mapping[str, str] | None = None,
    message_id: str = "",
) -> Received:
    """Keep the whole body: what is wrong with it may be in any part."""
    return Received(
        data=bytes(body), attributes=attributes or {}, message_id=message_id, unreadable=what
    )


def _or_if_null(value: Any, default: Any) -> Any:
    """JSON of a protobuf may write a field that is not there as null."""
    return default if value is None else value


def _or_empty(value: object) -> str:
    return value if isinstance(value, str) else ""


def _are_attributes(found: object) -> TypeGuard[dict[str, str]]:
    """Tell attributes that Pub/Sub could have sent, and so would take in a letter.

    Its own marks on what it forwarded come on top of those that a sender may give.
    """
    return (
        isinstance(found, dict)
        and sum(not name.startswith("CloudPubSub") for name in found) <= MAX_ATTRIBUTES
        and all(
            name
            and _is_text(name, MAX_ATTRIBUTE_NAME_BYTES)
            and _is_text(value, MAX_ATTRIBUTE_BYTES)
            for name, value in found.items()
        )
    )


def _naming(attributes: object) -> dict[str, str]:
    """Take what names the sender out of attributes that are broken elsewhere."""
    found = attributes if isinstance(attributes, dict) else {}
    return {
        name: found[name]
        for name in ("ce-id", "ce-source", "reply_tag")
        if _is_text(found.get(name), MAX_ATTRIBUTE_BYTES)
    }


def _is_text(value: object, most_bytes: int) -> TypeGuard[str]:
    try:
        return isinstance(value, str) and len(value.encode()) <= most_bytes
    except UnicodeEncodeError:  # JSON can escape one half of a surrogate pair
        return False


def _count(value: Any) -> int:
    return value if isinstance(value, int) else 0
