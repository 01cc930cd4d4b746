"""``ports.Topics`` over Pub/Sub: what the workflow and ``/ready`` rely on."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from model_copier.adapters.pubsub import PubsubTopics
from model_copier.contract.requests import Message
from model_copier.domain.errors import SetUpError, UnavailableError
from pubsub_clients import Clients, texts

MESSAGE = Message(data=b'{"outcome":"succeeded"}', attributes={"request_id": "r-1", "é": "ü"})


@asynccontextmanager
async def topics(
    address: str, topic: str, *, call_seconds: float = 10
) -> AsyncIterator[PubsubTopics]:
    """Replies, letters and ticks all on one topic."""
    adapter = PubsubTopics(
        reply_topic=topic,
        dead_letter_topic=topic,
        tick_topic=topic,
        call_seconds=call_seconds,
        emulator_host=address,
    )
    yield adapter
    await adapter.close()


@asynccontextmanager
async def denying() -> AsyncIterator[str]:
    """A Pub/Sub that lets nobody do anything."""

    async def deny(_request: bytes, context: Any) -> None:
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, "User not authorized.")

    class Everything(grpc.GenericRpcHandler):
        def service(self, _: grpc.HandlerCallDetails) -> Any:
            return grpc.unary_unary_rpc_method_handler(deny)

    server = grpc.aio.server()
    server.add_generic_rpc_handlers([Everything()])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


async def test_a_topic_that_is_there_passes_and_nothing_is_published(clients: Clients):
    clients.subscribe()

    async with topics(clients.address, clients.topic) as adapter:
        await adapter.check()
        await adapter.check()
        clients.publish("the only one")

    assert texts(clients.wait_and_pull()) == ["the only one"]


async def test_a_topic_that_is_not_there_does_not_pass(clients: Clients):
    async with topics(clients.address, clients.letters) as adapter:
        with pytest.raises(SetUpError, match=rf"{clients.letters}.* 404") as told:
            await adapter.check()
        assert told.value.mends == "gcloud pubsub topics create TOPIC"


async def test_a_topic_passes_as_soon_as_it_is_made(clients: Clients):
    async with topics(clients.address, clients.letters) as adapter:
        with pytest.raises(UnavailableError):
            await adapter.check()
        clients.plain.create_topic(name=clients.letters)

        await adapter.check()


@pytest.mark.parametrize("what", ["reply", "letter"])
async def test_what_is_published_arrives_as_it_was_given(clients: Clients, what: str):
    clients.subscribe()

    async with topics(clients.address, clients.topic) as adapter:
        await {"reply": adapter.publish_reply, "letter": adapter.publish_letter}[what](MESSAGE)

    (received,) = clients.wait_and_pull()
    assert received.message.data == MESSAGE.data
    assert dict(received.message.attributes) == MESSAGE.attributes


async def test_what_cannot_be_published_is_told(clients: Clients):
    async with topics(clients.address, clients.letters) as adapter:
        for publish in (adapter.publish_reply(MESSAGE), adapter.publish_letter(MESSAGE)):
            with pytest.raises(UnavailableError, match=clients.letters):
                await publish
        with pytest.raises(UnavailableError, match=clients.letters):
            await adapter.publish_tick()


# Of servers that no Pub/Sub is, only the adapter is asked


@pytest.mark.parametrize("who", ["nobody", "somebody who says nothing"])
async def test_ours_who_does_not_answer_does_not_pass_and_is_not_waited_for(who: str):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        if who != "nobody":
            taken.listen()
        async with topics(
            f"127.0.0.1:{taken.getsockname()[1]}", "projects/p/topics/t", call_seconds=0.3
        ) as adapter:
            with pytest.raises(UnavailableError, match="projects/p/topics/t"):
                await adapter.check()


async def test_ours_who_may_not_look_at_a_topic_may_publish_all_the_same():
    """The right to publish is not the right to look."""
    async with (
        denying() as address,
        topics(address, "projects/p/topics/t") as adapter,
    ):
        await adapter.check()
        with pytest.raises(UnavailableError):
            await adapter.publish_reply(MESSAGE)


async def test_a_missing_tick_topic_is_logged(clients: Clients, capsys):
    """Red team A.11: a copy goes on without its tick, so nobody else tells of it."""
    async with topics(clients.address, clients.letters) as adapter:
        with pytest.raises(UnavailableError):
            await adapter.publish_tick()

    assert '"message": "tick_not_published"' in capsys.readouterr().out


async def test_a_denied_tick_topic_is_logged(capsys):
    async with denying() as address, topics(address, "projects/p/topics/ticks") as adapter:
        with pytest.raises(UnavailableError) as told:
            await adapter.publish_tick()

    assert "projects/p/topics/ticks" in capsys.readouterr().out
    assert "projects/" not in told.value.told
