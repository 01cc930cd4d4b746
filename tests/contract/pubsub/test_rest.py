"""The REST face of the local Pub/Sub: the real gcloud, Google's generated client, plain HTTP.

What the calls mean is promised in ``test_pubsub``; here is only what differs by the face.
"""

import asyncio
import json
import os
import shutil
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import httpx
import pytest
from google.auth.credentials import AnonymousCredentials
from google.pubsub_v1 import PublisherAsyncClient, PublisherClient, SubscriberClient, types
from google.pubsub_v1.services.publisher.transports import (
    PublisherGrpcAsyncIOTransport,
    PublisherRestTransport,
)
from google.pubsub_v1.services.subscriber.transports import SubscriberRestTransport

from local_cloud.pubsub import PubSub

PROJECT = "projects/contract"
TOPIC = f"{PROJECT}/topics/requests"
LETTERS = f"{PROJECT}/topics/letters"
SUBSCRIPTION = f"{PROJECT}/subscriptions/worker"
PATIENCE_SECONDS = 10

needs_gcloud = pytest.mark.skipif(
    not shutil.which("gcloud"), reason="gcloud is not installed on this machine"
)


@pytest.fixture
async def pubsub() -> AsyncIterator[PubSub]:
    async with PubSub() as server:
        yield server


@pytest.fixture
async def http(pubsub: PubSub) -> AsyncIterator[httpx.AsyncClient]:
    """A client with a topic there already."""
    async with httpx.AsyncClient(
        base_url=f"{pubsub.rest_url}/v1", timeout=PATIENCE_SECONDS, trust_env=False
    ) as client:
        await ask(client, "PUT", TOPIC)
        yield client


async def ask(client: httpx.AsyncClient, verb: str, path: str, **body: Any) -> Any:
    response = await client.request(verb, path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


async def look(client: httpx.AsyncClient) -> list[Any]:
    """What is there to pull, without waiting for more."""
    body = {"maxMessages": 100, "returnImmediately": True}
    answer = await ask(client, "POST", f"{SUBSCRIPTION}:pull", **body)
    return list(answer.get("receivedMessages", []))


# gcloud


class Gcloud:
    """The command with nothing of this machine's own configuration."""

    def __init__(self, rest_url: str, folder: Path) -> None:
        self._env = {
            **os.environ,
            "CLOUDSDK_CONFIG": str(folder),
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_PUBSUB": f"{rest_url}/",
            "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
            "CLOUDSDK_CORE_PROJECT": "contract",
            "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
            "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true",
            "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "true",
        }

    async def run(self, *arguments: str) -> tuple[int, bytes, bytes]:
        process = await asyncio.create_subprocess_exec(
            *("gcloud", "pubsub", *arguments, "--format=json"),
            env=self._env,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out, err

    async def __call__(self, *arguments: str) -> Any:
        status, out, err = await self.run(*arguments)
        assert status == 0, err.decode()
        return json.loads(out) if out.strip() else None


@pytest.fixture
def gcloud(pubsub: PubSub, tmp_path: Path) -> Gcloud:
    return Gcloud(pubsub.rest_url, tmp_path)


@needs_gcloud
async def test_gcloud_creates_lists_describes_and_deletes_topics(gcloud: Gcloud) -> None:
    await gcloud("topics", "create", "requests", "letters", "--labels=team=ml")
    described = await gcloud("topics", "describe", "requests")
    await gcloud("topics", "delete", "requests")
    listed = await gcloud("topics", "list")
    status, _, complaint = await gcloud.run("topics", "describe", "requests")

    assert described == {"name": TOPIC, "labels": {"team": "ml"}, "state": "ACTIVE"}
    assert [topic["name"] for topic in listed] == [LETTERS]
    assert status == 1
    assert b"NOT_FOUND" in complaint


@needs_gcloud
async def test_gcloud_publishes_pulls_and_acknowledges(
    gcloud: Gcloud, http: httpx.AsyncClient
) -> None:
    await gcloud("subscriptions", "create", "worker", "--topic=requests")

    published = await gcloud(
        *("topics", "publish", "requests", "--message=salut é", "--attribute=kind=copy,n=1")
    )
    [pulled] = await gcloud("subscriptions", "pull", "worker", "--limit=5")
    await gcloud("subscriptions", "ack", "worker", f"--ack-ids={pulled['ackId']}")

    assert published["messageIds"] == [pulled["message"]["messageId"]]
    assert pulled["message"]["data"] == "c2FsdXQgw6k="
    assert pulled["message"]["attributes"] == {"kind": "copy", "n": "1"}
    await ask(http, "POST", f"{SUBSCRIPTION}:modifyAckDeadline", ackIds=[pulled["ackId"]])
    assert await look(http) == []


@needs_gcloud
async def test_gcloud_makes_and_changes_a_push_subscription_with_every_option(
    gcloud: Gcloud, http: httpx.AsyncClient
) -> None:
    await ask(http, "PUT", LETTERS)

    [created] = await gcloud(
        *("subscriptions", "create", "worker", "--topic=requests"),
        "--push-endpoint=http://127.0.0.1:9/push",
        "--ack-deadline=600",
        '--message-filter=attributes.kind="copy"',
        "--expiration-period=never",
        "--dead-letter-topic=letters",
        "--max-delivery-attempts=100",
        "--min-retry-delay=10s",
        "--max-retry-delay=600s",
        "--message-retention-duration=31d",
    )
    described = await gcloud("subscriptions", "describe", "worker")
    updated = await gcloud(
        *("subscriptions", "update", "worker", "--ack-deadline=20", "--clear-dead-letter-policy")
    )
    await gcloud("subscriptions", "modify-push-config", "worker", "--push-endpoint=")
    listed = await gcloud("subscriptions", "list")
    await gcloud("subscriptions", "delete", "worker")

    as_asked = {
        "name": SUBSCRIPTION,
        "topic": TOPIC,
        "pushConfig": {"pushEndpoint": "http://127.0.0.1:9/push"},
        "ackDeadlineSeconds": 600,
        "filter": 'attributes.kind="copy"',
        "expirationPolicy": {},
        "deadLetterPolicy": {"deadLetterTopic": LETTERS, "maxDeliveryAttempts": 100},
        "retryPolicy": {"minimumBackoff": "10s", "maximumBackoff": "600s"},
        "messageRetentionDuration": "2678400s",
        "state": "ACTIVE",
    }
    assert created == described == as_asked
    del as_asked["deadLetterPolicy"]
    assert updated == {**as_asked, "ackDeadlineSeconds": 20}
    assert listed == [{**as_asked, "ackDeadlineSeconds": 20, "pushConfig": {}}]
    assert await ask(http, "GET", f"{PROJECT}/subscriptions") == {}


@needs_gcloud
@pytest.mark.usefixtures("http")  # which makes the topic
async def test_gcloud_asks_for_tokens_order_and_no_wrapper(gcloud: Gcloud) -> None:
    account = "pusher@contract.iam.gserviceaccount.com"

    [created] = await gcloud(
        *("subscriptions", "create", "worker", "--topic=requests", "--enable-message-ordering"),
        "--push-endpoint=http://127.0.0.1:9/push",
        f"--push-auth-service-account={account}",
        "--push-auth-token-audience=https://worker",
        *("--push-no-wrapper", "--push-no-wrapper-write-metadata"),
    )

    assert created["enableMessageOrdering"] is True
    assert created["pushConfig"] == {
        "pushEndpoint": "http://127.0.0.1:9/push",
        "oidcToken": {"serviceAccountEmail": account, "audience": "https://worker"},
        "noWrapper": {"writeMetadata": True},
    }


@needs_gcloud
@pytest.mark.usefixtures("http")  # which makes the topic
async def test_gcloud_grants_and_asks_who_may(gcloud: Gcloud) -> None:
    role, agent = "roles/pubsub.publisher", "service-1@gcp-sa-pubsub.iam.gserviceaccount.com"
    member = f"serviceAccount:{agent}"

    before = await gcloud("topics", "get-iam-policy", "requests")
    granted = await gcloud(
        *("topics", "add-iam-policy-binding", "requests"), f"--role={role}", f"--member={member}"
    )
    after = await gcloud("topics", "get-iam-policy", "requests")

    assert before == {"etag": "ACAB"}
    assert granted == after
    assert after["bindings"] == [{"role": role, "members": [member]}]


# Google's generated client


async def test_googles_generated_client_speaks_to_it(pubsub: PubSub) -> None:
    """It asks for enums as numbers, and gives every request as JSON that it made itself."""
    made: Any = {"credentials": AnonymousCredentials(), "url_scheme": "http"}
    host = pubsub.rest_url.removeprefix("http://")
    publisher: Any = PublisherClient(transport=PublisherRestTransport(host=host, **made))
    subscriber: Any = SubscriberClient(transport=SubscriberRestTransport(host=host, **made))

    def talk() -> tuple[list[str], Any, list[Any]]:
        publisher.create_topic(name=TOPIC)
        subscriber.create_subscription(name=SUBSCRIPTION, topic=TOPIC)
        message = {"data": b"\x00\xff", "attributes": {"kind": "copy"}}
        ids = publisher.publish(topic=TOPIC, messages=[message]).message_ids
        pulled = subscriber.pull(subscription=SUBSCRIPTION, max_messages=10).received_messages
        subscriber.acknowledge(subscription=SUBSCRIPTION, ack_ids=[pulled[0].ack_id])
        changed = subscriber.update_subscription(
            subscription={"name": SUBSCRIPTION, "ack_deadline_seconds": 77},
            update_mask={"paths": ["ack_deadline_seconds"]},
        )
        return list(ids), changed, list(pulled)

    ids, changed, [pulled] = await asyncio.to_thread(talk)
    publisher.transport.close()
    subscriber.transport.close()

    assert [pulled.message.message_id] == ids
    assert pulled.message.data == b"\x00\xff"
    assert (changed.ack_deadline_seconds, changed.state.name) == (77, "ACTIVE")


# Plain HTTP


async def test_a_message_is_published_pulled_and_acknowledged(http: httpx.AsyncClient) -> None:
    await ask(http, "PUT", SUBSCRIPTION, topic=TOPIC)
    message = {"data": "AP8=", "attributes": {"kind": "copy"}, "orderingKey": "model-7"}

    published = await ask(http, "POST", f"{TOPIC}:publish", messages=[message])
    [received] = await look(http)
    acknowledged = await ask(
        http, "POST", f"{SUBSCRIPTION}:acknowledge", ackIds=[received["ackId"]]
    )

    assert published == {"messageIds": [received["message"].pop("messageId")]}
    assert received["message"].pop("publishTime").endswith("Z")
    assert received["message"] == message
    assert acknowledged == {}


async def test_both_faces_show_one_broker(pubsub: PubSub, http: httpx.AsyncClient) -> None:
    await ask(http, "PUT", SUBSCRIPTION, topic=TOPIC)

    async with grpc.aio.insecure_channel(pubsub.address) as channel:
        publisher = PublisherAsyncClient(transport=PublisherGrpcAsyncIOTransport(channel=channel))
        await publisher.publish(topic=TOPIC, messages=[types.PubsubMessage(data=b"x")])

    assert [one["message"]["data"] for one in await look(http)] == ["eA=="]


async def test_a_pull_that_waits_is_answered_by_the_next_publish(http: httpx.AsyncClient) -> None:
    await ask(http, "PUT", SUBSCRIPTION, topic=TOPIC)

    async with asyncio.TaskGroup() as both:
        pull = both.create_task(ask(http, "POST", f"{SUBSCRIPTION}:pull", maxMessages=1))
        both.create_task(ask(http, "POST", f"{TOPIC}:publish", messages=[{"data": "eA=="}]))

    assert len(pull.result()["receivedMessages"]) == 1


async def test_who_hangs_up_while_waiting_is_handed_nothing(
    pubsub: PubSub, http: httpx.AsyncClient
) -> None:
    await ask(http, "PUT", SUBSCRIPTION, topic=TOPIC)
    host, port = pubsub.rest_url.removeprefix("http://").split(":")
    body = b'{"maxMessages": 1}'
    head = (
        f"POST /v1/{SUBSCRIPTION}:pull HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(head.encode() + body)
    await writer.drain()
    await look(http)  # by its answer, the pull above is waiting
    writer.close()
    await writer.wait_closed()
    await look(http)

    await ask(http, "POST", f"{TOPIC}:publish", messages=[{"data": "eA=="}])

    assert len(await look(http)) == 1


async def test_lists_come_in_pages(http: httpx.AsyncClient) -> None:
    for topic in (LETTERS, f"{PROJECT}/topics/ticks"):
        await ask(http, "PUT", topic)

    first = (await http.get(f"{PROJECT}/topics?pageSize=2&alt=json")).json()
    token = first["nextPageToken"]
    second = (await http.get(f"{PROJECT}/topics", params={"pageToken": token})).json()

    assert [topic["name"] for topic in first["topics"]] == [LETTERS, TOPIC]
    assert second == {"topics": [{"name": f"{PROJECT}/topics/ticks", "state": "ACTIVE"}]}


async def test_an_update_changes_what_its_mask_names_and_the_path_names_whose(
    http: httpx.AsyncClient,
) -> None:
    before = await ask(http, "PUT", SUBSCRIPTION, topic=TOPIC, labels={"team": "ml"})

    after = await ask(
        http,
        *("PATCH", SUBSCRIPTION),
        subscription={"name": "not this one", "ackDeadlineSeconds": 20, "labels": {}},
        updateMask="ackDeadlineSeconds",
    )

    assert after == {**before, "ackDeadlineSeconds": 20}


async def test_a_name_may_hold_whatever_a_path_must_escape(http: httpx.AsyncClient) -> None:
    created = await ask(http, "PUT", f"{PROJECT}/topics/a%2Bb%25~")

    assert created["name"] == f"{PROJECT}/topics/a+b%~"


@pytest.mark.parametrize(
    ("verb", "path", "body", "status", "code", "words"),
    [
        ("GET", LETTERS, "", 404, "NOT_FOUND", LETTERS),
        ("POST", f"{LETTERS}:publish", '{"messages": [{"data": "eA=="}]}', 404, "NOT_FOUND", ""),
        ("PUT", TOPIC, "{}", 409, "ALREADY_EXISTS", TOPIC),
        ("PUT", f"{PROJECT}/topics/ab", "{}", 400, "INVALID_ARGUMENT", "name"),
        ("PUT", LETTERS, "{", 400, "INVALID_ARGUMENT", "not JSON"),
        ("PUT", LETTERS, "[" * 100_000, 400, "INVALID_ARGUMENT", "not JSON"),
        ("PUT", LETTERS, "[]", 400, "INVALID_ARGUMENT", "not a JSON object"),
        ("PUT", LETTERS, '{"colour": "red"}', 400, "INVALID_ARGUMENT", "colour"),
        ("PUT", LETTERS, r'{"\ud800": 1}', 400, "INVALID_ARGUMENT", "not JSON"),
        ("PUT", LETTERS, r'{"labels": {"a": "\ud800"}}', 400, "INVALID_ARGUMENT", "not JSON"),
        ("PUT", LETTERS, '{"labels": 5}', 400, "INVALID_ARGUMENT", "labels"),
        ("PUT", LETTERS, '{"schemaSettings": {"schema": "s"}}', 501, "UNIMPLEMENTED", "schema"),
        ("POST", f"{TOPIC}:publish", "{}", 400, "INVALID_ARGUMENT", "messages"),
        ("POST", f"{TOPIC}:publish", '{"messages": [{"data": "?"}]}', 400, "INVALID_ARGUMENT", ""),
        ("POST", f"{SUBSCRIPTION}:pull", '{"maxMessages": 1}', 400, "FAILED_PRECONDITION", "push"),
        ("PATCH", SUBSCRIPTION, "{}", 400, "INVALID_ARGUMENT", "update_mask"),
        ("PATCH", SUBSCRIPTION, '{"subscription": 5}', 400, "INVALID_ARGUMENT", "subscription"),
        ("PATCH", SUBSCRIPTION, '{"updateMask": 5}', 400, "INVALID_ARGUMENT", "updateMask"),
        ("PUT", f"{SUBSCRIPTION}-2", '{"ackDeadlineSeconds": 1e400}', 400, "INVALID_ARGUMENT", ""),
        ("POST", f"{SUBSCRIPTION}:seek", "{}", 404, "UNIMPLEMENTED", "local Pub/Sub"),
        ("GET", "nowhere", "", 404, "UNIMPLEMENTED", "local Pub/Sub"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_refusal_is_googles_error_body(  # noqa: PLR0917  the columns of the table
    http: httpx.AsyncClient, verb: str, path: str, body: str, status: int, code: str, words: str
) -> None:
    push = {"pushEndpoint": "http://127.0.0.1:9/push"}
    await ask(http, "PUT", SUBSCRIPTION, topic=TOPIC, pushConfig=push)

    response = await http.request(verb, path, content=body)

    error = response.json()["error"]
    assert (response.status_code, error["code"], error["status"]) == (status, status, code)
    assert words in error["message"]


# The server itself


async def test_ours_stops_within_a_second_while_a_pull_waits(http: httpx.AsyncClient) -> None:
    async with PubSub() as server:
        url = f"{server.rest_url}/v1"
        await ask(http, "PUT", f"{url}/{TOPIC}")
        await ask(http, "PUT", f"{url}/{SUBSCRIPTION}", topic=TOPIC)
        pull = asyncio.create_task(http.post(f"{url}/{SUBSCRIPTION}:pull", json={"maxMessages": 1}))
        await ask(http, "GET", f"{url}/{SUBSCRIPTION}")
        began = time.monotonic()

    assert time.monotonic() - began < 1
    with pytest.raises(httpx.HTTPError):
        await pull


async def test_ours_answers_at_new_ports_after_a_stop_and_a_start(http: httpx.AsyncClient) -> None:
    server = PubSub()
    async with server:
        await ask(http, "PUT", f"{server.rest_url}/v1/{LETTERS}")

    async with server:
        found = await ask(http, "GET", f"{server.rest_url}/v1/{LETTERS}")

    assert found["name"] == LETTERS


async def test_ours_refuses_a_rest_port_that_is_taken_and_gives_the_other_back() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    async with PubSub() as first:
        taken = int(first.rest_url.rpartition(":")[2])
        second = PubSub()
        with pytest.raises(OSError, match="in use"):
            await second.start(port=port, rest_port=taken)

        await second.start(port=port)
        await second.stop()
