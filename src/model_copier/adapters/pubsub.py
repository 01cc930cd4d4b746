"""Replies, letters and ticks into Pub/Sub, through the generated async client.

Not the batching ``PublisherClient``: it sends from a thread of its own, and Cloud Run
gives no CPU to what goes on after the answer. A publish here has ended when it returns.
"""

import asyncio

import grpc
from google.api_core.exceptions import GoogleAPICallError, NotFound, PermissionDenied
from google.auth.exceptions import GoogleAuthError
from google.protobuf.message import DecodeError
from google.pubsub_v1 import PublisherAsyncClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcAsyncIOTransport
from google.pubsub_v1.types import PublishRequest, PubsubMessage

from model_copier.contract.requests import Message
from model_copier.domain.errors import SetUpError, UnavailableError
from model_copier.logs import log

_AWAY = "Pub/Sub does not take messages of the service now, and nothing was changed: try again"
# The last two: what Google's client raises of an error whose details it cannot read.
_TROUBLE = (GoogleAPICallError, GoogleAuthError, TimeoutError, OSError, DecodeError, ValueError)


class PubsubTopics:
    """See ``ports.Topics`` for the promises."""

    def __init__(
        self,
        *,
        reply_topic: str,
        dead_letter_topic: str,
        tick_topic: str,
        call_seconds: float,
        emulator_host: str = "",
    ) -> None:
        self._reply_topic = reply_topic
        self._dead_letter_topic = dead_letter_topic
        self._tick_topic = tick_topic
        self._call_seconds = call_seconds
        self._emulator_host = emulator_host
        self._client: PublisherAsyncClient | None = None

    async def close(self) -> None:
        if self._client is not None:
            await self._client.transport.close()
            self._client = None

    async def publish_reply(self, message: Message) -> None:
        await self._publish(self._reply_topic, message)

    async def publish_letter(self, message: Message) -> None:
        await self._publish(self._dead_letter_topic, message)

    async def publish_tick(self) -> None:
        try:
            await self._publish(self._tick_topic, Message(data=b"{}", attributes={}))
        except UnavailableError as error:
            # Nobody else tells: the copy goes on, only its end is seen with the next tick that
            # Cloud Scheduler sends.
            log("tick_not_published", severity="ERROR", topic=self._tick_topic, why=str(error))
            raise

    async def check(self) -> None:
        topic = self._reply_topic
        try:
            async with asyncio.timeout(self._call_seconds):
                await self._connected().get_topic(
                    topic=topic, retry=None, timeout=self._call_seconds
                )
        except PermissionDenied:
            return  # Pub/Sub answers; who may publish need not be allowed to look
        except NotFound as error:
            raise SetUpError(
                f"{topic}: {error}",
                what="the topic does not exist",
                mends="gcloud pubsub topics create TOPIC",
            ) from error
        except _TROUBLE as error:
            raise UnavailableError(f"{topic}: {error}", told=_AWAY) from error

    async def _publish(self, topic: str, message: Message) -> None:
        request = PublishRequest(
            topic=topic,
            messages=[PubsubMessage(data=message.data, attributes=dict(message.attributes))],
        )
        try:
            async with asyncio.timeout(self._call_seconds):
                await self._connected().publish(
                    request=request, retry=None, timeout=self._call_seconds
                )
        except _TROUBLE as error:
            raise UnavailableError(f"publish to {topic}: {error}", told=_AWAY) from error

    def _connected(self) -> PublisherAsyncClient:
        if self._client is None:
            self._client = (
                # This client does not read PUBSUB_EMULATOR_HOST by itself.
                PublisherAsyncClient(transport=_emulator(self._emulator_host))
                if self._emulator_host
                else PublisherAsyncClient()
            )
        return self._client


def _emulator(host: str) -> PublisherGrpcAsyncIOTransport:
    # As Google's own client does: messages of 10 MB must fit.
    # And whatever proxy the environment names is not for this machine.
    options = [
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", -1),
        ("grpc.enable_http_proxy", 0),
    ]
    return PublisherGrpcAsyncIOTransport(channel=grpc.aio.insecure_channel(host, options=options))
