"""Push: each delivery is one POST of the documented envelope, and its answer settles it.

It retries nothing: what was not acknowledged is nacked, and the subscription decides whether
and when it comes again.

What must not break: every POST that was begun settles its delivery, however it ends.
"""

import asyncio
import base64
import json
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import cache

import httpx

from local_cloud.pubsub_records import Consumer, Delivery
from local_cloud.pubsub_requests import ANSWER_MESSAGES
from local_cloud.subscription import Subscription

# 102 is in the documented list, although HTTP clients never show an interim answer.
ACK_STATUSES = frozenset({102, 200, 201, 202, 204})


class Courier:
    """Push: one POST for each delivery, each on its own task, so that none waits for another."""

    def __init__(
        self, *, clock: Callable[[], float], settle: Callable[[], None], max_parallel: int
    ) -> None:
        self._clock = clock
        self._settle = settle
        self._max_parallel = max_parallel
        self._consumers: dict[Subscription, Consumer] = {}
        self._posts: set[asyncio.Task[None]] = set()

    def dispatch(self, subscription: Subscription) -> None:
        """Push what is ready, as far as the subscription's own cap has room."""
        if subscription.deleted or not subscription.rules.push_endpoint:
            self._consumers.pop(subscription, None)
            return
        consumer = self._consumers.setdefault(
            subscription,
            Consumer(pushes=True, max_messages=self._max_parallel, lease_seconds=0),
        )
        consumer.lease_seconds = subscription.rules.ack_deadline_seconds
        while taken := subscription.take(consumer, limit=ANSWER_MESSAGES, now=self._clock()):
            for delivery in taken:
                post = asyncio.create_task(self._post(subscription, delivery))
                self._posts.add(post)
                post.add_done_callback(self._posts.discard)

    async def close(self) -> None:
        for post in self._posts:
            post.cancel()
        await asyncio.gather(*self._posts, return_exceptions=True)

    async def _post(self, subscription: Subscription, delivery: Delivery) -> None:
        rules = subscription.rules
        body = json.dumps(envelope(subscription, delivery)).encode()
        acknowledged = False
        try:
            with suppress(httpx.HTTPError, TimeoutError):
                async with asyncio.timeout(rules.ack_deadline_seconds), _stranger() as client:
                    response = await client.post(rules.push_endpoint, content=body)
                acknowledged = response.status_code in ACK_STATUSES
        finally:  # also when ``close`` cancels the post: no answer is a nack
            if acknowledged:
                subscription.acknowledge([delivery.ack_id])
            else:
                subscription.modify_deadline([delivery.ack_id], seconds=0, now=self._clock())
            self._settle()


def envelope(subscription: Subscription, delivery: Delivery) -> dict[str, object]:
    """The body of a wrapped push: cloud.google.com/pubsub/docs/push#receive_push."""
    message, content = delivery.message, delivery.message.content
    published_at = message.published_at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    wrapped: dict[str, object] = {
        "messageId": message.message_id,
        "message_id": message.message_id,
        "publishTime": published_at,
        "publish_time": published_at,
    }
    if content.data:
        wrapped["data"] = base64.b64encode(content.data).decode()
    if content.attributes:
        wrapped["attributes"] = dict(content.attributes)
    if content.ordering_key:
        wrapped["orderingKey"] = content.ordering_key
    body: dict[str, object] = {"message": wrapped, "subscription": subscription.name}
    if subscription.rules.dead_letter_topic:
        body["deliveryAttempt"] = delivery.attempt
    return body


def _stranger() -> httpx.AsyncClient:
    """A client for one push, with nothing from the one before: no cookie, no connection.

    A shared one costs more: its pool searches all connections for each request, and a kept
    connection that the server is just closing would cost a delivery attempt.
    """
    return httpx.AsyncClient(
        headers={"User-Agent": "CloudPubSub-Google", "Content-Type": "application/json"},
        transport=httpx.AsyncHTTPTransport(verify=_tls(), trust_env=False),
        timeout=None,  # noqa: S113  the caller's ack deadline bounds the whole call
        trust_env=False,
    )


@cache
def _tls() -> ssl.SSLContext:
    """Made on the first push: it reads every root certificate, which takes a while."""
    return httpx.create_ssl_context(trust_env=False)
