"""Request bodies, with a limit: the framework sets none."""

import zlib

from starlette.exceptions import HTTPException
from starlette.requests import Request

from model_copier.errors import RejectedError

_GZIP = 16 + zlib.MAX_WBITS  # with gzip's own header


async def read_body(request: Request, most_bytes: int) -> bytes:
    """Return the whole body, as it was before compression.

    Raises:
        HTTPException: 413, as soon as it is known to be too large; 415, an encoding that is not
            read here.
        RejectedError: it is not the gzip that it says it is.
    """
    encodings = request.headers.getlist("content-encoding")
    names = [name.strip().lower() for each in encodings for name in each.split(",") if name.strip()]
    match [name for name in names if name != "identity"]:
        case []:
            return await _received(request, most_bytes)
        case ["gzip" | "x-gzip"]:
            return _inflated(await _received(request, most_bytes), most_bytes)
        case _:
            raise HTTPException(
                415,
                "Content-Encoding: send gzip or none",
                headers={"Accept-Encoding": "gzip, identity"},
            )


async def _received(request: Request, most_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most_bytes:
            raise _too_large(most_bytes)
    return bytes(body)


def _inflated(body: bytes, most_bytes: int) -> bytes:
    """Inflate no further than the limit: a kilobyte may hold a megabyte of zeros."""
    reader = zlib.decompressobj(_GZIP)
    try:
        found = reader.decompress(body, most_bytes + 1)
    except zlib.error as error:
        raise RejectedError(f"Content-Encoding: the body is not gzip: {error}") from error
    if len(found) > most_bytes:
        raise _too_large(most_bytes)
    if not reader.eof or reader.unused_data:
        raise RejectedError("Content-Encoding: the body is not one whole gzip member")
    return found


def _too_large(most_bytes: int) -> HTTPException:
    return HTTPException(413, f"a body has at most {most_bytes} bytes here")
