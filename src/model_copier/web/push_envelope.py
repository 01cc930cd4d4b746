"""What Pub/Sub pushes: a message in its envelope, or unwrapped, with its attributes as headers.

https://cloud.google.com/pubsub/docs/push#receive_push (Eventarc uses the same envelope)
https://cloud.google.com/pubsub/docs/payload-unwrapping
What must not break: no body whatever makes this fail, and nothing of it is lost. What comes
without envelope and without metadata has lost its identity on the way: see ADR 0026.
"""

import base64
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

from model_copier.contract.requests import (
    MAX_ATTRIBUTE_BYTES,
    MAX_ATTRIBUTE_NAME_BYTES,
    MAX_ATTRIBUTES,
    Received,
)

# Why a push is refused that is neither; Pub/Sub keeps the message and delivers it again.
NO_METADATA = (
    "this is no envelope of Pub/Sub, and has no metadata: an unwrapped subscription needs"
    " write_metadata (gcloud pubsub subscriptions update SUBSCRIPTION --push-endpoint=ENDPOINT"
    " --push-no-wrapper --push-no-wrapper-write-metadata), or --clear-push-no-wrapper-config"
)
_MESSAGE_ID = "x-goog-pubsub-message-id"
_ATTEMPT = "x-goog-pubsub-delivery-attempt"
_PUBLISHED_AT = "x-goog-pubsub-publish-time"
# Headers of HTTP and of what lies between; the others of an unwrapped push are attributes.
_NOT_ATTRIBUTES = frozenset(
    {
        *("accept", "accept-charset", "accept-encoding", "accept-language", "authorization"),
        *("cache-control", "connection", "content-encoding", "content-length", "cookie", "date"),
        *("expect", "forwarded", "from", "function-execution-id", "host", "keep-alive", "origin"),
        *("pragma", "referer", "te", "traceparent", "tracestate", "trailer", "transfer-encoding"),
        *("upgrade", "user-agent", "via", "x-request-id"),
    }
)
_NOT_ATTRIBUTES_FROM = (
    *("x-goog-", "x-forwarded-", "x-cloud-trace-", "x-serverless-", "x-appengine-", "sec-"),
)
# Headers have no case; these attributes do.
_IN_THEIR_CASE = {
    name.lower(): name
    for name in (
        "CloudPubSubDeadLetterSourceDeliveryCount",
        "CloudPubSubDeadLetterSourceDeliveryErrorMessage",
        "CloudPubSubDeadLetterSourceSubscription",
        "CloudPubSubDeadLetterSourceSubscriptionProject",
        "CloudPubSubDeadLetterSourceTopicPublishTime",
    )
}


def open_push(headers: Iterable[tuple[bytes, bytes]], body: bytes | bytearray) -> Received | None:
    """Take the message out of its envelope, or out of headers and body of an unwrapped push.

    What cannot be taken out is kept whole, with what is wrong. None: it is neither of them, and
    nobody could tell whose it is.
    """
    named = _named(headers)
    if _MESSAGE_ID in named:
        return _unwrapped(named, body)
    try:
        envelope = json.loads(body)
    except (ValueError, RecursionError):
        envelope = None
    message = envelope.get("message") if isinstance(envelope, dict) else None
    if isinstance(message, dict):
        return _of_envelope(envelope, message, body)
    is_event = "ce-id" in named or named.get("content-type", "").startswith(_STRUCTURED)
    return _unwrapped(named, body) if is_event else None


def _named(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return headers by name; one that comes twice has both values, and so is refused."""
    found: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name = raw_name.decode("latin-1").lower()
        try:
            value = raw_value.decode()
        except UnicodeDecodeError:
            value = raw_value.decode("latin-1")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _unwrapped(named: Mapping[str, str], body: bytes | bytearray) -> Received:
    attributes = {
        _IN_THEIR_CASE.get(name, name): value
        for name, value in named.items()
        if name not in _NOT_ATTRIBUTES and not name.startswith(_NOT_ATTRIBUTES_FROM)
    }
    if attributes.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        del attributes["content-type"]  # what is sent where the message says nothing
    message_id = named.get(_MESSAGE_ID, "")
    if not _is_text(message_id, MAX_ATTRIBUTE_BYTES) or not _are_attributes(attributes):
        return _unreadable(
            body,
            "has headers that are not within Pub/Sub's limits for attributes",
            attributes=_naming(attributes),
            message_id=message_id if _is_text(message_id, MAX_ATTRIBUTE_BYTES) else "",
        )
    attempt = named.get(_ATTEMPT, "")
    return Received(
        data=bytes(body),
        attributes=attributes,
        message_id=message_id,
        delivery_attempt=int(attempt) if re.fullmatch("[0-9]{1,9}", attempt, re.ASCII) else 0,
        published_at=named.get(_PUBLISHED_AT, ""),
    )


def _of_envelope(
    envelope: dict[str, Any], message: dict[str, Any], body: bytes | bytearray
) -> Received:
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


_STRUCTURED = "application/cloudevents"


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
