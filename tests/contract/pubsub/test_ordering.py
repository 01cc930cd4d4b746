"""Ordering keys: one subscription's messages of one key come in the order of their publishing."""

from queue import Queue
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud import pubsub_v1

from pubsub_clients import Clients
from push_endpoint import Endpoint

AT_ONCE = {"minimum_backoff": {"seconds": 0}, "maximum_backoff": {"nanos": 1}}


def test_pull_keeps_the_order_of_a_key(clients: Clients) -> None:
    clients.subscribe(enable_message_ordering=True)
    for number in range(5):
        clients.publish_with_key("a", str(number))

    arrived: list[str] = []
    while len(arrived) < 5:
        received = clients.wait_and_pull()
        arrived += [one.message.data.decode() for one in received]
        clients.acknowledge(*received)

    assert arrived == ["0", "1", "2", "3", "4"]


def test_a_subscriber_gets_each_key_in_order(clients: Clients) -> None:
    clients.subscribe(enable_message_ordering=True)
    options = pubsub_v1.types.PublisherOptions(enable_message_ordering=True)
    publisher: Any = pubsub_v1.PublisherClient(publisher_options=options)
    received: Queue[Any] = Queue()

    def note(message: Any) -> None:
        received.put(message)
        message.ack()

    subscribed = clients.listen(note)

    for number in range(30):
        publisher.publish(clients.topic, str(number).encode(), ordering_key="ab"[number % 2])
    arrived = [received.get(timeout=clients.patience_seconds) for _ in range(30)]
    subscribed.cancel()
    subscribed.result(clients.patience_seconds)
    publisher.stop()
    publisher.transport.close()

    for key, first in (("a", 0), ("b", 1)):
        of_key = [int(message.data) for message in arrived if message.ordering_key == key]
        assert of_key == list(range(first, 30, 2))


def test_push_keeps_the_order_of_a_key_although_one_fails(
    clients: Clients, endpoint: Endpoint
) -> None:
    clients.subscribe(push_config=endpoint.config, enable_message_ordering=True)
    endpoint.answers.put(500)

    for number in range(4):
        clients.publish_with_key("a", str(number))

    assert [endpoint.next().text for _ in range(5)] == ["0", "0", "1", "2", "3"]


def test_a_key_that_waits_holds_up_no_other(clients: Clients, endpoint: Endpoint) -> None:
    clients.subscribe(
        push_config=endpoint.config, enable_message_ordering=True, ack_deadline_seconds=600
    )
    endpoint.answers.put(endpoint.hang)
    clients.publish_with_key("a", "hangs")
    endpoint.next()

    clients.publish_with_key("a", "waits")
    clients.publish_with_key("b", "passes")
    clients.publish("passes too")

    assert {endpoint.next().text, endpoint.next().text} == {"passes", "passes too"}
    assert endpoint.is_quiet()
    endpoint.released.set()


def settle_until_next(clients: Clients) -> None:
    """Nack what is poison, and acknowledge the message behind it once that has come."""
    while True:
        for received in clients.wait_and_pull():
            if received.message.data == b"next":
                clients.acknowledge(received)
                return
            clients.nack(received)


@pytest.mark.parametrize("by", ["push", "pull"])
def test_order_and_dead_letters_together_lose_nothing(
    clients: Clients, endpoint: Endpoint, by: str
) -> None:
    """The message that fails becomes a letter, with its key, and the next one goes on."""
    clients.plain.create_topic(name=clients.letters)
    clients.subscribe(clients.other, topic=clients.letters)
    clients.subscribe(
        push_config=endpoint.config if by == "push" else None,
        enable_message_ordering=True,
        retry_policy=AT_ONCE,
        dead_letter_policy={"dead_letter_topic": clients.letters, "max_delivery_attempts": 5},
    )
    for _ in range(5):
        endpoint.answers.put(500)

    clients.publish_with_key("a", "poison")
    clients.publish_with_key("a", "next")

    if by == "push":
        arrived = [endpoint.next().text for _ in range(6)]
        assert arrived == ["poison"] * 5 + ["next"]
    else:
        settle_until_next(clients)
    [letter] = clients.wait_and_pull(clients.other)
    assert (letter.message.data, letter.message.ordering_key) == (b"poison", "a")


def test_one_request_publishes_with_one_key(clients: Clients) -> None:
    messages = [{"data": b"x", "ordering_key": key} for key in ("a", "b")]

    with pytest.raises(exceptions.InvalidArgument, match="ordering_key"):
        clients.plain.publish(topic=clients.topic, messages=messages)
