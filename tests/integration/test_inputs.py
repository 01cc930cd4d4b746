"""Whatever reaches the worker is answered, told and kept; a thousand inputs of every kind.

``make soak-input`` posts a hundred thousand.
"""

import asyncio
import base64
import json
import sqlite3
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import rubbish
from model_copier.adapters.sqlite import SqliteJobStore
from model_copier.app import build_app
from model_copier.contract.requests import MAX_ATTRIBUTES, Contract, Received
from ordeal import MOST_SCENES, SETTINGS, Ordeal, StrictTopics, ordeal
from world import CONTRACT, World, request

histories = st.lists(
    st.randoms(use_true_random=False).map(rubbish.any_scene), min_size=1, max_size=MOST_SCENES
).map(lambda scenes: list(chain.from_iterable(scenes)))


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """One loop for all histories: starting one for each would take most of the time."""
    with asyncio.Runner() as started:
        yield started


@pytest.fixture
def trial(runner: asyncio.Runner, tmp_path: Path) -> Iterator[Ordeal]:
    opened = AsyncExitStack()
    yield runner.run(opened.enter_async_context(ordeal(tmp_path / "jobs.db")))
    runner.run(opened.aclose())


def test_whatever_is_posted_is_answered_told_and_kept(runner: asyncio.Runner, trial: Ordeal):
    @settings(
        max_examples=300,  # histories of about four inputs
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(histories)
    def endure(history: list[rubbish.Input]) -> None:
        runner.run(trial.endure(history))

    endure()

    assert trial.inputs >= 1000
    assert trial.unreached() == set()


# Envelopes that Pub/Sub would not send


@pytest.mark.parametrize(
    "broken",
    [
        {"attributes": {"ce-source": "\ud800"}},
        {"attributes": {"\ud800": "half of a surrogate pair"}},
        {"attributes": {"": "no name"}},
        {"attributes": {"x" * 257: "a long name"}},
        {"attributes": {"long": "é" * 513}},
        {"attributes": {f"own{number}": "" for number in range(101)}},
        {"attributes": {"number": 7}},
        {"attributes": []},
        {"messageId": "\ud800", "attributes": {"ce-id": "1"}},
        {"messageId": "1" * 1025, "attributes": {"ce-id": "1"}},
        {"data": "?", "attributes": dict(request(request_id="1").attributes)},
        {"data": 0},
        {"data": []},
    ],
    ids=ascii,
)
async def test_what_no_letter_could_carry_as_it_is_is_kept_as_a_whole(broken: dict[str, object]):
    world = World(topics=StrictTopics())
    envelope = {"message": {"messageId": "1", "data": "e30=", **broken}}

    answer = await post(world, envelope)

    assert answer.status_code == 204
    (letter,), (reply,) = world.topics.letters, world.replies
    assert json.loads(letter.data) == envelope
    assert reply["request_id"] == "1"
    assert reply["error"]["message"].startswith("push: has ")
    assert "request_digest" not in reply


async def test_what_is_larger_than_any_message_is_refused_at_the_door():
    """No letter could hold it, and Pub/Sub would not have taken it."""
    world = World(topics=StrictTopics())

    data = base64.b64encode(b"x" * 10_000_001).decode()

    answer = await post(world, {"message": {"messageId": "1", "data": data}})

    assert answer.status_code == 413
    assert world.topics.letters == []


# Bugs


class BrokenContract(Contract):
    def read(self, received: Received) -> Any:  # noqa: ARG002
        raise ZeroDivisionError


def broken_world() -> World:
    world = World(topics=StrictTopics())
    world.deliveries.contract = BrokenContract(
        request_topic=CONTRACT.request_topic, defaults=CONTRACT.defaults
    )
    return world


async def post(world: World, envelope: object, path: str = rubbish.REQUESTS) -> httpx.Response:
    app = build_app("worker", world.deliveries, world.ticks, SETTINGS)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return await client.post(path, content=json.dumps(envelope))


def push(received: Received, **fields: object) -> dict[str, object]:
    message = {
        "data": base64.b64encode(received.data).decode(),
        "attributes": dict(received.attributes),
        "messageId": received.message_id,
    }
    return {"message": message, **fields}


@pytest.mark.parametrize("attempt", [5, 6, 100])
async def test_a_message_that_meets_a_bug_for_the_fifth_time_is_kept_and_told(attempt: int):
    world, received = broken_world(), request()

    answer = await post(world, push(received, deliveryAttempt=attempt))

    assert answer.status_code == 204
    (letter,), (reply,) = world.topics.letters, world.replies
    assert letter.data == received.data
    assert "ZeroDivisionError" in letter.attributes["dead_letter_reason"]
    assert reply["error"]["code"] == "INTERNAL"
    assert reply["dead_letter"] == letter.attributes["outcome_id"]


@pytest.mark.parametrize("counted", [{}, {"deliveryAttempt": 1}, {"deliveryAttempt": 4}])
async def test_a_message_that_meets_a_bug_is_delivered_again_at_first(counted: dict[str, int]):
    world, received = broken_world(), request()

    answer = await post(world, push(received, **counted))

    assert answer.status_code == 500
    assert world.topics.letters == world.topics.replies == []


# Limits


async def test_the_largest_message_that_pubsub_takes_is_kept_exactly():
    """With 100 attributes: they make room for the reason, and the bytes stay."""
    world = World(topics=StrictTopics())
    data = bytes(9_999_900)
    attributes = {chr(number): "" for number in range(1, MAX_ATTRIBUTES + 1)}

    answer = await post(world, push(Received(data=data, attributes=attributes, message_id="1")))

    assert answer.status_code == 204
    (letter,), (reply,) = world.topics.letters, world.replies
    assert letter.data == data
    assert letter.attributes == {
        "dead_letter_code": "INVALID_ARGUMENT",
        "dead_letter_reason": "data: has 999 (100 of 100 attributes are left out)",
    }
    assert reply["error"]["message"].startswith("data: has 9999900 bytes")


# Ticks and records


async def test_a_tick_with_rubbish_is_a_tick():
    world = World(topics=StrictTopics())
    await world.deliver()
    world.clock.advance(60)

    answer = await post(world, {"message": {"data": "/w==", "messageId": "1"}}, rubbish.TICKS)

    assert answer.status_code == 204
    assert [reply["outcome"] for reply in world.replies] == ["succeeded"]


async def test_the_audit_log_tells_a_copys_end_before_the_next_tick():
    world = World(topics=StrictTopics())
    await world.deliver()
    world.clock.advance(43)
    entry = {"operation": {"id": world.job.operation, "last": True}}
    later = world.clock.at + timedelta(seconds=60)
    await world.store.save(replace(world.job, due_at=later))

    answer = await post(world, push(request(entry)), rubbish.TICKS)

    assert answer.status_code == 204
    assert [reply["outcome"] for reply in world.replies] == ["succeeded"]


async def test_a_request_whose_record_a_newer_service_wrote_is_left_to_that_one(tmp_path: Path):
    """In the middle of an upgrade, or after a roll-back: Pub/Sub keeps the message."""
    store = await SqliteJobStore.open(tmp_path / "jobs.db", busy_seconds=1)
    world = World(topics=StrictTopics(), store=store)
    await world.deliver()
    with sqlite3.connect(tmp_path / "jobs.db") as newer:
        newer.execute("UPDATE jobs SET record = '[2, {}]'")
    newer.close()

    answer = await post(world, push(request(), deliveryAttempt=50))

    assert answer.status_code == 503
    assert answer.json()["detail"].startswith("this was recorded by another version")
    assert world.topics.letters == []
    await store.close()
