"""One topic, one subscription and a clock that tests move: the broker without a server."""

from local_cloud.broker import Broker
from local_cloud.filters import parse_filter
from local_cloud.pubsub_faults import Faults, Rates
from local_cloud.pubsub_records import Backoff, Consumer, Content, Counts, Delivery, Push, Rules
from local_cloud.subscription import Subscription

TOPIC = "projects/p/topics/requests"
LETTERS = "projects/p/topics/letters"
SUBSCRIPTION = "projects/p/subscriptions/worker"
AT_ONCE = Backoff(minimum_seconds=0, maximum_seconds=0)


class World:
    """One topic, one subscription, and a clock."""

    def __init__(
        self,
        *,
        backoff: Backoff = AT_ONCE,
        attribute_filter: str = "",
        push_endpoint: str = "",
        dead_letter_topic: str = "",
        ordered: bool = False,
        rates: Rates | None = None,
    ) -> None:
        self.now = 1_000_000.0
        self.broker = Broker(faults=Faults(rates))
        self.broker.create_topic(TOPIC, record=None)
        self.broker.create_topic(LETTERS, record=None)
        self.rules = Rules(
            matches=parse_filter(attribute_filter),
            ack_deadline_seconds=10,
            backoff=backoff,
            push=Push(endpoint=push_endpoint) if push_endpoint else None,
            dead_letter_topic=dead_letter_topic,
            max_delivery_attempts=5 if dead_letter_topic else 0,
            ordered=ordered,
        )
        self.worker = self.subscribe(SUBSCRIPTION, self.rules)

    def subscribe(self, name: str, rules: Rules, *, topic: str = TOPIC) -> Subscription:
        return self.broker.create_subscription(name, topic=topic, rules=rules, record=None)

    def publish(self, *texts: str, **attributes: str) -> list[str]:
        contents = [Content(data=text.encode(), attributes=attributes) for text in texts]
        return self.broker.publish(TOPIC, contents, now=self.now)

    def publish_with_key(self, key: str, *texts: str) -> None:
        contents = [Content(data=text.encode(), ordering_key=key) for text in texts]
        self.broker.publish(TOPIC, contents, now=self.now)

    def acknowledge(self, delivery: Delivery) -> None:
        self.worker.acknowledge([delivery.ack_id], now=self.now)

    @property
    def counts(self) -> Counts:
        return self.broker.counts[SUBSCRIPTION]

    def take(
        self,
        consumer: Consumer | None = None,
        *,
        limit: int = 100,
        who: Subscription | None = None,
    ) -> list[Delivery]:
        consumer = consumer or Consumer(lease_seconds=10)
        return (who or self.worker).take(consumer, limit=limit, now=self.now)

    def nack(self, delivery: Delivery) -> None:
        self.worker.modify_deadline([delivery.ack_id], seconds=0, now=self.now)


def texts(deliveries: list[Delivery]) -> list[str]:
    return [delivery.message.content.data.decode() for delivery in deliveries]
