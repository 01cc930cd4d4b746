"""The knobs of the local Pub/Sub, its counters and its tokens, as another process reaches them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import google.auth.transport.requests
import httpx
import pytest
from google.auth.exceptions import GoogleAuthError
from google.oauth2 import id_token

from local_cloud.pubsub import PubSub

PROJECT = "projects/contract"
TOPIC = f"{PROJECT}/topics/requests"
SUBSCRIPTION = f"{PROJECT}/subscriptions/worker"
EMAIL = "ci@contract.iam.gserviceaccount.com"


@pytest.fixture
async def pubsub() -> AsyncIterator[PubSub]:
    async with PubSub() as server:
        yield server


@pytest.fixture
async def http(pubsub: PubSub) -> AsyncIterator[httpx.AsyncClient]:
    """A client with a topic and a subscription there already."""
    async with httpx.AsyncClient(base_url=pubsub.rest_url, timeout=10, trust_env=False) as client:
        await ask(client, "PUT", f"/v1/{TOPIC}")
        await ask(client, "PUT", f"/v1/{SUBSCRIPTION}", topic=TOPIC)
        yield client


async def ask(client: httpx.AsyncClient, verb: str, path: str, **body: Any) -> Any:
    response = await client.request(verb, path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


async def publish(client: httpx.AsyncClient, *texts: str) -> None:
    messages = [{"attributes": {"text": text}} for text in texts]
    await ask(client, "POST", f"/v1/{TOPIC}:publish", messages=messages)


async def pull(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    """What is ready now."""
    body = {"maxMessages": 100, "returnImmediately": True}
    answer = await ask(client, "POST", f"/v1/{SUBSCRIPTION}:pull", **body)
    return list(answer.get("receivedMessages", []))


async def acknowledge(client: httpx.AsyncClient, received: list[dict[str, Any]]) -> None:
    ids = [one["ackId"] for one in received]
    await ask(client, "POST", f"/v1/{SUBSCRIPTION}:acknowledge", ackIds=ids)


async def nack(client: httpx.AsyncClient, received: dict[str, Any]) -> None:
    path = f"/v1/{SUBSCRIPTION}:modifyAckDeadline"
    await ask(client, "POST", path, ackIds=[received["ackId"]], ackDeadlineSeconds=0)


def texts(received: list[dict[str, Any]]) -> list[str]:
    return [one["message"]["attributes"]["text"] for one in received]


# Faults and counters


async def test_the_next_deliveries_meet_what_was_ordered(http: httpx.AsyncClient) -> None:
    orders = [
        {"subscription": SUBSCRIPTION, "fault": "duplicate"},
        {"subscription": SUBSCRIPTION, "fault": "drop_response", "times": 2},
    ]
    await ask(http, "POST", "/control/faults", next=orders)
    await publish(http, "one", "two")

    first = await pull(http)
    await acknowledge(http, first)
    second = await pull(http)
    await acknowledge(http, second)
    third = await pull(http)
    await acknowledge(http, third)

    assert [texts(first), texts(second), texts(third)] == [["one", "two", "one"], ["two"], ["two"]]
    assert await pull(http) == []


async def test_rates_hold_until_they_are_cleared(http: httpx.AsyncClient) -> None:
    await ask(http, "POST", "/control/faults", rates={"duplicate": 1, "seed": 3})
    await publish(http, "often")
    assert texts(await pull(http)) == ["often", "often"]

    await ask(http, "POST", "/control/faults", clear=True)
    await publish(http, "once")

    assert texts(await pull(http)) == ["once"]


async def test_rates_replace_all_of_the_former_ones(http: httpx.AsyncClient) -> None:
    await ask(http, "POST", "/control/faults", rates={"duplicate": 1})
    await ask(http, "POST", "/control/faults", rates={})

    await publish(http, "once")

    assert texts(await pull(http)) == ["once"]


async def test_counters_tell_what_happened_by_topic_and_subscription(
    http: httpx.AsyncClient,
) -> None:
    await publish(http, "one", "two")
    one, two = await pull(http)
    await acknowledge(http, [one])
    await nack(http, two)

    counters = await ask(http, "GET", "/control/counters")

    assert counters == {
        "topics": {TOPIC: {"published": 2}},
        "subscriptions": {
            SUBSCRIPTION: {
                "deliveries": 2,
                "acks": 1,
                "nacks": 1,
                "timeouts": 0,
                "dead_lettered": 0,
                "duplicate": 0,
                "delay": 0,
                "reorder": 0,
                "drop_response": 0,
                "backlog": 1,
            }
        },
    }


@pytest.mark.parametrize(
    ("orders", "complaint"),
    [
        ({"rates": {"duplicate": 2}}, "rates.duplicate: 0 to 1, not 2"),
        ({"rates": {"duplicate": "often"}}, "rates.duplicate: must be a whole number or a number"),
        ({"rates": {"duplicate": True}}, "rates.duplicate: must be"),
        ({"rates": {"delay_seconds": 0}}, "rates.delay_seconds: above 0"),
        ({"rates": {"seed": 1.5}}, "rates.seed: must be a whole number"),
        ({"rates": {"dup": 1}}, "rates.dup: there is no such field"),
        ({"rates": {"subscriptions": ["worker"]}}, "rates.subscriptions: 'worker' is not"),
        ({"rates": []}, "rates: must be an object"),
        ({"clear": 1}, "clear: must be true or false"),
        ({"next": {}}, "next: must be a list"),
        ({"next": ["duplicate"]}, "next[0]: must be an object"),
        ({"next": [{"fault": "delay"}]}, "next[0].subscription: is missing"),
        (
            {"next": [{"subscription": "worker", "fault": "delay"}]},
            "next[0].subscription: 'worker' is not projects/PROJECT/subscriptions/ID",
        ),
        (
            {"next": [{"subscription": SUBSCRIPTION, "fault": "explode"}]},
            "next[0].fault: 'explode' is none of duplicate, delay, reorder, drop_response",
        ),
        (
            {"next": [{"subscription": SUBSCRIPTION, "fault": "delay", "times": 0}]},
            "next[0].times: 1 to",
        ),
        ({"later": []}, "later: there is no such field"),
    ],
    ids=str,
)
async def test_a_malformed_order_is_named_and_none_of_it_is_carried_out(
    http: httpx.AsyncClient, orders: dict[str, Any], complaint: str
) -> None:
    well = {"next": [{"subscription": SUBSCRIPTION, "fault": "duplicate"}]}

    response = await http.post("/control/faults", json={**well, **orders})

    error = response.json()["error"]
    assert (response.status_code, error["status"]) == (400, "INVALID_ARGUMENT")
    assert complaint in error["message"]
    await publish(http, "once")
    assert texts(await pull(http)) == ["once"]


# Tokens


async def verified(token: str, *, audience: str, certs_url: str) -> dict[str, Any]:
    """Check a token the way a service does, with Google's own library."""
    request = google.auth.transport.requests.Request()
    check: Any = id_token.verify_token
    claims: dict[str, Any] = await asyncio.to_thread(
        check, token, request, audience, certs_url=certs_url
    )
    request.session.close()
    return claims


async def test_a_token_is_accepted_by_googles_own_check(
    pubsub: PubSub, http: httpx.AsyncClient
) -> None:
    answer = await ask(http, "POST", "/control/tokens", email=EMAIL, audience="https://api")

    claims = await verified(answer["token"], audience="https://api", certs_url=pubsub.certs_url)

    assert (claims["email"], claims["email_verified"]) == (EMAIL, True)
    assert claims["iss"] == "https://accounts.google.com"
    assert claims["exp"] - claims["iat"] == 3_600


async def test_claims_and_lifetime_are_as_asked_so_that_bad_tokens_can_be_made(
    pubsub: PubSub, http: httpx.AsyncClient
) -> None:
    claims = {"email_verified": False, "iss": "https://example.com"}
    odd = pubsub.signer.mint(email=EMAIL, audience="https://api", claims=claims)
    expired = await ask(
        http, "POST", "/control/tokens", email=EMAIL, audience="https://api", lifetime_seconds=-60
    )

    found = await verified(odd, audience="https://api", certs_url=pubsub.certs_url)
    assert found.items() >= claims.items()
    with pytest.raises(GoogleAuthError, match="expired"):
        await verified(expired["token"], audience="https://api", certs_url=pubsub.certs_url)
    with pytest.raises(GoogleAuthError, match="audience"):
        await verified(odd, audience="https://elsewhere", certs_url=pubsub.certs_url)


async def test_a_token_of_another_cloud_is_refused(pubsub: PubSub) -> None:
    async with PubSub() as other:
        token = other.signer.mint(email=EMAIL, audience="https://api")

        with pytest.raises(GoogleAuthError):
            await verified(token, audience="https://api", certs_url=pubsub.certs_url)


async def test_the_key_set_names_the_key_of_the_certificate(http: httpx.AsyncClient) -> None:
    certificates = await ask(http, "GET", "/oauth2/v1/certs")
    [key] = (await ask(http, "GET", "/oauth2/v3/certs"))["keys"]

    assert list(certificates) == [key["kid"]]
    assert (key["kty"], key["alg"], key["e"]) == ("RSA", "RS256", "AQAB")


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ({"audience": "a"}, "email: is missing"),
        ({"email": EMAIL}, "audience: is missing"),
        ({"email": EMAIL, "audience": 5}, "audience: must be a string"),
        ({"email": EMAIL, "audience": "a", "claims": []}, "claims: must be an object"),
        ({"email": EMAIL, "audience": "a", "scope": "all"}, "scope: there is no such field"),
    ],
    ids=str,
)
async def test_what_no_token_can_be_made_of_is_named(
    http: httpx.AsyncClient, asked: dict[str, Any], complaint: str
) -> None:
    response = await http.post("/control/tokens", json=asked)

    assert response.status_code == 400
    assert complaint in response.json()["error"]["message"]
