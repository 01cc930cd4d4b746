"""A log line that cannot be written changes no answer."""

import subprocess
import sys
from pathlib import Path

import pytest

GOES_ON = """
import sys
from model_copier.logs import log

log("bug", severity="ERROR")
if len(sys.argv) > 1:
    sys.stdout.close()
    log("bug", severity="ERROR")
sys.stderr.write("still here")
"""


@pytest.mark.parametrize("arguments", [[], ["close"]], ids=["full disk", "closed"])
def test_an_unwritable_log_raises_nothing(arguments: list[str]) -> None:
    """Linux's /dev/full refuses each write as a full disk does."""
    with Path("/dev/full").open("wb", buffering=0) as full:
        ended = subprocess.run(
            [sys.executable, "-c", GOES_ON, *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )

    assert "still here" in ended.stderr
