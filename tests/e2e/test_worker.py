"""The worker as it runs in the cloud: a process behind a push subscription, seen from outside."""

import asyncio
import json
import os
from pathlib import Path

import httpx
import pytest
from google.cloud import pubsub_v1

from inbox import Inbox
from local_cloud.stack import REQUESTS, Stack, topic_path
from world import REQUEST, SOURCE, TARGET


def publish(stack: Stack, data: bytes, **attributes: str) -> str:
    """Publish as any team would: Google's client, found by PUBSUB_EMULATOR_HOST alone."""
    os.environ["PUBSUB_EMULATOR_HOST"] = stack.pubsub.address
    try:
        client = pubsub_v1.PublisherClient()
        try:
            return str(client.publish(topic_path(REQUESTS), data, **attributes).result(10))
        finally:
            client.stop()
            client.transport.close()
    finally:
        del os.environ["PUBSUB_EMULATOR_HOST"]


async def ask(stack: Stack, request_id: str = "request-1", data: object = REQUEST) -> str:
    return await asyncio.to_thread(
        publish,
        stack,
        data if isinstance(data, bytes) else json.dumps(data).encode(),
        **{
            "ce-specversion": "1.0",
            "ce-id": request_id,
            "ce-source": "//ec2/test",
            "ce-type": "dev.modelcopier.copy.requested.v1",
            "content-type": "application/json",
        },
    )


async def wait_for_copies(stack: Stack, count: int) -> None:
    async with asyncio.timeout(20):
        while len(stack.vertex.copy_calls) < count:  # noqa: ASYNC110  a process moves it
            await asyncio.sleep(0.02)


async def test_bare_json_is_copied_and_answered_under_its_message_id(stack, replies):
    message_id = await asyncio.to_thread(publish, stack, json.dumps(REQUEST).encode())

    reply = await replies.reply(message_id)
    assert reply["outcome"] == "succeeded"
    assert reply["resource_name"] == TARGET
    assert reply["source_model"] == f"{SOURCE}@1"
    assert reply["verified"] is True


async def test_a_request_published_three_times_makes_one_model_and_one_outcome(stack, replies):
    for _ in range(3):
        await ask(stack)
    await replies.reply("request-1")
    await ask(stack)
    await replies.until(lambda _message: len(replies.messages) > 1)

    told = await replies.drain()
    assert len({message.attributes["ce-id"] for message in told}) == 1
    assert len({message.data for message in told}) == 1
    assert len(stack.vertex.copy_calls) == 1


async def test_a_failed_copy_is_told_and_kept(stack, replies, letters):
    stack.vertex.faults.copy_fails()

    await ask(stack)

    reply = await replies.reply("request-1")
    letter = await letters.until(lambda _message: True)
    assert reply["outcome"] == "failed"
    assert reply["error"]["code"] == "PERMISSION_DENIED"
    assert "roles/aiplatform.serviceAgent" in reply["error"]["hint"]
    assert json.loads(letter.data) == REQUEST
    assert letter.attributes["outcome_id"] == reply["id"]
    assert letter.attributes["dead_letter_reason"]
    assert letter.attributes["ce-id"] == "request-1"


BAD = {
    "not-json": (b"{source_model_id", "data: is not JSON"),
    "empty": (b"", "data: is empty"),
    "array": (b"[1]", "data: should be a JSON object, not an array"),
    "unknown-field": (REQUEST | {"colour": "red"}, "colour: unknown field"),
    "wrong-type": (REQUEST | {"source_model_id": 7}, "source_model_id: "),
    "bad-id": (
        REQUEST | {"destination_model_id": "Faker-251230"},
        "destination_model_id: 'Faker-251230' has an upper-case letter",
    ),
    "two-destinations": (
        REQUEST | {"destination_parent_model": "other"},
        "destination_model_id and destination_parent_model",
    ),
    "project": (REQUEST | {"target_project": "somebody-elses"}, "target_project: 'somebody-elses'"),
}


async def test_what_breaks_the_contract_is_told_by_field_and_kept_as_it_came(
    stack, replies, letters
):
    for name, (data, _) in BAD.items():
        await ask(stack, name, data)

    for name, (data, reason) in BAD.items():
        reply = await replies.reply(name)
        assert reply["outcome"] == "rejected", name
        assert reply["error"]["message"].startswith(reason), name
        letter = await letters.until(lambda letter, name=name: letter.attributes["ce-id"] == name)
        assert letter.data == (data if isinstance(data, bytes) else json.dumps(data).encode())
        assert letter.attributes["dead_letter_reason"].startswith(reason)
    assert not stack.vertex.copy_calls


async def test_a_source_that_does_not_exist_fails_by_name(stack, replies, letters):
    await ask(stack, "nobody", REQUEST | {"source_model_id": "123"})

    reply = await replies.reply("nobody")
    assert reply["outcome"] == "failed"
    assert "models/123 does not exist" in reply["error"]["message"]
    await letters.until(lambda letter: letter.attributes["ce-id"] == "nobody")


async def test_an_unknown_type_is_rejected_by_name(stack, replies):
    await asyncio.to_thread(
        publish,
        stack,
        json.dumps(REQUEST).encode(),
        **{"ce-specversion": "1.0", "ce-id": "t", "ce-source": "//x", "ce-type": "com.other"},
    )

    reply = await replies.reply("t")
    assert reply["error"]["message"].startswith("ce-type: 'com.other' is not known")


async def test_a_push_that_is_not_base64_is_acknowledged_and_kept_whole(stack, replies, letters):
    push = {"message": {"data": "***", "messageId": "77"}, "subscription": "s"}

    async with httpx.AsyncClient() as http:
        answer = await http.post(f"{stack.worker.url}/pubsub/requests", json=push)

    assert answer.status_code == 204
    reply = await replies.reply("77")
    assert reply["error"]["message"] == "push: has `data` that is not base64"
    letter = await letters.until(lambda _message: True)
    assert json.loads(letter.data) == push


async def test_a_body_that_is_no_push_at_all_is_acknowledged_and_kept(stack, letters):
    async with httpx.AsyncClient() as http:
        answer = await http.post(f"{stack.worker.url}/pubsub/requests", content=b"\xff\x00")

    assert answer.status_code == 204
    letter = await letters.until(lambda _message: True)
    assert letter.data == b"\xff\x00"


async def test_eventarcs_form_is_read_too(stack, replies):
    """Eventarc posts the same envelope to /, with CloudEvents headers around it."""
    push = {
        "message": {
            "data": "eyJzb3VyY2VfbW9kZWxfaWQiOiAiNzcwNDEyNzM0MjczMzQyNjY4OCJ9",
            "messageId": "eventarc-1",
        },
        "subscription": "projects/p/subscriptions/eventarc",
    }
    headers = {
        "ce-id": "1",
        "ce-specversion": "1.0",
        "ce-type": "google.cloud.pubsub.topic.v1.messagePublished",
        "ce-source": "//pubsub.googleapis.com/projects/p/topics/t",
    }

    async with httpx.AsyncClient() as http:
        answer = await http.post(f"{stack.worker.url}/", json=push, headers=headers)

    assert answer.status_code == 204
    reply = await replies.reply("eventarc-1")
    assert reply["resource_name"].endswith("/m-7704127342733426688-v1")


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/", 405), ("POST", "/x", 404)])
async def test_other_paths_and_methods_are_the_applications_own_answers(
    stack, method, path, status
):
    async with httpx.AsyncClient() as http:
        answer = await http.request(method, stack.worker.url + path)

    assert answer.status_code == status


async def test_killed_after_copymodel_was_taken_and_before_its_answer_was_saved(stack, replies):
    stack.vertex.faults.hold()
    await ask(stack)
    async with asyncio.timeout(20):
        await stack.vertex.faults.until_held()

    await stack.worker.kill()
    stack.vertex.faults.release()
    await stack.worker.start(stack.env)

    reply = await replies.reply("request-1", seconds=40)
    assert reply["outcome"] == "succeeded"
    assert reply["version"] == "1"
    assert len(stack.vertex.copy_calls) == 1


async def test_killed_while_copying(stack, replies):
    await ask(stack)
    await wait_for_copies(stack, 1)

    await stack.worker.kill()
    await stack.worker.start(stack.env)

    reply = await replies.reply("request-1", seconds=40)
    assert reply["outcome"] == "succeeded"
    assert len(stack.vertex.copy_calls) == 1


async def test_sigterm_ends_follows_at_once_and_loses_nothing(tmp_path: Path):
    """A follow holds its push open for long; the process leaves in under 5 s all the same."""
    slow = Stack(
        folder=tmp_path,
        copy_seconds=4,
        tick_seconds=60,
        backoff_seconds=0.2,
        settings={"POLL_SECONDS": "5", "FOLLOW_SECONDS": "120"},
    )
    async with slow as stack:
        inbox = await Inbox.open(stack.pubsub.address, topic_path("model-copy-replies"), "replies")
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


async def test_a_store_that_is_down_sends_the_message_back_and_loses_nothing(stack, replies):
    await stack.worker.kill()
    store = stack.folder / "jobs.db"
    for file in stack.folder.glob("jobs.db*"):
        file.unlink()
    store.write_bytes(b"this is no database, but long enough to be taken for one")
    await stack.worker.start(stack.env)
    push = {"message": {"data": "e30=", "messageId": "1"}}
    async with httpx.AsyncClient() as http:
        answer = await http.post(f"{stack.worker.url}/pubsub/requests", json=push)
    await ask(stack)

    store.unlink()

    assert answer.status_code == 503
    assert (await replies.reply("request-1"))["outcome"] == "succeeded"
