"""The REST face of the local Pub/Sub: Google's paths, JSON and error bodies, for gcloud and curl.

A path, its query and its body become the same request message that gRPC carries, so this file
decides nothing but spelling. What the path names wins over what the body says of it. Of the
system parameters only ``enum-encoding=int`` has an effect.
"""

import re
from collections.abc import Sequence
from typing import Any

from google.protobuf import json_format
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from local_cloud import rest_json
from local_cloud.pubsub_records import BrokerError, InvalidArgumentError
from local_cloud.pubsub_service import SERVICES, Service

_PROJECT = "projects/[^/]+"
_TOPIC = f"{_PROJECT}/topics/[^/:]+"
_SUBSCRIPTION = f"{_PROJECT}/subscriptions/[^/:]+"
# https://cloud.google.com/pubsub/docs/reference/rest
_PATHS = tuple(
    (verb, re.compile(path), method)
    for verb, path, method in (
        ("PUT", f"/v1/(?P<name>{_TOPIC})", "CreateTopic"),
        ("GET", f"/v1/(?P<topic>{_TOPIC})", "GetTopic"),
        ("GET", f"/v1/(?P<project>{_PROJECT})/topics", "ListTopics"),
        ("GET", f"/v1/(?P<topic>{_TOPIC})/subscriptions", "ListTopicSubscriptions"),
        ("DELETE", f"/v1/(?P<topic>{_TOPIC})", "DeleteTopic"),
        ("POST", f"/v1/(?P<topic>{_TOPIC}):publish", "Publish"),
        ("PUT", f"/v1/(?P<name>{_SUBSCRIPTION})", "CreateSubscription"),
        ("GET", f"/v1/(?P<subscription>{_SUBSCRIPTION})", "GetSubscription"),
        ("GET", f"/v1/(?P<project>{_PROJECT})/subscriptions", "ListSubscriptions"),
        ("PATCH", f"/v1/(?P<name>{_SUBSCRIPTION})", "UpdateSubscription"),
        ("DELETE", f"/v1/(?P<subscription>{_SUBSCRIPTION})", "DeleteSubscription"),
        ("POST", f"/v1/(?P<subscription>{_SUBSCRIPTION}):pull", "Pull"),
        ("POST", f"/v1/(?P<subscription>{_SUBSCRIPTION}):acknowledge", "Acknowledge"),
        ("POST", f"/v1/(?P<subscription>{_SUBSCRIPTION}):modifyAckDeadline", "ModifyAckDeadline"),
        ("POST", f"/v1/(?P<subscription>{_SUBSCRIPTION}):modifyPushConfig", "ModifyPushConfig"),
        ("GET", f"/v1/(?P<resource>{_TOPIC}|{_SUBSCRIPTION}):getIamPolicy", "GetIamPolicy"),
        ("POST", f"/v1/(?P<resource>{_TOPIC}|{_SUBSCRIPTION}):setIamPolicy", "SetIamPolicy"),
        (
            "POST",
            f"/v1/(?P<resource>{_TOPIC}|{_SUBSCRIPTION}):testIamPermissions",
            "TestIamPermissions",
        ),
    )
)
_REQUEST_CLASSES = {
    method: known for methods in SERVICES.values() for method, known in methods.items()
}


def rest_app(service: Service, *, extra_routes: Sequence[BaseRoute] = ()) -> Starlette:
    async def answer(request: Request) -> JSONResponse:
        method, named = _match(request)
        message = _message(method, await _fields(request), named)
        found = await rest_json.while_listening(request, service.call(method, message))
        return rest_json.message_response(request, found)

    everything = Route("/{path:path}", answer, methods=["GET", "POST", "DELETE", "PATCH", "PUT"])
    app = Starlette(
        routes=[*extra_routes, everything],
        exception_handlers={
            BrokerError: _refused,
            rest_json.CallerGoneError: _gone,
            HTTPException: _no_such_path,
        },
    )
    app.router.redirect_slashes = False
    return app


def _match(request: Request) -> tuple[str, dict[str, str]]:
    """The method, and the fields that the path names."""
    for verb, pattern, method in _PATHS:
        found = pattern.fullmatch(request.scope["path"])
        if found and verb == request.method:
            return method, found.groupdict()
    raise HTTPException(404)


async def _fields(request: Request) -> dict[str, Any]:
    try:
        return rest_json.query_fields(request) | await rest_json.read_object(request)
    except rest_json.BodyError as error:
        raise InvalidArgumentError(str(error)) from error


def _message(method: str, fields: dict[str, Any], named: dict[str, str]) -> Any:
    if method == "UpdateSubscription":  # its path names a field of a field
        described = fields.get("subscription") or {}
        if isinstance(described, dict):
            fields["subscription"] = described | named
        named = {}
    elif method == "GetIamPolicy":
        fields = {}  # they ask for a version of policies, and there is one
    try:
        return json_format.ParseDict(fields | named, _REQUEST_CLASSES[method]())
    except (json_format.ParseError, OverflowError) as error:
        raise InvalidArgumentError(f"Not a request of {method}: {error}") from error


async def _refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, BrokerError)
    return rest_json.error_response(error.code, str(error))


async def _no_such_path(request: Request, _: Exception) -> JSONResponse:
    """What is not built, a verb that no route has, or a path with a line break in it."""
    what = f"{request.method} {request.url.path}"
    return rest_json.not_built(f"The local Pub/Sub has no {what}.")


async def _gone(_: Request, __: Exception) -> JSONResponse:
    return rest_json.error_response("CANCELLED", "The caller went away.")
