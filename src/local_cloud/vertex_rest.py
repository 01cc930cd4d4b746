"""The REST face of the local Vertex AI: Google's paths, JSON and error bodies.

A path, its query and its body become the same request message that gRPC carries, so
this file decides nothing but spelling. Operations answer below ``/ui/`` too, because
Google's own Python client asks there first. An ``@`` may come as ``%40``. Of the
system parameters only ``enum-encoding=int`` has an effect.
"""

# Google's message classes carry no types:
# mypy: disable-error-code="no-untyped-call"

import asyncio
import contextlib
import json
import re
import socket
from collections.abc import Coroutine, Iterator
from typing import Any

import uvicorn
from google.protobuf import json_format
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from local_cloud.vertex_records import Code, VertexError
from local_cloud.vertex_service import SERVICES, Service

# As google/rpc/code.proto maps them.
HTTP_STATUS = {
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}

_LOCATION = "projects/[^/]+/locations/[^/]+"
_MODEL = f"{_LOCATION}/models/[^/:]+"
_OPERATION = f"{_LOCATION}(?:/models/[^/:]+)?/operations/[^/:]+"
_PATHS = tuple(
    (verb, re.compile(path), method)
    for verb, path, method in (
        ("POST", f"/v1/(?P<parent>{_LOCATION})/models:copy", "CopyModel"),
        ("GET", f"/v1/(?P<parent>{_LOCATION})/models", "ListModels"),
        ("GET", f"/v1/(?P<name>{_MODEL})", "GetModel"),
        ("GET", f"/v1/(?P<name>{_MODEL}):listVersions", "ListModelVersions"),
        ("GET", f"/(?:v1|ui)/(?P<name>{_OPERATION})", "GetOperation"),
        ("POST", f"/(?:v1|ui)/(?P<name>{_OPERATION}):wait", "WaitOperation"),
        ("POST", f"/(?:v1|ui)/(?P<name>{_OPERATION}):cancel", "CancelOperation"),
        ("DELETE", f"/(?:v1|ui)/(?P<name>{_OPERATION})", "DeleteOperation"),
        ("GET", f"/(?:v1|ui)/(?P<name>{_LOCATION})/operations", "ListOperations"),
        ("GET", f"/(?:v1|ui)/(?P<name>{_MODEL})/operations", "ListOperations"),
    )
)
_REQUEST_CLASSES = {
    method: known for methods in SERVICES.values() for method, known in methods.items()
}
# https://cloud.google.com/apis/docs/system-parameters
_SYSTEM_PARAMETERS = frozenset(
    {"access_token", "alt", "callback", "fields", "key", "oauth_token", "prettyPrint", "quotaUser"}
)


def rest_app(service: Service, *, extra_routes: list[BaseRoute]) -> Starlette:
    """Build the app; ``extra_routes`` come before Google's paths."""

    async def answer(request: Request) -> JSONResponse:
        method, fields = _match(request)
        message = _message(method, fields | await json_object(request))
        found = await _while_listening(request, service.call(method, message, face="rest"))
        ints = request.query_params.get("$alt", "").endswith("enum-encoding=int")
        return JSONResponse(json_format.MessageToDict(found, use_integers_for_enums=ints))

    everything = Route("/{path:path}", answer, methods=["GET", "POST", "DELETE", "PATCH", "PUT"])
    return Starlette(
        routes=[*extra_routes, everything], exception_handlers={VertexError: _error_body}
    )


async def json_object(request: Request) -> dict[str, Any]:
    """Read the body as a JSON object; an empty body is an empty one.

    Raises:
        VertexError: INVALID_ARGUMENT, it is something else.
    """
    body = await request.body()
    try:
        value = json.loads(body or b"{}")
    except ValueError as error:
        raise VertexError(Code.INVALID_ARGUMENT, f"The body is not JSON: {error}.") from error
    if not isinstance(value, dict):
        raise VertexError(Code.INVALID_ARGUMENT, "The body is not a JSON object.")
    return value


async def _while_listening(request: Request, call: Coroutine[Any, Any, Any]) -> Any:
    """Await ``call``, but cancel it when the caller hangs up, as gRPC does by itself."""
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
            raise VertexError(Code.CANCELLED, "The caller went away.") from None
        raise
    finally:
        watcher.cancel()


def _match(request: Request) -> tuple[str, dict[str, Any]]:
    for verb, pattern, method in _PATHS:
        found = pattern.fullmatch(request.scope["path"])
        if found and verb == request.method:
            query = {
                key: value
                for key, value in request.query_params.items()
                if key not in _SYSTEM_PARAMETERS and not key.startswith("$")
            }
            return method, query | found.groupdict()
    raise VertexError(
        Code.UNIMPLEMENTED,
        f"The local Vertex AI does not serve {request.method} {request.url.path}.",
    )


def _message(method: str, fields: dict[str, Any]) -> Any:
    try:
        return json_format.ParseDict(fields, _REQUEST_CLASSES[method]())
    except json_format.ParseError as error:
        raise VertexError(Code.INVALID_ARGUMENT, f"Not a request of {method}: {error}") from error


async def _error_body(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, VertexError)
    status = HTTP_STATUS[error.code]
    return JSONResponse(
        {"error": {"code": status, "message": error.message, "status": error.code.name}},
        status_code=status,
    )


class RestServer(uvicorn.Server):
    """Uvicorn as a guest: signals and logging stay with the process that it runs in.

    Its main loop and its shutdown look around every tenth of a second. Here they are
    told instead, or each test that starts a cloud would pay for it.
    """

    def __init__(self, app: Starlette) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            log_level="warning",
            access_log=False,
            lifespan="off",
            http="h11",
            ws="none",
            date_header=False,
        )
        super().__init__(config)
        self._socket = socket.socket()
        self._up = asyncio.Event()
        self._stopping = asyncio.Event()
        self._grace_seconds = 0.0
        self._serving: asyncio.Task[None] | None = None

    def bind(self, host: str, port: int) -> int:
        """Take the port, so that it is known and its trouble shows before anything runs."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((host, port))
        return int(self._socket.getsockname()[1])

    async def start(self) -> None:
        self._serving = asyncio.create_task(self.serve([self._socket]))
        await self._up.wait()

    async def stop(self, *, grace_seconds: float) -> None:
        """Let what is being answered end, hang up on everyone after ``grace_seconds``."""
        self._grace_seconds = grace_seconds
        self._stopping.set()
        if self._serving:
            await self._serving
        self._socket.close()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._up.set()

    async def main_loop(self) -> None:
        await self._stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=self._grace_seconds)
        # Who has not finished a request by now never will; its task ends with the line.
        for connection in list(self.server_state.connections):
            if not connection.transport.is_closing():
                connection.transport.abort()
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=self._grace_seconds)
