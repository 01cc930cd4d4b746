"""The gRPC face of the local Pub/Sub: which bytes become which call.

It decides nothing. A method that the service lacks is answered UNIMPLEMENTED with a sentence,
so that nobody takes a hole in the local cloud for an outage.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.pubsub_v1 import types

from local_cloud.pubsub_records import BrokerError, InvalidArgumentError
from local_cloud.pubsub_service import SERVICES, Service

_OPTIONS = (
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    ("grpc.max_send_message_length", 16 * 1024 * 1024),
    # Two servers on one port would share it silently and each lose half of the calls.
    ("grpc.so_reuseport", 0),
    # Google's clients ping every 30 s, which gRPC servers punish unless told otherwise.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
)
_STREAMING_PULL = "/google.pubsub.v1.Subscriber/StreamingPull"
_STOP_SECONDS = 0.5


class GrpcServer:
    """From ``bind`` to ``stop``, which ends open calls at once."""

    def __init__(self, service: Service) -> None:
        self._calls: set[asyncio.Task[Any]] = set()
        self._server: Any = grpc.aio.server(options=_OPTIONS)
        self._server.add_generic_rpc_handlers((_Methods(service, self._calls),))

    def bind(self, host: str, port: int) -> int:
        """Take the port, or a free one for 0, and answer which it is.

        Raises:
            RuntimeError: the port is taken.
        """
        return int(self._server.add_insecure_port(f"{host}:{port}"))

    async def start(self) -> None:
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(grace=None)
        if self._calls:  # cancelled by now; gRPC does not wait until they have noticed
            await asyncio.wait(self._calls, timeout=_STOP_SECONDS)


class _Methods(grpc.GenericRpcHandler):
    """Finds the handler of a call, and notes in ``calls`` the task that each runs on."""

    def __init__(self, service: Service, calls: set[asyncio.Task[Any]]) -> None:
        self._service = service
        self._calls = calls

    def service(self, details: Any) -> Any:
        if details.method == _STREAMING_PULL:
            return grpc.stream_stream_rpc_method_handler(self._streaming_pull)
        name, _, method = details.method.removeprefix("/").rpartition("/")
        request_class = SERVICES.get(name, {}).get(method)
        if request_class is None:
            return grpc.unary_unary_rpc_method_handler(_refuse(details.method))
        return grpc.unary_unary_rpc_method_handler(self._unary(method, request_class))

    def _unary(self, method: str, request_class: Any) -> Any:
        async def serve(raw: bytes, context: Any) -> bytes:
            self._note_call()
            try:
                response = await self._service.call(method, _parsed(request_class, raw))
            except BrokerError as error:
                await context.abort(grpc.StatusCode[error.code], str(error))
            return bytes(response.SerializeToString())

        return serve

    async def _streaming_pull(self, raws: AsyncIterator[bytes], context: Any) -> None:
        self._note_call()

        async def requests() -> AsyncIterator[Any]:
            async for raw in raws:
                yield _parsed(types.StreamingPullRequest.pb(), raw)

        async def write(response: Any) -> None:
            await context.write(response.SerializeToString())

        try:
            await self._service.streaming_pull(requests(), write)
        except BrokerError as error:
            await context.abort(grpc.StatusCode[error.code], str(error))

    def _note_call(self) -> None:
        call = asyncio.current_task()
        assert call is not None
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)


def _refuse(method: str) -> Any:
    async def refuse(_raw: bytes, context: Any) -> None:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, f"The local Pub/Sub has no {method}.")

    return refuse


def _parsed(request_class: Any, raw: bytes) -> Any:
    try:
        return request_class.FromString(raw)
    except DecodeError as error:
        raise InvalidArgumentError(f"The request is no {request_class.__name__}.") from error
