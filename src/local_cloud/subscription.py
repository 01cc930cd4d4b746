"""One subscription: who holds which of its messages, until when, and what comes of it.

Pure: no I/O and no clock; ``now`` is Unix seconds and comes with each call. One message in
one subscription lives like this::

    WAITING --the one before it with its ordering key has left--> READY
    READY --take--> LEASED --acknowledge--> gone
      ^               |
      |               +--nack, or the lease runs out--> RESTING (backoff) --> READY
      |               +--the same, once too often-----> published to the dead-letter topic

WAITING is for messages with an ordering key in an ordered subscription only: one of a key is
out at a time, and the next is ready once it has left for good, by its dead letter too.

What must not break: a message leaves a subscription only by an acknowledgement that names
its present lease, by its dead letter, or with the subscription itself.
"""

import heapq
import itertools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from local_cloud.backlog import Backlog, Debt
from local_cloud.pubsub_faults import CALM, Faults
from local_cloud.pubsub_records import (
    Consumer,
    Counts,
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
class _Lease:
    debt: Debt
    consumer: Consumer
    until: float
    response_dropped: bool


class Subscription:
    """One subscription; made by ``Broker.create_subscription``.

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
        faults: Faults,
        counts: Counts,
        stir: Callable[["Subscription"], object],
        bury: Callable[["Subscription", Message, int, float], bool],
    ) -> None:
        self.name = name
        self.topic = topic
        self.rules = rules
        self.record = record
        self.policy: Any = (
            None  # of IAM, kept for the asking like ``record``; None until one is set
        )
        self.deleted = False
        self._serial = serial
        self._faults = faults
        self._counts = counts
        self._stir = stir
        self._bury = bury
        self._deliveries = itertools.count(1)
        self._backlog = Backlog()
        self._leases: dict[str, _Lease] = {}
        # May name leases that were settled or extended since; checked when they come up.
        self._lease_ends: list[tuple[float, str]] = []

    def add(self, message: Message) -> None:
        self._backlog.add(message, key=message.content.ordering_key if self.rules.ordered else "")
        self._stir(self)

    def take(self, consumer: Consumer, *, limit: int, now: float) -> list[Delivery]:
        """Lease ready messages to ``consumer``, oldest first; an empty list is a normal answer.

        Raises:
            NotFoundError: the subscription was deleted.
            FailedPreconditionError: it pushes, and ``consumer`` pulls.
        """
        if self.deleted:
            raise NotFoundError(f"Subscription was deleted (resource={self.name}).")
        if self.rules.push and not consumer.pushes:
            raise FailedPreconditionError(f"{self.name} is a push subscription; nothing to pull.")
        self.advance(now)
        taken: list[Delivery] = []
        taken_bytes = 0
        while len(taken) < limit and consumer.has_room():
            debt = self._backlog.first()
            if debt is None or (taken and taken_bytes + debt.size > ANSWER_BYTES):
                break
            self._backlog.hand_out(debt)
            if self._befall(debt, now):
                continue
            taken_bytes += debt.size
            taken.append(self._lease(debt, consumer, now))
            if self._backlog.let_go():
                self._stir(self)
        return taken

    def acknowledge(self, ack_ids: Iterable[str], *, now: float) -> None:
        """Settle these deliveries; a lease that ran out is no longer there to settle.

        Raises:
            InvalidArgumentError: an id that this broker never wrote.
        """
        for ack_id in _checked(ack_ids):
            lease = self._end_lease(ack_id)
            if lease is None:
                continue
            if lease.response_dropped:
                self._counts.drop_response += 1
                self._fail(lease.debt, now)
            else:
                self._counts.acks += 1
                self._backlog.settle(lease.debt)
            self._stir_if_ready()

    def modify_deadline(self, ack_ids: Iterable[str], *, seconds: float, now: float) -> None:
        """Let these leases end ``seconds`` from now; 0 is a nack.

        Raises:
            InvalidArgumentError: an id that this broker never wrote.
        """
        for ack_id in _checked(ack_ids):
            if ack_id not in self._leases:
                continue
            if seconds > 0:
                self._leases[ack_id].until = now + seconds
                heapq.heappush(self._lease_ends, (now + seconds, ack_id))
            elif lease := self._end_lease(ack_id):
                self._counts.nacks += 1
                self._fail(lease.debt, now)
                self._stir_if_ready()

    def expire(self, ack_id: str, *, now: float) -> None:
        """Take back a lease that its holder has seen run out."""
        if lease := self._end_lease(ack_id):
            self._counts.timeouts += 1
            self._fail(lease.debt, now)
            self._stir_if_ready()

    def advance(self, now: float) -> None:
        """Take back the leases that ran out, and make ready what has rested long enough."""
        while (end := self._next_lease_end()) is not None and end <= now:
            self.expire(self._lease_ends[0][1], now=now)
        if self._backlog.advance(now):
            self._stir(self)

    def next_due(self) -> float | None:
        """When ``advance`` will have something to do, if nothing else happens before."""
        ends = (self._next_lease_end(), self._backlog.next_due())
        return min((end for end in ends if end is not None), default=None)

    def backlog(self) -> int:
        """How many messages are owed, in whatever state."""
        return len(self._backlog)

    def _befall(self, debt: Debt, now: float) -> bool:
        """Let a delivery meet what befalls it, once; True when that has put it off."""
        if debt.mishap is not None:
            return False
        mishap = debt.mishap = self._faults.befall(self.name)
        if mishap is CALM:
            return False
        if mishap.duplicated:
            self._counts.duplicate += 1
            self._backlog.add_twin(debt)
            self._stir(self)
        if mishap.delay_seconds:
            self._counts.delay += 1
            self._backlog.take_back(debt, rests_until=now + mishap.delay_seconds, now=now)
            return True
        if mishap.overtaken_within_seconds and not debt.key:
            self._counts.reorder += 1
            end = now + mishap.overtaken_within_seconds
            self._backlog.put_aside(debt, rests_until=end, now=now)
            return True
        return False

    def _lease(self, debt: Debt, consumer: Consumer, now: float) -> Delivery:
        assert debt.mishap is not None
        debt.attempts += 1
        self._counts.deliveries += 1
        # New for each attempt: a late answer to an earlier delivery settles nothing.
        ack_id = f"ack-{self._serial}-{next(self._deliveries)}"
        until = now + consumer.lease_seconds
        self._leases[ack_id] = _Lease(
            debt=debt,
            consumer=consumer,
            until=until,
            response_dropped=debt.mishap.response_dropped,
        )
        debt.mishap = None  # the next delivery meets its own
        heapq.heappush(self._lease_ends, (until, ack_id))
        consumer.held_messages += 1
        consumer.held_bytes += debt.size
        return Delivery(ack_id=ack_id, message=debt.message, attempt=debt.attempts)

    def _end_lease(self, ack_id: str) -> _Lease | None:
        lease = self._leases.pop(ack_id, None)
        if lease is not None:
            lease.consumer.held_messages -= 1
            lease.consumer.held_bytes -= lease.debt.size
        return lease

    def _next_lease_end(self) -> float | None:
        while self._lease_ends:
            end, ack_id = self._lease_ends[0]
            if ack_id in self._leases and self._leases[ack_id].until == end:
                return end
            heapq.heappop(self._lease_ends)
        return None

    def _fail(self, debt: Debt, now: float) -> None:
        """Owe a debt again whose lease has ended without an acknowledgement that counts."""
        limit = self.rules.max_delivery_attempts
        if limit and debt.attempts >= limit and self._bury(self, debt.message, debt.attempts, now):
            self._counts.dead_lettered += 1
            self._backlog.settle(debt)
            return
        rest = self.rules.backoff.seconds(failures=debt.attempts)
        self._backlog.take_back(debt, rests_until=now + rest, now=now)

    def _stir_if_ready(self) -> None:
        """Somebody has room again, or something is ready again."""
        if self._backlog.first() is not None:
            self._stir(self)


def _checked(ack_ids: Iterable[str]) -> list[str]:
    """All or nothing: one unreadable id leaves the others as they were."""
    checked = list(ack_ids)
    for ack_id in checked:
        if not _ACK_ID.fullmatch(ack_id):
            raise InvalidArgumentError(f"ack_ids: {ack_id!r} was not written by this server.")
    return checked
