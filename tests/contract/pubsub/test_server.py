"""The server itself: other clients, bytes that are no request, and its life."""

import time
from typing import Any

import grpc
import pytest
from google.api_core import exceptions
from google.pubsub_v1 import PublisherAsyncClient, SubscriberAsyncClient, types
from google.pubsub_v1.services.publisher.transports import PublisherGrpcAsyncIOTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcAsyncIOTransport

from local_cloud.pubsub import Fault, PubSub
from pubsub_clients import Clients, Served, serving, texts
from push_endpoint import Endpoint

# The flag is the one way to ask whether there is nothing to pull, without waiting to see.
pytestmark = pytest.mark.filterwarnings("ignore:The return_immediately flag:DeprecationWarning")


async def test_the_generated_async_clients_publish_and_pull(pubsub: Served) -> None:
    topic, subscription = "projects/of-async/topics/all", "projects/of-async/subscriptions/all"
    channel = grpc.aio.insecure_channel(pubsub.address)
    publisher = PublisherAsyncClient(transport=PublisherGrpcAsyncIOTransport(channel=channel))
    subscriber = SubscriberAsyncClient(transport=SubscriberGrpcAsyncIOTransport(channel=channel))

    await publisher.create_topic(name=topic)
    await subscriber.create_subscription(name=subscription, topic=topic)
    await publisher.publish(topic=topic, messages=[types.PubsubMessage(data=b"x")])
    answer = await subscriber.pull(subscription=subscription, max_messages=1)
    await channel.close()

    assert texts(answer.received_messages) == ["x"]


@pytest.mark.parametrize("method", ["Publisher/Publish", "Subscriber/Pull"])
def test_bytes_that_are_no_request_are_refused_and_the_server_lives(
    clients: Clients, method: str
) -> None:
    clients.subscribe()
    with grpc.insecure_channel(clients.address) as channel:
        call: Any = channel.unary_unary(f"/google.pubsub.v1.{method}")
        with pytest.raises(grpc.RpcError) as refused:
            call(b"\xff\xff\xff", timeout=clients.patience_seconds)

    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    clients.publish("alive")
    assert texts(clients.pull()) == ["alive"]


def test_ours_pushes_no_more_at_once_than_its_cap(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(PubSub(max_parallel_pushes=2)) as server:
        clients = Clients(server.address, monkeypatch)
        clients.plain.create_topic(name=clients.topic)
        clients.subscribe(push_config=endpoint.config)
        for _ in range(2):
            endpoint.answers.put(endpoint.hang)

        for number in range(3):
            clients.publish(str(number))

        assert {endpoint.next().text, endpoint.next().text} == {"0", "1"}
        assert endpoint.is_quiet()
        endpoint.released.set()  # both end without an answer, and are nacked
        assert endpoint.next().text == "2"
        clients.close()


def test_ours_pushes_again_although_it_was_answered_when_the_response_is_dropped(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(PubSub()) as server:
        clients = Clients(server.address, monkeypatch)
        clients.plain.create_topic(name=clients.topic)
        clients.subscribe(push_config=endpoint.config)
        server.faults.next_delivery(clients.subscription, Fault.DROP_RESPONSE)

        clients.publish("one")

        assert [endpoint.next().text, endpoint.next().text] == ["one", "one"]
        clients.publish("two")
        assert endpoint.next().text == "two"
        counts = server.counters()["subscriptions"][clients.subscription]
        assert (counts["deliveries"], counts["drop_response"], counts["nacks"]) == (3, 1, 0)
        clients.close()


def test_ours_stops_within_a_second_whatever_is_open(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint.answers.put(endpoint.hang)
    with serving(PubSub()) as server:
        clients = Clients(server.address, monkeypatch)
        clients.plain.create_topic(name=clients.topic)
        clients.subscribe(push_config=endpoint.config)
        clients.subscribe(clients.other)
        clients.publish("hung")
        endpoint.next()
        stream = clients.stream(subscription=clients.other)
        stream.receive()
        began = time.monotonic()

    assert time.monotonic() - began < 1
    with stream, pytest.raises(exceptions.GoogleAPICallError):
        stream.receive()
    clients.close()


def test_ours_keeps_its_messages_through_a_stop_and_a_start(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = PubSub()
    with serving(server):
        clients = Clients(server.address, monkeypatch)
        clients.plain.create_topic(name=clients.topic)
        clients.subscribe()
        clients.subscribe(clients.other, push_config=endpoint.config)
        endpoint.answers.put(endpoint.hang)
        clients.publish("kept")
        endpoint.next()
        clients.close()

    with serving(server):
        clients = Clients(server.address, monkeypatch, project=clients.project)

        assert endpoint.next().text == "kept"
        assert texts(clients.pull()) == ["kept"]
        clients.close()


async def test_ours_refuses_a_port_that_is_taken() -> None:
    async with PubSub() as first:
        with pytest.raises(RuntimeError):
            await PubSub().start(port=int(first.address.rpartition(":")[2]))
