"""What the workflow needs from the outside world, in its own words.

Each promise here is tried by a contract suite over every adapter that makes it.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from model_copier.contract.requests import Message
from model_copier.domain.job import Job, State
from model_copier.domain.resource_names import ModelName
from model_copier.domain.vertex_types import CopyCall, Model, Operation, OperationsPage


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which jobs somebody wants to see: those of one ``request_source``, and all that is given."""

    request_source: str
    state: State | None = None
    source: str = ""  # projects/P/locations/L/models/M, as it was asked for
    target: str = ""  # likewise; not known before the source is
    accepted_from: datetime | None = None
    accepted_before: datetime | None = None
    # Only what was accepted before this (moment, key): where the last page ended.
    after: tuple[datetime, str] | None = None

    def takes(self, job: Job) -> bool:
        """What every store's query must say."""
        at = job.accepted_at
        return (
            job.request_source == self.request_source
            and (self.state is None or job.state is self.state)
            and (not self.source or str(job.request.source.at(None)) == self.source)
            and (not self.target or str(job.target) == self.target)
            and (self.accepted_from is None or at >= self.accepted_from)
            and (self.accepted_before is None or at < self.accepted_before)
            and (self.after is None or (at, job.key) < self.after)
        )


class JobStore(Protocol):
    """Keeps jobs. Every method may raise ``UnavailableError``: then the caller does not know
    whether a write was done, and finds out by reading. Each answers, or raises, in less time
    than a lease lasts, whatever disk or network do.
    """

    async def create(self, job: Job) -> Job:
        """Store a job that is new and return it with version 1.

        Raises:
            JobExistsError: a job with this key is there already.
        """

    async def get(self, key: str) -> Job | None: ...

    async def save(self, job: Job) -> Job:
        """Store ``job`` and return it with the next version.

        Taking and leaving ``job.destination`` happens in the same instant. A record that
        was deleted is never made anew.

        Raises:
            StaleJobError: the stored version is no longer ``job.version``.
            DestinationTakenError: another job holds ``job.destination``; nothing was saved.
        """

    async def due(self, now: datetime, latest: datetime, limit: int) -> Sequence[Job]:
        """Jobs with ``due_at`` at or before ``now``, or after ``latest`` (a broken clock wrote
        those), the longest due first. Costs what is due, not what is stored. What this
        service cannot read is passed over, and does not count against ``limit``.
        """

    async def next_due_at(self) -> datetime | None:
        """The earliest ``due_at`` of all, or None when no job has anything left to do."""

    async def awaiting(self, destination: str, limit: int) -> Sequence[Job]:
        """The first jobs, by ``place``, that wait until ``destination`` is free."""

    async def with_traces(self, names: Collection[str]) -> Sequence[Job]:
        """Jobs whose ``trace`` is one of these names."""

    async def with_operation(self, number: str) -> Sequence[Job]:
        """Jobs that follow the operation whose name ends in ``number``."""

    async def ended(self, keys: Collection[str]) -> Sequence[Job]:
        """Those of the jobs with these keys that have ended: a query for each 30 keys at most."""

    async def find(self, wanted: Wanted, limit: int) -> Sequence[Job]:
        """Jobs that ``wanted`` takes, the newest first (by ``accepted_at``, then ``key``).

        Costs what one requester has stored, at most.
        """

    async def unfinished(self, sender: str) -> int:
        """Return how many unfinished jobs have this ``request_source``."""

    async def next_turn(self, queue: str, sender: str, cost: float) -> float:
        """Return the turn of a new job: ``cost`` behind the sender's last one in the queue.

        The sender's last turn is the highest of its jobs whose ``start_queue`` this is, and
        the queue's virtual time at least. Nothing is written: until the job is stored, the
        next caller gets the same turn.
        """

    async def queued(self, queue: str, limit: int) -> Sequence[Job]:
        """Return the first jobs of a queue that are ``in_queue``, by ``place``."""

    async def queues(self) -> Sequence[str]:
        """Return the names of queues in which jobs may be waiting for their start."""

    async def take_starts(
        self,
        queue: str,
        turns: Sequence[float],
        now: datetime,
        per_minute: int,
        burst: int | None = None,
    ) -> int:
        """Grant the first n of these turns and return n: what is left of ``per_minute``.

        No more than ``per_minute`` are granted in any 60 seconds, to all callers together, and
        no more than ``burst`` in any 10.
        The queue's virtual time moves on to the last turn that was granted. A grant that is
        not used, or whose answer is lost, counts for 60 seconds all the same.
        """

    async def take_slots(self, name: str, wanted: int, now: datetime, per_minute: int) -> int:
        """Return how many of the ``wanted`` slots are granted: a rate limit like that of the
        starts, without turns. ``name`` is not the name of a queue.
        """

    async def delete_expired(self, now: datetime) -> int:
        """Forget records whose ``expires_at`` has passed; return how many.

        A store that forgets by itself does nothing here; what has expired reads as gone.
        """

    async def check(self) -> None:
        """Return if every question above could be answered now; change no job.

        A file is written to as well: a full disk can be read.

        Raises:
            SetUpError: somebody must mend something first; it says how.
        """


class ModelService(Protocol):
    """Vertex AI's registry, in the region that each name holds.

    Reads raise ``RefusedError`` (with NOT_FOUND for what is not there) or ``UnavailableError``.
    """

    async def get_model(self, name: ModelName) -> Model: ...

    async def list_versions(self, name: ModelName) -> Sequence[Model]:
        """All versions of a model; none when the model does not exist."""

    async def list_operations(self, name: ModelName) -> Sequence[Operation] | None:
        """Operations on a destination model; None where they cannot be listed."""

    async def list_location(
        self, location: str, page_token: str = "", *, running_only: bool = True
    ) -> OperationsPage | None:
        """One page of the operations in ``projects/P/locations/L``; None: they cannot be listed.

        One that is not listed may run all the same: whether the operations of models are
        among them is not documented. ``running_only`` may be ignored.
        """

    async def copy_model(self, call: CopyCall) -> Operation:
        """Start a copy. Sent once, never retried.

        Raises:
            RefusedError: surely not started, and never will be.
            UnavailableError: surely not started; later it may be.
            OutcomeUnknownError: may have been started.
        """

    async def get_operation(self, name: str) -> Operation: ...

    async def cancel_operation(self, name: str) -> None:
        """Ask for a cancel; whether it came in time, the operation tells.

        Raises:
            RefusedError: no cancel was asked for, and none would be: UNIMPLEMENTED where
                copies cannot be cancelled, PERMISSION_DENIED where we may not cancel them,
                NOT_FOUND where the operation is not known (yet, or any more).
        """


class Topics(Protocol):
    """Where outcomes go. A publish returns once Pub/Sub has the message.

    Raises ``UnavailableError``; the message may have been published all the same, which is
    harmless: readers drop repeats by event id.
    """

    async def publish_reply(self, message: Message) -> None: ...

    async def publish_letter(self, message: Message) -> None: ...

    async def publish_tick(self) -> None: ...

    async def check(self) -> None:
        """Return if the topic of replies is there and Pub/Sub answers; publish nothing."""


class Clock(Protocol):
    """Wall time, and time that never goes back."""

    def now(self) -> datetime: ...

    def monotonic(self) -> float: ...
