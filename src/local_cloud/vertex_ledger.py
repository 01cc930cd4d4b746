"""The copies that were taken, by the number of their operation, and what is due when.

Pure. It decides nothing about a copy; it finds the one that is meant, the ones that run,
and the next to which something is about to happen.
"""

import heapq
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import IntEnum, auto

from local_cloud.vertex_records import (
    LOCATION_NAME,
    MODEL_NAME,
    Code,
    CopyOperation,
    ModelName,
    VertexError,
)

# A cloud left running for weeks must not fill the machine; a test never gets near.
OPERATIONS_KEPT = 20_000

_OPERATION_NAME = re.compile(
    LOCATION_NAME.pattern + r"(?:/models/[^/@:]+)?/operations/(?P<number>[^/:]+)"
)


class Happening(IntEnum):
    """What becomes due in the life of a copy; of two at once, the smaller comes first."""

    APPEAR = auto()
    END = auto()


class Ledger(Mapping[str, CopyOperation]):
    """By number, oldest first. The finished ones that are oldest are forgotten in the end."""

    def __init__(self) -> None:
        self._operations: dict[str, CopyOperation] = {}
        self._running: Counter[ModelName] = Counter()
        self._moments: list[tuple[datetime, int, Happening]] = []

    def __getitem__(self, number: str) -> CopyOperation:
        return self._operations[number]

    def __iter__(self) -> Iterator[str]:
        return iter(self._operations)

    def __len__(self) -> int:
        return len(self._operations)

    def begin(self, operation: CopyOperation, *, appears_at: datetime | None) -> CopyOperation:
        """Add a copy that runs, and whose model shows before its end if a time is given."""
        self._operations[operation.number] = operation
        self._running[operation.destination] += 1
        number = int(operation.number)
        heapq.heappush(self._moments, (operation.ends_at, number, Happening.END))
        if appears_at is not None:
            heapq.heappush(self._moments, (appears_at, number, Happening.APPEAR))
        if len(self._operations) > OPERATIONS_KEPT:
            done = (number for number, each in self._operations.items() if each.done)
            self._operations.pop(next(done, ""), None)
        return operation

    def save(self, operation: CopyOperation) -> CopyOperation:
        """Put a copy in place of what was known of it."""
        before = self._operations[operation.number]
        self._operations[operation.number] = operation
        if operation.done and not before.done:
            self._running[operation.destination] -= 1
            if not self._running[operation.destination]:
                del self._running[operation.destination]
        return operation

    def any_running_to(self, model: ModelName) -> bool:
        return model in self._running

    def due(self, now: datetime) -> Iterator[tuple[CopyOperation, Happening, datetime]]:
        """What is due to copies that run, in the order of its times; each is told once."""
        while self._moments and self._moments[0][0] <= now:
            at, number, happening = heapq.heappop(self._moments)
            operation = self._operations.get(str(number))
            if operation and not operation.done:
                yield operation, happening, at

    def named(self, name: str) -> CopyOperation:
        """Find an operation by its own name, or by its region and number alone.

        Raises:
            VertexError: NOT_FOUND, or INVALID_ARGUMENT if the name is none.
        """
        named = _OPERATION_NAME.fullmatch(name)
        if not named:
            raise VertexError(
                Code.INVALID_ARGUMENT, f"name: {name!r} is not the name of an operation."
            )
        found = self._operations.get(named["number"])
        short = f"{found.destination.parent}/operations/{found.number}" if found else ""
        if found is None or name not in (found.name, short):
            raise VertexError(Code.NOT_FOUND, f"The Operation {name} was not found.")
        return found

    def below(self, name: str) -> list[CopyOperation]:
        """Return the operations of a region, of a model, or (for "") all.

        Raises:
            VertexError: INVALID_ARGUMENT, the name is none of these.
        """
        if name and not (LOCATION_NAME.fullmatch(name) or MODEL_NAME.fullmatch(name)):
            raise VertexError(Code.INVALID_ARGUMENT, f"name: {name!r} is no location and no model.")
        return [
            operation
            for operation in self._operations.values()
            if name in ("", operation.destination.parent, str(operation.destination))
        ]
