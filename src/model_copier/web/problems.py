"""Errors over HTTP, in the one form of RFC 9457."""

from collections.abc import Mapping
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ExceptionHandler

from model_copier.errors import Code, RejectedError, UnavailableError
from model_copier.logs import log

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


def problem(
    detail: str,
    *,
    code: Code,
    status: int | None = None,
    headers: Mapping[str, str] | None = None,
    **more: object,
) -> JSONResponse:
    """Say what went wrong; the status follows from the code unless it is given."""
    status = status or _STATUS.get(code, 502)
    return JSONResponse(
        {
            "type": f"https://modelcopier.dev/problems/{code.lower().replace('_', '-')}",
            "status": status,
            "title": HTTPStatus(status).phrase,
            "detail": detail,
            "code": code,
            **more,
        },
        status_code=status,
        media_type="application/problem+json",
        headers=headers,
    )


def unavailable(error: UnavailableError) -> JSONResponse:
    """Nothing was done: whoever calls, Pub/Sub included, tries again."""
    return problem(str(error), code=Code.UNAVAILABLE, status=503, headers={"Retry-After": "5"})


async def _rejected(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RejectedError)
    return problem(f"{error}; {error.hint}" if error.hint else str(error), code=error.code)


async def _unavailable(request: Request, error: Exception) -> Response:
    assert isinstance(error, UnavailableError)
    log("unavailable", severity="WARNING", path=request.url.path, why=str(error))
    return unavailable(error)


async def _http(_request: Request, error: Exception) -> Response:
    """The application's own 404, 405 and 413."""
    assert isinstance(error, HTTPException)
    code = {404: Code.NOT_FOUND, 405: Code.UNIMPLEMENTED}.get(
        error.status_code, Code.INVALID_ARGUMENT
    )
    return problem(error.detail, code=code, status=error.status_code, headers=error.headers)


HANDLERS: Mapping[type[Exception], ExceptionHandler] = {
    RejectedError: _rejected,
    UnavailableError: _unavailable,
    HTTPException: _http,
}
