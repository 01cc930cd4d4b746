"""The calls of the local Pub/Sub, whatever carries them, and what follows from each.

Both faces (gRPC and REST) come through ``Service``, so a rule is the same on each. It knows
the time, waits and pushes; it opens no socket to be called on.

What must not break: a call either changes the broker wholly or is refused; and every change
is followed by ``_settle``, which wakes whoever waits for it and sets the one timer.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict
from typing import Any

from google.iam.v1 import iam_policy_pb2
from google.pubsub_v1 import types

from local_cloud.broker import Broker
from local_cloud.pubsub_faults import Faults
from local_cloud.pubsub_iam import Iam
from local_cloud.pubsub_publisher import Publisher
from local_cloud.pubsub_pull import Bells, Puller
from local_cloud.pubsub_push import Courier
from local_cloud.pubsub_subscriber import Subscriber
from local_cloud.tokens import TokenSigner

# What is served: by gRPC service, each method and the protobuf class of its request. Only
# StreamingPull is not here, which is not one request and one answer.
SERVICES: dict[str, dict[str, Any]] = {
    "google.pubsub.v1.Publisher": {
        "CreateTopic": types.Topic.pb(),
        "GetTopic": types.GetTopicRequest.pb(),
        "ListTopics": types.ListTopicsRequest.pb(),
        "ListTopicSubscriptions": types.ListTopicSubscriptionsRequest.pb(),
        "DeleteTopic": types.DeleteTopicRequest.pb(),
        "Publish": types.PublishRequest.pb(),
    },
    "google.pubsub.v1.Subscriber": {
        "CreateSubscription": types.Subscription.pb(),
        "GetSubscription": types.GetSubscriptionRequest.pb(),
        "ListSubscriptions": types.ListSubscriptionsRequest.pb(),
        "UpdateSubscription": types.UpdateSubscriptionRequest.pb(),
        "ModifyPushConfig": types.ModifyPushConfigRequest.pb(),
        "DeleteSubscription": types.DeleteSubscriptionRequest.pb(),
        "Pull": types.PullRequest.pb(),
        "Acknowledge": types.AcknowledgeRequest.pb(),
        "ModifyAckDeadline": types.ModifyAckDeadlineRequest.pb(),
    },
    "google.iam.v1.IAMPolicy": {
        "GetIamPolicy": iam_policy_pb2.GetIamPolicyRequest,
        "SetIamPolicy": iam_policy_pb2.SetIamPolicyRequest,
        "TestIamPermissions": iam_policy_pb2.TestIamPermissionsRequest,
    },
}


class Service:
    """A broker with a clock, those who wait for it, and its couriers.

    What it holds outlives ``close``: opened again, it carries on where it was.
    """

    def __init__(
        self, *, min_ack_deadline_seconds: float, max_parallel_pushes: int, faults: Faults
    ) -> None:
        self._broker = Broker(faults=faults)
        self._clock: Callable[[], float] = time.time
        self.signer = TokenSigner(clock=self._clock)
        self._bells = Bells()
        self._max_parallel_pushes = max_parallel_pushes
        self._courier: Courier | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._iam = Iam(broker=self._broker)
        publisher = Publisher(broker=self._broker, clock=self._clock)
        subscriber = Subscriber(
            broker=self._broker,
            clock=self._clock,
            min_ack_deadline_seconds=min_ack_deadline_seconds,
        )
        self._puller = Puller(
            broker=self._broker,
            clock=self._clock,
            bells=self._bells,
            settle=self._settle,
            min_ack_deadline_seconds=min_ack_deadline_seconds,
        )
        self._answers: dict[str, Callable[[Any], Awaitable[Any]]] = {
            "CreateTopic": publisher.create_topic,
            "GetTopic": publisher.get_topic,
            "ListTopics": publisher.list_topics,
            "ListTopicSubscriptions": publisher.list_topic_subscriptions,
            "DeleteTopic": publisher.delete_topic,
            "Publish": publisher.publish,
            "CreateSubscription": subscriber.create_subscription,
            "GetSubscription": subscriber.get_subscription,
            "ListSubscriptions": subscriber.list_subscriptions,
            "UpdateSubscription": subscriber.update_subscription,
            "ModifyPushConfig": subscriber.modify_push_config,
            "DeleteSubscription": subscriber.delete_subscription,
            "Acknowledge": subscriber.acknowledge,
            "ModifyAckDeadline": subscriber.modify_ack_deadline,
            "Pull": self._puller.pull,
            "GetIamPolicy": self._iam.get_iam_policy,
            "SetIamPolicy": self._iam.set_iam_policy,
            "TestIamPermissions": self._iam.test_iam_permissions,
        }

    async def call(self, method: str, request: Any) -> Any:
        """Answer one call of a method in ``SERVICES``; protobuf in, protobuf out.

        Raises:
            BrokerError: the call is refused.
        """
        self._iam.check(method, request)
        try:
            return await self._answers[method](request)
        finally:
            self._settle()

    async def streaming_pull(
        self, requests: AsyncIterator[Any], write: Callable[[Any], Awaitable[None]]
    ) -> None:
        """See ``Puller.stream``."""

        async def admitted() -> AsyncIterator[Any]:
            async for request in requests:
                self._iam.check("StreamingPull", request)  # only the first names the subscription
                yield request

        await self._puller.stream(admitted(), write)

    @property
    def faults(self) -> Faults:
        return self._broker.faults

    def counters(self) -> dict[str, Any]:
        """What happened so far, by topic and by subscription; nothing is ever set back."""
        return {
            "topics": {
                topic: {"published": messages} for topic, messages in self._broker.published.items()
            },
            "subscriptions": {
                name: {**asdict(counts), "backlog": self._backlog(name)}
                for name, counts in self._broker.counts.items()
            },
        }

    def _backlog(self, name: str) -> int:
        subscription = self._broker.subscriptions.get(name)
        return subscription.backlog() if subscription else 0

    def open(self) -> None:
        """Begin to push and to keep time, on the running loop."""
        self._courier = Courier(
            clock=self._clock,
            settle=self._settle,
            signer=self.signer,
            max_parallel=self._max_parallel_pushes,
        )
        for subscription in self._broker.subscriptions.values():
            self._courier.dispatch(subscription)
        self._settle()

    async def close(self) -> None:
        """End every push at once. One that is cut short is nacked; leases run on."""
        if self._courier is None:
            return
        courier, self._courier = self._courier, None
        if self._timer is not None:
            self._timer.cancel()
        await courier.close()

    def _settle(self) -> None:
        """Wake whoever may have been waiting for what just changed, and set the timer anew."""
        if self._courier is None:
            return
        while stirred := self._broker.collect_stirred():
            for subscription in stirred:
                self._bells.ring(subscription)
                self._courier.dispatch(subscription)
        if self._timer is not None:
            self._timer.cancel()
        due = self._broker.next_due()
        if due is not None:
            delay = max(0.0, due - self._clock())
            self._timer = asyncio.get_running_loop().call_later(delay, self._on_time)

    def _on_time(self) -> None:
        self._broker.advance(self._clock())
        self._settle()
