"""The clock in ``/ready``, and how long keys are fresh: by what a server of keys says of time."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest

from local_cloud.pubsub import PubSub
from model_copier.app import build_app
from model_copier.settings import Settings
from model_copier.web.certificates import fetch_from
from world import SOURCE_PROJECT, TARGET_PROJECT, World

MAX_SKEW_SECONDS = 10


@contextmanager
def keys_served_with(**headers: str) -> Iterator[str]:
    """A server of keys that answers with these headers and no others."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(200)
            for name, value in {**headers, "Content-Length": "11"}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(b'{"a":"PEM"}')

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/certs"
        server.shutdown()


def seconds_ago(seconds: float) -> str:
    return formatdate(time.time() - seconds, usegmt=True)


async def ready(certs_url: str) -> httpx.Response:
    """Ask an api that checks tokens with the keys of this server."""
    world = World()
    world.clock.at = datetime.now(UTC)
    settings = Settings(
        source_project=SOURCE_PROJECT,
        target_project=TARGET_PROJECT,
        store="sqlite:///unused",
        audience=("https://copier.example",),
        certs_url=certs_url,
        max_skew_seconds=MAX_SKEW_SECONDS,
    )
    app = build_app("api", world.deliveries, world.ticks, settings)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return await client.get("/ready")


@pytest.mark.parametrize(
    ("made_seconds_ago", "age"),
    [
        (0, {}),
        (MAX_SKEW_SECONDS - 5, {}),
        (5_059, {"Age": "5059"}),  # Google's often come from a cache
    ],
)
async def test_a_clock_that_agrees_with_google_s_is_ok(
    made_seconds_ago: float, age: Mapping[str, str]
):
    with keys_served_with(Date=seconds_ago(made_seconds_ago), **age) as url:
        answer = await ready(url)

    assert (answer.status_code, answer.json()["checks"]["clock"]) == (200, "ok")


@pytest.mark.parametrize(
    ("made_seconds_ago", "age"),
    [(600, {}), (-600, {}), (5_059, {"Age": "4000"}), (600, {"Age": "soon"})],
)
async def test_a_clock_that_is_off_is_not_ready(made_seconds_ago: float, age: Mapping[str, str]):
    with keys_served_with(Date=seconds_ago(made_seconds_ago), **age) as url:
        answer = await ready(url)

    assert answer.status_code == 503
    assert answer.json()["detail"] == "clock is further from Google's than MAX_SKEW_SECONDS"


@pytest.mark.parametrize("headers", [{}, {"Date": "today"}, {"Date": ""}])
async def test_where_nothing_tells_the_time_that_is_said_and_stops_nobody(
    headers: Mapping[str, str],
):
    with keys_served_with(**headers) as url:
        answer = await ready(url)

    assert answer.status_code == 200
    assert answer.json()["checks"]["clock"] == (
        "not checked: the server of CERTS_URL sends no Date; see docs/rest.md"
    )


async def test_keys_that_cannot_be_reached_stop_nobody_who_is_known():
    answer = await ready("http://127.0.0.1:9/certs")

    assert answer.status_code == 200
    assert answer.json()["checks"]["clock"] == "not checked: CERTS_URL cannot be reached"


async def test_the_local_cloud_tells_the_time_as_google_does():
    async with PubSub() as cloud:
        answer = await ready(cloud.certs_url)

    assert answer.json()["checks"]["clock"] == "ok"


@pytest.mark.parametrize(
    ("headers", "fresh_seconds"),
    [
        ({"Cache_Control": "public, max-age=21600, must-revalidate"}, 21_600),
        ({"Cache_Control": "public, max-age=21600", "Age": "5059"}, 16_541),
        ({"Cache_Control": "no-cache"}, 3_600),
        ({}, 3_600),
    ],
)
def test_keys_are_fresh_for_what_is_left_of_their_time(
    headers: Mapping[str, str], fresh_seconds: float
):
    with keys_served_with(**headers) as url:
        assert fetch_from(url)() == ({"a": "PEM"}, fresh_seconds)
