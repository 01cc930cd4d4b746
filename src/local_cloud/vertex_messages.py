"""The registry's records as Google's messages.

Every name in them is spelled by ``spelled`` (``Registry.spelled``), so how projects are
written is decided in one place.
"""

# Google's message classes carry no types:
# mypy: disable-error-code="no-untyped-call"

from collections.abc import Callable, Iterable
from typing import Any

from google.cloud.aiplatform_v1.types import (
    deployed_model_ref,
    encryption_spec,
    model,
    model_evaluation,
    model_service,
    operation,
)
from google.longrunning import operations_pb2
from google.rpc import error_details_pb2, status_pb2

from local_cloud.vertex_records import CopyOperation, CopyState, ModelVersion, VertexError

_NEW_KIND = 42
Spelled = Callable[[str], str]


def model_message(record: ModelVersion, *, spelled: Spelled) -> Any:
    """Show one version as a Model; as Google does, the name is without the version."""
    original = str(record.copied_from or "")
    return _raw(
        model.Model(
            name=spelled(str(record.name.unversioned)),
            version_id=record.name.version,
            version_aliases=record.aliases,
            display_name=record.display_name,
            description=record.description,
            labels=record.labels,
            create_time=record.model_created_at,
            update_time=record.updated_at,
            version_create_time=record.created_at,
            version_update_time=record.updated_at,
            etag=f"{record.name.version}-{record.updated_at.timestamp():.6f}",
            model_source_info=model.ModelSourceInfo(
                source_type=_NEW_KIND
                if record.kind == "NEW"
                else model.ModelSourceInfo.ModelSourceType[record.kind],
                copy=record.copied_from is not None,
            ),
            container_spec=model.ModelContainerSpec(image_uri=record.container_image)
            if record.container_image
            else None,
            original_model_info=model.Model.OriginalModelInfo(model=spelled(original))
            if original
            else None,
            deployed_models=[_endpoint_of(record, spelled=spelled)] if record.deployed else [],
            encryption_spec=encryption_spec.EncryptionSpec(kms_key_name=record.kms_key_name)
            if record.kms_key_name
            else None,
        )
    )


def _endpoint_of(record: ModelVersion, *, spelled: Spelled) -> Any:
    return deployed_model_ref.DeployedModelRef(
        endpoint=spelled(f"{record.name.parent}/endpoints/1"), deployed_model_id="1"
    )


def models_page(records: Iterable[ModelVersion], token: str, *, spelled: Spelled) -> Any:
    return model_service.ListModelsResponse.pb()(
        models=[model_message(record, spelled=spelled) for record in records],
        next_page_token=token,
    )


def versions_page(records: Iterable[ModelVersion], token: str, *, spelled: Spelled) -> Any:
    return model_service.ListModelVersionsResponse.pb()(
        models=[model_message(record, spelled=spelled) for record in records],
        next_page_token=token,
    )


def evaluations_page(
    record: ModelVersion, names: Iterable[str], token: str, *, spelled: Spelled
) -> Any:
    """Show evaluations of one version; those of a copy are none, as Google documents."""
    return model_service.ListModelEvaluationsResponse.pb()(
        model_evaluations=[
            _raw(
                model_evaluation.ModelEvaluation(
                    name=spelled(f"{record.name}/evaluations/{name}"),
                    display_name=name,
                    metrics=dict(record.evaluations[name]),
                    create_time=record.created_at,
                )
            )
            for name in names
        ],
        next_page_token=token,
    )


def operation_message(record: CopyOperation, *, spelled: Spelled) -> operations_pb2.Operation:
    """Show a copy as an Operation; its fate stays hidden until it is done."""
    message = operations_pb2.Operation(name=spelled(record.name), done=record.done)
    times = operation.GenericOperationMetadata(
        create_time=record.created_at,
        update_time=record.ends_at if record.done else record.created_at,
    )
    message.metadata.Pack(_raw(model_service.CopyModelOperationMetadata(generic_metadata=times)))
    if record.state is CopyState.SUCCEEDED:
        response = model_service.CopyModelResponse(
            model=spelled(str(record.destination)), model_version_id=record.version
        )
        message.response.Pack(_raw(response))
    elif record.done and record.error:
        message.error.CopyFrom(status_message(record.error))
    return message


def status_message(error: VertexError) -> status_pb2.Status:
    """Show an error with its details, as they come in gRPC's trailers and in operations."""
    status = status_pb2.Status(code=error.code, message=error.message)
    if why := error.why:
        info = error_details_pb2.ErrorInfo(reason=why.reason, domain=why.domain)
        info.metadata.update(why.metadata)
        status.details.add().Pack(info)
        if why.violations:
            failure = error_details_pb2.PreconditionFailure()
            for kind in why.violations:
                failure.violations.add(type=kind)
            status.details.add().Pack(failure)
    return status


def operations_page(
    records: Iterable[CopyOperation], token: str, *, spelled: Spelled
) -> operations_pb2.ListOperationsResponse:
    return operations_pb2.ListOperationsResponse(
        operations=[operation_message(record, spelled=spelled) for record in records],
        next_page_token=token,
    )


def _raw(message: Any) -> Any:
    """Take the protobuf message out of Google's proto-plus wrapper."""
    return type(message).pb(message)
