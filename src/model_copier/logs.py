"""One line of JSON for each event, as Cloud Logging reads it from standard output.

https://cloud.google.com/logging/docs/structured-logging
"""

import json
import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any


def log(event: str, *, severity: str = "INFO", **fields: Any) -> None:
    """Write an event and its fields; empty fields are left out.

    A log that cannot be written (a full disk, a closed pipe) changes no answer: the line is lost.
    """
    line = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "severity": severity,
        "message": event,
        **{name: value for name, value in fields.items() if value not in ("", None)},
    }
    text = json.dumps(line, default=str) + "\n"
    with suppress(OSError, ValueError):  # ValueError: standard output is closed
        sys.stdout.write(text)
        sys.stdout.flush()
