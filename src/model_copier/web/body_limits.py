"""Request bodies, with limits: of each, and of all that a process holds at once.

The framework sets none. What must not break: large bodies are never more than LARGE_POOL
bytes together, and small ones never wait for them, nor are refused because of them.
"""

import asyncio
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from model_copier.domain.errors import RejectedError, UnavailableError

_MEBIBYTE = 1 << 20
# A request of 64 KiB, in base64, with attributes: only what will be refused is larger.
SMALL_BODY = 256 * 1024
SMALL_POOL = 16 * _MEBIBYTE
LARGE_POOL = 48 * _MEBIBYTE
# Whoever takes longer to send a body holds its bytes, or what it announced, for nothing.
READ_SECONDS = 60.0
_KEY = "model_copier.held_bytes"
_GZIP = 16 + zlib.MAX_WBITS  # with gzip's own header
_PIECE = 64 * 1024


@dataclass(kw_only=True)
class Bodies:
    """The bytes of all bodies in this process, from when they are announced to the answer."""

    small: int = 0
    large: int = 0
    read_seconds: float = READ_SECONDS  # longest that one body may take to come

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
            why = "too many bytes of other requests are held; send it again later"
            raise UnavailableError(why, told=why)
        self.bodies.small, self.bodies.large, self.size = small, large, size

    @staticmethod
    def _in_pools(size: int) -> tuple[int, int]:
        return (size, 0) if size <= SMALL_BODY else (0, size)


async def read_body(request: Request, most_bytes: int) -> bytearray:
    """Return the whole body, as it was before compression. Its bytes count until the call is
    answered, those that are inflated too: a kilobyte may hold a megabyte of zeros.

    Raises:
        HTTPException: 413, as soon as it is known to be too large; 415, an encoding that is not
            read here.
        RejectedError: it is not the gzip that it says it is.
        UnavailableError: there is no room for it now, or it does not come.
    """
    held, body, received = request.scope[_KEY], bytearray(), 0
    assert isinstance(held, _Held)
    inflating = _Inflating() if _is_gzip(request) else None
    announced = _announced(request)
    _check(announced, most_bytes)
    held.grow_to(announced)
    try:
        async with asyncio.timeout(held.bodies.read_seconds):
            async for chunk in request.stream():
                received += len(chunk)
                _check(received, most_bytes)
                for piece in [chunk] if inflating is None else inflating.pieces(chunk):
                    size = len(body) + len(piece)
                    _check(size, most_bytes)
                    held.grow_to(max(announced, size))
                    body += piece
    except TimeoutError as error:
        why = f"the body did not come within {held.bodies.read_seconds:g} s"
        raise UnavailableError(why, told=why) from error
    if inflating is not None:
        inflating.end()
    return body


class _Inflating:
    """One gzip member, inflated a piece at a time: the caller counts each before the next."""

    def __init__(self) -> None:
        self._reader = zlib.decompressobj(_GZIP)

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        """Inflate the next bytes of it.

        Raises:
            RejectedError: they are no gzip, or follow its end.
        """
        left = chunk
        while True:
            try:
                piece = self._reader.decompress(left, _PIECE)
            except zlib.error as error:
                raise RejectedError(f"Content-Encoding: the body is not gzip: {error}") from error
            if self._reader.unused_data:
                raise _not_one_member()
            if piece:
                yield piece
            left = self._reader.unconsumed_tail
            # What does not fit into a piece is kept by zlib itself, with nothing left to read.
            if not left and len(piece) < _PIECE:
                return

    def end(self) -> None:
        """Say that nothing follows.

        Raises:
            RejectedError: something should.
        """
        if not self._reader.eof:
            raise _not_one_member()


def _is_gzip(request: Request) -> bool:
    """Tell how the body is encoded.

    Raises:
        HTTPException: 415: in another way.
    """
    encodings = request.headers.getlist("content-encoding")
    names = [name.strip().lower() for each in encodings for name in each.split(",") if name.strip()]
    match [name for name in names if name != "identity"]:
        case []:
            return False
        case ["gzip" | "x-gzip"]:
            return True
        case _:
            raise HTTPException(
                415,
                "Content-Encoding: send gzip or none",
                headers={"Accept-Encoding": "gzip, identity"},
            )


def _not_one_member() -> RejectedError:
    return RejectedError("Content-Encoding: the body is not one whole gzip member")


def _announced(request: Request) -> int:
    length = request.headers.get("content-length", "")
    # The server has checked it; a number of more digits than any size would cost time.
    return int(length) if length.isascii() and length.isdigit() and len(length) < 20 else 0


def _check(size: int, most_bytes: int) -> None:
    if size > most_bytes:
        raise HTTPException(413, f"a body has at most {most_bytes} bytes here")
