"""What happened to a job: its newest moments, in order, each with its time.

Pure. For people who ask how a copy came to where it is. What must not break: nothing is
decided by it, and however long a job lives, it stays small.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from model_copier.domain.errors import Code

# A copy that goes well has four moments, each replay of it three to five more.
MAX_MOMENTS = 32
# Enough for a name of a model or operation, and for what Vertex AI says in its first sentences.
MAX_DETAIL = 300


class Happened(StrEnum):
    ASKED = "asked"  # Vertex AI, for a copy
    NOTHING_MADE = "nothing_made"  # of that ask, nor will be: it may be asked again
    COPYING = "copying"  # Vertex AI answered with an operation
    CANCEL_REQUESTED = "cancel_requested"
    # How a run ended.
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LETTER_KEPT = "letter_kept"  # in the dead-letter topic
    ANNOUNCED = "announced"  # on the reply topic
    REPLAYED = "replayed"  # another run begins
    RESTORED = "restored"  # the store went back in time; another run begins by looking


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    at: datetime
    step: Happened
    detail: str = ""
    code: Code | None = None

    def repeats(self, other: "Moment") -> bool:
        return (self.step, self.detail, self.code) == (other.step, other.detail, other.code)


def with_moment(history: tuple[Moment, ...], moment: Moment) -> tuple[Moment, ...]:
    """Add what just happened; the oldest moments make room for it.

    What only happens once more is not news: an outcome that is asked for a thousand times
    must not push out how the job came to it.
    """
    if history and moment.repeats(history[-1]):
        return history
    return (*history, moment)[-MAX_MOMENTS:]
