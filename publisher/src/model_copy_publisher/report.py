"""What is printed about a request: for people as lines, for programs as one JSON object.

Pure: the command decides where it goes.
"""

import json
from typing import Any

from model_copy_publisher.messages import Published, Reply, rfc3339


def published_line(published: Published) -> str:
    """Say that Pub/Sub has the request."""
    return f"published  request {published.request_id}  message {published.message_id}"


def reply_lines(published: Published, reply: Reply, waited_seconds: float) -> list[str]:
    """Tell the outcome to a person, the most wanted fact first."""
    lines = [f"{reply.outcome:<10} {_headline(reply)}"]
    facts: list[tuple[str, str | None]] = [
        ("version", reply.version),
        ("verified", {True: "yes", False: "no", None: None}[reply.verified]),
        ("note", "it was there already; nothing was copied" if reply.already_existed else None),
        *(("warning", warning) for warning in reply.warnings),
        *(("duplicate", model) for model in reply.possible_duplicates),
        ("hint", reply.error.hint if reply.error else None),
        ("letter", reply.dead_letter),
        ("copy", _seconds(reply.timings.copy_seconds)),
        ("waited", f"{_seconds(waited_seconds)}{_ours(published, reply, waited_seconds)}"),
    ]
    return lines + [f"{name:<10} {value}" for name, value in facts if value]


def as_json(
    published: Published, *, waited: bool, reply: Reply | None, waited_seconds: float | None
) -> str:
    """Return the one line for a program; ``reply`` is null when none came in time."""
    result: dict[str, Any] = {
        "request_id": published.request_id,
        "request_source": published.request_source,
        "message_id": published.message_id,
        "request_digest": published.request_digest,
        "published_at": rfc3339(published.published_at),
    }
    if waited:
        result["reply"] = None if reply is None else reply.to_json()
        result["waited_seconds"] = None if waited_seconds is None else round(waited_seconds, 3)
    return json.dumps(result, ensure_ascii=False)


def _headline(reply: Reply) -> str:
    if reply.error is not None:
        return f"{reply.error.code}: {reply.error.message}"
    return reply.resource_name or reply.target_model or reply.source_model or ""


def _ours(published: Published, reply: Reply, waited_seconds: float) -> str:
    """Say how much of the wait was not the copy, where the copy lies within the wait."""
    copy_seconds, ended_at = reply.timings.copy_seconds, reply.timings.copy_ended_at
    if ended_at is not None and ended_at < published.published_at:
        return "; the copy had ended before"
    if copy_seconds is None or copy_seconds > waited_seconds:
        return ""
    return f", of which {_seconds(waited_seconds - copy_seconds)} ours"


def _seconds(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds:.1f} s"
