"""Topics, subscriptions, and the messages that each subscription still owes its subscribers.

Pure: no I/O and no clock; ``now`` is Unix seconds and comes with each call. One message in
one subscription lives like this::

    READY --take--> LEASED --acknowledge--> gone
      ^               |
      |               +--nack, or the lease runs out--> DELAYED (backoff) --> READY
      |               +--the same, once too often-----> published to the dead-letter topic

What must not break: a message leaves a subscription only by an acknowledgement that names
its present lease, by its dead letter, or with the subscription itself. The caller learns
from ``collect_stirred`` whom to wake and from ``next_due`` when to call ``advance``.
"""

import heapq
import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar

from local_cloud.filters import Predicate

DELETED_TOPIC = "_deleted-topic_"
# What one answer carries at most, unless a single message is larger: gRPC clients refuse
# answers over 4 MiB by default, and Google's do so when they talk to an emulator.
ANSWER_BYTES = 3_500_000

_ACK_ID = re.compile(r"ack-\d+-\d+")


class BrokerError(Exception):
    """A request that was refused; asking again unchanged is refused again."""

    code: ClassVar[str]


class NotFoundError(BrokerError):
    """The topic or subscription does not exist, or no longer."""

    code = "NOT_FOUND"


class AlreadyExistsError(BrokerError):
    """The name is taken."""

    code = "ALREADY_EXISTS"


class InvalidArgumentError(BrokerError):
    """A field breaks a documented rule; the sentence begins with its name."""

    code = "INVALID_ARGUMENT"


class FailedPreconditionError(BrokerError):
    """The subscription is not of the kind that the call needs."""

    code = "FAILED_PRECONDITION"


class UnimplementedError(BrokerError):
    """The real service can do this and this one cannot."""

    code = "UNIMPLEMENTED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a publisher wrote."""

    data: bytes = b""
    attributes: Mapping[str, str] = field(default_factory=dict)
    ordering_key: str = ""

    def size(self) -> int:
        return len(self.data) + sum(len(k) + len(v) for k, v in self.attributes.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    message_id: str
    published_at: datetime
    content: Content


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How long a failed message rests: doubling from the minimum up to the maximum."""

    minimum_seconds: float
    maximum_seconds: float

    def seconds(self, *, failures: int) -> float:
        # Doubling needs a seed where the minimum is 0; the exponent is capped because a
        # float has no room for 2 ** 1024.
        seed = max(self.minimum_seconds, 0.1)
        return min(self.maximum_seconds, seed * 2.0 ** min(failures - 1, 30))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How one subscription delivers. No endpoint: by pull. No dead-letter topic: for ever."""

    matches: Predicate
    ack_deadline_seconds: float
    backoff: Backoff
    push_endpoint: str = ""
    dead_letter_topic: str = ""
    max_delivery_attempts: int = 0


@dataclass(slots=True, kw_only=True, eq=False)
class Consumer:
    """Who takes deliveries: one pull call, one stream, or the push side of a subscription.

    Limits count what is held and not yet settled; 0 is no limit.
    """

    lease_seconds: float
    pushes: bool = False
    max_messages: int = 0
    max_bytes: int = 0
    held_messages: int = 0
    held_bytes: int = 0

    def has_room(self) -> bool:
        return (self.max_messages <= 0 or self.held_messages < self.max_messages) and (
            self.max_bytes <= 0 or self.held_bytes < self.max_bytes
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A message handed out. ``attempt`` is 1 the first time."""

    ack_id: str
    message: Message
    attempt: int


@dataclass(slots=True, kw_only=True)
class _Debt:
    """A message that a subscription owes, and how often it was handed out."""

    serial: int
    message: Message
    size: int
    attempts: int = 0


@dataclass(slots=True, kw_only=True)
class _Lease:
    debt: _Debt
    consumer: Consumer
    until: float


class Subscription:
    """One subscription and its backlog; made by ``Broker.create_subscription``.

    ``record`` is the resource as its owner described it, kept for the asking, never read here.
    """

    def __init__(
        self,
        *,
        name: str,
        topic: str,
        rules: Rules,
        record: Any,
        serial: int,
        stir: Callable[["Subscription"], None],
        bury: Callable[["Subscription", Message, int, float], bool],
    ) -> None:
        self.name = name
        self.topic = topic
        self.rules = rules
        self.record = record
        self.deleted = False
        self._serial = serial
        self._stir = stir
        self._bury = bury
        self._debts = itertools.count(1)
        self._deliveries = itertools.count(1)
        self._ready: list[tuple[int, _Debt]] = []
        self._delayed: list[tuple[float, int, _Debt]] = []
        self._leases: dict[str, _Lease] = {}
        # May name leases that were settled or extended since; checked when they come up.
        self._lease_ends: list[tuple[float, str]] = []

    def add(self, message: Message) -> None:
        debt = _Debt(serial=next(self._debts), message=message, size=message.content.size())
        heapq.heappush(self._ready, (debt.serial, debt))
        self._stir(self)

    def take(self, consumer: Consumer, *, limit: int, now: float) -> list[Delivery]:
        """Lease ready messages to ``consumer``, oldest first; an empty list is a normal answer.

        Raises:
            NotFoundError: the subscription was deleted.
            FailedPreconditionError: it pushes, and ``consumer`` pulls.
        """
        if self.deleted:
            raise NotFoundError(f"Subscription was deleted (resource={self.name}).")
        if self.rules.push_endpoint and not consumer.pushes:
            raise FailedPreconditionError(f"{self.name} is a push subscription; nothing to pull.")
        self.advance(now)
        taken: list[Delivery] = []
        taken_bytes = 0
        while self._ready and len(taken) < limit and consumer.has_room():
            debt = self._ready[0][1]
            taken_bytes += debt.size
            if taken and taken_bytes > ANSWER_BYTES:
                break
            heapq.heappop(self._ready)
            taken.append(self._lease(debt, consumer, now))
        return taken

    def acknowledge(self, ack_ids: Iterable[str]) -> None:
        """Settle these deliveries; a lease that ran out is no longer there to settle.

        Raises:
            InvalidArgumentError: an id that this broker never wrote.
        """
        for ack_id in _checked(ack_ids):
            self._end_lease(ack_id)

    def modify_deadline(self, ack_ids: Iterable[str], *, seconds: float, now: float) -> None:
        """Let these leases end ``seconds`` from now; 0 is a nack.

        Raises:
            InvalidArgumentError: an id that this broker never wrote.
        """
        for ack_id in _checked(ack_ids):
            if seconds <= 0:
                self._fail(ack_id, now)
            elif ack_id in self._leases:
                self._leases[ack_id].until = now + seconds
                heapq.heappush(self._lease_ends, (now + seconds, ack_id))

    def advance(self, now: float) -> None:
        """Take back the leases that ran out, and make ready what has rested long enough."""
        while (end := self._next_lease_end()) is not None and end <= now:
            self._fail(self._lease_ends[0][1], now)
        while self._delayed and self._delayed[0][0] <= now:
            _, serial, debt = heapq.heappop(self._delayed)
            heapq.heappush(self._ready, (serial, debt))
            self._stir(self)

    def next_due(self) -> float | None:
        """When ``advance`` will have something to do, if nothing else happens before."""
        ends = [self._next_lease_end(), self._delayed[0][0] if self._delayed else None]
        return min((end for end in ends if end is not None), default=None)

    def backlog(self) -> int:
        """How many messages are owed, in whatever state."""
        return len(self._ready) + len(self._delayed) + len(self._leases)

    def _lease(self, debt: _Debt, consumer: Consumer, now: float) -> Delivery:
        debt.attempts += 1
        # New for each attempt: a late answer to an earlier delivery settles nothing.
        ack_id = f"ack-{self._serial}-{next(self._deliveries)}"
        until = now + consumer.lease_seconds
        self._leases[ack_id] = _Lease(debt=debt, consumer=consumer, until=until)
        heapq.heappush(self._lease_ends, (until, ack_id))
        consumer.held_messages += 1
        consumer.held_bytes += debt.size
        return Delivery(ack_id=ack_id, message=debt.message, attempt=debt.attempts)

    def _end_lease(self, ack_id: str) -> _Debt | None:
        lease = self._leases.pop(ack_id, None)
        if lease is None:
            return None
        lease.consumer.held_messages -= 1
        lease.consumer.held_bytes -= lease.debt.size
        if self._ready:  # the consumer may have room again
            self._stir(self)
        return lease.debt

    def _next_lease_end(self) -> float | None:
        while self._lease_ends:
            end, ack_id = self._lease_ends[0]
            if ack_id in self._leases and self._leases[ack_id].until == end:
                return end
            heapq.heappop(self._lease_ends)
        return None

    def _fail(self, ack_id: str, now: float) -> None:
        debt = self._end_lease(ack_id)
        if debt is None:
            return
        limit = self.rules.max_delivery_attempts
        if limit and debt.attempts >= limit and self._bury(self, debt.message, debt.attempts, now):
            return
        rest = self.rules.backoff.seconds(failures=debt.attempts)
        if rest > 0:
            heapq.heappush(self._delayed, (now + rest, debt.serial, debt))
        else:
            heapq.heappush(self._ready, (debt.serial, debt))
            self._stir(self)


def _checked(ack_ids: Iterable[str]) -> list[str]:
    """All or nothing: one unreadable id leaves the others as they were."""
    checked = list(ack_ids)
    for ack_id in checked:
        if not _ACK_ID.fullmatch(ack_id):
            raise InvalidArgumentError(f"ack_ids: {ack_id!r} was not written by this server.")
    return checked


@dataclass(slots=True, kw_only=True)
class Topic:
    name: str
    record: Any
    subscriptions: dict[str, Subscription] = field(default_factory=dict)


class Broker:
    """Every topic and subscription of one local cloud."""

    def __init__(self) -> None:
        self.topics: dict[str, Topic] = {}
        self.subscriptions: dict[str, Subscription] = {}
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
