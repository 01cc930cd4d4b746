"""The OpenAPI document against the application: what it allows is answered as it says."""

import re
from collections.abc import AsyncIterator
from copy import deepcopy
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from jsonschema import Draft202012Validator
from schemathesis import checks
from starlette.types import Receive, Scope, Send

from model_copier.app import build_app, routes_of
from model_copier.domain.errors import Code, UnavailableError
from model_copier.engine.outcome_waiter import OutcomeWaiter
from model_copier.settings import Settings, TokenChecks
from model_copier.web.openapi import document, page
from world import World

WORLD = World()
SETTINGS = Settings(
    source_project="gemini-fine-tuning-source",
    target_project="gemini-fine-tuning-target",
    store="sqlite:///unused",
    token_checks=TokenChecks.NONE,  # who may call is tried in test_tokens.py
    wait_seconds=0,
)
APP = build_app("api", WORLD.deliveries, WORLD.ticks, SETTINGS)
# Nobody is asked for a token in this world.
SCHEMA = schemathesis.openapi.from_dict({**document(), "security": []})


async def local(scope: Scope, receive: Receive, send: Send) -> None:
    """What the test's client says of where it is would be refused: see test_local_only.py."""
    headers = [(name, value) for name, value in scope.get("headers", []) if name != b"host"]
    here = {"client": ("127.0.0.1", 1), "headers": [(b"host", b"localhost"), *headers]}
    await APP({**scope, **here}, receive, send)


SCHEMA.app = local
checks.load_all_checks()
# What does not hold here, and why.
EXCEPTIONS = {
    # Projects, aliases and sources are refused by the operator's lists, not by their form.
    "positive_data_acceptance",
}
CHECKS = checks.CHECKS.get_by_names(
    [name for name in checks.CHECKS.get_all_names() if name not in EXCEPTIONS]
)


@SCHEMA.parametrize()
@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
def test_nothing_comes_that_the_document_does_not_say(case):
    case.call_and_validate(checks=CHECKS)


def test_every_route_is_in_the_document_and_nothing_else():
    routes = routes_of(
        "api", WORLD.deliveries, WORLD.ticks, SETTINGS, OutcomeWaiter(store=WORLD.store)
    )
    ours = {
        (re.sub(r":copy_id\b", "", route.path), method.lower())
        for route in routes
        for method in (route.methods or ())
        if method != "HEAD"
    } - {("/openapi.json", "get"), ("/docs", "get")}

    said = {(path, method) for path, ways in document()["paths"].items() for method in ways}

    assert said == ours


def test_every_schema_is_one():
    for schema in document()["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


async def test_the_page_loads_nothing_and_runs_nothing():
    transport = httpx.ASGITransport(app=APP)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        answer = await client.get("/docs")

    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["content-security-policy"].startswith(
        "default-src 'none'; style-src 'sha"
    )
    assert not re.search(r"<script|src=|@import|https?://", page())
    for path in document()["paths"]:
        assert path in page()


@pytest.mark.parametrize("path", ["/health", "/v1/copies", "/nowhere"])
async def test_every_answer_has_the_headers_that_harm_nobody(path):
    transport = httpx.ASGITransport(app=APP)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        answer = await client.get(path, headers={"X-Evil": "echo-me"})

    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-request-id"]
    assert "echo-me" not in answer.text + str(answer.headers)


# What every answer has, and no caller looks at.
EVERYWHERE = {
    "cache-control", "content-length", "content-security-policy", "content-type",
    "cross-origin-resource-policy", "referrer-policy", "strict-transport-security",
    "x-content-type-options", "x-frame-options",
}  # fmt: skip
ASK = {"source_model_id": "7704127342733426688", "destination_model_id": "target-model-260213"}


def closed() -> dict[str, Any]:
    """The document, and nothing that it does not name is allowed."""
    found = deepcopy(document())
    del found["components"]["schemas"]["Problem"]["additionalProperties"]
    return found


def unsaid(path: str, answer: httpx.Response) -> list[str]:
    """What of an answer the document does not name."""
    found = closed()
    said = found["paths"][path][answer.request.method.lower()]["responses"][str(answer.status_code)]
    headers = answer.headers.keys() - EVERYWHERE - {name.lower() for name in said["headers"]}
    (content,) = said["content"].values()
    schema = {**content, "components": found["components"], **content["schema"]}
    wrong = Draft202012Validator(schema | {"unevaluatedProperties": False}).iter_errors(
        answer.json()
    )
    return [*sorted(headers), *(error.message for error in wrong)]


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def http(world: World) -> AsyncIterator[httpx.AsyncClient]:
    app = build_app("api", world.deliveries, world.ticks, SETTINGS)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client


async def test_what_is_told_of_a_copy_is_in_the_document(world, http):
    prefer = {"Idempotency-Key": "first", "Prefer": "respond-async"}
    pending = await http.post("/v1/models/copy", json=ASK, headers=prefer)
    shown = await http.get("/v1/copies/first")
    await world.pass_time(60)
    there = await http.post("/v1/models/copy", json=ASK, headers=prefer)
    too_late = await http.post("/v1/copies/first:cancel")

    assert [pending.status_code, there.status_code] == [202, 200]
    assert too_late.json()["copy"]["done"]
    assert "retry-after" in shown.headers
    assert there.headers["preference-applied"] == "respond-async"
    assert unsaid("/v1/models/copy", pending) == []
    assert unsaid("/v1/models/copy", there) == []
    assert unsaid("/v1/copies/{id}", shown) == []
    assert unsaid("/v1/copies/{id}:cancel", too_late) == []


@pytest.mark.parametrize(
    "code",
    [
        Code.PERMISSION_DENIED, Code.NOT_FOUND, Code.ALREADY_EXISTS, Code.FAILED_PRECONDITION,
        Code.RESOURCE_EXHAUSTED, Code.INTERNAL, Code.DEADLINE_EXCEEDED,
    ],
)  # fmt: skip
async def test_what_is_told_of_a_copy_that_failed_is_in_the_document(world, http, code):
    world.models.dooms = [code] * 10
    prefer = {"Idempotency-Key": "first", "Prefer": "respond-async"}
    await http.post("/v1/models/copy", json=ASK, headers=prefer)
    await world.pass_time(3600)

    failed = await http.post("/v1/models/copy", json=ASK, headers=prefer)

    assert failed.json()["copy"]["outcome"] == "failed"
    assert unsaid("/v1/models/copy", failed) == []


@pytest.mark.parametrize("status", [200, 503])
async def test_what_is_told_of_the_parts_is_in_the_document(world, http, status):
    async def away() -> None:
        raise UnavailableError("on purpose")

    if status == 503:
        world.topics.check = away
    ready = await http.get("/ready")
    alive = await http.get("/health")

    assert (ready.status_code, "checks" in ready.json()) == (status, True)
    assert unsaid("/ready", ready) == []
    assert unsaid("/health", alive) == []
