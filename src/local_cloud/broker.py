"""Topics and subscriptions: who is owed what is published, and where dead letters go.

Pure: no I/O and no clock; ``now`` is Unix seconds and comes with each call. The caller learns
from ``collect_stirred`` whom to wake and from ``next_due`` when to call ``advance``.

What must not break: a message is owed by every subscription that its topic had when it came
and whose filter it matches; a call that is refused has changed nothing.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from local_cloud.pubsub_faults import Faults
from local_cloud.pubsub_records import (
    AlreadyExistsError,
    Content,
    Counts,
    Message,
    NotFoundError,
    Rules,
)
from local_cloud.subscription import Subscription

DELETED_TOPIC = "_deleted-topic_"


@dataclass(slots=True, kw_only=True)
class Topic:
    name: str
    record: Any
    policy: Any = None  # of IAM; None until one is set
    subscriptions: dict[str, Subscription] = field(default_factory=dict)


class Broker:
    """Every topic and subscription of one local cloud, and what went wrong there on purpose.

    ``published`` (messages by topic) and ``counts`` (by subscription) outlive what they count.
    """

    def __init__(self, *, faults: Faults | None = None) -> None:
        self.topics: dict[str, Topic] = {}
        self.subscriptions: dict[str, Subscription] = {}
        self.faults = faults or Faults()
        self.published: Counter[str] = Counter()
        self.counts: defaultdict[str, Counts] = defaultdict(Counts)
        self._stirred: dict[Subscription, None] = {}
        self._serials = itertools.count(1)
        self._last_message_id = 0

    def create_topic(self, name: str, *, record: Any) -> Topic:
        if name in self.topics:
            raise AlreadyExistsError(f"Resource already exists in the project (resource={name}).")
        topic = self.topics[name] = Topic(name=name, record=record)
        return topic

    def topic(self, name: str) -> Topic:
        try:
            return self.topics[name]
        except KeyError:
            raise NotFoundError(f"Resource not found (resource={name}).") from None

    def delete_topic(self, name: str) -> None:
        """Subscriptions stay, with their backlog, and get nothing more."""
        for subscription in self.topic(name).subscriptions.values():
            subscription.topic = DELETED_TOPIC
        del self.topics[name]

    def publish(self, topic: str, contents: Sequence[Content], *, now: float) -> list[str]:
        """Hand each content to every subscription whose filter it matches; answer their ids."""
        subscriptions = self.topic(topic).subscriptions.values()
        messages = [self._message(content, now) for content in contents]
        self.published[topic] += len(messages)
        for message in messages:
            for subscription in subscriptions:
                if subscription.rules.matches(message.content.attributes):
                    subscription.add(message)
        return [message.message_id for message in messages]

    def create_subscription(
        self, name: str, *, topic: str, rules: Rules, record: Any
    ) -> Subscription:
        if name in self.subscriptions:
            raise AlreadyExistsError(f"Resource already exists in the project (resource={name}).")
        owner = self.topic(topic)
        self._check_dead_letter_topic(rules)
        subscription = Subscription(
            name=name,
            topic=topic,
            rules=rules,
            record=record,
            serial=next(self._serials),
            faults=self.faults,
            counts=self.counts[name],
            stir=self._stirred.setdefault,
            bury=self._bury,
        )
        owner.subscriptions[name] = self.subscriptions[name] = subscription
        return subscription

    def subscription(self, name: str) -> Subscription:
        try:
            return self.subscriptions[name]
        except KeyError:
            raise NotFoundError(f"Resource not found (resource={name}).") from None

    def change_subscription(self, name: str, *, rules: Rules, record: Any) -> Subscription:
        """Deliver by other rules from now on; leases already given keep their end."""
        subscription = self.subscription(name)
        self._check_dead_letter_topic(rules)
        subscription.rules, subscription.record = rules, record
        self._stirred[subscription] = None
        return subscription

    def delete_subscription(self, name: str) -> None:
        subscription = self.subscription(name)
        subscription.deleted = True
        self._stirred[subscription] = None
        del self.subscriptions[name]
        if subscription.topic in self.topics:
            del self.topics[subscription.topic].subscriptions[name]

    def advance(self, now: float) -> None:
        for subscription in list(self.subscriptions.values()):
            subscription.advance(now)

    def next_due(self) -> float | None:
        dues = (subscription.next_due() for subscription in self.subscriptions.values())
        return min((due for due in dues if due is not None), default=None)

    def collect_stirred(self) -> list[Subscription]:
        """The subscriptions that may have something new to say since the last call."""
        stirred = list(self._stirred)
        self._stirred.clear()
        return stirred

    def _message(self, content: Content, now: float) -> Message:
        # From the clock, not from 1: ids stay new across restarts, as jobs kept in a file
        # may remember them. Sixteen digits, like the real ones.
        self._last_message_id = max(self._last_message_id + 1, int(now * 1_000_000))
        published_at = datetime.fromtimestamp(int(now * 1000) / 1000, tz=UTC)
        return Message(
            message_id=str(self._last_message_id), published_at=published_at, content=content
        )

    def _check_dead_letter_topic(self, rules: Rules) -> None:
        if rules.dead_letter_topic and rules.dead_letter_topic not in self.topics:
            raise NotFoundError(
                "dead_letter_policy.dead_letter_topic: Resource not found "
                f"(resource={rules.dead_letter_topic})."
            )

    def _bury(
        self, subscription: Subscription, message: Message, attempts: int, now: float
    ) -> bool:
        """Publish the dead letter; False when its topic is gone, and the message stays."""
        if subscription.rules.dead_letter_topic not in self.topics:
            return False
        _, project, _, name = subscription.name.split("/")
        marks = {
            "CloudPubSubDeadLetterSourceDeliveryCount": str(attempts),
            "CloudPubSubDeadLetterSourceSubscription": name,
            "CloudPubSubDeadLetterSourceSubscriptionProject": project,
            "CloudPubSubDeadLetterSourceTopicPublishTime": message.published_at.isoformat(
                timespec="milliseconds"
            ),
        }
        content = Content(
            data=message.content.data,
            attributes={**message.content.attributes, **marks},
            ordering_key=message.content.ordering_key,
        )
        self.publish(subscription.rules.dead_letter_topic, [content], now=now)
        return True
