"""The worker as it runs in the cloud: a process behind a push subscription, seen from outside.

One worker serves all of these tests; each asks under an id of its own.
"""

import asyncio
import json

import httpx
import pytest
from google.pubsub_v1.types import PublishRequest, PubsubMessage

from asking import ask, copies_asked, publish
from local_cloud.topics import REQUESTS, topic_path
from world import REQUEST, SOURCE, TARGET

pytestmark = pytest.mark.asyncio(loop_scope="module")


def copying_to(model_id: str) -> dict[str, str]:
    return REQUEST | {"destination_model_id": model_id}


async def test_bare_json_is_copied_and_answered_under_its_message_id(stack, replies):
    message_id = await asyncio.to_thread(publish, stack, json.dumps(REQUEST).encode())

    reply = await replies.reply(message_id)
    assert reply["outcome"] == "succeeded"
    assert reply["resource_name"] == TARGET
    assert reply["source_model"] == f"{SOURCE}@1"
    assert reply["verified"] is True


async def test_a_request_published_three_times_makes_one_model_and_one_outcome(stack, replies):
    for _ in range(3):
        await ask(stack, "thrice", copying_to("thrice"))
    await replies.reply("thrice")
    await ask(stack, "thrice", copying_to("thrice"))

    await replies.until(lambda _message: len(replies.of("thrice")) > 1)
    await replies.drain()
    assert len({message.attributes["ce-id"] for message in replies.of("thrice")}) == 1
    assert len({message.data for message in replies.of("thrice")}) == 1
    assert len(stack.vertex.versions(TARGET.replace("target-model-260213", "thrice"))) == 1
    assert copies_asked(stack, "thrice") == 1


async def test_a_failed_copy_is_told_and_kept(stack, replies, letters):
    stack.vertex.faults.copy_fails(times=1)

    await ask(stack, "fails", copying_to("fails"))

    reply = await replies.reply("fails")
    letter = await letters.until(lambda letter: letter.attributes.get("ce-id") == "fails")
    assert reply["outcome"] == "failed"
    assert reply["error"]["code"] == "PERMISSION_DENIED"
    assert "roles/aiplatform.serviceAgent" in reply["error"]["hint"]
    assert json.loads(letter.data) == copying_to("fails")
    assert letter.attributes["outcome_id"] == reply["id"]
    assert letter.attributes["dead_letter_reason"]


BAD = {
    "not-json": (b"{source_model_id", "data: is not JSON"),
    "empty": (b"", "data: is empty"),
    "array": (b"[1]", "data: should be a JSON object, not an array"),
    "unknown-field": (REQUEST | {"colour": "red"}, "colour: unknown field"),
    "wrong-type": (REQUEST | {"source_model_id": 7}, "source_model_id: "),
    "bad-id": (
        REQUEST | {"destination_model_id": "Faker-251230"},
        "destination_model_id: 'Faker-251230' must match [a-z_][a-z0-9_-]{0,62} (upper",
    ),
    "two-destinations": (
        REQUEST | {"destination_parent_model": "other"},
        "destination_parent_model: give this",
    ),
    "project": (REQUEST | {"target_project": "somebody-elses"}, "target_project: 'somebody-elses'"),
}


async def test_what_breaks_the_contract_is_told_by_field_and_kept_as_it_came(
    stack, replies, letters
):
    asked_before = len(stack.vertex.copy_calls)
    for name, (data, _) in BAD.items():
        await ask(stack, name, data)

    for name, (data, reason) in BAD.items():
        reply = await replies.reply(name)
        assert reply["outcome"] == "rejected", name
        assert reply["error"]["message"].startswith(reason), name
        letter = await letters.until(
            lambda letter, name=name: letter.attributes.get("ce-id") == name
        )
        assert letter.data == (data if isinstance(data, bytes) else json.dumps(data).encode())
        assert letter.attributes["dead_letter_reason"].startswith(reason)
    assert len(stack.vertex.copy_calls) == asked_before


async def test_a_source_that_does_not_exist_fails_by_name(stack, replies, letters):
    await ask(stack, "nobody", REQUEST | {"source_model_id": "123"})

    reply = await replies.reply("nobody")
    assert reply["outcome"] == "failed"
    assert "models/123 does not exist" in reply["error"]["message"]
    await letters.until(lambda letter: letter.attributes.get("ce-id") == "nobody")


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
    await letters.until(
        lambda letter: letter.data == json.dumps(push, separators=(",", ":")).encode()
    )


async def test_a_body_that_is_no_push_is_left_with_pubsub(stack):
    """It has no identity: acknowledged, it would be a request that nobody is told of."""
    async with httpx.AsyncClient() as http:
        answer = await http.post(f"{stack.worker.url}/pubsub/requests", content=b"\xff\x00")

    assert answer.status_code == 400


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


async def test_the_largest_message_that_pubsub_takes_is_kept_whole(stack, replies, letters):
    """Of a publish request of 9,999,900 bytes attributes make room for the reason."""
    attributes = {f"own{number:03}": "value" for number in range(100)}
    message = PubsubMessage(attributes=attributes)
    frame = PublishRequest(topic=topic_path(REQUESTS), messages=[message])
    room = 9_999_900 - PublishRequest.pb(frame).ByteSize() - 16  # data's own length and tag
    data = b"\xff" * room

    message_id = await asyncio.to_thread(publish, stack, data, **attributes)

    letter = await letters.until(lambda each: len(each.data) == room)
    assert letter.data == data
    assert letter.attributes["dead_letter_reason"].startswith(f"data: has {room} bytes; at most")
    assert letter.attributes["dead_letter_reason"].endswith("of 100 attributes are left out)")
    assert letter.attributes["dead_letter_code"] == "INVALID_ARGUMENT"
    assert letter.attributes["outcome_id"]
    reply = await replies.reply(message_id)
    assert reply["error"]["message"].startswith(f"data: has {room} bytes; at most 65536")
