"""What is known of a batch, across kills."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from model_copy_publisher import CopyRequest, InvalidRequestError, Published, Reply
from model_copy_publisher.journal import Journal

ONE = CopyRequest(source_model_id="7", destination_model_id="one", request_id="r-1")
TWO = CopyRequest(source_model_id="7", destination_model_id="two", request_id="r-2")
MORNING = datetime(2026, 2, 13, 9, tzinfo=UTC)
TOPIC = "projects/p/topics/t"


def confirmed(request: CopyRequest) -> Published:
    return Published(
        request_id=request.request_id,
        request_source=request.request_source,
        request_digest=request.digest,
        message_id="17",
        published_at=MORNING,
    )


def outcome(request: CopyRequest) -> Reply:
    reply = Reply.from_message(
        b'{"outcome": "succeeded", "resource_name": "m", "of_a_later_version": 1}',
        {
            "ce-id": f"{request.request_id}-1",
            "ce-type": "dev.modelcopier.copy.succeeded.v1",
            "request_id": request.request_id,
        },
        message_id="",
    )
    assert reply is not None
    return reply


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "nightly.jsonl"


def test_what_was_written_is_known_to_the_next_process(file: Path):
    with Journal(file, topic=TOPIC) as journal:
        journal.listening("s-1")
        journal.confirmed([confirmed(ONE), confirmed(TWO)], subscription="s-1")
        journal.ended([(ONE, outcome(ONE))])

    with Journal(file, topic=TOPIC) as again:
        assert again.knows(ONE)
        assert again.knows(TWO)
        assert again.confirmed_at(ONE) == MORNING
        assert again.outcome(ONE) == outcome(ONE)
        assert again.outcomes[next(iter(again.outcomes))].to_json()["of_a_later_version"] == 1
        assert again.outcome(TWO) is None
        assert again.is_listened_for(TWO)


def test_a_line_that_a_kill_cut_short_is_forgotten_and_the_rest_is_not(file: Path):
    with Journal(file, topic=TOPIC) as journal:
        journal.confirmed([confirmed(ONE)])
    file.write_bytes(file.read_bytes() + b'{"published": ["//model-cop')

    with Journal(file, topic=TOPIC) as again:
        assert again.knows(ONE)
        assert not again.knows(TWO)
        again.confirmed([confirmed(TWO)])

    with Journal(file, topic=TOPIC) as third:
        assert third.knows(TWO)


def test_the_same_id_with_other_content_or_on_another_topic_is_not_known(file: Path):
    other = CopyRequest(source_model_id="8", request_id="r-1")
    with Journal(file, topic=TOPIC) as journal:
        journal.confirmed([confirmed(ONE)])

        assert not journal.knows(other)

    with Journal(file, topic="projects/p/topics/other") as elsewhere:
        assert not elsewhere.knows(ONE)


def test_only_the_newest_subscription_counts_as_listening(file: Path):
    with Journal(file, topic=TOPIC) as journal:
        journal.listening("s-1")
        journal.confirmed([confirmed(ONE)], subscription="s-1")
        journal.listening("s-2")
        journal.confirmed([confirmed(TWO)], subscription="s-2")

        assert not journal.is_listened_for(ONE)
        assert journal.is_listened_for(TWO)


def test_two_processes_do_not_publish_one_batch_at_a_time(file: Path):
    with (
        Journal(file, topic=TOPIC),
        pytest.raises(InvalidRequestError, match="is being published right now"),
        Journal(file, topic=TOPIC),
    ):
        pass


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "state").write_text("a file")

    with (
        pytest.raises(InvalidRequestError, match=r"nightly.jsonl cannot be written: .*--journal"),
        Journal(tmp_path / "state" / "nightly.jsonl", topic=TOPIC),
    ):
        pass


@pytest.mark.parametrize("content", [b'{"source_model_id": "7"}\n', b"\n\nnotes\n", b"{\n}"])
@pytest.mark.parametrize("anew", [True, False])
def test_a_file_that_is_no_journal_stays_as_it_is(tmp_path: Path, content: bytes, *, anew: bool):
    file = tmp_path / "notes"
    file.write_bytes(content)

    with (
        pytest.raises(InvalidRequestError, match=r"notes exists and is not a journal; .*--journal"),
        Journal(file, topic=TOPIC, anew=anew),
    ):
        pass
    assert file.read_bytes() == content


@pytest.mark.parametrize("content", [b"", b"{", b'{"listening": "s', b'\n{"published": ['])
def test_a_first_line_that_a_kill_cut_short_is_one_of_a_journal(file: Path, content: bytes):
    file.parent.mkdir()
    file.write_bytes(content)

    with Journal(file, topic=TOPIC) as journal:
        journal.confirmed([confirmed(ONE)])
    with Journal(file, topic=TOPIC) as again:
        assert again.knows(ONE)


def test_what_keeps_nothing_is_no_journal(tmp_path: Path):
    os.mkfifo(tmp_path / "fifo")

    for useless in (Path("/dev/null"), Path("/dev/full"), tmp_path / "fifo", tmp_path):
        with (
            pytest.raises(InvalidRequestError, match="is not a regular file"),
            Journal(useless, topic=TOPIC),
        ):
            pass


def test_a_batch_that_is_published_anew_begins_a_journal_of_its_own(file: Path):
    with Journal(file, topic=TOPIC) as journal:
        journal.confirmed([confirmed(ONE)])

    with Journal(file, topic=TOPIC, anew=True) as anew:
        assert not anew.knows(ONE)
        anew.confirmed([confirmed(TWO)])

    assert len(file.read_text().splitlines()) == 1


def test_a_journal_is_its_owners_alone(file: Path):
    with Journal(file, topic=TOPIC) as journal:
        journal.listening("s-1")

    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_a_journal_of_an_earlier_version_is_closed(file: Path):
    """It was readable to everybody."""
    file.parent.mkdir()
    file.touch(mode=0o644)

    with Journal(file, topic=TOPIC):
        assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 != 0o700  # it may be shared on purpose


@pytest.mark.parametrize("content", [None, b"", b'{"listening": "s"}\n'])
def test_a_journal_is_never_written_through_links(file: Path, content: bytes | None):
    """F11: a dangling link made the victim's file, and an empty file behind one was written."""
    victim = file.parent.parent / "victim"
    if content is not None:
        victim.write_bytes(content)
    file.parent.mkdir()
    file.symlink_to(victim)

    with pytest.raises(InvalidRequestError, match="is a link"), Journal(file, topic=TOPIC):
        pass

    assert victim.exists() is (content is not None)
    assert not victim.exists() or victim.read_bytes() == content
