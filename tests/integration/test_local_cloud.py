"""Both servers as one: what ``async with LocalCloud()`` promises."""

import asyncio
import socket

import grpc
import httpx
import pytest
from google.cloud.aiplatform_v1 import ModelServiceAsyncClient
from google.cloud.aiplatform_v1.services.model_service.transports.grpc_asyncio import (
    ModelServiceGrpcAsyncIOTransport,
)
from google.pubsub_v1 import PublisherAsyncClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcAsyncIOTransport

from local_cloud.cloud import LocalCloud, Ports
from local_cloud.pubsub import Fault, Faults, PubSub, Rates

TOPIC = "projects/p-project/topics/requests"


async def test_both_servers_answer_where_the_exports_say():
    async with LocalCloud() as cloud:
        exports = cloud.exports(project="p-project")
        async with grpc.aio.insecure_channel(exports["PUBSUB_EMULATOR_HOST"]) as channel:
            publisher = PublisherAsyncClient(
                transport=PublisherGrpcAsyncIOTransport(channel=channel)
            )
            await publisher.create_topic(name=TOPIC)
        async with grpc.aio.insecure_channel(exports["VERTEX_GRPC"]) as channel:
            models = ModelServiceAsyncClient(
                transport=ModelServiceGrpcAsyncIOTransport(channel=channel)
            )
            listed = await models.list_models(parent="projects/p-project/locations/us-central1")
        async with httpx.AsyncClient(trust_env=False) as client:
            found = await client.get(f"{exports['PUBSUB_REST']}/v1/{TOPIC}")

    assert found.json()["name"] == TOPIC
    assert list(listed.models) == []
    assert exports["GOOGLE_CLOUD_PROJECT"] == "p-project"


async def test_knobs_are_set_before_and_while_it_runs():
    faults = Faults(Rates(duplicate=0.05, seed=7))

    async with LocalCloud(pubsub=PubSub(faults=faults)) as cloud:
        cloud.pubsub.faults.next_delivery("projects/p/subscriptions/s", Fault.DELAY, times=3)
        assert cloud.pubsub.faults.rates.duplicate == 0.05
        assert cloud.pubsub.counters() == {"topics": {}, "subscriptions": {}}


async def test_where_one_cannot_start_neither_runs():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        cloud = LocalCloud(ports=Ports(vertex_rest=taken.getsockname()[1]))

        with pytest.raises(OSError, match="in use"):
            await cloud.start()

    with pytest.raises(OSError, match="Connect"):
        await asyncio.open_connection(*cloud.pubsub.address.split(":"))
