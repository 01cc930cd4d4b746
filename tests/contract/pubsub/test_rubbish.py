"""Whatever is sent to the local Pub/Sub over HTTP: an answer in Google's form, and it lives on."""

import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from local_cloud.pubsub import PubSub
from pubsub_clients import serving

PROJECT = "projects/contract"
TOPIC = f"{PROJECT}/topics/requests"
SUBSCRIPTION = f"{PROJECT}/subscriptions/worker"

FIELDS = st.sampled_from(
    [
        *("name", "topic", "labels", "filter", "messages", "data", "attributes", "orderingKey"),
        *("pushConfig", "pushEndpoint", "oidcToken", "serviceAccountEmail", "noWrapper"),
        *("ackDeadlineSeconds", "retryPolicy", "minimumBackoff", "maximumBackoff"),
        *("deadLetterPolicy", "deadLetterTopic", "maxDeliveryAttempts", "enableMessageOrdering"),
        *("maxMessages", "returnImmediately", "ackIds", "subscription", "updateMask"),
        *("messageRetentionDuration", "expirationPolicy", "pageSize", "pageToken", "rates"),
        *("clear", "next", "fault", "times", "seed", "duplicate", "subscriptions", "email"),
        *("audience", "claims", "lifetime_seconds", "snapshot", "time"),
        *("policy", "bindings", "role", "members", "condition", "etag", "permissions"),
    ]
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=30)
    | st.sampled_from([TOPIC, SUBSCRIPTION, "10s", "-1s", "1e400s", "ack-1-1", "eA==", "delay"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(FIELDS, inner, max_size=5),
    max_leaves=12,
)
# What would be taken, if it were left as it is.
WELL = st.sampled_from(
    [
        {},
        {"messages": [{"data": "eA==", "orderingKey": "a"}]},
        {"topic": TOPIC, "pushConfig": {"pushEndpoint": "http://127.0.0.1:9/push"}},
        {"topic": TOPIC, "retryPolicy": {"minimumBackoff": "1s"}, "ackDeadlineSeconds": 20},
        {"subscription": {"ackDeadlineSeconds": 30}, "updateMask": "ackDeadlineSeconds"},
        {"ackIds": ["ack-1-1"], "ackDeadlineSeconds": 5},
        {"rates": {"duplicate": 0, "seed": 3}, "next": []},
        {"email": "a@example.com", "audience": "https://api"},
        {"policy": {"bindings": [{"role": "roles/pubsub.admin", "members": ["allUsers"]}]}},
        {"permissions": ["pubsub.topics.publish"]},
    ]
)
BODIES = st.builds(
    lambda well, odd: json.dumps({**well, **odd}).encode(),
    WELL,
    st.dictionaries(FIELDS, VALUES, max_size=2),
)
CALLS = st.sampled_from(
    [
        *((verb, f"/v1/{name}") for verb in ("PUT", "GET") for name in (TOPIC, SUBSCRIPTION)),
        *(("GET", f"/v1/{PROJECT}/{kind}") for kind in ("topics", "subscriptions")),
        *(("POST", f"/v1/{TOPIC}:publish"), ("PATCH", f"/v1/{SUBSCRIPTION}")),
        *(("POST", f"/v1/{SUBSCRIPTION}:{verb}") for verb in ("acknowledge", "modifyAckDeadline")),
        *(("POST", f"/v1/{SUBSCRIPTION}:{verb}") for verb in ("modifyPushConfig", "seek")),
        *(("POST", f"/v1/{TOPIC}:{verb}") for verb in ("setIamPolicy", "testIamPermissions")),
        ("GET", f"/v1/{SUBSCRIPTION}:getIamPolicy"),
        *(("POST", "/control/faults"), ("POST", "/control/tokens"), ("GET", "/control/counters")),
    ]
)
ODD_CALLS = st.tuples(
    st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE"]),
    st.binary(max_size=30).map(lambda path: "/v1/" + "".join(f"%{byte:02x}" for byte in path)),
)


@pytest.fixture(scope="module")
def pubsub() -> Iterator[PubSub]:
    with serving(PubSub()) as server:
        yield server


@pytest.fixture(scope="module")
def http(pubsub: PubSub) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=pubsub.rest_url, timeout=10, trust_env=False) as client:
        yield client


def alive(http: httpx.Client) -> bool:
    """Whether it still does its work, and nothing else is broken for good."""
    http.delete(f"/v1/{PROJECT}-x/topics/alive")
    return http.put(f"/v1/{PROJECT}-x/topics/alive", json={}).status_code == 200


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    call=st.one_of(CALLS, CALLS, CALLS, ODD_CALLS),
    query=st.dictionaries(FIELDS, st.text(max_size=10), max_size=2),
    body=BODIES | BODIES | VALUES.map(json.dumps).map(str.encode) | st.binary(max_size=60),
)
def test_any_request_is_answered_in_googles_form(
    http: httpx.Client, call: tuple[str, str], query: dict[str, str], body: bytes
) -> None:
    answer = http.request(*call, params=query, content=body)

    assert answer.status_code != 500, answer.text
    assert answer.status_code == 200 or answer.json()["error"]["message"]
    assert alive(http)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    rubbish=st.binary(min_size=1, max_size=200)
    | st.binary(max_size=50).map(lambda tail: b"POST /v1/" + tail)
    | st.binary(max_size=50).map(lambda tail: b"POST / HTTP/1.1\r\nContent-Length: " + tail)
)
def test_any_bytes_leave_it_alive(pubsub: PubSub, http: httpx.Client, rubbish: bytes) -> None:
    host, port = pubsub.rest_url.removeprefix("http://").split(":")

    with socket.create_connection((host, int(port))) as line:
        line.sendall(rubbish)
        line.shutdown(socket.SHUT_WR)

    assert alive(http)
