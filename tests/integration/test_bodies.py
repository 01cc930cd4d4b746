"""The bytes that a process holds are bounded; small bodies never wait for large ones."""

import asyncio
import base64
import gzip
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from model_copier.app import build_app
from model_copier.settings import Settings, TokenChecks
from model_copier.web.body_limits import LARGE_POOL, SMALL_BODY, SMALL_POOL, Bodies
from world import SOURCE_PROJECT, TARGET_PROJECT, World

SETTINGS = Settings(
    source_project=SOURCE_PROJECT,
    target_project=TARGET_PROJECT,
    store="sqlite:///unused",
    token_checks=TokenChecks.NONE,
    follow_seconds=0,
)
MEBIBYTE = 1 << 20


@pytest.fixture
def held() -> Bodies:
    """What the application of a process counts in."""
    return Bodies()


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def http(world: World, held: Bodies) -> AsyncIterator[httpx.AsyncClient]:
    assert held.small == 0
    app = build_app("all", world.deliveries, world.ticks, SETTINGS, bodies=held)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as c:
        yield c


def pushed(size: int, number: int = 0) -> bytes:
    data = base64.b64encode(b"x" * size).decode()
    return json.dumps({"message": {"messageId": f"m{number}", "data": data}}).encode()


async def chunks(body: bytes, go_on: asyncio.Event | None = None) -> AsyncIterator[bytes]:
    """The body in two parts; the second one comes when it may."""
    yield body[: len(body) // 2]
    if go_on:
        await go_on.wait()
    yield body[len(body) // 2 :]


async def read_so_far(held: Bodies, size: int) -> None:
    async with asyncio.timeout(10):
        while held.small + held.large < size:  # noqa: ASYNC110  others move it
            await asyncio.sleep(0)


@pytest.mark.parametrize("announced", [True, False])
async def test_large_bodies_beyond_the_room_are_503(http, held, world, announced):
    """At once, and later the same message is taken; whether its length is known or not."""
    body, go_on = pushed(9_900_000), asyncio.Event()
    headers = {"content-length": str(len(body))} if announced else {}
    room = LARGE_POOL // len(body) if announced else 2 * LARGE_POOL // len(body)
    waiting = [
        asyncio.create_task(
            http.post("/pubsub/requests", content=chunks(body, go_on), headers=headers)
        )
        for _ in range(room)
    ]
    await read_so_far(held, room * len(body) // (1 if announced else 2))

    refused = await http.post("/pubsub/requests", content=chunks(body), headers=headers)
    small = await http.post("/pubsub/requests", content=pushed(10))

    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) > 0
    assert small.status_code == 204
    go_on.set()
    first = await asyncio.gather(*waiting)
    assert 204 in {each.status_code for each in first} <= {204, 503}
    assert (held.small, held.large) == (0, 0)
    assert (await http.post("/pubsub/requests", content=body)).status_code == 204
    assert {len(letter.data) for letter in world.topics.letters} == {9_900_000, 10}


async def test_small_bodies_have_room_of_their_own(http, held):
    held.large = LARGE_POOL

    assert (await http.post("/pubsub/requests", content=pushed(60_000))).status_code == 204
    assert (await http.post("/pubsub/requests", content=pushed(SMALL_BODY))).status_code == 503
    assert held.large == LARGE_POOL


async def test_small_bodies_are_bounded_too(http, held):
    held.small = SMALL_POOL

    for path in ("/pubsub/requests", "/pubsub/ticks", "/pubsub/dead-letters", "/v1/models/copy"):
        assert (await http.post(path, content=pushed(10))).status_code == 503
    assert (await http.get("/health")).status_code == 200


async def test_a_length_that_is_too_large_is_413_at_once(http, held):
    """Nothing of it is read."""

    read: list[bytes] = []

    async def body() -> AsyncIterator[bytes]:
        read.append(b"x")
        yield b"x"

    headers = {"content-length": str(17 * MEBIBYTE)}
    answer = await http.post("/pubsub/requests", content=body(), headers=headers)

    assert answer.status_code == 413
    assert (read, held.large) == ([], 0)


async def test_a_body_that_does_not_come_gives_its_room_back(http, held):
    held.read_seconds = 0.01
    body, never = pushed(9_900_000), asyncio.Event()
    headers = {"content-length": str(len(body))}

    answer = await http.post("/pubsub/requests", content=chunks(body, never), headers=headers)

    assert answer.status_code == 503
    assert "did not come" in answer.json()["detail"]
    assert (held.small, held.large) == (0, 0)


async def test_many_large_messages_are_kept_each(http, world):
    """Two at a time are worked on; the others wait, read."""
    answers = await asyncio.gather(
        *(http.post("/pubsub/requests", content=pushed(1_000_000, number)) for number in range(20))
    )

    assert {answer.status_code for answer in answers} == {204}
    assert len({letter.attributes["outcome_id"] for letter in world.topics.letters}) == 20


async def test_a_tick_that_is_too_long_is_only_a_tick(http, world):
    """No log entry is so long; a deeply nested one would take memory to read."""
    data = b'{"operation": {"first": true, "id": "x"}, "more": [' + b"[]," * 200_000 + b"[]]}"
    message = {"messageId": "1", "data": base64.b64encode(data).decode()}
    await world.deliver()
    await asyncio.sleep(0)
    world.clock.advance(120)

    answer = await http.post("/pubsub/ticks", json={"message": message})

    assert answer.status_code == 204
    assert [reply["outcome"] for reply in world.replies] == ["succeeded"]


async def test_inflated_bytes_are_counted(http, held):
    """A kilobyte of gzip takes the room of what it holds, and gives it back."""
    headers = {"content-encoding": "gzip", "content-type": "application/json"}
    held.large = LARGE_POOL - MEBIBYTE
    bomb = gzip.compress(bytes(8 * MEBIBYTE), mtime=0)

    full = await http.post("/pubsub/requests", content=bomb, headers=headers)

    assert full.status_code == 503
    assert "too many bytes" in full.json()["detail"]
    assert (held.small, held.large) == (0, LARGE_POOL - MEBIBYTE)


async def test_inflation_stops_at_the_limit(http, held):
    headers = {"content-encoding": "gzip"}
    bomb = gzip.compress(bytes(64 * MEBIBYTE), mtime=0)

    answer = await http.post("/pubsub/requests", content=bomb, headers=headers)

    assert answer.status_code == 413
    assert (held.small, held.large) == (0, 0)


async def test_a_compressed_message_is_read_in_pieces(http, world):
    """Whatever the pieces are in which it comes."""
    compressed = gzip.compress(pushed(3 * MEBIBYTE), mtime=0)

    async def bytes_of_it() -> AsyncIterator[bytes]:
        for start in range(0, len(compressed), 7):
            yield compressed[start : start + 7]

    answer = await http.post(
        "/pubsub/requests", content=bytes_of_it(), headers={"content-encoding": "gzip"}
    )

    assert answer.status_code == 204
    assert len(world.topics.letters[0].data) == 3 * MEBIBYTE


@pytest.mark.parametrize(
    "body",
    [
        gzip.compress(b"{}", mtime=0)[:-1],
        gzip.compress(b"{}", mtime=0) + b"more",
        gzip.compress(b"{}", mtime=0) * 2,
        b"",
        b"no gzip",
    ],
)
async def test_broken_gzip_is_400(http, held, body):
    answer = await http.post("/pubsub/requests", content=body, headers={"content-encoding": "gzip"})

    assert answer.status_code == 400
    assert "Content-Encoding" in answer.json()["detail"]
    assert (held.small, held.large) == (0, 0)
