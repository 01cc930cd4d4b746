"""The publisher's README: every command prints what it shows, and its Python runs."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest

from local_cloud.stack import Stack
from readme_session import README, type_again
from show_publisher import running_stack

EXITS = Path(__file__).parents[2] / "publisher/src/model_copy_publisher/cli/exits.py"


@pytest.fixture
async def cloud(tmp_path: Path):
    async with running_stack(tmp_path / "cloud") as stack:
        yield stack


async def test_every_command_prints_what_is_shown(cloud: Stack, tmp_path: Path):
    """To mend it: PYTHONPATH=tests python tests/readme_session.py, and read the diff."""
    pairs = await type_again(cloud, tmp_path, README.read_text())

    assert len(pairs) > 10
    for shown, printed in pairs:
        assert printed.comparable() == shown.comparable(), shown.command


async def test_the_python_runs_as_it_stands(cloud: Stack):
    [program] = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)

    ended = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", program],
        env={"PUBSUB_EMULATOR_HOST": cloud.pubsub.address},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    assert "succeeded projects/gemini-fine-tuning-target/" in ended.stdout
    assert "nightly-2025-12-30 True" in ended.stdout
    assert "SUCCEEDED" in ended.stdout


def test_every_exit_code_is_told():
    told = re.findall(r"^\| (\d+) \| ", README.read_text(), re.MULTILINE)
    [line] = re.findall(r"^DONE, .* = (.*)$", EXITS.read_text(), re.MULTILINE)

    assert told == line.split(", ")
