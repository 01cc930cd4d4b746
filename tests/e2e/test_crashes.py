"""The worker's process killed, told to go, or robbed of its store; each test harms its own."""

import asyncio
import base64
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import httpx
import pytest

import stores
from asking import ask, wait_for_copies
from e2e.conftest import quick_stack
from inbox import Inbox
from local_cloud.stack import Stack
from local_cloud.topics import DEAD_LETTERS, REPLIES, REQUESTS, topic_path
from show_dead_letters import dead_letters
from world import REQUEST, TARGET


async def test_killed_after_a_copy_was_taken_and_before_it_was_saved(own_stack, own_replies):
    own_stack.vertex.faults.hold()
    await ask(own_stack)
    async with asyncio.timeout(20):
        await own_stack.vertex.faults.until_held()

    await own_stack.worker.kill()
    own_stack.vertex.faults.release()
    await own_stack.worker.start(own_stack.env)

    reply = await own_replies.reply("request-1", seconds=40)
    assert reply["outcome"] == "succeeded"
    assert reply["version"] == "1"
    assert len(own_stack.vertex.copy_calls) == 1


async def test_killed_while_copying(own_stack, own_replies):
    await ask(own_stack)
    await wait_for_copies(own_stack, 1)

    await own_stack.worker.kill()
    await own_stack.worker.start(own_stack.env)

    reply = await own_replies.reply("request-1", seconds=40)
    assert reply["outcome"] == "succeeded"
    assert len(own_stack.vertex.copy_calls) == 1


async def test_sigterm_ends_follows_at_once_and_loses_nothing(tmp_path: Path):
    """A follow holds its push open for long; the process leaves in under 5 s all the same."""
    slow = Stack(
        folder=tmp_path,
        copy_seconds=4,
        tick_seconds=60,
        backoff_seconds=0.2,
        settings={"POLL_SECONDS": "5", "FOLLOW_SECONDS": "120", **stores.settings()},
    )
    async with slow as stack:
        inbox = await Inbox.open(stack.pubsub.address, topic_path(REPLIES), "replies")
        await ask(stack)
        await wait_for_copies(stack, 1)
        left_after = await stack.worker.stop()

        await stack.worker.start(stack.env)
        await stack.tick()

        assert left_after < 5
        reply = await inbox.reply("request-1", seconds=30)
        assert reply["outcome"] == "succeeded"
        assert len(stack.vertex.copy_calls) == 1
        await inbox.close()


async def test_a_store_that_is_down_sends_the_message_back(own_stack, own_replies, store_outage):
    await own_stack.worker.kill()
    store_outage.begin()
    await own_stack.worker.start(own_stack.env)
    data = base64.b64encode(json.dumps(REQUEST).encode()).decode()
    push = {"message": {"data": data, "messageId": "1"}}
    async with httpx.AsyncClient(timeout=30) as http:
        answer = await http.post(f"{own_stack.worker.url}/pubsub/requests", json=push)
    await ask(own_stack)

    store_outage.end()

    assert answer.status_code == 503
    assert (await own_replies.reply("request-1"))["outcome"] == "succeeded"


async def test_a_request_that_pubsub_gave_up_is_answered_and_replayed_by_command(
    own_stack, own_replies, store_outage, tmp_path: Path
):
    """Its letter is Pub/Sub's own: it names no outcome that it would be a replay of."""
    await own_stack.worker.kill()
    store_outage.begin()
    letters = await Inbox.open(own_stack.pubsub.address, topic_path(DEAD_LETTERS), "test-letters")
    requests = await Inbox.open(own_stack.pubsub.address, topic_path(REQUESTS), "test-requests")
    await own_stack.worker.start(own_stack.env)
    await ask(own_stack)
    letter = await letters.until(lambda _letter: True)
    store_outage.end()
    told = await own_replies.reply("request-1")

    replay = ["replay", "--forwarded", "--yes", "--wait"]
    code, output, errors = await dead_letters(own_stack, tmp_path, *replay)
    again = await requests.until(lambda message: "ce-replays" in message.attributes)
    await own_stack.topics.publisher.publish(topic=topic_path(REQUESTS), messages=[again])

    assert letter.attributes["CloudPubSubDeadLetterSourceDeliveryCount"] == "5"
    assert "outcome_id" not in letter.attributes
    assert told["outcome"] == "failed"
    assert "in 5 deliveries" in told["error"]["message"]
    assert (code, output.split()[:2]) == (0, ["succeeded", "request-1"]), errors
    # The replay that came once more was only told again.
    await own_replies.until(lambda _: len(own_replies.of("request-1")) == 3)
    outcomes = {each.attributes["ce-id"] for each in own_replies.of("request-1")}
    assert len(outcomes) == 2
    assert len(own_stack.vertex.copy_calls) == 1
    assert (await dead_letters(own_stack, tmp_path, "list"))[1] == ""
    await letters.close()
    await requests.close()


async def test_a_broker_that_goes_away_while_copying_is_told_when_it_is_back(own_stack):
    inbox = await Inbox.open(own_stack.pubsub.address, topic_path(REPLIES), "before")
    await inbox.close()
    await ask(own_stack)
    await wait_for_copies(own_stack, 1)
    host, port = own_stack.pubsub.address.split(":")
    await own_stack.pubsub.stop()
    async with asyncio.timeout(20):
        while not own_stack.vertex.versions(TARGET):  # noqa: ASYNC110  time moves it
            await asyncio.sleep(0.02)

    await own_stack.pubsub.start(host=host, port=int(port))

    inbox = await Inbox.open(own_stack.pubsub.address, topic_path(REPLIES), "after")
    reply = await inbox.reply("request-1", seconds=40)
    assert reply["outcome"] == "succeeded"
    assert len(own_stack.vertex.copy_calls) == 1
    await inbox.close()


async def test_stopped_processes_leave_one_whole_file(tmp_path: Path):
    """Of worker and api, the one that leaves last folds in what was committed."""
    async with quick_stack(tmp_path, with_api=True) as stack:
        inbox = await Inbox.open(stack.pubsub.address, topic_path(REPLIES), "replies")
        async with httpx.AsyncClient(timeout=30) as http:
            assert (await http.get(f"{stack.api.url}/ready")).status_code == 200
        await ask(stack)
        await inbox.reply("request-1")
        await inbox.close()

        await asyncio.gather(stack.worker.stop(), stack.api.stop())

        assert store_files(tmp_path) == ["jobs.db", "jobs.db-opened"]
        with closing(sqlite3.connect(tmp_path / "jobs.db")) as there:
            assert there.execute("SELECT state FROM jobs").fetchall() == [("SUCCEEDED",)]


def store_files(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.glob("jobs.db*"))


@pytest.mark.parametrize("lost", ["jobs.db", "jobs.db-wal"])
async def test_a_removed_store_acknowledges_nothing(own_stack, own_replies, lost):
    """Pub/Sub keeps what comes; after a restart it is told, once."""
    await ask(own_stack, "before")
    await own_replies.reply("before")
    (own_stack.folder / lost).unlink()
    async with httpx.AsyncClient(timeout=30) as http:
        data = base64.b64encode(json.dumps(REQUEST).encode()).decode()
        push = {"message": {"data": data, "messageId": "1"}}
        answer = await http.post(f"{own_stack.worker.url}/pubsub/requests", json=push)

    assert answer.status_code == 503
    assert f"{lost} was removed" in own_stack.worker.log.read_text()
