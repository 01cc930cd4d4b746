"""Push: what an endpoint gets, and what its answer does."""

import socket
import struct
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from typing import Any

import google.auth.transport.requests
import pytest
from google.api_core import exceptions
from google.oauth2 import id_token

from pubsub_clients import Clients, Served, texts
from push_endpoint import Answer, Endpoint, Pushed

# The flag is the one way to ask whether there is nothing to pull, without waiting to see.
pytestmark = pytest.mark.filterwarnings("ignore:The return_immediately flag:DeprecationWarning")


def test_a_push_is_the_documented_envelope(clients: Clients, endpoint: Endpoint) -> None:
    clients.subscribe(push_config=endpoint.config)
    message = {"data": b"\x00\xff", "attributes": {"kind": "copy"}, "ordering_key": "model-7"}

    [message_id] = clients.plain.publish(topic=clients.topic, messages=[message]).message_ids

    pushed = endpoint.next()
    body, headers = pushed.body, pushed.headers
    published_at = body["message"]["publishTime"]
    assert body == {
        "message": {
            "data": "AP8=",
            "attributes": {"kind": "copy"},
            "messageId": message_id,
            "message_id": message_id,
            "publishTime": published_at,
            "publish_time": published_at,
            "orderingKey": "model-7",
        },
        "subscription": clients.subscription,
    }
    assert time.strptime(published_at[:19], "%Y-%m-%dT%H:%M:%S")
    assert published_at.endswith("Z")
    assert headers["user-agent"] == "CloudPubSub-Google"
    assert headers["content-type"] == "application/json"


def test_what_a_message_does_not_have_is_absent_from_its_push(
    clients: Clients, endpoint: Endpoint
) -> None:
    clients.subscribe(push_config=endpoint.config)

    clients.publish("only data")
    only_data = endpoint.next().body["message"]
    clients.publish(only="attributes")
    only_attributes = endpoint.next().body["message"]

    assert "attributes" not in only_data
    assert "data" not in only_attributes
    assert "orderingKey" not in only_data


@pytest.mark.parametrize("status", [102, 200, 201, 202, 204])
def test_the_documented_statuses_acknowledge(
    clients: Clients, endpoint: Endpoint, status: int
) -> None:
    clients.subscribe(push_config=endpoint.config)
    endpoint.answers.put(status)
    clients.publish("one")
    assert endpoint.next().text == "one"

    # Redelivery after a nack takes 0.1 s; a thing pushed later than that comes second.
    endpoint.answers.put(500)
    clients.publish("two")

    assert [endpoint.next().text, endpoint.next().text] == ["two", "two"]


@pytest.mark.parametrize("status", [203, 206, 301, 302, 307, 400, 404, 429, 500, 503])
def test_every_other_status_is_a_nack(clients: Clients, endpoint: Endpoint, status: int) -> None:
    clients.subscribe(push_config=endpoint.config)
    endpoint.answers.put(status)

    clients.publish("again")

    assert [endpoint.next().text, endpoint.next().text] == ["again", "again"]


def _reset(request: BaseHTTPRequestHandler) -> None:
    linger = struct.pack("ii", 1, 0)  # on, for 0 s: closing resets the connection
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    request.connection.close()


def _says(answer: bytes) -> Answer:
    return lambda request: request.connection.sendall(answer)


def _babbles(request: BaseHTTPRequestHandler) -> None:
    with suppress(OSError):
        while True:
            request.connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 65_536)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(_reset, id="reset"),
        pytest.param(_says(b""), id="nothing"),
        pytest.param(_says(b"\x00\xff\r\n\r\n"), id="garbage"),
        pytest.param(_says(b"HTTP/1.1 999999 OK\r\n\r\n"), id="no status"),
        pytest.param(_says(b"HTTP/1.1 204"), id="half a line"),
        pytest.param(_says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"), id="half an answer"),
        pytest.param(_says(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"), id="bad length"),
        pytest.param(_says(b"HTTP/1.1 204 OK\r\n" + b"x: y\r\n" * 100_000), id="endless headers"),
        pytest.param(_babbles, id="endless body"),
    ],
)
def test_an_endpoint_that_answers_badly_harms_nobody_else(
    clients: Clients, endpoint: Endpoint, answer: Answer
) -> None:
    clients.subscribe(push_config=endpoint.config)
    endpoint.answers.put(answer)

    clients.publish("again")

    assert [endpoint.next().text, endpoint.next().text] == ["again", "again"]
    with Endpoint() as other:
        clients.subscribe(clients.other, push_config=other.config)
        clients.publish("lively")
        assert other.next().text == "lively"


def test_a_push_brings_nothing_along_from_the_one_before(
    clients: Clients, endpoint: Endpoint
) -> None:
    clients.subscribe(push_config=endpoint.config)
    clients.publish("one")
    endpoint.next()

    clients.publish("two")

    headers = endpoint.next().headers
    assert "cookie" not in headers


def test_a_push_waits_for_its_endpoint_to_come_up(clients: Clients) -> None:
    with Endpoint() as gone:
        port = gone.port
    clients.subscribe(push_config={"push_endpoint": f"http://127.0.0.1:{port}/push"})
    clients.publish("patient")

    with Endpoint(port=port) as endpoint:
        assert endpoint.next().text == "patient"


def test_a_push_without_an_answer_is_cut_at_the_ack_deadline(
    clients: Clients, endpoint: Endpoint
) -> None:
    clients.subscribe(push_config=endpoint.config, ack_deadline_seconds=1)
    endpoint.answers.put(endpoint.hang)

    clients.publish("again")

    first = endpoint.next()
    second = endpoint.next()
    assert second.at - first.at >= 0.9


def test_hung_pushes_stall_nobody(clients: Clients, endpoint: Endpoint) -> None:
    clients.subscribe(push_config=endpoint.config, ack_deadline_seconds=600)
    for _ in range(2):
        endpoint.answers.put(endpoint.hang)
        clients.publish("hung")
        endpoint.next()

    with Endpoint() as other:
        clients.subscribe(clients.other, push_config=other.config)
        clients.publish("lively")

        assert other.next().text == "lively"
        assert endpoint.next().text == "lively"


def test_many_pushes_of_one_subscription_are_under_way_at_once(
    clients: Clients, endpoint: Endpoint
) -> None:
    clients.subscribe(push_config=endpoint.config, ack_deadline_seconds=600)
    for _ in range(20):
        endpoint.answers.put(endpoint.hang)

    for number in range(20):
        clients.publish(str(number))

    assert {endpoint.next().text for _ in range(20)} == {str(number) for number in range(20)}


def test_the_retry_policy_sets_the_rest_after_a_nack(clients: Clients, endpoint: Endpoint) -> None:
    clients.subscribe(
        push_config=endpoint.config,
        retry_policy={"minimum_backoff": {"seconds": 1}, "maximum_backoff": {"seconds": 2}},
    )
    endpoint.answers.put(500)

    clients.publish("again")

    first = endpoint.next()
    second = endpoint.next()
    assert second.at - first.at >= 0.95


def test_a_push_that_fails_too_often_becomes_a_dead_letter(
    clients: Clients, endpoint: Endpoint
) -> None:
    clients.plain.create_topic(name=clients.letters)
    clients.subscribe(clients.other, topic=clients.letters)
    clients.subscribe(
        push_config=endpoint.config,
        retry_policy={"minimum_backoff": {"seconds": 0}, "maximum_backoff": {"nanos": 1}},
        dead_letter_policy={"dead_letter_topic": clients.letters, "max_delivery_attempts": 5},
    )
    for _ in range(5):
        endpoint.answers.put(500)

    message_id = clients.publish("poison", kind="copy")

    assert [endpoint.next().body["deliveryAttempt"] for _ in range(5)] == [1, 2, 3, 4, 5]
    [letter] = clients.wait_and_pull(clients.other)
    assert letter.message.data == b"poison"
    assert letter.message.message_id != message_id
    attributes = dict(letter.message.attributes)
    assert attributes.pop("CloudPubSubDeadLetterSourceTopicPublishTime").endswith("+00:00")
    assert attributes == {
        "kind": "copy",
        "CloudPubSubDeadLetterSourceDeliveryCount": "5",
        "CloudPubSubDeadLetterSourceSubscription": "worker",
        "CloudPubSubDeadLetterSourceSubscriptionProject": clients.project.removeprefix("projects/"),
    }


def test_a_backlog_follows_its_subscription_from_pull_to_push_and_back(
    clients: Clients, endpoint: Endpoint
) -> None:
    clients.subscribe()
    clients.publish("pushed")

    clients.subscriber.modify_push_config(
        subscription=clients.subscription, push_config=endpoint.config
    )
    assert endpoint.next().text == "pushed"
    with pytest.raises(exceptions.FailedPrecondition):
        clients.pull()
    clients.subscriber.modify_push_config(subscription=clients.subscription, push_config={})
    clients.publish("pulled")

    assert texts(clients.wait_and_pull()) == ["pulled"]


# Unwrapped


def test_an_unwrapped_push_is_the_data_alone(clients: Clients, endpoint: Endpoint) -> None:
    clients.subscribe(push_config={**endpoint.config, "no_wrapper": {}})

    clients.publish("plain", kind="copy")

    pushed = endpoint.next()
    assert pushed.raw == b"plain"
    assert "kind" not in pushed.headers


def test_metadata_and_attributes_of_an_unwrapped_push_are_headers_when_asked_for(
    clients: Clients, endpoint: Endpoint
) -> None:
    clients.subscribe(push_config={**endpoint.config, "no_wrapper": {"write_metadata": True}})

    message_id = clients.publish("{}", **{"Content-Type": "application/json", "ce-id": "7"})

    headers = endpoint.next().headers
    assert headers["content-type"] == "application/json"
    assert headers["ce-id"] == "7"
    assert headers["x-goog-pubsub-message-id"] == message_id
    assert headers["x-goog-pubsub-subscription-name"] == clients.subscription
    assert headers["x-goog-pubsub-publish-time"].endswith("Z")


def test_an_unwrapped_push_is_the_data_byte_by_byte(clients: Clients, endpoint: Endpoint) -> None:
    clients.subscribe(push_config={**endpoint.config, "no_wrapper": {}})

    clients.plain.publish(topic=clients.topic, messages=[{"data": bytes(range(256))}])

    assert endpoint.next().raw == bytes(range(256))


def test_ours_leaves_out_the_attributes_that_http_has_no_room_for(
    clients: Clients, endpoint: Endpoint
) -> None:
    clients.subscribe(push_config={**endpoint.config, "no_wrapper": {"write_metadata": True}})
    odd = {"two words": "x", "broken": "a\r\nb: c", "Host": "elsewhere", "Content-Length": "1"}

    clients.publish("whole", well="kept", **odd)

    pushed = endpoint.next()
    assert pushed.raw == b"whole"
    assert pushed.headers["well"] == "kept"
    assert pushed.headers["host"] == f"127.0.0.1:{endpoint.port}"
    assert not {"two words", "broken", "b"} & set(pushed.headers)


# Tokens

ACCOUNT = "pusher@contract.iam.gserviceaccount.com"


def verified(pushed: Pushed, *, audience: str, pubsub: Served) -> dict[str, Any]:
    """Check the token that came with a push, as the endpoint of a real one does."""
    scheme, token = pushed.headers["authorization"].split()
    assert scheme == "Bearer"
    request = google.auth.transport.requests.Request()
    check: Any = id_token.verify_token
    claims: dict[str, Any] = check(token, request, audience, certs_url=pubsub.certs_url)
    request.session.close()
    return claims


def test_a_push_carries_a_token_of_its_account(
    pubsub: Served, clients: Clients, endpoint: Endpoint
) -> None:
    token = {"service_account_email": ACCOUNT, "audience": "https://worker"}
    clients.subscribe(push_config={**endpoint.config, "oidc_token": token})

    clients.publish("signed")

    claims = verified(endpoint.next(), audience="https://worker", pubsub=pubsub)
    assert (claims["email"], claims["email_verified"]) == (ACCOUNT, True)
    assert claims["iss"] == "https://accounts.google.com"
    assert claims["exp"] - claims["iat"] == 3_600


def test_the_audience_of_a_token_is_the_endpoint_unless_it_is_set(
    pubsub: Served, clients: Clients, endpoint: Endpoint
) -> None:
    token = {"service_account_email": ACCOUNT}
    clients.subscribe(push_config={**endpoint.config, "oidc_token": token})

    clients.publish("signed")

    assert verified(endpoint.next(), audience=endpoint.url, pubsub=pubsub)["aud"] == endpoint.url


def test_a_push_without_an_account_carries_no_token(clients: Clients, endpoint: Endpoint) -> None:
    clients.subscribe(push_config=endpoint.config)

    clients.publish("unsigned")

    assert "authorization" not in endpoint.next().headers
