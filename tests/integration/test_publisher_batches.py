"""``model-copy publish`` of files and to several destinations; the test plays the service."""

import asyncio
import json
import os
import re
import resource
import signal
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from command_line import DEADLINE_SECONDS, SUCCESS, Run, Service
from local_cloud.pubsub import PubSub
from model_copy_publisher import CopyRequest, Outcome, Pace, Publisher

HERE = ["--project", "team-models"]
HEADER = "source_model_id,destination_model_id\n"
CSV = HEADER + "".join(f"7,m-{n}\n" for n in range(30))


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    file = tmp_path / "nightly.csv"
    file.write_text(CSV)
    return file


def lines(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


async def test_a_file_is_published_and_what_becomes_of_it_summed_up(
    service: Service, run: Run, rows: Path
):
    command = await run(["publish", "--from-file", str(rows), "--wait", *HERE])
    for request in await service.requests(30):
        await service.announce(request)

    code, output = await command.ends()

    *outcomes, summary = output.splitlines()
    assert code == 0
    assert len(outcomes) == 30
    assert all(line.startswith("succeeded  nightly-") for line in outcomes)
    assert summary.startswith("30 requests: 30 succeeded; ")
    assert await service.listeners() == []


async def test_standard_input_may_be_json_lines_and_the_batch_has_a_name(
    service: Service, run: Run
):
    command = await run(["publish", "--from-file", "-", "--batch", "run-7", *HERE])
    code, output = await command.ends('{"source_model_id": "7"}\n{"source_model_id": "8"}\n')

    requests = await service.requests(2)
    assert code == 0
    assert [json.loads(each.data)["source_model_id"] for each in requests] == ["7", "8"]
    assert all(each.attributes["ce-id"].startswith("run-7-") for each in requests)
    assert "2 requests: 2 published" in output


async def test_the_same_file_again_is_the_same_requests(service: Service, run: Run, rows: Path):
    publish = ["publish", "--from-file", str(rows), *HERE]
    assert (await (await run(publish)).ends())[0] == 0
    first = await service.requests(30)
    assert (await (await run(publish)).ends())[0] == 0
    second = await service.requests(30)

    assert {each.attributes["ce-id"]: each.data for each in first} == {
        each.attributes["ce-id"]: each.data for each in second
    }


async def test_resume_skips_what_was_confirmed(service: Service, run: Run, rows: Path):
    await (await run(["publish", "--from-file", str(rows), *HERE])).ends()
    await service.requests(30)

    command = await run(["publish", "--from-file", "-", "--batch", "nightly", "--resume", *HERE])
    _, output = await command.ends(CSV + "7,one-more\n")

    [request] = await service.requests(1)
    assert json.loads(request.data)["destination_model_id"] == "one-more"
    assert "31 requests: 30 confirmed before, 1 published" in output


async def test_a_killed_wait_is_taken_up_where_it_was(service: Service, run: Run, rows: Path):
    """Outcomes that were told meanwhile are not lost, none is asked for or told twice."""
    publish = ["publish", "--from-file", str(rows), "--wait", "--resume", "--output", "json", *HERE]
    command = await run(publish)
    requests = await service.requests(30)
    for request in requests[:10]:
        await service.announce(request)
    assert command.process.stdout is not None
    for _ in range(10):
        assert b'"reply"' in await command.process.stdout.readline()
    command.process.kill()
    await command.process.wait()
    for request in requests[10:20]:
        await service.announce(request)

    command = await run(publish)
    for request in requests[20:]:
        await service.announce(request)
    code, output = await command.ends()

    told = [each["request_id"] for each in lines(output) if each["reply"]["outcome"]]
    assert code == 0
    assert sorted(told) == sorted(request.attributes["ce-id"] for request in requests)
    assert await service.listeners() == []


async def test_ctrl_c_keeps_the_subscription_of_a_batch_and_says_how_to_go_on(
    service: Service, run: Run, rows: Path
):
    command = await run(["publish", "--from-file", str(rows), "--wait", *HERE])
    requests = await service.requests(30)
    await command.shows("of 30 ended")
    command.process.terminate()
    code, output = await command.ends()
    assert code == 130
    assert "30 requests: 30 without reply" in output
    assert len(await service.listeners()) == 1
    for request in requests:
        await service.announce(request)

    assert "--resume" in command.again
    again = await run(command.again)
    code, output = await again.ends()

    assert code == 0
    assert "30 requests: 30 succeeded" in output


async def test_a_bad_row_is_told_by_line_and_column_and_nothing_is_sent(
    service: Service, run: Run, tmp_path: Path
):
    file = tmp_path / "bad.csv"
    file.write_text(HEADER + "7,good\n7,Bad\n")

    refused = await run(["publish", "--from-file", str(file), *HERE])
    assert await refused.ends() == (2, "")
    kept_going = await run(["publish", "--from-file", str(file), "--keep-going", *HERE])
    code, output = await kept_going.ends()

    complaint = f"{file}:3:2: destination_model_id: 'Bad' must match [a-z_]"
    assert complaint in refused.errors
    assert "Nothing was sent. Correct the rows, or publish the others with --keep-going." in (
        refused.errors
    )
    assert complaint in kept_going.errors
    assert code == 1
    assert "2 requests: 1 published, 1 invalid" in output
    [request] = await service.requests(1)
    assert json.loads(request.data)["destination_model_id"] == "good"


async def test_one_model_goes_to_several_destinations(service: Service, run: Run):
    command = await run(
        [
            *["publish", "7", "--request-id", "r-1", "--wait", *HERE],
            *["--to", "prod-eu/europe-west4/faker", "--to", "prod-us/us-east4/faker"],
        ]
    )
    requests = await service.requests(2)
    for request in requests:
        failure = {"outcome": "failed", "error": {"code": "NOT_FOUND", "message": "No model 7."}}
        in_eu = json.loads(request.data)["target_project"] == "prod-eu"
        await service.announce(request, SUCCESS if in_eu else failure)
    code, output = await command.ends()

    assert code == 1
    assert {json.loads(each.data)["target_location"] for each in requests} == {
        "europe-west4",
        "us-east4",
    }
    assert all(each.attributes["ce-id"].startswith("r-1-") for each in requests)
    assert "2 requests: 1 succeeded, 1 failed" in output


async def test_what_is_not_told_in_time_is_exit_code_3_and_accounted_for(
    service: Service, run: Run, rows: Path
):
    command = await run(
        ["publish", "--from-file", str(rows), "--wait", "--timeout", "3", "--output", "json", *HERE]
    )
    requests = await service.requests(30)
    await service.announce(requests[0])
    code, output = await command.ends()

    assert code == 3
    assert [each["reply"] is None for each in lines(output)] == [False] + [True] * 29
    assert "30 requests: 29 without reply, 1 succeeded" in command.errors
    assert "No reply to 29 requests (nightly-" in command.errors


async def test_ten_thousand_requests_are_published_within_seconds(
    service: Service, run: Run, tmp_path: Path
):
    file = tmp_path / "many.jsonl"
    file.write_text("".join(f'{{"source_model_id": "7@{n}"}}\n' for n in range(10_000)))

    command = await run(["publish", "--from-file", str(file), *HERE])
    code, output = await command.ends()

    requests = await service.requests(10_000)
    assert code == 0
    assert len({each.attributes["ce-id"] for each in requests}) == 10_000
    seconds = float(output.rpartition("; ")[2].removesuffix(" s\n"))
    assert seconds < DEADLINE_SECONDS / 2


@pytest.mark.usefixtures("service")
async def test_a_full_disk_loses_no_account_of_what_was_published(run: Run):
    publish = ["publish", "--from-file", "-", "--batch", "nightly", *HERE]
    rows = HEADER + "".join(f"7,m-{n}\n" for n in range(1000))

    command = await run(publish)
    resource.prlimit(command.process.pid, resource.RLIMIT_FSIZE, (20_000, 20_000))
    code, _ = await command.ends(rows)
    again = await run(command.again)
    _, output = await again.ends(rows)

    assert code == 4
    assert "nightly.jsonl cannot be written: File too large." in command.errors
    assert re.search("Known to be published: [1-9][0-9,]* of 1,000. When the disk", command.errors)
    confirmed = re.search("1,000 requests: ([0-9]+) published, ([0-9]+) confirmed before", output)
    assert confirmed
    assert int(confirmed[2]) > 0


@pytest.mark.usefixtures("service")
async def test_results_that_cannot_be_written_are_not_taken_for_a_bug(run: Run):
    full = os.open("/dev/full", os.O_WRONLY)

    command = await run(["publish", "7", "--request-id", "r-1", *HERE], stdout=full)
    os.close(full)
    await command.shows("--request-id r-1")
    code = await command.process.wait()

    assert code == 4
    assert "Standard output cannot be written: No space left on device." in command.errors
    assert "Known to be published: 1 of 1. When the disk has space" in command.errors


async def test_the_file_of_the_rows_is_no_journal(run: Run, rows: Path):
    publish = ["publish", "--from-file", str(rows), "--journal", str(rows), *HERE]

    command = await run(publish, PUBSUB_EMULATOR_HOST="127.0.0.1:1")

    assert await command.ends() == (2, "")
    assert "journal: " in command.errors
    assert "is the file of the rows; name another" in command.errors
    assert await asyncio.to_thread(rows.read_text) == CSV


async def test_a_validation_leaves_the_journal_of_the_batch_as_it_is(
    service: Service, run: Run, rows: Path
):
    publish = ["publish", "--from-file", str(rows), *HERE]
    await (await run(publish)).ends()
    await (await run([*publish, "--validate-only"])).ends()
    await service.requests(60)

    _, output = await (await run([*publish, "--resume"])).ends()

    assert "30 requests: 30 confirmed before" in output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--from-file", "nowhere.csv"], "from_file: nowhere.csv: No such file"),
        (["--from-file", "-", "--batch", "a b"], "batch: 'a b' is not 1 to 100 characters"),
        (["--from-file", "-", "7"], "source_model_id: is a column of the file; omit it"),
        (["--from-file", "-"], "from_file: - has no rows"),
        (["7", "--resume"], "resume: requires --from-file"),
        ([], "source_model_id: is missing: give SOURCE, or --from-file"),
        (["7", "faker", "--to", "p/l/m"], "destination_model_id: --to names the destinations"),
        (["7", "--to", "p"], "to: 'p' is not project/location[/model]"),
        (
            ["7", "--to", "p/l", "--target-project", "q"],
            "target_project: --to names the destinations",
        ),
        (["7", "--timeout", "nan"], "'--timeout'"),
    ],
)
async def test_wrong_usage_is_told_before_anything_is_connected(
    run: Run, arguments: list[str], sentence: str
):
    command = await run(["publish", *arguments, *HERE], PUBSUB_EMULATOR_HOST="127.0.0.1:1")

    assert await command.ends() == (2, "")
    assert sentence in command.errors


async def test_each_change_of_a_copy_of_many_is_a_plain_line(
    service: Service, run: Run, rows: Path
):
    command = await run(["publish", "--from-file", str(rows), "--wait", *HERE])
    requests = await service.requests(30)
    for request in requests:
        await service.announce(request, {"outcome": "status", "state": "COPYING"})
    await command.shows("copying    7 -> m-29")
    for request in requests:
        await service.announce(request)
    assert (await command.ends())[0] == 0

    copying = [line for line in command.errors.splitlines() if line.startswith("copying ")]
    assert len(copying) == 30
    assert all(re.fullmatch(r"copying    7 -> m-\d+ +\d+ s", line) for line in copying)


async def test_all_of_many_are_asked_about_and_never_faster_than_the_pace(
    pubsub: PubSub, service: Service, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", pubsub.address)
    pace = Pace(first_seconds=0.1, again_seconds=60, per_second=20)
    wanted = [CopyRequest(source_model_id="7", request_id=f"r-{n}") for n in range(30)]

    def copy() -> list[Outcome]:
        with Publisher(project="team-models", pace=pace) as publisher:
            replies = publisher.copy_all(wanted, timeout_seconds=DEADLINE_SECONDS)
            return [each.outcome for each in replies]

    copying = asyncio.create_task(asyncio.to_thread(copy))
    taken = await service.requests(60)
    questions = [each for each in taken if each.attributes["ce-id"].startswith("ask-")]
    requests = [each for each in taken if each not in questions]
    for request in requests:
        await service.announce(request)

    assert await copying == [Outcome.SUCCEEDED] * 30
    assert {json.loads(each.data)["request_id"] for each in questions} == {
        each.request_id for each in wanted
    }
    asked_at = sorted(datetime.fromisoformat(each.attributes["ce-time"]) for each in questions)
    assert asked_at[20] - asked_at[19] > timedelta(seconds=0.9)


async def test_what_has_ended_unheard_is_asked_for_again(
    pubsub: PubSub, service: Service, monkeypatch: pytest.MonkeyPatch
):
    """Its outcome may be with a process that was killed: its state is no outcome yet."""
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", pubsub.address)
    pace = Pace(first_seconds=0.2, again_seconds=0.5)

    def copy() -> Outcome:
        with Publisher(project="team-models", pace=pace) as publisher:
            request = CopyRequest(source_model_id="7", request_id="r-1")
            return publisher.copy(request, timeout_seconds=DEADLINE_SECONDS).outcome

    copying = asyncio.create_task(asyncio.to_thread(copy))
    request = await service.request()
    question = await service.request()
    assert question.attributes["ce-type"] == "dev.modelcopier.copy.status.requested.v1"
    await service.announce(request, {"outcome": "status", "state": "SUCCEEDED"})
    again = await service.request()
    while again.attributes["ce-id"] != "r-1":  # questions that were asked meanwhile
        again = await service.request()
    assert again.data == request.data
    await service.announce(again)

    assert await copying is Outcome.SUCCEEDED


async def test_a_large_batch_that_is_interrupted_goes_on_where_it_was(
    service: Service, run: Run, tmp_path: Path
):
    file = tmp_path / "large.jsonl"
    file.write_text("".join(f'{{"source_model_id": "7@{n}"}}\n' for n in range(20_000)))
    journal = tmp_path / "journal.jsonl"
    command = await run(["publish", "--from-file", str(file), "--journal", str(journal), *HERE])
    first = await service.request()
    command.process.send_signal(signal.SIGINT)
    code, _ = await command.ends()
    assert code == 130
    assert "of 20,000 requests are not known to be published. To resume:" in command.errors

    again = await run(command.again)
    code, output = await again.ends()

    assert code == 0
    assert "20,000 requests: " in output
    ids = {first.attributes["ce-id"]}
    while len(ids) < 20_000:  # what was under way at the interrupt may have come twice
        ids |= {each.attributes["ce-id"] for each in await service.requests(1)}


async def test_a_wait_whose_subscription_has_expired_asks_again(
    service: Service, run: Run, rows: Path
):
    publish = ["publish", "--from-file", str(rows), "--wait", "--resume", *HERE]
    command = await run(publish)
    first = await service.requests(30)
    await command.shows("of 30 ended")
    command.process.kill()
    await command.process.wait()
    [listener] = await service.listeners()
    await service.subscriber.delete_subscription(subscription=listener.name)

    command = await run(publish)
    again = await service.requests(30)
    assert {each.attributes["ce-id"] for each in again} == {
        each.attributes["ce-id"] for each in first
    }
    for request in again:
        await service.announce(request)
    code, output = await command.ends()

    assert code == 0
    assert "30 requests: 30 succeeded" in output
    assert await service.listeners() == []
