"""The api as callers with only curl or requests meet it: a process of its own, on the same jobs."""

from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from asking import copies_asked
from local_cloud.stack import Stack
from world import TARGET

ASK = {
    "source_model_id": "7704127342733426688",
    "destination_model_id": "target-model-260213",
}


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=stack.api.url, timeout=30) as client:
        yield client


def copying_to(model_id: str) -> dict[str, str]:
    return ASK | {"destination_model_id": model_id}


async def test_the_seeds_call_waits_and_gets_the_name_of_the_copy(stack, http):
    answer = await http.post("/v1/models/copy", params=ASK)

    assert answer.status_code == 200
    assert answer.json()["status"] == "success"
    assert answer.json()["resource_name"] == TARGET
    assert len(stack.vertex.versions(TARGET)) == 1


async def test_the_same_key_again_is_the_same_copy(stack, http):
    key = {"Idempotency-Key": "nightly-1"}

    first = await http.post("/v1/models/copy", json=copying_to("twice"), headers=key)
    second = await http.post("/v1/models/copy", json=copying_to("twice"), headers=key)

    assert first.json() == second.json()
    assert copies_asked(stack, "twice") == 1


async def test_who_does_not_wait_is_told_where_to_look(http):
    headers = {"Prefer": "respond-async", "Idempotency-Key": "later"}

    answer = await http.post("/v1/models/copy", json=copying_to("later"), headers=headers)
    shown = await http.get(answer.headers["Location"])
    unknown = await http.get("/v1/copies/nobody")

    assert answer.status_code == 202
    assert shown.json()["request_id"] == "later"
    assert shown.json()["done"] is False
    assert unknown.status_code == 404


async def test_what_is_wrong_is_a_problem_that_names_the_field(http):
    answer = await http.post("/v1/models/copy", params=copying_to("Faker-251230"))

    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"].startswith("destination_model_id: 'Faker-251230'")


async def test_a_copy_that_fails_is_a_problem_with_its_reason(stack, http):
    stack.vertex.faults.copy_fails(times=1)

    answer = await http.post("/v1/models/copy", params=copying_to("fails"))

    assert answer.status_code == 403
    assert "roles/aiplatform.serviceAgent" in answer.json()["detail"]
    assert answer.json()["copy"]["outcome"] == "failed"


async def test_a_copy_that_was_cancelled_is_no_success(stack, http):
    headers = {"Prefer": "respond-async", "Idempotency-Key": "ends-early"}
    stack.vertex.copy_seconds = 30
    try:
        await http.post("/v1/models/copy", json=copying_to("ends-early"), headers=headers)
    finally:
        stack.vertex.copy_seconds = 0.5
    await http.post("/v1/copies/ends-early:cancel")

    answer = await http.post(
        "/v1/models/copy",
        json=copying_to("ends-early"),
        headers={"Idempotency-Key": "ends-early"},
    )

    assert answer.status_code == 409
    assert answer.json()["copy"]["outcome"] == "cancelled"


async def test_a_path_with_a_line_break_is_a_problem(http):
    """The framework's own 404 is plain text, without a request id."""
    answer = await http.get("/v1/copies/a%0Ab")

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"]


async def test_only_the_contracts_paths_are_there(http):
    health = await http.get("/health")
    lost = await http.get("/pubsub/requests")
    wrong = await http.get("/v1/models/copy")

    assert (health.status_code, lost.status_code, wrong.status_code) == (200, 404, 405)
    assert lost.headers["content-type"] == "application/problem+json"
