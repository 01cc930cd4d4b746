"""One subscription to the replies: somebody's own by name, or a temporary one.

A temporary one must exist before anything is asked: Pub/Sub keeps a message only
for the subscriptions that are there when it comes. It is deleted at the end; should
we die, Pub/Sub deletes it after a day.

Unary pulls, not a stream: each is a new call with its own deadline, far below the
350 s after which AWS NAT forgets a silent connection, so nothing can hang.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self
from uuid import uuid4

from google.api_core import exceptions

from model_copy_publisher.broker import Broker
from model_copy_publisher.events import Reply, Status, read_event

# The shortest that Pub/Sub allows, and a retention below it, as Pub/Sub demands.
EXPIRES_AFTER = timedelta(days=1)
KEEPS = timedelta(hours=12)
ACK_SECONDS = 10
FAREWELL_SECONDS = 5.0
# Pub/Sub's own limit for one call.
MAX_MESSAGES = 1000
# Far below its limit of 512 KiB for one call: an ack id is about 200 bytes.
MAX_ACK_IDS = 500


@dataclass(frozen=True, slots=True)
class Received:
    """One delivery; ``event`` is None for a message that no one here understands."""

    ack_id: str
    event: Reply | Status | None


class Subscription:
    """A context manager; ``name`` is full, and empty until a temporary one is made.

    A temporary one may have a name from the start: then it is taken up again.

    Raises:
        BrokerError: it could not be made.
    """

    def __init__(
        self,
        *,
        broker: Broker,
        project: str,
        reply_topic: str,
        narrowed_to: str = "",
        name: str = "",
        temporary: bool = True,
        purpose: str = "wait",
    ) -> None:
        self.name = name
        self.temporary = temporary
        self.kept = False  # True: leave it to be taken up again, or to expire
        self._broker = broker
        self._project = project
        self._reply_topic = reply_topic
        self._filter = narrowed_to
        self._purpose = purpose

    def __enter__(self) -> Self:
        if not self.name:
            try:
                self.create(within_seconds=self._broker.patience_seconds)
            except BaseException:
                # Broken off by an interrupt, it may have been made all the same.
                self._delete()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.temporary and not self.kept:
            self._delete()

    def create(self, *, within_seconds: float) -> None:
        """Make a new temporary one; once more when the one before was lost.

        What was announced in between is lost with it: ask again.
        """
        own = f"model-copy-{self._purpose}-{uuid4().hex}"
        self.name = f"projects/{self._project}/subscriptions/{own}"
        with (
            self._explained("subscribe to the replies", missing=f"the topic {self._reply_topic}"),
            # Made by an earlier try of this very call: the name is random.
            suppress(exceptions.AlreadyExists),
        ):
            self._broker.subscriber.create_subscription(
                {
                    "name": self.name,
                    "topic": self._reply_topic,
                    "filter": self._filter,
                    "ack_deadline_seconds": ACK_SECONDS,
                    "message_retention_duration": KEEPS,
                    "expiration_policy": {"ttl": EXPIRES_AFTER},
                },
                **self._broker.tries(within_seconds),
            )

    def pull(self, *, within_seconds: float, at_most: int = MAX_MESSAGES) -> list[Received]:
        """Wait for messages, and return what there is; perhaps nothing.

        Raises:
            MissingError: the subscription is gone.
            BrokerError: Pub/Sub could not be asked.
        """
        with self._explained("receive the replies", missing=f"the subscription {self.name}"):
            try:
                response = self._broker.subscriber.pull(
                    subscription=self.name,
                    max_messages=at_most,
                    retry=None,
                    timeout=within_seconds,
                )
            except exceptions.DeadlineExceeded:
                return []
        return [_received(each) for each in response.received_messages]

    def acknowledge(self, received: Sequence[Received]) -> None:
        """Settle for good. What cannot be settled now comes again, and is known by its id."""
        for some in _in_parts(received):
            with suppress(exceptions.GoogleAPICallError):
                self._broker.subscriber.acknowledge(
                    subscription=self.name,
                    ack_ids=[each.ack_id for each in some],
                    retry=None,
                    timeout=FAREWELL_SECONDS,
                )

    def hold(self, received: Sequence[Received], *, seconds: int) -> None:
        """Keep for so long from now; then it comes again, unless held or settled before."""
        for some in _in_parts(received):
            with suppress(exceptions.GoogleAPICallError):
                self._broker.subscriber.modify_ack_deadline(
                    subscription=self.name,
                    ack_ids=[each.ack_id for each in some],
                    ack_deadline_seconds=seconds,
                    retry=None,
                    timeout=FAREWELL_SECONDS,
                )

    def _delete(self) -> None:
        # What cannot be deleted now expires by itself.
        with suppress(exceptions.GoogleAPICallError):
            self._broker.subscriber.delete_subscription(
                subscription=self.name, retry=None, timeout=FAREWELL_SECONDS
            )

    def _explained(self, task: str, *, missing: str) -> AbstractContextManager[None]:
        needs = (
            f"pubsub.subscriptions.create in {self._project} and pubsub.topics.attachSubscription"
            f" on {self._reply_topic} (roles/pubsub.editor has both), for a temporary subscription"
            if self.temporary
            else f"pubsub.subscriptions.consume (roles/pubsub.subscriber) on {self.name}"
        )
        return self._broker.explained(task=task, missing=missing, needs=needs)


def _received(each: Any) -> Received:
    message = each.message
    return Received(
        each.ack_id,
        read_event(message.data, message.attributes, message_id=message.message_id),
    )


def _in_parts(received: Sequence[Received]) -> list[Sequence[Received]]:
    return [received[i : i + MAX_ACK_IDS] for i in range(0, len(received), MAX_ACK_IDS)]
