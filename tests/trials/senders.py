"""Reports about those who publish: spellings, envelopes, letters, subscriptions."""

import asyncio
import json
import os
import uuid
from typing import Any

from google.cloud import pubsub_v1

from asking import copies_asked
from local_cloud.stack import SOURCE_MODEL
from local_cloud.topics import REQUESTS, subscription_path, topic_path
from local_cloud.vertex import Code
from trials.ground import SOURCE, Ground, event, says, trial


@trial(
    4,
    "hashicorp/terraform-provider-google#15555",
    "an unwrapped push keeps identity and reply_tag, or stays with Pub/Sub",
    alone=True,
)
async def unwrapped(on: Ground) -> None:
    push = {"push_endpoint": f"{on.stack.worker.url}/pubsub/requests"}
    data = {"source_model_id": SOURCE_MODEL, "validate_only": True}
    try:
        await on.change_requests(push_config={**push, "no_wrapper": {"write_metadata": True}})
        await on.publish(data, **event("unwrapped"), reply_tag="night")
        assert (await on.reply("unwrapped"))["outcome"] == "validated"
        assert on.replies.of("unwrapped")[0].attributes["reply_tag"] == "night"
        await on.change_requests(push_config={**push, "no_wrapper": {}})
        await on.publish(data, **event("no-metadata"))
        await on.logged('"message": "unwrapped"')
    finally:
        await on.change_requests(push_config=push)
    # Kept by Pub/Sub, it is carried out once the subscription is mended.
    assert (await on.reply("no-metadata"))["outcome"] == "validated"


@trial(
    5,
    "googleapis/google-cloud-ruby#21640",
    "doctor calls a filter, short retention and deadline, and unwrapped pushes wrong",
)
async def doctor_sees(on: Ground) -> None:
    assert on.stack.topics is not None
    name = subscription_path("badly-set-up")
    await on.stack.topics.subscriber.create_subscription(
        request={
            "name": name,
            "topic": topic_path(REQUESTS),
            "filter": 'attributes.env="prod"',
            "message_retention_duration": {"seconds": 600},
            "push_config": {
                "push_endpoint": "http://127.0.0.1:9/pubsub/requests",
                "no_wrapper": {},
            },
        }
    )

    told = await on.cli("doctor", "--no-ask", "--request-subscription", name)

    assert told.code == 1, told.all
    for each in (
        "accepts only messages with",
        "keeps messages for 10 minutes",
        "after 10 s",
        "pushes unwrapped",
    ):
        says(told.out, each)
    says(told.out, "--message-retention-duration=31d", "--clear-push-no-wrapper-config")


@trial(
    6,
    "https://github.com/cloudevents/spec/blob/main/cloudevents/bindings/http-protocol-binding.md",
    "eight spellings of one event are one request, or are refused",
)
async def spellings(on: Ground) -> None:
    data = {"source_model_id": SOURCE_MODEL, "destination_model_id": "spelled"}
    lower = event("spelled")
    title = {name.title(): value for name, value in lower.items()}
    whole = {k.removeprefix("ce-"): v for k, v in lower.items()} | {"data": data}
    for body, attributes in (
        (data, lower),
        (data, title),
        (data, {k.upper(): v for k, v in lower.items()}),
        (data, {**lower, "Content-Type": "application/json"}),
        (whole, {"content-type": "application/cloudevents+json"}),
        (whole, {"Content-Type": "application/cloudevents+json; charset=utf-8"}),
        (whole, {}),
    ):
        await on.publish(body, **attributes)
    assert (await on.reply("spelled"))["outcome"] == "succeeded"
    assert copies_asked(on.stack, "spelled") == 1

    nameless = await on.publish(data, **{k.replace("-", "_"): v for k, v in lower.items()})
    assert (await on.reply(nameless))["outcome"] == "rejected"


@trial(14, "gcpug/nouhau#131", "a letter put back by a general tool is replayed", alone=True)
async def letter_put_back(on: Ground) -> None:
    on.stack.vertex.faults.copy_fails(Code.PERMISSION_DENIED, times=1)
    await on.publish({"source_model_id": SOURCE_MODEL, "destination_model_id": "put-back"},
                     **event("put-back"))  # fmt: skip
    assert (await on.reply("put-back"))["outcome"] == "failed"
    letter = await on.letter(lambda each: each.attributes.get("ce-id") == "put-back")

    await on.publish(letter.data, **letter.attributes)

    assert (await on.reply("put-back", count=2))["outcome"] == "succeeded"


@trial(26, "redpanda-data/console#852", "both fields are named; the letter is kept")
async def avro_unions(on: Ground) -> None:
    data = {
        "source_model_id": {"string": SOURCE_MODEL},
        "destination_model_id": {"string": "avro"},
    }
    told = await on.ask(data, googclient_schemaencoding="JSON", request_id="avro-json")

    assert told["outcome"] == "rejected", told
    says(told["error"], "source_model_id: should be a string", "destination_model_id: should be")
    letter = await on.letter(lambda each: each.attributes.get("ce-id") == "avro-json")
    assert not [name for name in letter.attributes if name.startswith("goog")]


@trial(27, "GoogleCloudPlatform/php-docs-samples#1812", "an Avro record is refused and kept")
async def avro_binary(on: Ground) -> None:
    data = b"\x02&7704127342733426688\x00\xff\xfe"
    told = await on.ask(data, request_id="avro-binary")

    assert told["outcome"] == "rejected", told
    letter = await on.letter(lambda each: each.attributes.get("ce-id") == "avro-binary")
    assert letter.data == data


@trial(28, "options of Google's Pub/Sub client", "tracing, an ordering key and 9.9 MB are borne")
async def clients_options(on: Ground) -> None:
    trace = {"googclient_traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
    assert (await on.ask({"validate_only": True}, **trace))["outcome"] == "validated"

    told = await on.ask(b"[" + b" " * 9_900_000 + b"]", request_id="large")
    assert told["outcome"] == "rejected", told
    says(told["error"], "at most 65536 are allowed")
    await on.letter(lambda each: each.attributes.get("ce-id") == "large")

    def ordered() -> None:
        options = pubsub_v1.types.PublisherOptions(enable_message_ordering=True)
        os.environ["PUBSUB_EMULATOR_HOST"] = on.stack.pubsub.address
        try:
            client = pubsub_v1.PublisherClient(publisher_options=options)
            body = json.dumps({"source_model_id": SOURCE_MODEL, "validate_only": True}).encode()
            attributes: dict[str, Any] = {**event("ordered")}
            client.publish(topic_path(REQUESTS), body, ordering_key="models", **attributes).result(
                10
            )
            client.stop()
            client.transport.close()
        finally:
            del os.environ["PUBSUB_EMULATOR_HOST"]

    await asyncio.to_thread(ordered)
    assert (await on.reply("ordered"))["outcome"] == "validated"


@trial(34, "octue/octue-sdk-python#223", "a message is acknowledged long before its copy ends")
async def acknowledged_soon(on: Ground) -> None:
    await on.ask({"destination_model_id": "soon"}, request_id="soon")

    lines = [json.loads(each) for each in on.stack.worker.log.read_text().splitlines()
             if each.startswith("{")]  # fmt: skip
    [told] = [each for each in lines if each.get("request_id") == "soon"
              and each["message"] == "delivery"]  # fmt: skip
    assert told["seconds"] < 10, told
    assert copies_asked(on.stack, "soon") == 1


@trial(39, "https://cloud.google.com/eventarc/docs/cloudevents", "Eventarc's form is read")
async def eventarc(on: Ground) -> None:
    message = {"data": "eyJzb3VyY2VfbW9kZWxfaWQiOiAiNzcwNDEyNzM0MjczMzQyNjY4OCJ9"}
    name = f"eventarc-{uuid.uuid4().hex}"
    answer = await on.http.post(
        f"{on.stack.worker.url}/",
        json={"message": {**message, "messageId": name}, "subscription": "projects/p/s"},
        headers={
            "ce-id": "outer",
            "ce-source": "//pubsub.googleapis.com/projects/p/topics/t",
            "ce-specversion": "1.0",
            "ce-type": "google.cloud.pubsub.topic.v1.messagePublished",
        },
    )

    assert answer.status_code == 204, answer.text
    assert (await on.reply(name))["outcome"] == "succeeded"


@trial(40, "a functions-framework event of the first generation", "it is left with its sender")
async def first_generation(on: Ground) -> None:
    body = {"context": {"eventId": "1"}, "data": {"data": "e30="}}
    answer = await on.http.post(f"{on.stack.worker.url}/pubsub/requests", json=body)

    assert answer.status_code == 400, answer.status_code
    says(answer.text, "no envelope of Pub/Sub")


@trial(41, "a hand-made push with base64url", "it is kept whole, and told what is wrong")
async def base64url(on: Ground) -> None:
    name = uuid.uuid4().hex
    answer = await on.push("_-8=", messageId=name)

    assert answer.status_code == 204
    says((await on.reply(name))["error"], "has `data` that is not base64")


@trial(42, "run-llama/llama_index#16511", "a name of the wrong kind is refused with the right form")
async def names_of_models(on: Ground) -> None:
    for wrong in (
        f"models/{SOURCE_MODEL}",
        "publishers/google/models/gemini-2.5-flash",
        "projects/p/locations/us-central1/endpoints/1",
        "projects/p/locations/us-central1/tuningJobs/1",
        f"https://us-central1-aiplatform.googleapis.com/v1/{SOURCE}",
        f"//aiplatform.googleapis.com/{SOURCE}",
        f"/{SOURCE}",
        "My tuned model",
        f"{SOURCE_MODEL}\n",
        f"{SOURCE_MODEL}@",
    ):
        told = await on.ask({"source_model_id": wrong, "validate_only": True})
        assert told["outcome"] == "rejected", (wrong, told)
        says(told["error"], "source_model_id: ")


@trial(43, "habits of requests and JavaScript", "JSON that is none is told by its place")
async def broken_json(on: Ground) -> None:
    good = json.dumps({"source_model_id": SOURCE_MODEL})
    for wrong in (
        json.dumps(good),
        repr({"source_model_id": SOURCE_MODEL}),
        f"{good}\0",
        good + good,
        f'{{"source_model_id": "{SOURCE_MODEL}",}}',
    ):
        told = await on.ask(wrong.encode())
        assert told["outcome"] == "rejected", (wrong, told)
        says(told["error"], "data: ")


@trial(44, "ids of GitHub, AWS and Airflow", "an id that cannot be one is refused under that id")
async def odd_ids(on: Ground) -> None:
    for wrong in ("refs/heads/main", "arn:aws:iam::1:role/x", "scheduled__2026-02-13T00:00+00:00"):
        told = await on.ask({}, request_id=wrong)
        assert told["outcome"] == "rejected", told
        says(told["error"], f"ce-id: '{wrong}'")
