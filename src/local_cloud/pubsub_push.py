"""Push: each delivery is one POST, and its answer settles it.

It retries nothing: what was not acknowledged is nacked, and the subscription decides whether
and when it comes again.

What must not break: every POST that was begun settles its delivery, however it ends; none
waits for another.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from local_cloud.pubsub_envelope import unwrapped, wrapped
from local_cloud.pubsub_post import NoAnswerError, post
from local_cloud.pubsub_records import Consumer, Delivery, Push
from local_cloud.pubsub_requests import ANSWER_MESSAGES
from local_cloud.subscription import Subscription
from local_cloud.tokens import LIFETIME_SECONDS, TokenSigner

ACK_STATUSES = frozenset({102, 200, 201, 202, 204})


class Courier:
    """Push: one POST for each delivery, each on its own task."""

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        settle: Callable[[], None],
        signer: TokenSigner,
        max_parallel: int,
    ) -> None:
        self._clock = clock
        self._settle = settle
        self._signer = signer
        self._max_parallel = max_parallel
        self._consumers: dict[Subscription, Consumer] = {}
        self._posts: set[asyncio.Task[None]] = set()
        self._tokens: dict[tuple[str, str], tuple[float, bytes]] = {}

    def dispatch(self, subscription: Subscription) -> None:
        """Push what is ready, as far as the subscription's own cap has room."""
        push = subscription.rules.push
        if subscription.deleted or push is None:
            self._consumers.pop(subscription, None)
            return
        consumer = self._consumers.get(subscription)
        if consumer is None:
            consumer = Consumer(pushes=True, max_messages=self._max_parallel, lease_seconds=0)
            self._consumers[subscription] = consumer
        consumer.lease_seconds = subscription.rules.ack_deadline_seconds
        while taken := subscription.take(consumer, limit=ANSWER_MESSAGES, now=self._clock()):
            for delivery in taken:
                work = asyncio.create_task(self._push(subscription, push, delivery))
                self._posts.add(work)
                work.add_done_callback(self._posts.discard)

    async def close(self) -> None:
        for work in self._posts:
            work.cancel()
        await asyncio.gather(*self._posts, return_exceptions=True)

    async def _push(self, subscription: Subscription, push: Push, delivery: Delivery) -> None:
        rules, name = subscription.rules, subscription.name
        if push.wrapped:
            counted = bool(rules.dead_letter_topic)
            headers, body = wrapped(delivery, subscription=name, counted=counted)
        else:
            headers, body = unwrapped(
                delivery, subscription=name, with_metadata=push.writes_metadata
            )
        if push.service_account:
            headers.append((b"Authorization", self._authorization(push)))
        status = 0
        try:
            with suppress(NoAnswerError):
                async with asyncio.timeout(rules.ack_deadline_seconds):
                    status = await post(push.endpoint, headers=headers, body=body)
        except TimeoutError:
            # Its lease has run out as well, or does now.
            subscription.expire(delivery.ack_id, now=self._clock())
        finally:  # also when ``close`` cancels the post: no answer is a nack
            if status in ACK_STATUSES:
                subscription.acknowledge([delivery.ack_id], now=self._clock())
            else:
                subscription.modify_deadline([delivery.ack_id], seconds=0, now=self._clock())
            self._settle()

    def _authorization(self, push: Push) -> bytes:
        """One token serves many pushes; a fresh one is signed for the second half of its life."""
        account = (push.service_account, push.audience)
        until, value = self._tokens.get(account, (0.0, b""))
        if until <= self._clock():
            token = self._signer.mint(email=push.service_account, audience=push.audience)
            until, value = self._clock() + LIFETIME_SECONDS / 2, f"Bearer {token}".encode()
            self._tokens[account] = until, value
        return value
