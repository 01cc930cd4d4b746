"""What goes wrong on purpose between the local Pub/Sub and its subscribers, and when.

Pure: chance comes from a seed. Each subscription draws numbers of its own, so that what
befalls one depends neither on how often the others deliver nor on their being there.

Every delivery, pushed or pulled, asks once what befalls it. The four faults are all things
that the real service may do: it delivers at least once, when it likes, and in any order.
"""

import random
from collections import defaultdict, deque
from dataclasses import dataclass, fields
from enum import StrEnum


class Fault(StrEnum):
    """What may befall a delivery."""

    DUPLICATE = "duplicate"  # the message is delivered once more beside this delivery
    DELAY = "delay"  # it is delivered some seconds later
    REORDER = "reorder"  # it waits until another has overtaken it, or some seconds at most
    DROP_RESPONSE = "drop_response"  # its acknowledgement is lost, and counts as a nack


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """How likely each fault is, 0 to 1, for every delivery of ``subscriptions`` (none: of all)."""

    duplicate: float = 0.0
    delay: float = 0.0
    reorder: float = 0.0
    drop_response: float = 0.0
    delay_seconds: float = 2.0
    reorder_seconds: float = 1.0
    seed: int = 0
    subscriptions: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Refuse what is no rate.

        Raises:
            ValueError: the sentence begins with the field's name.
        """
        for fault in Fault:
            if not 0 <= getattr(self, fault) <= 1:
                raise ValueError(f"{fault}: 0 to 1, not {getattr(self, fault)}.")
        for name in ("delay_seconds", "reorder_seconds"):
            if not 0 < getattr(self, name) <= 600:
                raise ValueError(f"{name}: above 0, up to 600, not {getattr(self, name)}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mishap:
    """What befalls one delivery."""

    duplicated: bool = False
    delay_seconds: float = 0.0
    overtaken_within_seconds: float = 0.0
    response_dropped: bool = False


CALM = Mishap()


class Faults:
    """The faults that are armed now: by chance for every delivery, or for the next ones."""

    def __init__(self, rates: Rates | None = None) -> None:
        self._orders: dict[str, deque[Fault]] = defaultdict(deque)
        self.set_rates(rates or Rates())

    # For those who arm them

    @property
    def rates(self) -> Rates:
        return self._rates

    def set_rates(self, rates: Rates) -> None:
        """Draw by these rates from now on, every subscription anew from the seed."""
        self._rates = rates
        self._by_chance = any(getattr(rates, fault) for fault in Fault)
        self._draws: dict[str, random.Random] = {}

    def next_delivery(self, subscription: str, fault: Fault, *, times: int = 1) -> None:
        """Let the next ``times`` deliveries of a subscription, by its full name, meet ``fault``.

        Orders are carried out in their turn, one a delivery, and leave nothing to chance.
        """
        self._orders[subscription].extend([fault] * times)

    def clear(self) -> None:
        """Disarm everything. What was put off comes when it was to come."""
        self._orders.clear()
        self.set_rates(Rates())

    # For the subscription that meets them

    def befall(self, subscription: str) -> Mishap:
        """Decide what befalls a delivery that is about to be made."""
        rates = self._rates
        if self._orders and self._orders.get(subscription):
            met = {self._orders[subscription].popleft()}
        elif self._by_chance and (not rates.subscriptions or subscription in rates.subscriptions):
            met = self._drawn(subscription)
        else:
            return CALM
        return Mishap(
            duplicated=Fault.DUPLICATE in met,
            delay_seconds=rates.delay_seconds if Fault.DELAY in met else 0.0,
            overtaken_within_seconds=rates.reorder_seconds if Fault.REORDER in met else 0.0,
            response_dropped=Fault.DROP_RESPONSE in met,
        )

    def _drawn(self, subscription: str) -> set[Fault]:
        draw = self._draws.get(subscription)
        if draw is None:
            draw = self._draws[subscription] = random.Random(f"{self._rates.seed}:{subscription}")  # noqa: S311  a game, no secret
        # One number for each fault, whatever its rate: changing one rate moves no other fault.
        return {fault for fault in Fault if draw.random() < getattr(self._rates, fault)}


RATE_FIELDS = tuple(field.name for field in fields(Rates))
