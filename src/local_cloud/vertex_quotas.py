"""How many calls of a minute are left to a project in a region. Pure.

https://cloud.google.com/vertex-ai/docs/quotas names two quotas that a copier meets. Which
one counts the polls of an operation is not said; here they are reads.
"""

from collections import Counter
from datetime import datetime

from local_cloud.vertex_records import Code, VertexError

_METRICS = {
    True: "Job or LRO submission requests",
    False: "Resource management (CRUD) requests",
}


class Quotas:
    """Counts by the minute of the clock; a new minute starts with nothing spent."""

    def __init__(self) -> None:
        self._minute: datetime | None = None
        self._spent: Counter[tuple[str, str, bool]] = Counter()

    def spend(
        self, limit: int, *, project: str, location: str, submits: bool, now: datetime
    ) -> None:
        """Count a call. One that is refused costs nothing.

        Args:
            limit: calls a minute.
            project: the number of the project.
            location: the region.
            submits: it starts an operation; else it is a read.
            now: the time.

        Raises:
            VertexError: RESOURCE_EXHAUSTED.
        """
        minute = now.replace(second=0, microsecond=0)
        if minute != self._minute:
            self._minute = minute
            self._spent.clear()
        key = (project, location, submits)
        if self._spent[key] >= limit:
            metric = _METRICS[submits]
            raise VertexError(
                Code.RESOURCE_EXHAUSTED,
                f"Quota exceeded for quota metric '{metric}' and limit '{metric} per minute per "
                f"region' of service 'aiplatform.googleapis.com' for consumer "
                f"'project_number:{project}' (region {location}, {limit} a minute).",
            )
        self._spent[key] += 1
