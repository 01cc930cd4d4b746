"""The subscription that keeps the dead letters: looked through, and settled.

Whoever looks through it holds every letter meanwhile, so that each is seen once; a second
person who looks at that moment does not see it.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc

from model_copy_publisher import wire
from model_copy_publisher.broker import Broker
from model_copy_publisher.letters import Letter
from model_copy_publisher.subscription import FAREWELL_SECONDS, MAX_ACK_IDS, MAX_MESSAGES

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Held:
    """A letter that is ours for now."""

    ack_id: str
    letter: Letter


class LetterBox:
    """Named in full; it must exist."""

    def __init__(self, *, broker: Broker, name: str) -> None:
        self.name = name
        self._broker = broker

    def pull(self, *, within_seconds: float) -> list[Held]:
        """Return letters that nobody holds; perhaps none.

        Raises:
            BrokerError: there is no such subscription, no permission, or no answer.
        """
        request = wire.PullRequest(subscription=self.name, max_messages=MAX_MESSAGES)
        deadline = time.monotonic() + self._broker.patience_seconds
        with self._broker.explained(
            task="read the dead letters",
            missing=f"the subscription {self.name}",
            needs=f"pubsub.subscriptions.consume (roles/pubsub.subscriber) on {self.name}",
        ):
            while True:
                try:
                    response = self._broker.call_once(
                        wire.PULL, request, within_seconds=within_seconds
                    )
                    return [_held(each) for each in response.received_messages]
                except grpc.RpcError as error:
                    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                        return []
                    passing = error.code() is grpc.StatusCode.UNAVAILABLE
                    if not passing or time.monotonic() > deadline:
                        raise
                time.sleep(0.2)

    def acknowledge(self, received: Sequence[Held]) -> None:
        """Settle for good.

        Raises:
            BrokerError: perhaps not all of them are; those come again.
        """
        with self._broker.explained(
            task="settle the dead letters",
            missing=f"the subscription {self.name}",
            needs=f"pubsub.subscriptions.consume (roles/pubsub.subscriber) on {self.name}",
        ):
            for ack_ids in _in_parts(received):
                self._broker.call(
                    wire.ACKNOWLEDGE,
                    wire.AcknowledgeRequest(subscription=self.name, ack_ids=ack_ids),
                    within_seconds=self._broker.patience_seconds,
                )

    def hold(self, received: Sequence[Held], *, seconds: int) -> None:
        """Keep for so long from now; 0 gives back. What this misses comes again a little later."""
        for ack_ids in _in_parts(received):
            request = wire.ModifyAckDeadlineRequest(
                subscription=self.name, ack_ids=ack_ids, ack_deadline_seconds=seconds
            )
            with suppress(grpc.RpcError):
                self._broker.call_once(
                    wire.MODIFY_ACK_DEADLINE, request, within_seconds=FAREWELL_SECONDS
                )


def _held(received: Any) -> Held:
    message = received.message
    published = message.publish_time
    letter = Letter.read(
        message.data,
        wire.attributes_of(message),
        message_id=message.message_id,
        published_at=_EPOCH
        + timedelta(seconds=published.seconds, microseconds=published.nanos // 1000),
        ordering_key=message.ordering_key,
    )
    return Held(received.ack_id, letter)


def _in_parts(received: Sequence[Held]) -> list[list[str]]:
    ack_ids = [each.ack_id for each in received]
    return [ack_ids[i : i + MAX_ACK_IDS] for i in range(0, len(ack_ids), MAX_ACK_IDS)]
