"""Google's own clients, each called the same way, and its programs."""

import asyncio
import contextlib
import inspect
import os
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform_v1 as google
from google.cloud.aiplatform_v1.services.model_service.transports.grpc import (
    ModelServiceGrpcTransport,
)
from google.cloud.aiplatform_v1.services.model_service.transports.grpc_asyncio import (
    ModelServiceGrpcAsyncIOTransport,
)
from google.longrunning import operations_pb2
from google.protobuf import json_format

from local_cloud.vertex import Vertex

SOURCE = "projects/src/locations/us-central1/models/7"
TARGET = "projects/dst/locations/europe-west4"
CATS = f"{TARGET}/models/cats"
DEADLINE_SECONDS = 10.0


class Caller:
    """One of Google's clients, called the same way whatever its colour."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def __call__(self, method: str, request: Any) -> Any:
        bound = getattr(self._client, method)
        if inspect.iscoroutinefunction(bound):
            return await bound(request)
        return await asyncio.to_thread(bound, request)

    async def listed(self, method: str, request: Any) -> list[Any]:
        """Fetch every page of a list."""
        bound = getattr(self._client, method)
        if inspect.iscoroutinefunction(bound):
            return [item async for item in await bound(request)]
        return await asyncio.to_thread(lambda: list(bound(request)))

    async def copy(self, **asked: str) -> Any:
        return await self("copy_model", copy_request(**asked))

    async def waited(self, copy: Any, **asked: str) -> Any:
        """Call WaitOperation once and return what came of it."""
        answer = await self(
            "wait_operation",
            json_format.ParseDict(
                {"name": copy.operation.name, **asked}, operations_pb2.WaitOperationRequest()
            ),
        )
        # Over gRPC the generated client forgets to parse this one answer.
        return operations_pb2.Operation.FromString(answer) if isinstance(answer, bytes) else answer

    async def ended(self, copy: Any) -> Any:
        operation = await self.waited(copy)
        assert operation.done
        return operation

    async def result(self, copy: Any) -> Any:
        """Let Google's own polling fetch what became of a copy."""
        if inspect.iscoroutinefunction(copy.result):
            return await copy.result(timeout=DEADLINE_SECONDS)
        return await asyncio.to_thread(copy.result, timeout=DEADLINE_SECONDS)


def copy_request(**asked: str) -> dict[str, str]:
    return {"parent": TARGET, "source_model": f"{SOURCE}@1", **asked}


@contextlib.asynccontextmanager
async def calling(vertex: Vertex, kind: str) -> AsyncIterator[Caller]:
    if kind == "rest":
        client = google.ModelServiceClient(
            credentials=AnonymousCredentials(),
            transport="rest",
            client_options={"api_endpoint": vertex.rest_url},
        )
        with client:
            yield Caller(client)
    elif kind == "grpc":
        with grpc.insecure_channel(vertex.address) as channel:
            yield Caller(
                google.ModelServiceClient(transport=ModelServiceGrpcTransport(channel=channel))
            )
    else:
        async with grpc.aio.insecure_channel(vertex.address) as channel:
            transport = ModelServiceGrpcAsyncIOTransport(channel=channel)
            yield Caller(google.ModelServiceAsyncClient(transport=transport))


async def until(fact: Callable[[], bool]) -> None:
    """Return when ``fact`` holds, and fail when it does not in time."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not fact():  # noqa: ASYNC110  most facts are in another process
            await asyncio.sleep(0.005)


async def run(*command: str, **environment: str) -> str:
    """Run a program to its end and return what it printed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env=os.environ | environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output.decode()
