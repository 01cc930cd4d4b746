"""REST for callers that have only ``curl`` or ``requests``: the same engine as Pub/Sub.

``POST /v1/models/copy`` stores the job and waits for its outcome; the caller hanging up,
or this process dying, does not stop the copy. Errors are problem details (RFC 9457).
Who may call is decided in front of this service, by Cloud Run's IAM.
"""

import asyncio
import re
import time
from dataclasses import dataclass
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from model_copier import messages, replies
from model_copier.deliveries import Deliveries
from model_copier.errors import Code, RejectedError, UnavailableError
from model_copier.job import Job, State
from model_copier.logs import log
from model_copier.messages import REQUESTED, Asked, Identity, Received
from model_copier.web.bodies import read_body
from model_copier.web.problems import problem

MAX_BODY_BYTES = 128 * 1024  # a request's data has at most half of that
# Callers have no names of their own here; their keys share one namespace.
SOURCE = "//model-copier/rest"
_PREFER = re.compile(r"(?:^|[,;\s])(?P<name>respond-async|wait=(?P<seconds>\d+))(?=$|[,;\s])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """The api's endpoints."""

    deliveries: Deliveries
    wait_seconds: float  # longest that a call waits for an outcome

    def routes(self) -> list[Route]:
        return [
            Route("/v1/models/copy", self.copy, methods=["POST"]),
            Route("/v1/copies/{request_id}", self.show, methods=["GET"]),
            Route("/health", _health, methods=["GET"]),
        ]

    async def copy(self, request: Request) -> Response:
        started = time.monotonic()
        request_id = request.headers.get("idempotency-key") or uuid4().hex
        identity = Identity(source=SOURCE, request_id=request_id)
        received = await _received(request, identity)
        asked = self.deliveries.contract.read(received)
        assert isinstance(asked, Asked)
        if asked.copy.validate_only:
            planned = await self.deliveries.validate(asked.copy)
            reply = replies.validated_of(asked, planned)
            return JSONResponse(reply.model_dump(mode="json", exclude_none=True))
        told = await self.deliveries.accept(received)
        if told.verdict == "conflict":
            return problem(told.reason, code=Code.ALREADY_EXISTS)
        job = await self._ended(identity.key, _wait(request, self.wait_seconds))
        seconds = round(time.monotonic() - started, 3)
        log("copy", request_id=request_id, state=job.state, seconds=seconds)
        return _answer(job)

    async def show(self, request: Request) -> Response:
        identity = Identity(source=SOURCE, request_id=request.path_params["request_id"])
        job = await self.deliveries.workflow.store.get(identity.key)
        if job is None:
            detail = f"no copy with the id {identity.request_id!r} was asked for here"
            return problem(detail, code=Code.NOT_FOUND)
        return JSONResponse(_view(job))

    async def _ended(self, key: str, seconds: float) -> Job:
        """Wait for the job's end; the worker moves it on. Past ``seconds``: as it is then."""
        until = time.monotonic() + seconds
        pause = 0.1
        while True:
            job = await self.deliveries.workflow.store.get(key)
            if job is None:
                raise UnavailableError("the job is gone from the store")
            left = until - time.monotonic()
            if job.state.final or left <= 0:
                return job
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 1.5, 1.0)


async def _health(_request: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _received(request: Request, identity: Identity) -> Received:
    """Turn a call into the message that asks for the same, so that its letter can be replayed."""
    data: object = dict(request.query_params)
    body = await read_body(request, MAX_BODY_BYTES)
    if body:
        if data:
            raise RejectedError("give the fields as query parameters or as JSON, not as both")
        data = messages.parse_json(body)
    return Received(
        data=messages.canonical(data),
        attributes={
            "ce-specversion": "1.0",
            "ce-id": identity.request_id,
            "ce-source": identity.source,
            "ce-type": REQUESTED,
            "content-type": "application/json",
        },
        message_id="",
    )


def _wait(request: Request, most: float) -> float:
    """How long the caller wants to wait (RFC 7240), within our limit."""
    for found in _PREFER.finditer(request.headers.get("prefer", "")):
        if found["name"] == "respond-async":
            return 0
        return min(float(found["seconds"]), most)
    return most


def _answer(job: Job) -> Response:
    view = _view(job)
    if job.state is State.SUCCEEDED:
        return JSONResponse({"status": "success", **view})
    if job.failure is not None:
        return problem(job.failure.in_words, code=job.failure.code, copy=view)
    if job.state is State.CANCELLED:
        return problem(
            "the copy was cancelled: a caller asked for it", code=Code.CANCELLED, copy=view
        )
    location = f"/v1/copies/{job.request_id}"
    return JSONResponse(
        {"status": "pending", **view},
        status_code=202,
        headers={"Location": location, "Retry-After": "5"},
    )


def _view(job: Job) -> dict[str, object]:
    """How the copy stands; once it has ended, all that its reply tells."""
    reply = replies.outcome_of(job) if job.state.final else replies.known_of(job)
    return reply.model_dump(mode="json", exclude_none=True) | {
        "state": job.state,
        "done": job.state.final,
    }
