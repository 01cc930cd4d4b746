"""The gRPC face of the local Vertex AI: which bytes become which call.

It decides nothing. A method that the service lacks is answered UNIMPLEMENTED with a
sentence, so that nobody takes a hole in the simulator for an outage.
"""

from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from local_cloud.vertex_hosts import check_served
from local_cloud.vertex_messages import status_message
from local_cloud.vertex_methods import SERVICES, resource_of
from local_cloud.vertex_records import VertexError
from local_cloud.vertex_service import Service
from local_cloud.vertex_versions import BETA, renamed


class GrpcFace(grpc.GenericRpcHandler):
    """Routes gRPC calls to the service, and says no to every method that it lacks."""

    def __init__(self, service: Service, *, location: str = "") -> None:
        """``location``: the only one that is served; "" serves all."""
        self._service = service
        self._location = location

    def service(self, call: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any]":
        name, _, method = call.method.removeprefix("/").rpartition("/")
        request_class = SERVICES.get(name, {}).get(method)
        if request_class is None:
            return grpc.unary_unary_rpc_method_handler(_refusing(name, method))
        return grpc.unary_unary_rpc_method_handler(
            self._answering(method, request_class, beta=name.startswith(BETA)),
            response_serializer=lambda response: response.SerializeToString(),
        )

    def _answering(
        self, method: str, request_class: Any, *, beta: bool
    ) -> Callable[[Any, Any], Awaitable[Any]]:
        async def answer(raw: Any, context: "grpc.aio.ServicerContext[Any, Any]") -> Any:
            try:
                # Not as a deserializer of gRPC's: it would answer INTERNAL, and log a trace.
                request = request_class.FromString(raw)
            except DecodeError:
                await context.abort(
                    grpc.StatusCode.INVALID_ARGUMENT, f"The bytes are no request of {method}."
                )
            try:
                check_served(resource_of(request), served=self._location)
                answer = await self._service.call(method, request, face="grpc")
            except VertexError as error:
                details = (("grpc-status-details-bin", status_message(error).SerializeToString()),)
                await context.abort(
                    grpc.StatusCode[error.code.name],
                    error.message,
                    trailing_metadata=details if error.why else (),
                )
            starts = method == "CopyModel"
            versions = self._service.versions
            return renamed(answer) if versions.is_beta(answer, beta=beta, starts=starts) else answer

        return answer


def _refusing(name: str, method: str) -> Callable[[Any, Any], Awaitable[NoReturn]]:
    async def refuse(_: Any, context: "grpc.aio.ServicerContext[Any, Any]") -> NoReturn:
        await context.abort(
            grpc.StatusCode.UNIMPLEMENTED, f"The local Vertex AI has no {method} of {name}."
        )

    return refuse
