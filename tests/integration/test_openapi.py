"""The OpenAPI document against the application: what it allows is answered as it says."""

import re

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from jsonschema import Draft202012Validator
from schemathesis import checks

from model_copier.bootstrap import build_app, routes_of
from model_copier.settings import Settings, TokenChecks
from model_copier.watch import Watch
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
SCHEMA.app = APP
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
    routes = routes_of("api", WORLD.deliveries, WORLD.ticks, SETTINGS, Watch(store=WORLD.store))
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
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
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
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        answer = await client.get(path, headers={"X-Evil": "echo-me"})

    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-request-id"]
    assert "echo-me" not in answer.text + str(answer.headers)
