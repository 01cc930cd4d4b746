"""Locations with a port of their own answer as Google's hosts do: their own names, no others."""

import asyncio
import urllib.error
import urllib.request
from collections.abc import AsyncIterator

import pytest

from local_cloud.vertex import Vertex
from model_copier.adapters.vertex import VertexModelService, endpoints_of
from model_copier.domain.errors import Code, RefusedError
from model_copier.domain.resource_names import ModelName
from model_copier.domain.vertex_types import CopyCall

IN_US = ModelName.parse("projects/src/locations/us/models/7")
REGIONAL = ModelName.parse("projects/src/locations/us-central1/models/8")


@pytest.fixture
async def vertex() -> AsyncIterator[Vertex]:
    vertex = Vertex(copy_seconds=0, locations=["us", "us-central1"])
    vertex.add_model(str(IN_US))
    vertex.add_model(str(REGIONAL))
    async with vertex:
        yield vertex


async def test_adapter_reads_and_copies_at_each_location(vertex: Vertex):
    models = VertexModelService(call_seconds=5, endpoint=vertex.endpoint)
    call = CopyCall(
        source=IN_US.at("1"), target_location="projects/dst/locations/us", model_id="copied"
    )

    regional, multi = await models.get_model(REGIONAL), await models.get_model(IN_US)
    started = await models.copy_model(call)
    ended = await models.get_operation(started.name)
    await models.close()

    assert (regional.name.location, multi.name.location) == ("us-central1", "us")
    assert ended.model == ModelName.parse("projects/dst/locations/us/models/copied@1")


async def test_wrong_port_serves_no_such_name(vertex: Vertex):
    """The world answers so where a client dials us-aiplatform.googleapis.com for `us`."""
    wrong = VertexModelService(
        call_seconds=5, endpoint=f"http://{vertex.address_of('us-central1')}"
    )

    with pytest.raises(RefusedError, match="http2 header with status: 404") as refusal:
        await wrong.get_model(IN_US)
    await wrong.close()

    assert refusal.value.code is Code.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("aiplatform.us.rep.googleapis.com", 200),
        ("us-aiplatform.googleapis.com", 404),
        ("us-central1-aiplatform.googleapis.com", 404),
        ("aiplatform.eu.rep.googleapis.com", 404),
        ("aiplatform.googleapis.com", 404),
        ("localhost", 200),
    ],
)
async def test_host_header_decides_over_rest(vertex: Vertex, host: str, status: int):
    request = urllib.request.Request(f"{vertex.rest_url}/v1/{IN_US}", headers={"Host": host})

    assert await asyncio.to_thread(_status, request) == status


async def test_zone_is_served_nowhere(vertex: Vertex):
    request = f"{vertex.rest_url}/v1/projects/src/locations/us-central1-a/models"

    assert await asyncio.to_thread(_status, request) == 404


def _status(request: urllib.request.Request | str) -> int:
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_endpoint_of_one_location_is_read():
    assert endpoints_of("http://h:1,us=http://h:2") == {"": "h:1", "us": "h:2"}
    assert endpoints_of("") == {}
