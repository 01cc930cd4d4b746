"""One subscription and its backlog: the messages that it still owes its subscribers.

Pure: no I/O and no clock; ``now`` is Unix seconds and comes with each call. One message in
one subscription lives like this::

    READY --take--> LEASED --acknowledge--> gone
      ^               |
      |               +--nack, or the lease runs out--> DELAYED (backoff) --> READY
      |               +--the same, once too often-----> published to the dead-letter topic

What must not break: a message leaves a subscription only by an acknowledgement that names
its present lease, by its dead letter, or with the subscription itself.
"""

import heapq
import itertools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from local_cloud.pubsub_records import (
    Consumer,
    Delivery,
    FailedPreconditionError,
    InvalidArgumentError,
    Message,
    NotFoundError,
    Rules,
)

# What one answer carries at most, unless a single message is larger: gRPC clients refuse
# answers over 4 MiB by default, and Google's do so when they talk to an emulator.
ANSWER_BYTES = 3_500_000

_ACK_ID = re.compile(r"ack-\d+-\d+")


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
