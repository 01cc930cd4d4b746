"""Pub/Sub push in, a status out: 2xx acknowledges, 503 asks for another delivery.

A message that cannot be read is acknowledged too, once it lies in the dead-letter topic
with its reason: delivering it again would not mend it.
"""

import time
import traceback

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from model_copier import failures
from model_copier.deliveries import Accepted, Deliveries
from model_copier.errors import CopierError
from model_copier.letters import can_be_kept
from model_copier.logs import log
from model_copier.messages import MAX_MESSAGE_BYTES, Received
from model_copier.web.bodies import read_body
from model_copier.web.envelopes import open_envelope

# Pub/Sub's 10 MB in base64, with its attributes and the envelope.
MAX_BODY_BYTES = 16 * 1024 * 1024
# By then it is no accident: what meets a bug again is kept in a letter of ours, which says why.
BURY_FROM_ATTEMPT = 5


def routes(deliveries: Deliveries, *, follow_seconds: float) -> list[Route]:
    """The worker's routes. Eventarc posts to ``/`` unless told otherwise."""

    async def take_request(request: Request) -> Response:
        started = time.monotonic()
        received = open_envelope(await read_body(request, MAX_BODY_BYTES))
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
        received = open_envelope(await read_body(request, MAX_BODY_BYTES))
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
