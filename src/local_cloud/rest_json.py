"""Google's JSON over HTTP, as every REST face of the local cloud speaks it.

Messages go by protobuf's JSON mapping, errors are ``{"error": {code, message, status}}`` under
the HTTP status that google/rpc/code.proto gives them. Which call a path means, and what it
answers, is the business of each face.
"""

# Google's message classes carry no types:
# mypy: disable-error-code="no-untyped-call"

import asyncio
import json
from collections.abc import Coroutine, Sequence
from email.utils import formatdate
from typing import Any

from google.protobuf import json_format
from starlette.requests import Request
from starlette.responses import JSONResponse

# As google/rpc/code.proto maps them.
HTTP_STATUS = {
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
    "UNAUTHENTICATED": 401,
}

# https://cloud.google.com/apis/docs/system-parameters
_SYSTEM_PARAMETERS = frozenset(
    {"access_token", "alt", "callback", "fields", "key", "oauth_token", "prettyPrint", "quotaUser"}
)


class BodyError(ValueError):
    """The body is no JSON object; the sentence says what is wrong with it."""


class CallerGoneError(Exception):
    """The caller hung up before there was an answer; nobody will read one."""


async def read_object(request: Request) -> dict[str, Any]:
    """Read the body as a JSON object; an empty body is an empty one.

    Raises:
        BodyError: it is something else.
    """
    body = await request.body()
    try:
        value = json.loads(body.decode() or "{}")
        # JSON can spell half of a surrogate pair, which no UTF-8 can, nor any protobuf string.
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise BodyError(f"The body is not JSON: {error}.") from error
    if not isinstance(value, dict):
        raise BodyError("The body is not a JSON object.")
    return value


def query_fields(request: Request) -> dict[str, str]:
    """The fields that the query carries, without the parameters that every Google API takes."""
    return {
        key: value
        for key, value in request.query_params.items()
        if key not in _SYSTEM_PARAMETERS and not key.startswith("$")
    }


def message_response(request: Request, message: Any) -> JSONResponse:
    """Spell ``message`` as the caller wants it; Google's own clients want enums as numbers."""
    ints = request.query_params.get("$alt", "").endswith("enum-encoding=int")
    body = json_format.MessageToDict(message, use_integers_for_enums=ints)
    return JSONResponse(body, headers={"date": formatdate(usegmt=True)})


def not_built(message: str) -> JSONResponse:
    """Answer for a method that is not here: UNIMPLEMENTED, under a status that is not retried.

    gcloud takes any 5xx for an outage and tries again for half a minute; Google's own answer to a
    path that it does not have is 404.
    """
    return error_response("UNIMPLEMENTED", message, status=404)


def error_response(
    code: str, message: str, details: Sequence[Any] = (), *, status: int | None = None
) -> JSONResponse:
    """``code`` is the name of a canonical code, such as NOT_FOUND."""
    status = status or HTTP_STATUS[code]
    error = {"code": status, "message": message, "status": code}
    return JSONResponse(
        {"error": {**error, "details": list(details)} if details else error},
        status_code=status,
        headers={"date": formatdate(usegmt=True)},
    )


async def while_listening(request: Request, call: Coroutine[Any, Any, Any]) -> Any:
    """Await ``call``, but cancel it when the caller hangs up, as gRPC does by itself.

    Raises:
        CallerGoneError: that happened.
    """
    work = asyncio.create_task(call)

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        work.cancel()

    watcher = asyncio.create_task(watch())
    try:
        return await work
    except asyncio.CancelledError:
        if watcher.done():
            raise CallerGoneError from None
        raise
    finally:
        watcher.cancel()
