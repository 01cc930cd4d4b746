"""A CopyModel call that made, or may have made, something; and what was there before it.

Pure. What must not break: whatever the destination shows later, and did not show before the
call, may be the call's; so everything that was there is written down before it is sent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from model_copier.domain.timing import Timing
from model_copier.domain.vertex_types import Model, Operation, operation_number

# Of so many operations on a destination the numbers are kept; of older ones, only their time.
MAX_KNOWN_OPERATIONS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A CopyModel call that made, or may have made, something."""

    requested_at: datetime
    # From then on whatever was accepted is visible, by the timing that it was sent under.
    visible_at: datetime
    # What was on the destination before: versions, and numbers of operations (None: those
    # could not be listed). What is not among them came later.
    known_versions: tuple[str, ...] = ()
    known_operations: tuple[str, ...] | None = ()
    # Operations that Vertex AI started up to then are known too, though not listed above.
    known_until: datetime | None = None
    # Since when the destination shows nothing of this call, though by now it should.
    missing_since: datetime | None = None
    # The store went back in time: an earlier call may have been sent, and forgotten.
    forgotten: bool = False

    def precedes(self, operation: Operation) -> bool:
        """Tell whether this operation was there before the call."""
        if operation_number(operation.name) in (self.known_operations or ()):
            return True
        # Both by Vertex AI's clock.
        return bool(
            self.known_until and operation.started_at and operation.started_at <= self.known_until
        )


def call_record(
    operations: Sequence[Operation] | None, versions: Sequence[Model], now: datetime, timing: Timing
) -> Call:
    """Write down what is on the destination before CopyModel is sent."""
    known, known_until = operations, None
    if known is not None and len(known) > MAX_KNOWN_OPERATIONS:
        dated = [operation for operation in known if operation.started_at]
        newest = sorted(dated, key=lambda each: str(each.started_at))[-MAX_KNOWN_OPERATIONS:]
        known_until = newest[0].started_at if newest else None
        # One without a time can be known by its number alone.
        known = [*newest, *(operation for operation in known if not operation.started_at)]
    return Call(
        requested_at=now,
        visible_at=timing.visible_at(now),
        known_versions=tuple(model.name.version or "" for model in versions),
        known_operations=None if known is None else tuple(operation_number(o.name) for o in known),
        known_until=known_until,
    )
