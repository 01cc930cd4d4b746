"""The REST face of the local Vertex AI: Google's paths, JSON and error bodies.

A path, its query and its body become the same request message that gRPC carries, so
this file decides nothing but spelling. Operations answer below ``/ui/`` too, because
Google's own Python client asks there first; v1beta1 is v1 by another name. An ``@`` may
come as ``%40``. Of the system parameters only ``enum-encoding=int`` has an effect.
"""

# Google's message classes carry no types:
# mypy: disable-error-code="no-untyped-call"

import re
from typing import Any

from google.protobuf import json_format
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from local_cloud import rest_json
from local_cloud.rest_server import RestServer
from local_cloud.vertex_hosts import check_served, location_of_host
from local_cloud.vertex_messages import status_message
from local_cloud.vertex_methods import REQUEST_CLASSES, resource_of
from local_cloud.vertex_records import Code, VertexError
from local_cloud.vertex_service import Service
from local_cloud.vertex_versions import BETA, STABLE

__all__ = ["RestServer", "json_object", "rest_app"]

_LOCATION = "projects/[^/]+/locations/[^/]+"
_MODEL = f"{_LOCATION}/models/[^/:]+"
_OPERATION = f"{_LOCATION}(?:/models/[^/:]+)?/operations/[^/:]+"
_PATHS = tuple(
    (verb, re.compile(path), method)
    for verb, path, method in (
        ("POST", f"/(?:v1|v1beta1)/(?P<parent>{_LOCATION})/models:copy", "CopyModel"),
        ("GET", f"/(?:v1|v1beta1)/(?P<parent>{_LOCATION})/models", "ListModels"),
        ("GET", f"/(?:v1|v1beta1)/(?P<name>{_MODEL})", "GetModel"),
        ("GET", f"/(?:v1|v1beta1)/(?P<name>{_MODEL}):listVersions", "ListModelVersions"),
        ("GET", f"/(?:v1|v1beta1)/(?P<parent>{_MODEL})/evaluations", "ListModelEvaluations"),
        ("GET", f"/(?:v1|v1beta1|ui)/(?P<name>{_OPERATION})", "GetOperation"),
        ("POST", f"/(?:v1|v1beta1|ui)/(?P<name>{_OPERATION}):wait", "WaitOperation"),
        ("POST", f"/(?:v1|v1beta1|ui)/(?P<name>{_OPERATION}):cancel", "CancelOperation"),
        ("DELETE", f"/(?:v1|v1beta1|ui)/(?P<name>{_OPERATION})", "DeleteOperation"),
        ("GET", f"/(?:v1|v1beta1|ui)/(?P<name>{_LOCATION})/operations", "ListOperations"),
        ("GET", f"/(?:v1|v1beta1|ui)/(?P<name>{_MODEL})/operations", "ListOperations"),
    )
)


def rest_app(service: Service, *, extra_routes: list[BaseRoute]) -> Starlette:
    """Build the app; ``extra_routes`` come before Google's paths."""

    async def answer(request: Request) -> Response:
        method, fields = _match(request)
        message = _message(method, fields | await json_object(request))
        host = request.headers.get("host", "")
        try:
            check_served(resource_of(message), served=location_of_host(host))
        except VertexError as error:  # Google's is a page of HTML
            return rest_json.error_response(Code.NOT_FOUND.name, error.message)
        call = service.call(method, message, face="rest")
        answer = await rest_json.while_listening(request, call)
        beta = request.scope["path"].startswith("/v1beta1/")
        told = rest_json.message_response(request, answer)
        starts = method == "CopyModel"
        return (
            _in_beta(told) if service.versions.is_beta(answer, beta=beta, starts=starts) else told
        )

    everything = Route("/{path:path}", answer, methods=["GET", "POST", "DELETE", "PATCH", "PUT"])
    return Starlette(
        routes=[*extra_routes, everything],
        exception_handlers={
            VertexError: _refused,
            HTTPException: _not_served,
            rest_json.CallerGoneError: _gone,
        },
    )


async def json_object(request: Request) -> dict[str, Any]:
    """Read the body as a JSON object; an empty body is an empty one.

    Raises:
        VertexError: INVALID_ARGUMENT, it is something else.
    """
    try:
        return await rest_json.read_object(request)
    except rest_json.BodyError as error:
        raise VertexError(Code.INVALID_ARGUMENT, str(error)) from error


def _match(request: Request) -> tuple[str, dict[str, Any]]:
    for verb, pattern, method in _PATHS:
        found = pattern.fullmatch(request.scope["path"])
        if found and verb == request.method:
            return method, rest_json.query_fields(request) | found.groupdict()
    raise HTTPException(404)


def _does_not_serve(request: Request) -> str:
    return f"The local Vertex AI does not serve {request.method} {request.scope['path']}."


def _message(method: str, fields: dict[str, Any]) -> Any:
    try:
        return json_format.ParseDict(fields, REQUEST_CLASSES[method]())
    except json_format.ParseError as error:
        raise VertexError(Code.INVALID_ARGUMENT, f"Not a request of {method}: {error}") from error


def _in_beta(response: JSONResponse) -> Response:
    """Name types as v1beta1 does; else the messages are the same."""
    types = "type.googleapis.com/"
    body = bytes(response.body).replace(f"{types}{STABLE}".encode(), f"{types}{BETA}".encode())
    return Response(body, media_type=response.media_type)


async def _refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, VertexError)
    details = json_format.MessageToDict(status_message(error)).get("details", ())
    return rest_json.error_response(error.code.name, error.message, details)


async def _not_served(request: Request, _: Exception) -> JSONResponse:
    """Answer for what is not built, and for a verb that no route takes."""
    return rest_json.not_built(_does_not_serve(request))


async def _gone(_: Request, __: Exception) -> JSONResponse:
    return rest_json.error_response(Code.CANCELLED.name, "The caller went away.")
