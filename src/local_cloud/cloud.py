"""Both servers, Pub/Sub and Vertex AI, as one thing to start and to stop::

    async with LocalCloud(pubsub=PubSub(faults=Faults(Rates(duplicate=0.05)))) as cloud:
        os.environ.update(cloud.exports(project="my-project"))
        ...
        cloud.pubsub.faults.next_delivery(subscription, Fault.DROP_RESPONSE)

It knows nothing of who talks to them; the copier's own processes are added by ``stack``.
"""

from dataclasses import dataclass, field
from typing import Self

from local_cloud.pubsub import PubSub
from local_cloud.vertex import Vertex


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Of the two servers; 0 takes a free one."""

    pubsub: int = 0
    pubsub_rest: int = 0
    vertex: int = 0
    vertex_rest: int = 0


@dataclass(kw_only=True)
class LocalCloud:
    """``async with LocalCloud() as cloud``: running. Each server has its knobs itself."""

    pubsub: PubSub = field(default_factory=PubSub)
    vertex: Vertex = field(default_factory=Vertex)
    ports: Ports = field(default_factory=Ports)
    host: str = "127.0.0.1"

    async def start(self) -> None:
        """Listen, on both or on neither.

        Raises:
            RuntimeError: a gRPC port is taken.
            OSError: a REST port is taken.
        """
        host, ports = self.host, self.ports
        try:
            await self.pubsub.start(host=host, port=ports.pubsub, rest_port=ports.pubsub_rest)
            await self.vertex.start(host=host, port=ports.vertex, rest_port=ports.vertex_rest)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End what is open, within a second. What happened can still be read afterwards."""
        await self.vertex.stop()
        await self.pubsub.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def exports(self, *, project: str) -> dict[str, str]:
        """What aims Google's clients, gcloud and curl at this cloud."""
        return {
            **self.pubsub.exports(project=project),
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM": f"{self.vertex.rest_url}/",
            "VERTEX_GRPC": self.vertex.address,
            "VERTEX_REST": self.vertex.rest_url,
        }
