"""Request bodies, with limits: of each, and of all that a process holds at once.

The framework sets none. What must not break: large bodies are never more than LARGE_POOL
bytes together, and small ones never wait for them, nor are refused because of them.
"""

import asyncio
from dataclasses import dataclass, field

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from model_copier.errors import UnavailableError

_MEBIBYTE = 1 << 20
# A request of 64 KiB, in base64, with attributes: only what will be refused is larger.
SMALL_BODY = 256 * 1024
SMALL_POOL = 16 * _MEBIBYTE
LARGE_POOL = 48 * _MEBIBYTE
# Whoever takes longer to send a body holds its bytes, or what it announced, for nothing.
READ_SECONDS = 60.0
_KEY = "model_copier.held_bytes"


@dataclass(kw_only=True)
class Bodies:
    """The bytes of all bodies in this process, from when they are announced to the answer."""

    small: int = 0
    large: int = 0

    def held(self, app: ASGIApp) -> ASGIApp:
        """Give each call's bytes back once it is answered."""

        async def holding(scope: Scope, receive: Receive, send: Send) -> None:
            body = _Held(bodies=self)
            try:
                await app({**scope, _KEY: body}, receive, send)
            finally:
                body.grow_to(0)

        return holding


@dataclass
class _Held:
    """The bytes of one call's body."""

    bodies: Bodies = field(repr=False)
    size: int = 0

    def grow_to(self, size: int) -> None:
        """Hold so many bytes; a body that is no longer small moves to the other pool.

        Raises:
            UnavailableError: there is no room for it now.
        """
        before, after = self._in_pools(self.size), self._in_pools(size)
        small = self.bodies.small - before[0] + after[0]
        large = self.bodies.large - before[1] + after[1]
        if size > self.size and (small > SMALL_POOL or large > LARGE_POOL):
            raise UnavailableError("too many bytes of other requests are held; send it again later")
        self.bodies.small, self.bodies.large, self.size = small, large, size

    @staticmethod
    def _in_pools(size: int) -> tuple[int, int]:
        return (size, 0) if size <= SMALL_BODY else (0, size)


async def read_body(request: Request, most_bytes: int) -> bytearray:
    """Return the whole body. Its bytes count until the call is answered.

    Raises:
        HTTPException: 413, as soon as it is known to be too large.
        UnavailableError: there is no room for it now, or it does not come.
    """
    held, body = request.scope[_KEY], bytearray()
    assert isinstance(held, _Held)
    announced = _announced(request)
    _check(announced, most_bytes)
    held.grow_to(announced)
    try:
        async with asyncio.timeout(READ_SECONDS):
            async for chunk in request.stream():
                size = len(body) + len(chunk)
                _check(size, most_bytes)
                held.grow_to(max(announced, size))
                body += chunk
    except TimeoutError as error:
        raise UnavailableError(f"the body did not come within {READ_SECONDS:g} s") from error
    return body


def _announced(request: Request) -> int:
    length = request.headers.get("content-length", "")
    # The server has checked it; a number of more digits than any size would cost time.
    return int(length) if length.isascii() and length.isdigit() and len(length) < 20 else 0


def _check(size: int, most_bytes: int) -> None:
    if size > most_bytes:
        raise HTTPException(413, f"a body has at most {most_bytes} bytes here")
