"""What becomes of a request that is too much: told, kept, or to be sent again; never lost."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from model_copier.app import build_app
from model_copier.domain.senders import SenderLimits, SenderPolicy
from model_copier.engine.request_handler import RequestHandler
from model_copier.settings import Settings, TokenChecks
from world import CONTRACT, REQUEST, SOURCE_PROJECT, TARGET_PROJECT, World, request

SETTINGS = Settings(
    source_project=SOURCE_PROJECT,
    target_project=TARGET_PROJECT,
    store="sqlite:///unused",
    token_checks=TokenChecks.NONE,
    wait_seconds=0,
)
LIMITS = SenderLimits(max_unfinished=2, requests_per_minute=4, max_waits=1)


@pytest.fixture
def world() -> World:
    world = World()
    world.deliveries = RequestHandler(
        workflow=world.workflow, contract=CONTRACT, senders=SenderPolicy(default=LIMITS)
    )
    return world


@pytest.fixture
async def http(world: World) -> AsyncIterator[httpx.AsyncClient]:
    app = build_app("api", world.deliveries, world.ticks, SETTINGS)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app), base_url="http://localhost"
    ) as c:
        yield c


def asked(number: int, **more: Any) -> dict[str, Any]:
    return {**REQUEST, "destination_model_id": f"target-{number}", **more}


# Messages


async def test_a_request_beyond_the_limit_is_answered_and_kept(world):
    """It can be replayed from its letter, and is a new request then."""
    for number in range(2):
        await world.deliver(request(asked(number), request_id=f"r-{number}"))

    told = await world.deliver(request(asked(2), request_id="r-2"))

    assert told.verdict == "rejected"
    (reply,) = world.replies
    assert (reply["request_id"], reply["outcome"]) == ("r-2", "rejected")
    assert reply["error"]["code"] == "RESOURCE_EXHAUSTED"
    assert "not before 60 seconds" in reply["error"]["hint"]
    (letter,) = world.topics.letters
    assert letter.attributes["dead_letter_code"] == "RESOURCE_EXHAUSTED"

    await world.pass_time(120)
    assert (await world.deliver(request(asked(2), request_id="r-2"))).verdict == "accepted"


async def test_the_same_rejection_is_told_under_one_event_id(world):
    for number in range(2):
        await world.deliver(request(asked(number), request_id=f"r-{number}"))

    for _ in range(2):
        await world.deliver(request(asked(2), request_id="r-2"))

    assert len({reply.attributes["ce-id"] for reply in world.topics.replies}) == 1


async def test_another_sender_is_not_touched(world):
    for number in range(3):
        await world.deliver(request(asked(number), request_id=f"r-{number}"))

    other = request(asked(3), request_id="r-3", **{"ce-source": "//other"})

    assert (await world.deliver(other)).verdict == "accepted"


async def test_a_known_request_is_no_new_one(world):
    """However often it comes, at the limit and below."""
    await world.deliver(request(asked(0), request_id="r-0"))
    for _ in range(5):
        assert (await world.deliver(request(asked(0), request_id="r-0"))).verdict == "duplicate"
    await world.deliver(request(asked(1), request_id="r-1"))

    assert (await world.deliver(request(asked(0), request_id="r-0"))).verdict == "duplicate"
    assert world.topics.letters == []


async def test_questions_of_a_minute_are_bounded(world):
    """A validation reads Vertex AI; what is refused was only a question, so no letter keeps it."""
    for number in range(6):
        question = request(asked(0, validate_only=True), request_id=f"q-{number}")
        await world.deliver(question)

    assert [reply["outcome"] for reply in world.replies] == ["validated"] * 4 + ["rejected"] * 2
    assert world.topics.letters == []
    assert (await world.deliver(request(asked(1), request_id="r-1"))).verdict == "accepted"


# REST


async def post(http: httpx.AsyncClient, number: int, **more: Any) -> httpx.Response:
    return await http.post(
        "/v1/models/copy", json=asked(number, **more), headers={"Idempotency-Key": f"r-{number}"}
    )


async def test_a_copy_beyond_the_limit_is_429(world, http):
    """Nothing of it is kept: the caller knows."""
    for number in range(2):
        assert (await post(http, number)).status_code == 202

    refused = await post(http, 2)

    assert refused.status_code == 429
    assert refused.json()["type"].endswith("/too-many-unfinished")
    assert refused.headers["retry-after"] == "60"
    assert world.topics.letters == []
    assert world.replies == []
    assert (await post(http, 1)).status_code == 202


@pytest.mark.parametrize("path", ["/v1/models/copy", "/v1/copies/a:cancel", "/v1/copies/a:replay"])
async def test_calls_of_a_minute_are_bounded(world, http, path):
    for number in range(4):
        assert (await post(http, number, validate_only=True)).status_code == 200
    world.clock.advance(20)

    refused = await http.post(path)

    assert refused.status_code == 429
    assert refused.json()["type"].endswith("/too-many-requests")
    assert refused.headers["retry-after"] == "40"
    world.clock.advance(40)
    assert (await post(http, 0, validate_only=True)).status_code == 200


async def test_a_wait_beyond_the_limit_is_answered_at_once(world):
    """As one whose time is over: 202 for a copy, the present state for a look."""
    settings = replace(SETTINGS, wait_seconds=30)
    app = build_app("api", world.deliveries, world.ticks, settings)
    with world.deliveries.load.waiting("//model-copier/rest") as held:
        assert held
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="http://localhost", timeout=5
        ) as http:
            answer = await post(http, 0)
            shown = await http.get("/v1/copies/r-0?wait=30")

    assert (answer.status_code, shown.status_code) == (202, 200)
    assert shown.json()["done"] is False
    assert int(shown.headers["retry-after"]) > 0
