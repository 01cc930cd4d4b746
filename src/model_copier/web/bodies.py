"""Request bodies, with a limit: the framework sets none."""

from starlette.exceptions import HTTPException
from starlette.requests import Request


async def read_body(request: Request, most_bytes: int) -> bytes:
    """Return the whole body.

    Raises:
        HTTPException: 413, as soon as it is known to be too large.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most_bytes:
            raise HTTPException(413, f"a body has at most {most_bytes} bytes here")
    return bytes(body)
