"""What is printed about requests, whatever the texts in it are."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from model_copy_publisher.events import Reply, Status, read_event
from model_copy_publisher.progress import Progress
from model_copy_publisher.report import reply_line, reply_lines, status_lines

EVIL = "\x1b[2J\x07\nsucceeded  forged"
DATA: dict[str, Any] = {
    "resource_name": f"m{EVIL}",
    "target_model": f"m{EVIL}",
    "version": EVIL,
    "state": EVIL,
    "source_model": EVIL,
    "dead_letter": EVIL,
    "warnings": [EVIL],
    "possible_duplicates": [EVIL],
    "timings": {"accepted_at": "0001-01-01T00:00:00+14:00", "copy_seconds": 10**400},
}


def told(kind: str, **more: Any) -> Reply | Status:
    attributes = {"ce-type": f"dev.modelcopier.copy.{kind}.v1", "request_id": f"r{EVIL}"}
    event = read_event(json.dumps(DATA | more).encode(), attributes, message_id="1")
    assert event is not None
    return event


@pytest.mark.parametrize(
    "more", [{}, {"error": {"code": EVIL, "message": EVIL, "hint": EVIL}}], ids=["good", "failed"]
)
def test_no_text_of_others_steers_a_terminal(more: dict[str, Any]):
    reply, status = told("failed", **more), told("status", **more)
    assert isinstance(reply, Reply)
    assert isinstance(status, Status)

    lines = [
        reply_line(reply),
        reply_line(status),
        *reply_lines(reply, asked_at=datetime.now(UTC), waited_seconds=1),
        *status_lines(status),
    ]

    assert all(line.isprintable() for line in lines)
    assert not any(line.startswith("succeeded") for line in lines)


def test_a_state_that_is_no_word_is_one_line_of_the_progress():
    shown = Progress({("s", "r"): "r"})
    shown.waiting([("s", "r")])

    shown.stands(("s", "r"), EVIL)

    assert all(line.isprintable() for line in shown.news)
