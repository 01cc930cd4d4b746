"""Dead letters: the request as it came, and why it failed.

Pure. What must not break: the bytes are kept exactly and the letter says why, whatever else
has to give way to Pub/Sub's limits, so that a letter can always be written and be replayed.
A request that became a job always fits whole; attributes of a message that was rejected, of
which there may be 100, can be left out, and then the reason says how many.
"""

from collections.abc import Mapping
from datetime import datetime

from model_copier.contract.requests import (
    LETTER_ATTRIBUTES,
    MAX_ATTRIBUTE_BYTES,
    MAX_ATTRIBUTES,
    MAX_MESSAGE_BYTES,
    OUTCOME_UNKNOWN,
    Message,
    Rejection,
    cut,
    rfc3339,
)
from model_copier.domain.copy_request import Original
from model_copier.domain.errors import Failure
from model_copier.domain.job import Job, State

# What a publish request and its message need besides data and attributes.
_FRAME_BYTES = 1024
_NOTE_BYTES = 64
_SHORTEST_REASON = 256
# Without these, what was sent cannot be told, answered or replayed.
_MOST_NEEDED = (
    "ce-id",
    "ce-source",
    "ce-type",
    "ce-specversion",
    "content-type",
    "reply_tag",
    "replay_of",
    "ce-replays",
)


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
        attempts=job.attempts,
        at=job.ended_at,
        outcome_unknown=job.state is State.UNKNOWN,
    )


def letter_of_rejection(rejection: Rejection) -> Message:
    return _letter(
        rejection.received.original,
        failure=rejection.failure,
        outcome_id=rejection.outcome_id,
        attempts=0,
        at=rejection.at,
        outcome_unknown=rejection.received.outcome_unknown,
    )


def _letter(
    original: Original,
    *,
    failure: Failure,
    outcome_id: str,
    attempts: int,
    at: datetime,
    outcome_unknown: bool,
) -> Message:
    theirs = _kept(original)
    # Before all else: without it, a replay would call CopyModel again.
    given = original.attributes.items()
    marked = next((value for name, value in given if name.lower() == OUTCOME_UNKNOWN), "true")
    must = {OUTCOME_UNKNOWN: marked} if outcome_unknown else {}
    # What came has passed Pub/Sub once: so much is always taken.
    came = _size(original.data, {**must, **theirs})
    room = max(MAX_MESSAGE_BYTES - _FRAME_BYTES, came) - _size(original.data, must)
    ours = _fitting(
        {
            "dead_letter_code": str(failure.code),
            "outcome_id": outcome_id,
            "dead_letter_at": rfc3339(at),
            "attempts": str(attempts),
        },
        room - min(_SHORTEST_REASON, room * 2 // 3),
    )
    reason = cut(failure.in_words)
    left = room - _size(b"", ours) - _size(b"", {"dead_letter_reason": reason}) - _NOTE_BYTES
    kept = _fitting(theirs, left, MAX_ATTRIBUTES - len(LETTER_ATTRIBUTES) - len(must))
    missing = len(theirs) - len(kept)
    note = f" ({missing} of {len(theirs)} attributes are left out)" if missing else ""
    most = room - _size(b"", {**kept, **ours, "dead_letter_reason": note})
    if most > 0:
        most = min(most, MAX_ATTRIBUTE_BYTES - len(note))
        ours["dead_letter_reason"] = cut(reason, most) + note
    return Message(data=original.data, attributes={**must, **kept, **ours})


def _fitting(
    attributes: Mapping[str, str], room: int, most: int = MAX_ATTRIBUTES
) -> dict[str, str]:
    """Take those that fit, in their order."""
    found: dict[str, str] = {}
    for name, value in attributes.items():
        size = _size(b"", {name: value})
        if size <= room and len(found) < most:
            found[name] = value
            room -= size
    return found


def _kept(original: Original) -> dict[str, str]:
    # Those of an earlier letter are stale. Pub/Sub refuses its own prefix from others, and its
    # dead-letter marks would make this letter look like one that it forwarded.
    kept = {
        name: value
        for name, value in original.attributes.items()
        if name.lower() not in {*LETTER_ATTRIBUTES, OUTCOME_UNKNOWN}
        and not name.startswith(("goog", "CloudPubSub"))
    }
    needed = {most: name for name in kept for most in _MOST_NEEDED if name.lower() == most}
    first = {needed[most]: kept[needed[most]] for most in _MOST_NEEDED if most in needed}
    return first | kept


def _size(data: bytes, attributes: Mapping[str, str]) -> int:
    return len(data) + sum(len(k.encode()) + len(v.encode()) for k, v in attributes.items())
