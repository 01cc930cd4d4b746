"""google.pubsub.v1.Publisher, as far as it is built: topics, and publishing to them.

Google's request messages in, Google's answers out, whatever carries them. Nothing waits here:
a call is over before another begins.
"""

from collections.abc import Callable
from typing import Any

from google.protobuf import empty_pb2
from google.pubsub_v1 import types

from local_cloud.broker import Broker, Topic
from local_cloud.pubsub_requests import (
    contents_of,
    in_project,
    page,
    refuse_unbuilt,
    resource_name,
)

EMPTY: Any = empty_pb2.Empty()  # type: ignore[attr-defined]  # protobuf makes it at import

_UNBUILT_FIELDS = frozenset(
    {"schema_settings", "ingestion_data_source_settings", "message_transforms"}
)


class Publisher:
    """The calls on topics; each raises BrokerError where it is refused."""

    def __init__(self, *, broker: Broker, clock: Callable[[], float]) -> None:
        self._broker = broker
        self._clock = clock

    async def create_topic(self, request: Any) -> Any:
        refuse_unbuilt(request, _UNBUILT_FIELDS)
        request.state = types.Topic.State.ACTIVE.value
        name = resource_name("topics", request.name)
        return self._broker.create_topic(name, record=request).record

    async def get_topic(self, request: Any) -> Any:
        return self._topic(request.topic).record

    async def list_topics(self, request: Any) -> Any:
        names, next_page_token = page(in_project(self._broker.topics, request), request)
        return types.ListTopicsResponse.pb()(
            topics=[self._broker.topics[name].record for name in names],
            next_page_token=next_page_token,
        )

    async def list_topic_subscriptions(self, request: Any) -> Any:
        names, next_page_token = page(self._topic(request.topic).subscriptions, request)
        return types.ListTopicSubscriptionsResponse.pb()(
            subscriptions=names, next_page_token=next_page_token
        )

    async def delete_topic(self, request: Any) -> Any:
        self._broker.delete_topic(self._topic(request.topic).name)
        return EMPTY

    async def publish(self, request: Any) -> Any:
        topic = self._topic(request.topic)
        message_ids = self._broker.publish(topic.name, contents_of(request), now=self._clock())
        return types.PublishResponse.pb()(message_ids=message_ids)

    def _topic(self, name: str) -> Topic:
        return self._broker.topic(resource_name("topics", name, field="topic"))
