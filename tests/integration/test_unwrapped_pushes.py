"""An unwrapped push means what its wrapped one means, or is left with Pub/Sub."""

import json
from datetime import UTC, datetime

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_cloud.pubsub_envelope import Headers, unwrapped, wrapped
from local_cloud.pubsub_records import Content, Delivery
from local_cloud.pubsub_records import Message as Published
from model_copier.app import build_app
from model_copier.web.push_envelope import open_push
from ordeal import SETTINGS, StrictTopics
from world import REQUEST, World, request

SUBSCRIPTION = "projects/p/subscriptions/model-copy-requests"
FORWARDED = {
    "CloudPubSubDeadLetterSourceDeliveryCount": "100",
    "CloudPubSubDeadLetterSourceSubscription": "model-copy-requests",
}


def delivery(attributes: dict[str, str], data: bytes) -> Delivery:
    content = Content(data=data, attributes=attributes, ordering_key="")
    at = datetime(2026, 2, 13, tzinfo=UTC)
    return Delivery(
        ack_id="1", message=Published(message_id="42", published_at=at, content=content), attempt=1
    )


def pushed(
    attributes: dict[str, str], data: bytes, *, with_metadata: bool = True
) -> tuple[Headers, bytes]:
    """As the local Pub/Sub pushes it, with what Cloud Run adds."""
    headers, body = unwrapped(
        delivery(attributes, data), subscription=SUBSCRIPTION, with_metadata=with_metadata
    )
    between = {
        b"host": b"localhost",
        b"x-forwarded-for": b"1.2.3.4",
        b"x-cloud-trace-context": b"0/0",
        b"traceparent": b"00-0-0-00",
        b"authorization": b"Bearer token",
    }
    return [*headers, *between.items()], body


async def post(world: World, path: str, headers: Headers, body: bytes) -> httpx.Response:
    app = build_app("worker", world.deliveries, world.ticks, SETTINGS)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return await client.post(path, content=body, headers=headers)


@given(
    attributes=st.dictionaries(
        st.sampled_from(["ce-id", "ce-source", "ce-type", "ce-specversion", "reply_tag", "team"]),
        st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=20),
    ),
    data=st.binary(max_size=50),
)
def test_both_ways_say_the_same(attributes: dict[str, str], data: bytes):
    """Non-ASCII values too; whatever HTTP has room for."""
    headers, body = pushed(attributes, data)
    of_envelope = wrapped(delivery(attributes, data), subscription=SUBSCRIPTION, counted=False)

    assert open_push(headers, body) == open_push(*of_envelope)


async def test_an_unwrapped_request_keeps_its_identity_and_its_tag():
    world = World(topics=StrictTopics())
    headers, body = pushed(
        dict(request(request_id="nightly-1").attributes) | {"reply_tag": "night"}, request().data
    )

    answer = await post(world, "/pubsub/requests", headers, body)
    await world.pass_time(60)

    assert answer.status_code == 204
    (reply,) = world.topics.replies
    assert (reply.attributes["request_id"], reply.attributes["reply_tag"]) == ("nightly-1", "night")


async def test_bare_json_is_known_by_its_message_id():
    world = World(topics=StrictTopics())

    await post(world, "/pubsub/requests", *pushed({}, json.dumps(REQUEST).encode()))
    await world.pass_time(60)

    assert world.replies[0]["request_id"] == "42"


async def test_a_letter_that_pubsub_wrote_is_answered():
    """Headers have no case; the marks of Pub/Sub do."""
    world = World(topics=StrictTopics())
    headers, body = pushed(dict(request().attributes) | FORWARDED, request().data)

    answer = await post(world, "/pubsub/dead-letters", headers, body)

    assert answer.status_code == 204
    assert "in 100 deliveries" in world.replies[0]["error"]["message"]


@pytest.mark.parametrize("path", ["/", "/pubsub/requests", "/pubsub/dead-letters"])
@pytest.mark.parametrize(
    "body", [request().data, b"", b"no JSON", b"[]", b'{"message": 7}', b"\xff", b"[" * 9999]
)
async def test_without_metadata_pubsub_keeps_the_message(path: str, body: bytes, capsys):
    """Acknowledged, it would be a request that nobody is ever told of."""
    world = World(topics=StrictTopics())
    headers, body = pushed(dict(request().attributes), body, with_metadata=False)

    answer = await post(world, path, headers, body)

    assert answer.status_code == 400
    assert "--push-no-wrapper-write-metadata" in answer.json()["detail"]
    assert world.topics.replies == world.topics.letters == []
    assert '"message": "unwrapped"' in capsys.readouterr().out


async def test_a_tick_without_metadata_is_a_tick():
    answer = await post(World(), "/pubsub/ticks", *pushed({}, b"{}", with_metadata=False))

    assert answer.status_code == 204


@pytest.mark.parametrize(
    "headers",
    [
        {"Ce-Id": "e-1", "Ce-Source": "//relay", "Ce-Specversion": "1.0", "Ce-Type": "?"},
        {"Content-Type": "application/cloudevents+json"},
    ],
)
async def test_an_event_posted_by_http_names_itself(headers: dict[str, str]):
    """A relay that posts CloudEvents is answered, with what is wrong."""
    world = World(topics=StrictTopics())
    event = {"specversion": "1.0", "id": "e-1", "source": "//relay", "type": "?", "data": REQUEST}
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]

    answer = await post(world, "/pubsub/requests", raw, json.dumps(event).encode())

    assert answer.status_code == 204
    assert world.replies[0]["request_id"] == "e-1"


async def test_a_header_that_comes_twice_names_nobody():
    world = World(topics=StrictTopics())
    headers, body = pushed(dict(request().attributes), request().data)

    await post(world, "/pubsub/requests", [*headers, (b"Ce-Id", b"other")], body)

    assert world.replies[0]["outcome"] == "rejected"
    assert world.store.jobs == {}
