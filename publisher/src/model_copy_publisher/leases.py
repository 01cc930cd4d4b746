"""Keeps deliveries ours while they are being handled, however long that takes.

A thread renews all of them well before they run out. Should this process die, they
run out, and Pub/Sub delivers them again.
"""

import threading
from collections.abc import Sequence
from typing import Any, Protocol, Self

LEASE_SECONDS = 20
# So often within a lease.
RENEWALS = 4


class Delivered(Protocol):
    """A delivery: of a reply, or of a dead letter."""

    @property
    def ack_id(self) -> str:
        """What Pub/Sub knows this delivery by."""


class Leasing(Protocol):
    """A subscription, as far as leases are concerned."""

    def acknowledge(self, received: Sequence[Any]) -> None:
        """Settle for good."""

    def hold(self, received: Sequence[Any], *, seconds: int) -> None:
        """Keep for so long from now."""


class Leases:
    """A context manager; on leaving, what is still held is given back at once."""

    def __init__(self, subscription: Leasing, *, lease_seconds: int = LEASE_SECONDS) -> None:
        self._subscription = subscription
        self._lease_seconds = lease_seconds
        self._lock = threading.Lock()
        self._held: dict[str, Delivered] = {}
        self._ended = threading.Event()
        self._keeper = threading.Thread(target=self._keep, daemon=True, name="leases")

    def __enter__(self) -> Self:
        self._keeper.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._keeper.join()
        self._subscription.hold(list(self._held.values()), seconds=0)

    def hold(self, received: Sequence[Delivered]) -> None:
        """Keep these until ``settle`` or ``give_back``."""
        with self._lock:
            self._held |= {each.ack_id: each for each in received}
        self._subscription.hold(received, seconds=self._lease_seconds)

    def settle(self, received: Delivered) -> None:
        """It was handled: it does not come again."""
        self._drop(received)
        self._subscription.acknowledge([received])

    def settle_all(self, received: Sequence[Delivered]) -> None:
        """These were handled, and the subscription must take that or raise."""
        self._subscription.acknowledge(received)
        for each in received:
            self._drop(each)

    def give_back(self, received: Delivered, *, after_seconds: int = 0) -> None:
        """It was not handled: it comes again, after so long."""
        self._drop(received)
        self._subscription.hold([received], seconds=after_seconds)

    def give_back_all(self, received: Sequence[Delivered]) -> None:
        """These are not wanted: they are there for others at once."""
        for each in received:
            self._drop(each)
        self._subscription.hold(received, seconds=0)

    def _drop(self, received: Delivered) -> None:
        with self._lock:
            self._held.pop(received.ack_id, None)

    def _keep(self) -> None:
        while not self._ended.wait(self._lease_seconds / RENEWALS):
            # Under the lock: what was given back meanwhile must not be taken once more.
            with self._lock:
                self._subscription.hold(list(self._held.values()), seconds=self._lease_seconds)
