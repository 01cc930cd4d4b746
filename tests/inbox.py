"""Where a test waits for messages: a subscription of its own, read by Google's own client."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

import grpc
from google.api_core.exceptions import DeadlineExceeded
from google.pubsub_v1 import SubscriberAsyncClient
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcAsyncIOTransport
from google.pubsub_v1.types import PubsubMessage, Subscription


@dataclass
class Inbox:
    """All messages of a topic from ``open`` on, in the order of their arrival."""

    client: SubscriberAsyncClient
    subscription: str
    messages: list[PubsubMessage] = field(default_factory=list)

    @classmethod
    async def open(cls, address: str, topic: str, name: str) -> Self:
        channel = grpc.aio.insecure_channel(
            address, options=[("grpc.max_receive_message_length", -1)]
        )
        client = SubscriberAsyncClient(transport=SubscriberGrpcAsyncIOTransport(channel=channel))
        subscription = f"{topic.rpartition('/topics/')[0]}/subscriptions/{name}"
        await client.create_subscription(request=Subscription(name=subscription, topic=topic))
        return cls(client, subscription)

    async def close(self) -> None:
        await self.client.transport.close()

    async def until(
        self, found: Callable[[PubsubMessage], bool], *, seconds: float = 20
    ) -> PubsubMessage:
        """Return the first message for which ``found`` holds, and fail when none comes."""
        deadline = asyncio.get_running_loop().time() + seconds
        while not (matches := [message for message in self.messages if found(message)]):
            left = deadline - asyncio.get_running_loop().time()
            assert left > 0, f"no such message in {seconds} s; there were {self.messages}"
            await self._pull(left)
        return matches[0]

    def of(self, request_id: str) -> list[PubsubMessage]:
        """What has come so far for one request."""
        return [m for m in self.messages if m.attributes.get("request_id") == request_id]

    async def drain(self, *, seconds: float = 0.3) -> list[PubsubMessage]:
        """Return everything there is, once nothing more comes for a while."""
        while await self._pull(seconds):
            pass
        return self.messages

    async def _pull(self, seconds: float) -> bool:
        try:
            pulled = await self.client.pull(
                subscription=self.subscription, max_messages=100, timeout=seconds, retry=None
            )
        except DeadlineExceeded:
            return False
        self.messages += [message.message for message in pulled.received_messages]
        ids = [message.ack_id for message in pulled.received_messages]
        if ids:
            await self.client.acknowledge(subscription=self.subscription, ack_ids=ids)
        return bool(ids)

    async def reply(self, request_id: str, *, seconds: float = 20) -> dict[str, Any]:
        """Wait for the outcome of a request; its data, with the event id as ``id``."""
        message = await self.until(
            lambda message: message.attributes.get("request_id") == request_id, seconds=seconds
        )
        data: dict[str, Any] = json.loads(message.data)
        return data | {"id": message.attributes["ce-id"]}
