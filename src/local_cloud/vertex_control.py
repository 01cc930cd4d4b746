"""How another process breaks, fills and watches the local Vertex AI, over HTTP.

Four paths beside Google's on the REST port; JSON in and out, errors in Google's form.
docs/local-cloud.md describes them for those who call them.
"""

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from local_cloud.vertex_faults import FaultOrders
from local_cloud.vertex_knobs import complaint
from local_cloud.vertex_records import DEFAULT_ALIAS, Code, CopyOperation, ModelVersion, VertexError
from local_cloud.vertex_rest import json_object
from local_cloud.vertex_service import CopyCall, Service

_Body = TypeVar("_Body", bound=BaseModel)


class NewModel(BaseModel):
    """The body of ``POST /control/models``: the arguments of ``Vertex.add_model``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    version: str = "1"
    display_name: str = ""
    description: str = ""
    labels: dict[str, str] = {}
    aliases: list[str] = [DEFAULT_ALIAS]
    kind: str = "GENIE"
    container_image: str = ""
    kms_key_name: str = ""
    deployed: bool = False
    evaluations: dict[str, dict[str, FiniteFloat]] = {}


def control_routes(service: Service) -> list[BaseRoute]:
    """Build the routes."""

    async def arm_faults(request: Request) -> JSONResponse:
        orders = _parsed(FaultOrders, await json_object(request))
        orders.carry_out(service.faults)
        return JSONResponse({})

    async def turn_knobs(request: Request) -> JSONResponse:
        changes = await json_object(request) if request.method == "POST" else {}
        try:
            service.turn(changes)
        except ValidationError as error:
            raise VertexError(Code.INVALID_ARGUMENT, complaint(error)) from error
        return JSONResponse(service.knobs.model_dump(mode="json"))

    async def add_model(request: Request) -> JSONResponse:
        new = _parsed(NewModel, await json_object(request))
        added = service.registry.add_model(**dict(new), now=service.settle())
        return JSONResponse({"name": str(added.name)})

    async def show_log(_: Request) -> JSONResponse:
        service.settle()
        registry = service.registry
        return JSONResponse(
            {
                "copy_calls": [_call(call) for call in service.copy_calls],
                "operations": [_operation(operation) for operation in registry.operations()],
                "models": [
                    {
                        "name": str(model.name.unversioned),
                        "versions": [_version(each) for each in registry.versions(str(model.name))],
                    }
                    for model in registry.models()
                ],
            }
        )

    return [
        Route("/control/faults", arm_faults, methods=["POST"]),
        Route("/control/knobs", turn_knobs, methods=["GET", "POST"]),
        Route("/control/models", add_model, methods=["POST"]),
        Route("/control/log", show_log, methods=["GET"]),
    ]


def _parsed(kind: type[_Body], fields: dict[str, Any]) -> _Body:
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise VertexError(Code.INVALID_ARGUMENT, complaint(error)) from error


def _call(call: CopyCall) -> dict[str, Any]:
    return {
        "at": call.at.isoformat(),
        "face": call.face,
        "request": call.request,
        "operation": call.operation,
        "answer": call.answer,
    }


def _operation(operation: CopyOperation) -> dict[str, Any]:
    error = operation.error if operation.done else None
    return {
        "name": operation.name,
        "state": operation.state.name,
        "source": str(operation.source),
        "destination": str(operation.destination),
        "version": operation.version,
        "deleted": operation.deleted,
        "created_at": operation.created_at.isoformat(),
        "ends_at": operation.ends_at.isoformat(),
        "error": {"code": error.code.name, "message": error.message} if error else None,
    }


def _version(version: ModelVersion) -> dict[str, Any]:
    return {
        "version": version.name.version,
        "display_name": version.display_name,
        "labels": dict(version.labels),
        "aliases": list(version.aliases),
        "created_at": version.created_at.isoformat(),
        "copied_from": str(version.copied_from or ""),
        "wreck": version.wreck,
    }
