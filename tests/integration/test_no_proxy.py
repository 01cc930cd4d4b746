"""What runs on this machine is never reached by way of the proxy that the environment names."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from model_copier.adapters.firestore import FirestoreJobStore
from model_copier.adapters.firestore_documents import Place
from model_copier.adapters.pubsub import PubsubTopics
from model_copier.adapters.vertex import VertexModelService
from model_copier.domain.errors import CopierError
from model_copier.domain.resource_names import ModelName
from model_copier.web.certificates import fetch_from
from simulators import SimulatedClock
from world import SOURCE


@dataclass
class Door:
    """Listens, notes who came, and hangs up."""

    came: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0

    async def serve(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.came.set()
        writer.close()


@pytest.fixture
async def proxy(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Door]:
    async for door in opened():
        for name in ("http_proxy", "https_proxy", "grpc_proxy", "HTTP_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{door.port}")
        for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
            monkeypatch.delenv(name, raising=False)
        yield door


@pytest.fixture
async def here() -> AsyncIterator[Door]:
    async for door in opened():
        yield door


async def opened() -> AsyncIterator[Door]:
    door = Door()
    async with await asyncio.start_server(door.serve, "127.0.0.1", 0) as server:
        door.port = server.sockets[0].getsockname()[1]
        yield door


async def pubsub(place: str, _: pytest.MonkeyPatch) -> None:
    topic = "projects/p-1/topics/t"
    topics = PubsubTopics(
        reply_topic=topic, dead_letter_topic=topic, tick_topic=topic, call_seconds=1,
        emulator_host=place,
    )  # fmt: skip
    try:
        await topics.publish_tick()
    finally:
        await topics.close()


async def vertex(place: str, _: pytest.MonkeyPatch) -> None:
    models = VertexModelService(call_seconds=1, endpoint=f"http://{place}")
    try:
        await models.get_model(ModelName.parse(SOURCE))
    finally:
        await models.close()


async def firestore(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", place)
    store = FirestoreJobStore.open(
        Place(project="p-1", database="(default)", prefix="x"),
        clock=SimulatedClock(),
        call_seconds=1,
    )
    try:
        await store.get("0" * 32)
    finally:
        await store.close()


async def certificates(place: str, _: pytest.MonkeyPatch) -> None:
    await asyncio.to_thread(fetch_from(f"http://{place}/certs"))


@pytest.mark.parametrize("call", [pubsub, vertex, firestore, certificates])
async def test_this_machine_is_reached_directly(
    proxy: Door,
    here: Door,
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[[str, pytest.MonkeyPatch], Awaitable[None]],
):
    """gRPC sends even loopback through ``http_proxy``: https://github.com/grpc/grpc/issues/29718"""
    with suppress(CopierError):
        await call(f"127.0.0.1:{here.port}", monkeypatch)

    assert here.came.is_set()
    assert not proxy.came.is_set()
