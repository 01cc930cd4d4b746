"""A backup of letters: whole or not there, and never restored twice by mistake."""

import resource
import signal
from datetime import UTC, datetime
from pathlib import Path

import pytest

from model_copy_publisher import InvalidRequestError
from model_copy_publisher.backup import Restoring, read_backup, write_backup
from model_copy_publisher.letters import Letter

MORNING = datetime(2026, 2, 13, 9, tzinfo=UTC)


def letters(*, size: int = 10) -> list[Letter]:
    return [
        Letter.read(b"x" * size, {}, message_id=str(n), published_at=MORNING) for n in range(20)
    ]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "letters.jsonl"


def test_what_was_written_is_read(file: Path):
    write_backup(file, letters())

    assert read_backup(file) == letters()
    assert list(file.parent.iterdir()) == [file]


def test_a_full_disk_leaves_no_half_of_a_backup(file: Path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handled = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(InvalidRequestError, match="File too large; nothing was dropped"):
            write_backup(file, letters(size=10_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handled)

    assert list(file.parent.iterdir()) == []


@pytest.mark.parametrize("name", ["letters.jsonl", "letters.jsonl.part"])
def test_what_is_there_is_not_written_over(file: Path, name: str):
    there = file.with_name(name)
    there.write_text("mine")

    with pytest.raises(InvalidRequestError, match=f"{name} exists; name a new file"):
        write_backup(file, letters())

    assert there.read_text() == "mine"
    assert list(file.parent.iterdir()) == [there]


@pytest.mark.parametrize("line", ["7", "{}", '["restored"]', '["restored", 7]', '["other", "7"]'])
def test_notes_that_are_none_of_a_restore_are_refused(file: Path, line: str):
    file.with_name("letters.jsonl.restored").write_text(f"{line}\n")

    with pytest.raises(InvalidRequestError, match="is not a restore journal"):
        Restoring(file)


def test_backups_and_notes_are_their_owners_alone(file: Path):
    file = file.parent / "night" / file.name
    write_backup(file, letters())
    with Restoring(file) as restoring:
        restoring.begin(letters()[0])

    assert {each.stat().st_mode & 0o777 for each in file.parent.iterdir()} == {0o600}
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_notes_are_never_written_through_links(file: Path):
    write_backup(file, letters())
    victim = file.parent / "victim"
    (file.parent / f"{file.name}.restored").symlink_to(victim)

    with pytest.raises(InvalidRequestError, match="symbolic links"):
        Restoring(file)

    assert not victim.exists()
