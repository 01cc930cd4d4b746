"""What is printed about requests: for people as lines, for programs as one JSON object each.

Pure: the command decides where it goes. Texts of others lose their control characters.
"""

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from model_copy_publisher.events import Outcome, Reply, Status
from model_copy_publisher.messages import CopyRequest, Published, rfc3339
from model_copy_publisher.terminal import json_line, printable

SHOWN_BAD_ROWS = 20


def label_of(request: CopyRequest) -> str:
    """Name a request shortly: where it goes, or where it comes from."""
    source = request.source_model_id.rpartition("/")[2]
    target = request.destination_model_id or request.destination_parent_model
    name = f"{source} -> {target.rpartition('/')[2]}" if target else source
    return printable(f"{name} in {request.target_project}" if request.target_project else name)


def published_line(published: Published) -> str:
    """Say that Pub/Sub has the request."""
    return printable(f"published  request {published.request_id}  message {published.message_id}")


def reply_lines(reply: Reply, *, asked_at: datetime | None, waited_seconds: float) -> list[str]:
    """Format one outcome for a person."""
    lines = [f"{reply.outcome:<10} {_headline(reply)}"]
    facts = [
        *_outcome_facts(reply),
        ("waited", f"{_seconds(waited_seconds)}{_overhead(asked_at, reply, waited_seconds)}"),
    ]
    lines += [f"{name:<10} {value}" for name, value in facts if value]
    return [printable(line) for line in lines]


def reply_line(reply: Reply | Status) -> str:
    """Format the outcome of one of many requests."""
    word = reply.outcome.value if isinstance(reply, Reply) else reply.state.lower()
    version = f"  version {reply.version}" if reply.version else ""
    return printable(f"{word:<10} {reply.request_id}  {_headline(reply)}{version}")


def status_lines(status: Status) -> list[str]:
    """Format the state of a request."""
    facts = [
        *_outcome_facts(status),
        ("request", status.request_id),
        ("source", status.source_model),
        ("attempts", str(status.attempts) if (status.attempts or 0) > 1 else None),
        ("accepted", rfc3339(status.timings.accepted_at) if status.timings.accepted_at else None),
        ("ended", rfc3339(status.timings.ended_at) if status.timings.ended_at else None),
    ]
    lines = [f"{status.state.lower():<10} {_headline(status)}".rstrip()]
    lines += [f"{name:<10} {value}" for name, value in facts if value]
    return [printable(line) for line in lines]


def summary(counts: Counter[str], seconds: float) -> str:
    """Sum up how many requests ended: ``1,000 requests: 998 succeeded, 2 failed; 66.2 s``."""
    total = sum(counts.values())
    parts = ", ".join(f"{count:,} {word}" for word, count in counts.most_common())
    return f"{total:,} request{'s' if total != 1 else ''}: {parts}; {seconds:.1f} s"


def bad_row_lines(file: str, bad: Iterable[Any]) -> list[str]:
    """Say what is wrong with a file, as compilers do."""
    rows = list(bad)
    lines = [
        printable(f"{file}:{row.line}:{row.column}: {row.reason}") for row in rows[:SHOWN_BAD_ROWS]
    ]
    more = len(rows) - len(lines)
    return [*lines, f"and {more:,} more invalid rows"] if more else lines


def as_json(
    published: Published | None,
    request: CopyRequest,
    *,
    waited: bool,
    reply: Reply | None,
    waited_seconds: float | None,
) -> str:
    """Return the one line for a program; ``reply`` is null when none came in time."""
    result: dict[str, Any] = {
        "request_id": request.request_id,
        "request_source": request.request_source,
        "message_id": published and published.message_id,
        "request_digest": request.digest,
        "published_at": published and rfc3339(published.published_at),
    }
    if waited:
        result["reply"] = None if reply is None else reply.to_json()
        result["waited_seconds"] = None if waited_seconds is None else round(waited_seconds, 3)
    return json_line(result)


def _outcome_facts(told: Reply | Status) -> list[tuple[str, str | None]]:
    return [
        ("version", told.version),
        ("verified", {True: "yes", False: "no", None: None}[told.verified]),
        ("note", "it existed already; nothing was copied" if told.already_existed else None),
        *(("warning", warning) for warning in told.warnings),
        *(("duplicate", model) for model in told.possible_duplicates),
        ("hint", told.error.hint if told.error else None),
        ("letter", told.dead_letter),
        ("again", _replay_advice(told)),
        ("copy", _seconds(told.timings.copy_seconds)),
    ]


def _replay_advice(told: Reply | Status) -> str | None:
    """Say how to replay, unless the id belongs to a request with other content."""
    is_conflict = (
        isinstance(told, Reply)
        and told.outcome is Outcome.REJECTED
        and told.error is not None
        and told.error.code == "ALREADY_EXISTS"
    )
    if not told.dead_letter or is_conflict:
        return None
    return f"after the fix: {replay_command(told)}"


def replay_command(told: Reply | Status) -> str:
    """Return the command that replays a failed request; publishing it again changes nothing."""
    words = ["model-copy", "dead-letters", "replay", "--request-id", told.request_id]
    return shlex.join(word for word in words if word)


def _headline(told: Reply | Status) -> str:
    if told.error is not None:
        return f"{told.error.code}: {told.error.message}"
    if isinstance(told, Reply) and told.copy_model_request is not None:
        return _would(told.copy_model_request)
    return told.resource_name or told.target_model or told.source_model or ""


def _would(asked: Mapping[str, Any]) -> str:
    """Describe the CopyModel call that would be made."""
    if parent_model := asked.get("parent_model"):
        return f"{asked.get('source_model')} to a new version of {parent_model}"
    return f"{asked.get('source_model')} to {asked.get('parent')}/models/{asked.get('model_id')}"


def _overhead(asked_at: datetime | None, reply: Reply, waited_seconds: float) -> str:
    """Split the wait into copy and overhead, if the copy ran within the wait."""
    copy_seconds, ended_at = reply.timings.copy_seconds, reply.timings.copy_ended_at
    if asked_at is not None and ended_at is not None and ended_at < asked_at:
        return "; the copy had ended before"
    if copy_seconds is None or copy_seconds > waited_seconds:
        return ""
    overhead = waited_seconds - copy_seconds
    return f" (copy {_seconds(copy_seconds)}, overhead {_seconds(overhead)})"


def _seconds(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds:.1f} s"
