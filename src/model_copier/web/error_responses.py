"""Errors over HTTP, in the one form of RFC 9457.

What must not break: an answer tells what the caller can use, and nothing of our inside or
of the headers that came.
"""

from collections.abc import Mapping
from http import HTTPStatus

from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ExceptionHandler

from model_copier.domain.errors import Code, LimitedError, RejectedError, UnavailableError
from model_copier.logs import log
from model_copier.web.call_context import call_of

# https://cloud.google.com/apis/design/errors#handling_errors; what is not here is 502 for a
# copy that failed, since it failed behind us.
_STATUS = {
    Code.INVALID_ARGUMENT: 400,
    Code.FAILED_PRECONDITION: 400,
    Code.OUT_OF_RANGE: 400,
    Code.UNAUTHENTICATED: 401,
    Code.PERMISSION_DENIED: 403,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.CANCELLED: 409,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.DEADLINE_EXCEEDED: 504,
}
_RETRY_AFTER = {429: "60", 503: "5"}  # a minute: Vertex AI's quotas are counted in minutes
_TYPE = "https://modelcopier.dev/problems/{}"
# What the application itself answers: kind, code, and what is wrong.
_OWN = {
    400: ("no-push", Code.INVALID_ARGUMENT, ""),
    404: ("not-found", Code.NOT_FOUND, "there is no such path; /docs tells those that are there"),
    405: ("method-not-allowed", Code.UNIMPLEMENTED, "another method is for this path: see Allow"),
    413: ("too-large", Code.INVALID_ARGUMENT, ""),
    415: ("not-json", Code.INVALID_ARGUMENT, ""),
}


class Problem(BaseModel):
    """What is answered when it is not what was asked for (RFC 9457)."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="a stable URI: the kind of problem")
    status: int = Field(description="as in the status line")
    title: str = Field(description="the status in words")
    detail: str = Field(description="what went wrong, for a person; the words may change")
    code: Code = Field(description="canonical code of Google's APIs, by name")
    request_id: str = Field(description="of this call, as in X-Request-Id; say it when you ask us")


def problem(
    detail: str,
    *,
    code: Code,
    request_id: str,
    status: int | None = None,
    kind: str = "",
    headers: Mapping[str, str] | None = None,
    **more: object,
) -> JSONResponse:
    """Say what went wrong; status and kind follow from the code unless they are given."""
    status = status or _STATUS.get(code, 502)
    found = Problem(
        type=_TYPE.format(kind or code.lower().replace("_", "-")),
        status=status,
        title=HTTPStatus(status).phrase,
        detail=detail.encode(errors="replace").decode(),  # half a surrogate pair is no JSON
        code=code,
        request_id=request_id,
    )
    if status in _RETRY_AFTER:
        headers = {"Retry-After": _RETRY_AFTER[status], **(headers or {})}
    return JSONResponse(
        {**found.model_dump(mode="json"), **more},
        status_code=status,
        media_type="application/problem+json",
        headers=headers,
    )


def unavailable(error: UnavailableError, *, request_id: str) -> JSONResponse:
    """Nothing was done: whoever calls, Pub/Sub included, tries again. The log has the details."""
    status = 429 if error.code is Code.RESOURCE_EXHAUSTED else 503
    return problem(error.told, code=error.code, status=status, request_id=request_id)


def key_used(detail: str, *, request_id: str) -> JSONResponse:
    """The Idempotency-Key names another request."""
    kind = "key-used-otherwise"
    code = Code.ALREADY_EXISTS
    return problem(detail, code=code, status=422, kind=kind, request_id=request_id)


def bug(*, request_id: str) -> JSONResponse:
    """Nothing of it is told: the log has the trace, under the same id."""
    detail = "a bug of ours; what was stored is safe"
    return problem(detail, code=Code.INTERNAL, status=500, request_id=request_id)


async def _rejected(request: Request, error: Exception) -> Response:
    assert isinstance(error, RejectedError)
    detail = f"{error}; {error.hint}" if error.hint else str(error)
    if isinstance(error, LimitedError):
        call = call_of(request)
        log("limited", severity="WARNING", request_id=call.id, caller=call.account, why=str(error))
        return problem(
            detail,
            code=error.code,
            kind=error.kind,
            request_id=call.id,
            headers={"Retry-After": str(error.retry_seconds)},
        )
    return problem(detail, code=error.code, request_id=call_of(request).id)


async def _unavailable(request: Request, error: Exception) -> Response:
    assert isinstance(error, UnavailableError)
    call = call_of(request)
    path = request.scope["path"][:200]
    log("unavailable", severity="WARNING", path=path, request_id=call.id, why=str(error))
    return unavailable(error, request_id=call.id)


async def _http(request: Request, error: Exception) -> Response:
    """The application's own 404, 405, 413 and 415."""
    assert isinstance(error, HTTPException)
    status = error.status_code
    kind, code, detail = _OWN[status]
    if status == 404 and not _has_documents(request):
        detail = "there is no such path; Pub/Sub pushes to /pubsub/requests, /pubsub/dead-letters"
        detail += " and /pubsub/ticks here"
    # Starlette's own words are those of the status; ours say more.
    ours = error.detail if error.detail != HTTPStatus(status).phrase else detail
    return problem(
        ours,
        code=code,
        status=status,
        kind=kind,
        request_id=call_of(request).id,
        headers=error.headers,
    )


def _has_documents(request: Request) -> bool:
    """Whether this target tells of its paths: the worker does not."""
    return any(getattr(each, "path", "") == "/docs" for each in request.app.routes)


async def _hung_up(request: Request, _error: Exception) -> Response:
    """In the middle of its body: nobody is left to read this."""
    call_id = call_of(request).id
    log("hung_up", path=request.scope["path"][:200], request_id=call_id)
    return problem("the body is not whole", code=Code.INVALID_ARGUMENT, request_id=call_id)


async def _bug(request: Request, _error: Exception) -> Response:
    return bug(request_id=call_of(request).id)


HANDLERS: Mapping[type[Exception], ExceptionHandler] = {
    RejectedError: _rejected,
    UnavailableError: _unavailable,
    HTTPException: _http,
    ClientDisconnect: _hung_up,
    Exception: _bug,
}
