"""REST for callers that have only ``curl`` or ``requests``: the same engine as Pub/Sub.

``POST /v1/models/copy`` stores the job and waits for its outcome; the caller hanging up,
or this process dying, does not stop the copy. Errors are problem details (RFC 9457).
What must not break: a caller sees and touches what they asked for themselves, nothing else.
"""

import asyncio
import time
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass, replace

from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from model_copier.contract import replies, requests
from model_copier.contract.request_schema import check_copy_data
from model_copier.contract.requests import REQUESTED, Asked, Identity, Received
from model_copier.domain.errors import Code, RejectedError, UnavailableError
from model_copier.domain.job import Job, State
from model_copier.domain.resource_names import ModelName
from model_copier.domain.senders import rest_sender
from model_copier.engine.outcome_waiter import OutcomeWaiter
from model_copier.engine.ports import Wanted
from model_copier.engine.request_handler import Disposition, RequestHandler
from model_copier.logs import log
from model_copier.web.call_context import Call, call_of
from model_copier.web.error_responses import key_used, problem
from model_copier.web.health import Readiness, wrong_with
from model_copier.web.params import (
    ID_PATTERN,
    NOTHING,
    Listing,
    fields_of,
    idempotency_key,
    preferred,
    wait_of,
    without_body,
)
from model_copier.web.schemas import copy_of, page_token

RETRY_SECONDS = 5


class _IdConvertor(Convertor[str]):
    """Ids have no colon, so `ID:cancel` is no id."""

    regex = ID_PATTERN

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("copy_id", _IdConvertor())


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """The api's endpoints."""

    deliveries: RequestHandler
    watch: OutcomeWaiter
    readiness: Readiness
    wait_seconds: float  # longest that a call waits for an outcome

    def routes(self) -> list[Route]:
        return [
            Route("/v1/models/copy", self.copy, methods=["POST"]),
            Route("/v1/copies", self.list, methods=["GET"]),
            Route("/v1/copies/{id:copy_id}", self.show, methods=["GET"]),
            Route("/v1/copies/{id:copy_id}:cancel", self.cancel, methods=["POST"]),
            Route("/v1/copies/{id:copy_id}:replay", self.replay, methods=["POST"]),
            health_route(),
            Route("/ready", self.ready, methods=["GET"]),
        ]

    async def copy(self, request: Request) -> Response:
        started, call = time.monotonic(), call_of(request)
        self.deliveries.load.take_request(_source(call))
        identity = Identity(source=_source(call), request_id=idempotency_key(request) or call.id)
        data = await fields_of(request, from_query=True)
        data = {} if data is NOTHING else data
        check_copy_data(data)  # before it is written anew, which would refuse it in other words
        received = _received(identity, call, requests.canonical(data))
        asked = self._read(received, call)
        if asked.copy.validate_only:
            planned = await self.deliveries.validate(asked.copy)
            return _json(replies.validated_of(asked, planned))
        if (stored := await self._conflict(asked)) is not None:
            return key_used(stored, request_id=call.id)
        told = await self.deliveries.accept(received, waits_for_it=True)
        if told.verdict is Disposition.CONFLICT:
            return key_used(told.reason, request_id=call.id)
        waiting = preferred(request, self.wait_seconds)
        looking = self._ended(request, identity.key, waiting.seconds)
        job = await _as_far_as_known(looking, call)
        seconds = round(time.monotonic() - started, 3)
        log("copy", verdict=told.verdict, request_id=call.id, copy=identity.request_id,
            requested_by=call.account, state=job and job.state, seconds=seconds)  # fmt: skip
        answer = _answer(job, call) if job else _taken(identity)
        if waiting.applied:
            answer.headers["Preference-Applied"] = waiting.applied
        return answer

    async def list(self, request: Request) -> Response:
        await without_body(request)
        listing = Listing.read(request, _source(call_of(request)))
        wanted = self._spelled(listing.wanted)
        # One more than shown tells whether there is a next page.
        found = await self.deliveries.workflow.store.find(wanted, listing.size + 1)
        shown = found[: listing.size]
        token = page_token(shown[-1], listing.query) if len(found) > len(shown) else ""
        return JSONResponse({"copies": [copy_of(job) for job in shown], "next_page_token": token})

    def _spelled(self, wanted: Wanted) -> Wanted:
        """Jobs are stored with the ids of projects, however they are asked for."""
        numbers = self.deliveries.contract.defaults.numbers
        source, target = (
            str(numbers.name(ModelName.parse(name))) if name else ""
            for name in (wanted.source, wanted.target)
        )
        return replace(wanted, source=source, target=target)

    async def show(self, request: Request) -> Response:
        await without_body(request)
        seconds = wait_of(request, self.wait_seconds)
        job = await self._ended(request, _identity(request).key, seconds)
        headers = {} if job.state.final else {"Retry-After": str(RETRY_SECONDS)}
        return JSONResponse(copy_of(job, history=True), headers=headers)

    async def cancel(self, request: Request) -> Response:
        await without_body(request)
        identity, call = _identity(request), call_of(request)
        self.deliveries.load.take_request(identity.source)
        job = await self._found(identity.key)
        if job.state.final and job.state is not State.CANCELLED:
            return problem(
                f"the copy has ended: {job.state}",
                code=Code.FAILED_PRECONDITION,
                status=409,
                request_id=call.id,
                copy=copy_of(job),
            )
        told = await self.deliveries.cancel(identity)
        log("cancel", verdict=told.verdict, request_id=call.id, copy=identity.request_id,
            caller=call.account)  # fmt: skip
        return await self._state_of(identity, call)

    async def replay(self, request: Request) -> Response:
        """Work on a failed copy once more; a body repairs its request."""
        identity, call = _identity(request), call_of(request)
        self.deliveries.load.take_request(identity.source)
        data = await fields_of(request, from_query=False)
        job = await self._found(identity.key)
        if not job.replayable:
            return problem(
                f"only a failed copy can be replayed; this one is {job.state}",
                code=Code.FAILED_PRECONDITION,
                status=409,
                request_id=call.id,
                copy=copy_of(job),
            )
        if data is not NOTHING:
            check_copy_data(data)
        content = job.original.data if data is NOTHING else requests.canonical(data)
        received = _received(identity, call, content, replay_of=job.outcome_id)
        if self._read(received, call).copy.validate_only:
            raise RejectedError("validate_only: a replay is for real")
        told = await self.deliveries.accept(received)
        log("replay", verdict=told.verdict, request_id=call.id, copy=identity.request_id,
            caller=call.account)  # fmt: skip
        if told.verdict in {Disposition.REJECTED, Disposition.CONFLICT}:
            return problem(told.reason, code=Code.FAILED_PRECONDITION, status=409,
                           request_id=call.id)  # fmt: skip
        return await self._state_of(identity, call)

    async def ready(self, request: Request) -> Response:
        found = await self.readiness.look()
        if not (wrong := wrong_with(found)):
            return JSONResponse({"status": "ready", "checks": found})
        detail = "; ".join(f"{part} {what}" for part, what in wrong.items())
        return problem(detail, code=Code.UNAVAILABLE, status=503, request_id=call_of(request).id,
                       checks=found)  # fmt: skip

    def _read(self, received: Received, call: Call) -> Asked:
        asked = self.deliveries.contract.read(received)
        assert isinstance(asked, Asked)
        refusal = call.caller and call.caller.refusal(
            source_project=asked.copy.source.project, target_project=asked.copy.target_project
        )
        if refusal:
            log("refused", severity="WARNING", status=403, request_id=call.id,
                caller=call.account, why=refusal)  # fmt: skip
            raise RejectedError(refusal, code=Code.PERMISSION_DENIED)
        return asked

    async def _conflict(self, asked: Asked) -> str | None:
        """See before it is accepted: a caller who is told needs no letter."""
        job = await self.deliveries.workflow.store.get(asked.identity.key)
        if job is None or asked.digest in job.digests:
            return None
        return "Idempotency-Key: was used for another request; take a new one"

    async def _ended(self, request: Request, key: str, seconds: float) -> Job:
        """Wait for the job's end, or until the caller hangs up; past that: as it is then.

        A caller who holds as many waits as they may is answered at once.
        """
        with self.deliveries.load.waiting(_source(call_of(request))) as may_wait:
            if seconds <= 0 or not may_wait:
                return await self._found(key)
            return await self._waited(request, key, seconds)

    async def _waited(self, request: Request, key: str, seconds: float) -> Job:
        ended = asyncio.create_task(self.watch.until_ended(key, seconds))
        gone = asyncio.create_task(_hung_up(request))
        try:
            await asyncio.wait({ended, gone}, return_when=asyncio.FIRST_COMPLETED)
            job = await ended if ended.done() else await self._found(key)
        finally:
            for task in (ended, gone):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        return _there(job)

    async def _state_of(self, identity: Identity, call: Call) -> Response:
        """Answer how a copy stands after it was moved."""
        job = await _as_far_as_known(self._found(identity.key), call)
        if job is None:
            return _taken(identity)
        view = copy_of(job)
        return JSONResponse(view) if job.state.final else _pending(view)

    async def _found(self, key: str) -> Job:
        return _there(await self.deliveries.workflow.store.get(key))


async def _as_far_as_known(looking: Awaitable[Job], call: Call) -> Job | None:
    """Look at what was taken on; None while the store is away: that makes nothing undone."""
    try:
        return await looking
    except UnavailableError as error:
        log("unavailable", severity="WARNING", request_id=call.id, why=str(error))
        return None


def _there(job: Job | None) -> Job:
    if job is None:
        raise HTTPException(404, "you have asked for no copy with this id")
    return job


async def _hung_up(request: Request) -> None:
    """Return when nobody waits for the answer any more."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def health_route() -> Route:
    """Whether the process lives; what it needs may be away, as ``/ready`` tells."""

    async def health(_request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    return Route("/health", health, methods=["GET"])


def _source(call: Call) -> str:
    return rest_sender(call.account)


def _identity(request: Request) -> Identity:
    return Identity(source=_source(call_of(request)), request_id=request.path_params["id"])


def _received(identity: Identity, call: Call, data: bytes, **more: str) -> Received:
    """Turn a call into the message that asks for the same, so that its letter can be replayed."""
    return Received(
        data=data,
        attributes={
            "ce-specversion": "1.0",
            "ce-id": identity.request_id,
            "ce-source": identity.source,
            "ce-type": REQUESTED,
            "content-type": "application/json",
            **more,
        },
        message_id="",
        requested_by=call.account,
        over_rest=True,
    )


def _answer(job: Job, call: Call) -> Response:
    """Answer as the seed does where the copy is there; where it is not, say why."""
    view = copy_of(job)
    if job.state is State.SUCCEEDED:
        return JSONResponse({"status": "success", **view})
    if job.failure is not None:
        failure = job.failure
        return problem(failure.in_words, code=failure.code, request_id=call.id, copy=view)
    if job.state is State.CANCELLED:
        return problem("the copy was cancelled: a caller asked for it", code=Code.CANCELLED,
                       request_id=call.id, copy=view)  # fmt: skip
    return _pending(view)


def _taken(identity: Identity) -> Response:
    """It was taken on; how it stands, the store cannot say now."""
    return _pending({"id": identity.request_id})


def _pending(view: dict[str, object]) -> Response:
    headers = {"Location": f"/v1/copies/{view['id']}", "Retry-After": str(RETRY_SECONDS)}
    return JSONResponse({"status": "pending", **view}, status_code=202, headers=headers)


def _json(reply: replies.Reply) -> Response:
    return JSONResponse(reply.model_dump(mode="json", exclude_none=True))
