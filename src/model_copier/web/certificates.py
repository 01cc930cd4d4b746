"""The keys that Google signs tokens with: kept, and fetched once for all who wait for them.

What must not break: nobody outside can make us fetch more often than FETCH_PAUSE, and a
server that is away does not lock out callers whose keys we know.
"""

import asyncio
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

import requests
from google.auth.exceptions import TransportError
from google.auth.transport.requests import Request

from model_copier.domain.errors import UnavailableError
from model_copier.logs import log

FETCH_SECONDS = 5.0
FETCH_PAUSE = 30.0  # between two fetches, whatever asks: a made-up key id costs nothing
RETRY_PAUSE = 2.0  # after one that failed
LONGEST_FRESH = 6 * 3600.0  # Google says about six hours itself
# Keys are rotated with days of overlap; a server that is away this long is somebody's alarm.
LONGEST_KEPT = 24 * 3600.0
_MAX_AGE = re.compile(r"max-age=([0-9]{1,9})")
_AGE = re.compile(r"[0-9]{1,9}")


class Fetch(Protocol):
    """Get certificates in PEM by key id, and for how many seconds they are fresh. Blocks.

    Raises:
        UnavailableError: not now.
    """

    def __call__(self) -> tuple[Mapping[str, str], float]: ...


@dataclass(kw_only=True)
class Certificates:
    """One for each process."""

    fetch: Fetch
    monotonic: Callable[[], float] = time.monotonic
    _kept: Mapping[str, str] = field(default_factory=dict)
    _fetched_at: float = float("-inf")
    _fresh_until: float = float("-inf")
    _next_fetch: float = float("-inf")
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def of(self, key_id: str) -> Mapping[str, str]:
        """Return the certificates, looked up anew where they are old or lack this one.

        Raises:
            UnavailableError: there are none that could be used.
        """
        if not self._will_do(key_id):
            async with self._turn:
                if not self._will_do(key_id):  # else another caller fetched them meanwhile
                    await self._renew()
        if not self._kept or self.monotonic() - self._fetched_at > LONGEST_KEPT:
            told = "the keys that tokens are signed with cannot be fetched"
            raise UnavailableError(told, told=told)
        return self._kept

    def _will_do(self, key_id: str) -> bool:
        now = self.monotonic()
        return now < self._next_fetch or (key_id in self._kept and now < self._fresh_until)

    async def _renew(self) -> None:
        now = self.monotonic()
        try:
            found, fresh_seconds = await asyncio.to_thread(self.fetch)
        except UnavailableError as error:
            self._next_fetch = now + RETRY_PAUSE
            log(
                "certificates_unavailable", severity="WARNING", why=str(error), kept=len(self._kept)
            )
        else:
            self._kept, self._fetched_at = found, now
            self._next_fetch = now + FETCH_PAUSE
            self._fresh_until = now + min(max(fresh_seconds, FETCH_PAUSE), LONGEST_FRESH)


def age_seconds(headers: Mapping[str, str]) -> float:
    """How long ago the answer was made: Google's come from caches, and may be hours old.

    https://www.rfc-editor.org/rfc/rfc9111#section-5.1
    """
    age = headers.get("age", "")
    return float(age) if _AGE.fullmatch(age) else 0.0


def caller_of(url: str) -> Request:
    """Return google-auth's transport; this machine is never reached by way of a proxy."""
    if urlsplit(url).hostname not in {"127.0.0.1", "::1", "localhost"}:
        return Request()
    session = requests.Session()
    session.trust_env = False
    return Request(session=session)


def fetch_from(url: str) -> Fetch:
    """Fetch over HTTP, by google-auth's own transport."""

    def fetch() -> tuple[Mapping[str, str], float]:
        try:
            answer = caller_of(url)(url, method="GET", timeout=FETCH_SECONDS)
        except TransportError as error:
            raise UnavailableError(f"certificates: {error}") from error
        if answer.status != 200:
            raise UnavailableError(f"certificates: {url} answers {answer.status}")
        try:
            found = json.loads(answer.data)
        except ValueError as error:
            raise UnavailableError(f"certificates: {url} holds no JSON") from error
        if not isinstance(found, dict) or not found:
            raise UnavailableError(f"certificates: {url} holds none")
        lasts = _MAX_AGE.search(answer.headers.get("cache-control", ""))
        fresh_seconds = float(lasts[1]) - age_seconds(answer.headers) if lasts else 3600.0
        return {str(k): str(v) for k, v in found.items()}, fresh_seconds

    return fetch
