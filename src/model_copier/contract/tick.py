"""What the data of a tick says: usually nothing, or that an operation ended.

Cloud Scheduler's ticks and our own only say "look". A log sink may send Vertex AI's audit
log entries to the same topic: of a long-running operation there are two, one when it
starts and one when it ends, joined by ``operation.id``
(https://cloud.google.com/logging/docs/reference/v2/rest/v2/LogEntry#LogEntryOperation).
What must not break: no data whatever makes this fail; what is not understood says "look".
"""

import json
import re
from dataclasses import dataclass
from typing import Any

# https://cloud.google.com/logging/quotas#log-limits
MAX_ENTRY_BYTES = 256 * 1024
_OPERATION = re.compile(
    r"projects/[^/\s]+/locations/[^/\s]+/(?:models/[^/\s]+/)?operations/[^/\s]+"
)


@dataclass(frozen=True, slots=True)
class Look:
    """Look at all that is due."""


@dataclass(frozen=True, slots=True)
class Ended:
    """This operation ended, by Vertex AI's audit log."""

    operation: str


@dataclass(frozen=True, slots=True)
class Nothing:
    """An operation started: nothing follows from that."""


def read_tick(data: bytes) -> Look | Ended | Nothing:
    if len(data) > MAX_ENTRY_BYTES:
        return Look()
    try:
        entry: Any = json.loads(data)
    except (ValueError, RecursionError):
        return Look()
    about = entry.get("operation") if isinstance(entry, dict) else None
    if not isinstance(about, dict) or not isinstance(about.get("id"), str):
        return Look()
    if about.get("first") is True and about.get("last") is not True:
        return Nothing()
    return Ended(about["id"]) if _OPERATION.fullmatch(about["id"]) else Look()
