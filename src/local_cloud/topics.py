"""The copier's topics and subscriptions, as an operator makes them, on any Pub/Sub.

Google's own asynchronous clients over a plain channel: the library that reads
PUBSUB_EMULATOR_HOST has no asynchronous one.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

import grpc
from google.api_core.exceptions import DeadlineExceeded, MethodNotImplemented
from google.pubsub_v1 import PublisherAsyncClient, SubscriberAsyncClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcAsyncIOTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcAsyncIOTransport
from google.pubsub_v1.types import (
    DeadLetterPolicy,
    ExpirationPolicy,
    PubsubMessage,
    PushConfig,
    RetryPolicy,
    Subscription,
    Topic,
)

PROJECT = "gemini-fine-tuning-target"
REQUESTS = "model-copy-requests"
REPLIES = "model-copy-replies"
DEAD_LETTERS = "model-copy-dead-letters"
TICKS = "model-copy-ticks"
FORWARDED = "model-copy-forwarded"
# Pub/Sub's own service account in the project, by which it forwards what it gives up.
PUBSUB_AGENT = "serviceAccount:service-123456789012@gcp-sa-pubsub.iam.gserviceaccount.com"
DAY = timedelta(days=1)


@dataclass(kw_only=True)
class Topics:
    """Clients of one Pub/Sub, and what the copier needs there."""

    address: str
    publisher: PublisherAsyncClient = field(init=False)
    subscriber: SubscriberAsyncClient = field(init=False)

    def __post_init__(self) -> None:
        self.publisher = PublisherAsyncClient(
            transport=PublisherGrpcAsyncIOTransport(channel=self._channel())
        )
        self.subscriber = SubscriberAsyncClient(
            transport=SubscriberGrpcAsyncIOTransport(channel=self._channel())
        )

    def _channel(self) -> grpc.aio.Channel:
        """Connect directly: whatever proxy the environment names is not for this machine."""
        return grpc.aio.insecure_channel(self.address, options=[("grpc.enable_http_proxy", 0)])

    async def close(self) -> None:
        for client in (self.publisher, self.subscriber):
            await client.transport.close()  # type: ignore[no-untyped-call]

    async def create(
        self,
        *,
        worker_url: str,
        backoff_seconds: float = 10.0,
        longest_backoff_seconds: float = 600.0,
        max_delivery_attempts: int = 100,
        ack_deadline_seconds: int = 60,
        forwards: bool = True,
        push_account: str = "",
        audience: str = "",
        kept_days: int = 31,
    ) -> None:
        """Make topics and subscriptions, pushed to a worker.

        ``push_account``: push with a token of this account, for ``audience``.

        ``forwards``: push what Pub/Sub gives up itself, too; it takes filters, which Google's
        emulator stores and never applies.

        ``kept_days``: how long requests and letters are kept; its emulator takes 7 at most.
        """
        for topic in (REQUESTS, REPLIES, DEAD_LETTERS, TICKS):
            await self.publisher.create_topic(request=Topic(name=topic_path(topic)))
        token = None
        if push_account:
            token = PushConfig.OidcToken(service_account_email=push_account, audience=audience)
        backoff = RetryPolicy(
            minimum_backoff=timedelta(seconds=backoff_seconds),
            maximum_backoff=timedelta(seconds=longest_backoff_seconds),
        )
        await self._push(
            Subscription(
                name=subscription_path(REQUESTS),
                topic=topic_path(REQUESTS),
                ack_deadline_seconds=ack_deadline_seconds,
                retry_policy=backoff,
                dead_letter_policy=DeadLetterPolicy(
                    dead_letter_topic=topic_path(DEAD_LETTERS),
                    max_delivery_attempts=max_delivery_attempts,
                ),
                message_retention_duration=kept_days * DAY,
            ),
            PushConfig(push_endpoint=f"{worker_url}/pubsub/requests", oidc_token=token),
        )
        await self._push(
            Subscription(
                name=subscription_path(TICKS),
                topic=topic_path(TICKS),
                ack_deadline_seconds=600,
                retry_policy=backoff,
                message_retention_duration=timedelta(minutes=10),
            ),
            PushConfig(push_endpoint=f"{worker_url}/pubsub/ticks", oidc_token=token),
        )
        if forwards:
            # What Pub/Sub forwards itself: nobody has answered it yet.
            await self._push(
                Subscription(
                    name=subscription_path(FORWARDED),
                    topic=topic_path(DEAD_LETTERS),
                    ack_deadline_seconds=ack_deadline_seconds,
                    retry_policy=backoff,
                    filter="attributes:CloudPubSubDeadLetterSourceSubscription",
                    message_retention_duration=kept_days * DAY,
                ),
                PushConfig(push_endpoint=f"{worker_url}/pubsub/dead-letters", oidc_token=token),
            )
        # What a person pulls from to see failed requests.
        await self._create(
            Subscription(
                name=subscription_path(DEAD_LETTERS),
                topic=topic_path(DEAD_LETTERS),
                # As short as may be: so long a letter is hidden whose reader is killed at once.
                ack_deadline_seconds=10,
                message_retention_duration=kept_days * DAY,
            )
        )
        with suppress(MethodNotImplemented):  # Google's emulator knows no permissions
            await self._grant()

    async def _push(self, subscription: Subscription, push: PushConfig) -> None:
        subscription.push_config = push
        await self._create(subscription)

    async def _create(self, subscription: Subscription) -> None:
        subscription.expiration_policy = ExpirationPolicy()  # never
        await self.subscriber.create_subscription(request=subscription)

    async def _grant(self) -> None:
        """Let Pub/Sub forward what it gives up."""
        for client, resource, role in (
            (self.publisher, topic_path(DEAD_LETTERS), "roles/pubsub.publisher"),
            (self.subscriber, subscription_path(REQUESTS), "roles/pubsub.subscriber"),
        ):
            policy = {"bindings": [{"role": role, "members": [PUBSUB_AGENT]}]}
            await client.set_iam_policy(request={"resource": resource, "policy": policy})

    async def tick(self) -> None:
        await self.publisher.publish(
            topic=topic_path(TICKS), messages=[PubsubMessage(data=b"{}")], timeout=5
        )

    async def letters(self) -> Sequence[Mapping[str, str]]:
        """Attributes of the dead letters that are there now; none is settled."""
        try:
            pulled = await self.subscriber.pull(
                subscription=subscription_path(DEAD_LETTERS), max_messages=100, timeout=2
            )
        except DeadlineExceeded:  # there are none
            return []
        ids = [message.ack_id for message in pulled.received_messages]
        if ids:
            await self.subscriber.modify_ack_deadline(
                subscription=subscription_path(DEAD_LETTERS), ack_ids=ids, ack_deadline_seconds=0
            )
        return [dict(message.message.attributes) for message in pulled.received_messages]


def topic_path(name: str) -> str:
    return f"projects/{PROJECT}/topics/{name}"


def subscription_path(name: str) -> str:
    return f"projects/{PROJECT}/subscriptions/{name}"
