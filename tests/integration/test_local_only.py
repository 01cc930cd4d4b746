"""Where tokens are not checked: programs of this machine get in, web pages and others do not."""

from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest

from local_cloud.cloud import LocalCloud
from model_copier.app import build_app
from model_copier.settings import Settings, TokenChecks
from world import SOURCE_PROJECT, TARGET_PROJECT, World

SETTINGS = Settings(
    source_project=SOURCE_PROJECT,
    target_project=TARGET_PROJECT,
    store="sqlite:///unused",
    token_checks=TokenChecks.NONE,
)
EVIL = "https://evil.example"
# As browsers send it for a page that is open in them.
OF_PAGES = {
    "a page of another site": {"Origin": EVIL, "Content-Type": "text/plain"},
    "a page without an origin": {"Origin": "null"},
    "a name made to mean this machine": {"Host": "evil.example"},
    "that name, with a port": {"Host": "evil.example:8080", "Origin": "http://evil.example:8080"},
    "a name that begins as ours": {"Host": "localhost.evil.example"},
    "an address that begins as ours": {"Host": "127.0.0.1.evil.example"},
    "another machine's address": {"Host": "10.0.0.7"},
    "an image of another site": {"Sec-Fetch-Site": "cross-site"},
    "a page of another port here": {"Sec-Fetch-Site": "same-site"},
    "an origin of another port here": {"Origin": "http://localhost:3000"},
}
OF_PROGRAMS = [
    {},
    {"Host": "localhost:8080"},
    {"Host": "127.0.0.1"},
    {"Host": "[::1]:8080"},
    {"Host": "copier.localhost"},
    {"Host": "localhost:8080", "Origin": "http://localhost:8080", "Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},
]
WAYS = [
    ("POST", "/v1/models/copy"),
    ("GET", "/v1/copies"),
    ("POST", "/v1/copies/x:cancel"),
    ("POST", "/pubsub/requests"),
    ("POST", "/pubsub/ticks"),
    ("POST", "/"),
    ("GET", "/ready"),
]


def client(
    *, address: str = "127.0.0.1", checks: TokenChecks = TokenChecks.NONE
) -> tuple[httpx.AsyncClient, World]:
    world = World()
    app = build_app("all", world.deliveries, world.ticks, replace(SETTINGS, token_checks=checks))
    transport = httpx.ASGITransport(app=app, client=(address, 5000))
    return httpx.AsyncClient(transport=transport, base_url="http://localhost"), world


@pytest.mark.parametrize("page", OF_PAGES)
async def test_a_web_page_gets_nothing(page: str, capsys):
    http, world = client()

    async with http:
        for method, path in WAYS:
            answer = await http.request(method, path, headers=OF_PAGES[page], content=b"{}")
            assert answer.status_code == 403, path
            assert answer.json()["code"] == "PERMISSION_DENIED"

    assert not world.store.jobs
    assert not world.topics.letters
    assert '"message": "refused"' in capsys.readouterr().out


@pytest.mark.parametrize("address", ["10.0.0.7", "192.168.1.5", "2001:db8::1", "::ffff:10.0.0.7"])
async def test_another_machine_gets_nothing(address: str):
    """Even where the framework was told to listen on every address."""
    http, _ = client(address=address)

    async with http:
        assert (await http.get("/v1/copies")).status_code == 403


@pytest.mark.parametrize("headers", OF_PROGRAMS)
@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "127.8.0.1"])
async def test_a_program_of_this_machine_gets_in(headers: dict[str, str], address: str):
    http, _ = client(address=address)

    async with http:
        assert (await http.get("/v1/copies", headers=headers)).status_code == 200


async def test_where_tokens_are_checked_names_do_not_count():
    """Cloud Run calls the service by its own names; the token is the wall."""
    http, _ = client(address="10.0.0.7", checks=TokenChecks.VERIFY)

    async with http:
        answer = await http.get("/v1/copies", headers={"Host": "copier.run.app"})

    assert answer.status_code == 401


@pytest.fixture
async def cloud() -> AsyncIterator[LocalCloud]:
    async with LocalCloud() as cloud:
        yield cloud


@pytest.mark.parametrize("page", OF_PAGES)
async def test_the_local_cloud_answers_no_web_page(cloud: LocalCloud, page: str):
    """Its servers check nobody: a page could publish, make tokens and order faults."""
    pubsub, vertex = cloud.pubsub.rest_url, cloud.vertex.rest_url
    places = [
        f"{pubsub}/v1/projects/p/topics/t:publish",
        f"{pubsub}/control/tokens",
        f"{pubsub}/control/faults",
        f"{vertex}/control/faults",
        f"{vertex}/control/log",
        f"{vertex}/v1/projects/p/locations/l/models",
    ]

    async with httpx.AsyncClient(trust_env=False) as http:
        for place in places:
            for method in ("GET", "POST", "PUT", "OPTIONS"):
                answer = await http.request(method, place, headers=OF_PAGES[page], content=b"{}")
                assert answer.status_code == 403, (method, place)
                assert "access-control-allow-origin" not in answer.headers


async def test_the_local_cloud_answers_programs(cloud: LocalCloud):
    async with httpx.AsyncClient(trust_env=False) as http:
        for host in ("localhost", "127.0.0.1:1", "[::1]"):
            place = f"{cloud.pubsub.rest_url}/v1/projects/p/topics"
            assert (await http.get(place, headers={"Host": host})).status_code == 200
