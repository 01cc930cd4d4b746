"""The same commands on Google's emulator, where this machine has it."""

import json
from pathlib import Path

import pytest

from command_line import Run, Service
from integration.test_dead_letters import dead, kept, letters, write
from show_publisher import Elsewhere

__all__ = ["letters"]  # a fixture


@pytest.fixture
def pubsub(emulator: str) -> Elsewhere:
    """In place of the local one."""
    return Elsewhere(emulator)


async def test_letters_are_seen_replayed_dropped_and_restored(
    letters: Service, run: Run, tmp_path: Path
):
    await write(letters, "r-1")
    await write(letters, "r-2", "INTERNAL")
    backup = str(tmp_path / "letters.jsonl")

    seen = [await dead(run, "list", "--summary", "--output", "json") for _ in range(2)]
    replayed = await dead(run, "replay", "--code", "NOT_FOUND", "--yes")
    dropped = await dead(run, "drop", "--backup", backup, "--yes")
    left = await kept(letters)
    restored = await dead(run, "restore", backup)

    assert [json.loads(output) for _, output, _ in seen] == [{"NOT_FOUND": 1, "INTERNAL": 1}] * 2
    assert [code for code, _, _ in (replayed, dropped, restored)] == [0, 0, 0]
    assert [each.attributes["ce-id"] for each in await letters.requests(1)] == ["r-1"]
    assert left == []
    assert await kept(letters) == ["r-2"]
