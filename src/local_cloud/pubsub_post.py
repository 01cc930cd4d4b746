"""One POST over HTTP/1.1: out with the body, back with the status.

It follows no redirect, uses no proxy, and keeps neither cookie nor connection: a connection
that the server is just closing would cost a delivery attempt. Written on h11 because a push
costs several times as much with a whole HTTP client around it.
"""

import asyncio
import ssl
from collections.abc import Sequence
from functools import cache
from urllib.parse import urlsplit

import h11

# What an endpoint may say beside its status; nobody reads it.
MAX_ANSWER_BYTES = 1_000_000

Headers = Sequence[tuple[bytes, bytes]]


class NoAnswerError(Exception):
    """The endpoint was not reached, broke off, or said what is no HTTP."""


class UrlError(ValueError):
    """No URL to post to; the sentence says why."""


def check_url(url: str) -> None:
    """Refuse what could never be posted to.

    Raises:
        UrlError: it is no http(s) URL, or not written as it goes over the wire.
    """
    try:
        parts = urlsplit(url)
        found = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
        (parts.hostname or "").encode("idna")
    except ValueError as error:
        raise UrlError(f"{url[:200]!r} is no URL: {error}") from error
    if not found:
        raise UrlError(f"{url[:200]!r} is no http(s) URL.")
    if not all("!" <= each <= "~" for each in url):
        raise UrlError(f"{url[:200]!r} has characters that a URL writes as %XX.")


async def post(url: str, *, headers: Headers, body: bytes) -> int:
    """Post ``body`` and return the status of the answer, or 102 once that has come.

    Set your own deadline: this waits for as long as the endpoint does.

    Raises:
        NoAnswerError: there was none; whether the endpoint acted is unknown.
    """
    parts = urlsplit(url)
    assert parts.hostname
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    request = h11.Request(
        method="POST",
        target=path,
        headers=[
            (b"Host", parts.netloc.rpartition("@")[2].encode()),
            (b"Content-Length", str(len(body)).encode()),
            (b"Connection", b"close"),
            *headers,
        ],
    )
    secure = parts.scheme == "https"
    try:
        reader, writer = await asyncio.open_connection(
            parts.hostname,
            parts.port or (443 if secure else 80),
            ssl=_tls() if secure else None,
        )
    except OSError as error:
        raise NoAnswerError(str(error)) from error
    try:
        return await _exchange(reader, writer, request, body)
    except (OSError, h11.RemoteProtocolError) as error:
        raise NoAnswerError(str(error)) from error
    finally:
        writer.transport.abort()


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: h11.Request, body: bytes
) -> int:
    line = h11.Connection(h11.CLIENT)
    for part in (request, h11.Data(data=body), h11.EndOfMessage()):
        writer.write(line.send(part) or b"")
    await writer.drain()
    status, received_bytes = 0, 0
    while True:
        event = line.next_event()
        match event:
            case h11.InformationalResponse(status_code=102):  # it is among the acknowledgements
                return 102
            case h11.Response():
                status = event.status_code
            case h11.EndOfMessage():
                return status
            case h11.PAUSED | h11.ConnectionClosed():
                raise NoAnswerError("The answer is none to a POST.")
            case h11.NEED_DATA:
                data = await reader.read(65_536)
                received_bytes += len(data)
                if received_bytes > MAX_ANSWER_BYTES:
                    raise NoAnswerError("The answer has no end.")
                line.receive_data(data)


@cache
def _tls() -> ssl.SSLContext:
    """Made on the first push: it reads every root certificate, which takes a while."""
    return ssl.create_default_context()
