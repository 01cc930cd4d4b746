"""v1beta1 of the local Vertex AI as Google's own client meets it; and what is not built."""

import asyncio
import os
import shutil
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import httpx
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform_v1beta1 as beta
from google.cloud.aiplatform_v1beta1.services.model_service.transports.grpc import (
    ModelServiceGrpcTransport,
)
from google.cloud.aiplatform_v1beta1.services.model_service.transports.rest import (
    ModelServiceRestTransport,
)

from local_cloud.vertex import Vertex
from vertex_clients import CATS, SOURCE, TARGET


@pytest.fixture
async def vertex() -> AsyncIterator[Vertex]:
    cloud = Vertex(copy_seconds=0.05)
    cloud.add_model(SOURCE)
    async with cloud:
        yield cloud


def client(vertex: Vertex, kind: str) -> beta.ModelServiceClient:
    if kind == "grpc":
        channel = grpc.insecure_channel(vertex.address, options=[("grpc.enable_http_proxy", 0)])
        return beta.ModelServiceClient(transport=ModelServiceGrpcTransport(channel=channel))
    host = vertex.rest_url.removeprefix("http://")
    return beta.ModelServiceClient(
        transport=ModelServiceRestTransport(
            host=host,
            url_scheme="http",
            credentials=AnonymousCredentials(),
        )
    )


@pytest.mark.parametrize("kind", ["grpc", "rest"])
async def test_googles_beta_client_copies_a_model(vertex: Vertex, kind: str):
    """It follows the operation by calls that name no version, and unpacks it by its type."""

    def copy() -> beta.CopyModelResponse:
        with client(vertex, kind) as google:
            assert google.get_model(name=SOURCE).name == SOURCE
            asked = {"parent": TARGET, "source_model": SOURCE, "model_id": CATS.rpartition("/")[2]}
            answer: beta.CopyModelResponse = google.copy_model(request=asked).result(timeout=10)
            return answer

    answer = await asyncio.to_thread(copy)

    assert (answer.model, answer.model_version_id) == (CATS, "1")


@pytest.mark.parametrize("path", ["/v1/projects/p/locations/l/endpoints", "/v2/x", "/v1/a%0Ab"])
async def test_what_is_not_built_is_no_outage(vertex: Vertex, path: str):
    """gcloud takes any 5xx for an outage, and tries again for half a minute."""
    async with httpx.AsyncClient(base_url=vertex.rest_url, trust_env=False) as http:
        answer = await http.get(path)

    assert answer.status_code == 404
    assert answer.json()["error"]["status"] == "UNIMPLEMENTED"
    assert "does not serve" in answer.json()["error"]["message"]


@pytest.mark.skipif(not shutil.which("gcloud"), reason="gcloud is not installed on this machine")
async def test_gcloud_says_at_once_what_is_not_built(vertex: Vertex, tmp_path: Path):
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *("gcloud", "ai", "endpoints", "list", "--project=p-1", "--region=us-central1"),
        env=os.environ
        | {
            "CLOUDSDK_CONFIG": str(tmp_path),
            "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM": f"{vertex.rest_url}/",
        },
        stdout=PIPE,
        stderr=PIPE,
    )
    _, complaint = await process.communicate()

    assert process.returncode == 1
    assert "does not serve" in complaint.decode()
    assert time.monotonic() - began < 20
