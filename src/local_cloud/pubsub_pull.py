"""The calls of google.pubsub.v1.Subscriber that wait for messages: Pull and StreamingPull.

Whoever finds nothing ready waits for the bell of its subscription, and looks again when it is
rung. It is rung too often rather than too seldom: a look costs little, a missed ring a message
that nobody fetches.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from google.pubsub_v1 import types

from local_cloud.broker import Broker
from local_cloud.pubsub_records import Consumer, Delivery, InvalidArgumentError
from local_cloud.pubsub_requests import (
    ANSWER_MESSAGES,
    ack_deadline,
    lease_seconds,
    resource_name,
)
from local_cloud.subscription import Subscription

# The real service answers an empty pull after a while too; below the 60 s that Google's
# client allows a pull.
PULL_WAIT_SECONDS = 30


class Bells:
    """One bell for each subscription; ringing wakes all who wait now and nobody later."""

    def __init__(self) -> None:
        self._events: dict[Subscription, asyncio.Event] = {}

    def hear(self, subscription: Subscription) -> asyncio.Event:
        """The next ring. Ask for it before looking whether there is anything to wait for."""
        return self._events.setdefault(subscription, asyncio.Event())

    def ring(self, subscription: Subscription) -> None:
        event = self._events.pop(subscription, None)
        if event is not None:
            event.set()


class Puller:
    """Takes what is ready for whoever pulls; ``settle`` is called after each change."""

    def __init__(
        self,
        *,
        broker: Broker,
        clock: Callable[[], float],
        bells: Bells,
        settle: Callable[[], None],
        min_ack_deadline_seconds: float,
    ) -> None:
        self._broker = broker
        self._clock = clock
        self._bells = bells
        self._settle = settle
        self._min_ack_deadline_seconds = min_ack_deadline_seconds

    async def pull(self, request: Any) -> Any:
        subscription = self._subscription(request)
        if request.max_messages < 1:
            raise InvalidArgumentError("max_messages: must be greater than 0.")
        consumer = Consumer(lease_seconds=subscription.rules.ack_deadline_seconds)
        limit = min(request.max_messages, ANSWER_MESSAGES)
        taken: list[Delivery] = []
        if request.return_immediately:
            taken = subscription.take(consumer, limit=limit, now=self._clock())
            return types.PullResponse.pb()(received_messages=_received(subscription, taken))
        with suppress(TimeoutError):
            async with asyncio.timeout(PULL_WAIT_SECONDS):
                while not taken:
                    taken = await self._take_or_wait(subscription, consumer, limit=limit)
        return types.PullResponse.pb()(received_messages=_received(subscription, taken))

    async def stream(
        self, requests: AsyncIterator[Any], write: Callable[[Any], Awaitable[None]]
    ) -> None:
        """Deliver until the client closes its side; what it holds then stays leased.

        Raises:
            BrokerError: the stream is refused, or ends because its subscription was deleted
                or turned to push.
        """
        first = await anext(requests, None)
        if first is None:
            return
        subscription = self._subscription(first)
        consumer = Consumer(
            lease_seconds=self._stream_deadline(first),
            max_messages=first.max_outstanding_messages,
            max_bytes=first.max_outstanding_bytes,
        )
        self._apply(first, subscription)
        reader = asyncio.create_task(self._read(requests, subscription, consumer))
        reader.add_done_callback(lambda _: self._bells.ring(subscription))
        try:
            while not reader.done():
                taken = await self._take_or_wait(subscription, consumer, limit=ANSWER_MESSAGES)
                if taken:
                    received = _received(subscription, taken)
                    await write(types.StreamingPullResponse.pb()(received_messages=received))
        finally:
            reader.cancel()
            [outcome] = await asyncio.gather(reader, return_exceptions=True)
        if isinstance(outcome, Exception):
            raise outcome

    async def _take_or_wait(
        self, subscription: Subscription, consumer: Consumer, *, limit: int
    ) -> list[Delivery]:
        """What is ready now; or nothing, once something has happened and a new look is due."""
        rung = self._bells.hear(subscription)
        taken = subscription.take(consumer, limit=limit, now=self._clock())
        self._settle()
        if not taken:
            await rung.wait()
        return taken

    async def _read(
        self, requests: AsyncIterator[Any], subscription: Subscription, consumer: Consumer
    ) -> None:
        async for request in requests:
            for only_first in ("subscription", "max_outstanding_messages", "max_outstanding_bytes"):
                if getattr(request, only_first):
                    raise InvalidArgumentError(
                        f"{only_first}: belongs to the first request of a stream only."
                    )
            if request.stream_ack_deadline_seconds:
                consumer.lease_seconds = self._stream_deadline(request)
            self._apply(request, subscription)

    def _apply(self, request: Any, subscription: Subscription) -> None:
        """What any request of a stream may ask: settle deliveries or move their deadlines."""
        ack_ids, seconds = request.modify_deadline_ack_ids, request.modify_deadline_seconds
        if len(ack_ids) != len(seconds):
            raise InvalidArgumentError(
                "modify_deadline_seconds: must be as long as modify_deadline_ack_ids."
            )
        checked = [lease_seconds(each, field="modify_deadline_seconds") for each in seconds]
        now = self._clock()
        subscription.acknowledge(request.ack_ids, now=now)
        for ack_id, each in zip(ack_ids, checked, strict=True):
            subscription.modify_deadline([ack_id], seconds=each, now=now)
        self._settle()

    def _subscription(self, request: Any) -> Subscription:
        name = resource_name("subscriptions", request.subscription, field="subscription")
        return self._broker.subscription(name)

    def _stream_deadline(self, request: Any) -> int:
        return ack_deadline(
            request.stream_ack_deadline_seconds,
            minimum=self._min_ack_deadline_seconds,
            field="stream_ack_deadline_seconds",
        )


def _received(subscription: Subscription, deliveries: Sequence[Delivery]) -> list[Any]:
    received = []
    for delivery in deliveries:
        content = delivery.message.content
        one = types.ReceivedMessage.pb()(ack_id=delivery.ack_id)
        one.message.data = content.data
        one.message.attributes.update(content.attributes)
        one.message.ordering_key = content.ordering_key
        one.message.message_id = delivery.message.message_id
        one.message.publish_time.FromDatetime(delivery.message.published_at)
        if subscription.rules.dead_letter_topic:
            one.delivery_attempt = delivery.attempt
        received.append(one)
    return received
