"""What a read of Vertex AI is for, as far as that decides how fresh it must be and who is first.

Said by whoever reads, with ``reading_as``; an ordinary read says nothing. It travels in a
context variable, so that the ports keep to what is asked, not why.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum, auto


class Reading(Enum):
    """Why somebody reads."""

    ORDINARY = auto()
    # The source of a new copy: many requests may name it at once, and share the answer.
    SOURCE = auto()
    # There is reason to believe that it changed a moment ago, or something final hangs on it:
    # nothing that was read before will do.
    FRESH = auto()


_reading: ContextVar[Reading] = ContextVar("_reading", default=Reading.ORDINARY)


def reading() -> Reading:
    return _reading.get()


@contextmanager
def reading_as(kind: Reading) -> Iterator[None]:
    """Say what the reads within are for."""
    token = _reading.set(kind)
    try:
        yield
    finally:
        _reading.reset(token)
