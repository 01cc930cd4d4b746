"""Pub/Sub for one machine: one broker, two faces, and push.

gRPC is for Google's own clients, which talk to it as they are (``PUBSUB_EMULATOR_HOST``);
REST, on a port of its own, for ``gcloud`` (``CLOUDSDK_API_ENDPOINT_OVERRIDES_PUBSUB``) and
curl. No credentials are asked for, and nothing here is meant to be reached from another
machine.

What is not built is refused with UNIMPLEMENTED and a sentence, never accepted and left
undone; two exceptions: message retention and expiration are stored and returned, and nothing
is ever dropped for its age. State is memory only: it survives ``stop`` and ``start``, not the
process.
"""

from typing import Self

from local_cloud.pubsub_grpc import GrpcServer
from local_cloud.pubsub_rest import rest_app
from local_cloud.pubsub_service import Service
from local_cloud.rest_server import RestServer

# How long a REST call that is being answered may take to finish when the server stops.
STOP_SECONDS = 0.2


class PubSub:
    """The server. ``address`` ("127.0.0.1:PORT") and ``rest_url`` are known once started.

    ``min_ack_deadline_seconds`` may be lowered, so that tests need not wait the 10 s that the
    real service insists on; ``max_parallel_pushes`` holds for each subscription on its own.
    """

    address: str
    rest_url: str

    def __init__(
        self, *, min_ack_deadline_seconds: float = 10, max_parallel_pushes: int = 100
    ) -> None:
        self._service = Service(
            min_ack_deadline_seconds=min_ack_deadline_seconds,
            max_parallel_pushes=max_parallel_pushes,
        )
        self._grpc: GrpcServer | None = None
        self._rest: RestServer | None = None

    async def start(self, *, host: str = "127.0.0.1", port: int = 0, rest_port: int = 0) -> None:
        """Listen; port 0 takes a free one. A second start without a stop is a bug.

        Raises:
            RuntimeError: the gRPC port is taken.
            OSError: the REST port is taken.
        """
        assert self._grpc is None
        try:
            await self._start(host=host, port=port, rest_port=rest_port)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End open calls and pushes at once. A push cut short is nacked; leases run on."""
        grpc_server, self._grpc = self._grpc, None
        rest_server, self._rest = self._rest, None
        await self._service.close()
        if rest_server is not None:
            await rest_server.stop(grace_seconds=STOP_SECONDS)
        if grpc_server is not None:
            await grpc_server.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _start(self, *, host: str, port: int, rest_port: int) -> None:
        # REST first: a gRPC server gives back a port that it bound only if it was started.
        self._rest = RestServer(rest_app(self._service))
        self.rest_url = f"http://{host}:{self._rest.bind(host, rest_port)}"
        self._grpc = GrpcServer(self._service)
        self.address = f"{host}:{self._grpc.bind(host, port)}"
        await self._grpc.start()
        await self._rest.start()
        self._service.open()
