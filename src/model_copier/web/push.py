"""Pub/Sub push in, a status out: 2xx acknowledges, 503 asks for another delivery.

A message that cannot be read is acknowledged too, once it lies in the dead-letter topic
with its reason: delivering it again would not mend it.
"""

import base64
import json
import time
import traceback
from collections.abc import Mapping
from typing import Any, TypeGuard

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from model_copier import failures
from model_copier.deliveries import Accepted, Deliveries
from model_copier.errors import CopierError
from model_copier.letters import can_be_kept
from model_copier.logs import log
from model_copier.messages import (
    MAX_ATTRIBUTE_BYTES,
    MAX_ATTRIBUTE_NAME_BYTES,
    MAX_ATTRIBUTES,
    MAX_MESSAGE_BYTES,
    Received,
)
from model_copier.web.bodies import read_body

# Pub/Sub's 10 MB in base64, with its attributes and the envelope.
MAX_BODY_BYTES = 16 * 1024 * 1024
# By then it is no accident: what meets a bug again is kept in a letter of ours, which says why.
BURY_FROM_ATTEMPT = 5


def routes(deliveries: Deliveries, *, follow_seconds: float) -> list[Route]:
    """The worker's routes. Eventarc posts to ``/`` unless told otherwise."""

    async def take_request(request: Request) -> Response:
        started = time.monotonic()
        received = await _received(request)
        if not can_be_kept(received.original):
            # Not from Pub/Sub, whose messages a letter can always hold.
            raise HTTPException(413, f"a message has at most {MAX_MESSAGE_BYTES} bytes")
        try:
            told = await deliveries.accept(received)
        except CopierError:
            raise
        except Exception as error:
            if received.delivery_attempt < BURY_FROM_ATTEMPT:
                raise
            log("bug", severity="ERROR", traceback=traceback.format_exc())
            told = await deliveries.reject(received, failures.bug(error))
        _tell(started, received, told)
        return Response(status_code=204)

    async def take_forwarded(request: Request) -> Response:
        started = time.monotonic()
        received = await _received(request)
        _tell(started, received, await deliveries.accept_forwarded(received))
        return Response(status_code=204)

    async def take_tick(request: Request) -> Response:
        # Read, but not looked at: a tick says "look", not what for.
        await read_body(request, MAX_BODY_BYTES)
        started = time.monotonic()
        advanced = await deliveries.workflow.tick(follow_seconds)
        log("tick", advanced=advanced, seconds=round(time.monotonic() - started, 3))
        return Response(status_code=204)

    return [
        Route("/", take_request, methods=["POST"]),
        Route("/pubsub/requests", take_request, methods=["POST"]),
        Route("/pubsub/dead-letters", take_forwarded, methods=["POST"]),
        Route("/pubsub/ticks", take_tick, methods=["POST"]),
    ]


def _tell(started: float, received: Received, told: Accepted) -> None:
    """One line for each delivery, with its whole story."""
    log(
        "delivery",
        verdict=told.verdict,
        request_id=told.request_id,
        key=told.key,
        reason=told.reason,
        message_id=received.message_id,
        delivery_attempt=received.delivery_attempt,
        seconds=round(time.monotonic() - started, 3),
    )


async def _received(request: Request) -> Received:
    """Unwrap a push, or Eventarc's form of one: the envelope is the same."""
    body = await read_body(request, MAX_BODY_BYTES)
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
    )


def _unreadable(
    body: bytes, what: str, *, attributes: Mapping[str, str] | None = None, message_id: str = ""
) -> Received:
    """Keep the whole body: what is wrong with it may be in any part."""
    return Received(data=body, attributes=attributes or {}, message_id=message_id, unreadable=what)


def _or_if_null(value: Any, default: Any) -> Any:
    """JSON of a protobuf may write a field that is not there as null."""
    return default if value is None else value


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
