"""``model-copy dead-letters`` over real sockets; the test writes letters, as the copier does."""

import asyncio
import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from google.api_core.exceptions import DeadlineExceeded
from google.pubsub_v1 import types

from command_line import DEADLINE_SECONDS, PROJECT, Run, Service
from local_cloud.pubsub import PubSub
from model_copy_publisher import DeadLetters
from model_copy_publisher.letters import FORWARDED_BY
from model_copy_publisher.selection import Selection

LETTERS = f"{PROJECT}/topics/model-copy-dead-letters"
KEPT = f"{PROJECT}/subscriptions/model-copy-dead-letters"
HERE = ["--project", "team-models", "--quiet", "0.2"]


async def write(
    service: Service,
    request_id: str,
    code: str = "NOT_FOUND",
    *,
    data: Any = None,
    **attributes: Any,
) -> None:
    content = {"source_model_id": "7@1", "destination_model_id": request_id}
    told = {
        "ce-specversion": "1.0",
        "ce-id": request_id,
        "ce-source": "//ec2/pipeline",
        "ce-type": "dev.modelcopier.copy.requested.v1",
        "content-type": "application/json",
        "dead_letter_code": code,
        "outcome_id": f"{request_id}-rejected-1",
        "dead_letter_at": "2026-02-13T09:00:00.000Z",
        "attempts": "1",
        "dead_letter_reason": "source_model_id: 7@1 does not exist",
    } | attributes
    message = types.PubsubMessage(
        data=json.dumps(content).encode() if data is None else data, attributes=told
    )
    await service.publisher.publish(topic=LETTERS, messages=[message])


@pytest.fixture
async def letters(service: Service) -> Service:
    await service.publisher.create_topic(name=LETTERS)
    await service.subscriber.create_subscription(name=KEPT, topic=LETTERS, ack_deadline_seconds=60)
    return service


async def kept(service: Service) -> list[str]:
    """The requests whose letters can be pulled now; they are given back."""
    found: list[Any] = []
    with suppress(DeadlineExceeded):
        while received := (
            await service.subscriber.pull(
                # The local one hands out all at once: then there is nothing to wait for.
                subscription=KEPT,
                max_messages=1000,
                timeout=0.05 if found else 0.3,
                retry=None,
            )
        ).received_messages:  # Google's emulator answers with nothing
            found += received
    if found:
        await service.subscriber.modify_ack_deadline(
            subscription=KEPT, ack_ids=[each.ack_id for each in found], ack_deadline_seconds=0
        )
    return sorted(each.message.attributes["ce-id"] for each in found)


async def dead(run: Run, *words: str, given: str = "") -> tuple[int, str, str]:
    command = await run(["dead-letters", *words, *HERE])
    code, output = await command.ends(given)
    return code, output, command.errors


# Seeing


async def test_a_list_settles_nothing_and_a_second_one_sees_the_same(letters: Service, run: Run):
    await write(letters, "r-1")
    await write(letters, "r-2", "INTERNAL")

    first = await dead(run, "list")
    second = await dead(run, "list")

    assert first[0] == 0
    header, *rows = first[1].splitlines()
    assert header.split() == [
        "REQUEST",
        "SOURCE",
        "DESTINATION",
        "CODE",
        "AGE",
        "ATTEMPTS",
        "BY",
        "REASON",
    ]
    assert [row.split()[:4] for row in rows] == [
        ["r-1", "7@1", "r-1", "NOT_FOUND"],
        ["r-2", "7@1", "r-2", "INTERNAL"],
    ]
    assert second[1].splitlines()[1:] == rows
    assert await kept(letters) == ["r-1", "r-2"]


async def test_a_summary_counts_by_code(letters: Service, run: Run):
    for n in range(3):
        await write(letters, f"r-{n}")
    await write(letters, "r-3", "INTERNAL")

    _, shown, _ = await dead(run, "list", "--summary")
    _, counted, _ = await dead(run, "list", "--summary", "--output", "json")

    assert [line.split()[:2] for line in shown.splitlines()[1:]] == [
        ["3", "NOT_FOUND"],
        ["1", "INTERNAL"],
    ]
    assert json.loads(counted) == {"NOT_FOUND": 3, "INTERNAL": 1}


async def test_show_tells_everything_of_one_and_no_terminal_is_steered(letters: Service, run: Run):
    await write(letters, "r-1", dead_letter_reason="\x1b[31mred; see the hint")

    code, shown, _ = await dead(run, "show", "r-1")

    assert code == 0
    assert "\\x1b[31mred; see the hint" in shown
    assert '  "source_model_id": "7@1"' in shown.replace("    ", "  ")
    assert (await dead(run, "show", "r-9"))[0] == 1


async def test_what_is_no_letter_is_shown_too(letters: Service, run: Run):
    await letters.publisher.publish(
        topic=LETTERS, messages=[types.PubsubMessage(data=b"\xff\x00", attributes={"x": "y"})]
    )

    code, shown, _ = await dead(run, "list", "--output", "json")

    [letter] = [json.loads(line) for line in shown.splitlines()]
    assert code == 0
    assert letter["origin"] == "stranger"
    assert letter["unreadable"] == "its data are not text"


async def test_half_a_surrogate_pair_and_a_time_beyond_the_calendar_are_shown_to_programs(
    letters: Service, run: Run
):
    await write(letters, "r-1", data=b'{"source_model_id": "\\ud800"}')
    await write(letters, "r-2", dead_letter_at="0001-01-01T00:00:00+14:00")

    code, shown, _ = await dead(run, "list", "--output", "json")
    one, whole, _ = await dead(run, "show", "r-1", "--output", "json")

    assert (code, one) == (0, 0)
    assert len(shown.splitlines()) == 2
    assert json.loads(whole)["content"] == {"source_model_id": "\ud800"}


async def test_a_missing_subscription_is_exit_code_4(service: Service, run: Run):
    del service
    code, _, errors = await dead(run, "list")

    assert code == 4
    assert f"the subscription {KEPT} does not exist" in errors


# Sending again


async def test_a_replay_is_published_and_then_settled(letters: Service, run: Run):
    await write(letters, "r-1")
    await write(letters, "r-2", "INTERNAL")

    code, _, errors = await dead(run, "replay", "--code", "NOT_FOUND", "--yes")

    [request] = await letters.requests(1)
    assert code == 0
    assert "replayed 1 dead letter (1 NOT_FOUND)" in errors
    assert dict(request.attributes) == {
        "ce-specversion": "1.0",
        "ce-id": "r-1",
        "ce-source": "//ec2/pipeline",
        "ce-type": "dev.modelcopier.copy.requested.v1",
        "content-type": "application/json",
        "replay_of": "r-1-rejected-1",
        "ce-replays": "1",
    }
    assert await kept(letters) == ["r-2"]


async def test_a_dry_run_shows_what_would_be_sent_and_sends_nothing(letters: Service, run: Run):
    await write(letters, "r-1")

    code, shown, errors = await dead(run, "replay", "--dry-run", "--set", "source_model_id=8")

    assert code == 0
    assert shown.startswith("r-1  repaired  {")
    assert '"source_model_id":"8"' in shown
    assert "1 would be sent; nothing was sent" in errors
    assert await kept(letters) == ["r-1"]


async def test_a_confirmation_says_how_many_and_what(letters: Service, run: Run):
    await write(letters, "r-1")

    no = await dead(run, "replay", "--set", "source_model_id=8", given="n\n")
    nobody = await dead(run, "replay")
    yes = await dead(run, "replay", "--set", "source_model_id=8", given="y\n")

    assert f"Replay 1 dead letter (1 NOT_FOUND), source_model_id=8 to {PROJECT}/" in no[2]
    assert (no[0], nobody[0], yes[0]) == (1, 1, 0)
    [request] = await letters.requests(1)
    assert json.loads(request.data)["source_model_id"] == "8"


@pytest.mark.usefixtures("letters")
async def test_no_letter_of_that_name_is_said(run: Run, tmp_path: Path):
    """Neither a replay nor a drop of nothing reads like something that was done."""
    backup, empty = str(tmp_path / "backup"), tmp_path / "empty"
    empty.touch()

    replayed = await dead(run, "replay", "--yes", "--request-id", "zzz")
    dropped = await dead(run, "drop", "--yes", "--request-id", "zzz", "--backup", backup)
    restored = await dead(run, "restore", str(empty))

    assert (replayed[0], dropped[0], restored[0]) == (1, 1, 2)
    assert "There are no such letters." in replayed[2]
    assert "There are no such letters." in dropped[2]
    assert "holds no dead letters" in restored[2]


async def test_a_repair_outside_the_contract_leaves_the_letter(letters: Service, run: Run):
    await write(letters, "r-1")

    code, _, errors = await dead(run, "replay", "--yes", "--set", "destination_parent_model=p")

    assert code == 1
    assert "left       r-1: destination_parent_model: give this or destination_model_id" in errors
    assert await kept(letters) == ["r-1"]
    for wrong in ("nonsense=1", "destination_model_id=Faker", "validate_only=true"):
        assert (await dead(run, "replay", "--yes", "--set", wrong))[0] == 2


async def test_what_cannot_be_replayed_is_named_and_the_rest_goes(letters: Service, run: Run):
    await write(letters, "good")
    await write(letters, "not-json", data=b"\xff")
    await write(letters, "too-often", **{"ce-replays": "3"})
    await write(letters, "newer", **{"ce-type": "dev.modelcopier.copy.requested.v2"})

    code, _, errors = await dead(run, "replay", "--yes")

    [request] = await letters.requests(1)
    assert code == 1
    assert request.attributes["ce-id"] == "good"
    for name in ("not-json", "too-often", "newer"):
        assert f"left       {name}: " in errors
    assert await kept(letters) == ["newer", "not-json", "too-often"]


async def test_a_topic_that_is_missing_loses_nothing(letters: Service, run: Run):
    await write(letters, "r-1")
    await letters.publisher.delete_topic(topic=f"{PROJECT}/topics/model-copy-requests")

    code, _, errors = await dead(run, "replay", "--yes")

    assert code == 4
    assert "does not exist" in errors
    assert await kept(letters) == ["r-1"]


async def test_a_topic_without_permission_loses_nothing(letters: Service, run: Run):
    topic = f"{PROJECT}/topics/model-copy-requests"
    viewer = {"bindings": [{"role": "roles/pubsub.viewer", "members": ["user:a@b.example"]}]}
    await write(letters, "r-1")
    await letters.publisher.set_iam_policy(request={"resource": topic, "policy": viewer})

    code, _, errors = await dead(run, "replay", "--yes")

    assert code == 4
    assert f"Needed: roles/pubsub.publisher on {topic}" in errors
    assert await kept(letters) == ["r-1"]


async def test_what_is_not_told_in_time_is_summed_up_too(letters: Service, run: Run):
    await write(letters, "r-1")
    await write(letters, "r-2")

    command = await run(["dead-letters", "replay", "--yes", "--wait", "--timeout", "2", *HERE])
    request, untold = await letters.requests(2)
    await letters.announce(request)
    code, _ = await command.ends()

    assert code == 3
    assert "2 requests: 1 succeeded, 1 without an outcome yet" in command.errors
    assert "2 sent, 1 without an outcome yet" in command.errors
    source = ["--request-source", "//ec2/pipeline"]
    assert command.again == ["wait", untold.attributes["ce-id"], *source, *HERE[:2]]


async def test_the_oldest_go_first_and_no_more_and_no_faster_than_told(
    letters: Service, pubsub: PubSub, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", pubsub.address)
    for n in (3, 1, 2, 4):
        await write(letters, f"r-{n}", dead_letter_at=f"2026-02-13T09:00:0{n}.000Z")
    moments: list[float] = []

    def replay() -> None:
        with DeadLetters(project="team-models", quiet_seconds=0.3) as mine:
            mine.replay(
                Selection(limit=3),
                per_second=10,
                on_published=lambda _: moments.append(time.monotonic()),
            )

    await asyncio.to_thread(replay)

    sent = [each.attributes["ce-id"] for each in await letters.requests(3)]
    assert sent == ["r-1", "r-2", "r-3"]
    assert moments[-1] - moments[0] >= 0.1
    assert await kept(letters) == ["r-4"]


async def test_the_outcomes_of_a_replay_are_followed(letters: Service, run: Run):
    await write(letters, "r-1", outcome_id="old-1")
    await write(letters, "r-2", outcome_id="old-2")

    command = await run(["dead-letters", "replay", "--yes", "--wait", *HERE])
    for request in await letters.requests(2):
        old = request.attributes["replay_of"]
        await letters.announce(request, {"outcome": "failed"}, **{"ce-id": old})
        await letters.announce(request)
    code, output = await command.ends()

    assert code == 0
    assert sorted(line.split()[:2] for line in output.splitlines()) == [
        ["succeeded", "r-1"],
        ["succeeded", "r-2"],
    ]
    assert "2 requests: 2 succeeded" in command.errors
    assert await letters.listeners() == []


async def test_ids_and_sources_that_we_would_not_make_are_sent_and_followed(
    letters: Service, run: Run
):
    await write(letters, "good")
    await write(letters, 'poison "id"', data=json.dumps({"source_model_id": "8"}).encode())
    await write(letters, "odd-source", **{"ce-source": "//has space"})

    command = await run(["dead-letters", "replay", "--yes", "--wait", *HERE])
    for request in await letters.requests(3):
        await letters.announce(request)
    code, _ = await command.ends()

    assert code == 0
    assert "3 requests: 3 succeeded" in command.errors


# Dropping and restoring


async def test_what_is_dropped_is_restored_as_it_was(letters: Service, run: Run, tmp_path: Path):
    for n in range(3):
        await write(letters, f"r-{n}")
    await write(letters, "r-3", "INTERNAL")
    before = (await dead(run, "list", "--output", "json"))[1]
    backup = str(tmp_path / "letters.jsonl")

    dropped = await dead(run, "drop", "--code", "NOT_FOUND", "--backup", backup, "--yes")
    left = await kept(letters)
    restored = await dead(run, "restore", backup)
    again = await dead(run, "restore", backup)
    after = (await dead(run, "list", "--output", "json"))[1]

    assert (dropped[0], restored[0], again[0]) == (0, 0, 0)
    assert left == ["r-3"]
    assert "restored 3 dead letters (3 NOT_FOUND)" in restored[2]
    assert "All dead letters of this backup were restored before" in again[2]

    def known(text: str) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in text.splitlines()]
        return sorted(
            ({k: v for k, v in each.items() if k != "message_id"} for each in found),
            key=lambda each: str(each["request_id"]),
        )

    assert known(before) == known(after)


async def test_without_a_backup_nothing_is_dropped(letters: Service, run: Run, tmp_path: Path):
    await write(letters, "r-1")
    there = tmp_path / "there.jsonl"
    there.write_text("of somebody else")

    without = await dead(run, "drop", "--yes")
    over = await dead(run, "drop", "--yes", "--backup", str(there))
    nowhere = await dead(run, "drop", "--yes", "--backup", str(there / "x.jsonl"))

    assert (without[0], over[0], nowhere[0]) == (2, 2, 2)
    assert there.read_text() == "of somebody else"
    assert await kept(letters) == ["r-1"]


# In Python


async def test_two_who_look_at_once_share_the_letters(
    letters: Service, pubsub: PubSub, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", pubsub.address)
    for n in range(40):
        await write(letters, f"r-{n}")

    def replay() -> int:
        with DeadLetters(project="team-models", quiet_seconds=0.4) as mine:
            return len(mine.replay(Selection(codes=["NOT_FOUND"])).settled)

    counts = await asyncio.gather(*(asyncio.to_thread(replay) for _ in range(2)))

    names = {each.attributes["ce-id"] for each in await letters.requests(40)}
    assert sum(counts) == len(names) == 40
    assert await kept(letters) == []


async def test_who_dies_between_publishing_and_settling_sends_the_very_same_again(
    letters: Service, pubsub: PubSub, monkeypatch: pytest.MonkeyPatch
):
    """The copier applies a replay once: so it may be sent twice, and must not be lost."""
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", pubsub.address)
    await write(letters, "r-1")

    class DiedError(BaseException):
        pass

    def die(_: object) -> None:
        raise DiedError

    def replay(**options: Any) -> int:
        with DeadLetters(project="team-models", quiet_seconds=0.3) as mine:
            return len(mine.replay(**options).settled)

    with pytest.raises(DiedError):
        await asyncio.to_thread(replay, on_published=die)
    assert await kept(letters) == ["r-1"]
    assert await asyncio.to_thread(replay) == 1

    first, again = await letters.requests(2)
    assert (first.data, dict(first.attributes)) == (again.data, dict(again.attributes))
    assert await kept(letters) == []


async def test_who_is_killed_while_restoring_restores_every_letter_and_tells_what_it_cannot_know(
    letters: Service, pubsub: PubSub, tmp_path: Path, run: Run
):
    names = sorted(f"r-{n:02}" for n in range(40))
    for name in names:
        await write(letters, name)
    backup = tmp_path / "letters.jsonl"
    await dead(run, "drop", "--backup", str(backup), "--yes")

    killed = await run(["dead-letters", "restore", str(backup), *HERE])
    async with asyncio.timeout(DEADLINE_SECONDS):
        while pubsub.counters()["topics"][LETTERS]["published"] < 50:  # noqa: ASYNC110  time moves it
            await asyncio.sleep(0.001)
    killed.process.kill()
    await killed.process.wait()
    code, _, errors = await dead(run, "restore", str(backup))

    there = await kept(letters)
    twice = {name for name in names if there.count(name) > 1}
    assert code == 0
    assert sorted(set(there)) == names
    assert len(there) <= 41
    assert twice <= {name for name in names if f"{name} may be there twice" in errors}


async def test_one_killed_between_publishing_and_noting_is_told_of(
    letters: Service, tmp_path: Path, run: Run
):
    await write(letters, "r-1")
    backup, progress = tmp_path / "letters.jsonl", tmp_path / "letters.jsonl.restored"
    await dead(run, "drop", "--backup", str(backup), "--yes")
    await dead(run, "restore", str(backup))
    # What was written before that moment: the last line not at all, or half of it.
    begun, _ = progress.read_bytes().splitlines()
    progress.write_bytes(begun + b'\n["resto')

    code, _, errors = await dead(run, "restore", str(backup))
    again = await dead(run, "restore", str(backup))

    assert code == 0
    assert "r-1 may be there twice: the previous run was killed while it was published" in errors
    assert "All dead letters of this backup were restored before" in again[2]
    assert await kept(letters) == ["r-1", "r-1"]


async def test_a_letter_of_bare_json_that_pubsub_wrote_keeps_its_name_when_it_is_restored(
    letters: Service, tmp_path: Path, run: Run
):
    """Known by its message id alone, its replays would be other requests under another id."""
    bare = types.PubsubMessage(
        data=b'{"source_model_id": "7"}', attributes={f"{FORWARDED_BY}DeliveryCount": "100"}
    )
    [name] = (await letters.publisher.publish(topic=LETTERS, messages=[bare])).message_ids
    backup = str(tmp_path / "letters.jsonl")
    await dead(run, "drop", "--backup", backup, "--yes")
    await dead(run, "restore", backup)

    await dead(run, "replay", "--yes")

    [request] = await letters.requests(1)
    assert request.attributes["ce-id"] == f"letter-{name}"
    assert request.data == bare.data


async def test_what_cannot_be_restored_is_named_and_the_rest_goes(
    letters: Service, tmp_path: Path, run: Run
):
    for name in ("r-1", "r-2", "r-3"):
        await write(letters, name)
    backup = tmp_path / "letters.jsonl"
    await dead(run, "drop", "--backup", str(backup), "--yes")
    lines = [json.loads(line) for line in backup.read_text().splitlines()]
    lines[1]["attributes"]["x"] = "y" * 2000  # more than Pub/Sub takes
    backup.write_text("".join(json.dumps(line) + "\n" for line in lines))

    code, _, errors = await dead(run, "restore", str(backup))

    assert code == 1
    assert "left       r-2: Pub/Sub: " in errors
    assert "restored 2 dead letters" in errors
    assert await kept(letters) == ["r-1", "r-3"]
