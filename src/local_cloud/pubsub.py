"""Pub/Sub for one machine: one broker, two faces, and push.

gRPC is for Google's own clients, which talk to it as they are (``PUBSUB_EMULATOR_HOST``);
REST, on a port of its own, for ``gcloud`` (``CLOUDSDK_API_ENDPOINT_OVERRIDES_PUBSUB``) and
curl. No credentials are asked for (``pubsub_iam`` says what policies do then), and nothing here
is meant to be reached from another machine.

What is not built is refused with UNIMPLEMENTED and a sentence, never accepted and left
undone; two exceptions: message retention and expiration are stored and returned, and nothing
is ever dropped for its age. State is memory only: it survives ``stop`` and ``start``, not the
process.

Tests and people break and watch it through ``PubSub.faults`` and ``PubSub.counters``, or from
another process over the REST port:

``POST /control/faults``
    Any of ``{"clear": true, "rates": {"duplicate": 0.05, "delay": 0.1, "reorder": 0.05,
    "drop_response": 0.05, "delay_seconds": 2, "reorder_seconds": 1, "seed": 7,
    "subscriptions": ["projects/p/subscriptions/s"]}, "next": [{"subscription":
    "projects/p/subscriptions/s", "fault": "drop_response", "times": 1}]}``. Rates replace the
    former ones and what they do not name is 0; without ``subscriptions`` they hold for all.
    All of an order is carried out, or none.
``GET /control/counters``
    ``{"topics": {NAME: {"published": 1}}, "subscriptions": {NAME: {"deliveries": 3,
    "acks": 1, "nacks": 1, "timeouts": 0, "dead_lettered": 0, "duplicate": 0, "delay": 0,
    "reorder": 0, "drop_response": 1, "backlog": 1}}}``. A delivery ends as an ack, a nack, a
    timeout or a dropped response; the backlog is what is owed now.
``POST /control/tokens``
    ``{"email": "a@example.com", "audience": "https://api", "lifetime_seconds": 3600,
    "claims": {}}`` answers ``{"token": "..."}``, signed by the key of the pushes' tokens.
``GET /oauth2/v1/certs`` and ``GET /oauth2/v3/certs``
    What checks them: certificates by key id (``PubSub.certs_url``), and a JWKS.
"""

from typing import Any, Self

from local_cloud.pubsub_control import control_routes
from local_cloud.pubsub_faults import Fault, Faults, Rates
from local_cloud.pubsub_grpc import GrpcServer
from local_cloud.pubsub_rest import rest_app
from local_cloud.pubsub_service import Service
from local_cloud.rest_server import RestServer
from local_cloud.tokens import TokenSigner

__all__ = ["Fault", "Faults", "PubSub", "Rates", "TokenSigner"]

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
        self,
        *,
        min_ack_deadline_seconds: float = 10,
        max_parallel_pushes: int = 100,
        faults: Faults | None = None,
    ) -> None:
        self._service = Service(
            min_ack_deadline_seconds=min_ack_deadline_seconds,
            max_parallel_pushes=max_parallel_pushes,
            faults=faults or Faults(),
        )
        self._grpc: GrpcServer | None = None
        self._rest: RestServer | None = None

    @property
    def faults(self) -> Faults:
        """What goes wrong on purpose; armed on the serving event loop, at any time."""
        return self._service.faults

    @property
    def signer(self) -> TokenSigner:
        """Signs identity tokens, for the pushes and for whoever asks."""
        return self._service.signer

    @property
    def certs_url(self) -> str:
        """Where ``google.oauth2.id_token.verify_token`` finds what its tokens are checked by."""
        return f"{self.rest_url}/oauth2/v1/certs"

    def exports(self, *, project: str) -> dict[str, str]:
        """What aims Google's clients, gcloud and curl at this server."""
        return {
            "PUBSUB_EMULATOR_HOST": self.address,
            "PUBSUB_REST": self.rest_url,
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_PUBSUB": f"{self.rest_url}/",
            "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
            "CLOUDSDK_CORE_PROJECT": project,
            "GOOGLE_CLOUD_PROJECT": project,
        }

    def counters(self) -> dict[str, Any]:
        """What happened so far, as ``GET /control/counters`` tells it."""
        return self._service.counters()

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
        self._rest = RestServer(rest_app(self._service, extra_routes=control_routes(self._service)))
        self.rest_url = f"http://{host}:{self._rest.bind(host, rest_port)}"
        self._grpc = GrpcServer(self._service)
        self.address = f"{host}:{self._grpc.bind(host, port)}"
        await self._grpc.start()
        await self._rest.start()
        self._service.open()
