"""Of a file that has a local ``vertex``: Google's clients of it, and plain HTTP."""

# Fixtures speak by name:
# mypy: allow-untyped-defs, allow-incomplete-defs

from collections.abc import AsyncIterator

import httpx
import pytest

from vertex_clients import Caller, calling


@pytest.fixture(params=["grpc", "grpc_asyncio", "rest"])
async def caller(vertex, request) -> AsyncIterator[Caller]:
    async with calling(vertex, request.param) as caller:
        yield caller


@pytest.fixture
async def http(vertex) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=vertex.rest_url) as client:
        yield client
