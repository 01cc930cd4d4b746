"""The real ``model-copy`` in a process of its own, and the other side of its topics.

The service's part is small: take the request from a subscription, announce what the test says.
"""

import asyncio
import json
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
from google.pubsub_v1 import PublisherAsyncClient, SubscriberAsyncClient, types
from google.pubsub_v1.services.publisher.transports import PublisherGrpcAsyncIOTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcAsyncIOTransport

from model_copy_publisher import CopyRequest
from model_copy_publisher.messages import DEFAULT_SOURCE

PROJECT = "projects/team-models"
REQUESTS = f"{PROJECT}/topics/model-copy-requests"
REPLIES = f"{PROJECT}/topics/model-copy-replies"
WORKER = f"{PROJECT}/subscriptions/worker"
DEADLINE_SECONDS = 30.0

COPY = ["publish", "7704127342733426688@1", "faker_251230", "--project", "team-models"]
SUCCESS = {
    "outcome": "succeeded",
    "resource_name": "projects/target/locations/us-central1/models/faker_251230",
    "version": "1",
    "verified": True,
    "warnings": ["The service agent has no role on the key."],
    "timings": {"copy_seconds": 0.001},
}


class Service:
    """The other side of the topics, moved by the test."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.publisher = PublisherAsyncClient(
            transport=PublisherGrpcAsyncIOTransport(channel=channel)
        )
        self.subscriber = SubscriberAsyncClient(
            transport=SubscriberGrpcAsyncIOTransport(channel=channel)
        )

    async def set_up(self) -> None:
        await self.publisher.create_topic(name=REQUESTS)
        await self.publisher.create_topic(name=REPLIES)
        await self.subscriber.create_subscription(name=WORKER, topic=REQUESTS)

    async def request(self) -> types.PubsubMessage:
        """Take the next request, as it came."""
        response = await self.subscriber.pull(
            subscription=WORKER, max_messages=1, timeout=DEADLINE_SECONDS
        )
        [received] = response.received_messages
        await self.subscriber.acknowledge(subscription=WORKER, ack_ids=[received.ack_id])
        return received.message

    async def requests(self, count: int) -> list[types.PubsubMessage]:
        """Take so many requests."""
        taken: list[types.PubsubMessage] = []
        async with asyncio.timeout(DEADLINE_SECONDS):
            while len(taken) < count:
                response = await self.subscriber.pull(subscription=WORKER, max_messages=1000)
                ack_ids = [each.ack_id for each in response.received_messages]
                taken += [each.message for each in response.received_messages]
                await self.subscriber.acknowledge(subscription=WORKER, ack_ids=ack_ids)
        return taken

    async def announce(
        self,
        request: types.PubsubMessage,
        data: Mapping[str, Any] = SUCCESS,
        *,
        without: str = "",
        **attributes: str,
    ) -> None:
        """Publish the outcome of ``request``; ``attributes`` replace the true ones."""
        told = {
            "request_source": request.attributes["ce-source"],
            "request_digest": CopyRequest(**json.loads(request.data)).digest,
        } | attributes
        await self.tell(request.attributes["ce-id"], data, without=without, **told)

    async def tell(
        self, request_id: str, data: Mapping[str, Any], /, *, without: str = "", **attributes: str
    ) -> None:
        """Publish an outcome or a state of the publisher's request of this id."""
        told = {
            "ce-specversion": "1.0",
            "ce-id": f"{request_id}-outcome-1",
            "ce-source": "//model-copier",
            "ce-type": f"dev.modelcopier.copy.{data['outcome']}.v1",
            "content-type": "application/json",
            "request_id": request_id,
            "request_source": DEFAULT_SOURCE,
            "outcome": data["outcome"],
            "run": "1",
        } | attributes
        told.pop(without, None)
        message = types.PubsubMessage(data=json.dumps(data).encode(), attributes=told)
        await self.publisher.publish(topic=REPLIES, messages=[message])

    async def listeners(self) -> list[types.Subscription]:
        """Return the subscriptions to the replies."""
        pager = await self.publisher.list_topic_subscriptions(topic=REPLIES)
        return [await self.subscriber.get_subscription(subscription=name) async for name in pager]


class Command:
    """A running ``model-copy``; its standard error is read line by line as it comes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.errors = ""

    async def shows(self, text: str) -> None:
        """Wait until standard error has shown ``text``."""
        assert self.process.stderr is not None
        async with asyncio.timeout(DEADLINE_SECONDS):
            while text not in self.errors:
                line = (await self.process.stderr.readline()).decode()
                assert line, f"ended without {text!r}: {self.errors}"
                self.errors += line

    async def ends(self, given: str = "") -> tuple[int, str]:
        """Wait for the end and return the exit code and standard output; ``given`` is its input."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            output, errors = await self.process.communicate(given.encode())
        self.errors += errors.decode()
        assert self.process.returncode is not None
        assert "Traceback" not in self.errors
        return self.process.returncode, output.decode()

    @property
    def again(self) -> list[str]:
        """The command that it printed last, as a shell would read it."""
        [line] = [line for line in self.errors.splitlines() if line.startswith("  model-copy ")]
        return shlex.split(line)[1:]


Run = Callable[..., Awaitable[Command]]


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[Service]:
    async with grpc.aio.insecure_channel(address) as channel:
        yield Service(channel)
