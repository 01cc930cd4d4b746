"""How tests ask for copies: as any team would, with Google's own client over the socket."""

import asyncio
import json
import os
from typing import Any

from google.cloud import pubsub_v1

from local_cloud.stack import Stack
from local_cloud.topics import REQUESTS, topic_path
from world import REQUEST


def publish(stack: Stack, data: bytes, **attributes: Any) -> str:
    """Publish as any team would: Google's client, found by PUBSUB_EMULATOR_HOST alone."""
    os.environ["PUBSUB_EMULATOR_HOST"] = stack.pubsub.address
    try:
        client = pubsub_v1.PublisherClient()
        try:
            return str(client.publish(topic_path(REQUESTS), data, **attributes).result(10))
        finally:
            client.stop()
            client.transport.close()
    finally:
        del os.environ["PUBSUB_EMULATOR_HOST"]


async def ask(
    stack: Stack,
    request_id: str = "request-1",
    data: object = REQUEST,
    kind: str = "dev.modelcopier.copy.requested.v1",
    **more: str,
) -> str:
    return await asyncio.to_thread(
        publish,
        stack,
        data if isinstance(data, bytes) else json.dumps(data).encode(),
        **{
            "ce-specversion": "1.0",
            "ce-id": request_id,
            "ce-source": "//ec2/test",
            "ce-type": kind,
            "content-type": "application/json",
            **more,
        },
    )


async def wait_for_copies(stack: Stack, count: int) -> None:
    async with asyncio.timeout(20):
        while len(stack.vertex.copy_calls) < count:  # noqa: ASYNC110  a process moves it
            await asyncio.sleep(0.02)


def copies_asked(stack: Stack, model_id: str) -> int:
    """How often Vertex AI was asked for a copy with this id, by its own log."""
    return sum(call.request.get("modelId") == model_id for call in stack.vertex.copy_calls)
