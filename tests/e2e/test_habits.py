"""Habits of machines: no HOME, a pipe that closes, a proxy that knows nothing of this machine."""

import asyncio
import os
import shutil
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from local_cloud.stack import SOURCE_MODEL, Stack

MODEL_COPY = str(Path(sys.executable).with_name("model-copy"))
PROXY = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def ended(*words: str, **env: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        *words, env={"PATH": os.environ["PATH"], **env}, stdout=PIPE, stderr=PIPE
    )
    out, errors = await process.communicate()
    return process.returncode, out.decode(), errors.decode()


@pytest.mark.skipif(
    not shutil.which("setpriv") or os.getuid() != 0, reason="setpriv, as root, is needed for that"
)
async def test_without_a_home_there_is_no_settings_file(stack: Stack):
    """A bare uid in a container; it must not look like a copy that failed."""
    nobody = ("setpriv", "--reuid=54321", "--regid=54321", "--clear-groups")
    copy = (MODEL_COPY, "publish", SOURCE_MODEL, "homeless", "--validate-only", "--wait")

    code, out, errors = await ended(*nobody, *copy, **stack.exports())

    assert "Traceback" not in errors
    assert code == 0, errors
    assert "validated" in out


async def test_a_pipe_that_closes_is_not_a_failure(stack: Stack):
    """``model-copy ... | head`` exits as whatever SIGPIPE ends: 1 would say that a copy failed."""
    script = f"set -o pipefail; {MODEL_COPY} config show | head -c 1 >/dev/null; exit $?"
    closed = f"{MODEL_COPY} config show >&-; exit $?"

    piped = await ended("bash", "-c", f"({script})", **stack.exports())
    full = await ended("bash", "-c", closed, **stack.exports())

    assert piped[0] in {0, 141}, piped
    assert full[0] != 1, full


async def test_a_proxy_is_never_asked_for_this_machine(tmp_path: Path):
    """gRPC sends even loopback through ``http_proxy``: 60 s, and then a traceback."""
    demo = (sys.executable, "-m", "local_cloud", "demo", "--copy-seconds", "0.2")

    code, out, errors = await ended(
        *demo, HOME=str(tmp_path), no_proxy="localhost", NO_PROXY="localhost", **PROXY
    )

    assert code == 0, out + errors
