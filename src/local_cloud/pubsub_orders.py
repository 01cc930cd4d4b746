"""What is to go wrong in the local Pub/Sub, read out of JSON: every field is checked or named.

Pure. An order is read wholly before any of it is carried out.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from local_cloud.pubsub_faults import RATE_FIELDS, Fault, Faults, Rates
from local_cloud.pubsub_records import InvalidArgumentError
from local_cloud.pubsub_requests import resource_name

MAX_TIMES = 1_000_000


class Fields:
    """The members of a JSON object, each taken out once and of the kind that it must be.

    ``where`` is what a complaint puts before the member's name.
    """

    def __init__(self, members: Mapping[str, Any], *, where: str = "") -> None:
        self._members = dict(members)
        self.where = where

    def take(self, name: str, kind: type | tuple[type, ...], *, default: Any = None) -> Any:
        """Take out a member; without a default it must be there.

        Raises:
            InvalidArgumentError: it is missing, or of another kind.
        """
        if name not in self._members:
            if default is None:
                raise InvalidArgumentError(f"{self.where}{name}: is missing.")
            return default
        value = self._members.pop(name)
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            wanted = " or ".join(_KINDS[each] for each in kinds)
            raise InvalidArgumentError(f"{self.where}{name}: must be {wanted}, not {value!r:.100}.")
        return value

    def end(self) -> None:
        """Refuse what nobody took."""
        if self._members:
            raise InvalidArgumentError(f"{self.where}{min(self._members)}: there is no such field.")


_KINDS = {
    str: "a string",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "an object",
    list: "a list",
}


def read_orders(members: Mapping[str, Any]) -> Callable[[Faults], None]:
    """Read the body of ``/control/faults``; what it gives back carries all of it out.

    Raises:
        InvalidArgumentError: an order is malformed; none of them is to be carried out.
    """
    fields = Fields(members)
    clear = fields.take("clear", bool, default=False)
    rates = _rates(fields.take("rates", dict)) if "rates" in members else None
    orders = [
        _Order.read(each, where=f"next[{index}].")
        for index, each in enumerate(fields.take("next", list, default=[]))
    ]
    fields.end()

    def carry_out(faults: Faults) -> None:
        if clear:
            faults.clear()
        if rates is not None:
            faults.set_rates(rates)
        for order in orders:
            faults.next_delivery(order.subscription, order.fault, times=order.times)

    return carry_out


def _rates(members: Mapping[str, Any]) -> Rates:
    fields = Fields(members, where="rates.")
    given: dict[str, Any] = {}
    for name in RATE_FIELDS:
        if name in members and name == "subscriptions":
            given[name] = frozenset(map(_subscription, fields.take(name, list)))
        elif name in members:
            given[name] = fields.take(name, int if name == "seed" else (int, float))
    fields.end()
    try:
        return Rates(**given)
    except ValueError as error:
        raise InvalidArgumentError(f"rates.{error}") from error


def _subscription(name: Any, *, field: str = "rates.subscriptions") -> str:
    return resource_name("subscriptions", str(name), field=field)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """What is to befall the next deliveries of one subscription."""

    subscription: str
    fault: Fault
    times: int

    @classmethod
    def read(cls, members: Any, *, where: str) -> "_Order":
        if not isinstance(members, dict):
            raise InvalidArgumentError(f"{where[:-1]}: must be an object, not {members!r:.100}.")
        fields = Fields(members, where=where)
        name = fields.take("subscription", str)
        fault = fields.take("fault", str)
        times = fields.take("times", int, default=1)
        fields.end()
        if fault not in set(Fault):
            raise InvalidArgumentError(
                f"{where}fault: {fault!r:.100} is none of {', '.join(Fault)}."
            )
        if not 1 <= times <= MAX_TIMES:
            raise InvalidArgumentError(f"{where}times: 1 to {MAX_TIMES}, not {times}.")
        return cls(
            subscription=_subscription(name, field=f"{where}subscription"),
            fault=Fault(fault),
            times=times,
        )
