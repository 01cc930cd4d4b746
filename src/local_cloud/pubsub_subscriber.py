"""google.pubsub.v1.Subscriber, as far as it is built: subscriptions, and settling deliveries.

Google's request messages in, Google's answers out, whatever carries them. Nothing waits here;
the calls that do are in ``pubsub_pull``.
"""

from collections.abc import Callable
from typing import Any

from google.pubsub_v1 import types

from local_cloud.broker import DELETED_TOPIC, Broker
from local_cloud.pubsub_publisher import EMPTY
from local_cloud.pubsub_records import InvalidArgumentError
from local_cloud.pubsub_requests import in_project, lease_seconds, page, resource_name
from local_cloud.pubsub_rules import read_rules, updated
from local_cloud.subscription import Subscription


class Subscriber:
    """The calls on subscriptions; each raises BrokerError where it is refused."""

    def __init__(
        self, *, broker: Broker, clock: Callable[[], float], min_ack_deadline_seconds: float
    ) -> None:
        self._broker = broker
        self._clock = clock
        self._min_ack_deadline_seconds = min_ack_deadline_seconds

    async def create_subscription(self, request: Any) -> Any:
        name = resource_name("subscriptions", request.name)
        topic = resource_name("topics", request.topic, field="topic")
        rules = read_rules(request, min_ack_deadline_seconds=self._min_ack_deadline_seconds)
        return _described(
            self._broker.create_subscription(name, topic=topic, rules=rules, record=request)
        )

    async def get_subscription(self, request: Any) -> Any:
        return _described(self._subscription(request.subscription))

    async def list_subscriptions(self, request: Any) -> Any:
        names, next_page_token = page(in_project(self._broker.subscriptions, request), request)
        return types.ListSubscriptionsResponse.pb()(
            subscriptions=[_described(self._broker.subscriptions[name]) for name in names],
            next_page_token=next_page_token,
        )

    async def update_subscription(self, request: Any) -> Any:
        subscription = self._subscription(request.subscription.name, field="subscription.name")
        return self._change(subscription, updated(subscription.record, request))

    async def modify_push_config(self, request: Any) -> Any:
        subscription = self._subscription(request.subscription)
        record = types.Subscription.pb()()
        record.CopyFrom(subscription.record)
        record.push_config.CopyFrom(request.push_config)
        self._change(subscription, record)
        return EMPTY

    async def delete_subscription(self, request: Any) -> Any:
        self._broker.delete_subscription(self._subscription(request.subscription).name)
        return EMPTY

    async def acknowledge(self, request: Any) -> Any:
        subscription = self._subscription(request.subscription)
        if not request.ack_ids:
            raise InvalidArgumentError("ack_ids: at least one.")
        subscription.acknowledge(request.ack_ids, now=self._clock())
        return EMPTY

    async def modify_ack_deadline(self, request: Any) -> Any:
        subscription = self._subscription(request.subscription)
        if not request.ack_ids:
            raise InvalidArgumentError("ack_ids: at least one.")
        seconds = lease_seconds(request.ack_deadline_seconds, field="ack_deadline_seconds")
        subscription.modify_deadline(request.ack_ids, seconds=seconds, now=self._clock())
        return EMPTY

    def _subscription(self, name: str, *, field: str = "subscription") -> Subscription:
        return self._broker.subscription(resource_name("subscriptions", name, field=field))

    def _change(self, subscription: Subscription, record: Any) -> Any:
        rules = read_rules(record, min_ack_deadline_seconds=self._min_ack_deadline_seconds)
        return _described(
            self._broker.change_subscription(subscription.name, rules=rules, record=record)
        )


def _described(subscription: Subscription) -> Any:
    """The resource as the owner wrote it, except that its topic may be gone by now."""
    if subscription.topic == DELETED_TOPIC:
        subscription.record.topic = DELETED_TOPIC
    return subscription.record
