"""A job as a Firestore document: the record, and beside it the fields that queries rest on.

Pure. What must not break: Terraform and docs/stores.md index exactly INDEXED; a test
compares them.
"""

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self
from urllib.parse import parse_qs, urlsplit

from model_copier.adapters.job_record import to_record
from model_copier.domain.job import Job
from model_copier.engine.ports import Wanted

COLLECTIONS: Final = ("jobs", "destinations", "queues")
# The fields of a job that are indexed, and how. No other field of the three collections
# needs an index; Firestore would give each of them two.
INDEXED: Final[Mapping[str, str]] = {
    "due_at": "ASCENDING",
    "listed": "DESCENDING",
    "marks": "CONTAINS",
    "unfinished": "DESCENDING",
    "waits": "ASCENDING",
}
# Firestore deletes a job some time after this; from the moment itself on it reads as gone.
TTL_FIELD: Final = "expires_at"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the jobs are kept."""

    project: str
    database: str
    prefix: str

    @classmethod
    def parse(cls, store: str) -> Self:
        """Read ``firestore://PROJECT/DATABASE?collection=PREFIX``, which the settings checked."""
        parts = urlsplit(store)
        (prefix,) = parse_qs(parts.query).get("collection", ["model-copier"])
        return cls(project=parts.netloc, database=parts.path.strip("/"), prefix=prefix)

    @property
    def mark(self) -> tuple[str, str]:
        """The document that says that the store went back in time; mostly it is not there."""
        return f"{self.prefix}-meta", "restored"

    def collection(self, name: str) -> str:
        assert name in COLLECTIONS
        return f"{self.prefix}-{name}"


def fields_of(job: Job) -> dict[str, Any]:
    """None: the document has no such field."""
    marks = [
        *([trace_mark(job.claim)] if job.claim else ()),
        *([operation_mark(job.follows)] if job.follows else ()),
        *([ended_mark(job.key)] if job.state.final else ()),
    ]
    return {
        # With each save another one: Firestore counts a write that changes nothing as none.
        "version": job.version,
        "due_at": job.due_at,
        "destination": job.destination,
        "marks": marks or None,
        "listed": _listed(job.request_source, job.accepted_at) + job.key,
        "unfinished": None if job.state.final else _unfinished(job),
        "waits": _waits(job),
        "start_queue": job.start_queue,
        TTL_FIELD: job.expires_at,
        "record": to_record(job).decode(),
    }


def trace_mark(name: str) -> str:
    return f"trace {name}"


def operation_mark(number: str) -> str:
    return f"operation {number}"


def ended_mark(key: str) -> str:
    return f"ended {key}"


def _listed(request_source: str, accepted_at: datetime) -> str:
    """Sort a requester's jobs by time, in one string: two fields would need a second index."""
    return f"{name_of(request_source)} {_microseconds(accepted_at):018d} "


def _microseconds(at: datetime) -> int:
    return max(0, (at - _EPOCH) // timedelta(microseconds=1))


def _unfinished(job: Job) -> str:
    """Sort a sender's unfinished jobs by queue and turn, the highest turn of a queue last."""
    sender = name_of(job.request_source)
    if job.start_queue is None:
        return f"{sender} -"
    return f"{sender} {name_of(job.start_queue)} {_sortable(job.turn or 0.0)}"


def unfinished_between(sender: str, queue: str | None = None) -> tuple[str, str]:
    """Say between what a sender's unfinished jobs are, or only those that are in a queue."""
    prefix = f"{name_of(sender)} {name_of(queue)}" if queue else name_of(sender)
    return f"{prefix} ", f"{prefix} ~"


def turn_of(unfinished: str) -> float:
    """Read the turn of a job that has one back from the field ``unfinished``."""
    return float(struct.unpack(">d", bytes.fromhex(unfinished.rsplit(" ", 1)[1]))[0])


def _waits(job: Job) -> str | None:
    """Sort those who wait for one thing by their place, in one string."""
    turn, accepted_at, key = job.place
    place = f"{_sortable(turn)} {_microseconds(accepted_at):018d} {key}"
    if job.waiting_for:
        return f"destination {name_of(job.waiting_for)} {place}"
    if job.in_queue and job.start_queue:
        return f"queue {name_of(job.start_queue)} {place}"
    return None


def awaiting_between(destination: str) -> tuple[str, str]:
    """Say between what those are who wait for a destination."""
    return f"destination {name_of(destination)} ", f"destination {name_of(destination)} ~"


def queued_between(queue: str | None, *, after: str | None = None) -> tuple[str, str]:
    """Say between what those in a queue are; or, with None, those in all queues ``after`` one."""
    if queue is not None:
        return f"queue {name_of(queue)} ", f"queue {name_of(queue)} ~"
    return (queued_between(after)[1] if after else "queue "), "queue ~"


def _sortable(turn: float) -> str:
    """A float that is not negative, as text that sorts as the float does: its bits."""
    return struct.pack(">d", max(turn, 0.0)).hex()


def listed_between(wanted: Wanted) -> tuple[str, str]:
    """Say from where on, and before what, a requester's list holds what is wanted."""
    source = wanted.request_source
    lowest = _listed(source, wanted.accepted_from or _EPOCH)
    before = name_of(source) + " ~"  # behind every digit
    if wanted.accepted_before:
        before = min(before, _listed(source, wanted.accepted_before))
    if wanted.after:
        at, key = wanted.after
        before = min(before, _listed(source, at) + key)
    return lowest, before


def name_of(text: str) -> str:
    """A document's name has no slashes and is short; a hash also spreads the load."""
    return hashlib.sha256(text.encode()).hexdigest()
