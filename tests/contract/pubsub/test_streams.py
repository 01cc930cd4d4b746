"""Streaming pull: by Google's subscriber as applications use it, and by hand at its limits."""

from queue import Empty, Queue
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud import pubsub_v1

from pubsub_clients import Clients, texts
from push_endpoint import Endpoint

# The flag is the one way to ask whether there is nothing to pull, without waiting to see.
pytestmark = pytest.mark.filterwarnings("ignore:The return_immediately flag:DeprecationWarning")


def test_a_subscriber_receives_and_acknowledges_everything(clients: Clients) -> None:
    clients.subscribe()
    received: Queue[str] = Queue()

    def note(message: Any) -> None:
        received.put(message.data.decode())
        message.ack()

    subscribed = clients.listen(note, flow_control=pubsub_v1.types.FlowControl(max_messages=7))
    for number in range(100):
        clients.publisher.publish(clients.topic, str(number).encode())
    arrived = {received.get(timeout=clients.patience_seconds) for _ in range(100)}
    subscribed.cancel()
    subscribed.result(clients.patience_seconds)

    assert arrived == {str(number) for number in range(100)}
    assert clients.pull() == []


def test_a_subscriber_that_nacks_gets_the_message_again(clients: Clients) -> None:
    clients.subscribe()
    deliveries: Queue[Any] = Queue()
    subscribed = clients.listen(deliveries.put)
    clients.publish("again")

    deliveries.get(timeout=clients.patience_seconds).nack()
    second = deliveries.get(timeout=clients.patience_seconds)
    second.ack()
    subscribed.cancel()
    subscribed.result(clients.patience_seconds)

    assert second.data == b"again"


def test_a_subscriber_keeps_a_message_for_as_long_as_its_callback_takes(clients: Clients) -> None:
    """Past the shortest lease that a stream may ask for, which the client extends by itself."""
    clients.subscribe()
    deliveries: Queue[Any] = Queue()
    subscribed = clients.listen(
        deliveries.put,
        flow_control=pubsub_v1.types.FlowControl(max_duration_per_lease_extension=10),
    )
    clients.publish("slow")
    slow = deliveries.get(timeout=clients.patience_seconds)

    with pytest.raises(Empty):
        deliveries.get(timeout=11)
    slow.ack()
    subscribed.cancel()
    subscribed.result(clients.patience_seconds)

    assert clients.pull() == []


def test_a_stream_never_holds_more_than_it_asked_for(clients: Clients) -> None:
    clients.subscribe()
    for text in ("one", "two", "three", "four"):
        clients.publish(text)

    with clients.stream(max_outstanding_messages=2) as stream:
        first, second = stream.receive()
        stream.send(ack_ids=[first.ack_id])
        third = stream.receive()
        # Also an acknowledgement that came another way makes room.
        clients.subscriber.acknowledge(subscription=clients.subscription, ack_ids=[second.ack_id])
        fourth = stream.receive()

    assert texts([first, second, *third, *fourth]) == ["one", "two", "three", "four"]


def test_a_stream_stops_at_its_byte_limit(clients: Clients) -> None:
    clients.subscribe()
    for text in ("12345", "67890", "x"):
        clients.publish(text)

    with clients.stream(max_outstanding_bytes=6) as stream:
        assert texts(stream.receive()) == ["12345", "67890"]
        assert texts(clients.pull()) == ["x"]


def test_a_stream_may_nack(clients: Clients) -> None:
    clients.subscribe()
    clients.publish("again")

    with clients.stream() as stream:
        [first] = stream.receive()
        stream.send(modify_deadline_ack_ids=[first.ack_id], modify_deadline_seconds=[0])
        [second] = stream.receive()

    assert second.message.message_id == first.message.message_id


def test_a_stream_may_move_a_deadline(clients: Clients) -> None:
    clients.subscribe()
    clients.publish("again")

    with clients.stream() as stream:
        [first] = stream.receive()
        stream.send(modify_deadline_ack_ids=[first.ack_id], modify_deadline_seconds=[1])
        [second] = stream.receive()

    assert second.ack_id != first.ack_id


def test_ours_applies_the_requests_of_a_stream_in_their_order(clients: Clients) -> None:
    """Google's emulator does not always, and no document says whether the real service does."""
    clients.subscribe()
    clients.publish("again")

    with clients.stream() as stream:
        [first] = stream.receive()
        stream.send(modify_deadline_ack_ids=[first.ack_id], modify_deadline_seconds=[600])
        stream.send(modify_deadline_ack_ids=[first.ack_id], modify_deadline_seconds=[0])
        [second] = stream.receive()

    assert second.message.message_id == first.message.message_id


def test_a_stream_leases_for_as_long_as_it_said(clients: Clients) -> None:
    clients.subscribe(ack_deadline_seconds=600)
    clients.publish("again")

    with clients.stream(stream_ack_deadline_seconds=1) as stream:
        stream.send()  # a heartbeat, as clients send them, changes nothing
        assert [texts(stream.receive()), texts(stream.receive())] == [["again"], ["again"]]


def test_a_stream_that_the_client_closes_ends_without_an_error(clients: Clients) -> None:
    clients.subscribe()
    clients.publish("one")

    with clients.stream() as stream:
        stream.receive()
        stream.close()
        with pytest.raises(StopIteration):
            stream.receive()


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"subscription": "projects/contract/subscriptions/worker"}, id="name again"),
        pytest.param({"max_outstanding_messages": 1}, id="limits again"),
        pytest.param({"stream_ack_deadline_seconds": 601}, id="deadline too long"),
        pytest.param({"ack_ids": ["mine"]}, id="unreadable id"),
        pytest.param({"modify_deadline_ack_ids": ["ack-1-1"]}, id="no seconds"),
        pytest.param(
            {"modify_deadline_ack_ids": ["ack-1-1"], "modify_deadline_seconds": [-1]},
            id="negative seconds",
        ),
    ],
)
def test_a_bad_request_on_a_stream_ends_it(clients: Clients, fields: dict[str, Any]) -> None:
    clients.subscribe()

    with clients.stream() as stream:
        stream.send(**fields)
        with pytest.raises(exceptions.InvalidArgument):
            stream.receive()


def test_deleting_a_subscription_ends_its_streams(clients: Clients) -> None:
    clients.subscribe()
    clients.publish("one")

    with clients.stream() as stream:
        stream.receive()
        clients.subscriber.delete_subscription(subscription=clients.subscription)
        with pytest.raises(exceptions.NotFound):
            stream.receive()


def test_turning_a_subscription_to_push_ends_its_streams(
    clients: Clients, endpoint: Endpoint
) -> None:
    clients.subscribe()
    clients.publish("one")

    with clients.stream() as stream:
        stream.receive()
        clients.subscriber.modify_push_config(
            subscription=clients.subscription, push_config=endpoint.config
        )
        with pytest.raises(exceptions.FailedPrecondition):
            stream.receive()
