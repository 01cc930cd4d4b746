"""Dead letters: the request as it came, and why it failed.

Pure. What must not break: the bytes are kept exactly, whatever else has to give way to
Pub/Sub's limits, so that a letter can always be written and always be replayed.
"""

from collections.abc import Mapping
from datetime import datetime

from model_copier.job import Failure, Job, Original
from model_copier.messages import (
    LETTER_ATTRIBUTES,
    MAX_ATTRIBUTES,
    MAX_MESSAGE_BYTES,
    Message,
    Rejection,
    cut,
    rfc3339,
)

# What a publish request and its message need besides data and attributes.
_FRAME_BYTES = 1024


def can_be_kept(original: Original) -> bool:
    """Tell whether a letter can hold this: whatever Pub/Sub delivered fits."""
    return _size(original.data, _kept(original)) <= MAX_MESSAGE_BYTES


def letter_of_job(job: Job) -> Message:
    assert job.failure is not None
    assert job.ended_at is not None
    return _letter(
        job.original,
        failure=job.failure,
        outcome_id=job.outcome_id,
        attempts=job.copy_attempts,
        at=job.ended_at,
    )


def letter_of_rejection(rejection: Rejection) -> Message:
    return _letter(
        rejection.received.original,
        failure=rejection.failure,
        outcome_id=rejection.outcome_id,
        attempts=0,
        at=rejection.at,
    )


def _letter(
    original: Original, *, failure: Failure, outcome_id: str, attempts: int, at: datetime
) -> Message:
    attributes = _kept(original)
    size = _size(original.data, attributes)
    reason = cut(failure.in_words)
    ours = (str(failure.code), outcome_id, rfc3339(at), str(attempts), reason)
    for name, value in zip(LETTER_ATTRIBUTES, ours, strict=True):
        added = _size(b"", {name: value})
        if len(attributes) < MAX_ATTRIBUTES and size + added < MAX_MESSAGE_BYTES - _FRAME_BYTES:
            attributes[name] = value
            size += added
    return Message(data=original.data, attributes=attributes)


def _kept(original: Original) -> dict[str, str]:
    # Those of an earlier letter are stale. Pub/Sub refuses its own prefix from others, and its
    # dead-letter marks would make this letter look like one that it forwarded.
    return {
        name: value
        for name, value in original.attributes.items()
        if name.lower() not in LETTER_ATTRIBUTES and not name.startswith(("goog", "CloudPubSub"))
    }


def _size(data: bytes, attributes: Mapping[str, str]) -> int:
    return len(data) + sum(len(k.encode()) + len(v.encode()) for k, v in attributes.items())
