"""The replies to one request, over a temporary subscription of its own.

The subscription must exist before the request is published: Pub/Sub keeps a
message only for the subscriptions that are there when it comes. It is deleted
at the end; should we die, Pub/Sub deletes it after a day.

Unary pulls, not a stream: each is a new call with its own deadline, far below
the 350 s after which AWS NAT forgets a silent connection, so nothing can hang.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from datetime import timedelta
from typing import Self
from uuid import uuid4

from google.api_core import exceptions
from google.pubsub_v1 import types

from model_copy_publisher.broker import Broker
from model_copy_publisher.messages import CopyRequest, Reply

# The shortest that Pub/Sub allows, and a retention below it, as Pub/Sub demands.
EXPIRES_AFTER = timedelta(days=1)
KEEPS = timedelta(hours=12)
# Also the shortest: a reply lost with a broken pull comes again after this long.
ACK_SECONDS = 10
FAREWELL_SECONDS = 5.0


class Replies:
    """A context manager: inside, every reply to ``request`` is kept until received.

    Raises:
        BrokerError: the subscription could not be made.
    """

    def __init__(
        self, *, broker: Broker, project: str, reply_topic: str, request: CopyRequest
    ) -> None:
        self.request = request
        self._broker = broker
        self._project = project
        self._reply_topic = reply_topic
        self._subscription: str | None = None
        self._seen: set[str] = set()

    def __enter__(self) -> Self:
        try:
            self.subscribe(within_seconds=self._broker.patience_seconds)
        except BaseException:
            # Broken off by an interrupt, it may have been made all the same.
            self._unsubscribe()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._unsubscribe()

    def subscribe(self, *, within_seconds: float) -> None:
        """Make a new subscription; once more when the one before was lost.

        What was announced in between is lost with it: publish the request again.
        """
        self._subscription = f"projects/{self._project}/subscriptions/model-copy-wait-{uuid4().hex}"
        with (
            self._explained("subscribe to the replies", missing=f"the topic {self._reply_topic}"),
            # Made by an earlier try of this very call: the name is random.
            suppress(exceptions.AlreadyExists),
        ):
            self._broker.subscriber.create_subscription(
                {
                    "name": self._subscription,
                    "topic": self._reply_topic,
                    "filter": self.request.reply_filter,
                    "ack_deadline_seconds": ACK_SECONDS,
                    "message_retention_duration": KEEPS,
                    "expiration_policy": {"ttl": EXPIRES_AFTER},
                },
                **self._broker.tries(within_seconds),
            )

    def receive(self, *, within_seconds: float) -> Iterator[Reply]:
        """Pull once and yield what answers the request; perhaps nothing.

        A repeat (same event id) is yielded once only.

        Raises:
            MissingError: the subscription is gone.
            BrokerError: Pub/Sub could not be asked.
        """
        with self._explained("receive the replies", missing="the temporary subscription"):
            messages = self._pull(within_seconds)
        for message in messages:
            reply = Reply.from_message(
                message.data, message.attributes, message_id=message.message_id
            )
            if reply is None or reply.event_id in self._seen or not reply.answers(self.request):
                continue
            self._seen.add(reply.event_id)
            yield reply

    def _pull(self, within_seconds: float) -> list[types.PubsubMessage]:
        subscriber = self._broker.subscriber
        try:
            response = subscriber.pull(
                subscription=self._subscription,
                max_messages=100,
                retry=None,
                timeout=within_seconds,
            )
        except exceptions.DeadlineExceeded:
            return []
        if response.received_messages:
            # Unacknowledged they come again, and are known by their event ids.
            with suppress(exceptions.GoogleAPICallError):
                subscriber.acknowledge(
                    subscription=self._subscription,
                    ack_ids=[received.ack_id for received in response.received_messages],
                    retry=None,
                    timeout=FAREWELL_SECONDS,
                )
        return [received.message for received in response.received_messages]

    def _unsubscribe(self) -> None:
        # What cannot be deleted now expires by itself.
        with suppress(exceptions.GoogleAPICallError):
            self._broker.subscriber.delete_subscription(
                subscription=self._subscription, retry=None, timeout=FAREWELL_SECONDS
            )

    def _explained(self, task: str, *, missing: str) -> AbstractContextManager[None]:
        return self._broker.explained(
            task=task,
            missing=missing,
            needs=f"roles/pubsub.editor in {self._project}, for the subscription of a wait; "
            "publishing without a wait does not need it",
        )
