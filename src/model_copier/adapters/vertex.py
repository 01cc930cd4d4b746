"""Vertex AI's model registry through its generated async client, one for each region.

Not ``aiplatform.Model.copy``: it blocks without end, takes project and credentials from a
process global and hides the operation. CopyModel is sent once: no retry of ours, of the
client or of gRPC, since a second send may make a second model.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
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
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2

from model_copier.adapters.pool import Pool
from model_copier.domain.errors import (
    NO_CAUSE,
    Cause,
    Code,
    CopierError,
    NoAnswerError,
    OutcomeUnknownError,
    RefusedError,
    UnavailableError,
    outcome_of_copy_call,
    outcome_of_read,
    passes,
)
from model_copier.domain.locations import host_of
from model_copier.domain.resource_names import ModelName, ProjectNumbers
from model_copier.domain.vertex_types import CopyCall, Model, Operation, OperationsPage

_T = TypeVar("_T")
# Each has a TLS connection of its own; a request may name any location.
MAX_CLIENTS = 32
# What gRPC itself says of an UNAVAILABLE that no server sent; its errors carry no other mark.
_NOT_REACHED = re.compile(
    r"failed to connect|all backends|resolution|socket closed|broken pipe"
    r"|connection (reset|refused)|(ping|watchdog|attempt) time|timed out|goaway"
    r"|recvmsg|transport|endpoint clos|tls|handshake",
    re.IGNORECASE,
)
_VERSION = re.compile(r"[1-9][0-9]{0,17}")
# What Google's client raises of an answer, or of an error's details, that it cannot read.
_UNREADABLE = (DecodeError, ValueError)
_BELOW_LOCATION = re.compile(r"projects/[^/]+/locations/(?P<location>[^/]+)(?:/|$)")
_CHANNEL_OPTIONS = [
    # gRPC would send a call again by itself when it believes that the server did not see it.
    ("grpc.enable_retries", 0),
    # Cloud Run freezes an idle instance; a connection that died meanwhile must be noticed.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
]


class VertexModelService:
    """See ``ports.ModelService`` for the promises."""

    def __init__(
        self,
        *,
        call_seconds: float,
        read_seconds: float | None = None,
        endpoint: str = "",
        numbers: ProjectNumbers | None = None,
    ) -> None:
        """Open nothing yet.

        Args:
            call_seconds: longest that CopyModel may take.
            read_seconds: longest that anything else may take, all its pages together.
            endpoint: ``http://HOST:PORT`` of a Vertex AI without TLS, which
                ``,LOCATION=http://HOST:PORT`` may follow for locations with a port of their own;
                "" is Google's.
            numbers: by which projects are spelled, and which learns from Vertex AI's answers.
        """
        self._call_seconds = call_seconds
        self._read_seconds = min(read_seconds or call_seconds, call_seconds)
        self._endpoints = endpoints_of(endpoint)
        self._numbers = numbers or ProjectNumbers()
        self._clients = Pool(
            self._client,
            most=MAX_CLIENTS,
            close=lambda client: client.transport.close(),
        )

    async def close(self) -> None:
        await self._clients.close()

    async def get_model(self, name: ModelName) -> Model:
        request = types.GetModelRequest(name=str(name))
        found = await self._read(
            name.location, lambda client, how: _get_model(client, request, how)
        )
        return self._spelled(found, asked=name)

    async def list_versions(self, name: ModelName) -> Sequence[Model]:
        request = types.ListModelVersionsRequest(name=str(name.at(None)), page_size=100)
        try:
            found = await self._read(
                name.location, lambda client, how: _list_versions(client, request, how)
            )
        except RefusedError as error:
            if error.code is Code.NOT_FOUND:
                return ()
            raise
        return [self._spelled(model, asked=name) for model in found]

    async def list_operations(self, name: ModelName) -> Sequence[Operation] | None:
        request = operations_pb2.ListOperationsRequest(name=str(name.at(None)), page_size=100)
        try:
            found = await self._read(
                name.location, lambda client, how: _list_operations(client, request, how)
            )
        except RefusedError as error:
            if error.code is Code.UNIMPLEMENTED:
                return None
            if error.code is Code.NOT_FOUND:
                return ()
            raise
        return [self._told(operation) for operation in found]

    async def list_location(
        self, location: str, page_token: str = "", *, running_only: bool = True
    ) -> OperationsPage | None:
        which = "done=false" if running_only else ""
        request = operations_pb2.ListOperationsRequest(
            name=location, filter=which, page_size=100, page_token=page_token
        )
        try:
            page = await self._read(
                _location(location), lambda client, how: _list_page(client, request, how)
            )
        except (
            RefusedError
        ):  # not served, no such filter, or not for us: all but one can do without
            return None
        return replace(page, operations=[self._told(each) for each in page.operations])

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
        try:
            async with self._clients.use(_location(call.target_location)) as client:
                started = await client.copy_model(
                    request=request, retry=None, timeout=self._call_seconds
                )
        except GoogleAPICallError as error:
            outcome = outcome_of_copy_call(_code(error), _message(error), _cause(error))
            if isinstance(outcome, OutcomeUnknownError):
                outcome.answered = _is_answer(error)
            raise outcome from error
        except GoogleAuthError as error:  # no token: nothing was sent
            told = "the service has no credentials for Vertex AI now"
            raise UnavailableError(f"credentials: {error}", told=told) from error
        except (TimeoutError, OSError, grpc.RpcError, *_UNREADABLE) as error:
            raise OutcomeUnknownError(f"CopyModel: {error!r}", answered=False) from error
        parent, answered = call.target_location.split("/"), started.operation.name.split("/")
        self._numbers.learn(asked=parent[1], answered=answered[1] if len(answered) > 1 else "")
        return self._told(read_operation(started.operation))

    async def get_operation(self, name: str) -> Operation:
        request = operations_pb2.GetOperationRequest(name=name)
        found = await self._read(
            _location(name), lambda client, how: _get_operation(client, request, how)
        )
        return self._told(found)

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
        how = {"retry": None, "timeout": self._read_seconds}
        try:
            async with self._clients.use(location) as client:
                async with asyncio.timeout(self._read_seconds):
                    return await read(client, how)
        except GoogleAPICallError as error:
            raise _outcome_of_read(error) from error
        except GoogleAuthError as error:
            told = "the service has no credentials for Vertex AI now"
            raise UnavailableError(f"credentials: {error}", told=told) from error
        except (TimeoutError, OSError, grpc.RpcError) as error:
            raise NoAnswerError(
                f"Vertex AI: {error!r}", told="Vertex AI does not answer now"
            ) from error
        except _UNREADABLE as error:
            raise UnavailableError(f"Vertex AI: {error!r}") from error

    def _spelled(self, found: Model, *, asked: ModelName) -> Model:
        """Name projects as they were asked for, where Vertex AI names them by number."""
        self._numbers.learn(asked=asked.project, answered=found.name.project)
        copy_of = found.copy_of and self._numbers.name(found.copy_of)
        return replace(found, name=self._numbers.name(found.name), copy_of=copy_of)

    def _told(self, found: Operation) -> Operation:
        return replace(found, model=found.model and self._numbers.name(found.model))

    def _client(self, location: str) -> ModelServiceAsyncClient:
        try:
            return ModelServiceAsyncClient(transport=self._transport(location))
        except ValueError as error:  # of a record that was stored when anything passed
            raise RefusedError(Code.INVALID_ARGUMENT, str(error)) from error

    def _transport(self, location: str) -> ModelServiceGrpcAsyncIOTransport:
        host = host_of(location)
        if elsewhere := self._endpoints.get(location) or self._endpoints.get(""):
            # Whatever proxy the environment names is not for this machine.
            options = [*_CHANNEL_OPTIONS, ("grpc.enable_http_proxy", 0)]
            channel = grpc.aio.insecure_channel(elsewhere, options=options)
            return ModelServiceGrpcAsyncIOTransport(channel=channel)

        def connect(host: str, **how: Any) -> grpc.aio.Channel:
            options = [*how.pop("options", ()), *_CHANNEL_OPTIONS]
            return ModelServiceGrpcAsyncIOTransport.create_channel(host, **how, options=options)

        # Always the host of the destination's location: CopyModel runs where the copy lands.
        return ModelServiceGrpcAsyncIOTransport(host=host, channel=connect)


def endpoints_of(endpoint: str) -> Mapping[str, str]:
    """Read where each location answers instead of Google's host; "" stands for all others."""
    found: dict[str, str] = {}
    for part in filter(None, endpoint.split(",")):
        location, _, url = part.rpartition("=")
        found[location] = url.removeprefix("http://")
    return found


async def _get_model(
    client: ModelServiceAsyncClient, request: types.GetModelRequest, how: dict[str, Any]
) -> Model:
    found = await client.get_model(request=request, **how)
    return read_model(found, asked=ModelName.parse(request.name))


async def _list_versions(
    client: ModelServiceAsyncClient, request: types.ListModelVersionsRequest, how: dict[str, Any]
) -> Sequence[Model]:
    pages = await client.list_model_versions(request=request, **how)
    asked = ModelName.parse(request.name)
    return [read_model(model, asked=asked) async for model in pages]


async def _list_operations(
    client: ModelServiceAsyncClient,
    request: operations_pb2.ListOperationsRequest,
    how: dict[str, Any],
) -> Sequence[Operation]:
    found: list[Operation] = []
    while True:
        page = await client.list_operations(request=request, **how)
        found += [read_operation(operation) for operation in page.operations]
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


async def _list_page(
    client: ModelServiceAsyncClient,
    request: operations_pb2.ListOperationsRequest,
    how: dict[str, Any],
) -> OperationsPage:
    page = await client.list_operations(request=request, **how)
    return OperationsPage(
        operations=[read_operation(operation) for operation in page.operations],
        next_page_token=page.next_page_token,
    )


async def _get_operation(
    client: ModelServiceAsyncClient,
    request: operations_pb2.GetOperationRequest,
    how: dict[str, Any],
) -> Operation:
    return read_operation(await client.get_operation(request=request, **how))


# What follows reads what Vertex AI wrote. It may know values that this client does not, so
# nothing here may raise: what cannot be read is unknown, and never a bug.


def read_model(found: types.Model, *, asked: ModelName) -> Model:
    """Read one version of the model that was ``asked`` for."""
    name = _parsed(found.name) or asked
    number = found.version_id if _VERSION.fullmatch(found.version_id) else name.version
    return Model(
        name=name.at(number),
        copy_of=_parsed(found.original_model_info.model),
        kind=_kind(types.Model.pb(found).model_source_info.source_type),
        container_image=found.container_spec.image_uri,
        kms_key_name=found.encryption_spec.kms_key_name,
        deployed=bool(found.deployed_models),
    )


def read_operation(found: operations_pb2.Operation) -> Operation:
    """Read a CopyModel operation."""
    generic = _unpacked(found.metadata, types.CopyModelOperationMetadata).generic_metadata
    failed = found.done and found.HasField("error")
    made = None
    if found.done and found.HasField("response"):
        response = _unpacked(found.response, types.CopyModelResponse)
        if name := _parsed(response.model):
            number = response.model_version_id
            made = name.at(number if _VERSION.fullmatch(number) else name.version)
    code = _canonical(found.error.code) if failed else None
    if code and passes(code, found.error.message):
        code = Code.UNAVAILABLE  # as of an outage: another attempt is worth it
    return Operation(
        name=found.name,
        done=found.done,
        model=made,
        code=code,
        message=found.error.message if failed else "",
        cause=_cause_of(found.error.details) if failed else NO_CAUSE,
        started_at=_time(generic, "create_time"),
        updated_at=_time(generic, "update_time"),
    )


def _unpacked(packed: Any, kind: Any) -> Any:
    """Read what an ``Any`` holds; a message without fields where it holds something else."""
    message = kind()
    try:
        packed.Unpack(kind.pb(message))
    except DecodeError:
        return kind()
    return message


def _kind(number: int) -> str:
    """Name a kind of source; of one that is newer than this client only the number is known."""
    try:
        return types.ModelSourceInfo.ModelSourceType(number).name
    except ValueError:
        return f"unknown ({number})"


def _parsed(name: str) -> ModelName | None:
    """Read a name that Vertex AI gave; one that we cannot read proves nothing."""
    try:
        return ModelName.parse(name)
    except ValueError:
        return None


def _time(message: Any, field: str) -> datetime | None:
    """Read a time; one outside the calendar says nothing."""
    try:
        at = getattr(message, field)
        return datetime.fromtimestamp(at.timestamp(), UTC) if at else None
    except (ValueError, OverflowError, OSError):
        return None


def _outcome_of_read(error: GoogleAPICallError) -> CopierError:
    if not _is_answer(error):
        return NoAnswerError(f"{_code(error)}: {_message(error)}")
    return outcome_of_read(_code(error), _message(error), _cause(error))


def _is_answer(error: GoogleAPICallError) -> bool:
    """Tell whether the server said so, and not our own end of the connection."""
    if _code(error) is Code.DEADLINE_EXCEEDED:  # ours, or the server's for what is behind it
        return False
    return _code(error) is not Code.UNAVAILABLE or not _NOT_REACHED.search(_message(error))


def _code(error: GoogleAPICallError) -> Code:
    status = error.grpc_status_code
    return _canonical(status.value[0]) if status is not None else Code.UNKNOWN


def _canonical(number: int) -> Code:
    """Name a code; OK is none of an error's, and others may come."""
    names = {status.value[0]: status.name for status in grpc.StatusCode}
    name = names.get(number, "")
    return Code(name) if name in Code.__members__ else Code.UNKNOWN


def _cause(error: GoogleAPICallError) -> Cause:
    """Read what Google's client found among the details of an error."""
    return _cause_in(error.details)


def _cause_of(details: Iterable[Any]) -> Cause:
    """Read the details of an operation's error, of which we know three kinds."""
    read: list[Any] = []
    for packed in details:
        for kind in (
            error_details_pb2.ErrorInfo,
            error_details_pb2.PreconditionFailure,
            error_details_pb2.QuotaFailure,
        ):
            message = kind()
            with suppress(DecodeError):
                if packed.Unpack(message):
                    read.append(message)
    return _cause_in(read)


def _cause_in(details: Iterable[Any]) -> Cause:
    info = error_details_pb2.ErrorInfo()
    violations: list[str] = []
    for detail in details:
        if isinstance(detail, error_details_pb2.ErrorInfo):
            info = detail
        elif isinstance(detail, error_details_pb2.PreconditionFailure):
            violations += [each.type or each.subject for each in detail.violations]
        elif isinstance(detail, error_details_pb2.QuotaFailure):
            violations += [each.subject for each in detail.violations]
    return Cause(
        reason=info.reason,
        domain=info.domain,
        metadata=dict(info.metadata),
        violations=tuple(violations),
    )


def _message(error: GoogleAPICallError) -> str:
    return str(error.message)


def _location(name: str) -> str:
    """Return L of ``projects/P/locations/L[/...]``.

    Raises:
        UnavailableError: Vertex AI named an operation otherwise; nothing can be said of it.
    """
    found = _BELOW_LOCATION.match(name)
    if found is None:
        raise UnavailableError(f"{name[:200]!r} names no location that could be asked")
    return found["location"]
