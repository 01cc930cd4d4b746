"""The methods that the local Vertex AI serves, and the messages that ask for them."""

# Google's message classes carry no types:
# mypy: disable-error-code="no-untyped-call"

from typing import Annotated, Any

from google.cloud.aiplatform_v1.types import model_service
from google.longrunning import operations_pb2
from pydantic import AfterValidator

# By gRPC service, each method and the protobuf class of its request.
SERVICES: dict[str, dict[str, Any]] = {
    "google.cloud.aiplatform.v1.ModelService": {
        "GetModel": model_service.GetModelRequest.pb(),
        "ListModels": model_service.ListModelsRequest.pb(),
        "ListModelVersions": model_service.ListModelVersionsRequest.pb(),
        "ListModelEvaluations": model_service.ListModelEvaluationsRequest.pb(),
        "CopyModel": model_service.CopyModelRequest.pb(),
    },
    "google.longrunning.Operations": {
        "GetOperation": operations_pb2.GetOperationRequest,
        "ListOperations": operations_pb2.ListOperationsRequest,
        "WaitOperation": operations_pb2.WaitOperationRequest,
        "CancelOperation": operations_pb2.CancelOperationRequest,
        "DeleteOperation": operations_pb2.DeleteOperationRequest,
    },
}
# v1beta1 is v1 by another name: its messages have the same fields.
SERVICES["google.cloud.aiplatform.v1beta1.ModelService"] = SERVICES[
    "google.cloud.aiplatform.v1.ModelService"
]
REQUEST_CLASSES = {method: known for each in SERVICES.values() for method, known in each.items()}


def resource_of(request: Any) -> str:
    """Return the name that a request is about, which says where it is served."""
    name: str = request.parent if hasattr(request, "parent") else request.name
    return name


def known_method(name: str) -> str:
    """Let the name of a method pass.

    Raises:
        ValueError: there is no such method; the sentence has those that there are.
    """
    if name not in REQUEST_CLASSES:
        raise ValueError(f"{name!r} is not a method; methods are {', '.join(REQUEST_CLASSES)}")
    return name


MethodName = Annotated[str, AfterValidator(known_method)]
