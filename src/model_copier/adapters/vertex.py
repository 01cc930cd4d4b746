"""Vertex AI's model registry through its generated async client, one for each region.

Not ``aiplatform.Model.copy``: it blocks without end, takes project and credentials from a
process global and hides the operation. CopyModel is sent once: no retry of ours, of the
client or of gRPC, since a second send may make a second model.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

import grpc
from google.api_core.exceptions import GoogleAPICallError
from google.auth.exceptions import GoogleAuthError
from google.cloud.aiplatform_v1 import types
from google.cloud.aiplatform_v1.services.model_service import ModelServiceAsyncClient
from google.cloud.aiplatform_v1.services.model_service.transports.grpc_asyncio import (
    ModelServiceGrpcAsyncIOTransport,
)
from google.longrunning import operations_pb2

from model_copier.errors import (
    Code,
    OutcomeUnknownError,
    RefusedError,
    UnavailableError,
    outcome_of_copy_call,
    outcome_of_read,
)
from model_copier.registry import CopyCall, Model, Operation
from model_copier.resource_names import ModelName

_T = TypeVar("_T")
_CHANNEL_OPTIONS = [
    # gRPC would send a call again by itself when it believes that the server did not see it.
    ("grpc.enable_retries", 0),
    # Cloud Run freezes an idle instance; a connection that died meanwhile must be noticed.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
]


class VertexModelService:
    """See ``ports.ModelService`` for the promises."""

    def __init__(self, *, call_seconds: float, endpoint: str = "") -> None:
        """``endpoint``: ``http://HOST:PORT`` of a Vertex AI without TLS; "" is Google's."""
        self._call_seconds = call_seconds
        self._endpoint = endpoint.removeprefix("http://")
        self._clients: dict[str, ModelServiceAsyncClient] = {}

    async def close(self) -> None:
        for client in self._clients.values():
            await client.transport.close()
        self._clients.clear()

    async def get_model(self, name: ModelName) -> Model:
        request = types.GetModelRequest(name=str(name))
        return await self._read(name.location, lambda client, how: _get_model(client, request, how))

    async def list_versions(self, name: ModelName) -> Sequence[Model]:
        request = types.ListModelVersionsRequest(name=str(name.at(None)), page_size=100)
        try:
            return await self._read(
                name.location, lambda client, how: _list_versions(client, request, how)
            )
        except RefusedError as error:
            if error.code is Code.NOT_FOUND:
                return ()
            raise

    async def list_operations(self, name: ModelName) -> Sequence[Operation] | None:
        request = operations_pb2.ListOperationsRequest(name=str(name.at(None)), page_size=100)
        try:
            return await self._read(
                name.location, lambda client, how: _list_operations(client, request, how)
            )
        except RefusedError as error:
            if error.code is Code.UNIMPLEMENTED:
                return None
            if error.code is Code.NOT_FOUND:
                return ()
            raise

    async def copy_model(self, call: CopyCall) -> Operation:
        request = types.CopyModelRequest(parent=call.target_location, source_model=str(call.source))
        if call.model_id:
            request.model_id = call.model_id
        if call.parent_model:
            request.parent_model = call.parent_model
        if call.kms_key_name:
            request.encryption_spec = types.EncryptionSpec(kms_key_name=call.kms_key_name)
        if call.custom_service_account:
            request.custom_service_account = call.custom_service_account
        client = self._client(_location(call.target_location))
        try:
            started = await client.copy_model(
                request=request, retry=None, timeout=self._call_seconds
            )
        except GoogleAPICallError as error:
            raise outcome_of_copy_call(_code(error), _message(error)) from error
        except GoogleAuthError as error:  # no token: nothing was sent
            raise UnavailableError(f"credentials: {error}") from error
        except (TimeoutError, OSError, grpc.RpcError) as error:
            raise OutcomeUnknownError(f"CopyModel: {error!r}") from error
        return _operation(started.operation)

    async def get_operation(self, name: str) -> Operation:
        request = operations_pb2.GetOperationRequest(name=name)
        return await self._read(
            _location(name), lambda client, how: _get_operation(client, request, how)
        )

    async def cancel_operation(self, name: str) -> None:
        request = operations_pb2.CancelOperationRequest(name=name)
        await self._read(
            _location(name), lambda client, how: client.cancel_operation(request=request, **how)
        )

    async def _read(
        self,
        location: str,
        read: Callable[[ModelServiceAsyncClient, dict[str, Any]], Awaitable[_T]],
    ) -> _T:
        """Make a call that may be repeated; all its pages share one timeout."""
        how = {"retry": None, "timeout": self._call_seconds}
        try:
            async with asyncio.timeout(self._call_seconds):
                return await read(self._client(location), how)
        except GoogleAPICallError as error:
            raise outcome_of_read(_code(error), _message(error)) from error
        except (GoogleAuthError, TimeoutError, OSError, grpc.RpcError) as error:
            raise UnavailableError(f"Vertex AI: {error!r}") from error

    def _client(self, location: str) -> ModelServiceAsyncClient:
        if location not in self._clients:
            self._clients[location] = ModelServiceAsyncClient(transport=self._transport(location))
        return self._clients[location]

    def _transport(self, location: str) -> ModelServiceGrpcAsyncIOTransport:
        if self._endpoint:
            # Whatever proxy the environment names is not for this machine.
            options = [*_CHANNEL_OPTIONS, ("grpc.enable_http_proxy", 0)]
            channel = grpc.aio.insecure_channel(self._endpoint, options=options)
            return ModelServiceGrpcAsyncIOTransport(channel=channel)

        def connect(host: str, **how: Any) -> grpc.aio.Channel:
            options = [*how.pop("options", ()), *_CHANNEL_OPTIONS]
            return ModelServiceGrpcAsyncIOTransport.create_channel(host, **how, options=options)

        # Always the host of the destination's region: CopyModel runs where the copy lands.
        return ModelServiceGrpcAsyncIOTransport(
            host=f"{location}-aiplatform.googleapis.com", channel=connect
        )


async def _get_model(
    client: ModelServiceAsyncClient, request: types.GetModelRequest, how: dict[str, Any]
) -> Model:
    return _model(await client.get_model(request=request, **how))


async def _list_versions(
    client: ModelServiceAsyncClient, request: types.ListModelVersionsRequest, how: dict[str, Any]
) -> Sequence[Model]:
    pages = await client.list_model_versions(request=request, **how)
    return [_model(model) async for model in pages]


async def _list_operations(
    client: ModelServiceAsyncClient,
    request: operations_pb2.ListOperationsRequest,
    how: dict[str, Any],
) -> Sequence[Operation]:
    found: list[Operation] = []
    while True:
        page = await client.list_operations(request=request, **how)
        found += [_operation(operation) for operation in page.operations]
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


async def _get_operation(
    client: ModelServiceAsyncClient,
    request: operations_pb2.GetOperationRequest,
    how: dict[str, Any],
) -> Operation:
    return _operation(await client.get_operation(request=request, **how))


def _model(found: types.Model) -> Model:
    original = found.original_model_info.model
    name = ModelName.parse(found.name)
    return Model(
        name=name.at(found.version_id or name.version),
        copy_of=_parsed(original) if original else None,
        kind=found.model_source_info.source_type.name,
        container_image=found.container_spec.image_uri,
    )


def _operation(found: operations_pb2.Operation) -> Operation:
    metadata = types.CopyModelOperationMetadata()
    found.metadata.Unpack(types.CopyModelOperationMetadata.pb(metadata))
    generic = metadata.generic_metadata
    failed = found.done and found.HasField("error")
    made = None
    if found.done and found.HasField("response"):
        response = types.CopyModelResponse()
        if found.response.Unpack(types.CopyModelResponse.pb(response)):
            name = _parsed(response.model)
            made = name.at(response.model_version_id or name.version) if name else None
    return Operation(
        name=found.name,
        done=found.done,
        model=made,
        code=_canonical(found.error.code) if failed else None,
        message=found.error.message if failed else "",
        started_at=_time(generic.create_time),
        updated_at=_time(generic.update_time),
    )


def _parsed(name: str) -> ModelName | None:
    """Read a name that Vertex AI gave; one that we cannot read proves nothing."""
    try:
        return ModelName.parse(name)
    except ValueError:
        return None


def _time(at: Any) -> datetime | None:
    return datetime.fromtimestamp(at.timestamp(), at.tzinfo) if at else None


def _code(error: GoogleAPICallError) -> Code:
    status = error.grpc_status_code
    return Code(status.name) if status is not None else Code.UNKNOWN


def _canonical(number: int) -> Code:
    names = {status.value[0]: status.name for status in grpc.StatusCode}
    return Code(names.get(number, "UNKNOWN"))


def _message(error: GoogleAPICallError) -> str:
    return str(error.message)


def _location(name: str) -> str:
    """Return L of ``projects/P/locations/L[/...]``."""
    return name.split("/")[3]
