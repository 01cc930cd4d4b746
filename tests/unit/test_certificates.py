"""The keys of tokens: fetched once for all, kept, and not lost with the server that has them."""

import asyncio
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from model_copier.domain.errors import UnavailableError
from model_copier.web.certificates import FETCH_PAUSE, LONGEST_KEPT, RETRY_PAUSE, Certificates


@dataclass
class Server:
    """Certificates that can be away, and a clock that is moved by hand."""

    keys: dict[str, str] = field(default_factory=lambda: {"a": "PEM"})
    away: bool = False
    fetches: int = 0
    now: float = 1000.0
    answers: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.answers.set()
        self.certificates = Certificates(fetch=self.fetch, monotonic=lambda: self.now)

    def fetch(self) -> tuple[Mapping[str, str], float]:
        self.fetches += 1
        assert self.answers.wait(10)
        if self.away:
            raise UnavailableError("away")
        return dict(self.keys), 3600.0


async def test_many_callers_at_once_are_one_fetch():
    server = Server()
    server.answers.clear()
    waiting = [asyncio.create_task(server.certificates.of("a")) for _ in range(100)]
    await asyncio.sleep(0)
    server.answers.set()

    found = await asyncio.gather(*waiting)

    assert all(keys == {"a": "PEM"} for keys in found)
    assert server.fetches == 1


async def test_what_is_fresh_is_not_fetched_again():
    server = Server()
    await server.certificates.of("a")
    server.now += 3599

    await server.certificates.of("a")

    assert server.fetches == 1


async def test_a_new_key_is_looked_for_and_found():
    server = Server()
    await server.certificates.of("a")
    server.keys["b"] = "PEM"
    server.now += FETCH_PAUSE

    assert "b" in await server.certificates.of("b")


async def test_keys_that_nobody_has_cannot_make_us_fetch_all_the_time():
    server = Server()
    for number in range(1000):
        await server.certificates.of(f"made-up-{number}")

    assert server.fetches == 1


async def test_a_server_that_is_away_locks_nobody_out_whose_key_is_known():
    server = Server()
    await server.certificates.of("a")
    server.away = True
    server.now += 2 * 3600

    assert await server.certificates.of("a") == {"a": "PEM"}
    assert await server.certificates.of("a") == {"a": "PEM"}
    assert server.fetches == 2  # tried, and then left alone for a while


async def test_a_server_that_comes_back_is_found_soon():
    server = Server(away=True)
    with pytest.raises(UnavailableError):
        await server.certificates.of("a")
    server.away = False
    server.now += RETRY_PAUSE

    assert await server.certificates.of("a") == {"a": "PEM"}


async def test_keys_that_are_too_old_count_for_nothing():
    server = Server()
    await server.certificates.of("a")
    server.away = True
    server.now += LONGEST_KEPT + 1

    with pytest.raises(UnavailableError):
        await server.certificates.of("a")
