"""Keeps deliveries ours while they are being handled, however long that takes.

A thread renews all of them well before they run out. Should this process die, they
run out, and Pub/Sub delivers them again.
"""

import threading
from collections.abc import Sequence
from typing import Self

from model_copy_publisher.subscription import Received, Subscription

LEASE_SECONDS = 20
RENEW_SECONDS = 5.0


class Leases:
    """A context manager; on leaving, what is still held is given back at once."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription
        self._lock = threading.Lock()
        self._held: dict[str, Received] = {}
        self._ended = threading.Event()
        self._keeper = threading.Thread(target=self._keep, daemon=True, name="leases")

    def __enter__(self) -> Self:
        self._keeper.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._keeper.join()
        self._subscription.hold(list(self._held.values()), seconds=0)

    def hold(self, received: Sequence[Received]) -> None:
        """Keep these until ``settle`` or ``give_back``."""
        with self._lock:
            self._held |= {each.ack_id: each for each in received}
        self._subscription.hold(received, seconds=LEASE_SECONDS)

    def settle(self, received: Received) -> None:
        """It was handled: it does not come again."""
        self._drop(received)
        self._subscription.acknowledge([received])

    def give_back(self, received: Received, *, after_seconds: int = 0) -> None:
        """It was not handled: it comes again, after so long."""
        self._drop(received)
        self._subscription.hold([received], seconds=after_seconds)

    def _drop(self, received: Received) -> None:
        with self._lock:
            self._held.pop(received.ack_id, None)

    def _keep(self) -> None:
        while not self._ended.wait(RENEW_SECONDS):
            with self._lock:
                held = list(self._held.values())
            self._subscription.hold(held, seconds=LEASE_SECONDS)
