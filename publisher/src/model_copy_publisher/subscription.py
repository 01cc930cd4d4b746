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
from typing import Any, Self
from uuid import uuid4

import grpc

from model_copy_publisher import wire
from model_copy_publisher.broker import Broker
from model_copy_publisher.events import Reply, Status, read_event

# The shortest that Pub/Sub allows, and a retention below it, as Pub/Sub demands.
EXPIRES_AFTER_SECONDS = 86_400
KEEPS_SECONDS = 43_200
ACK_SECONDS = 10
FAREWELL_SECONDS = 5.0
# One call. Also the longest silence on the connection, and until a lost subscription is noticed.
PULL_SECONDS = 15.0
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
        self._pull: Any = None
        self._interrupted = False

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
        self._end_pull()
        if self.temporary and not self.kept:
            self._delete()

    def create(self, *, within_seconds: float) -> None:
        """Make a new temporary one; once more when the one before was lost.

        What was announced in between is lost with it: ask again.
        """
        self._end_pull()
        own = f"model-copy-{self._purpose}-{uuid4().hex}"
        self.name = f"projects/{self._project}/subscriptions/{own}"
        wanted = wire.Subscription(
            name=self.name,
            topic=self._reply_topic,
            filter=self._filter,
            ack_deadline_seconds=ACK_SECONDS,
            message_retention_duration=wire.Moment(seconds=KEEPS_SECONDS),
            expiration_policy=wire.ExpirationPolicy(ttl=wire.Moment(seconds=EXPIRES_AFTER_SECONDS)),
        )
        with self._explained("subscribe to the replies", missing=f"the topic {self._reply_topic}"):
            try:
                self._broker.call(wire.CREATE_SUBSCRIPTION, wanted, within_seconds=within_seconds)
            except grpc.RpcError as error:
                # Made by an earlier try of this very call: the name is random.
                if error.code() is not grpc.StatusCode.ALREADY_EXISTS:
                    raise

    def pull(self, *, within_seconds: float, at_most: int = MAX_MESSAGES) -> list[Received]:
        """Wait for messages, and return what there is; perhaps nothing.

        A call that has no answer by then goes on, and the next pull takes it up: what Pub/Sub
        sends to a call that was broken off comes again only once its lease has run out.

        Raises:
            MissingError: the subscription is gone.
            BrokerError: Pub/Sub could not be asked.
        """
        with self._explained("receive the replies", missing=f"the subscription {self.name}"):
            call = self._pull or self._start_pull(at_most)
            if self._interrupted:
                call.cancel()
            try:
                response = call.result(timeout=within_seconds)
            except (grpc.FutureTimeoutError, grpc.FutureCancelledError):
                return []
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                    return []
                raise
            finally:
                if call.done():
                    self._pull = None
        return [_received(each) for each in response.received_messages]

    def _start_pull(self, at_most: int) -> Any:
        request = wire.PullRequest(subscription=self.name, max_messages=at_most)
        self._pull = self._broker.start(wire.PULL, request, within_seconds=PULL_SECONDS)
        return self._pull

    def interrupt(self) -> None:
        """End a pull that goes on, and any later one: it returns nothing."""
        self._interrupted = True
        call = self._pull
        if call is not None:
            call.cancel()

    def acknowledge(self, received: Sequence[Received]) -> None:
        """Settle for good. What cannot be settled now comes again, and is known by its id."""
        for ack_ids in _in_parts(received):
            request = wire.AcknowledgeRequest(subscription=self.name, ack_ids=ack_ids)
            self._try(wire.ACKNOWLEDGE, request)

    def hold(self, received: Sequence[Received], *, seconds: int) -> None:
        """Keep for so long from now; then it comes again, unless held or settled before."""
        for ack_ids in _in_parts(received):
            request = wire.ModifyAckDeadlineRequest(
                subscription=self.name, ack_ids=ack_ids, ack_deadline_seconds=seconds
            )
            self._try(wire.MODIFY_ACK_DEADLINE, request)

    def _end_pull(self) -> None:
        if self._pull is not None:
            self._pull.cancel()
            self._pull = None

    def _delete(self) -> None:
        # What cannot be deleted now expires by itself.
        request = wire.DeleteSubscriptionRequest(subscription=self.name)
        self._try(wire.DELETE_SUBSCRIPTION, request)

    def _try(self, method: wire.Method, request: Any) -> None:
        with suppress(grpc.RpcError):
            self._broker.call_once(method, request, within_seconds=FAREWELL_SECONDS)

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
    attributes = wire.attributes_of(message)
    return Received(
        each.ack_id, read_event(message.data, attributes, message_id=message.message_id)
    )


def _in_parts(received: Sequence[Received]) -> list[list[str]]:
    ack_ids = [each.ack_id for each in received]
    return [ack_ids[i : i + MAX_ACK_IDS] for i in range(0, len(ack_ids), MAX_ACK_IDS)]
