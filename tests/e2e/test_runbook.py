"""The runbook for dead letters: every command prints what it shows."""

from pathlib import Path

from runbook_session import comparable, type_again


async def test_every_command_of_the_runbook_prints_what_it_shows(tmp_path: Path):
    """To mend it: PYTHONPATH=tests python tests/runbook_session.py, and read the diff."""
    pairs = await type_again(tmp_path)

    assert len(pairs) == 10
    for shown, printed in pairs:
        assert comparable(printed.printed) == comparable(shown.printed), shown.command
