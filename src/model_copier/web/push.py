"""Pub/Sub push in, a status out: 2xx acknowledges, 503 asks for another delivery.

A message that cannot be read is acknowledged too, once it lies in the dead-letter topic
with its reason: delivering it again would not mend it.
"""

import asyncio
import time
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from model_copier.contract.dead_letters import can_be_kept
from model_copier.contract.requests import MAX_MESSAGE_BYTES, Received
from model_copier.contract.tick import Ended, Look, Nothing, read_tick
from model_copier.domain import failure_messages
from model_copier.domain.errors import CopierError
from model_copier.engine.request_handler import HandlingResult, RequestHandler
from model_copier.engine.scheduler import Scheduler
from model_copier.logs import log
from model_copier.web.body_limits import SMALL_BODY, read_body
from model_copier.web.call_context import call_of
from model_copier.web.push_envelope import NO_METADATA, open_push

# Pub/Sub's 10 MB in base64, with its attributes and the envelope.
MAX_BODY_BYTES = 16 * 1024 * 1024
LARGE_AT_ONCE = 2
# By then it is no accident: what meets a bug again is kept in a letter of ours, which says why.
BURY_FROM_ATTEMPT = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """The worker's endpoints. Eventarc posts to ``/`` unless told otherwise."""

    deliveries: RequestHandler
    ticks: Scheduler
    follow_seconds: float
    large: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(LARGE_AT_ONCE))

    def routes(self) -> list[Route]:
        return [
            Route("/", self.take_request, methods=["POST"]),
            Route("/pubsub/requests", self.take_request, methods=["POST"]),
            Route("/pubsub/dead-letters", self.take_forwarded, methods=["POST"]),
            Route("/pubsub/ticks", self.take_tick, methods=["POST"]),
        ]

    async def take_request(self, request: Request) -> Response:
        started = time.monotonic()
        async with self._received(request) as received:
            _tell(started, received, await self._accept(received))
        return Response(status_code=204)

    async def _accept(self, received: Received) -> HandlingResult:
        if not can_be_kept(received.original):
            # Not from Pub/Sub, whose messages a letter can always hold.
            raise HTTPException(413, f"a message has at most {MAX_MESSAGE_BYTES} bytes")
        try:
            return await self.deliveries.accept(received)
        except CopierError:
            raise
        except Exception as error:
            if received.delivery_attempt < BURY_FROM_ATTEMPT:
                raise
            # Error Reporting finds a trace by this name, and by no other beside a message.
            log("bug", severity="ERROR", stack_trace=traceback.format_exc())
            return await self.deliveries.reject(
                received, failure_messages.bug(error), may_pass=True
            )

    async def take_forwarded(self, request: Request) -> Response:
        started = time.monotonic()
        async with self._received(request) as received:
            _tell(started, received, await self.deliveries.accept_forwarded(received))
        return Response(status_code=204)

    async def take_tick(self, request: Request) -> Response:
        started = time.monotonic()
        # Whose it is does not matter here: a tick without metadata is a tick.
        async with self._received(request, nameless=True) as received:
            said = read_tick(received.data)
        match said:
            case Nothing():
                return Response(status_code=204)
            case Ended(operation=ended):
                # Nothing is followed: copies end here that nobody asked the copier for.
                advanced = await self.ticks.nudge(ended) + await self.ticks.take(0)
            case Look():
                ended = ""
                advanced = await self.ticks.take(self.follow_seconds)
        seconds = round(time.monotonic() - started, 3)
        behind = round(self.ticks.behind_seconds)
        log("tick", advanced=advanced, ended=ended, behind=behind, seconds=seconds)
        return Response(status_code=204)

    @asynccontextmanager
    async def _received(
        self, request: Request, *, nameless: bool = False
    ) -> AsyncIterator[Received]:
        """Read a delivery. Only a few large ones are worked on at once: each is copied several
        times on its way into a letter.

        ``nameless``: what has lost its identity on the way will do too.

        Raises:
            HTTPException: 400: its identity was lost, so Pub/Sub is to keep the message.
        """
        body = await read_body(request, MAX_BODY_BYTES)
        gate = self.large if len(body) > SMALL_BODY else nullcontext()
        async with gate:
            received = open_push(request.scope["headers"], body)
            if received is None and nameless:
                received = Received(data=bytes(body), attributes={}, message_id="")
            del body
            if received is None:
                path, call_id = request.scope["path"][:200], call_of(request).id
                log("unwrapped", severity="ERROR", path=path, request_id=call_id, why=NO_METADATA)
                raise HTTPException(400, f"push: {NO_METADATA}")
            yield received


def _tell(started: float, received: Received, told: HandlingResult) -> None:
    """One line for each delivery, with its whole story."""
    log(
        "delivery",
        verdict=told.verdict,
        request_id=told.request_id,
        request_source=told.request_source,
        asked_by=told.asked_by,
        replayed_by=told.replayed_by,
        key=told.key,
        reason=told.reason,
        message_id=received.message_id,
        delivery_attempt=received.delivery_attempt,
        seconds=round(time.monotonic() - started, 3),
    )
